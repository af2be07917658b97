//! What is learned of every host, prefix and node, for how many, and how long it lasts.

use serde::{Deserialize, Serialize};

use crate::baseline::Rules;

/// `[analytics.baseline]`: what is normal, and the limits that follow from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Baseline {
    /// Whether what was learned raises limits; it is learned and shown in any case.
    pub raises_limits: bool,
    /// Hosts of each family, both directions together: at most 64 octets for each of IPv4 and 78 of IPv6. Those silent for an hour make room;
    /// what finds none is counted.
    pub hosts_max: usize,
    /// Prefixes, one for each direction; 1.7 kB each, with a place for each hour of the week.
    pub prefixes_max: usize,
    /// Nodes whose percentiles are kept; some 10 kB each.
    pub nodes_max: usize,
    /// Targets of which false positives have taught something.
    pub taught_max: usize,
    /// Minutes with traffic until something is told of a target.
    pub warm_up_minutes: u16,
    /// How many spreads (95th percentiles of how far values lie above the usual one, in octaves) a limit lies above what is usual; one octave
    /// at least.
    pub spreads: f64,
    /// Hours for which a change must last, without an incident, until it is what is normal.
    pub accept_hours: u16,
    /// Days for which a false positive's traffic stays allowed.
    pub taught_days: u64,
    /// Seconds between two savings to the data directory.
    pub save_seconds: u64,
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            raises_limits: true,
            hosts_max: 262_144,
            prefixes_max: 8_192,
            nodes_max: 1_024,
            taught_max: 4_096,
            warm_up_minutes: 30,
            spreads: 1.5,
            accept_hours: 24,
            taught_days: 90,
            save_seconds: 300,
        }
    }
}

impl Baseline {
    pub(crate) fn rules(&self) -> Rules {
        #[expect(clippy::cast_possible_truncation, reason = "a number of at most 10")]
        let spreads = self.spreads as f32;
        Rules { warm_up: self.warm_up_minutes, spreads, accept: self.accept_hours.saturating_mul(60).min(30_000) }
    }
}
