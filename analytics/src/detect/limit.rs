//! Which limit holds for a target: the most specific level that names a metric, of host, prefix, node, hostgroup, network, and everybody.

mod levels;

use std::sync::Arc;

use schemas::counter::{Direction, Target};
use schemas::incident::{LimitSource, Metric};
use schemas::limit::{self, Table};
use schemas::net::Prefix;

use crate::config::{Hostgroup, Override, Rates, Threshold};

/// The limits of one target, and where each came from.
#[derive(Clone, Debug)]
pub struct Limit {
    rates: limit::Limit,
    /// The level that each metric's value came from.
    levels: [u16; Metric::COUNT],
    names: Arc<[Level]>,
}

/// One place where limits are set, or learned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    source: LimitSource,
    /// `limit of hostgroup web`.
    words: String,
}

/// The levels that there always are: everybody's limit, what was learned, and those of hosts and nodes, whose names the target has.
const EVERYBODY: u16 = 0;
const LEARNED: u16 = 1;
const HOST: u16 = 2;
const NODE: u16 = 3;
const PREFIX: u16 = 4;

fn always() -> Vec<Level> {
    let level = |source, words: &str| Level { source, words: words.to_owned() };
    vec![
        level(LimitSource::Static, "limit"),
        level(LimitSource::Baseline, "learned limit"),
        level(LimitSource::Host, "limit of the host"),
        level(LimitSource::Host, "limit of the node"),
        level(LimitSource::Host, "limit of its prefix"),
    ]
}

impl Limit {
    /// Limits that all came from one place.
    #[must_use]
    pub fn new(rates: limit::Limit, source: LimitSource) -> Self {
        let level = match source {
            LimitSource::Static => EVERYBODY,
            LimitSource::Baseline => LEARNED,
            LimitSource::Host => HOST,
        };
        Self { rates, levels: [level; Metric::COUNT], names: always().into() }
    }

    /// The value of one metric, in its unit a second; infinite if it is off.
    #[must_use]
    pub fn get(&self, metric: Metric) -> f64 {
        self.rates.get(metric)
    }

    fn level(&self, metric: Metric) -> Option<&Level> {
        self.levels.get(metric.index()).and_then(|level| self.names.get(usize::from(*level)))
    }

    /// Where the limit of a metric came from.
    #[must_use]
    pub fn source(&self, metric: Metric) -> LimitSource {
        self.level(metric).map_or(LimitSource::Static, |level| level.source)
    }

    /// Where the limit of a metric came from, in words: `limit of hostgroup web`.
    #[must_use]
    pub fn words(&self, metric: Metric) -> &str {
        self.level(metric).map_or("limit", |level| &level.words)
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
        if value.is_finite() && learned > value && self.source(metric) != LimitSource::Host {
            self.set(metric, learned, LEARNED);
        }
        self
    }

    fn set(&mut self, metric: Metric, value: f64, level: u16) {
        self.rates = self.rates.with(metric, value);
        self.levels.iter_mut().skip(metric.index()).take(1).for_each(|own| *own = level);
    }

    /// Sets the metrics that `rates` names.
    fn overlay(&mut self, rates: &Rates, level: u16) {
        for metric in Metric::ALL {
            if let Some(value) = rates.get(*metric) {
                self.set(*metric, rate(value), level);
            }
        }
    }
}

/// Equal limits are the same values from the same kinds of places.
impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.rates == other.rates && Metric::ALL.iter().all(|metric| self.source(*metric) == other.source(*metric))
    }
}

/// Every limit that is set, for both directions.
#[derive(Clone, Debug)]
pub struct Limits {
    threshold: Threshold,
    hostgroups: Vec<Hostgroup>,
    incoming: Table<Limit>,
    outgoing: Table<Limit>,
    /// Prefixes besides every /24 and /48 that are counted in sum.
    sums: Vec<Prefix>,
}

impl Limits {
    /// The limits of the configuration, and `runtime` ones (nodes, the API's thresholds) over them.
    #[must_use]
    pub fn new(threshold: Threshold, runtime: &[Override]) -> Self {
        Self::with_hostgroups(threshold, Vec::new(), runtime)
    }

    /// The same with hostgroups.
    #[must_use]
    pub fn with_hostgroups(threshold: Threshold, hostgroups: Vec<Hostgroup>, runtime: &[Override]) -> Self {
        let general = threshold.rates();
        let everybody = |rates: &[&Rates]| {
            let mut limit = Limit::new(limit::Limit::NONE, LimitSource::Static);
            rates.iter().for_each(|rates| limit.overlay(rates, EVERYBODY));
            limit
        };
        let outgoing = everybody(&[&general, &threshold.outgoing.unwrap_or_default()]);
        let set = |direction| levels::Set::of(&threshold, &hostgroups, runtime, direction);
        let incoming = set(Direction::Incoming).table(everybody(&[&general]), &threshold);
        let outgoing = set(Direction::Outgoing).table(outgoing, &threshold);
        let summed = threshold.networks.iter().filter(|own| own.total.is_some() || own.total_outgoing.is_some());
        let sums = summed.map(|own| own.prefix).chain(hostgroups.iter().flat_map(|own| own.prefixes.iter().copied())).collect();
        Self { threshold, hostgroups, incoming, outgoing, sums }
    }

    /// The same configuration with other limits at run time.
    #[must_use]
    pub fn with_runtime(&self, runtime: &[Override]) -> Self {
        Self::with_hostgroups(self.threshold.clone(), self.hostgroups.clone(), runtime)
    }

    /// The multiples of the limits for windows of 0.1, 1, 5 and 30 s.
    #[must_use]
    pub fn multiples(&self) -> [f64; 4] {
        self.threshold.window_multiples
    }

    /// The limits by which the counters tell suspects.
    #[must_use]
    pub fn for_counters(&self) -> limit::Limits {
        limit::Limits {
            incoming: self.incoming.map(|own| own.rates),
            outgoing: self.outgoing.map(|own| own.rates),
            // A window that is off makes nobody a suspect.
            multiples: self.multiples().map(|multiple| if multiple > 0.0 { multiple } else { f64::INFINITY }),
            sums: self.sums.clone(),
        }
    }

    /// Whether a target is judged as a host: an address, or the /64 that stands for its addresses where there are too many.
    #[must_use]
    pub fn is_host(prefix: Prefix) -> bool {
        limit::is_host(prefix)
    }

    fn table(&self, direction: Direction) -> &Table<Limit> {
        if direction == Direction::Incoming { &self.incoming } else { &self.outgoing }
    }

    /// The limits of `target`.
    #[must_use]
    pub fn of(&self, target: Target) -> Limit {
        let own = self.table(target.direction).of(target.prefix).cloned();
        own.unwrap_or_else(|| Limit::new(limit::Limit::NONE, LimitSource::Static))
    }

    /// Whether a target is judged by a limit that is set for it by name, so that a host's traffic says nothing about its prefix.
    #[must_use]
    pub fn is_own(&self, target: Target) -> bool {
        let own = self.table(target.direction).of(target.prefix);
        own.is_some_and(|limit| Metric::ALL.iter().any(|metric| limit.source(*metric) == LimitSource::Host))
    }
}

fn rate(value: u64) -> f64 {
    if value == 0 { f64::INFINITY } else { value as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const PPS: Metric = Metric::PacketsPerSecond;
    const BPS: Metric = Metric::BitsPerSecond;

    fn target(text: &str) -> Target {
        Target { prefix: text.parse().unwrap(), direction: Direction::Incoming }
    }

    fn own(text: &str, packets: u64) -> Override {
        Override { packets_per_second: Some(packets), ..Override::of(text.parse().unwrap()) }
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
        let named = Rates { packets_per_second: Some(5), ..Rates::default() };
        assert_eq!(Limits::new(Threshold::default(), &[]).of(target("203.0.113.0/24")).get(PPS), 1_000_000.0);
        let limits = Limits::new(Threshold { prefix: Some(named), ..Threshold::default() }, &[]);
        assert_eq!(limits.of(target("2001:db8::/48")).get(PPS), 5.0);
        assert_eq!(limits.of(target("2001:db8::/48")).get(BPS), 1e10);
        // A /64 stands for the hosts that were folded into it.
        assert_eq!(limits.of(target("2001:db8::/64")).get(PPS), 100_000.0);
    }

    /// Every level names packets; each one below the host, another metric that those above leave to it.
    #[test]
    fn the_most_specific_level_that_names_a_metric_wins() {
        let config: Config = toml::from_str(
            r#"
            [threshold]
            packets_per_second = 1000
            bits_per_second = 1000
            syn = { packets_per_second = 10 }
            outgoing = { packets_per_second = 900 }
            [[threshold.networks]]
            prefix = "10.0.0.0/16"
            packets_per_second = 2000
            udp = { packets_per_second = 20, bits_per_second = 0 }
            outgoing = { packets_per_second = 950 }
            total = { packets_per_second = 5000 }
            [[threshold.networks]]
            prefix = "10.0.4.0/22"
            icmp = { packets_per_second = 25 }
            [[threshold.hosts]]
            target = "10.0.4.0/24"
            packets_per_second = 5000
            fragment = { packets_per_second = 50 }
            [[threshold.hosts]]
            target = "10.0.4.7"
            packets_per_second = 6000
            bits_per_second = 0
            [[hostgroups]]
            name = "web"
            prefixes = ["10.0.4.0/23", "10.0.8.9"]
            packets_per_second = 3000
            tcp = { packets_per_second = 30 }
            syn = { packets_per_second = 31 }
            total = { packets_per_second = 9000 }
            "#,
        )
        .unwrap();
        let node = |text: &str| Override { is_node: true, ..own(text, 4_000) };
        let runtime = [node("10.0.5.1"), node("10.0.4.9"), node("10.0.4.7")];
        let limits = Limits::with_hostgroups(config.threshold, config.hostgroups, &runtime);
        let said = |text: &str, metric| {
            let limit = limits.of(target(text));
            (limit.get(metric), limit.words(metric).to_owned(), limit.source(metric))
        };
        let (fixed, host) = (LimitSource::Static, LimitSource::Host);
        let web = "limit of hostgroup web";
        let off = f64::INFINITY;
        for (text, metric, value, words, source) in [
            ("192.0.2.1", PPS, 1_000.0, "limit", fixed),
            ("10.0.1.1", PPS, 2_000.0, "limit of network 10.0.0.0/16", fixed),
            ("10.0.6.1", PPS, 2_000.0, "limit of network 10.0.0.0/16", fixed),
            ("10.0.6.1", Metric::IcmpPacketsPerSecond, 25.0, "limit of network 10.0.4.0/22", fixed),
            ("10.0.5.2", PPS, 3_000.0, web, fixed),
            ("10.0.8.9", PPS, 3_000.0, web, fixed),
            ("10.0.5.1", PPS, 4_000.0, "limit of the node", host),
            ("10.0.4.8", PPS, 5_000.0, "limit of prefix 10.0.4.0/24", host),
            ("10.0.4.9", PPS, 5_000.0, "limit of prefix 10.0.4.0/24", host),
            ("10.0.4.7", PPS, 6_000.0, "limit of the host", host),
            // What the host does not name: its prefix, group, network and everybody.
            ("10.0.4.7", BPS, off, "limit of the host", host),
            ("10.0.4.8", BPS, 1_000.0, "limit", fixed),
            ("10.0.4.7", Metric::FragmentPacketsPerSecond, 50.0, "limit of prefix 10.0.4.0/24", host),
            ("10.0.4.7", Metric::TcpPacketsPerSecond, 30.0, web, fixed),
            ("10.0.4.7", Metric::SynPacketsPerSecond, 31.0, web, fixed),
            ("10.0.4.7", Metric::IcmpPacketsPerSecond, 25.0, "limit of network 10.0.4.0/22", fixed),
            ("10.0.4.7", Metric::UdpPacketsPerSecond, 20.0, "limit of network 10.0.0.0/16", fixed),
            ("10.0.4.7", Metric::UdpBitsPerSecond, off, "limit of network 10.0.0.0/16", fixed),
            ("10.0.6.1", Metric::SynPacketsPerSecond, 10.0, "limit", fixed),
            // Sums: ten times the hosts', unless a total names it; of other lengths only what a total names.
            ("192.0.2.0/24", PPS, 10_000.0, "limit", fixed),
            ("10.0.1.0/24", PPS, 20_000.0, "limit of network 10.0.0.0/16", fixed),
            ("10.0.5.0/24", PPS, 30_000.0, web, fixed),
            ("10.0.4.0/24", PPS, 5_000.0, "limit of prefix 10.0.4.0/24", host),
            ("10.0.4.0/24", BPS, 10_000.0, "limit", fixed),
            ("10.0.0.0/16", PPS, 5_000.0, "limit of network 10.0.0.0/16", fixed),
            ("10.0.4.0/23", PPS, 9_000.0, web, fixed),
            ("10.0.4.0/23", BPS, off, "limit", fixed),
            ("10.0.4.0/22", PPS, off, "limit", fixed),
        ] {
            assert_eq!(said(text, metric), (value, words.to_owned(), source), "{text} {metric:?}");
        }
        let from = |text: &str| limits.of(Target { direction: Direction::Outgoing, ..target(text) }).get(PPS);
        assert_eq!((from("192.0.2.1"), from("10.0.4.7"), from("10.0.0.0/16")), (900.0, 950.0, off));
        let sums: Vec<String> = limits.for_counters().sums.iter().map(ToString::to_string).collect();
        assert_eq!(sums, ["10.0.0.0/16", "10.0.4.0/23", "10.0.8.9"]);
        // The counters' table is the same one.
        assert_eq!(limits.for_counters().of(target("10.0.4.8")).get(PPS), 5_000.0);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let limits = Limits::new(Threshold { packets_per_second: 0, ..Threshold::default() }, &[]);
        assert_eq!(limits.of(target("203.0.113.1")).get(PPS), f64::INFINITY);
    }

    #[test]
    fn counters_suspect_by_the_limits_of_each_direction() {
        let outgoing = Some(Rates { packets_per_second: Some(5_000), ..Rates::default() });
        let limits = Limits::new(Threshold { outgoing, ..Threshold::default() }, &[]);
        let from = Target { direction: Direction::Outgoing, ..target("203.0.113.1") };
        for (target, packets) in [(target("203.0.113.1"), 100_000.0), (from, 5_000.0)] {
            assert_eq!((limits.for_counters().of(target).get(PPS), limits.of(target).get(PPS)), (packets, packets));
        }
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
