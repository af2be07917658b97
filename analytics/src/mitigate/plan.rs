//! What would answer an incident: the rules that are wanted, before the guard has seen them.

use schemas::counter::Direction;
use schemas::incident::{Incident, IncidentStatus};
use schemas::net::Prefix;
use schemas::rule::{IntentType, RuleOwner};
use uuid::Uuid;

use crate::config::Mitigation;

/// The adapter of a rule that is only shown because none is configured.
pub const NO_ADAPTER: &str = "none";

/// A rule that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Whose traffic it touches.
    pub target: Prefix,
    /// What it does.
    pub intent_type: IntentType,
    /// The adapter that is to announce it.
    pub adapter_id: String,
    /// Who wants it.
    pub owner: RuleOwner,
    /// The incident that it answers.
    pub incident_uuid: Option<Uuid>,
    /// Why, in plain words.
    pub reason: String,
    /// Seconds until it is withdrawn by itself; 0 = never.
    pub ttl: u64,
}

/// A blackhole for the target of an open, incoming, credible incident, at every adapter.
///
/// Nothing for the rest: traffic *from* a host is not stopped by discarding what comes to it.
#[must_use]
pub fn plan(incident: &Incident, config: &Mitigation) -> Vec<Intent> {
    let answerable = incident.direction == Direction::Incoming
        && incident.status == IncidentStatus::Active
        && incident.confidence >= config.confidence_min;
    if !answerable {
        return Vec::new();
    }
    let mut adapters: Vec<&str> = config.adapters.iter().map(crate::config::Adapter::id).collect();
    if adapters.is_empty() {
        adapters.push(NO_ADAPTER);
    }
    let intent = |adapter_id: &str| Intent {
        target: incident.target,
        intent_type: IntentType::Blackhole,
        adapter_id: adapter_id.to_owned(),
        owner: RuleOwner::Automatic,
        incident_uuid: Some(incident.uuid),
        reason: format!("{} incident: {}", incident.severity.name(), incident.family.name()),
        ttl: config.ttl_seconds,
    };
    adapters.into_iter().map(intent).collect()
}
