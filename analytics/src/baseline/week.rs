//! What is normal of a prefix by the hour of the week, beside what is normal whatever the hour.

use std::collections::BTreeMap;

use schemas::counter::Target;

use super::cell::{Cell, Rules, TICK_SECONDS, UNITS_AN_HOUR, Usual};
use super::level::{Dither, Level, OCTAVE, within};

/// Hours of a week.
const HOURS: usize = 168;
/// Units of the cells' clock in an hour.
const HOUR: u64 = 3_600 / TICK_SECONDS;
/// Values of an hour before it counts: an hour has sixty, so that these are of two weeks.
const MINUTES_MIN: u16 = 90;
/// Values from which on the location of an hour makes its smallest steps: eight weeks.
const MINUTES_MAX: u16 = 480;
/// Values in which an hour's spread shrinks by an octave at most: ten weeks.
const SPREAD_MINUTES: f32 = 600.0;
const SPREAD_UP: f32 = 19.0;
const SPREAD_MIN: u16 = OCTAVE / 16;
/// How long a prefix must have been silent before it makes room: a day, in units of the cells' clock.
const SILENCE: u16 = 24 * UNITS_AN_HOUR;

/// One hour of the week; of each pair the first is of packets, the second of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hour {
    pub(super) location: [Level; 2],
    pub(super) spread: [u16; 2],
    /// Values learned.
    pub(super) minutes: u16,
}

impl Hour {
    fn learn(&mut self, value: [Level; 2], peak: [Level; 2], dither: &mut Dither) {
        if self.minutes == 0 {
            *self = Self { location: value, spread: [OCTAVE; 2], minutes: 1 };
            return;
        }
        let gain = self.gain();
        for ((location, spread), (value, peak)) in self.location.iter_mut().zip(&mut self.spread).zip(value.into_iter().zip(peak)) {
            let up = if value.max(peak).above(*location) > i32::from(*spread) { SPREAD_UP } else { -1.0 };
            *spread = within(i32::from(*spread) + dither.whole(up * f32::from(OCTAVE) / SPREAD_MINUTES), SPREAD_MIN);
            *location = location.raised(dither.whole(gain * value.above(*location).signum() as f32));
        }
        self.minutes = self.minutes.saturating_add(1);
    }

    fn gain(&self) -> f32 {
        f32::from(OCTAVE) / f32::from(self.minutes.clamp(1, MINUTES_MAX))
    }

    /// Takes back what so many minutes of a drift have moved at most.
    fn undo(&mut self, minutes: u16) {
        let minutes = minutes.min(self.minutes);
        if self.counts() {
            let [down, narrower] =
                [self.gain(), SPREAD_UP * f32::from(OCTAVE) / SPREAD_MINUTES].map(|step| Dither(0).whole(step * f32::from(minutes)));
            self.location = self.location.map(|location| location.raised(-down));
            self.spread = self.spread.map(|spread| within(i32::from(spread) - narrower, SPREAD_MIN.min(spread)));
            self.minutes -= minutes;
        }
    }

    /// Whether two weeks are known.
    fn counts(&self) -> bool {
        self.minutes >= MINUTES_MIN
    }

    fn usual(&self) -> Option<Usual> {
        self.counts().then_some(Usual { location: self.location, spread: self.spread })
    }
}

/// One prefix and direction: 1.7 kB.
#[derive(Clone, Debug)]
pub(super) struct Week {
    pub(super) cell: Cell,
    pub(super) hours: Box<[Hour; HOURS]>,
}

impl Default for Week {
    fn default() -> Self {
        Self { cell: Cell::default(), hours: Box::new([Hour::default(); HOURS]) }
    }
}

/// The hour of the week that holds `now`, by UTC; the first begins on a Thursday, as unix time does.
fn hour_of(now: u64) -> usize {
    usize::try_from(now / HOUR % HOURS as u64).unwrap_or(0)
}

impl Week {
    /// What is usual at this hour; whatever the hour, until two weeks are known.
    fn usual(&self, now: u64) -> Usual {
        self.hours.get(hour_of(now)).and_then(Hour::usual).unwrap_or_else(|| self.cell.usual())
    }

    /// Takes in a span's rates, and learns the minute that it closes.
    pub(super) fn report(&mut self, rates: [f64; 2], now: u64) -> Option<[Level; 2]> {
        self.cell.report(rates, now)
    }

    /// Learns the value of a minute; see [`Cell::learn`]. Returns whether it has.
    ///
    /// An hour that does not count yet is learned even if traffic drifts away from what is usual whatever the hour: that is what such an hour is for.
    pub(super) fn learn(&mut self, value: [Level; 2], peak: [Level; 2], now: u64, rules: &Rules, dither: &mut Dither) -> bool {
        let (usual, drift) = (self.usual(now), self.cell.drift_minutes());
        let learns = self.cell.learn(value, peak, &usual, rules, dither);
        if !learns {
            self.undo(drift, now);
        }
        if let Some(hour) = self.hours.get_mut(hour_of(now)).filter(|hour| learns || !hour.counts()) {
            hour.learn(value, peak, dither);
        }
        learns
    }

    /// An attack is going on; see [`Cell::hold`].
    pub(super) fn hold(&mut self, now: u64, rules: &Rules) {
        self.undo(self.cell.drift_minutes(), now);
        self.cell.hold(rules);
    }

    /// Takes the last so many minutes back from the hours that they were of.
    fn undo(&mut self, minutes: u16, now: u64) {
        let (mut left, mut at) = (u64::from(minutes), now);
        while left > 0 {
            let own = (at % HOUR / (60 / TICK_SECONDS)).clamp(1, left);
            if let Some(hour) = self.hours.get_mut(hour_of(at)) {
                hour.undo(u16::try_from(own).unwrap_or(u16::MAX));
            }
            left -= own;
            at = at.saturating_sub(own * (60 / TICK_SECONDS)).saturating_sub(1);
        }
    }

    /// Packets and bits a second that the prefix may carry: by this hour, and by the one that is nearest to it, whichever is more.
    pub(super) fn limit(&self, now: u64, rules: &Rules) -> Option<[f64; 2]> {
        let near = if now % HOUR < HOUR / 2 { now.saturating_sub(HOUR) } else { now + HOUR };
        let [this, near] = [now, near].map(|at| self.cell.limit(&self.usual(at), rules));
        let ([packets, bits], [near_packets, near_bits]) = (this?, near?);
        Some([packets.max(near_packets), bits.max(near_bits)])
    }

    /// What is usual now, in packets a second: location and 95th percentile.
    pub(super) fn packets(&self, now: u64) -> Usual {
        self.usual(now)
    }
}

/// The prefixes, at most so many.
#[derive(Debug)]
pub(super) struct Weeks {
    weeks: BTreeMap<Target, Week>,
    weeks_max: usize,
    cleared_at: u64,
}

impl Weeks {
    pub(super) fn new(weeks_max: usize) -> Self {
        Self { weeks: BTreeMap::new(), weeks_max, cleared_at: 0 }
    }

    pub(super) fn get(&self, target: &Target) -> Option<&Week> {
        self.weeks.get(target)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Target, &Week)> {
        self.weeks.iter()
    }

    /// The prefix's, made if there is room; `None` if there is none. Those silent for a day make room, which is looked for once a minute.
    pub(super) fn entry(&mut self, target: Target, now: u64) -> Option<&mut Week> {
        if self.weeks.len() >= self.weeks_max && !self.weeks.contains_key(&target) {
            if now < self.cleared_at + 60 / TICK_SECONDS {
                return None;
            }
            self.cleared_at = now;
            self.weeks.retain(|_, week| week.cell.silence(now) < SILENCE);
            if self.weeks.len() >= self.weeks_max {
                return None;
            }
        }
        Some(self.weeks.entry(target).or_default())
    }
}
