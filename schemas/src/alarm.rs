//! An alarm: what the detector does not see, or not well, so that its silence is not taken for peace.

use serde::{Deserialize, Serialize};

use crate::incident::{UnknownWord, words};
use crate::net::Address;
use crate::time::Timestamp;

words! {
    /// What keeps the detector from seeing.
    AlarmKind {
        /// Nothing comes from an exporter that was heard regularly.
        ExporterSilent = "exporter_silent",
        /// Much of what an exporter sent never came, by its sequence numbers.
        Loss = "loss",
        /// Much of what an exporter sends cannot be read without its templates.
        TemplatesUnknown = "templates_unknown",
        /// Much of what an exporter sends is sampled by an unknown rate, and counts once.
        SamplingUnknown = "sampling_unknown",
        /// An exporter's clock is far from ours, was set, or tells times that cannot be.
        ClockWrong = "clock_wrong",
        /// The kernel drops datagrams at our sockets.
        KernelDrops = "kernel_drops",
        /// Counters reach the detector late, or it judges late.
        DetectorBehind = "detector_behind",
        /// Targets find no room among a shard's suspects.
        SuspectsRefused = "suspects_refused",
        /// Suspects find no room at the detector.
        TargetsRefused = "targets_refused",
    }
}

/// Something that keeps the detector from seeing, while it lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// What.
    pub kind: AlarmKind,
    /// Whose telemetry; `None` = not one exporter's.
    pub exporter: Option<Address>,
    /// Since when it has been so.
    pub since: Timestamp,
    /// How bad: seconds of silence, offset or delay, a part from 0 to 1, or a count in the last minute, by the kind.
    pub value: f64,
    /// In plain words.
    pub text: String,
}
