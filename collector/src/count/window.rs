//! Exact slots of one suspect: what has come to light since the last handing-over.
//!
//! A flow costs the same whether it lasts a millisecond or a minute: a ring holds *differences*, so that a flow writes
//! its two edges and the rate between them, and the sums are made when the slots are handed over. Slots of 100 ms cover the
//! last 30 s, seconds what is older, up to the lateness. What is handed over is forgotten: the analysts add it up.

use schemas::counter::{SLOT_MILLISECONDS, Volume};

use super::clock::Clock;

/// Slots in a second.
const SLOTS_A_SECOND: u64 = 1_000 / SLOT_MILLISECONDS;
/// Seconds that 100-ms slots reach back.
const FINE_SECONDS: u64 = 30;
/// Seconds for which a frame holds beyond the one in which it was laid: how late a tick may be before slots are integrated early.
const AHEAD_SECONDS: u64 = 4;

/// The counts of a volume, and how many flows are in it.
const COUNTS: usize = Volume::COUNTS + 1;
type Cell = [f64; COUNTS];

/// The moments at which the cells of all suspects begin; it is laid anew each second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    /// The first second of the coarse cells.
    oldest_second: u64,
    /// The first second of the fine cells.
    fine_second: u64,
    /// The second in which the frame was laid.
    laid: u64,
}

impl Frame {
    pub(super) fn new(clock: &Clock) -> Self {
        let lateness_seconds = clock.lateness_milliseconds / 1_000;
        let back = |seconds: u64| clock.second.saturating_sub(seconds);
        Self { oldest_second: back(lateness_seconds.max(FINE_SECONDS) + 1), fine_second: back(FINE_SECONDS), laid: clock.second }
    }

    /// Whether a second has passed since the frame was laid, so that slots leave the fine cells.
    pub(super) fn is_past(&self, clock: &Clock) -> bool {
        clock.second != self.laid
    }

    /// Whether the moment is beyond the frame's last cell.
    pub(super) fn is_outrun(&self, clock: &Clock) -> bool {
        clock.second > self.laid + AHEAD_SECONDS
    }
}

/// The traffic of one suspect that is not yet handed over.
#[derive(Debug)]
pub(super) struct Slots {
    fine: Ring,
    coarse: Ring,
}

/// Differences, and the cells that hold some.
#[derive(Debug)]
struct Ring {
    cells: Box<[Cell]>,
    first: usize,
    last: usize,
}

impl Slots {
    #[expect(clippy::cast_possible_truncation, reason = "a lateness is some minutes")]
    pub(super) fn new(clock: &Clock) -> Self {
        let lateness_seconds = clock.lateness_milliseconds / 1_000;
        let fine = (FINE_SECONDS + AHEAD_SECONDS + 1) * SLOTS_A_SECOND;
        let coarse = lateness_seconds.max(FINE_SECONDS) + 1 - FINE_SECONDS;
        // One more cell takes the edge behind the last.
        Self { fine: Ring::new(fine as usize + 1), coarse: Ring::new(coarse as usize + 1) }
    }

    /// Spreads `volume` evenly over `[start, end]`, unix milliseconds; what lies before the frame is left out.
    pub(super) fn add(&mut self, frame: &Frame, volume: &Volume, start: u64, end: u64) {
        let fine_from = frame.fine_second * 1_000;
        let share = |from: u64, to: u64| (to - from) as f64 / (end - start) as f64;
        let oldest = frame.oldest_second * 1_000;
        if start < fine_from {
            let (from, to) = (start.max(oldest), end.min(fine_from));
            if end == start && start >= oldest {
                return self.coarse.spread(volume, from - oldest, to - oldest, 1_000);
            }
            if from < to {
                self.coarse.spread(&volume.scaled(share(from, to)), from - oldest, to - oldest, 1_000);
            }
            if end > fine_from {
                let rest = volume.scaled(share(fine_from, end));
                self.fine.spread(&rest, 0, end - fine_from, SLOT_MILLISECONDS);
            }
        } else {
            self.fine.spread(volume, start - fine_from, end - fine_from, SLOT_MILLISECONDS);
        }
    }

    /// Hands over what the slots have gained, by ascending slot number; seconds only if `seconds_too`, as ten equal slots each.
    pub(super) fn hand_over(&mut self, frame: &Frame, seconds_too: bool, slots: &mut Vec<(u64, Volume)>) {
        if seconds_too {
            let first = frame.oldest_second * SLOTS_A_SECOND;
            self.coarse.integrate(|index, volume| {
                let tenth = volume.scaled(1.0 / SLOTS_A_SECOND as f64);
                slots.extend((0..SLOTS_A_SECOND).map(|slot| (first + index * SLOTS_A_SECOND + slot, tenth)));
            });
        }
        let first = frame.fine_second * SLOTS_A_SECOND;
        self.fine.integrate(|index, volume| slots.push((first + index, volume)));
    }

    /// Whether the fine slots have gained nothing since they were handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.fine.is_empty() && self.coarse.is_empty()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.fine.integrate(|_, _| {});
        self.coarse.integrate(|_, _| {});
    }
}

impl Ring {
    fn new(cells: usize) -> Self {
        Self { cells: vec![[0.0; COUNTS]; cells].into_boxed_slice(), first: usize::MAX, last: 0 }
    }

    fn is_empty(&self) -> bool {
        self.first > self.last
    }

    /// Adds the differences of a volume spread over `[from, to]`, milliseconds since the first cell, cells of `length`.
    #[expect(clippy::cast_possible_truncation, reason = "a ring has some hundred cells")]
    fn spread(&mut self, volume: &Volume, from: u64, to: u64, length: u64) {
        let mut counts = [0.0; COUNTS];
        counts.iter_mut().zip(volume.to_array()).for_each(|(own, count)| *own = count);
        let counts = &counts;
        let beyond = self.cells.len().saturating_sub(2);
        let first = ((from / length) as usize).min(beyond);
        // The last moment is the end of the flow, not a part of it, unless the flow is but a moment.
        let last = ((to.saturating_sub(1) / length) as usize).clamp(first, beyond);
        self.first = self.first.min(first);
        self.last = self.last.max(last + 1);
        if first == last {
            self.step(first, counts, 1.0, 1.0);
            self.step(last + 1, counts, -1.0, -1.0);
            return;
        }
        let duration = (to - from) as f64;
        let head = ((first as u64 + 1) * length - from) as f64 / duration;
        let rate = length as f64 / duration;
        // What is left, so that the parts add up to the whole.
        let tail = 1.0 - head - rate * (last - first - 1) as f64;
        self.step(first, counts, head, 1.0);
        self.step(first + 1, counts, rate - head, 0.0);
        self.step(last, counts, tail - rate, 0.0);
        self.step(last + 1, counts, -tail, -1.0);
    }

    fn step(&mut self, index: usize, counts: &Cell, factor: f64, flows: f64) {
        if let Some(cell) = self.cells.get_mut(index) {
            // The last of the counts is 0: so the lanes are even, and come two or four at a time.
            cell.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count * factor);
            let [.., active] = cell;
            *active += flows;
        }
    }

    /// Sums the differences up, tells each cell that a flow touches, and leaves the ring empty.
    fn integrate(&mut self, mut each: impl FnMut(u64, Volume)) {
        let mut sums = [0.0; COUNTS];
        let touched = self.cells.iter_mut().enumerate().take(self.last + 1).skip(self.first);
        for (index, cell) in touched {
            sums.iter_mut().zip(cell.iter()).for_each(|(sum, difference)| *sum += difference);
            *cell = [0.0; COUNTS];
            let [volume @ .., active] = &mut sums;
            // The number of flows is a whole number and exact: at 0 there is nothing, whatever rounding has left.
            if *active > 0.5 {
                each(index as u64, Volume::from_array(volume.map(|count| count.max(0.0))));
            } else {
                sums = [0.0; COUNTS];
            }
        }
        (self.first, self.last) = (usize::MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use schemas::time::Timestamp;

    use super::*;

    const NOW: u64 = 1_000_000_250;

    fn clock() -> Clock {
        let mut clock = Clock::new(120, 2_000);
        clock.advance(Timestamp(NOW));
        clock
    }

    fn octets(octets: f64) -> Volume {
        Volume { octets, packets: octets / 1_000.0, flows: 1.0, ..Volume::default() }
    }

    fn handed_over(flows: &[(f64, u64, u64)]) -> BTreeMap<u64, Volume> {
        let clock = clock();
        let (frame, mut slots, mut list) = (Frame::new(&clock), Slots::new(&clock), Vec::new());
        flows.iter().for_each(|&(volume, start, end)| slots.add(&frame, &octets(volume), start, end));
        slots.hand_over(&frame, true, &mut list);
        assert!(list.is_sorted_by(|(left, _), (right, _)| left < right), "slots ascend");
        let mut again = Vec::new();
        slots.hand_over(&frame, true, &mut again);
        assert!(again.is_empty() && slots.is_empty(), "what was handed over is gone");
        list.into_iter().collect()
    }

    #[test]
    fn a_flow_of_a_minute_and_a_gigabit_is_no_spike() {
        // 10⁹ bits over 60 s: 16.7 Mbit in each second, a tenth of that in each slot.
        let slots = handed_over(&[(1.25e8, NOW - 60_000, NOW)]);
        let (first, last) = (slots.keys().next().unwrap() / 10 + 1, slots.keys().last().unwrap() / 10);
        for second in first..last {
            let bits: f64 = (0..10).filter_map(|slot| slots.get(&(second * 10 + slot))).map(|volume| volume.octets * 8.0).sum();
            assert!((bits - 1e9 / 60.0).abs() < 1.0, "{second}: {bits}");
        }
        let sum: f64 = slots.values().map(|volume| volume.octets).sum();
        assert!((sum - 1.25e8).abs() < 1e-3, "{sum}");
    }

    #[test]
    fn a_moment_lies_in_one_slot_and_a_flow_to_a_boundary_not_in_the_next() {
        let slot = NOW / 100 - 5;
        assert_eq!(handed_over(&[(8.0, slot * 100, slot * 100)]).into_keys().collect::<Vec<_>>(), [slot]);
        assert_eq!(handed_over(&[(8.0, slot * 100, slot * 100 + 100)]).into_keys().collect::<Vec<_>>(), [slot]);
        assert_eq!(handed_over(&[(8.0, slot * 100 + 99, slot * 100 + 101)]).into_keys().collect::<Vec<_>>(), [slot, slot + 1]);
    }

    #[test]
    fn what_is_older_than_the_frame_is_left_out_at_its_rate() {
        // 200 s at 1,000 octets a second: of these the 121 s of the frame and the 250 ms of its last second are seen.
        let sum: f64 = handed_over(&[(200_000.0, NOW - 200_000, NOW)]).values().map(|volume| volume.octets).sum();
        assert!((sum - 121_250.0).abs() < 1e-6, "{sum}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn slots_hold_what_a_model_that_walks_every_millisecond_holds(
            flows in proptest::collection::vec((1u32..1_000_000, 0u64..119_000, prop_oneof![Just(0u64), 1..300u64, 1..60_000u64]), 1..12),
        ) {
            let flows: Vec<(f64, u64, u64)> = flows.into_iter()
                .map(|(octets, age, duration)| (f64::from(octets), (NOW - age).saturating_sub(duration).max(NOW - 120_000), NOW - age))
                .collect();
            let fine_from = (NOW / 1_000 - FINE_SECONDS) * 10;
            let mut model = BTreeMap::<u64, f64>::new();
            for &(octets, start, end) in &flows {
                let moments = if start == end { start..end + 1 } else { start..end };
                let each = octets / (moments.end - moments.start) as f64;
                for moment in moments {
                    // Older moments are told by the second.
                    if moment / 100 >= fine_from {
                        *model.entry(moment / 100).or_default() += each;
                    } else {
                        (0..10).for_each(|slot| *model.entry(moment / 1_000 * 10 + slot).or_default() += each / 10.0);
                    }
                }
            }
            let slots = handed_over(&flows);
            prop_assert_eq!(slots.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
            for (slot, octets) in model {
                prop_assert!((slots[&slot].octets - octets).abs() < 1e-6 * octets.max(1.0), "{}: {} {}", slot, slots[&slot].octets, octets);
            }
        }
    }
}
