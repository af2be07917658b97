//! The bounds of decoding.

use serde::{Deserialize, Serialize};

use crate::config::Faults;

use super::sampling::SamplingOverride;

/// `[collector.decode]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether data sets wait for a template that has not come yet; without, they are given up at once.
    pub wait: bool,
    /// Data sets of one exporter that wait for their template.
    pub waiting_sets_per_exporter_max: usize,
    /// Octets of them.
    pub waiting_octets_per_exporter_max: usize,
    /// Octets of the waiting data sets of all exporters.
    pub waiting_octets_max: usize,
    /// How long a data set waits.
    pub waiting_seconds_max: u64,
    /// Templates of one exporter.
    pub templates_per_exporter_max: usize,
    /// Templates of all exporters.
    pub templates_max: usize,
    /// Fields of one template.
    pub template_fields_max: usize,
    /// Fields of the templates of all exporters.
    pub template_fields_in_all_max: usize,
    /// How long a template holds without being announced again; three times a refresh interval of an hour (RFC 7011 §8.4).
    pub template_lifetime_seconds: u64,
    /// How long a sender's templates stand against those of another sender behind the same address.
    pub sender_active_seconds_max: u64,
    /// Observation domains, source ids and engines of all exporters.
    pub domains_max: usize,
    /// Those of one exporter.
    pub domains_per_exporter_max: usize,
    /// Template and options sets that the control thread has yet to see.
    pub control_queue_sets_max: usize,
    /// Those of one exporter, from one shard.
    pub control_queue_sets_per_exporter_max: usize,
    /// From this offset on an exporter's clock is wrong, and not merely late.
    pub clock_wrong_seconds_min: u64,
    /// Sampling rates of exporters that do not tell theirs; the longest prefix holds.
    pub sampling: Vec<SamplingOverride>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            wait: true,
            waiting_sets_per_exporter_max: 1_024,
            waiting_octets_per_exporter_max: 1 << 20,
            waiting_octets_max: 64 << 20,
            waiting_seconds_max: 60,
            templates_per_exporter_max: 1_024,
            templates_max: 65_536,
            template_fields_max: 512,
            template_fields_in_all_max: 1 << 20,
            template_lifetime_seconds: 10_800,
            sender_active_seconds_max: 600,
            domains_max: 65_536,
            domains_per_exporter_max: 1_024,
            control_queue_sets_max: 4_096,
            control_queue_sets_per_exporter_max: 512,
            clock_wrong_seconds_min: 3_600,
            sampling: Vec::new(),
        }
    }
}

impl Config {
    /// Checks what the types do not.
    pub(crate) fn check(&self, faults: &mut Faults<'_>) {
        faults.range("waiting_sets_per_exporter_max", self.waiting_sets_per_exporter_max, 1, 1 << 20);
        faults.range("waiting_octets_per_exporter_max", self.waiting_octets_per_exporter_max, 65_536, 1 << 40);
        faults.range("waiting_octets_max", self.waiting_octets_max, 65_536, 1 << 40);
        faults.range("waiting_seconds_max", self.waiting_seconds_max, 1, 86_400);
        faults.range("templates_per_exporter_max", self.templates_per_exporter_max, 1, 1 << 24);
        faults.range("templates_max", self.templates_max, 1, 1 << 24);
        faults.range("template_fields_max", self.template_fields_max, 1, 65_535);
        faults.range("template_fields_in_all_max", self.template_fields_in_all_max, 1, 1 << 30);
        faults.range("template_lifetime_seconds", self.template_lifetime_seconds, 1, 31_536_000);
        faults.range("sender_active_seconds_max", self.sender_active_seconds_max, 1, 31_536_000);
        faults.range("domains_max", self.domains_max, 1, 1 << 24);
        faults.range("domains_per_exporter_max", self.domains_per_exporter_max, 1, 1 << 24);
        faults.range("control_queue_sets_max", self.control_queue_sets_max, 1, 1 << 20);
        faults.range("clock_wrong_seconds_min", self.clock_wrong_seconds_min, 1, 1 << 32);
    }
}
