//! The store as the program runs it: its engine, the way there, and who writes; started in this order, and stopped the other way round.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use collector::config::Config;
use collector::enrich::Applications;
use collector::enrich::interface::Interfaces;
use collector::store::config::Engine as Kind;
use collector::store::engine::Engine;
use collector::store::handover::Handover;
use collector::store::insert::Insert;
use collector::store::link::{self, Endpoint, Link};
use collector::store::retain::{self, Dropped};
use collector::store::schema::Schema;
use collector::store::writer::{Flows, LateInsert, LateInterfaces, Status, Store};
use schemas::net::PrefixSet;
use tokio::task::JoinHandle;

use crate::backtest;
use crate::metrics::Metrics;

/// How long the tables of a child may take to be made or brought up to date.
const PREPARE_WAIT: Duration = Duration::from_secs(300);
/// How long a server that does not answer is let alone.
const PAUSE: Duration = Duration::from_secs(1);

/// What keeps flows.
#[derive(Debug)]
pub struct Keeper {
    store: Option<Store>,
    engine: Option<Engine>,
    /// Those that look for a server, and after what is too old.
    tasks: Vec<JoinHandle<()>>,
    link: Link,
    statement: LateInsert,
    interfaces: LateInterfaces,
}

impl Keeper {
    /// Starts what the config asks for, below `data_dir`; each shard gets one of the handovers. Call it within the runtime.
    ///
    /// # Errors
    ///
    /// A name that cannot be, or a thread that the system does not start. An engine that does not answer is none.
    pub fn start(config: &Config, networks: &PrefixSet, data_dir: &Path, metrics: &Metrics) -> anyhow::Result<(Self, Vec<Handover>)> {
        let kept = &config.store;
        let link = Link::away("collector.store.engine is none: flows are not kept");
        let interfaces = LateInterfaces::default();
        if kept.engine == Kind::None {
            return Ok((
                Self { store: None, engine: None, tasks: Vec::new(), link, statement: LateInsert::default(), interfaces },
                Vec::new(),
            ));
        }
        link.set_away("the engine has not answered yet");
        let database = kept.clickhouse.database.clone();
        let schema = Schema::new(kept, &database).context("collector.store")?;
        let statement = LateInsert::default();
        let dropped = Arc::new(Dropped::default());
        metrics.retains(Arc::clone(&dropped));
        let mut tasks = vec![tokio::spawn(retain::keep(link.clone(), schema.clone(), kept.retention.clone(), dropped))];
        let engine = if kept.engine == Kind::Embedded {
            let (folder, program) = (data_dir.join("engine"), std::env::current_exe()?);
            let engine = Engine::start(&kept.embedded, &folder, &program, &database, link.clone(), prepare(schema, data_dir)?)?;
            metrics.runs_engine(engine.metrics());
            drop(statement.set(Insert::flows(0)));
            Some(engine)
        } else {
            tasks.push(tokio::spawn(reach(endpoint(config), schema, link.clone(), LateInsert::clone(&statement))));
            None
        };
        let applications = Applications::new(&config.enrich.applications);
        let future_milliseconds_max = config.count.future_milliseconds_max;
        let encode = Flows::new(future_milliseconds_max, networks.clone(), applications, LateInterfaces::clone(&interfaces));
        let encode = Box::new(encode.reaching_back(kept.retention.flows_days));
        let shards = config.receive.shards().max(1);
        let (store, handovers) = Store::start(kept, &data_dir.join("spool"), shards, link.clone(), encode, LateInsert::clone(&statement))?;
        Ok((Self { store: Some(store), engine, tasks, link, statement, interfaces }, handovers))
    }

    /// From now on flows carry what is known of interfaces.
    pub fn knows(&self, interfaces: &Interfaces) {
        drop(self.interfaces.set(interfaces.clone()));
    }

    /// Has a child that somebody has stopped go on: the program ends, and what still comes is for it.
    pub fn wake(&self) {
        if let Some(engine) = &self.engine {
            engine.wake();
        }
    }

    /// The way to every flow.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// How blocks are inserted, once that is known.
    #[must_use]
    pub fn statement(&self) -> LateInsert {
        LateInsert::clone(&self.statement)
    }

    /// What the store tells; `None` where nothing is kept.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        self.store.as_ref().map(Store::status)
    }

    /// Stores or spools what the shards have handed over, which must have ended, then ends the engine.
    pub fn stop(self) {
        if let Some(store) = self.store {
            store.stop();
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some(engine) = self.engine {
            engine.stop();
        }
    }
}

fn endpoint(config: &Config) -> Endpoint {
    let server = &config.store.clickhouse;
    Endpoint {
        url: server.url.clone(),
        user: server.user.clone(),
        password: server.password.clone(),
        database: server.database.clone(),
        is_remote: true,
    }
}

/// Brings the tables of a child up to date, on the thread that has started it.
fn prepare(schema: Schema, data_dir: &Path) -> std::io::Result<collector::store::engine::Start> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let data_dir = data_dir.to_owned();
    Ok(Box::new(move |endpoint| {
        let client = link::client(endpoint);
        // A child that stops in the middle of this is ended and started again, like any that hangs.
        let prepared = async { tokio::time::timeout(PREPARE_WAIT, schema.prepare(&client)).await };
        match runtime.block_on(prepared) {
            Ok(outcome) => outcome.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("the tables were not ready within {} s", PREPARE_WAIT.as_secs())),
        }
        // Without it only a backtest beside this program does not find the engine.
        if let Err(error) = backtest::tell(&data_dir, endpoint) {
            tracing::warn!(%error, data_dir = %data_dir.display(), "where the engine answers is not noted");
        }
        Ok(())
    }))
}

/// Asks a server until its tables are as they should be; from then on whoever asks or writes finds out by himself whether it answers.
async fn reach(endpoint: Endpoint, schema: Schema, link: Link, statement: LateInsert) {
    let client = link::client(&endpoint);
    let mut last = String::new();
    loop {
        let ready = async {
            schema.prepare(&client).await?;
            schema.shards(&client).await
        };
        let reason = match ready.await {
            Ok(shards) => {
                drop(statement.set(Insert::flows(shards)));
                break;
            }
            Err(error) => error.to_string(),
        };
        if reason != last {
            tracing::error!(url = endpoint.url, %reason, "the store's server cannot be used: flows wait on disk");
        }
        link.set_away(&reason);
        last = reason;
        tokio::time::sleep(PAUSE).await;
    }
    tracing::info!(url = endpoint.url, "the store's server answers");
    link.set_up(endpoint);
}
