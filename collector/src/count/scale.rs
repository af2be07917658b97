//! Limits turned into the units of the bounds.
//!
//! A record counts in several metrics at once: all traffic, its protocol, its flags. Its units are those of the metric in which it is
//! most of its limit: then their sum is at least the sum of any one metric, and the bound holds for each of them.

use std::collections::HashMap;

use schemas::counter::Target;
use schemas::incident::{Metric, Unit};
use schemas::limit::{Limit, Limits};

use super::bound::{SUSPICION, SUSPICION_SHARE};
use super::kind::Kind;
use super::traffic::Amount;

/// The limits in use, each once: an entry holds its limit's number.
#[derive(Debug)]
pub(super) struct Scales {
    limits: Limits,
    numbers: HashMap<[u64; Metric::COUNT], u16>,
    scales: Vec<Scale>,
    /// Units that a second of the limit is worth, for windows of 0.1 and 1 s.
    units: [f32; 2],
}

/// What a record weighs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) packets: f32,
    pub(super) octets: f32,
    /// Number of its class.
    pub(super) class: u8,
}

/// Seconds of the limit that a record is worth.
#[derive(Clone, Debug)]
struct Scale {
    /// By class: of one packet and one octet, by the metric that the class counts in of which that is most.
    classes: [[f32; 2]; Kind::CLASSES],
    /// Of the record itself.
    flow: f32,
}

impl Scale {
    #[expect(clippy::cast_possible_truncation, reason = "single precision is enough for a bound that is rounded up")]
    fn of(limit: &Limit) -> Self {
        let mut class = 0u8;
        let classes = [(); Kind::CLASSES].map(|()| {
            let kind = Kind::of_class(class);
            class += 1;
            // A packet without octets counts in the packets of its metrics, octets without packets in their bits.
            let [packet, octet] = [(1.0, 0.0, Unit::Packets), (0.0, 1.0, Unit::Bits)].map(|(packets, octets, unit)| {
                let volume = Amount::of(packets, octets, kind).volume();
                let least = volume.count(if unit == Unit::Bits { Metric::BitsPerSecond } else { Metric::PacketsPerSecond });
                let seconds = limit.limited().filter(|metric| metric.unit() == unit).map(|metric| {
                    // Of a limit below one packet, or one octet, a second it is that.
                    volume.count(metric) / limit.get(metric).max(least)
                });
                seconds.fold(0.0, f64::max) as f32
            });
            [packet, octet]
        });
        Self { classes, flow: limit.get(Metric::FlowsPerSecond).max(1.0).recip() as f32 }
    }
}

impl Scales {
    #[expect(clippy::cast_possible_truncation, reason = "single precision is enough for a bound that is rounded up")]
    pub(super) fn new(limits: Limits) -> Self {
        let [burst, longer @ ..] = limits.multiples;
        // A window of 5 or 30 s over its limit has a second in it that is as much over it.
        let smallest = longer.into_iter().fold(f64::INFINITY, f64::min);
        let units =
            |window_seconds: f64, multiple: f64| (f64::from(SUSPICION) / (f64::from(SUSPICION_SHARE) * multiple * window_seconds)) as f32;
        Self { units: [units(0.1, burst), units(1.0, smallest)], numbers: HashMap::new(), scales: Vec::new(), limits }
    }

    /// The number of the limit that holds for a target.
    pub(super) fn number(&mut self, target: Target) -> u16 {
        let limit = self.limits.of(target);
        let bits = limit.to_bits();
        if let Some(&number) = self.numbers.get(&bits) {
            return number;
        }
        // So many different limits nobody has; should it be, the rest are held to the first.
        let Ok(number) = u16::try_from(self.scales.len()) else {
            return 0;
        };
        self.scales.push(Scale::of(&limit));
        self.numbers.insert(bits, number);
        number
    }

    /// Units of a second of the limit in windows that see the share `weights` of a flow.
    #[inline]
    pub(super) fn units(&self, weights: [f32; 2]) -> [f32; 2] {
        let ([burst, second], [burst_weight, second_weight]) = (self.units, weights);
        [burst * burst_weight, second * second_weight]
    }

    /// What a record adds to the bounds, rounded up; `units` are those of [`Scales::units`].
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most 65,534")]
    pub(super) fn weigh(&self, number: u16, weight: Weight, units: [f32; 2]) -> [u16; 2] {
        let seconds = self.seconds(number, weight);
        units.map(|units| {
            let units = seconds * units;
            // In this order what is no number is the largest.
            let units = if units < 65_534.0 { units } else { 65_534.0 };
            // At 2²³ the last bit of the fraction is worth one: the sum is rounded to it, by at most a half.
            (units + 8_388_608.0).to_bits() as u16 + 1
        })
    }

    /// The part of its limit that a record is in a window of a second that sees the share `seen` of it.
    pub(super) fn share(&self, number: u16, weight: Weight, seen: f32) -> f32 {
        self.seconds(number, weight) * seen
    }

    /// Seconds of the limit that a record is worth.
    #[inline]
    fn seconds(&self, number: u16, Weight { packets, octets, class }: Weight) -> f32 {
        let Some(Scale { classes, flow }) = self.scales.get(usize::from(number)) else {
            return 0.0;
        };
        let [packet, octet] = classes.get(usize::from(class)).copied().unwrap_or_default();
        let (by_packets, by_octets) = (packets * packet, octets * octet);
        let most = if by_packets > by_octets { by_packets } else { by_octets };
        if most > *flow { most } else { *flow }
    }
}
