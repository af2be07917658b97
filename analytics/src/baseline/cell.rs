//! What is live and what is normal of one host or prefix and direction, in 26 octets.
//!
//! **What is learned.** One value a minute: the mean of packets and of bits a second, weighted by e^(−age / 120 s), so that an exporter that tells
//! of a flow once a minute looks the same as one that tells at once. Minutes in which nothing came are not learned: silence is not what a
//! limit is for. All is in octaves (`level`), since a host's traffic doubles rather than grows by a number.
//!
//! - The *slow* part is a running median: a step up or down each minute, of an octave / n for the n-th value and of an octave / 1,440 at
//!   least. Whatever an attack of six hours sends, it moves by a quarter of an octave at most.
//! - The *fast* part goes an eighth of an octave a minute towards the value.
//! - The *spread* is a running 95th percentile of how far a value lies above the slow part: 19 steps up or one down, a step of an octave a week. It begins
//!   with an octave, since one evening says nothing of a morning.
//!
//! **The limit** is 2^(slow + h + max(1, k × spread)) where h is by how much the fast part lies above the slow one, never more than the spread and nothing while
//! traffic drifts: within what is usual the limit follows the present, beyond it never.
//!
//! **The change detector** is a cumulative sum (Page 1954). With d = (value − usual) / max(spread, ¼ octave), the larger one of packets and
//! bits: S ← max(0, S + y), y = d − 1 held within −2 and 2. At S = 16 learning stops, and what was learned since S left 0 is undone.
//! *False stops*: for deviations with exponential tails, 5 % above the spread, E e^(θy) = 1 at θ = 2.2; values a minute apart share e^(−½)
//! of themselves, which makes about one in four independent, θ = 0.5. An excursion reaches 16 with a probability below e^(−0.5 × 16) = 3 × 10⁻⁴; at some
//! 120 excursions a week that is one false stop in 30 host-weeks, and it costs half an hour of learning. *Delay*: a step to twice the spread
//! stops it in 16 minutes, a larger one in 8. A ramp of an octave in 30 minutes on a host with a spread of a quarter reaches d = 1 in 8
//! minutes and S = 16 in another 17; the slow part has moved by 0.02 octaves until then, and the fast part lost its say at S = 4.
//! A change that has lasted for `accept_hours` without an incident is the new normal.

use super::level::{Dither, Level, OCTAVE, within};

/// Seconds in a unit of a cell's clock: 16 bits wrap after three days.
pub(super) const TICK_SECONDS: u64 = 4;
/// Units in a minute, and in an hour.
pub(super) const UNITS_A_MINUTE: u16 = 15;
pub(super) const UNITS_AN_HOUR: u16 = 60 * UNITS_A_MINUTE;
const _: () = assert!(UNITS_A_MINUTE as u64 * TICK_SECONDS == 60);
const MINUTE: u64 = 60 / TICK_SECONDS;
/// A report that comes so soon after another is of the same span, by another shard.
const SAME_SPAN: u16 = 1;
/// Units after which nothing is live any more: a span and a half.
const LIVE: u16 = 4;
/// Seconds after which a report counts for 1/e of the mean.
const MEAN_SECONDS: f64 = 120.0;
/// Seconds of one report.
const REPORT_SECONDS: f64 = schemas::counter::HOST_REPORT_MILLISECONDS as f64 / 1_000.0;

/// Values from which on the slow part makes its smallest steps: a day.
const DAY_MINUTES: u16 = 1_440;
/// Minutes in which the spread shrinks by an octave at most.
const SPREAD_MINUTES: f32 = 10_080.0;
/// Steps up for one down: what is found is the 95th percentile.
const SPREAD_UP: f32 = 19.0;
const SPREAD_MIN: u16 = OCTAVE / 16;
/// Steps of the scale in a step of the fast part: a sixteenth of an octave.
const FAST: i32 = OCTAVE as i32 / 16;

/// The smallest deviation that counts as one.
const ALLOWANCE_MIN: u16 = OCTAVE / 4;
/// Units of the detector's sum in one deviation.
const SUM: i32 = 64;
/// The sum at which learning stops.
const SUM_MAX: i32 = 16 * SUM;
/// The sum at which the fast part has no say any more.
const SUM_DRIFT: f32 = 4.0 * SUM as f32;
/// The bit of `run` that says that nothing is learned.
const STOPPED: u16 = 1 << 15;

/// How cells learn; the numbers of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Values before anything is told.
    pub(crate) warm_up: u16,
    /// Spreads between what is usual and the limit.
    pub(crate) spreads: f32,
    /// Minutes for which a change lasts until it is normal.
    pub(crate) accept: u16,
}

/// What is usual at some time: packets and bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usual {
    pub(super) location: [Level; 2],
    pub(super) spread: [u16; 2],
}

/// One host or prefix and direction; of each pair the first is of packets, the second of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Cell {
    /// When it was last reported, in units of the clock.
    stamp: u16,
    /// Rates of the last span.
    live: [Level; 2],
    /// The mean that is learned each minute.
    mean: [Level; 2],
    slow: [Level; 2],
    /// Sixteenths of an octave above the slow part.
    fast: [i8; 2],
    spread: [u16; 2],
    /// Values learned.
    learned: u16,
    /// Minutes since the detector's sum left 0, or since learning stopped.
    run: u16,
    sum: u16,
}

/// Words of 16 bits in a cell.
pub(super) const WORDS: usize = 13;
const _: () = assert!(size_of::<Cell>() == 2 * WORDS);

impl Cell {
    pub(super) fn to_words(self) -> [u16; WORDS] {
        let Self { stamp, live: [a, b], mean: [c, d], slow: [e, f], fast: [g, h], spread: [i, j], learned, run, sum } = self;
        [stamp, a.0, b.0, c.0, d.0, e.0, f.0, u16::from_le_bytes([g.to_le_bytes()[0], h.to_le_bytes()[0]]), i, j, learned, run, sum]
    }

    pub(super) fn from_words([stamp, a, b, c, d, e, f, fast, i, j, learned, run, sum]: [u16; WORDS]) -> Self {
        let pair = |first, second| [Level(first), Level(second)];
        let fast = fast.to_le_bytes().map(|octet| i8::from_le_bytes([octet]));
        Self { stamp, live: pair(a, b), mean: pair(c, d), slow: pair(e, f), fast, spread: [i, j], learned, run, sum }
    }

    /// Takes in what one shard counted in a span, packets and bits a second, at `now` in units of the clock; returns what is to be learned of the
    /// minute that this closes.
    pub(super) fn report(&mut self, rates: [f64; 2], now: u64) -> Option<[Level; 2]> {
        let age = self.age(now);
        let closed = ((now - u64::from(age).min(now)) / MINUTE != now / MINUTE && self.mean != [Level(0); 2]).then_some(self.mean);
        if age <= SAME_SPAN && self.live != [Level(0); 2] {
            self.live.iter_mut().zip(rates).for_each(|(live, rate)| *live = live.plus(rate));
        } else {
            self.live = rates.map(Level::of);
        }
        // Reports of one rate each ten seconds have just that rate for their mean.
        let share = 1.0 - (-REPORT_SECONDS / MEAN_SECONDS).exp();
        let kept = (-f64::from(age) * TICK_SECONDS as f64 / MEAN_SECONDS).exp();
        self.mean.iter_mut().zip(rates).for_each(|(mean, rate)| *mean = Level::of(mean.rate() * kept + rate * share));
        self.stamp = stamp_of(now);
        closed
    }

    /// Units since the last report.
    fn age(&self, now: u64) -> u16 {
        stamp_of(now).wrapping_sub(self.stamp)
    }

    /// Units for which nothing was reported, those in which the program was away left out; the most there is if nothing ever was.
    pub(super) fn silence(&self, now: u64) -> u16 {
        if self.live == [Level(0); 2] && !self.has_learned() { u16::MAX } else { self.age(now) }
    }

    /// Packets and bits a second now.
    pub(super) fn live(&self, now: u64) -> [f64; 2] {
        if self.age(now) <= LIVE { self.live.map(Level::rate) } else { [0.0; 2] }
    }

    /// What follows from what has been learned, whatever the hour.
    pub(super) fn usual(&self) -> Usual {
        Usual { location: self.slow, spread: self.spread }
    }

    /// Whether anything was learned.
    pub(super) fn has_learned(&self) -> bool {
        self.learned > 0
    }

    /// Whether enough was learned to tell of it.
    pub(super) fn is_warm(&self, rules: &Rules) -> bool {
        self.learned >= rules.warm_up
    }

    /// Learns the value of a minute, or not if traffic drifts away from what is `usual`; returns whether it has. `peak` is the largest second of the minute, where it
    /// is known: it widens the spread.
    pub(super) fn learn(&mut self, value: [Level; 2], peak: [Level; 2], usual: &Usual, rules: &Rules, dither: &mut Dither) -> bool {
        if self.learned == 0 {
            (self.slow, self.fast, self.spread, self.learned) = (value, [0; 2], [OCTAVE; 2], 1);
            return true;
        }
        if self.is_warm(rules) && self.drifts(value, usual, rules) {
            return false;
        }
        let gain = self.gain();
        for (((slow, fast), spread), (value, peak)) in
            self.slow.iter_mut().zip(&mut self.fast).zip(&mut self.spread).zip(value.into_iter().zip(peak))
        {
            let above = value.above(*slow);
            let gap = (above / FAST - i32::from(*fast)).clamp(-2, 2);
            *fast = i8::try_from(i32::from(*fast) + gap).unwrap_or(*fast);
            let up = if value.max(peak).above(*slow) > i32::from(*spread) { SPREAD_UP } else { -1.0 };
            *spread = within(i32::from(*spread) + dither.whole(up * f32::from(OCTAVE) / SPREAD_MINUTES), SPREAD_MIN);
            *slow = slow.raised(dither.whole(gain * above.signum() as f32));
        }
        self.learned = self.learned.saturating_add(1);
        true
    }

    /// The slow part's next step.
    fn gain(&self) -> f32 {
        f32::from(OCTAVE) / f32::from(self.learned.clamp(1, DAY_MINUTES))
    }

    /// Follows the change detector; returns whether nothing may be learned.
    fn drifts(&mut self, value: [Level; 2], usual: &Usual, rules: &Rules) -> bool {
        let deviation = value
            .iter()
            .zip(usual.location)
            .zip(usual.spread)
            .map(|((value, location), spread)| value.above(location) * SUM / i32::from(spread.max(ALLOWANCE_MIN)))
            .max()
            .unwrap_or(0);
        let sum = (i32::from(self.sum) + (deviation - SUM).clamp(-2 * SUM, 2 * SUM)).clamp(0, SUM_MAX);
        self.sum = within(sum, 0);
        let run = (self.run & !STOPPED).saturating_add(1).min(!STOPPED);
        if self.run & STOPPED != 0 {
            self.run = run | STOPPED;
            if sum == 0 {
                self.run = 0;
            } else if run >= rules.accept {
                // It is normal now; the spread is that of somebody new, and the slow part follows as quickly.
                *self = Self { slow: value, fast: [0; 2], spread: self.spread.map(|spread| spread.max(OCTAVE)), ..*self };
                (self.learned, self.run, self.sum) = (rules.warm_up.max(1), 0, 0);
            }
            return sum > 0;
        }
        self.run = if sum == 0 { 0 } else { run };
        if sum == SUM_MAX {
            self.undo(rules);
            self.run = STOPPED;
            self.sum = within(SUM_MAX, 0);
        }
        self.run & STOPPED != 0
    }

    /// Takes back what was learned since traffic began to drift: no more than a step for each minute.
    fn undo(&mut self, rules: &Rules) {
        let minutes = f32::from(self.run & !STOPPED);
        let [down, narrower] = [self.gain(), SPREAD_UP * f32::from(OCTAVE) / SPREAD_MINUTES].map(|step| Dither(0).whole(step * minutes));
        if self.run & STOPPED == 0 && self.learned > rules.warm_up {
            self.slow = self.slow.map(|slow| slow.raised(-down));
            self.spread = self.spread.map(|spread| within(i32::from(spread) - narrower, SPREAD_MIN.min(spread)));
            self.learned = self.learned.saturating_sub(self.run).max(rules.warm_up);
        }
        (self.fast, self.run, self.sum) = ([0; 2], 0, 0);
    }

    /// An attack is going on: its onset is taken back, and the minute that it fell into is not learned.
    pub(super) fn hold(&mut self, rules: &Rules) {
        self.undo(rules);
        self.mean = [Level(0); 2];
    }

    /// The program was away: the minute that was running is not learned, and nothing is live.
    pub(super) fn resume(&mut self, now: u64) {
        (self.mean, self.live, self.stamp) = ([Level(0); 2], [Level(0); 2], stamp_of(now));
    }

    /// Minutes of the present drift, 0 while there is none; those in which learning is stopped do not count.
    pub(super) fn drift_minutes(&self) -> u16 {
        if self.run & STOPPED == 0 { self.run } else { 0 }
    }

    /// Packets and bits a second that the target may carry by what is `usual`; `None` while too little was learned.
    pub(super) fn limit(&self, usual: &Usual, rules: &Rules) -> Option<[f64; 2]> {
        if !self.is_warm(rules) {
            return None;
        }
        let say = (1.0 - f32::from(self.sum) / SUM_DRIFT).max(0.0);
        let mut limits = [0.0; 2];
        for (index, limit) in limits.iter_mut().enumerate() {
            let at = |levels: &[Level; 2]| levels.get(index).copied().unwrap_or_default();
            let (slow, location) = (at(&self.slow), at(&usual.location));
            let spread = f32::from(usual.spread.get(index).copied().unwrap_or(OCTAVE));
            let fast = slow.above(location) + i32::from(self.fast.get(index).copied().unwrap_or(0)) * FAST;
            let present = (fast as f32).clamp(0.0, spread) * say;
            *limit = location.raised(Dither(0).whole(present + (rules.spreads * spread).max(f32::from(OCTAVE)))).rate();
        }
        Some(limits)
    }

    /// Whether learning is stopped.
    #[cfg(test)]
    pub(super) fn is_stopped(&self) -> bool {
        self.run & STOPPED != 0
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the clock wraps")]
fn stamp_of(now: u64) -> u16 {
    now as u16
}
