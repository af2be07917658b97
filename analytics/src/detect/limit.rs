//! Which limit holds for a target: the configuration's, and those that are set at run time over them.

use schemas::counter::{Direction, Target};
use schemas::incident::LimitSource;
use schemas::limit;
use schemas::net::{Prefix, PrefixTable};

use crate::config::{Override, Rates, Threshold};

/// The limits of one target; infinite where a metric is off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Packets a second.
    pub packets_per_second: f64,
    /// Bits a second.
    pub bits_per_second: f64,
    /// Where the limits came from.
    pub source: LimitSource,
}

/// Every limit that is set, for both directions.
#[derive(Clone, Debug)]
pub struct Limits {
    threshold: Threshold,
    incoming: limit::Limits,
    outgoing: limit::Limits,
}

impl Limits {
    /// The limits of the configuration, and `runtime` ones (nodes, the API's thresholds) over them.
    #[must_use]
    pub fn new(threshold: Threshold, runtime: &[Override]) -> Self {
        let general = Rates { packets_per_second: Some(threshold.packets_per_second), bits_per_second: Some(threshold.bits_per_second) };
        let table = |base: Rates| {
            let host = limit_of(base);
            let multiple = host.scaled(threshold.prefix_multiple);
            let named = threshold.prefix.unwrap_or_default();
            let prefix = limit::Limit {
                packets_per_second: named.packets_per_second.map_or(multiple.packets_per_second, rate),
                bits_per_second: named.bits_per_second.map_or(multiple.bits_per_second, rate),
            };
            let own = threshold.hosts.iter().chain(runtime);
            let overrides = PrefixTable::new(own.map(|own| (own.target, limit_of(over(rates(own), base)))).collect());
            limit::Limits { host, prefix, multiples: threshold.window_multiples, overrides }
        };
        let incoming = table(general);
        let mut outgoing = table(threshold.outgoing.map_or(general, |own| over(own, general)));
        // A limit that is set for a target is one on what comes to it.
        outgoing.overrides = PrefixTable::default();
        Self { threshold, incoming, outgoing }
    }

    /// The same configuration with other limits at run time.
    #[must_use]
    pub fn with_runtime(&self, runtime: &[Override]) -> Self {
        Self::new(self.threshold.clone(), runtime)
    }

    /// The multiples of the limits for windows of 0.1, 1, 5 and 30 s.
    #[must_use]
    pub fn multiples(&self) -> [f64; 4] {
        self.threshold.window_multiples
    }

    /// The limits by which the counters tell suspects: of each direction the lower one.
    #[must_use]
    pub fn for_counters(&self) -> limit::Limits {
        let lower = |one: limit::Limit, other: limit::Limit| limit::Limit {
            packets_per_second: one.packets_per_second.min(other.packets_per_second),
            bits_per_second: one.bits_per_second.min(other.bits_per_second),
        };
        let overrides =
            PrefixTable::new(self.incoming.overrides.iter().map(|(prefix, own)| (*prefix, lower(*own, self.outgoing.host))).collect());
        limit::Limits {
            host: lower(self.incoming.host, self.outgoing.host),
            prefix: lower(self.incoming.prefix, self.outgoing.prefix),
            // A window that is off makes nobody a suspect.
            multiples: self.multiples().map(|multiple| if multiple > 0.0 { multiple } else { f64::INFINITY }),
            overrides,
        }
    }

    /// Whether a target is judged as a host: an address, or the /64 that stands for its addresses where there are too many.
    #[must_use]
    pub fn is_host(prefix: Prefix) -> bool {
        prefix.is_host() || (!prefix.is_v4() && prefix.length() >= 64)
    }

    /// The limits of `target`.
    #[must_use]
    pub fn of(&self, target: Target) -> Limit {
        let limits = if target.direction == Direction::Incoming { &self.incoming } else { &self.outgoing };
        let limit::Limit { packets_per_second, bits_per_second } = limits.of(target.prefix);
        let source = if self.is_own(target) { LimitSource::Host } else { LimitSource::Static };
        Limit { packets_per_second, bits_per_second, source }
    }

    /// Whether a target is judged by a limit of its own, so that a host's traffic says nothing about its prefix.
    #[must_use]
    pub fn is_own(&self, target: Target) -> bool {
        target.direction == Direction::Incoming
            && self.incoming.overrides.get(target.prefix.first()).is_some_and(|(own, _)| own.covers(target.prefix))
    }
}

fn rates(own: &Override) -> Rates {
    Rates { packets_per_second: own.packets_per_second, bits_per_second: own.bits_per_second }
}

fn over(own: Rates, base: Rates) -> Rates {
    Rates {
        packets_per_second: own.packets_per_second.or(base.packets_per_second),
        bits_per_second: own.bits_per_second.or(base.bits_per_second),
    }
}

fn limit_of(rates: Rates) -> limit::Limit {
    limit::Limit {
        packets_per_second: rate(rates.packets_per_second.unwrap_or(0)),
        bits_per_second: rate(rates.bits_per_second.unwrap_or(0)),
    }
}

fn rate(value: u64) -> f64 {
    if value == 0 { f64::INFINITY } else { value as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target { prefix: text.parse().unwrap(), direction: Direction::Incoming }
    }

    fn own(text: &str, packets: u64) -> Override {
        Override { target: text.parse().unwrap(), packets_per_second: Some(packets), bits_per_second: None }
    }

    #[test]
    fn the_longest_override_wins_and_run_time_wins_over_the_file() {
        let threshold = Threshold { hosts: vec![own("203.0.113.0/24", 7), own("203.0.113.9", 8)], ..Threshold::default() };
        let limits = Limits::new(threshold, &[]);
        assert_eq!(limits.of(target("198.51.100.1")).packets_per_second, 100_000.0);
        assert_eq!(limits.of(target("203.0.113.1")).packets_per_second, 7.0);
        assert_eq!(limits.of(target("203.0.113.1")).bits_per_second, 1e9);
        assert_eq!(limits.of(target("203.0.113.9")).source, LimitSource::Host);
        let limits = limits.with_runtime(&[own("203.0.113.0/24", 70)]);
        assert_eq!(limits.of(target("203.0.113.1")).packets_per_second, 70.0);
        assert_eq!(limits.of(target("203.0.113.9")).packets_per_second, 8.0);
    }

    #[test]
    fn a_prefix_has_ten_times_the_limit_of_a_host_unless_it_is_named() {
        let named = Rates { packets_per_second: Some(5), bits_per_second: None };
        assert_eq!(Limits::new(Threshold::default(), &[]).of(target("203.0.113.0/24")).packets_per_second, 1_000_000.0);
        let limits = Limits::new(Threshold { prefix: Some(named), ..Threshold::default() }, &[]);
        assert_eq!(limits.of(target("2001:db8::/48")).packets_per_second, 5.0);
        assert_eq!(limits.of(target("2001:db8::/48")).bits_per_second, 1e10);
        // A /64 stands for the hosts that were folded into it.
        assert_eq!(limits.of(target("2001:db8::/64")).packets_per_second, 100_000.0);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let limits = Limits::new(Threshold { packets_per_second: 0, ..Threshold::default() }, &[]);
        assert_eq!(limits.of(target("203.0.113.1")).packets_per_second, f64::INFINITY);
    }

    #[test]
    fn counters_suspect_by_the_lower_limit_of_the_two_directions() {
        let outgoing = Some(Rates { packets_per_second: Some(5_000), bits_per_second: None });
        let limits = Limits::new(Threshold { outgoing, ..Threshold::default() }, &[]);
        assert_eq!(limits.for_counters().host.packets_per_second, 5_000.0);
        assert_eq!(limits.of(target("203.0.113.1")).packets_per_second, 100_000.0);
        assert_eq!(limits.of(Target { direction: Direction::Outgoing, ..target("203.0.113.1") }).packets_per_second, 5_000.0);
    }
}
