//! A small deterministic random number generator: SplitMix64, the same on every machine and in every release.

/// Random numbers from a seed; good enough for traffic, not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An even 64-bit number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An even number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let product = (self.number() >> 32) * u64::from(bound);
        u32::try_from(product >> 32).unwrap_or(0)
    }

    /// An even number from `first` to `last`, both possible.
    pub fn within(&mut self, first: u32, last: u32) -> u32 {
        first + self.below(last.saturating_sub(first).saturating_add(1))
    }

    /// An even port or other 16-bit number from `first` to `last`.
    pub fn port(&mut self, first: u16, last: u16) -> u16 {
        u16::try_from(self.within(u32::from(first), u32::from(last))).unwrap_or(last)
    }

    /// Whether something happens that does so in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// A number from 1 to `largest` whose tail is heavy: half are under 3, one in a hundred passes 60.
    pub fn heavy_tail(&mut self, largest: u32) -> u32 {
        // Pareto with exponent 1: the inverse of an even share of 2^16.
        let share = self.below(1 << 16) + 1;
        ((1 << 16) / share).clamp(1, largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        // The first outputs of SplitMix64 for seed 1234567, from its reference implementation.
        let mut random = Random::new(1_234_567);
        assert_eq!([random.number(), random.number()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn numbers_below_a_bound_reach_both_ends() {
        let mut random = Random::new(1);
        let seen: Vec<u32> = (0..1_000).map(|_| random.within(3, 5)).collect();
        assert_eq!((seen.iter().min(), seen.iter().max()), (Some(&3), Some(&5)));
        assert_eq!(random.below(0), 0);
    }
}
