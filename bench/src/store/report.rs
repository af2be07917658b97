//! What `weir-bench store` has found, for machines and for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::compare::Compared;
use crate::report::Machine;

/// Counts of the ledger that say where flows were lost.
pub(super) const DROPS: &[&str] =
    &["records_dropped_by_queue", "records_dropped_by_spool", "records_dropped_corrupt", "records_dropped_by_engine", "records_set_aside"];

/// CPU time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Usage {
    /// Of the shards: receive, decode, enrich, count, hand over.
    pub(super) shards: Duration,
    /// Of the store's threads: encode, compress, send.
    pub(super) store: Duration,
    /// Of the whole program without its engine.
    pub(super) all: Duration,
    /// Of the engine.
    pub(super) engine: Duration,
}

impl Usage {
    /// What was used since.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            shards: self.shards.saturating_sub(before.shards),
            store: self.store.saturating_sub(before.store),
            all: self.all.saturating_sub(before.all),
            engine: self.engine.saturating_sub(before.engine),
        }
    }
}

/// What lies on the disk in the end.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Stored {
    pub(super) rows: u64,
    /// Octets and parts of the flows as they were when Weir had stopped.
    pub(super) octets_found: u64,
    pub(super) parts_found: u64,
    /// Once merged.
    pub(super) octets: u64,
    pub(super) parts_merged: u64,
    /// Sums by minute and hour.
    pub(super) sum_rows: u64,
    pub(super) sum_octets: u64,
}

/// A run of `weir-bench store`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) protocol: &'static str,
    /// Prefixes of the file of places.
    pub(super) places: usize,
    pub(super) asked_flows_per_second: u32,
    pub(super) flows_per_second: f64,
    pub(super) seconds: f64,
    pub(super) sent_flows: u64,
    pub(super) datagrams_dropped_by_kernel: u64,
    pub(super) decoded_flows: u64,
    pub(super) stored_flows: u64,
    pub(super) drops: Vec<(&'static str, u64)>,
    pub(super) spooled_flows_max: u64,
    /// How far the engine was behind: flows that waited, over flows a second.
    pub(super) lag_seconds_max: f64,
    pub(super) lag_seconds_at_end: f64,
    /// From the last datagram until nothing waited.
    pub(super) drain_seconds: f64,
    pub(super) all_seconds: f64,
    pub(super) usage: Usage,
    pub(super) resident_octets: u64,
    pub(super) engine_resident_octets: u64,
    /// Processors that others kept busy meanwhile.
    pub(super) foreign_processors: f64,
    /// What the server that stands for a remote one was sent.
    pub(super) sink_octets: Option<u64>,
    pub(super) stored: Option<Stored>,
    /// What the table of flows could be besides.
    pub(super) compared: Vec<Compared>,
}

impl Report {
    /// A table of measures and figures.
    pub(super) fn markdown(&self) -> String {
        let flows = self.decoded_flows.max(1) as f64;
        let each = |time: Duration| format!("{:.0} ns", time.as_nanos() as f64 / flows);
        let share = |time: Duration| format!("{:.2} cores", time.as_secs_f64() / self.all_seconds);
        let mebibytes = |octets: u64| format!("{} MB", octets / 1_000_000);
        let lost: u64 = self.drops.iter().map(|(_, count)| count).sum();
        let mut rows = vec![
            ("sent", format!("{} {} flows at {:.0}/s for {:.0} s", self.sent_flows, self.protocol, self.flows_per_second, self.seconds)),
            ("prefixes with AS and country", self.places.to_string()),
            ("decoded", self.decoded_flows.to_string()),
            ("stored", self.stored_flows.to_string()),
            ("lost by name", format!("{lost}; datagrams dropped by the kernel: {}", self.datagrams_dropped_by_kernel)),
            ("most flows in the spool", self.spooled_flows_max.to_string()),
            ("lag of the engine", format!("{:.1} s at most, {:.1} s at the end", self.lag_seconds_max, self.lag_seconds_at_end)),
            ("until nothing waited", format!("{:.1} s", self.drain_seconds)),
            ("collector, CPU a flow", each(self.usage.shards + self.usage.store)),
            ("… shards: receive, decode, count", each(self.usage.shards)),
            ("… store: encode, send", each(self.usage.store)),
            ("… whole program", each(self.usage.all)),
            ("collector's memory at most", mebibytes(self.resident_octets)),
        ];
        if let Some(octets) = self.sink_octets {
            rows.push(("octets a flow on the wire", format!("{:.1}", octets as f64 / self.stored_flows.max(1) as f64)));
        }
        if let Some(stored) = &self.stored {
            let of_row = |octets: u64| octets as f64 / stored.rows.max(1) as f64;
            rows.extend([
                ("engine, CPU a flow", format!("{}, {}", each(self.usage.engine), share(self.usage.engine))),
                ("engine's memory at most", mebibytes(self.engine_resident_octets)),
                ("octets a flow on disk", format!("{:.1} in {} parts", of_row(stored.octets_found), stored.parts_found)),
                ("… merged", format!("{:.1} in {} parts", of_row(stored.octets), stored.parts_merged)),
                ("… sums by minute and hour", format!("{:.1}, {} rows", of_row(stored.sum_octets), stored.sum_rows)),
            ]);
        }
        rows.push(("other programs meanwhile", format!("{:.1} cores", self.foreign_processors)));
        let mut text = format!("{}\n\n| measure | figure |\n|---|---|\n", self.machine);
        for (measure, figure) in rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {measure} | {figure} |");
        }
        if !self.compared.is_empty() {
            text.push_str("\n| table of flows | octets a flow | CPU to insert one | … to merge it |\n|---|---|---|---|\n");
        }
        for Compared { name, octets_a_row, insert, merge } in &self.compared {
            let _ = writeln!(text, "| {name} | {octets_a_row:.1} | {} ns | {} ns |", insert.as_nanos(), merge.as_nanos());
        }
        text
    }
}
