//! What the engine's supervisor tells an operator: one method an event, which logs and counts it.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::{error, info, warn};

/// Counts of the embedded engine since the program's start.
#[derive(Debug, Default)]
pub struct Metrics {
    starts: AtomicU64,
    starts_failed: AtomicU64,
    ends_unasked: AtomicU64,
    hangs: AtomicU64,
    up: AtomicU64,
}

impl Metrics {
    /// The library is being fetched.
    pub fn installing(doing: &str) {
        info!("the engine: {doing}");
    }

    /// The engine answers, with the schema that we need.
    pub fn started(&self, version: &str, took: Duration) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.up.store(1, Ordering::Relaxed);
        info!(version, milliseconds = took.as_millis(), "the engine answers");
    }

    /// It does not come up.
    pub fn start_failed(&self, reason: &dyn Display, pause: Duration) {
        self.starts_failed.fetch_add(1, Ordering::Relaxed);
        error!(%reason, next_try_milliseconds = pause.as_millis(), "the engine does not start: flows go to the spool, analytics answer 503");
    }

    /// It has ended by itself, or was ended by somebody.
    pub fn ended(&self, reason: &dyn Display, pause: Duration) {
        self.ends_unasked.fetch_add(1, Ordering::Relaxed);
        self.up.store(0, Ordering::Relaxed);
        error!(%reason, next_try_milliseconds = pause.as_millis(), "the engine has ended: it is started again");
    }

    /// It does not answer.
    pub fn hangs(&self, silent: Duration) {
        self.hangs.fetch_add(1, Ordering::Relaxed);
        self.up.store(0, Ordering::Relaxed);
        warn!(silent_milliseconds = silent.as_millis(), "the engine does not answer");
    }

    /// It answers again.
    pub fn answers_again(&self) {
        self.up.store(1, Ordering::Relaxed);
        info!("the engine answers again");
    }

    /// It was asked to end.
    pub fn stopped(&self, how: &dyn Display, took: Duration) {
        self.up.store(0, Ordering::Relaxed);
        info!(%how, milliseconds = took.as_millis(), "the engine has ended");
    }

    /// Every count with its Prometheus name and what it means; those that end in `_total` only grow.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("weir_collector_engine_up", "1 while the embedded engine answers", read(&self.up)),
            ("weir_collector_engine_starts_total", "Starts of the embedded engine", read(&self.starts)),
            ("weir_collector_engine_starts_failed_total", "Starts of the embedded engine that failed", read(&self.starts_failed)),
            ("weir_collector_engine_ends_unasked_total", "Ends of the embedded engine that nobody asked for", read(&self.ends_unasked)),
            ("weir_collector_engine_hangs_total", "Times that the embedded engine did not answer", read(&self.hangs)),
        ]
        .into_iter()
    }
}
