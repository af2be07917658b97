//! The wire: sources of packets on a virtual clock, drawn as an exporter samples them.
//!
//! Packets of many independent senders are a Poisson process, and a sampler that takes each packet with probability 1/n makes of a Poisson
//! process of rate r one of rate r/n, whatever it does with the rest (thinning). So only what is sampled is drawn, at its own rate: the samples
//! are the same in law as if every packet had been made and thrown away, and a day of a host costs as much as its samples. Rates hold for a
//! while and then change; the process has no memory, so that it may be drawn anew where they do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bench::synthesize::{Flow, Random};
use schemas::net::Address;
use schemas::time::Timestamp;

/// Microseconds since the run began.
pub(super) type Micros = u64;

/// A second.
pub(super) const SECOND: Micros = 1_000_000;

/// When every run begins: midnight (UTC) of a Monday, 2026-01-05.
pub(super) const EPOCH: Timestamp = Timestamp(20_458 * 86_400_000);

/// A moment of a run as the pipe knows it.
pub(super) fn stamp(at: Micros) -> Timestamp {
    EPOCH.plus(at / 1_000)
}

/// Where our hosts are.
pub(super) const NETWORKS: [&str; 2] = ["10.0.0.0/8", "2001:db8::/32"];

/// Whether an address is one of ours.
pub(super) fn is_ours(address: Address) -> bool {
    if address.is_v4() { address.0 >> 24 & 0xff == 10 } else { address.0 >> 96 == 0x2001_0db8 }
}

/// Seconds as microseconds; nothing below 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, which is what is wanted")]
pub(super) fn micros(seconds: f64) -> Micros {
    (seconds * 1e6) as Micros
}

/// A rate as a whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, which is what is wanted")]
pub(super) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// An even number from 0 up to, and without, 1.
pub(super) fn unit(random: &mut Random) -> f64 {
    (random.number() >> 11) as f64 / (1u64 << 53) as f64
}

/// A number of the exponential distribution of mean 1.
pub(super) fn exponential(random: &mut Random) -> f64 {
    -(1.0 - unit(random)).ln()
}

/// A number of the standard normal distribution (Box and Muller).
pub(super) fn normal(random: &mut Random) -> f64 {
    (2.0 * exponential(random)).sqrt() * (std::f64::consts::TAU * unit(random)).cos()
}

/// Something that acts at moments of its own.
pub(super) trait Source {
    /// The first moment after `from` at which it acts; `None` once it is over.
    fn next(&mut self, from: Micros, random: &mut Random) -> Option<Micros>;

    /// Acts at a moment that it has named.
    fn act(&mut self, at: Micros, random: &mut Random, acts: &mut Acts);
}

/// What sources have done at one moment.
#[derive(Default)]
pub(super) struct Acts {
    /// Sampled packets, and the number of the exporter that sampled them.
    pub(super) packets: Vec<(usize, Flow)>,
    /// Sources that begin now.
    pub(super) born: Vec<Box<dyn Source>>,
}

/// All sources of a run, in the order of time; the same seed gives the same packets.
pub(super) struct Wire {
    sources: Vec<Option<Box<dyn Source>>>,
    free: Vec<usize>,
    queue: BinaryHeap<Reverse<(Micros, usize)>>,
    random: Random,
    acts: Acts,
}

impl Wire {
    /// A silent wire.
    pub(super) fn new(seed: u64) -> Self {
        Self { sources: Vec::new(), free: Vec::new(), queue: BinaryHeap::new(), random: Random::new(seed), acts: Acts::default() }
    }

    /// Adds a source that may act from `from` on.
    pub(super) fn add(&mut self, mut source: Box<dyn Source>, from: Micros) {
        let Some(next) = source.next(from, &mut self.random) else { return };
        let place = self.free.pop().unwrap_or_else(|| {
            self.sources.push(None);
            self.sources.len() - 1
        });
        if let Some(own) = self.sources.get_mut(place) {
            *own = Some(source);
        }
        self.queue.push(Reverse((next, place)));
    }

    /// When anything happens next.
    pub(super) fn next(&self) -> Option<Micros> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Lets the next source act, and gives each of its packets to `take`.
    pub(super) fn step(&mut self, mut take: impl FnMut(usize, Flow)) {
        let Some(Reverse((at, place))) = self.queue.pop() else { return };
        let Some(Some(source)) = self.sources.get_mut(place) else { return };
        source.act(at, &mut self.random, &mut self.acts);
        if let Some(next) = source.next(at, &mut self.random) {
            self.queue.push(Reverse((next, place)));
        } else {
            self.sources.get_mut(place).into_iter().for_each(|own| *own = None);
            self.free.push(place);
        }
        for (exporter, flow) in self.acts.packets.drain(..) {
            take(exporter, flow);
        }
        for source in std::mem::take(&mut self.acts.born) {
            self.add(source, at);
        }
    }
}

/// How many packets a second a stream has on the wire, over time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rate {
    /// Always as many.
    Constant(f64),
    /// From nothing to `to` between two moments, in steps of a quarter of a second, and `to` from then on.
    Ramp { to: f64, begins: Micros, ends: Micros },
    /// `on` microseconds of each `period`, counted from `begins`.
    Pulses { rate: f64, begins: Micros, on: Micros, period: Micros },
    /// Around a mean, anew every `step`, by a lognormal factor of this spread; by the hour of the day too if `daily`.
    Noisy { mean: f64, spread: f64, step: Micros, daily: bool, seed: u64 },
}

/// A ramp's step.
const RAMP_STEP: Micros = SECOND / 4;

impl Rate {
    /// The rate at a moment, and until when it holds.
    pub(super) fn at(&self, at: Micros) -> (f64, Micros) {
        match *self {
            Self::Constant(rate) => (rate, Micros::MAX),
            Self::Ramp { to, begins, ends } if at < ends => {
                let until = (at / RAMP_STEP + 1) * RAMP_STEP;
                let part = until.min(ends).saturating_sub(begins) as f64 / (ends - begins).max(1) as f64;
                (to * part, until.min(ends))
            }
            Self::Ramp { to, .. } => (to, Micros::MAX),
            Self::Pulses { begins, .. } if at < begins => (0.0, begins),
            Self::Pulses { rate, begins, on, period } => {
                let within = (at - begins) % period;
                if within < on { (rate, at - within + on) } else { (0.0, at - within + period) }
            }
            Self::Noisy { mean, spread, step, daily, seed } => {
                let number = at / step;
                let mut own = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9));
                let factor = (spread * normal(&mut own) - spread * spread / 2.0).exp();
                let day = if daily { by_day(at) } else { 1.0 };
                (mean * factor * day, (number + 1) * step)
            }
        }
    }
}

/// The part of its daily mean that traffic has at a moment: least at five in the morning, most at nine in the evening.
fn by_day(at: Micros) -> f64 {
    let hour = (at / SECOND % 86_400) as f64 / 3_600.0;
    let wave = |hours: f64, peak: f64| ((hour - peak) * std::f64::consts::TAU / hours).cos();
    1.0 + 0.55 * wave(24.0, 19.0) + 0.15 * wave(12.0, 21.0)
}

/// What the packets of a stream look like.
pub(super) trait Shape {
    /// A packet, but for its moment.
    fn packet(&mut self, random: &mut Random) -> Flow;
}

/// Packets of one rate and shape, from a moment to another.
pub(super) struct Stream {
    /// Number of the exporter that they pass.
    pub(super) exporter: usize,
    /// One in so many is sampled.
    pub(super) interval: u32,
    /// When the first may come.
    pub(super) begins: Micros,
    /// When none comes any more.
    pub(super) ends: Micros,
    /// How many there are on the wire.
    pub(super) rate: Rate,
    /// What they look like.
    pub(super) shape: Box<dyn Shape>,
    /// Packets that are drawn as one: those of one flow within some milliseconds, where a cache only adds them up; 1 for each apart.
    pub(super) together: u32,
}

impl Source for Stream {
    fn next(&mut self, from: Micros, random: &mut Random) -> Option<Micros> {
        let mut at = from.max(self.begins);
        let share = 1e-6 / (f64::from(self.interval) * f64::from(self.together));
        while at < self.ends {
            let (rate, until) = self.rate.at(at);
            if rate > 0.0 {
                let gap = exponential(random) / (rate * share);
                if gap < until.min(self.ends).saturating_sub(at) as f64 {
                    return Some(at + micros(gap / 1e6));
                }
            }
            at = until;
        }
        None
    }

    fn act(&mut self, at: Micros, random: &mut Random, acts: &mut Acts) {
        let mut flow = self.shape.packet(random);
        (flow.start, flow.end) = (stamp(at), stamp(at));
        flow.octets *= u64::from(self.together);
        flow.packets = u64::from(self.together);
        acts.packets.push((self.exporter, flow));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench::synthesize::Fragment;

    struct Same;

    impl Shape for Same {
        fn packet(&mut self, _: &mut Random) -> Flow {
            Flow {
                source: Address::from_v4(1),
                destination: Address::from_v4(2),
                source_port: 1,
                destination_port: 2,
                protocol: 17,
                tcp_control_bits: 0,
                fragment: Fragment::Whole,
                packets: 1,
                octets: 100,
                start: EPOCH,
                end: EPOCH,
                ingress_interface: 1,
                egress_interface: 2,
                ttl: 60,
            }
        }
    }

    fn count(rate: Rate, seconds: u64) -> Vec<Micros> {
        let mut wire = Wire::new(7);
        let stream = Stream { exporter: 0, interval: 10, begins: 0, ends: seconds * SECOND, rate, shape: Box::new(Same), together: 1 };
        wire.add(Box::new(stream), 0);
        let mut moments = Vec::new();
        while let Some(at) = wire.next() {
            wire.step(|_, _| moments.push(at));
        }
        moments
    }

    /// 10,000 packets/s, one in ten, for 100 s: 100,000 samples, ± 316 (Poisson); 3.5 errors are 1,107. So is their variance in seconds: 1,000 in each.
    #[test]
    fn samples_have_the_mean_and_the_variance_of_a_thinned_poisson_process() {
        let moments = count(Rate::Constant(10_000.0), 100);
        assert!(moments.is_sorted() && moments.len().abs_diff(100_000) < 1_107, "{}", moments.len());
        let mut seconds = [0.0; 100];
        moments.iter().for_each(|at| seconds[usize::try_from(at / SECOND).unwrap()] += 1.0);
        let variance = seconds.iter().map(|held: &f64| (held - 1_000.0).powi(2)).sum::<f64>() / 100.0;
        // The variance of a variance of 100 numbers has a relative error of √(2/100) = 0.14.
        assert!((variance / 1_000.0 - 1.0).abs() < 0.5, "{variance}");
    }

    /// Half of what it would be at its end's rate; a quarter of it in the first half.
    #[test]
    fn a_ramp_grows_evenly_and_pulses_are_silent_between() {
        let ramp = count(Rate::Ramp { to: 10_000.0, begins: 0, ends: 100 * SECOND }, 100);
        assert!(ramp.len().abs_diff(50_000) < 1_000, "{}", ramp.len());
        assert!(ramp.iter().filter(|at| **at < 50 * SECOND).count().abs_diff(12_500) < 500);
        let pulses = count(Rate::Pulses { rate: 10_000.0, begins: SECOND, on: SECOND, period: 10 * SECOND }, 100);
        assert!(pulses.iter().all(|at| (*at - SECOND) % (10 * SECOND) < SECOND) && pulses.len().abs_diff(10_000) < 400, "{}", pulses.len());
    }

    /// A day's mean is 1, so that a mean rate is one.
    #[test]
    fn a_day_has_its_mean() {
        let mean = (0..1_440).map(|minute| by_day(minute * 60 * SECOND)).sum::<f64>() / 1_440.0;
        assert!((mean - 1.0).abs() < 1e-9 && by_day(5 * 3_600 * SECOND) < 0.5, "{mean}");
    }
}
