//! The attacks of a scenario: each on a target of its own, with its victims' ordinary traffic and answers.

use bench::synthesize::Random;
use schemas::counter::Direction;
use schemas::net::{Address, Prefix};

use super::bound;
use super::probe::Telemetry;
use super::scenario::{Attacks, Course, Limits, Scenario, Width};
use super::talk::{Kind, Mix};
use super::vector::{Assault, Reply, Vector, within};
use super::wire::{Micros, Rate, SECOND, Stream, Wire, micros, stamp};

/// Quiet before the first attack, so that exporters are known.
const BEFORE: Micros = 60 * SECOND;
/// After an attack's end its target is not looked at any more.
const AFTER: Micros = 150 * SECOND;
/// Ordinary traffic of a target before and after its attack.
const AROUND: Micros = 20 * SECOND;
/// How much ordinary traffic a target has, as a part of its limit.
const ORDINARY: f64 = 0.03;
/// Hosts of a prefix that have ordinary traffic.
const NEIGHBOURS: u32 = 8;

/// One attack, and what is true of it.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// The row of the table that it belongs to.
    pub(super) row: String,
    /// How many times its limit it has.
    pub(super) ratio: f64,
    /// Number of the exporter that it passes.
    pub(super) exporter: usize,
    /// Whom it hits, or from whom it comes.
    pub(super) target: Prefix,
    /// Towards the target or from it.
    pub(super) direction: Direction,
    /// The first packet on the wire.
    pub(super) begins: Micros,
    /// From when on it is over its limit: the first packet, or the moment at which it has grown so far.
    pub(super) visible: Micros,
    /// Of a cache, when the first record arrived with which what was told of it passed its limit.
    pub(super) evidence: Option<Micros>,
    /// The last packet.
    pub(super) ends: Micros,
    /// Family and subtype.
    pub(super) kind: (&'static str, Option<&'static str>),
    /// Packets and bits a second at its largest, ordinary traffic of the target included.
    pub(super) peak: [f64; 2],
    /// Whether it is nearer to its limit in bits than to that in packets.
    pub(super) is_of_bits: bool,
    /// The limits of its target.
    pub(super) limits: Limits,
    /// The largest recall that any detector could have.
    pub(super) bound: f64,
    /// Samples a second that traffic at its limit would have; `None` where every packet is told.
    pub(super) samples_per_second: Option<f64>,
    /// Whether it is as strong from its first packet to its last, so that times are promised for it.
    pub(super) is_steady: bool,
    /// Whether it is left out of the sums.
    pub(super) apart: bool,
}

/// Lays out the attacks of a scenario: their truth, and what is on the wire; answers when all is over, too.
pub(super) fn lay(scenario: &Scenario, wire: &mut Wire) -> (Vec<Trial>, Micros) {
    let mut random = Random::new(scenario.seed ^ 0x6174_7461_636b);
    let mut trials: Vec<Trial> = Vec::new();
    let mut free = BEFORE;
    for attacks in &scenario.attacks {
        for draw in draws(attacks, &scenario.telemetry) {
            let number = trials.len();
            let begins = free + u64::from(random.below(1_000_000));
            free += micros(attacks.every_seconds);
            let plan = Plan { attacks, draw, begins, seed: random.number(), limits: scenario.limits };
            trials.push(plan.lay(number, scenario.telemetry.get(draw.exporter), wire));
        }
    }
    let end = trials.iter().map(|trial| trial.ends).max().unwrap_or(0) + AFTER;
    (trials, end)
}

/// What distinguishes one attack of a list.
#[derive(Clone, Copy)]
struct Draw {
    vector: Vector,
    ratio: f64,
    width: Width,
    exporter: usize,
}

/// Every exporter with every ratio and what else has rows of its own, as often as is asked for; the rest takes turns.
fn draws(attacks: &Attacks, telemetry: &[Telemetry]) -> Vec<Draw> {
    let vectors = if attacks.vectors.is_empty() { Vector::ALL.to_vec() } else { attacks.vectors.clone() };
    let (vector_rows, target_rows) =
        (if attacks.each_vector { vectors.len() } else { 1 }, if attacks.each_target { attacks.targets.len() } else { 1 });
    let mut draws = Vec::new();
    // What takes turns goes on from one cell to the next, so that small cells together hold all of it.
    let mut turn = 0;
    for exporter in 0..telemetry.len() {
        for row in 0..vector_rows * target_rows {
            for &(ratio, count) in &attacks.ratios {
                for _ in 0..count {
                    let vector = vectors.get(if attacks.each_vector { row / target_rows } else { turn % vectors.len() });
                    let target = if attacks.each_target { row % target_rows } else { turn % attacks.targets.len().max(1) };
                    let drawn = vector.zip(attacks.targets.get(target));
                    draws.extend(drawn.map(|(vector, width)| Draw { vector: *vector, ratio, width: *width, exporter }));
                    // Kinds and targets are to meet in all pairs.
                    turn += 1 + usize::from(turn % vectors.len() == vectors.len() - 1 && vectors.len().is_multiple_of(2));
                }
            }
        }
    }
    draws
}

/// One attack to be laid out.
struct Plan<'a> {
    attacks: &'a Attacks,
    draw: Draw,
    begins: Micros,
    seed: u64,
    limits: Limits,
}

impl Plan<'_> {
    fn lay(&self, number: usize, telemetry: Option<&Telemetry>, wire: &mut Wire) -> Trial {
        let Self { attacks, draw: Draw { vector, ratio, width, exporter }, begins, .. } = *self;
        let target = target(number, width);
        let factor = if width.is_host() { 1.0 } else { schemas::limit::Limits::PREFIX_FACTOR };
        let limits =
            Limits { packets_per_second: self.limits.packets_per_second * factor, bits_per_second: self.limits.bits_per_second * factor };
        let octets = vector.mean_octets(target);
        let by_bits = limits.bits_per_second / (octets * 8.0);
        let limit = limits.packets_per_second.min(by_bits);
        let seconds = attacks.seconds + if let Course::Ramp { seconds } = attacks.course { seconds } else { 0.0 };
        let ends = begins + micros(seconds);
        let (rate, visible, stretch) = self.rate(ratio * limit);
        let (interval, loss) = telemetry.map_or((1, 0.0), |telemetry| (telemetry.interval, telemetry.loss));
        let samples_per_second = (interval > 1 || loss > 0.0).then(|| limit / f64::from(interval) * (1.0 - loss));
        let certain = f64::from(u8::from(ratio > 1.0));
        let bound = samples_per_second.map_or(certain, |samples| bound::recall(samples * stretch, ratio, stretch));
        let stream = |rate, shape, begins, ends| Stream { exporter, interval, begins, ends, rate, shape, together: 1 };
        let assault = Assault::new(vector, self.seed, target, attacks.direction);
        wire.add(Box::new(stream(rate, Box::new(assault), begins, ends)), 0);
        if attacks.direction == Direction::Incoming
            && let Some((answer, part, most)) = vector.answer()
        {
            let rate = Rate::Constant((ratio * limit * part).min(most * limits.packets_per_second));
            let reply = Reply { answer, victim: target };
            wire.add(Box::new(stream(rate, Box::new(reply), begins, ends)), 0);
        }
        let ordinary = ORDINARY * self.limits.packets_per_second;
        let hosts = if width.is_host() { 1 } else { NEIGHBOURS };
        let mut random = Random::new(self.seed);
        for _ in 0..hosts {
            let mix = Mix::new(Kind::Server, within(target, &mut random), self.seed);
            let rate = Rate::Noisy { mean: ordinary / f64::from(hosts), spread: 0.3, step: SECOND, daily: false, seed: self.seed };
            wire.add(Box::new(stream(rate, Box::new(mix), begins.saturating_sub(AROUND), ends + AROUND)), 0);
        }
        let packets = ratio * limit;
        Trial {
            row: self.row(),
            ratio,
            exporter,
            target,
            direction: attacks.direction,
            begins,
            visible,
            evidence: None,
            ends,
            kind: vector.kind(),
            peak: [packets + ordinary / 2.0, packets * octets * 8.0 + ordinary / 2.0 * 400.0 * 8.0],
            is_of_bits: by_bits < limits.packets_per_second,
            limits,
            bound,
            samples_per_second,
            is_steady: attacks.course == Course::Flat,
            apart: attacks.apart || ratio < 1.0,
        }
    }

    /// The rate over time, from when on it is over the limit, and for how many seconds in all.
    fn rate(&self, packets: f64) -> (Rate, Micros, f64) {
        let (begins, ratio, seconds) = (self.begins, self.draw.ratio, self.attacks.seconds);
        match self.attacks.course {
            Course::Flat => (Rate::Constant(packets), begins, seconds),
            Course::Ramp { seconds: growing } => {
                let ends = begins + micros(growing);
                let before = growing / ratio.max(1.0);
                (Rate::Ramp { to: packets, begins, ends }, begins + micros(before), seconds + growing - before)
            }
            Course::Pulses { on_seconds, period_seconds } => {
                let rate = Rate::Pulses { rate: packets, begins, on: micros(on_seconds), period: micros(period_seconds) };
                (rate, begins, seconds * on_seconds / period_seconds)
            }
        }
    }

    fn row(&self) -> String {
        let Self { attacks, draw, .. } = self;
        let course = match attacks.course {
            Course::Flat => String::new(),
            Course::Ramp { seconds } => format!(", grows for {seconds} s"),
            Course::Pulses { on_seconds, period_seconds } => format!(", {on_seconds} s of each {period_seconds} s"),
        };
        let kind = if attacks.each_vector { draw.vector.name() } else { "all kinds" };
        let target = if attacks.each_target { format!(", {}", draw.width) } else { String::new() };
        let outgoing = if attacks.direction == Direction::Outgoing { ", outgoing" } else { "" };
        format!("{kind}{target}{outgoing}{course}")
    }
}

/// The target of an attack: every one has a /22 or a /48 of its own.
fn target(number: usize, width: Width) -> Prefix {
    let number = number as u128;
    let first = if width.v4 {
        let network = u32::try_from(number % (1 << 14)).unwrap_or(0);
        Address::from_v4(0x0a00_0000 + (network << 10)).0
    } else {
        0x2001_0db8_u128 << 96 | (number & 0xffff) << 80 | 1 << 64
    };
    let host = if width.is_host() { 7 } else { 0 };
    Prefix::of(Address(first + host), width.length)
}

/// For tests: an attack of ten times the limit on a target, from a moment to another.
#[cfg(test)]
pub(super) fn trial_of(target: Prefix, begins: Micros, ends: Micros) -> Trial {
    Trial {
        row: "all kinds".to_owned(),
        ratio: 10.0,
        exporter: 0,
        target,
        direction: Direction::Incoming,
        begins,
        visible: begins,
        evidence: None,
        ends,
        kind: ("udp_flood", None),
        peak: [1e6, 1e9],
        is_of_bits: false,
        limits: Limits::default(),
        bound: 1.0,
        samples_per_second: None,
        is_steady: true,
        apart: false,
    }
}

impl Trial {
    /// Whether a moment belongs to it, and what comes of it late.
    pub(super) fn holds(&self, at: schemas::time::Timestamp) -> bool {
        at >= stamp(self.begins) && at <= stamp(self.ends).plus(AFTER / 1_000)
    }
}
