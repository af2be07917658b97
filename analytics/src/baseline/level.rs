//! Rates as logarithms in 16 bits: packets and bits a second of any size in two octets each.

/// Steps in an octave; half a step is 0.034 %.
pub(super) const OCTAVE: u16 = 1_024;
/// Octaves below 1 at which the scale begins; 65,535 steps reach from there to 2⁵⁶.
const BELOW: f32 = 8.0;

/// The logarithm of a rate in steps of a 1,024th of an octave; 0 for no rate at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level(pub(super) u16);

impl Level {
    /// The level of a rate, rounded; the scale's ends hold what is beyond them.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, which is what the scale's ends are"
    )]
    pub(super) fn of(rate: f64) -> Self {
        if rate > 0.0 { Self((((rate as f32).log2() + BELOW) * f32::from(OCTAVE)).round().max(1.0) as u16) } else { Self(0) }
    }

    /// The rate.
    pub(super) fn rate(self) -> f64 {
        if self.0 == 0 { 0.0 } else { f64::from((f32::from(self.0) / f32::from(OCTAVE) - BELOW).exp2()) }
    }

    /// The level of both rates together.
    pub(super) fn plus(self, rate: f64) -> Self {
        if self.0 == 0 { Self::of(rate) } else { Self::of(self.rate() + rate) }
    }

    /// Steps from `other` up to here.
    pub(super) fn above(self, other: Self) -> i32 {
        i32::from(self.0) - i32::from(other.0)
    }

    /// The level so many steps higher, within the scale.
    pub(super) fn raised(self, steps: i32) -> Self {
        Self(within(i32::from(self.0) + steps, 1))
    }
}

/// A number as 16 bits, `least` at least.
pub(super) fn within(value: i32, least: u16) -> u16 {
    u16::try_from(value.clamp(i32::from(least), i32::from(u16::MAX))).unwrap_or(u16::MAX)
}

/// Rounds steps that are smaller than 1 up or down by chance, so that many of them add up to what they should.
///
/// What is drawn follows from its seed: the same traffic is learned in the same way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dither(pub(super) u64);

impl Dither {
    /// `steps` as a whole number: the next one below or above, the latter with the probability of the fraction.
    #[expect(clippy::cast_possible_truncation, reason = "steps are a few thousand at most")]
    pub(super) fn whole(&mut self, steps: f32) -> i32 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let first = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let second = (first ^ first >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((second ^ second >> 31) >> 40) as f32 / (1_u32 << 24) as f32;
        (steps + share).floor() as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_comes_back_to_a_thousandth() {
        for rate in [0.004, 0.1, 1.0, 7.0, 99_999.0, 1e9, 4e11, 6e16] {
            let back = Level::of(rate).rate();
            assert!((back / rate - 1.0).abs() < 0.001, "{rate} {back}");
        }
        assert_eq!((Level::of(0.0).rate(), Level::of(-1.0).0, Level::of(1e30).0), (0.0, 0, u16::MAX));
        assert!((Level::of(300.0).plus(700.0).rate() - 1_000.0).abs() < 1.0);
    }

    #[test]
    fn small_steps_add_up() {
        let mut dither = Dither(1);
        let sum: i32 = (0..100_000).map(|_| dither.whole(-0.1)).sum();
        // The standard error of 100,000 draws of 0.1 is √(100,000 × 0.09) = 95.
        assert!((sum + 10_000).abs() < 400, "{sum}");
    }
}
