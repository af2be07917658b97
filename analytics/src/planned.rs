//! Planned events: while a maintenance window covers a target, its traffic opens no incident.

use std::collections::BTreeSet;

use schemas::counter::Target;
use schemas::net::Prefix;
use schemas::time::Timestamp;
use uuid::Uuid;

use crate::metrics::Metrics;

/// Targets whose silencing is logged, each once a window; of further ones it is counted alone.
const TOLD_MAX: usize = 10_000;

/// A span of time in which traffic to and from some hosts is expected, whatever there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its name for good.
    pub uuid: Uuid,
    /// Whose traffic: a host, or every host and prefix within.
    pub prefix: Prefix,
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment behind it.
    pub to: Timestamp,
    /// Why, in the words of who planned it.
    pub reason: String,
    /// Whether incidents that are open when it begins end by it; else they go on.
    pub resolve_open: bool,
}

/// The windows that are planned, and what they have silenced.
#[derive(Debug, Default)]
pub struct Planned {
    windows: Vec<Window>,
    told: BTreeSet<(Uuid, Target)>,
}

impl Planned {
    /// Replaces the windows.
    pub fn set(&mut self, windows: Vec<Window>) {
        self.windows = windows;
        let windows = &self.windows;
        self.told.retain(|(uuid, _)| windows.iter().any(|window| window.uuid == *uuid));
    }

    /// The window that covers all of a target now.
    #[must_use]
    fn of(&self, prefix: Prefix, now: Timestamp) -> Option<&Window> {
        self.windows.iter().find(|window| window.from <= now && now < window.to && window.prefix.covers(prefix))
    }

    /// Whether what was found on a target opens no incident, which is counted, and logged once a window.
    pub fn silences(&mut self, target: Target, now: Timestamp, metrics: &Metrics) -> bool {
        let Some(window) = self.of(target.prefix, now) else { return false };
        let (told, reason) = ((window.uuid, target), &window.reason);
        let is_new = self.told.len() < TOLD_MAX && !self.told.contains(&told);
        metrics.finding_silenced(target.prefix, reason, is_new);
        if is_new {
            self.told.insert(told);
        }
        true
    }

    /// The targets of open incidents that are to end now, and why: a window that says so covers all of each.
    #[must_use]
    pub fn resolved(&self, open: impl Iterator<Item = Target>, now: Timestamp) -> Vec<(Target, String)> {
        let resolving = |window: &&Window| window.resolve_open && window.from <= now && now < window.to;
        let windows: Vec<&Window> = self.windows.iter().filter(resolving).collect();
        let reason = |target: Target| {
            let window = windows.iter().find(|window| window.prefix.covers(target.prefix))?;
            Some((target, format!("planned: {}", window.reason)))
        };
        open.filter_map(reason).collect()
    }
}
