//! Upper bounds of the traffic of one target in any window, in 56 octets.
//!
//! What is asked: has any window of 0.1, 1, 5 or 30 s of reconstructed time held more than a share of the limit?
//! Records come in any order and up to two minutes late, and a long flow overlaps many windows, so that what arrives
//! together says little: an average by arrival bounds nothing. Two scales are enough. A window of 5 or 30 s is made of
//! whole windows of 1 s, so that one of these has at least its rate: the scales are 0.1 s and 1 s, the latter with the
//! smallest multiple of the three.
//!
//! **The bound.** Take a window `[t, t + w)` and a flow of `v` octets, uniform over `[start, end]` of length `d`. If they
//! overlap at all then `t` lies in `[start − w, end]`, and the window holds at most `v × min(1, w / d)` of the flow: its
//! *weight*. So the window holds no more than the sum of the weights of all flows with `t` in `[start − w, end]`. A ring of
//! cells, each for a span of time, adds a flow's weight to every cell that `[start − w, end]` touches; then the cell which
//! `t` lies in holds that sum, in whatever order the flows came.
//!
//! **Two rings.** A flow whose `[start − w, end]` lies within the last four seconds counts in the *fine* ring of 1-s
//! cells (sFlow, mirrors, quick exporters: that is most of them), any other in the *coarse* ring of 8 cells, 18 s each at
//! a lateness of 120 s. A window's bound is the fine cell of `t` plus the coarse cell of `t`. When a fine cell's second leaves
//! the ring, its sum is kept as a *peak*, the maximum of a generation and of the one before, each as long as the
//! lateness: so a fine sum that is no longer at hand is at most the larger peak.
//!
//! **When it is looked at.** A window's bound grows only when one of its two cells does, and is looked at then: after a fine
//! update with the coarse cell as it is, after a coarse one with the largest fine cell or peak. So no window's true traffic
//! passes a share of the limit without the bound being seen to pass it, at that record or before.
//!
//! **Units.** Sums are of the largest of a record's parts of the limits that it counts in (`scale`), which is at least the sum in any
//! one of them; a unit is a 32,768th of the share that makes a suspect, weights are rounded up, and 16 bits saturate at twice that share. How
//! loose is it? Steady flows shorter than a window look like 1.1 (2, at the 1-s scale) seconds' worth in one window when
//! they are prompt, and like 18 when they are late; a late flow of 60 s is overestimated by a third.

use super::clock::{Cells, Clock, Reach, mask_of};

/// The sum at which a target becomes a suspect.
pub(super) const SUSPICION: u16 = 32_768;

/// The share of a limit from which on a target is counted exactly.
pub(super) const SUSPICION_SHARE: f32 = 0.25;

/// Cells of the fine ring.
const FINE_CELLS: usize = 4;
/// Cells of the coarse ring.
const COARSE_CELLS: usize = super::clock::COARSE_CELLS as usize;

/// The two rings and the peaks, for windows of 0.1 and of 1 s.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bound {
    /// Four cells of the one scale, then four of the other, for one step over both.
    fine: [u16; 2 * FINE_CELLS],
    peaks: [[u16; 2]; 2],
    coarse: [[u16; COARSE_CELLS]; 2],
}

/// What an update has brought to light.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Upper bound of the windows that the flow belongs to.
    pub(super) bound: u16,
    /// The part of it that lies in the flow's own cells.
    pub(super) here: u16,
}

impl Load {
    /// The bound as a share of the limit; it ends at a half, where 16 bits do.
    pub(super) fn share(self) -> f32 {
        f32::from(self.bound) / f32::from(SUSPICION) * SUSPICION_SHARE
    }
}

impl Bound {
    /// Brings the rings from second `then` to the clock's: what falls out of them is folded into the peaks or forgotten.
    #[inline(never)]
    #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "indices are taken modulo the lengths")]
    pub(super) fn roll(&mut self, then: u64, clock: &Clock) {
        if clock.second - then > clock.memory_seconds() {
            *self = Self::default();
            return;
        }
        if then < clock.generation_begun {
            for number in clock.generation_of(then) + 1..=clock.generation {
                self.peaks.iter_mut().for_each(|peaks| peaks[number as usize % 2] = 0);
            }
        }
        // The cells of the seconds since then, in both halves of the mask.
        let seconds = (clock.second - then).min(FINE_CELLS as u64);
        let run = (0x0f_u32 >> (FINE_CELLS as u64 - seconds)) << ((then + 1) % FINE_CELLS as u64);
        let left = mask_of(((run | run >> FINE_CELLS) & 0x0f) as u8 * 0x11);
        let gone = lanes(&self.fine, left, |cell, mask| cell & mask);
        self.fine = lanes(&self.fine, left, |cell, mask| cell & !mask);
        for (gone, peaks) in gone.chunks_exact(FINE_CELLS).zip(&mut self.peaks) {
            let peak = &mut peaks[clock.generation as usize % 2];
            *peak = largest(gone).max(*peak);
        }
        if then < clock.bucket_begun {
            for number in clock.bucket_of(then) + 1..=clock.bucket {
                self.coarse.iter_mut().for_each(|coarse| coarse[number as usize % COARSE_CELLS] = 0);
            }
        }
    }

    /// Adds a flow of `units` (for windows of 0.1 and 1 s), after [`Bound::roll`] to now; returns whether a bound makes a suspect now.
    #[inline(always)]
    pub(super) fn add(&mut self, reach: &Reach, [burst, second]: [u16; 2], clock: &Clock) -> bool {
        let [cells, second_cells] = reach.cells;
        if reach.prompt {
            let mask = mask_of(cells);
            let units = [burst, burst, burst, burst, second, second, second, second];
            self.fine = lanes(&self.fine, &lanes(&units, mask, |units, mask| units & mask), u16::saturating_add);
            let [burst, second] = self.coarse_now(clock);
            passes(&self.fine, [burst, burst, burst, burst, second, second, second, second], mask)
        } else {
            self.add_late([mask_of(cells), mask_of(second_cells)], [burst, second])
        }
    }

    #[inline(never)]
    fn add_late(&mut self, masks: [&Cells; 2], units: [u16; 2]) -> bool {
        let fine = self.fine_ever();
        let mut over = false;
        for (((coarse, units), mask), fine) in self.coarse.iter_mut().zip(units).zip(masks).zip(fine) {
            *coarse = lanes(coarse, &mask.map(|mask| units & mask), u16::saturating_add);
            over |= passes(coarse, [fine; COARSE_CELLS], mask);
        }
        over
    }

    /// What a flow that was added has brought to light.
    pub(super) fn load(&self, reach: &Reach, clock: &Clock) -> Load {
        let mut load = Load::default();
        let mut take = |sums: &[u16], mask: &[u16], other: u16| {
            let here = sums.iter().zip(mask).fold(0, |here, (sum, mask)| here.max(sum & mask));
            load.here = load.here.max(here);
            load.bound = load.bound.max(here.saturating_add(other));
        };
        let [cells, second_cells] = reach.cells.map(mask_of);
        if reach.prompt {
            let others = self.coarse_now(clock);
            let sums = self.fine.chunks_exact(FINE_CELLS).zip(cells.chunks_exact(FINE_CELLS));
            sums.zip(others).for_each(|((sums, mask), other)| take(sums, mask, other));
        } else {
            let sums = self.coarse.iter().zip([cells, second_cells]);
            sums.zip(self.fine_ever()).for_each(|((sums, mask), other)| take(sums, mask, other));
        }
        load
    }

    /// The larger coarse sum where a window within the last four seconds starts: in this bucket or the one before.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "indices are taken modulo the length")]
    fn coarse_now(&self, clock: &Clock) -> [u16; 2] {
        let [this, before] = clock.coarse_cells;
        let [burst, second] = &self.coarse;
        [burst[this & 7].max(burst[before & 7]), second[this & 7].max(second[before & 7])]
    }

    /// The largest fine sum there is or was.
    fn fine_ever(&self) -> [u16; 2] {
        let ([burst, second], [a, b, c, d, e, f, g, h]) = (self.peaks.map(|[one, other]| one.max(other)), self.fine);
        [burst.max(a.max(b)).max(c.max(d)), second.max(e.max(f)).max(g.max(h))]
    }

    /// The largest sum in any cell.
    pub(super) fn largest(&self) -> u16 {
        largest(self.fine.iter().chain(self.peaks.iter().flatten()).chain(self.coarse.iter().flatten()))
    }
}

/// Combines two rings cell by cell.
#[inline]
fn lanes(left: &Cells, right: &Cells, combine: impl Fn(u16, u16) -> u16) -> Cells {
    let mut combined = *left;
    combined.iter_mut().zip(right).for_each(|(left, right)| *left = combine(*left, *right));
    combined
}

/// Whether a cell of the mask makes a suspect together with what the other ring holds: [`SUSPICION`] is the highest bit.
#[inline]
fn passes(sums: &Cells, others: Cells, mask: &Cells) -> bool {
    let bounds = lanes(&lanes(sums, &others, u16::saturating_add), mask, |bound, mask| bound & mask);
    bounds.iter().fold(0, |all, bound| all | bound) >= SUSPICION
}

#[inline]
fn largest<'a>(cells: impl IntoIterator<Item = &'a u16>) -> u16 {
    cells.into_iter().fold(0, |largest, cell| largest.max(*cell))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemas::counter::{Direction, Target};
    use schemas::incident::{Metric, Unit};
    use schemas::limit::{Limit, Limits, WINDOW_MILLISECONDS};
    use schemas::time::Timestamp;

    use super::super::clock::Span;
    use super::super::kind::Kind;
    use super::super::scale::{Scales, Weight};
    use super::super::traffic::Amount;
    use super::*;

    /// A flow of `units`, known at `arrival`.
    #[derive(Clone, Copy, Debug)]
    struct Flow {
        span: Span,
        arrival: u64,
        units: f64,
    }

    /// The largest bound seen while the flows arrive, at the scale of 0.1 s (0) or 1 s (1).
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousand units")]
    fn largest_bound(flows: &[Flow], scale: usize) -> u16 {
        largest_bound_by(flows, scale, |index, reach| {
            let units = (flows[index].units * f64::from(reach.weights[scale])) as u16 + 1;
            [units, units]
        })
    }

    /// The same, with what each flow adds at both scales.
    fn largest_bound_by(flows: &[Flow], scale: usize, weigh: impl Fn(usize, &Reach) -> [u16; 2]) -> u16 {
        let (mut clock, mut bound, mut largest) = (Clock::new(120, 2_000), Bound::default(), 0);
        clock.advance(Timestamp(flows[0].arrival));
        for (index, flow) in flows.iter().enumerate() {
            let then = clock.second;
            clock.advance(Timestamp(flow.arrival));
            bound.roll(then, &clock);
            let reach = clock.reach(flow.span);
            let mut units = weigh(index, &reach);
            units[1 - scale] = 0;
            let over = bound.add(&reach, units, &clock);
            let load = bound.load(&reach, &clock);
            assert_eq!(over, load.bound >= SUSPICION);
            largest = largest.max(load.bound);
        }
        largest
    }

    /// The most that any window of this length truly holds.
    fn largest_window(flows: &[Flow], window: u64) -> f64 {
        // The sum over a moving window is linear between these starts.
        let starts = flows.iter().flat_map(|flow| {
            let Span { start, end, .. } = flow.span;
            [start, end, start - window, end - window]
        });
        let held = |from: u64| {
            flows.iter().map(move |flow| {
                let Span { start, end, .. } = flow.span;
                let overlap = (end.min(from + window) as f64 - start.max(from) as f64).max(0.0);
                if end > start {
                    flow.units * overlap / (end - start) as f64
                } else {
                    flow.units * f64::from(u8::from((from..from + window).contains(&start)))
                }
            })
        };
        starts.map(|from| held(from).sum()).fold(0.0, f64::max)
    }

    fn flows() -> impl Strategy<Value = Vec<Flow>> {
        let duration = prop_oneof![Just(0u64), 1..100u64, 100..1_000u64, 1_000..8_000u64, 8_000..120_000u64];
        let lag = prop_oneof![3 => 0..500u64, 1 => 0..4_000u64, 1 => 0..60_000u64, 1 => 0..120_000u64];
        // Ends lie close together, so that windows hold many of them, in a minute of which some cells fall out of the rings.
        let end = prop_oneof![0..1_500u64, 0..20_000u64, 0..200_000u64];
        let flow = (end, duration, lag, 1u32..40).prop_map(|(end, duration, lag, units)| {
            let end = 10_000_000 + end;
            Flow { span: Span { start: end - duration, end, corrected: false }, arrival: end + lag, units: f64::from(units) }
        });
        proptest::collection::vec(flow, 1..60).prop_map(|mut flows| {
            flows.sort_by_key(|flow| flow.arrival);
            flows
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn no_window_holds_more_than_the_bound(flows in flows()) {
            for window in WINDOW_MILLISECONDS {
                let bound = f64::from(largest_bound(&flows, usize::from(window >= 1_000)));
                // Units are those of a window of a second: a longer one holds as many of these.
                let seconds = (window as f64 / 1_000.0).max(1.0);
                let held = largest_window(&flows, window) / seconds;
                prop_assert!(bound >= held, "{} ms: {} held, bound {}", window, held, bound);
            }
        }
    }

    /// What a record of each flow is: its class, packets and octets.
    fn records() -> impl Strategy<Value = Vec<(u8, u32, u32)>> {
        proptest::collection::vec((0u8..32, 0u32..200, 0u32..200_000), 60)
    }

    /// Some limits, each off or so low that some flows are over it.
    fn limit() -> impl Strategy<Value = Limit> {
        let values = proptest::collection::vec(proptest::option::of(10.0..100_000.0_f64), Metric::COUNT);
        values.prop_map(|values| {
            let set = Metric::ALL.iter().zip(values).filter_map(|(metric, value)| Some((*metric, value?)));
            set.fold(Limit::NONE, |limit, (metric, value)| {
                limit.with(metric, value * if metric.unit() == Unit::Bits { 8_000.0 } else { 1.0 })
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn no_window_holds_more_of_any_metric_than_the_bound_of_its_classes(flows in flows(), records in records(), limit in limit()) {
            let amounts: Vec<Amount> = records.iter()
                .map(|(class, packets, octets)| Amount::of(f64::from(*packets), f64::from(*octets), Kind::of_class(*class))).collect();
            let limits = Limits { multiples: [2.0, 1.0, 3.0, 4.0], ..Limits::of_hosts(limit) };
            let mut scales = Scales::new(limits);
            let number = scales.number(Target { prefix: "192.0.2.1".parse().unwrap(), direction: Direction::Incoming });
            for window in WINDOW_MILLISECONDS {
                let scale = usize::from(window >= 1_000);
                let bound = largest_bound_by(&flows, scale, |index, reach| {
                    let shares = amounts[index].shares();
                    let [packets, octets, _] = shares.all;
                    let weight = Weight { packets, octets, class: amounts[index].kind.class() };
                    scales.weigh(number, weight, scales.units(reach.weights))
                });
                // What a window may hold, in seconds of the limit, and how many units that is: the lowest multiple of the longer windows is 1.
                let seconds = window as f64 / 1_000.0;
                let units = f64::from(SUSPICION) / f64::from(SUSPICION_SHARE) / if scale == 0 { 2.0 * seconds } else { seconds };
                for metric in limit.limited() {
                    let in_metric: Vec<Flow> = flows.iter().zip(&amounts)
                        .map(|(flow, amount)| Flow { units: amount.volume().count(metric) / limit.get(metric), ..*flow }).collect();
                    let held = largest_window(&in_metric, window) * units;
                    let full = f64::from(u16::MAX);
                    // Counts are in single precision.
                    prop_assert!(f64::from(bound) >= held.min(full) * (1.0 - 1e-5), "{window} ms of {metric:?}: {held} held, bound {bound}");
                }
            }
        }
    }

    #[test]
    fn a_steady_prompt_rate_is_overestimated_by_a_second_and_a_steady_late_one_of_a_minute_by_a_third() {
        let steady = |lag: u64, duration: u64| {
            let flow = |step: u64| {
                let end = 10_000_000 + step * 10;
                Flow {
                    span: Span { start: end - duration, end, corrected: false },
                    arrival: end + lag,
                    units: 10.0 * (duration as f64 / 10.0).max(1.0),
                }
            };
            (0..20_000).map(flow).collect::<Vec<_>>()
        };
        // 100 flows a second of 10 units, rounded up to 11: in a 1-s cell are those that end in it or the window's length after.
        assert_eq!((largest_bound(&steady(0, 0), 0), largest_bound(&steady(0, 0), 1)), (1_210, 2_200));
        // Late ones count in 18 s and the window's length: the bound is loose, which costs a suspect and hides nothing.
        assert_eq!(largest_bound(&steady(10_000, 0), 1), 19 * 1_100);
    }

    #[test]
    fn what_is_older_than_the_lateness_is_forgotten() {
        let (mut clock, mut bound) = (Clock::new(120, 2_000), Bound::default());
        clock.advance(Timestamp(10_000_000));
        let reach = clock.reach(Span { start: 10_000_000, end: 10_000_000, corrected: false });
        bound.add(&reach, [500, 500], &clock);
        let later = |seconds: u64| {
            let (mut clock, mut bound, then) = (clock, bound, clock.second);
            clock.advance(Timestamp(10_000_000 + seconds * 1_000));
            bound.roll(then, &clock);
            bound.largest()
        };
        assert_eq!((later(3), later(60), later(119), later(145)), (500, 500, 500, 0));
    }
}
