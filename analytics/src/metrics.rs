//! What the analysts count and log: one method an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::alarm::Alarm;
use schemas::incident::Incident;
use schemas::net::Prefix;
use schemas::rule::Rule;
use schemas::time::Timestamp;

use crate::detect::peace::Reason;

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
    /// Reports of hosts and prefixes, nodes and teachings for which the baselines have no room.
    baselines_refused = "weir_analytics_baselines_refused_total",
    /// Minutes of hosts and prefixes that were not learned, since their traffic drifted away from what is usual.
    baseline_values_held = "weir_analytics_baseline_values_held_total",
    /// Times that a target was over its limit by a TCP transfer and no more.
    withheld_bulk = "weir_analytics_findings_withheld_bulk_transfer_total",
    /// The same by UDP.
    withheld_quic = "weir_analytics_findings_withheld_quic_transfer_total",
    /// Times that a target was over its limit by a conversation and no more.
    withheld_conversation = "weir_analytics_findings_withheld_conversation_total",
    /// Times that a host was over its limit by what it must answer and no more.
    withheld_reaction = "weir_analytics_findings_withheld_reaction_total",
    /// Times that a target was over its limit by a crowd and no more.
    withheld_crowd = "weir_analytics_findings_withheld_crowd_total",
    /// Times that a target was over its limit by what has the shape of a transfer, while no answers could be seen.
    withheld_shape = "weir_analytics_findings_withheld_shape_total",
    /// Times that a target was over its limit within a maintenance window.
    findings_silenced = "weir_analytics_findings_silenced_total",
    /// Alarms raised: the detector did not see, or not well.
    alarms_raised = "weir_analytics_alarms_raised_total",
    /// Alarms ended.
    alarms_ended = "weir_analytics_alarms_ended_total",
    /// Alarms for which there was no room.
    alarms_refused = "weir_analytics_alarms_refused_total",
    /// Quiet incidents held open because their exporters are silent.
    incidents_held = "weir_analytics_incidents_held_total",
    /// Rules handed to an adapter.
    rules_announced = "weir_analytics_rules_announced_total",
    /// Rules read back from a speaker.
    rules_confirmed = "weir_analytics_rules_confirmed_total",
    /// Rules that the guard refused.
    rules_refused = "weir_analytics_rules_refused_total",
    /// Rules that were only shown.
    rules_dry_run = "weir_analytics_rules_dry_run_total",
    /// Attempts at an adapter that failed.
    adapter_failures = "weir_analytics_adapter_failures_total",
    /// Rules seen to be gone.
    rules_withdrawn = "weir_analytics_rules_withdrawn_total",
    /// Routes of ours that no rule wanted.
    orphans_withdrawn = "weir_analytics_orphans_withdrawn_total",
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

    pub(crate) fn baseline_refused(&self) {
        one(&self.0.baselines_refused);
    }

    pub(crate) fn value_held(&self) {
        one(&self.0.baseline_values_held);
    }

    pub(crate) fn finding_silenced(&self, target: Prefix, window: &str, is_new: bool) {
        one(&self.0.findings_silenced);
        if is_new {
            tracing::info!(%target, window, "over the limit, and planned");
        }
    }

    pub(crate) fn finding_folded(&self) {
        one(&self.0.findings_folded);
    }

    pub(crate) fn finding_withheld(&self, target: Prefix, reason: Reason) {
        one(match reason {
            Reason::BulkTransfer => &self.0.withheld_bulk,
            Reason::QuicTransfer => &self.0.withheld_quic,
            Reason::Conversation => &self.0.withheld_conversation,
            Reason::Reaction => &self.0.withheld_reaction,
            Reason::Crowd => &self.0.withheld_crowd,
            Reason::Shape => &self.0.withheld_shape,
        });
        tracing::info!(%target, reason = reason.text(), "over the limit, and no attack");
    }

    /// Targets refused so far.
    pub(crate) fn all_targets_refused(&self) -> u64 {
        self.0.targets_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn alarm_raised(&self, alarm: &Alarm) {
        one(&self.0.alarms_raised);
        let exporter = alarm.exporter.map(tracing::field::display);
        tracing::warn!(kind = alarm.kind.name(), exporter, text = alarm.text, "alarm: the detector does not see everything");
    }

    pub(crate) fn alarm_ended(&self, alarm: &Alarm, now: Timestamp) {
        one(&self.0.alarms_ended);
        let exporter = alarm.exporter.map(tracing::field::display);
        tracing::info!(kind = alarm.kind.name(), exporter, seconds = now.since(alarm.since) / 1_000, "alarm ended");
    }

    pub(crate) fn alarm_refused(&self) {
        one(&self.0.alarms_refused);
    }

    pub(crate) fn incident_held(&self, target: Prefix) {
        one(&self.0.incidents_held);
        tracing::warn!(%target, "a quiet incident is held open: the exporters that saw it are silent");
    }

    pub(crate) fn rule_announced(&self, rule: &Rule) {
        one(&self.0.rules_announced);
        tracing::warn!(uuid = %rule.uuid, target = %rule.target, adapter = rule.adapter_id, reason = rule.reason, "rule announced");
    }

    pub(crate) fn rule_confirmed(&self, rule: &Rule) {
        one(&self.0.rules_confirmed);
        tracing::info!(uuid = %rule.uuid, target = %rule.target, adapter = rule.adapter_id, "rule confirmed");
    }

    pub(crate) fn rule_refused(&self, rule: &Rule) {
        one(&self.0.rules_refused);
        tracing::warn!(uuid = %rule.uuid, target = %rule.target, refusal = rule.error.as_deref().unwrap_or(""), "rule refused");
    }

    pub(crate) fn rule_dry_run(&self, rule: &Rule) {
        one(&self.0.rules_dry_run);
        tracing::info!(uuid = %rule.uuid, target = %rule.target, adapter = rule.adapter_id, "rule only shown: dry run");
    }

    pub(crate) fn adapter_failed(&self, adapter: &str, error: &str) {
        one(&self.0.adapter_failures);
        tracing::warn!(adapter, error, "adapter failed");
    }

    pub(crate) fn rule_withdrawn(&self, rule: &Rule) {
        one(&self.0.rules_withdrawn);
        tracing::warn!(uuid = %rule.uuid, target = %rule.target, adapter = rule.adapter_id, "rule withdrawn");
    }

    pub(crate) fn orphan_withdrawn(&self, adapter: &str, target: Prefix) {
        one(&self.0.orphans_withdrawn);
        tracing::warn!(adapter, %target, "withdrawing a route of ours that no rule wants");
    }
}
