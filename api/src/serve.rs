//! `weir serve`: opens the state, starts the pipe, serves until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app::App;
use crate::auth::{Role, Secret};
use crate::clock::Clock;
use crate::config::Config;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::routes;
use crate::server;
use crate::state::tokens::{self, Token};
use crate::state::{State, StateError};

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
///
/// What keeps it from starting, in the words of an operator.
pub fn run(config: Config) -> anyhow::Result<()> {
    let clock = Clock::default();
    let state = Arc::new(State::open(&config.data_dir, clock.now())?);
    let owner = owner_token(&state, &clock)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("weir-control").enable_all().build()?;
    runtime.block_on(serve(Arc::new(config), state, clock, owner))
}

async fn serve(config: Arc<Config>, state: Arc<State>, clock: Clock, owner: Option<Secret>) -> anyhow::Result<()> {
    let live = Arc::new(Live::new(Arc::new(analytics::rates::Rates::new(1))));
    let metrics = Arc::new(Metrics::default());
    let api = listen("api.listen", config.api.listen).await?;
    let metrics_listener = listen("api.metrics_listen", config.api.metrics_listen).await?;
    if let Some(secret) = owner {
        println!("owner token, shown this once: {}", secret.text());
    }
    let app = Arc::new(App::new(config, state, live, metrics, clock));
    routes::watch_nodes(&app).await?;
    let (stop, stopped) = watch::channel(false);
    let http = tokio::spawn(serve_http(api, app.clone(), stopped.clone()));
    let prometheus = tokio::spawn(serve_metrics(metrics_listener, app.clone(), stopped));
    tracing::info!(api = %app.config.api.listen, metrics = %app.config.api.metrics_listen, "ready");
    signal().await?;
    tracing::info!("stopping");
    stop.send_replace(true);
    http.await??;
    prometheus.await??;
    Ok(())
}

/// Serves REST until `stopped` turns true; requests that run are answered.
///
/// # Errors
///
/// What the listener says.
pub async fn serve_http(listener: TcpListener, app: Arc<App>, stopped: watch::Receiver<bool>) -> io::Result<()> {
    let service = server::router(app).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(told(stopped)).await
}

/// Serves `/metrics` until `stopped` turns true.
///
/// # Errors
///
/// What the listener says.
pub async fn serve_metrics(listener: TcpListener, app: Arc<App>, stopped: watch::Receiver<bool>) -> io::Result<()> {
    let text = move || {
        let text = app.metrics.text(&app.live);
        async move { ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    let service = axum::Router::new().route("/metrics", axum::routing::get(text));
    axum::serve(listener, service).with_graceful_shutdown(told(stopped)).await
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    drop(stopped.wait_for(|stop| *stop).await);
}

async fn signal() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn listen(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let port = address.port();
            bail!("{key}: {address} is in use, maybe by another Weir; `ss -ltnp sport = :{port}` tells who holds it");
        }
        Err(error) => Err(error).with_context(|| format!("{key}: {address} cannot be listened on")),
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
