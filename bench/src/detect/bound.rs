//! What no detector can beat: the power of the best test of a rate by sampled packets.
//!
//! A detector sees only how many packets were sampled. Of traffic at its limit, which is peace, an exporter samples in the time that an attack
//! lasts a Poisson number of mean μ; of traffic at r times the limit, one of mean rμ. Between two Poisson means the likelihood ratio grows with
//! the count, so that by the lemma of Neyman and Pearson no test that speaks in peace with probability α at most speaks in attack more often
//! than this one: if the count passes k, and at k itself with probability γ, where P(count > k | μ) + γ P(count = k | μ) = α. Its power,
//! P(count > k | rμ) + γ P(count = k | rμ), is the bound.
//!
//! Where the limit is one of bits, the samples are those that carry it: lengths are distributed alike in peace and attack, so that they say
//! nothing, and the count is all that a test can use.
//!
//! α is what the project allows: 0.001 false alarms a day of a host, shared by the stretches of an attack's length that a day has. The test is
//! told when the attack begins and ends, which no detector is; one whose host never comes near its limit in peace may speak more often, at the
//! price of false alarms at hosts that do.

/// False alarms a day of a host that are allowed.
const ALARMS_PER_HOST_DAY: f64 = 0.001;

/// The largest recall for attacks of `ratio` times the limit that last `seconds`, if traffic at its limit has `samples` in that time.
pub(super) fn recall(samples: f64, ratio: f64, seconds: f64) -> f64 {
    let allowed = ALARMS_PER_HOST_DAY * seconds / 86_400.0;
    let peace = Poisson { mean: samples };
    let attack = Poisson { mean: samples * ratio };
    let mut count = samples.floor();
    let mut tail = peace.above(count);
    while tail > allowed {
        count += 1.0;
        tail -= peace.at(count);
    }
    let gamma = ((allowed - tail.max(0.0)) / peace.at(count)).clamp(0.0, 1.0);
    (attack.above(count) + gamma * attack.at(count)).clamp(0.0, 1.0)
}

/// Parts of attacks that are found in the time of [`soonest`].
const MOST: f64 = 0.95;

/// The seconds after which the best test finds 95 of 100 attacks of `ratio` times the limit, if traffic at its limit has so many samples a second;
/// what exporters and slots take comes on top. `None` if an hour is not enough.
pub(super) fn soonest(samples_per_second: f64, ratio: f64) -> Option<f64> {
    let is_enough = |seconds: f64| recall(samples_per_second * seconds, ratio, seconds) >= MOST;
    let (mut short, mut long) = (0.0, 0.01);
    while !is_enough(long) {
        (short, long) = (long, long * 2.0);
        if long > 3_600.0 {
            return None;
        }
    }
    while long - short > 0.02 * long {
        let middle = f64::midpoint(short, long);
        *(if is_enough(middle) { &mut long } else { &mut short }) = middle;
    }
    Some(long)
}

struct Poisson {
    mean: f64,
}

impl Poisson {
    /// The probability of a count.
    fn at(&self, count: f64) -> f64 {
        if self.mean <= 0.0 {
            return f64::from(u8::from(count == 0.0));
        }
        (count * self.mean.ln() - self.mean - ln_factorial(count)).exp()
    }

    /// The probability of more than a count, summed up from there to where nothing is left.
    fn above(&self, count: f64) -> f64 {
        let last = (self.mean + 12.0 * self.mean.sqrt() + 40.0).max(count + 40.0);
        let mut sum = 0.0;
        // From the small end, so that what is small is not lost in what is large.
        let mut at = last.ceil();
        while at > count {
            sum += self.at(at);
            at -= 1.0;
        }
        sum.min(1.0)
    }
}

/// The logarithm of n!: added up below 20, by Stirling's series above.
fn ln_factorial(n: f64) -> f64 {
    if n < 20.0 {
        let mut sum = 0.0;
        let mut factor = 2.0;
        while factor <= n {
            sum += f64::ln(factor);
            factor += 1.0;
        }
        return sum;
    }
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln 25! = 58.003605…; P(X > 3 | 2) = 1 − e⁻² (1 + 2 + 2 + 4/3) = 0.142877.
    #[test]
    fn counts_have_their_probabilities() {
        assert!((ln_factorial(25.0) - 58.003_605_222_980_52).abs() < 1e-9 && (ln_factorial(5.0) - 120f64.ln()).abs() < 1e-12);
        assert!((Poisson { mean: 2.0 }.above(3.0) - 0.142_877).abs() < 1e-6);
    }

    /// A test by chance alone speaks as often in attack as in peace.
    #[test]
    fn the_bound_is_chance_without_a_difference_and_certainty_with_a_large_one() {
        assert!((recall(50.0, 1.0, 60.0) - ALARMS_PER_HOST_DAY / 1_440.0).abs() < 1e-9);
        assert!(recall(732.0, 2.0, 60.0) > 0.999_999);
        // 100,000 packets/s at 1 in 8,192 for 60 s: 732 samples, of which α = 7e-7 leaves 866 in peace; 879 in attack, whose error is 29.6.
        let bound = recall(732.42, 1.2, 60.0);
        assert!((0.6..0.72).contains(&bound), "{bound}");
        assert!(recall(732.0, 1.1, 60.0) < bound && recall(1_465.0, 1.2, 60.0) > 0.98);
    }

    /// 98 samples a second at the limit, 147 at 1.5 times it: (5.4 + 1.64 × √1.5) errors are 7.4, which (0.5)² × 98 × t makes 55 = 24.5 t of, about 2 s.
    #[test]
    fn small_ratios_and_few_samples_take_their_time() {
        let seconds = soonest(97.7, 1.5).unwrap();
        assert!((1.6..2.6).contains(&seconds), "{seconds}");
        assert!(soonest(97.7, 4.0).unwrap() < 0.2 && soonest(12.2, 1.5).unwrap() > 7.0 * seconds);
        assert_eq!(soonest(0.01, 1.2), None);
    }
}
