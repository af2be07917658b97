//! `[analytics.sight]`: when the detector is said to be blind.

use serde::{Deserialize, Serialize};

/// Bounds from which telemetry is too poor to be trusted; 0 turns one off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sight {
    /// Seconds without a datagram of an exporter that was heard regularly; three times its usual silence where that is longer.
    pub silent_seconds: u64,
    /// Part of what an exporter sent that never came, 0 to 1.
    pub loss_share: f64,
    /// Part of an exporter's sets that cannot be read or wait for a template, 0 to 1.
    pub templates_unknown_share: f64,
    /// Part of an exporter's records whose sampling rate is unknown, 0 to 1.
    pub sampling_unknown_share: f64,
    /// Seconds by which an exporter's clock may be off; offsets are corrected, and yet a clock that is so far off is not set by anybody.
    pub clock_seconds: u64,
    /// Seconds by which counters may reach the detector late, or by which it may judge late.
    pub behind_seconds: u64,
    /// Seconds for which a quiet incident is held open while every exporter that saw it is silent.
    pub hold_seconds: u64,
}

impl Default for Sight {
    fn default() -> Self {
        Self {
            silent_seconds: 30,
            loss_share: 0.01,
            templates_unknown_share: 0.05,
            sampling_unknown_share: 0.05,
            clock_seconds: 60,
            behind_seconds: 3,
            hold_seconds: 600,
        }
    }
}
