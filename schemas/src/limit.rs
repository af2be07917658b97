//! Limits on a target's rate, and the windows that they are held over.

use serde::{Deserialize, Serialize};

use crate::net::{Prefix, PrefixTable};

/// The lengths of the windows of reconstructed time, in milliseconds, ascending.
pub const WINDOW_MILLISECONDS: [u64; 4] = [100, 1_000, 5_000, 30_000];

/// Rates that one target may have; either one alone is enough to be over it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Packets a second, sampling undone.
    pub packets_per_second: f64,
    /// Bits a second of IP octets, sampling undone.
    pub bits_per_second: f64,
}

impl Limit {
    /// The limit times `factor`, in both rates.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self { packets_per_second: self.packets_per_second * factor, bits_per_second: self.bits_per_second * factor }
    }

    /// How often the limit goes into a rate: 1 at the limit, by whichever of the two is nearer to it.
    #[must_use]
    pub fn ratio(&self, packets_per_second: f64, bits_per_second: f64) -> f64 {
        (packets_per_second / self.packets_per_second).max(bits_per_second / self.bits_per_second)
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
        Self::of_hosts(Limit { packets_per_second: 100_000.0, bits_per_second: 1e9 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_override_that_covers_the_target_holds() {
        let limit = |packets_per_second| Limit { packets_per_second, bits_per_second: 1e9 };
        let overrides = PrefixTable::new(
            ["203.0.113.0/24", "203.0.113.7", "203.0.113.0"]
                .into_iter()
                .zip([5.0, 7.0, 9.0])
                .map(|(text, packets)| (text.parse().unwrap(), limit(packets)))
                .collect(),
        );
        let limits = Limits { overrides, ..Limits::default() };
        let of = |text: &str| limits.of(text.parse().unwrap()).packets_per_second;
        assert_eq!((of("203.0.113.7"), of("203.0.113.8"), of("203.0.113.0/24")), (7.0, 5.0, 5.0));
        assert_eq!(of("203.0.113.0/25"), 50.0);
        // Nothing covers these: a host, a folded IPv6 host, and prefixes with ten times the limit.
        assert_eq!((of("198.51.100.1"), of("2001:db8::/64")), (100_000.0, 100_000.0));
        assert_eq!((of("198.51.100.0/24"), of("2001:db8::/48")), (1_000_000.0, 1_000_000.0));
    }

    #[test]
    fn a_rate_is_measured_by_the_limit_that_it_is_nearer_to() {
        // 50,000 of 100,000 packets/s, and 0.8 of 1 Gbit/s.
        assert!((Limits::default().host.ratio(50_000.0, 8e8) - 0.8).abs() < 1e-12);
    }
}
