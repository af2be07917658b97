//! What every request handler has at hand.

use std::sync::Arc;

use analytics::mitigate::driver::Handle;
use collector::store::link::Link;
use dashmap::DashMap;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::analysis::Analysis;
use crate::clock::Clock;
use crate::config;
use crate::limit::Limits;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::query::ask::Desk;
use crate::state::State;

/// The parts behind the REST API.
#[derive(Debug)]
pub struct App {
    /// The configuration as a whole; what the operator set is never changed here.
    pub config: Arc<config::Config>,
    /// What outlives a restart.
    pub state: Arc<State>,
    /// What the pipe told last.
    pub live: Arc<Live>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who announces rules.
    pub mitigation: Handle,
    /// Who judges.
    pub analysis: Analysis,
    /// The way to every flow.
    pub store: Link,
    /// Who asks it.
    pub desk: Desk,
    /// Rate limits.
    pub limits: Limits,
    /// The time.
    pub clock: Clock,
    /// Requests with an idempotency key that are being answered, so that a second one waits for the first.
    pub(crate) flights: DashMap<(Uuid, String), Arc<Mutex<()>>>,
}

impl App {
    /// The parts, put together.
    #[must_use]
    pub fn new(
        config: Arc<config::Config>,
        state: Arc<State>,
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        (mitigation, analysis, store): (Handle, Analysis, Link),
        clock: Clock,
    ) -> Self {
        let desk = Desk::new(store.clone(), config.api.query.clone());
        let limits = Limits::default();
        Self { config, state, live, metrics, mitigation, analysis, store, desk, limits, clock, flights: DashMap::new() }
    }
}
