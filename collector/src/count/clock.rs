//! The counter's own time: seconds and coarse buckets of now, and where a flow's span lies in them.

use schemas::flow::Origin;
use schemas::time::Timestamp;

/// Cells of the bound's coarse ring.
pub(super) const COARSE_CELLS: u32 = 8;

/// Now, in the units that the compact entries count in; it never goes back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// Now, in unix milliseconds.
    pub(super) now: u64,
    /// Now, in unix seconds.
    pub(super) second: u64,
    /// Low bits of the second of now, as entries keep them.
    pub(super) stamp: u16,
    /// Number of the coarse bucket of now.
    pub(super) bucket: u64,
    /// The first second of that bucket.
    pub(super) bucket_begun: u64,
    /// Cells of the coarse ring for the bucket of now and the one before.
    pub(super) coarse_cells: [usize; 2],
    /// Number of the generation of peaks.
    pub(super) generation: u64,
    /// The first second of that generation.
    pub(super) generation_begun: u64,
    /// The earliest end of a record that still counts.
    earliest: u64,
    /// The first moment of the fine ring.
    fine_from: u64,
    /// The cells of the fine ring between two of its seconds, by the first one's number × 4 + the last one's.
    fine_runs: [u8; 16],
    /// The first moment of the coarse ring, the oldest that counts there, and by how many cells the ring is turned.
    coarse_from: u64,
    oldest: u64,
    coarse_turn: u32,
    /// Length of a coarse bucket in seconds.
    pub(super) bucket_seconds: u64,
    /// Length of a generation in seconds, at least as long as a record may be late.
    generation_seconds: u64,
    pub(super) lateness_milliseconds: u64,
    tolerance_milliseconds: u64,
}

/// When a flow was, by our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// First moment, unix milliseconds.
    pub(crate) start: u64,
    /// Last moment, not before the first.
    pub(crate) end: u64,
    /// Whether the exporter's times could not be and the arrival stands for them.
    pub(crate) corrected: bool,
}

/// When the records of one origin may have been.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    /// When they came.
    arrival: u64,
    /// The latest end that their exporter's clock may tell.
    latest: u64,
    /// What is added to their exporter's times.
    offset_milliseconds: i64,
    /// How long after what it tells as its end a record may have ended.
    rest_milliseconds: u64,
}

impl Moments {
    /// Those of an origin's records at `now`, whose ends may lie `tolerance_milliseconds` in the future before their clock is taken for wrong.
    #[inline]
    pub(crate) fn of(origin: &Origin, now: u64, tolerance_milliseconds: u64) -> Self {
        let arrival = if origin.arrival_milliseconds == 0 { now } else { origin.arrival_milliseconds.min(now) };
        Self {
            arrival,
            latest: arrival.saturating_add(tolerance_milliseconds),
            offset_milliseconds: origin.clock_offset_milliseconds,
            rest_milliseconds: u64::from(origin.time_resolution_milliseconds.saturating_sub(1)),
        }
    }

    /// Where a record with these exporter times lies on our clock.
    ///
    /// A record that tells whole seconds lasts to the last moment of its last second: taken as they are, all records of a second would lie
    /// in its first slot. Without an end, with a start behind the end or an end in the future, the arrival is all that is known.
    #[inline]
    pub(crate) fn span(&self, start: u64, end: u64) -> Span {
        let Self { arrival, latest, offset_milliseconds, rest_milliseconds } = *self;
        if end == 0 {
            return Span { start: arrival, end: arrival, corrected: false };
        }
        let (mut start, mut end) = (if start == 0 { end } else { start }, end);
        if offset_milliseconds != 0 {
            [start, end] = [start, end].map(|moment| moment.saturating_add_signed(offset_milliseconds));
        }
        let last = end.saturating_add(rest_milliseconds);
        if start > last || end > latest {
            return Span { start: arrival, end: arrival, corrected: true };
        }
        let end = last.min(arrival);
        Span { start: start.min(end), end, corrected: false }
    }
}

/// Cells of a ring: all bits of a cell that is meant, none of the others.
pub(super) type Cells = [u16; 8];

/// The masks of all sets of eight cells.
static MASKS: [Cells; 256] = masks();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn masks() -> [Cells; 256] {
    let mut masks = [[0; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let mut cell = 0;
        while cell < 8 {
            if set >> cell & 1 == 1 {
                masks[set][cell] = u16::MAX;
            }
            cell += 1;
        }
        set += 1;
    }
    masks
}

/// The mask of the cells whose bits are set.
#[inline]
#[expect(clippy::indexing_slicing, reason = "there are as many masks as octets")]
pub(super) fn mask_of(cells: u8) -> &'static Cells {
    &MASKS[usize::from(cells)]
}

/// Which cells of the bound's rings a flow belongs to, and with which weight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// The share of the flow that one window of 0.1 or 1 s can hold.
    pub(super) weights: [f32; 2],
    /// Its cells as bits: if prompt four for windows of 0.1 s and four for 1 s in the first octet, else eight for each.
    pub(super) cells: [u8; 2],
    /// Whether the flow lies within the fine ring; else it counts in the coarse one.
    pub(super) prompt: bool,
}

impl Clock {
    pub(super) fn new(lateness_seconds: u64, tolerance_milliseconds: u64) -> Self {
        Self {
            // Seven whole buckets and the current one reach back over the lateness and a window of a second.
            bucket_seconds: (lateness_seconds + 2).div_ceil(u64::from(COARSE_CELLS) - 1).max(8),
            generation_seconds: lateness_seconds + 8,
            lateness_milliseconds: lateness_seconds * 1_000,
            tolerance_milliseconds,
            ..Self::default()
        }
    }

    /// Moves on to `now`; a moment before the last one changes nothing.
    #[expect(clippy::cast_possible_truncation, reason = "cells are taken modulo the ring, of a stamp only the low bits are kept")]
    pub(super) fn advance(&mut self, now: Timestamp) {
        if now.milliseconds() <= self.now {
            return;
        }
        self.now = now.milliseconds();
        self.second = self.now / 1_000;
        self.stamp = self.second as u16;
        self.bucket = self.bucket_of(self.second);
        self.bucket_begun = self.bucket * self.bucket_seconds;
        self.generation = self.generation_of(self.second);
        self.generation_begun = self.generation * self.generation_seconds;
        self.coarse_cells = [self.bucket, self.bucket + 7].map(|bucket| usize::from(bucket.to_le_bytes()[0] & 7));
        self.fine_from = self.second.saturating_sub(3) * 1_000;
        self.earliest = self.now.saturating_sub(self.lateness_milliseconds);
        let turn = (self.fine_from / 1_000) as u32 % 4;
        for (run_of, cells) in (0u32..).zip(&mut self.fine_runs) {
            let (first, last) = (run_of / 4, run_of % 4);
            // The four cells twice, so that what is turned out of the one half comes into the other.
            *cells = if first <= last { ((run(first, last) * 0x11) << turn >> 4 & 0xf) as u8 } else { 0 };
        }
        let first_bucket = self.bucket.saturating_sub(u64::from(COARSE_CELLS) - 1);
        self.coarse_from = first_bucket * self.bucket_seconds * 1_000;
        self.coarse_turn = first_bucket as u32 % COARSE_CELLS;
        self.oldest = self.now.saturating_sub(self.lateness_milliseconds + 1_000).max(self.coarse_from);
    }

    pub(super) fn bucket_of(&self, second: u64) -> u64 {
        second / self.bucket_seconds
    }

    pub(super) fn generation_of(&self, second: u64) -> u64 {
        second / self.generation_seconds
    }

    /// After how many seconds without traffic nothing in a bound holds any more.
    pub(super) fn memory_seconds(&self) -> u64 {
        self.bucket_seconds * u64::from(COARSE_CELLS)
    }

    /// What the records of one origin have in common.
    #[inline]
    pub(super) fn moments(&self, origin: &Origin) -> Moments {
        Moments::of(origin, self.now, self.tolerance_milliseconds)
    }

    /// Whether a record that ended at `end` is older than the windows reach back.
    #[inline]
    pub(super) fn is_too_late(&self, end: u64) -> bool {
        end < self.earliest
    }

    /// The cells and weights of a flow for the bounds.
    #[inline]
    #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "cells are taken modulo the ring")]
    pub(super) fn reach(&self, span: Span) -> Reach {
        // A flow of more than 49 days weighs more than it should.
        let duration = u32::try_from(span.end - span.start).unwrap_or(u32::MAX) as f32;
        let at_least = |least: f32| if duration > least { duration } else { least };
        let weights = [100.0 / at_least(100.0), 1_000.0 / at_least(1_000.0)];
        // A window of length w that touches the flow at all starts within [start − w, end].
        let starts = [span.start.saturating_sub(100), span.start.saturating_sub(1_000)];
        let [_, from] = starts;
        if from >= self.fine_from {
            let cell = |moment: u64| (moment - self.fine_from) as u32 / 1_000;
            let last = cell(span.end);
            let [burst, second] = starts.map(|start| self.fine_runs[(cell(start) * 4 + last) as usize % 16]);
            return Reach { prompt: true, cells: [burst | second << 4, 0], weights };
        }
        self.coarse_reach(starts, span.end, weights)
    }

    #[inline(never)]
    #[expect(clippy::cast_possible_truncation, reason = "cells are taken modulo the ring")]
    fn coarse_reach(&self, starts: [u64; 2], end: u64, weights: [f32; 2]) -> Reach {
        let bucket = self.bucket_seconds as u32 * 1_000;
        let cell = |moment: u64| (moment.max(self.oldest) - self.coarse_from) as u32 / bucket;
        let last = cell(end);
        let cells = starts.map(|start| (run(cell(start), last) as u8).rotate_left(self.coarse_turn));
        Reach { prompt: false, cells, weights }
    }
}

/// The bits `first..=last`.
#[inline]
fn run(first: u32, last: u32) -> u32 {
    (2 << last) - (1 << first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::counter::SamplingSource;
    use schemas::flow::{ColumnSet, Version};
    use schemas::net::Address;

    fn origin(arrival_milliseconds: u64, clock_offset_milliseconds: i64) -> Origin {
        Origin {
            exporter: Address::from_v4(1),
            source_port: 1,
            version: Version::Ipfix,
            observation_domain_id: 0,
            template_id: 256,
            arrival_milliseconds,
            export_milliseconds: 0,
            clock_offset_milliseconds,
            time_resolution_milliseconds: 1,
            sampling_source: SamplingSource::Header,
            present: ColumnSet::default(),
            derived: ColumnSet::default(),
        }
    }

    fn clock(now: u64) -> Clock {
        let mut clock = Clock::new(120, 2_000);
        clock.advance(Timestamp(now));
        clock
    }

    #[test]
    fn times_are_moved_by_the_exporters_offset_and_never_pass_the_arrival() {
        let clock = clock(100_000);
        let span = |start, end, offset| clock.moments(&origin(99_000, offset)).span(start, end);
        assert_eq!(span(90_000, 95_000, 0), Span { start: 90_000, end: 95_000, corrected: false });
        assert_eq!(span(1_090_000, 1_095_000, -1_000_000), Span { start: 90_000, end: 95_000, corrected: false });
        // Within the tolerance of two seconds the end is cut to the arrival.
        assert_eq!(span(98_000, 100_500, 0), Span { start: 98_000, end: 99_000, corrected: false });
    }

    #[test]
    fn times_that_are_absent_or_cannot_be_give_way_to_the_arrival() {
        let clock = clock(100_000);
        let span = |start, end| clock.moments(&origin(99_000, 0)).span(start, end);
        assert_eq!(span(0, 0), Span { start: 99_000, end: 99_000, corrected: false });
        assert_eq!(span(50_000, 0), Span { start: 99_000, end: 99_000, corrected: false });
        assert_eq!(span(0, 98_000), Span { start: 98_000, end: 98_000, corrected: false });
        assert_eq!(span(98_000, 97_000), Span { start: 99_000, end: 99_000, corrected: true });
        assert_eq!(span(98_000, 101_001), Span { start: 99_000, end: 99_000, corrected: true });
    }

    #[test]
    fn a_record_that_tells_whole_seconds_lasts_to_the_end_of_its_last_one() {
        let clock = clock(100_000);
        let origin = Origin { time_resolution_milliseconds: 1_000, ..origin(99_400, 0) };
        let span = |start, end| clock.moments(&origin).span(start, end);
        assert_eq!(span(97_000, 97_000), Span { start: 97_000, end: 97_999, corrected: false });
        assert_eq!(span(95_000, 97_000), Span { start: 95_000, end: 97_999, corrected: false });
        assert_eq!(span(99_000, 99_000), Span { start: 99_000, end: 99_400, corrected: false }, "never beyond the arrival");
        // A start in milliseconds beside an end in seconds.
        assert_eq!(span(97_300, 97_000), Span { start: 97_300, end: 97_999, corrected: false });
        assert_eq!(span(98_000, 97_000), Span { start: 99_400, end: 99_400, corrected: true });
    }

    #[test]
    fn the_clock_never_goes_back_and_a_late_record_is_late_from_its_end() {
        let mut clock = clock(500_000);
        clock.advance(Timestamp(400_000));
        assert_eq!(clock.now, 500_000);
        assert!(!clock.is_too_late(380_000) && clock.is_too_late(379_999));
    }
}
