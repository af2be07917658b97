//! Time: from an exporter's uptime to unix milliseconds, and from an exporter's clock to ours.

use schemas::time::Timestamp;

/// An uptime clock, as the header of a datagram shows it: 32 bits of milliseconds, which wrap every 49.7 days.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uptime {
    /// Unix milliseconds of the earliest moment that is told apart: half a turn of the clock before the export.
    earliest: i64,
    /// What the clock showed then.
    uptime_milliseconds: u32,
}

impl Uptime {
    /// The clock that showed `uptime_milliseconds` when the datagram was exported.
    pub(crate) fn new(export_milliseconds: u64, uptime_milliseconds: u32) -> Self {
        // Headers tell 32 bits of seconds: far from where this could overflow.
        let export = export_milliseconds.min(1 << 62).cast_signed();
        Self { earliest: export - (1 << 31), uptime_milliseconds: uptime_milliseconds ^ 1 << 31 }
    }

    /// Unix milliseconds of a moment on the clock, up to half a turn before the export or behind it.
    ///
    /// Behind it, since a record may end a moment after the header's clock was read.
    #[inline]
    pub(crate) fn at(self, moment_milliseconds: u32) -> u64 {
        let since = moment_milliseconds.wrapping_sub(self.uptime_milliseconds);
        (self.earliest + i64::from(since)).max(0).cast_unsigned()
    }
}

/// Unix milliseconds of a moment on the uptime clock, given the export time and the uptime at it.
#[inline]
#[must_use]
pub(crate) fn from_uptime(export_milliseconds: u64, uptime_milliseconds: u32, moment_milliseconds: u32) -> u64 {
    Uptime::new(export_milliseconds, uptime_milliseconds).at(moment_milliseconds)
}

/// Seconds from the NTP epoch (1900) to the unix epoch.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// Unix milliseconds of a 64-bit NTP timestamp (RFC 5905 §6): seconds since 1900, then a binary fraction; 0 stays 0.
#[inline]
#[must_use]
pub(crate) fn from_ntp(timestamp: u64) -> u64 {
    if timestamp == 0 {
        return 0;
    }
    let (seconds, fraction) = (timestamp >> 32, timestamp & 0xffff_ffff);
    // Seconds below the unix epoch belong to the era that begins in 2036.
    let unix = if seconds >= NTP_TO_UNIX_SECONDS { seconds - NTP_TO_UNIX_SECONDS } else { seconds + (1 << 32) - NTP_TO_UNIX_SECONDS };
    unix * 1_000 + ((fraction * 1_000) >> 32)
}

/// Length of a window over which the smallest offset is held.
const WINDOW_MILLISECONDS: u64 = 60_000;
/// Offsets within this are none: headers of NetFlow v9 and IPFIX tell whole seconds, and networks delay.
const NO_OFFSET_MILLISECONDS: u64 = 2_000;

/// Datagrams in a row, over [`SET_MILLISECONDS`] at least, that must agree on a clock that was set forward.
const SET_DATAGRAMS: u32 = 3;
const SET_MILLISECONDS: u64 = 1_000;

/// How far an exporter's clock is from ours, by the least delayed of its recent datagrams.
///
/// `arrival - export` is the clock's offset plus a delay that is never negative, so its minimum is the best estimate. Two
/// windows are held, so that the estimate follows a clock that is set.
///
/// A minimum believes whoever says the least, and anybody may forge a header: what lies below the estimate by more than headers and networks
/// explain is believed when several datagrams in a row say so and none between them says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClockOffset {
    window_ends: u64,
    current: Option<i64>,
    previous: Option<i64>,
    claim: Option<Claim>,
}

/// A clock that is told to be set forward.
#[derive(Clone, Copy, Debug)]
struct Claim {
    offset: i64,
    since: Timestamp,
    datagrams: u32,
}

impl Claim {
    /// The claim with one more datagram that says `offset`; a new one if it says something else.
    fn joined(claim: Option<Self>, offset: i64, arrival: Timestamp) -> Self {
        match claim {
            Some(claim) if claim.offset.abs_diff(offset) <= NO_OFFSET_MILLISECONDS => {
                Self { offset: claim.offset.min(offset), datagrams: claim.datagrams.saturating_add(1), ..claim }
            }
            _ => Self { offset, since: arrival, datagrams: 1 },
        }
    }

    fn holds(&self, arrival: Timestamp) -> bool {
        self.datagrams >= SET_DATAGRAMS && arrival.since(self.since) >= SET_MILLISECONDS
    }
}

impl ClockOffset {
    /// Takes a datagram's export time (unix milliseconds, 0 if it has none) and returns what to add to the exporter's times.
    pub(crate) fn observe(&mut self, export_milliseconds: u64, arrival: Timestamp) -> i64 {
        if export_milliseconds == 0 {
            return 0;
        }
        let sample = signed_difference(arrival.0, export_milliseconds);
        if self.least().is_some_and(|least| sample < least && least.abs_diff(sample) > NO_OFFSET_MILLISECONDS) {
            let claim = Claim::joined(self.claim, sample, arrival);
            if claim.holds(arrival) {
                *self = Self { window_ends: arrival.0.saturating_add(WINDOW_MILLISECONDS), current: Some(claim.offset), ..Self::default() };
            } else {
                self.claim = Some(claim);
            }
            return self.estimate();
        }
        self.claim = None;
        if arrival.0 >= self.window_ends {
            // After a silence of more than a window, what was seen before it says nothing.
            self.previous = if arrival.0 < self.window_ends.saturating_add(WINDOW_MILLISECONDS) { self.current } else { None };
            self.current = None;
            self.window_ends = arrival.0.saturating_add(WINDOW_MILLISECONDS);
        }
        self.current = Some(self.current.map_or(sample, |least| least.min(sample)));
        self.estimate()
    }

    fn least(&self) -> Option<i64> {
        self.current.into_iter().chain(self.previous).min()
    }

    /// The offset as estimated so far, in milliseconds.
    pub(crate) fn estimate(&self) -> i64 {
        let least = self.least().unwrap_or(0);
        if least.unsigned_abs() <= NO_OFFSET_MILLISECONDS { 0 } else { least }
    }
}

/// From here on a difference between two sights of the same start is no fraction of a second: the clock was set, or started anew.
const START_MOVED_MILLISECONDS: u64 = 1_500;

/// When an exporter's uptime clock stood at 0, by its own clock: what its headers say, of the recent ones the latest.
///
/// Headers of NetFlow v9 tell whole seconds (RFC 3954 §5.1), so that `export - uptime` is early by the fraction that was cut off. Taken
/// as it is, every flow of a second would end in the tenth of a second in which that second began, ten times as strong as it was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UptimeStart {
    window_ends: u64,
    current: Option<i64>,
    previous: Option<i64>,
}

impl UptimeStart {
    /// Takes the two clocks of a datagram's header.
    pub(crate) fn observe(&mut self, export_milliseconds: u64, uptime_milliseconds: u32, arrival: Timestamp) {
        let sample = signed_difference(export_milliseconds, u64::from(uptime_milliseconds));
        if self.latest().is_some_and(|latest| latest.abs_diff(sample) > START_MOVED_MILLISECONDS) {
            *self = Self::default();
        }
        if arrival.0 >= self.window_ends {
            // Two windows, so that an uptime clock that runs slow is followed.
            self.previous = self.current.take();
            self.window_ends = arrival.0.saturating_add(WINDOW_MILLISECONDS);
        }
        self.current = Some(self.current.map_or(sample, |latest| latest.max(sample)));
    }

    fn latest(&self) -> Option<i64> {
        self.current.into_iter().chain(self.previous).max()
    }

    /// The fraction of a second that was cut off the export time of a header, in milliseconds.
    pub(crate) fn fraction_cut(&self, export_milliseconds: u64, uptime_milliseconds: u32) -> i64 {
        let sample = signed_difference(export_milliseconds, u64::from(uptime_milliseconds));
        self.latest().map_or(0, |latest| latest.saturating_sub(sample).clamp(0, 999))
    }
}

fn signed_difference(left: u64, right: u64) -> i64 {
    i64::try_from(i128::from(left) - i128::from(right)).unwrap_or(if left > right { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_began_before_the_uptime_wrapped_began_before_the_export() {
        // 10 ms before the wrap to 20 ms behind it: 30 ms ago.
        assert_eq!(from_uptime(1_000_000, 20, u32::MAX - 9), 999_970);
        assert_eq!(from_uptime(1_000_000, 20, 25), 1_000_005);
        assert_eq!(from_uptime(0, u32::MAX, 1), 2, "the age is −2 ms on a wrapped clock");
    }

    #[test]
    fn ntp_time_is_read_in_both_eras() {
        // 2_208_988_800 s after 1900 is 1970; half a second is 2^31 of the fraction.
        assert_eq!(from_ntp((2_208_988_800 << 32) | 1 << 31), 500);
        // Era 1 begins on 2036-02-07 06:28:16, unix 2_085_978_496.
        assert_eq!(from_ntp(1 << 32), 2_085_978_497_000);
        assert_eq!(from_ntp(0), 0);
    }

    #[test]
    fn the_least_delayed_datagram_tells_the_offset_and_jitter_does_not() {
        let mut clock = ClockOffset::default();
        // The exporter is two hours slow; delays of 900, 3 and 400 ms.
        for (second, delay) in [(0u64, 900u64), (1, 3), (2, 400)] {
            clock.observe(1_000_000_000 + second * 1_000, Timestamp(1_007_200_000 + second * 1_000 + delay));
        }
        assert_eq!(clock.estimate(), 7_200_003);
    }

    /// A datagram each 100 ms by a clock in step, and three forged ones between any two of them that say an hour ahead.
    #[test]
    fn forged_headers_do_not_move_the_clock_of_an_exporter_that_is_heard() {
        let mut clock = ClockOffset::default();
        for now in (1_000_000_000..1_000_200_000).step_by(100) {
            assert_eq!(clock.observe(now, Timestamp(now)), 0);
            for forged in 1..=3 {
                assert_eq!(clock.observe(now + 3_600_000, Timestamp(now + forged * 20)), 0);
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_forward_is_followed_when_several_datagrams_say_so() {
        let mut clock = ClockOffset::default();
        clock.observe(1_000_000_000, Timestamp(1_000_000_000));
        let offsets = [1_000_500, 1_001_000, 1_001_500, 1_002_000].map(|now| clock.observe(now * 1_000 + 300_000, Timestamp(now * 1_000)));
        assert_eq!(offsets, [0, 0, -300_000, -300_000]);
        // Three at once are one sender's burst, whoever that is.
        let mut clock = ClockOffset::default();
        clock.observe(1_000_000_000, Timestamp(1_000_000_000));
        assert!((1..=9).all(|now| clock.observe(1_000_300_000, Timestamp(1_000_000_000 + now)) == 0));
    }

    #[test]
    fn an_exporter_in_step_has_no_offset() {
        let mut clock = ClockOffset::default();
        assert_eq!(clock.observe(1_000_000, Timestamp(1_000_950)), 0);
        assert_eq!(clock.observe(1_001_000, Timestamp(1_000_400)), 0);
    }

    /// Started at 1,000,000,250 ms; a datagram each 100 ms, its header's time cut to whole seconds.
    #[test]
    fn whole_seconds_in_headers_do_not_gather_a_second_in_its_beginning() {
        let mut start = UptimeStart::default();
        let header = |now: u64| (now / 1_000 * 1_000, u32::try_from(now - 1_000_000_250).unwrap());
        for now in (1_000_050_000..1_000_052_000).step_by(100) {
            let (export, uptime) = header(now);
            start.observe(export, uptime, Timestamp(now));
        }
        for now in (1_000_052_000..1_000_053_000).step_by(100) {
            let (export, uptime) = header(now);
            start.observe(export, uptime, Timestamp(now));
            let ended = from_uptime(export, uptime, uptime).saturating_add_signed(start.fraction_cut(export, uptime));
            assert_eq!(ended, now, "a flow that ends as it is sent");
        }
    }

    #[test]
    fn an_uptime_that_starts_anew_and_a_clock_that_is_set_leave_no_fraction_behind() {
        let mut start = UptimeStart::default();
        start.observe(1_000_000_000, 500_000, Timestamp(1_000_000_000));
        start.observe(1_000_010_000, 0, Timestamp(1_000_010_000));
        assert_eq!(start.fraction_cut(1_000_010_000, 0), 0);
        // Set back by an hour.
        start.observe(996_411_000, 1_000, Timestamp(1_000_011_000));
        assert_eq!(start.fraction_cut(996_411_000, 1_000), 0);
    }

    #[test]
    fn a_clock_that_is_set_is_followed_within_two_windows() {
        let mut clock = ClockOffset::default();
        clock.observe(1_000_000_000, Timestamp(1_000_000_000));
        let mut offset = 0;
        for minute in 1..=3u64 {
            let arrival = 1_000_000_000 + minute * 60_000;
            offset = clock.observe(arrival - 3_600_000, Timestamp(arrival));
        }
        assert_eq!(offset, 3_600_000);
    }
}
