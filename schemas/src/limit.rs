//! Limits on a target's rate, and the windows that they are held over.

use crate::counter::Volume;
use crate::incident::Metric;
use crate::net::{Prefix, PrefixTable};

/// The lengths of the windows of reconstructed time, in milliseconds, ascending.
pub const WINDOW_MILLISECONDS: [u64; 4] = [100, 1_000, 5_000, 30_000];

/// The rates that one target may have, one for each [`Metric`]; any one alone is enough to be over it. Infinite: no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit([f64; Metric::COUNT]);

impl Limit {
    /// No limit in any metric.
    pub const NONE: Self = Self([f64::INFINITY; Metric::COUNT]);

    /// A limit on packets and bits a second of all traffic.
    #[must_use]
    pub const fn of(packets_per_second: f64, bits_per_second: f64) -> Self {
        Self::NONE.with(Metric::PacketsPerSecond, packets_per_second).with(Metric::BitsPerSecond, bits_per_second)
    }

    /// The limit with another value of one metric, in its unit a second.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "there is a value for each metric")]
    pub const fn with(mut self, metric: Metric, value: f64) -> Self {
        self.0[metric.index()] = value;
        self
    }

    /// The value of one metric, in its unit a second; infinite if it is off.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "there is a value for each metric")]
    pub const fn get(&self, metric: Metric) -> f64 {
        self.0[metric.index()]
    }

    /// The values in the order of [`Metric::ALL`], as bits: what tells two limits apart.
    #[must_use]
    pub fn to_bits(&self) -> [u64; Metric::COUNT] {
        self.0.map(f64::to_bits)
    }

    /// The metrics that are limited.
    pub fn limited(&self) -> impl Iterator<Item = Metric> {
        Metric::ALL.iter().copied().filter(|metric| self.get(*metric).is_finite())
    }

    /// The limit times `factor`, in every metric.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self(self.0.map(|value| value * factor))
    }

    /// Of every metric the lower of two.
    #[must_use]
    pub fn lower(&self, other: &Self) -> Self {
        let mut lower = *self;
        lower.0.iter_mut().zip(other.0).for_each(|(own, other)| *own = own.min(other));
        lower
    }

    /// How often the limit goes into the mean of `volume` over `seconds`: 1 at the limit, by the metric that is nearest to it.
    #[must_use]
    pub fn ratio(&self, volume: &Volume, seconds: f64) -> f64 {
        self.limited().map(|metric| volume.rate(metric, seconds) / self.get(metric)).fold(0.0, f64::max)
    }
}

/// Which limit holds for which target.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For a host, where no override says otherwise.
    pub host: Limit,
    /// For the sum of an IPv4 /24 or IPv6 /48 (carpet bombing), where no override says otherwise.
    pub prefix: Limit,
    /// How many times the limit a window may hold, for each of [`WINDOW_MILLISECONDS`].
    pub multiples: [f64; 4],
    /// Limits of single hosts, and of every host in a prefix: the longest that covers a target holds.
    pub overrides: PrefixTable<Limit>,
}

impl Limits {
    /// How much more than a host a /24 or /48 may carry when nothing else is said: ten busy hosts.
    ///
    /// At the default of 1 Gbit/s a host that is 10 Gbit/s, or 40 Mbit/s to each of 256 hosts: a carpet that no host limit sees.
    pub const PREFIX_FACTOR: f64 = 10.0;

    /// The limits of a network whose hosts all have the same one, at the default multiples.
    #[must_use]
    pub fn of_hosts(host: Limit) -> Self {
        Self { host, prefix: host.scaled(Self::PREFIX_FACTOR), multiples: [2.0, 1.0, 1.0, 1.0], overrides: PrefixTable::default() }
    }

    /// The limit that holds for a host or prefix.
    ///
    /// An override holds for every host in it, and for the sum of a prefix if it names that very prefix: to the sums of the prefixes within it
    /// applies the same factor as without it.
    #[must_use]
    pub fn of(&self, target: Prefix) -> Limit {
        let covering = match self.overrides.get(target.first()) {
            Some((prefix, limit)) if prefix.covers(target) => Some((prefix, *limit)),
            // The longest there is lies within the target: a shorter one may cover it all the same.
            Some(_) => self
                .overrides
                .iter()
                .filter(|(own, _)| own.covers(target))
                .max_by_key(|(own, _)| own.length())
                .map(|(own, limit)| (*own, *limit)),
            None => None,
        };
        let is_host = target.is_host() || (!target.is_v4() && target.length() >= 64);
        match covering {
            Some((own, limit)) if is_host || own == target => limit,
            Some((_, limit)) => limit.scaled(Self::PREFIX_FACTOR),
            None if is_host => self.host,
            None => self.prefix,
        }
    }
}

impl Default for Limits {
    /// 100,000 packets/s and 1 Gbit/s a host.
    fn default() -> Self {
        Self::of_hosts(Limit::of(100_000.0, 1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_override_that_covers_the_target_holds() {
        let limit = |packets_per_second| Limit::of(packets_per_second, 1e9);
        let overrides = PrefixTable::new(
            ["203.0.113.0/24", "203.0.113.7", "203.0.113.0"]
                .into_iter()
                .zip([5.0, 7.0, 9.0])
                .map(|(text, packets)| (text.parse().unwrap(), limit(packets)))
                .collect(),
        );
        let limits = Limits { overrides, ..Limits::default() };
        let of = |text: &str| limits.of(text.parse().unwrap()).get(Metric::PacketsPerSecond);
        assert_eq!((of("203.0.113.7"), of("203.0.113.8"), of("203.0.113.0/24")), (7.0, 5.0, 5.0));
        assert_eq!(of("203.0.113.0/25"), 50.0);
        // Nothing covers these: a host, a folded IPv6 host, and prefixes with ten times the limit.
        assert_eq!((of("198.51.100.1"), of("2001:db8::/64")), (100_000.0, 100_000.0));
        assert_eq!((of("198.51.100.0/24"), of("2001:db8::/48")), (1_000_000.0, 1_000_000.0));
    }

    #[test]
    fn a_rate_is_measured_by_the_limit_that_it_is_nearer_to() {
        // 50,000 of 100,000 packets/s, and 0.8 of 1 Gbit/s.
        let volume = Volume { packets: 50_000.0, octets: 1e8, syn_packets: 9_000.0, ..Volume::default() };
        let limit = Limits::default().host;
        assert!((limit.ratio(&volume, 1.0) - 0.8).abs() < 1e-12);
        // 9,000 of 10,000 SYN packets/s.
        assert!((limit.with(Metric::SynPacketsPerSecond, 10_000.0).ratio(&volume, 1.0) - 0.9).abs() < 1e-12);
    }

    #[test]
    fn every_metric_has_its_place_and_its_own_count() {
        let volume = Volume::from_array(std::array::from_fn(|index| (index + 100) as f64));
        let mut counts: Vec<u64> = Vec::new();
        for (index, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(metric.index(), index);
            assert_eq!(Limit::NONE.with(*metric, 5.0).limited().collect::<Vec<_>>(), [*metric]);
            counts.push(volume.count(*metric).to_bits());
        }
        counts.sort_unstable();
        counts.dedup();
        assert_eq!(counts.len(), Metric::COUNT);
    }
}
