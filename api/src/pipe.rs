//! The pipe as a whole: shards → analysts → mitigation, state, notification; started and stopped in this order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use analytics::Analyst;
use analytics::mitigate::driver::{self, Handle};
use anyhow::Context as _;
use collector::Collector;
use collector::enrich::{keep, snmp};
use collector::store::link::Link;

use schemas::ledger::Ledger;
use schemas::net::PrefixSet;
use tokio::sync::Notify;

use crate::analysis::{Analysis, Worker, overrides, references};
use crate::baselines;
use crate::clock::Clock;
use crate::config::Config;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::mitigation::{self, RuleStore};
use crate::notify::Notifier;
use crate::query::names::Known;
use crate::state::{State, incidents, maintenance, nodes};
use crate::store::Keeper;

/// How long a stop that withdraws rules waits for the speakers.
const WITHDRAW_WAIT: Duration = Duration::from_secs(10);

/// Everything that runs between the sockets and the speakers.
#[derive(Debug)]
pub struct Pipe {
    collector: Collector,
    flows: Keeper,
    analyst: JoinHandle<()>,
    driver: tokio::task::JoinHandle<()>,
    /// Who saves what is learned.
    baselines: baselines::Keeper,
    /// Who announces rules.
    pub mitigation: Handle,
    /// Who judges.
    pub analysis: Analysis,
    /// The way to every flow.
    pub store: Link,
    /// What the analysts tell.
    pub live: Arc<Live>,
    /// Who asks devices for their interfaces.
    poller: tokio::task::JoinHandle<()>,
    /// Who stores what interfaces count, and how to stop it.
    keeper: (tokio::task::JoinHandle<()>, Arc<Notify>),
    withdraw_on_stop: bool,
}

impl Pipe {
    /// Takes up what was going on, then starts to receive. Call it within the runtime.
    ///
    /// # Errors
    ///
    /// A port in use, an adapter that cannot be, a state that cannot be read.
    pub async fn start(config: &Config, state: &Arc<State>, metrics: &Metrics, clock: &Clock) -> anyhow::Result<Self> {
        let networks: PrefixSet = config.networks.iter().copied().collect();
        let known = state.read(nodes::all).await?;
        let open = state.read(incidents::active).await?;
        let now = clock.now();

        let mut analyst = Analyst::new(&config.analytics, metrics.analytics.clone());
        analyst.set_limits(&overrides(&known));
        analyst.set_planned(state.read(move |connection| maintenance::windows(connection, now)).await?);
        let limits = analyst.limits().for_counters();
        let pause = Duration::from_secs(config.analytics.baseline.save_seconds);
        let baselines = baselines::Keeper::start(analyst.baselines(), &config.data_dir, pause, clock.clone())?;
        let notifier = Notifier::start(&config.api.notify.webhook)?.map(Arc::new);
        if let Some(notifier) = &notifier {
            notifier.restore(&open, now);
            metrics.notifies(Arc::clone(notifier));
        }
        analyst.restore(open, now);

        if config.networks.is_empty() {
            tracing::warn!("networks is empty: every destination is watched, and no rule is ever announced");
        }
        let templates = Some(config.data_dir.join("templates.json"));
        let (flows, handovers) = Keeper::start(&config.collector, &networks, &config.data_dir, metrics)?;
        let (collector, snapshots) =
            Collector::start(&config.collector, &networks, &limits, templates, handovers).context("collector.receive")?;
        metrics.collects(collector.metrics().to_vec());
        metrics.enriches(Arc::clone(collector.enrichment().metrics()));
        let live = Arc::new(Live::new(analyst.baselines()).telling(collector.interfaces().clone()));
        live.is_warned_by(analyst.alarms());
        flows.knows(collector.interfaces());
        if let Some(status) = flows.status() {
            live.keeps(status.clone());
        }
        live.watch(known.iter().map(|node| node.ip));
        live.expect_shards(collector.metrics().len(), now);

        let (analysis, controls) = Analysis::channel();
        let store = RuleStore { state: Arc::clone(state), analysis: analysis.clone() };
        let start = mitigation::start(state, now).await?;
        let mitigation = &config.analytics.mitigation;
        let (mitigation, driver) = driver::spawn(mitigation, networks, start, store, metrics.analytics.clone())?;
        live.analysts_alive(now);
        let worker = Worker {
            analyst,
            limits: collector.limits().clone(),
            live: Arc::clone(&live),
            state: Arc::clone(state),
            mitigation: mitigation.clone(),
            notifier,
            analysis: analysis.clone(),
            clock: clock.clone(),
            nodes: references(&known),
            places: collector.enrichment().tables().clone(),
            unsaved: BTreeMap::new(),
            save_again_at: clock.now(),
        };
        let analyst = worker.spawn(snapshots, controls)?;
        let store = flows.link().clone();
        let poller = tokio::spawn(snmp::run(live.interfaces().clone()));
        let told = Arc::new(Notify::new());
        let keeper = (tokio::spawn(keep::run(live.interfaces().clone(), store.clone(), flows.statement(), Arc::clone(&told))), told);
        Ok(Self {
            collector,
            flows,
            analyst,
            driver,
            baselines,
            mitigation,
            analysis,
            store,
            live,
            poller,
            keeper,
            withdraw_on_stop: config.api.withdraw_on_stop,
        })
    }

    /// Where exports are received.
    #[must_use]
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        self.collector.addresses()
    }

    /// What is known of the names of numbers.
    #[must_use]
    pub fn known(&self) -> Known {
        Known { tables: self.collector.enrichment().tables().clone(), interfaces: self.collector.interfaces().published() }
    }

    /// Drains: shards, then the store and the analysts, then mitigation; what came of everything that was received is answered.
    ///
    /// Rules stay announced, since a restart in the middle of an attack must not let it through; the next start takes them up again.
    /// Whoever wants them gone sets `api.withdraw_on_stop`.
    pub async fn stop(self) -> Ledger {
        let Self {
            collector,
            flows,
            analyst,
            driver,
            baselines,
            mitigation,
            analysis,
            store: _,
            live: _,
            poller,
            keeper,
            withdraw_on_stop,
        } = self;
        poller.abort();
        flows.wake();
        let stopped = tokio::task::spawn_blocking(move || {
            let ledger = collector.stop();
            // The shards were the last to send snapshots: the analysts judge what waits, and end.
            if analyst.join().is_err() {
                tracing::error!("the analysts' thread has panicked");
            }
            baselines.stop();
            ledger
        });
        let ledger = stopped.await.unwrap_or_default();
        keeper.1.notify_one();
        drop(keeper.0.await);
        // Last, since both write to it.
        if tokio::task::spawn_blocking(move || flows.stop()).await.is_err() {
            tracing::error!("the store's end has panicked");
        }
        if withdraw_on_stop {
            withdraw_all(&mitigation).await;
        }
        drop((mitigation, analysis));
        // The API's handles are dropped by now or soon: the driver ends with the last one, and has nothing to lose.
        driver.abort();
        ledger
    }
}

/// Withdraws every rule and waits until the speakers have said that they are gone.
async fn withdraw_all(mitigation: &Handle) {
    if mitigation.freeze(true).await.is_err() {
        return;
    }
    let gone = async {
        while mitigation.rules().await.is_ok_and(|rules| rules.iter().any(|rule| rule.state.is_live())) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(WITHDRAW_WAIT, gone).await.is_err() {
        tracing::error!("not every rule was withdrawn within 10 s; the next start goes on with it");
    }
}
