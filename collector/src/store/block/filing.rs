//! Under which moment a row is filed: its end, as long as the block lies in few partitions by that.
//!
//! Flows have a partition for each hour, sums by the minute one for each day: every partition that a block touches is a part more to be written
//! and merged, in each of a dozen tables. Rows end within minutes of their arrival, and a late exporter tells of few hours at a time.

use std::collections::BTreeMap;

use schemas::net::Address;

const HOUR_SECONDS: u32 = 3_600;
const DAY_SECONDS: u32 = 86_400;
/// Hours that a block may have rows of besides that of the arrival and the one before it, and those of them that one exporter may bring.
const LATE_HOURS_MAX: usize = 6;
const LATE_HOURS_PER_EXPORTER_MAX: usize = 4;
/// Partitions of a table that a block touches at most, each of which the engine remembers by itself.
pub const PARTITIONS_MAX: u64 = LATE_HOURS_MAX as u64 + 2;
/// How far back a row is filed, where flows stay for longer or without end: a time before that is none.
const DAYS_MAX: u32 = 366;

/// The hours that a block has rows of.
#[derive(Debug)]
pub(super) struct Filing {
    days_max: u32,
    /// Hours since 1970, and who brought them.
    late: Vec<(u32, Address)>,
    /// Rows of the last batch that are not filed under their end, by exporter.
    refiled: BTreeMap<Address, u64>,
}

impl Default for Filing {
    fn default() -> Self {
        Self::new(0)
    }
}

/// What the rows of a segment have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edges {
    exporter: Address,
    /// In unix seconds: the arrival, from when on every row has its place, and before when none has.
    arrival: u32,
    recent: u32,
    oldest: u32,
}

impl Edges {
    /// Whether a row that ended then, in unix seconds, is filed under its end without more ado.
    #[inline]
    pub(super) fn is_recent(&self, end: u32) -> bool {
        end >= self.recent
    }
}

impl Filing {
    /// Files rows under ends of so many days back at most, 0 = as far as any.
    pub(super) fn new(days: u32) -> Self {
        let days_max = if days == 0 { DAYS_MAX } else { days.min(DAYS_MAX) };
        Self { days_max, late: Vec::with_capacity(LATE_HOURS_MAX), refiled: BTreeMap::new() }
    }

    /// Another batch of the same block.
    pub(super) fn begin_batch(&mut self) {
        self.refiled.clear();
    }

    /// Another block.
    pub(super) fn begin_block(&mut self) {
        self.late.clear();
    }

    /// The edges for what an exporter told at `arrival`, in unix seconds.
    pub(super) fn edges(&self, exporter: Address, arrival: u32) -> Edges {
        Edges {
            exporter,
            arrival,
            recent: (arrival / HOUR_SECONDS).saturating_sub(1) * HOUR_SECONDS,
            oldest: arrival.saturating_sub(self.days_max * DAY_SECONDS),
        }
    }

    /// Under which second a row is filed that ended before what is recent.
    ///
    /// One for whose hour there is no room goes to the nearest edge behind it, and never to one before: what is filed after its end says by
    /// that that it is not where it belongs. One that ended before anything is kept has a clock that is wrong, and its arrival is all that is known.
    #[cold]
    pub(super) fn late(&mut self, edges: &Edges, end: u32) -> u32 {
        let Edges { exporter, arrival, recent, oldest } = *edges;
        if end < oldest {
            *self.refiled.entry(exporter).or_default() += 1;
            return arrival;
        }
        let hour = end / HOUR_SECONDS;
        if self.late.iter().any(|(known, _)| *known == hour) {
            return end;
        }
        let own = self.late.iter().filter(|(_, whose)| *whose == exporter).count();
        if self.late.len() < LATE_HOURS_MAX && own < LATE_HOURS_PER_EXPORTER_MAX {
            self.late.push((hour, exporter));
            return end;
        }
        *self.refiled.entry(exporter).or_default() += 1;
        let behind = self.late.iter().map(|(known, _)| known * HOUR_SECONDS).filter(|edge| *edge > end);
        behind.min().map_or(recent, |edge| edge.min(recent))
    }

    /// Rows of the last batch that are not filed under their end, by exporter.
    pub(super) fn refiled(&self) -> impl Iterator<Item = (Address, u64)> {
        self.refiled.iter().map(|(exporter, records)| (*exporter, *records))
    }
}
