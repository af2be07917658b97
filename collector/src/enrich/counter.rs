//! The interfaces' own counters: from samples to what was counted between them, by the minute.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

use schemas::interface::{Counter, CounterSample};
use schemas::net::Address;
use schemas::time::Timestamp;

use super::interface::{Config, Metrics, Source};

const MINUTE_MILLISECONDS: u64 = 60_000;
/// Two samples that lie further apart are not compared: a counter of 32 bits may have wrapped more than once.
const GAP_MILLISECONDS_MAX: u64 = 900_000;
/// How far a device's clock may be off before a new uptime that is smaller is a restart and no wrap.
const UPTIME_SLACK_MILLISECONDS: u64 = 60_000;
/// An interface that tells nothing for so long gives its place up.
const IDLE_MILLISECONDS: u64 = 3_600_000;
/// How often minutes that are over are ended though no sample comes.
const SWEEP_MILLISECONDS: u64 = 5_000;

/// What one interface counted in one minute, by one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minute {
    /// Who told it.
    pub exporter: Address,
    /// `ifIndex`.
    pub interface: u32,
    /// [`Source::Sflow`] or [`Source::Snmp`].
    pub source: Source,
    /// When the minute began.
    pub time: Timestamp,
    /// Octets in, layer 2 included.
    pub octets_in: u64,
    /// Octets out, layer 2 included.
    pub octets_out: u64,
    /// Packets in.
    pub packets_in: u64,
    /// Packets out.
    pub packets_out: u64,
    /// The time between the samples that this was counted in; it may have begun in the minute before.
    pub milliseconds: u64,
    /// Bits a second, 0 if not known.
    pub speed_bits: u64,
    /// Whether it was up at the last sample.
    pub is_up: bool,
}

/// One interface of one source.
#[derive(Debug)]
struct Track {
    last: CounterSample,
    /// The minute that is going on, once two samples were compared in it.
    running: Option<Minute>,
    /// Minutes that are over, the newest last.
    kept: VecDeque<Minute>,
}

type Key = (Address, u32, Source);

/// The counters of all interfaces.
#[derive(Debug)]
pub(super) struct Counters {
    tracks: HashMap<Key, Track>,
    waiting: VecDeque<Minute>,
    tracks_max: usize,
    minutes_max: usize,
    waiting_max: usize,
    swept_at: Timestamp,
}

impl Counters {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            tracks: HashMap::new(),
            waiting: VecDeque::new(),
            tracks_max: config.interfaces_max,
            minutes_max: config.minutes_max.max(1),
            waiting_max: config.minutes_waiting_max,
            swept_at: Timestamp::default(),
        }
    }

    /// Takes one sample, and what was counted since the one before.
    pub(super) fn take(&mut self, exporter: Address, source: Source, sample: &CounterSample, metrics: &Metrics) {
        let key = (exporter, sample.interface, source);
        let full = self.tracks.len() >= self.tracks_max;
        let Some(track) = self.tracks.get_mut(&key) else {
            if full {
                metrics.counters_refused.fetch_add(1, Relaxed);
            } else {
                self.tracks.insert(key, Track { last: *sample, running: None, kept: VecDeque::new() });
                metrics.counted.store(u64::try_from(self.tracks.len()).unwrap_or(u64::MAX), Relaxed);
            }
            return;
        };
        // Several agents behind one address may use the same number: the first is followed for as long as it tells anything.
        if sample.agent != track.last.agent && sample.at.since(track.last.at) < GAP_MILLISECONDS_MAX || sample.at <= track.last.at {
            return;
        }
        let earlier = std::mem::replace(&mut track.last, *sample);
        let Some(difference) = difference(&earlier, sample) else {
            metrics.counter_resets.fetch_add(1, Relaxed);
            return;
        };
        let time = Timestamp(sample.at.milliseconds() / MINUTE_MILLISECONDS * MINUTE_MILLISECONDS);
        if track.running.as_ref().is_some_and(|running| running.time != time) {
            let ended = track.running.take();
            ended.into_iter().for_each(|minute| keep(track, minute, self.minutes_max, &mut self.waiting));
        }
        let running = track.running.get_or_insert(Minute {
            exporter,
            interface: sample.interface,
            source,
            time,
            octets_in: 0,
            octets_out: 0,
            packets_in: 0,
            packets_out: 0,
            milliseconds: 0,
            speed_bits: 0,
            is_up: false,
        });
        running.octets_in += difference.octets_in;
        running.octets_out += difference.octets_out;
        running.packets_in += difference.packets_in;
        running.packets_out += difference.packets_out;
        running.milliseconds += difference.milliseconds;
        (running.speed_bits, running.is_up) = (sample.speed_bits, sample.is_up);
        self.bound(metrics);
    }

    /// Ends the minutes that are over and forgets who has gone.
    pub(super) fn sweep(&mut self, now: Timestamp, metrics: &Metrics) {
        if now >= self.swept_at && now.since(self.swept_at) < SWEEP_MILLISECONDS {
            return;
        }
        self.swept_at = now;
        let (waiting, minutes_max) = (&mut self.waiting, self.minutes_max);
        self.tracks.retain(|_, track| {
            // A sample of the second before the turn may still be on its way.
            if let Some(ended) = track.running.take_if(|running| now.since(running.time) > MINUTE_MILLISECONDS + SWEEP_MILLISECONDS) {
                keep(track, ended, minutes_max, waiting);
            }
            now.since(track.last.at) < IDLE_MILLISECONDS
        });
        metrics.counted.store(u64::try_from(self.tracks.len()).unwrap_or(u64::MAX), Relaxed);
        self.bound(metrics);
    }

    /// Ends every minute.
    pub(super) fn finish(&mut self, metrics: &Metrics) {
        let (waiting, minutes_max) = (&mut self.waiting, self.minutes_max);
        for track in self.tracks.values_mut() {
            let ended = track.running.take();
            ended.into_iter().for_each(|minute| keep(track, minute, minutes_max, waiting));
        }
        self.bound(metrics);
    }

    /// Drops the oldest of the minutes for which there is no room.
    fn bound(&mut self, metrics: &Metrics) {
        while self.waiting.len() > self.waiting_max {
            self.waiting.pop_front();
            metrics.minutes_dropped.fetch_add(1, Relaxed);
        }
        metrics.minutes_waiting.store(u64::try_from(self.waiting.len()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn take_waiting(&mut self, max: usize, metrics: &Metrics) -> Vec<Minute> {
        let taken = self.waiting.drain(..max.min(self.waiting.len())).collect();
        self.bound(metrics);
        taken
    }

    pub(super) fn minutes(&self, exporter: Address, from: Timestamp, to: Timestamp) -> Vec<Minute> {
        let own = self.tracks.iter().filter(|((told_by, ..), _)| *told_by == exporter);
        let minutes = own.flat_map(|(_, track)| track.kept.iter().chain(&track.running));
        let mut found: Vec<Minute> = minutes.filter(|minute| (from..to).contains(&minute.time)).cloned().collect();
        found.sort_by_key(|minute| (minute.interface, minute.source, minute.time));
        found
    }
}

fn keep(track: &mut Track, minute: Minute, minutes_max: usize, waiting: &mut VecDeque<Minute>) {
    if track.kept.len() >= minutes_max {
        track.kept.pop_front();
    }
    track.kept.push_back(minute.clone());
    waiting.push_back(minute);
}

/// What was counted between two samples.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    octets_in: u64,
    octets_out: u64,
    packets_in: u64,
    packets_out: u64,
    milliseconds: u64,
}

/// What was counted since `earlier`; `None` if the device has lost count in between, or nobody can tell.
fn difference(earlier: &CounterSample, now: &CounterSample) -> Option<Difference> {
    let milliseconds = now.at.since(earlier.at);
    let is_another = now.agent != earlier.agent || now.discontinuity != earlier.discontinuity;
    if is_another || milliseconds > GAP_MILLISECONDS_MAX || has_restarted(earlier, now, milliseconds) {
        return None;
    }
    let packets = |now: &[Counter; 3], earlier: &[Counter; 3]| {
        // Devices without one of the three count its packets with another.
        now.iter().zip(earlier).filter_map(|(now, earlier)| now.since(*earlier)).sum()
    };
    let difference = Difference {
        octets_in: now.octets_in.since(earlier.octets_in)?,
        octets_out: now.octets_out.since(earlier.octets_out)?,
        packets_in: packets(&now.packets_in, &earlier.packets_in),
        packets_out: packets(&now.packets_out, &earlier.packets_out),
        milliseconds,
    };
    // More than the line carries, with room for a sample that came late: the counter was set to another value.
    let octets_max = u128::from(now.speed_bits) * u128::from(milliseconds + 2_000) / 8_000 * 2;
    let most = u128::from(difference.octets_in.max(difference.octets_out));
    (now.speed_bits == 0 || most <= octets_max).then_some(difference)
}

/// Whether the device was started anew: its uptime is smaller, and has not merely wrapped.
fn has_restarted(earlier: &CounterSample, now: &CounterSample, milliseconds: u64) -> bool {
    if now.uptime_milliseconds >= earlier.uptime_milliseconds {
        return false;
    }
    earlier.uptime_milliseconds + milliseconds + UPTIME_SLACK_MILLISECONDS < now.uptime_wraps_at
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORTER: Address = Address::from_v4(0xc000_0201);
    /// Twelve o'clock.
    const START: u64 = 1_795_176_000_000;

    /// A sample `seconds` after the start, of so many octets in, twice as many out, and a thousandth of that in packets.
    fn sample(seconds: u64, octets: u64) -> CounterSample {
        let packets = Counter::Bits32(u32::try_from(octets / 1_000 % (1 << 32)).unwrap());
        CounterSample {
            interface: 7,
            at: Timestamp(START + seconds * 1_000),
            uptime_milliseconds: 5_000_000 + seconds * 1_000,
            uptime_wraps_at: 1 << 32,
            speed_bits: 1_000_000_000,
            is_up: true,
            octets_in: Counter::Bits64(octets),
            octets_out: Counter::Bits64(octets * 2),
            packets_in: [packets, Counter::Unknown, Counter::Bits32(3)],
            packets_out: [packets, Counter::Bits32(0), Counter::Bits32(0)],
            ..CounterSample::default()
        }
    }

    fn counters(config: &Config, samples: &[CounterSample]) -> (Counters, Metrics) {
        let (mut counters, metrics) = (Counters::new(config), Metrics::default());
        samples.iter().for_each(|sample| counters.take(EXPORTER, Source::Sflow, sample, &metrics));
        (counters, metrics)
    }

    #[test]
    fn what_lies_between_samples_belongs_to_the_minute_of_the_later_one() {
        let samples: Vec<_> = [0, 20, 40, 60, 80].iter().map(|&seconds| sample(seconds, 1_000_000 + seconds * 50_000)).collect();
        let (mut counters, metrics) = counters(&Config::default(), &samples);
        let minutes = counters.minutes(EXPORTER, Timestamp(START), Timestamp(START + 120_000));
        let seen: Vec<_> =
            minutes.iter().map(|it| (it.time.0 - START, it.octets_in, it.octets_out, it.packets_in, it.milliseconds)).collect();
        // 40 s of 50,000 octets each in the first minute, the 40 s to 80 in the second.
        assert_eq!(seen, [(0, 2_000_000, 4_000_000, 2_000, 40_000), (60_000, 2_000_000, 4_000_000, 2_000, 40_000)]);
        assert_eq!(counters.take_waiting(10, &metrics).len(), 1, "the second minute is still going on");
        counters.sweep(Timestamp(START + 126_000), &metrics);
        assert_eq!(counters.take_waiting(10, &metrics).len(), 1);
        counters.finish(&metrics);
        assert_eq!((counters.take_waiting(10, &metrics).len(), metrics.minutes_dropped.load(Relaxed)), (0, 0));
    }

    #[test]
    fn wraps_are_counted_through_and_resets_are_not() {
        let between = |change: &dyn Fn(&mut CounterSample, &mut CounterSample)| {
            let (mut earlier, mut now) = (sample(0, 4_000_000), sample(20, 5_000_000));
            change(&mut earlier, &mut now);
            difference(&earlier, &now)
        };
        assert!(between(&|_, _| {}).is_some());
        let wrapped = between(&|earlier, now| {
            (earlier.octets_in, now.octets_in) = (Counter::Bits32(u32::MAX - 9), Counter::Bits32(90));
            (earlier.packets_in[0], now.packets_in[0]) = (Counter::Bits32(u32::MAX), Counter::Bits32(4));
        });
        assert_eq!(wrapped.map(|it| (it.octets_in, it.packets_in)), Some((100, 5)));
        assert_eq!(between(&|_, now| now.octets_in = Counter::Bits64(3)), None, "a 64-bit counter that is smaller");
        assert_eq!(between(&|_, now| now.uptime_milliseconds = 10_000), None, "the device was started anew");
        assert_eq!(between(&|_, now| now.discontinuity = 9), None, "it says that it has lost count");
        assert_eq!(between(&|_, now| now.agent = Address(1)), None);
        assert_eq!(between(&|_, now| now.octets_in = Counter::Unknown), None);
        assert_eq!(between(&|_, now| now.octets_in = Counter::Bits64(1 << 60)), None, "more than the line carries");
        // The uptime of 32 bits in milliseconds wraps after 49.7 days.
        let wrap = (1 << 32) - 15_000;
        assert!(between(&|earlier, now| (earlier.uptime_milliseconds, now.uptime_milliseconds) = (wrap, 5_000)).is_some());
        assert_eq!(difference(&sample(0, 1_000), &sample(1_000, 2_000)), None, "too long ago");
    }

    #[test]
    fn every_bound_has_its_count() {
        let config = Config { interfaces_max: 1, minutes_max: 2, minutes_waiting_max: 3, ..Config::default() };
        let samples: Vec<_> = (0..20).map(|minute| sample(minute * 60, minute * 1_000)).collect();
        let (mut counters, metrics) = counters(&config, &samples);
        counters.take(Address(9), Source::Sflow, &samples[0], &metrics);
        assert_eq!(metrics.counters_refused.load(Relaxed), 1);
        // 19 differences; the last minute is going on, two more are in memory, three wait and fifteen were dropped.
        assert_eq!(counters.minutes(EXPORTER, Timestamp(0), Timestamp(u64::MAX)).len(), 3);
        assert_eq!((metrics.minutes_waiting.load(Relaxed), metrics.minutes_dropped.load(Relaxed)), (3, 15));
        assert_eq!(counters.take_waiting(2, &metrics).len(), 2);
        counters.sweep(Timestamp(START + 2 * 3_600_000 + 2_000_000), &metrics);
        assert_eq!(metrics.counted.load(Relaxed), 0);
    }
}
