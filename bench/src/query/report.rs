//! What `weir-bench query` has found, for machines and for people.

use std::fmt::Write as _;

use serde::Serialize;

use super::fill::Filled;
use crate::report::Machine;

/// How long one question took.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Answer {
    /// `top` or `traffic`.
    pub(super) kind: &'static str,
    /// What it was grouped by.
    pub(super) group_by: &'static str,
    /// The range.
    pub(super) seconds: u64,
    /// Rows or points of the answer.
    pub(super) rows: usize,
    /// Where the answer was read, in its own words.
    pub(super) level: String,
    /// With nothing in the page cache.
    pub(super) cold_milliseconds: f64,
    /// The median of the others.
    pub(super) p50_milliseconds: f64,
    /// What it should take at most.
    pub(super) target_milliseconds: Option<f64>,
}

/// A run of `weir-bench query`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) flows_per_second: u32,
    pub(super) days: u32,
    pub(super) filled: Filled,
    pub(super) fill_seconds: f64,
    pub(super) engine_resident_octets: u64,
    pub(super) answers: Vec<Answer>,
}

impl Report {
    /// A table of questions and times.
    pub(super) fn markdown(&self) -> String {
        let Self { machine, flows_per_second, days, filled, fill_seconds, engine_resident_octets, answers } = self;
        let Filled { flows, flows_octets, sums, sums_octets } = filled;
        let mut text = format!(
            "{machine}. An hour at {flows_per_second} flows/s: {flows} flows, {:.1} octets each on disk; sums of it and of {days} days before: {sums}, \
             {} MB; made in {fill_seconds:.0} s. The engine's memory: {} MB.\n\n| question | by | range | read from | rows | cold | p50 | target |\n\
             |---|---|---|---|---:|---:|---:|---:|\n",
            *flows_octets as f64 / (*flows).max(1) as f64,
            sums_octets / 1_000_000,
            engine_resident_octets / 1_000_000,
        );
        for answer in answers {
            let Answer { kind, group_by, seconds, rows, level, cold_milliseconds, p50_milliseconds, target_milliseconds } = answer;
            let range = if *seconds < 86_400 { format!("{} h", seconds / 3_600) } else { format!("{} d", seconds / 86_400) };
            let target = target_milliseconds.map_or(String::new(), |target| format!("{target:.0} ms"));
            let group_by = if group_by.is_empty() { "—" } else { group_by };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {kind} | {group_by} | {range} | {level} | {rows} | {cold_milliseconds:.0} ms | {p50_milliseconds:.0} ms | {target} |",
            );
        }
        text
    }
}
