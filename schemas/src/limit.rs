//! Limits on a target's rate, and the windows that they are held over.

use std::collections::BTreeMap;

use crate::counter::{Direction, Target, Volume};
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

/// What holds for hosts and for sums over prefixes, in one direction: limits, or more than limits.
#[derive(Clone, Debug, Default)]
pub struct Table<T> {
    /// For a host of which nothing else is said.
    pub host: T,
    /// For the sum of an IPv4 /24 or IPv6 /48 (carpet bombing) of which nothing else is said.
    pub block: T,
    /// For the hosts in a prefix; the longest holds.
    pub hosts: PrefixTable<T>,
    /// For the sums of the /24 and /48 in a prefix; none is longer than these, and the longest holds.
    pub blocks: PrefixTable<T>,
    /// For the sum of this very prefix.
    pub sums: BTreeMap<Prefix, T>,
}

impl<T> Table<T> {
    /// What holds for a host or the sum of a prefix; `None` for a sum of another length that has no limit of its own.
    #[must_use]
    pub fn of(&self, target: Prefix) -> Option<&T> {
        if is_host(target) {
            return Some(self.hosts.get(target.first()).map_or(&self.host, |(_, own)| own));
        }
        let sum = self.sums.get(&target);
        sum.or_else(|| is_block(target).then(|| self.blocks.get(target.first()).map_or(&self.block, |(_, own)| own)))
    }

    /// The same table of what `each` makes of its values.
    pub fn map<U>(&self, each: impl Fn(&T) -> U) -> Table<U> {
        let table = |own: &PrefixTable<T>| PrefixTable::new(own.iter().map(|(prefix, value)| (*prefix, each(value))).collect());
        Table {
            host: each(&self.host),
            block: each(&self.block),
            hosts: table(&self.hosts),
            blocks: table(&self.blocks),
            sums: self.sums.iter().map(|(prefix, value)| (*prefix, each(value))).collect(),
        }
    }
}

/// Whether a target is judged as a host: an address, or the IPv6 /64 that stands for its addresses where there are too many.
#[must_use]
pub fn is_host(target: Prefix) -> bool {
    target.is_host() || (!target.is_v4() && target.length() >= 64)
}

/// Whether a target is one of the prefixes that are always summed: an IPv4 /24 or IPv6 /48.
#[must_use]
pub fn is_block(target: Prefix) -> bool {
    target.length() == if target.is_v4() { 24 } else { 48 }
}

/// Which limit holds for which target.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of what comes to the targets.
    pub incoming: Table<Limit>,
    /// Of what they send.
    pub outgoing: Table<Limit>,
    /// How many times the limit a window may hold, for each of [`WINDOW_MILLISECONDS`].
    pub multiples: [f64; 4],
    /// Prefixes besides every /24 and /48 whose sums are counted; hosts among them are left out.
    pub sums: Vec<Prefix>,
}

impl Limits {
    /// How much more than a host a /24 or /48 may carry when nothing else is said: ten busy hosts.
    ///
    /// At the default of 1 Gbit/s a host that is 10 Gbit/s, or 40 Mbit/s to each of 256 hosts: a carpet that no host limit sees.
    pub const PREFIX_FACTOR: f64 = 10.0;

    /// The limits of a network whose hosts all have the same one in both directions, at the default multiples.
    #[must_use]
    pub fn of_hosts(host: Limit) -> Self {
        let table = Table {
            host,
            block: host.scaled(Self::PREFIX_FACTOR),
            hosts: PrefixTable::default(),
            blocks: PrefixTable::default(),
            sums: BTreeMap::new(),
        };
        Self { incoming: table.clone(), outgoing: table, multiples: [2.0, 1.0, 1.0, 1.0], sums: Vec::new() }
    }

    /// The limit that holds for the traffic of a target.
    #[must_use]
    pub fn of(&self, target: Target) -> Limit {
        let table = if target.direction == Direction::Incoming { &self.incoming } else { &self.outgoing };
        table.of(target.prefix).copied().unwrap_or(Limit::NONE)
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

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn table(entries: &[(&str, u32)]) -> PrefixTable<u32> {
        PrefixTable::new(entries.iter().map(|(text, value)| (prefix(text), *value)).collect())
    }

    #[test]
    fn hosts_blocks_and_sums_have_each_their_own() {
        let limits = Table {
            host: 1,
            block: 10,
            hosts: table(&[("203.0.113.0/24", 2), ("203.0.113.7", 3), ("203.0.113.0", 4)]),
            blocks: table(&[("203.0.0.0/16", 20)]),
            sums: [(prefix("203.0.113.0/24"), 30), (prefix("198.51.100.0/22"), 40)].into(),
        };
        let of = |text: &str| limits.of(prefix(text)).copied();
        assert_eq!((of("203.0.113.7"), of("203.0.113.8"), of("203.0.113.0"), of("198.51.100.1")), (Some(3), Some(2), Some(4), Some(1)));
        assert_eq!((of("203.0.113.0/24"), of("203.0.112.0/24"), of("198.51.100.0/24")), (Some(30), Some(20), Some(10)));
        // A folded IPv6 host; sums that nobody limits.
        assert_eq!((of("2001:db8::/64"), of("2001:db8::/48")), (Some(1), Some(10)));
        assert_eq!((of("198.51.100.0/22"), of("203.0.113.0/25"), of("2001:db8::/32")), (Some(40), None, None));
        assert_eq!(limits.map(|value| value * 2).of(prefix("203.0.113.7")), Some(&6));
    }

    #[test]
    fn a_rate_is_measured_by_the_limit_that_it_is_nearer_to() {
        // 50,000 of 100,000 packets/s, and 0.8 of 1 Gbit/s.
        let volume = Volume { packets: 50_000.0, octets: 1e8, syn_packets: 9_000.0, ..Volume::default() };
        let limit = Limits::default().incoming.host;
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
