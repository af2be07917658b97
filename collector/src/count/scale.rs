//! Limits turned into the units of the bounds.

use std::collections::HashMap;

use schemas::incident::Metric;
use schemas::limit::Limits;
use schemas::net::Prefix;

use super::bound::{SUSPICION, SUSPICION_SHARE};

/// The limits in use, each once: an entry holds its limit's number.
#[derive(Debug)]
pub(super) struct Scales {
    limits: Limits,
    numbers: HashMap<[u64; 2], u16>,
    scales: Vec<Scale>,
    /// Units that a second of the limit is worth, for windows of 0.1 and 1 s.
    units: [f32; 2],
}

/// Seconds of the limit that one packet and one octet are worth.
#[derive(Clone, Copy, Debug, Default)]
struct Scale {
    packet: f32,
    octet: f32,
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

    /// The number of the limit that holds for a host or prefix.
    #[expect(clippy::cast_possible_truncation, reason = "single precision is enough for a bound that is rounded up")]
    pub(super) fn number(&mut self, prefix: Prefix) -> u16 {
        let limit = self.limits.of(prefix);
        let [packets_per_second, bits_per_second] = [Metric::PacketsPerSecond, Metric::BitsPerSecond].map(|metric| limit.get(metric));
        let bits = [packets_per_second.to_bits(), bits_per_second.to_bits()];
        if let Some(&number) = self.numbers.get(&bits) {
            return number;
        }
        // So many different limits nobody has; should it be, the rest are held to the first.
        let Ok(number) = u16::try_from(self.scales.len()) else {
            return 0;
        };
        let scale = Scale { packet: packets_per_second.max(1.0).recip() as f32, octet: 8.0 / bits_per_second.max(8.0) as f32 };
        self.scales.push(scale);
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
    pub(super) fn weigh(&self, number: u16, packets: f32, octets: f32, units: [f32; 2]) -> [u16; 2] {
        let seconds = self.seconds(number, packets, octets);
        units.map(|units| {
            let units = seconds * units;
            // In this order what is no number is the largest.
            let units = if units < 65_534.0 { units } else { 65_534.0 };
            // At 2²³ the last bit of the fraction is worth one: the sum is rounded to it, by at most a half.
            (units + 8_388_608.0).to_bits() as u16 + 1
        })
    }

    /// The part of its limit that a record is in a window of a second that sees the share `weight` of it.
    pub(super) fn share(&self, number: u16, packets: f32, octets: f32, weight: f32) -> f32 {
        self.seconds(number, packets, octets) * weight
    }

    /// Seconds of the limit that a record is worth.
    #[inline]
    fn seconds(&self, number: u16, packets: f32, octets: f32) -> f32 {
        let scale = self.scales.get(usize::from(number)).copied().unwrap_or_default();
        let (by_packets, by_octets) = (packets * scale.packet, octets * scale.octet);
        if by_packets > by_octets { by_packets } else { by_octets }
    }
}
