//! What the analysts count and log: one method an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::incident::Incident;
use schemas::net::Prefix;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident = $metric:literal,)*) => {
        /// Counts since the start; cheap to share between threads.
        #[derive(Debug, Default)]
        pub struct Counts { $($(#[$doc])* pub $name: AtomicU64,)* }

        impl Counts {
            /// Every count with its Prometheus name, in declaration order.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($metric, self.$name.load(Ordering::Relaxed))),*].into_iter()
            }
        }
    };
}

counts! {
    /// Snapshots merged.
    snapshots = "weir_analytics_snapshots_total",
    /// Targets for which there was no room.
    targets_refused = "weir_analytics_targets_refused_total",
    /// Slot gains older than the rings reach back.
    slots_too_late = "weir_analytics_slots_too_late_total",
    /// Slot gains that lie in the future.
    slots_in_future = "weir_analytics_slots_in_future_total",
    /// Incidents opened.
    incidents_opened = "weir_analytics_incidents_opened_total",
    /// Incidents ended.
    incidents_ended = "weir_analytics_incidents_ended_total",
    /// Attacks for which there was no room among the open incidents.
    incidents_refused = "weir_analytics_incidents_refused_total",
    /// Host findings that an open incident of their prefix holds already.
    findings_folded = "weir_analytics_findings_folded_total",
}

/// The handle that every part of the crate holds.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

fn one(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// The counts, for `/metrics`.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.0
    }

    pub(crate) fn snapshot(&self) {
        one(&self.0.snapshots);
    }

    pub(crate) fn target_refused(&self, target: Prefix) {
        one(&self.0.targets_refused);
        tracing::debug!(%target, "no room for another target");
    }

    pub(crate) fn slot_too_late(&self) {
        one(&self.0.slots_too_late);
    }

    pub(crate) fn slot_in_future(&self) {
        one(&self.0.slots_in_future);
    }

    pub(crate) fn incident_opened(&self, incident: &Incident) {
        one(&self.0.incidents_opened);
        tracing::warn!(uuid = %incident.uuid, target = %incident.target, family = incident.family.name(), summary = incident.summary, "incident opened");
    }

    pub(crate) fn incident_ended(&self, incident: &Incident) {
        one(&self.0.incidents_ended);
        tracing::warn!(uuid = %incident.uuid, target = %incident.target, seconds = incident.duration_sec, "incident ended");
    }

    pub(crate) fn incident_refused(&self, target: Prefix) {
        one(&self.0.incidents_refused);
        tracing::error!(%target, "no room for another open incident");
    }

    pub(crate) fn finding_folded(&self) {
        one(&self.0.findings_folded);
    }
}
