//! Sketches of bounded size: the heaviest values of a property, and how many different ones there are.

use schemas::counter::Ranking;

/// The heaviest values of one property, by the space-saving algorithm (Metwally, Agrawal, El Abbadi, 2005).
///
/// A value that is not held takes the place of the lightest and inherits its counts, so that a value with more than
/// 1 / `capacity` of all packets is always held. What it inherited is remembered: a ranking tells what is sure, else a
/// thousand sources of equal weight would look like 64 heavy ones.
#[derive(Debug)]
pub(super) struct Heavy<T> {
    values: Vec<Counted<T>>,
    capacity: usize,
}

#[derive(Clone, Copy, Debug)]
struct Counted<T> {
    value: T,
    packets: f64,
    octets: f64,
    /// What of it the value inherited.
    inherited: [f64; 2],
}

impl<T: Copy + PartialEq + Ord> Heavy<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { values: Vec::with_capacity(capacity), capacity }
    }

    pub(super) fn add(&mut self, value: T, packets: f64, octets: f64) {
        if let Some(held) = self.values.iter_mut().find(|held| held.value == value) {
            held.packets += packets;
            held.octets += octets;
        } else if self.values.len() < self.capacity {
            self.values.push(Counted { value, packets, octets, inherited: [0.0; 2] });
        } else if let Some(lightest) = self.values.iter_mut().min_by(|left, right| left.packets.total_cmp(&right.packets)) {
            let inherited = [lightest.packets, lightest.octets];
            *lightest = Counted { value, packets: lightest.packets + packets, octets: lightest.octets + octets, inherited };
        }
    }

    /// Halves all counts, so that what is recent weighs more, and lets go of what is less than a packet.
    pub(super) fn fade(&mut self) {
        self.values.retain_mut(|held| {
            held.packets /= 2.0;
            held.octets /= 2.0;
            held.inherited = held.inherited.map(|count| count / 2.0);
            held.packets >= 1.0
        });
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
    }

    /// The `length` heaviest by what is sure, descending by packets; equal ones by value, so that the order does not depend on chance.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are not negative, and saturate")]
    pub(super) fn ranking(&self, length: usize) -> Ranking<T> {
        let sure = |held: &Counted<T>| {
            let [packets, octets] = held.inherited;
            (held.value, (held.packets - packets).round() as u64, (held.octets - octets).round() as u64)
        };
        let mut sorted: Ranking<T> = self.values.iter().map(sure).filter(|(_, packets, _)| *packets > 0).collect();
        sorted.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(&right.0)));
        sorted.truncate(length);
        sorted
    }
}

/// Registers of the estimate of different values; its standard error is 1.04 / √512 = 4.6 %.
const REGISTERS: usize = 512;

/// An estimate of how many different hashes were seen, by HyperLogLog (Flajolet and others, 2007) over two generations.
#[derive(Debug)]
pub(super) struct Distinct {
    generations: [[u8; REGISTERS]; 2],
}

impl Distinct {
    pub(super) fn new() -> Self {
        Self { generations: [[0; REGISTERS]; 2] }
    }

    /// Takes a well mixed hash of a value.
    #[expect(clippy::cast_possible_truncation, reason = "the register's number has 9 bits, the rank at most 56")]
    pub(super) fn add(&mut self, hash: u64) {
        let rank = (hash << 9 | 1 << 8).leading_zeros() as u8 + 1;
        let [current, _] = &mut self.generations;
        if let Some(register) = current.get_mut((hash >> 55) as usize) {
            *register = (*register).max(rank);
        }
    }

    /// Begins a new generation; what came before the last one is forgotten.
    pub(super) fn fade(&mut self) {
        let [current, last] = &mut self.generations;
        *last = *current;
        *current = [0; REGISTERS];
    }

    pub(super) fn clear(&mut self) {
        self.generations = [[0; REGISTERS]; 2];
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate is not negative, and saturates")]
    pub(super) fn estimate(&self) -> u64 {
        let [current, last] = &self.generations;
        let registers = current.iter().zip(last).map(|(left, right)| *left.max(right));
        let (mut sum, mut empty) = (0.0, 0);
        for register in registers {
            sum += f64::from(register).exp2().recip();
            empty += usize::from(register == 0);
        }
        let count = REGISTERS as f64;
        let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
        // Few values leave registers empty, and how many tells more than the ranks do (linear counting).
        let estimate = if raw <= 2.5 * count && empty > 0 { count * (count / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_more_than_its_share_is_held_and_never_overcounted() {
        let mut heavy = Heavy::new(8);
        // 400 packets of value 7 among 1,600 of as many others: a fifth, where an eighth would be enough.
        for other in 0..1_600u32 {
            heavy.add(1_000 + other, 1.0, 64.0);
            if other % 4 == 0 {
                heavy.add(7, 1.0, 1_500.0);
            }
        }
        let (value, packets, octets) = heavy.ranking(1)[0];
        assert_eq!(value, 7);
        // Of its first packets some went with the entry that it lost.
        assert!((300..=400).contains(&packets), "{packets}");
        assert_eq!(octets, packets * 1_500);
    }

    #[test]
    fn many_values_of_equal_weight_are_not_told_as_heavy_ones() {
        let mut heavy = Heavy::new(64);
        (0..10_000u32).for_each(|packet| heavy.add(packet % 1_000, 1.0, 64.0));
        // None has more than its ten packets, a thousandth, though each entry holds 10,000 / 64.
        assert!(heavy.ranking(10).iter().all(|(_, packets, _)| *packets <= 10));
    }

    #[test]
    fn what_is_old_fades() {
        let mut heavy = Heavy::new(4);
        heavy.add(1, 1.5, 10.0);
        heavy.add(2, 8.0, 80.0);
        heavy.fade();
        assert_eq!(heavy.ranking(4), vec![(2, 4, 40)]);
    }

    #[test]
    fn different_values_are_estimated_within_four_standard_errors() {
        let mut state = 1u64;
        let mut mixed = || {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let first = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let second = (first ^ first >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            second ^ second >> 31
        };
        for count in [10u64, 300, 2_000, 100_000] {
            let mut distinct = Distinct::new();
            for _ in 0..count {
                let hash = mixed();
                distinct.add(hash);
                distinct.add(hash);
            }
            let error = (distinct.estimate() as f64 - count as f64).abs() / count as f64;
            assert!(error < 4.0 * 0.046, "{count}: {}", distinct.estimate());
        }
    }
}
