//! A waiting room for rows whose sampling rate nobody has told yet.
//!
//! Exporters of NetFlow v9 and IPFIX tell their rates in options data, once every few minutes: what they send before counts as it is, a
//! hundredth or a thousandth of the traffic, and for ever once it is stored. So rows wait here for so long as is bearable. An exporter that has
//! let one whole wait pass without a rate has none to tell, as most routers that do not sample: its rows wait no more.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use schemas::flow::{Column, FlowBatch, Segment, Version};
use schemas::net::Address;
use schemas::time::Timestamp;

use super::config::Config;

/// Rows of a piece of the room, which is given back when all of its rows have gone.
const PIECE_ROWS: usize = 16_384;
/// Streams that are remembered: with more of them than exporters and domains are allowed, one that has been forgotten waits once more.
const STREAMS_MAX: usize = 65_536;

/// Who learns sampling rates.
pub trait Rates {
    /// Which one what is known now is: nothing was learned while it stays the same.
    fn generation(&mut self) -> u64;

    /// Writes what is known by now of the rates of a segment's rows that have none; whether all of them have one then.
    fn learn(&mut self, batch: &mut FlowBatch, segment: usize) -> bool;
}

/// How rows leave the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// With their rate.
    Rated,
    /// As they came.
    Unrated,
}

/// What is to be done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on: its rates are known, or nobody is going to tell them.
    Pass,
    /// It is held.
    Held,
    /// It would be held, if there were room.
    NoRoom,
}

/// Whose rate it is: an exporter, its protocol and its observation domain.
type Stream = (Address, Version, u32);

/// How a stream's rate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// It is waited for since then.
    Since(Timestamp),
    /// It has none to tell.
    Settled,
}

/// Some of the rows that wait.
#[derive(Debug)]
struct Piece {
    batch: FlowBatch,
    /// Of each segment whether it has gone, and how many have not.
    gone: Vec<bool>,
    left: usize,
}

/// The waiting room of a shard; the default holds nothing.
#[derive(Debug, Default)]
pub(super) struct Room {
    wait_milliseconds: u64,
    pieces_max: usize,
    rows_per_exporter_max: usize,
    pieces: VecDeque<Piece>,
    streams: HashMap<Stream, Doubt>,
    rows_of: HashMap<Address, usize>,
    /// What was known when the room was last searched.
    generation: u64,
    /// When the first wait ends.
    ends: Option<Timestamp>,
}

impl Room {
    /// A shard's share of the room.
    pub(super) fn new(config: &Config, shards: usize) -> Self {
        let rows = config.rate_wait_rows_max / shards.max(1);
        Self {
            wait_milliseconds: if rows == 0 { 0 } else { config.rate_wait_seconds * 1_000 },
            pieces_max: rows.div_ceil(PIECE_ROWS),
            rows_per_exporter_max: config.rate_wait_rows_per_exporter_max.min(rows),
            pieces: VecDeque::new(),
            streams: HashMap::new(),
            rows_of: HashMap::new(),
            generation: 0,
            ends: None,
        }
    }

    /// Whether some row of a batch may have to wait.
    pub(super) fn is_for(&self, batch: &FlowBatch) -> bool {
        self.wait_milliseconds > 0 && batch.segments().iter().any(|segment| self.doubts(batch, segment))
    }

    /// Whether a rate is missing that may yet be told.
    fn doubts(&self, batch: &FlowBatch, segment: &Segment) -> bool {
        // Others tell their rate in the datagram itself, or never.
        let is_told_apart = matches!(segment.origin.version, Version::Netflow9 | Version::Ipfix);
        is_told_apart && is_unrated(batch, segment) && self.streams.get(&stream(segment)) != Some(&Doubt::Settled)
    }

    /// Holds a segment whose rate may yet be told.
    pub(super) fn take(&mut self, batch: &FlowBatch, index: usize, now: Timestamp) -> Verdict {
        let Some(segment) = batch.segments().get(index) else { return Verdict::Pass };
        if self.wait_milliseconds == 0 || !self.doubts(batch, segment) {
            return Verdict::Pass;
        }
        if !self.streams.contains_key(&stream(segment)) {
            if self.streams.len() >= STREAMS_MAX {
                self.streams.retain(|_, doubt| *doubt != Doubt::Settled);
            }
            if self.streams.len() >= STREAMS_MAX {
                return Verdict::NoRoom;
            }
            self.streams.insert(stream(segment), Doubt::Since(now));
            let ends = now.plus(self.wait_milliseconds);
            self.ends = Some(self.ends.map_or(ends, |first| first.min(ends)));
        }
        let own = self.rows_of.get(&segment.origin.exporter).copied().unwrap_or(0) + segment.rows;
        if own > self.rows_per_exporter_max || !self.has_piece_for(batch, segment.rows) {
            return Verdict::NoRoom;
        }
        let Some(piece) = self.pieces.back_mut() else { return Verdict::NoRoom };
        piece.batch.append_segments(batch, index..index + 1);
        piece.gone.push(false);
        piece.left += 1;
        self.rows_of.insert(segment.origin.exporter, own);
        Verdict::Held
    }

    /// Whether the last piece has room for rows of a batch; a new one is made if there may be more.
    fn has_piece_for(&mut self, batch: &FlowBatch, rows: usize) -> bool {
        let fits = |piece: &Piece| {
            let (own, new) = (&piece.batch.labels, &batch.labels);
            let is_same_generation = !own.are_written() || !new.are_written() || Arc::ptr_eq(own.places(), new.places());
            piece.batch.remaining() >= rows && is_same_generation
        };
        if self.pieces.back().is_some_and(fits) {
            return true;
        }
        let may = self.pieces.len() < self.pieces_max && rows <= PIECE_ROWS;
        if may {
            self.pieces.push_back(Piece { batch: FlowBatch::with_capacity(PIECE_ROWS), gone: Vec::new(), left: 0 });
        }
        may
    }

    /// Hands on those whose rate was learned, and as they are those that have waited for long enough (`is_end`: all of them).
    ///
    /// `pass` answers whether there was room; what it did not take stays, and is offered again.
    pub(super) fn release(
        &mut self,
        now: Timestamp,
        is_end: bool,
        rates: &mut impl Rates,
        mut pass: impl FnMut(&FlowBatch, Range<usize>, Left) -> bool,
    ) {
        // A clock that was set back would else hold them until it is there again.
        let is_over = |end: Timestamp| now >= end || end.since(now) > self.wait_milliseconds;
        let generation = rates.generation();
        if self.pieces.is_empty() && self.ends.is_none() || !is_end && generation == self.generation && !self.ends.is_some_and(is_over) {
            return;
        }
        let wait = self.wait_milliseconds;
        let is_due = |since: Timestamp| is_end || now.since(since) >= wait || now < since;
        let mut is_whole = true;
        for piece in &mut self.pieces {
            for index in 0..piece.gone.len() {
                let Some(segment) = piece.batch.segments().get(index).filter(|_| piece.gone.get(index) == Some(&false)).copied() else {
                    continue;
                };
                let is_settled = match self.streams.get(&stream(&segment)) {
                    Some(Doubt::Since(since)) => is_due(*since),
                    _ => true,
                };
                let left = if rates.learn(&mut piece.batch, index) { Left::Rated } else { Left::Unrated };
                if left == Left::Unrated && !is_settled {
                    continue;
                }
                if !pass(&piece.batch, index..index + 1, left) {
                    is_whole = false;
                    break;
                }
                if let Some(gone) = piece.gone.get_mut(index) {
                    *gone = true;
                }
                piece.left -= 1;
                if let Some(rows) = self.rows_of.get_mut(&segment.origin.exporter) {
                    *rows -= segment.rows;
                }
            }
        }
        self.pieces.retain(|piece| piece.left > 0);
        self.rows_of.retain(|_, rows| *rows > 0);
        self.streams
            .values_mut()
            .filter(|doubt| matches!(doubt, Doubt::Since(since) if is_due(*since)))
            .for_each(|doubt| *doubt = Doubt::Settled);
        // What found no room is offered at the next slot, as if something had been learned.
        self.generation = if is_whole { generation } else { generation.wrapping_sub(1) };
        let waits = self.streams.values().filter_map(|doubt| match doubt {
            Doubt::Since(since) => Some(since.plus(wait)),
            Doubt::Settled => None,
        });
        self.ends = waits.min();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

fn stream(segment: &Segment) -> Stream {
    (segment.origin.exporter, segment.origin.version, segment.origin.observation_domain_id)
}

/// Whether some row of a segment has no rate.
fn is_unrated(batch: &FlowBatch, segment: &Segment) -> bool {
    let rows = batch.sampling_interval.get(segment.first..segment.first + segment.rows).unwrap_or_default();
    !segment.origin.present.has(Column::SamplingInterval) || rows.contains(&0)
}
