//! Which limit holds for a target: the configuration's, and those that are set at run time over them.

use schemas::counter::{Direction, Target};
use schemas::incident::{LimitSource, Metric};
use schemas::limit;
use schemas::net::{Prefix, PrefixTable};

use crate::config::{Override, Rates, Threshold};

/// The limits of one target, and where each came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    rates: limit::Limit,
    sources: [LimitSource; Metric::COUNT],
}

impl Limit {
    /// Limits that all came from one place.
    #[must_use]
    pub fn new(rates: limit::Limit, source: LimitSource) -> Self {
        Self { rates, sources: [source; Metric::COUNT] }
    }

    /// The value of one metric, in its unit a second; infinite if it is off.
    #[must_use]
    pub fn get(&self, metric: Metric) -> f64 {
        self.rates.get(metric)
    }

    /// Where the limit of a metric came from.
    #[must_use]
    pub fn source(&self, metric: Metric) -> LimitSource {
        self.sources.get(metric.index()).copied().unwrap_or(LimitSource::Static)
    }

    /// The metrics that are limited.
    pub fn limited(&self) -> impl Iterator<Item = Metric> {
        self.rates.limited()
    }

    /// The limit with what was learned of one metric, where that is more: what is off stays off, and what is set for this target by name
    /// stays as it is.
    #[must_use]
    pub fn raised(mut self, metric: Metric, learned: f64) -> Self {
        let value = self.get(metric);
        if value.is_finite()
            && learned > value
            && let Some(source) = self.sources.get_mut(metric.index()).filter(|source| **source != LimitSource::Host)
        {
            *source = LimitSource::Baseline;
            self.rates = self.rates.with(metric, learned);
        }
        self
    }
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
            let prefix = limit::Limit::of(
                named.packets_per_second.map_or(multiple.get(Metric::PacketsPerSecond), rate),
                named.bits_per_second.map_or(multiple.get(Metric::BitsPerSecond), rate),
            );
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
        let overrides =
            PrefixTable::new(self.incoming.overrides.iter().map(|(prefix, own)| (*prefix, own.lower(&self.outgoing.host))).collect());
        limit::Limits {
            host: self.incoming.host.lower(&self.outgoing.host),
            prefix: self.incoming.prefix.lower(&self.outgoing.prefix),
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
        let source = if self.is_own(target) { LimitSource::Host } else { LimitSource::Static };
        Limit::new(limits.of(target.prefix), source)
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
    limit::Limit::of(rate(rates.packets_per_second.unwrap_or(0)), rate(rates.bits_per_second.unwrap_or(0)))
}

fn rate(value: u64) -> f64 {
    if value == 0 { f64::INFINITY } else { value as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PPS: Metric = Metric::PacketsPerSecond;
    const BPS: Metric = Metric::BitsPerSecond;

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
        assert_eq!(limits.of(target("198.51.100.1")).get(PPS), 100_000.0);
        assert_eq!(limits.of(target("203.0.113.1")).get(PPS), 7.0);
        assert_eq!(limits.of(target("203.0.113.1")).get(BPS), 1e9);
        assert_eq!(limits.of(target("203.0.113.9")).source(PPS), LimitSource::Host);
        let limits = limits.with_runtime(&[own("203.0.113.0/24", 70)]);
        assert_eq!(limits.of(target("203.0.113.1")).get(PPS), 70.0);
        assert_eq!(limits.of(target("203.0.113.9")).get(PPS), 8.0);
    }

    #[test]
    fn a_prefix_has_ten_times_the_limit_of_a_host_unless_it_is_named() {
        let named = Rates { packets_per_second: Some(5), bits_per_second: None };
        assert_eq!(Limits::new(Threshold::default(), &[]).of(target("203.0.113.0/24")).get(PPS), 1_000_000.0);
        let limits = Limits::new(Threshold { prefix: Some(named), ..Threshold::default() }, &[]);
        assert_eq!(limits.of(target("2001:db8::/48")).get(PPS), 5.0);
        assert_eq!(limits.of(target("2001:db8::/48")).get(BPS), 1e10);
        // A /64 stands for the hosts that were folded into it.
        assert_eq!(limits.of(target("2001:db8::/64")).get(PPS), 100_000.0);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let limits = Limits::new(Threshold { packets_per_second: 0, ..Threshold::default() }, &[]);
        assert_eq!(limits.of(target("203.0.113.1")).get(PPS), f64::INFINITY);
    }

    #[test]
    fn counters_suspect_by_the_lower_limit_of_the_two_directions() {
        let outgoing = Some(Rates { packets_per_second: Some(5_000), bits_per_second: None });
        let limits = Limits::new(Threshold { outgoing, ..Threshold::default() }, &[]);
        assert_eq!(limits.for_counters().host.get(PPS), 5_000.0);
        assert_eq!(limits.of(target("203.0.113.1")).get(PPS), 100_000.0);
        assert_eq!(limits.of(Target { direction: Direction::Outgoing, ..target("203.0.113.1") }).get(PPS), 5_000.0);
    }

    #[test]
    fn what_is_learned_raises_a_limit_that_nobody_set_for_the_target_and_never_lowers_one() {
        let raised = |source, learned| {
            let limit = Limit::new(limit::Limit::NONE.with(PPS, 100.0), source).raised(PPS, learned).raised(BPS, learned);
            assert_eq!(limit.get(BPS), f64::INFINITY, "off");
            (limit.get(PPS), limit.source(PPS))
        };
        assert_eq!(raised(LimitSource::Static, 150.0), (150.0, LimitSource::Baseline));
        assert_eq!(raised(LimitSource::Static, 50.0), (100.0, LimitSource::Static));
        assert_eq!(raised(LimitSource::Host, 150.0), (100.0, LimitSource::Host));
    }
}
