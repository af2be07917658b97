//! `weir serve`: opens the state, starts the pipe, serves until it is told to stop.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use collector::connections::{self, Bounds};
use collector::receive::holder::{self, Transport};
use rusqlite::{Connection, ErrorCode};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::app::App;
use crate::auth::{Role, Secret};
use crate::clock::Clock;
use crate::config::{Api, Config};
use crate::demo::{self, Demo};
use crate::metrics::{Metrics, Standing};
use crate::pipe::Pipe;
use crate::server;
use crate::state::tokens::{self, Token};
use crate::state::{State, StateError, incidents, rules, settings};

/// How long a stop waits for requests that are being answered.
const HTTP_WAIT: Duration = Duration::from_secs(5);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
///
/// What keeps it from starting, in the words of an operator.
pub fn run(mut config: Config, with_demo: bool) -> anyhow::Result<()> {
    if with_demo {
        demo::prepare(&mut config)?;
    }
    let clock = Clock::default();
    let state = Arc::new(State::open(&config.data_dir, clock.now()).with_context(|| format!("data_dir {}", config.data_dir.display()))?);
    let Some(_alone) = hold(&config.data_dir)? else {
        bail!("data_dir {}: another Weir serves from it", config.data_dir.display());
    };
    // Told at once: a start that fails later on has made it all the same, and the next one tells it no more.
    if let Some(secret) = owner_token(&state, &clock)? {
        println!("owner token, shown this once: {}", secret.text());
    }
    if with_demo {
        demo::name_nodes(&config, &state, &clock)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("weir-control").enable_all().build()?;
    runtime.block_on(serve(Arc::new(config), state, clock, with_demo))
}

async fn serve(config: Arc<Config>, state: Arc<State>, clock: Clock, with_demo: bool) -> anyhow::Result<()> {
    let mut signals = Signals::catch()?;
    let api = listen("api.listen", config.api.listen).await?;
    let metrics_listener = listen("api.metrics_listen", config.api.metrics_listen).await?;
    let metrics = Arc::new(Metrics::default());
    let pipe = Pipe::start(&config, &state, &metrics, &clock).await?;
    let routers = if with_demo { Some(Demo::start(&config.networks, pipe.addresses(), &clock)?) } else { None };
    let parts = (pipe.mitigation.clone(), pipe.analysis.clone(), pipe.store.clone());
    let app = Arc::new(App::new(Arc::clone(&config), state, Arc::clone(&pipe.live), metrics, parts, clock));
    app.desk.name_by(Box::new(pipe.known()));
    let (stop, stopped) = watch::channel(false);
    let addresses = (api.local_addr()?, metrics_listener.local_addr()?);
    let http = tokio::spawn(serve_http(api, Arc::clone(&app), stopped.clone()));
    let prometheus = tokio::spawn(serve_metrics(metrics_listener, Arc::clone(&app), stopped));
    tracing::info!(api = %addresses.0, metrics = %addresses.1, receive = ?pipe.addresses(), "ready");
    signals.wait().await;
    tracing::info!("stopping");
    stop.send_replace(true);
    for server in [http, prometheus] {
        // A client that keeps its connection open does not keep the program from ending.
        if let Ok(ended) = tokio::time::timeout(HTTP_WAIT, server).await {
            ended?;
        }
    }
    drop(routers);
    let ledger = pipe.stop().await;
    tracing::info!(datagrams = ledger.datagrams_received, records = ledger.records_decoded, counted = ledger.records_counted, "stopped");
    Ok(())
}

/// What each listener lets in; 0 connections stand for no bound.
fn bounds(config: &Api) -> Bounds {
    let connections_max = if config.connections_max == 0 { usize::MAX } else { config.connections_max };
    let [header_wait, write_wait] = [config.header_seconds_max, config.write_seconds_max].map(Duration::from_secs);
    Bounds { connections_max, header_wait, write_wait }
}

/// Serves REST until `stopped` turns true; requests that run are answered.
pub async fn serve_http(listener: TcpListener, app: Arc<App>, stopped: watch::Receiver<bool>) {
    let (bounds, metrics) = (bounds(&app.config.api), Arc::clone(&app.metrics));
    connections::serve(listener, server::router(app), bounds, metrics, stopped).await;
}

/// Serves `/metrics` until `stopped` turns true.
pub async fn serve_metrics(listener: TcpListener, app: Arc<App>, stopped: watch::Receiver<bool>) {
    let (bounds, metrics) = (bounds(&app.config.api), Arc::clone(&app.metrics));
    let text = move || {
        let app = Arc::clone(&app);
        async move { ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics_text(&app).await) }
    };
    let router = axum::Router::new().route("/metrics", axum::routing::get(text));
    connections::serve(listener, router, bounds, metrics, stopped).await;
}

/// Everything that is counted; what the state counts is left out where the state does not answer.
pub async fn metrics_text(app: &App) -> String {
    let standing = app.state.read(|connection| {
        let mut rules = BTreeMap::new();
        for rule in rules::in_force(connection)? {
            *rules.entry(rule.state.name()).or_default() += 1;
        }
        let active_incidents = incidents::active(connection)?.len();
        Ok::<_, StateError>(Standing { rules, active_incidents, frozen: settings::freeze(connection)?.frozen })
    });
    app.metrics.text(&app.live, &standing.await.unwrap_or_default())
}

/// SIGINT and SIGTERM, caught from the start so that none is missed while the parts come up.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn listen(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = holder::find(address, Transport::Tcp)
                .map_or_else(|| "a process that cannot be seen from here".to_owned(), |holder| holder.to_string());
            bail!("{key}: {address}/tcp is in use by {holder}");
        }
        Err(error) => Err(error).with_context(|| format!("{key}: {address} cannot be listened on")),
    }
}

/// Holds the data directory until this program ends, however it ends: two of them would withdraw each other's rules.
/// `None` if another program holds it.
pub(crate) fn hold(data_dir: &Path) -> anyhow::Result<Option<Connection>> {
    let lock = Connection::open(data_dir.join("serving.lock"))?;
    lock.busy_timeout(Duration::ZERO)?;
    match lock.execute_batch("BEGIN EXCLUSIVE") {
        Ok(()) => Ok(Some(lock)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("data_dir {}", data_dir.display())),
    }
}

/// Makes sure that somebody can get in: the token of `WEIR_OWNER_TOKEN`, or a new one if there is none at all, which is returned.
fn owner_token(state: &State, clock: &Clock) -> anyhow::Result<Option<Secret>> {
    let (workspace, now) = (state.workspace, clock.now());
    if let Ok(text) = std::env::var("WEIR_OWNER_TOKEN") {
        let Some(secret) = Secret::parse(text.trim()) else {
            bail!("WEIR_OWNER_TOKEN must be 64 hex digits");
        };
        let preset = move |transaction: &rusqlite::Transaction<'_>| tokens::preset_owner(transaction, workspace, &secret, now);
        state.write_blocking::<_, StateError>(preset)?;
        return Ok(None);
    }
    let secret = Secret::generate()?;
    let stored = secret.clone();
    let first = move |transaction: &rusqlite::Transaction<'_>| {
        if tokens::count(transaction, workspace)? > 0 {
            return Ok::<_, StateError>(false);
        }
        let token = Token {
            uuid: uuid::Uuid::new_v4(),
            workspace,
            name: "owner".to_owned(),
            role: Role::Owner,
            created_at: now,
            expires_at: None,
            last_used_at: None,
        };
        tokens::insert(transaction, &token, &stored, false)?;
        Ok(true)
    };
    Ok(state.write_blocking(first)?.then_some(secret))
}
