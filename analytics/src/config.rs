//! What the operator may set of detection and mitigation; every key has a working default.

mod baseline;
pub mod limit;
mod sight;

use schemas::net::{Prefix, PrefixSet};
use serde::{Deserialize, Serialize};

pub use baseline::Baseline;
pub use limit::{Hostgroup, Network, Override, Rates, Threshold};
pub use sight::Sight;

/// `[analytics]`: everything between the shards' counters and the speakers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[analytics.threshold]`: when traffic is an attack.
    pub threshold: Threshold,
    /// `[[analytics.hostgroups]]`: hosts that serve the same end, and their limits.
    pub hostgroups: Vec<Hostgroup>,
    /// `[analytics.baseline]`: what is learned of every host, prefix and node.
    pub baseline: Baseline,
    /// `[analytics.incident]`: how an incident is confirmed, followed and closed.
    pub incident: Incident,
    /// `[analytics.sight]`: when the detector is said to be blind.
    pub sight: Sight,
    /// `[analytics.mitigation]`: what may be announced, where and for how long.
    pub mitigation: Mitigation,
    /// Targets whose slots are kept at once; up to 65 kB each. Further ones are refused and counted.
    pub targets_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threshold: Threshold::default(),
            hostgroups: Vec::new(),
            baseline: Baseline::default(),
            incident: Incident::default(),
            sight: Sight::default(),
            mitigation: Mitigation::default(),
            targets_max: 4_096,
        }
    }
}

/// How an incident is confirmed, followed and closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Incident {
    /// Samples that a window must hold before it may open an incident.
    ///
    /// n samples have a relative standard error of 1/√n (Poisson): one sample at 1 in 8,192 says nothing, ten say ± 32 %.
    pub samples_min: u32,
    /// Packets, sampling undone, that a window of less than a second must hold: fewer are a burst, whatever their rate.
    pub burst_packets_min: u32,
    /// Standard errors by which the mean of a window must stay over the single limit.
    ///
    /// Ten windows a second are 864,000 chances a day and host. By 2 errors a host at half of its limit would open up to 15 false incidents a
    /// day (sampled 1 in 2,300), by 3.5 less than one in a million days, and at three quarters of it 0.003 a day; a flood of twice the limit still
    /// shows within a second up to 1 in 2,000. Octets vary more than packets do: where they are the limit, 3.5 are worth about 2.5.
    pub sampling_errors: f64,
    /// Part of the limit below which traffic must fall for an incident to end.
    pub end_ratio: f64,
    /// Seconds that it must stay there, on top of the time by which the target's records are known to be late.
    pub hold_seconds: u64,
    /// Open incidents at once; further ones are refused and counted.
    pub open_max: usize,
    /// Milliseconds between two updates of an incident in which nothing but its numbers changed.
    pub update_milliseconds: u64,
    /// Hosts over their own limit that may explain the traffic of their prefix before the prefix itself is taken for the target.
    pub carpet_hosts: usize,
    /// Severity from low to critical: ratios of peak to limit at which `medium`, `high` and `critical` begin.
    pub severity_ratios: [f64; 3],
}

impl Default for Incident {
    fn default() -> Self {
        Self {
            samples_min: 10,
            burst_packets_min: 100,
            sampling_errors: 3.5,
            end_ratio: 0.7,
            hold_seconds: 10,
            open_max: 1_000,
            update_milliseconds: 1_000,
            carpet_hosts: 8,
            severity_ratios: [2.0, 5.0, 10.0],
        }
    }
}

/// What may be announced, where and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mitigation {
    /// Whether automatic rules are only shown; manual ones are announced all the same.
    pub dry_run: bool,
    /// Hosts and prefixes that no rule may touch.
    pub allowlist: Vec<Prefix>,
    /// Seconds after which a rule is withdrawn by itself; it is renewed while its incident lasts. 0 = never.
    pub ttl_seconds: u64,
    /// Shortest IPv4 prefix that may be announced.
    pub prefix_length_min_v4: u8,
    /// Shortest IPv6 prefix that may be announced.
    pub prefix_length_min_v6: u8,
    /// Rules that may be announced at once.
    pub rules_max: usize,
    /// Rules that may be announced in any minute.
    pub rules_per_minute_max: usize,
    /// Confidence of an incident from which it is answered.
    pub confidence_min: u8,
    /// Seconds between two comparisons of what each speaker carries with what it should carry.
    pub reconcile_seconds: u64,
    /// The speakers.
    pub adapters: Vec<Adapter>,
}

impl Default for Mitigation {
    fn default() -> Self {
        Self {
            dry_run: true,
            allowlist: Vec::new(),
            ttl_seconds: 600,
            prefix_length_min_v4: 32,
            prefix_length_min_v6: 128,
            rules_max: 100,
            rules_per_minute_max: 30,
            confidence_min: 50,
            reconcile_seconds: 10,
            adapters: Vec::new(),
        }
    }
}

/// One speaker, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Adapter {
    /// A gobgpd, by its gRPC.
    Gobgp(Gobgp),
}

impl Adapter {
    /// The adapter's name, unique in the configuration.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Gobgp(gobgp) => &gobgp.id,
        }
    }

    /// The word of the API for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gobgp(_) => "gobgp",
        }
    }

    /// Where it is reached.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        match self {
            Self::Gobgp(gobgp) => &gobgp.endpoint,
        }
    }
}

/// A gobgpd, and what the routes are announced with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gobgp {
    /// The adapter's name.
    pub id: String,
    /// The gRPC endpoint, `http://127.0.0.1:50051`.
    #[serde(default = "gobgp_endpoint")]
    pub endpoint: String,
    /// The next hop of IPv4 routes: the discard address of the routers (RFC 5635 §3).
    #[serde(default = "next_hop_v4")]
    pub next_hop_v4: std::net::Ipv4Addr,
    /// The next hop of IPv6 routes (RFC 6666).
    #[serde(default = "next_hop_v6")]
    pub next_hop_v6: std::net::Ipv6Addr,
    /// Communities, `asn:value`; the default is BLACKHOLE (RFC 7999).
    #[serde(default = "blackhole")]
    pub communities: Vec<String>,
    /// Whether NO_EXPORT, 65535:65281, is added (RFC 7999 §3.2).
    #[serde(default = "yes")]
    pub no_export: bool,
    /// Large communities, `admin:data1:data2` (RFC 8092).
    #[serde(default)]
    pub large_communities: Vec<String>,
    /// The large community by which Weir knows its own routes; two Weirs at one speaker need different ones.
    #[serde(default = "marker")]
    pub marker: String,
    /// Milliseconds that one call may take.
    #[serde(default = "deadline")]
    pub deadline_milliseconds: u64,
}

fn gobgp_endpoint() -> String {
    "http://127.0.0.1:50051".to_owned()
}

fn next_hop_v4() -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(192, 0, 2, 1)
}

fn next_hop_v6() -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)
}

fn blackhole() -> Vec<String> {
    vec!["65535:666".to_owned()]
}

fn yes() -> bool {
    true
}

// The first number is of the range for private use (RFC 6996), so that it can be no one's.
fn marker() -> String {
    "4200002055:0:1".to_owned()
}

fn deadline() -> u64 {
    2_000
}

/// What in a configuration cannot be.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    /// A number is outside its range.
    #[error("analytics.{key}: {value} is not within {from} to {to}")]
    Range {
        /// The key below `analytics`.
        key: &'static str,
        /// What it is.
        value: f64,
        /// The least.
        from: f64,
        /// The most.
        to: f64,
    },
    /// A network or hostgroup cannot be.
    #[error("analytics.{key}: {reason}")]
    Limit {
        /// The key below `analytics`.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Two adapters have one name.
    #[error("analytics.mitigation.adapters: id {0} is used twice")]
    AdapterTwice(String),
    /// An adapter cannot be made of its settings.
    #[error("analytics.mitigation.adapters: {id}: {reason}")]
    Adapter {
        /// The adapter.
        id: String,
        /// What is wrong.
        reason: String,
    },
}

impl Config {
    /// Checks what the types do not: ranges, names, communities, and whether what has limits lies in the `networks` that are ours.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`] found.
    pub fn check(&self, networks: &PrefixSet) -> Result<(), ConfigError> {
        limit::check(&self.threshold, &self.hostgroups, networks).map_err(|(key, reason)| ConfigError::Limit { key, reason })?;
        let range = |key, value: f64, from: f64, to: f64| {
            if (from..=to).contains(&value) { Ok(()) } else { Err(ConfigError::Range { key, value, from, to }) }
        };
        for multiple in self.threshold.window_multiples {
            range("threshold.window_multiples", multiple, 0.0, 1_000.0)?;
        }
        range("threshold.prefix_multiple", self.threshold.prefix_multiple, 0.01, 1_000_000.0)?;
        range("baseline.warm_up_minutes", f64::from(self.baseline.warm_up_minutes), 1.0, 10_080.0)?;
        range("baseline.spreads", self.baseline.spreads, 0.0, 10.0)?;
        range("baseline.accept_hours", f64::from(self.baseline.accept_hours), 1.0, 500.0)?;
        range("baseline.save_seconds", self.baseline.save_seconds as f64, 1.0, 86_400.0)?;
        range("incident.end_ratio", self.incident.end_ratio, 0.01, 1.0)?;
        range("incident.sampling_errors", self.incident.sampling_errors, 0.0, 10.0)?;
        range("mitigation.prefix_length_min_v4", f64::from(self.mitigation.prefix_length_min_v4), 8.0, 32.0)?;
        range("mitigation.prefix_length_min_v6", f64::from(self.mitigation.prefix_length_min_v6), 19.0, 128.0)?;
        range("mitigation.confidence_min", f64::from(self.mitigation.confidence_min), 0.0, 100.0)?;
        let [medium, high, critical] = self.incident.severity_ratios;
        range("incident.severity_ratios", medium, 0.0, high)?;
        range("incident.severity_ratios", high, medium, critical)?;
        let mut ids = std::collections::BTreeSet::new();
        for adapter in &self.mitigation.adapters {
            if !ids.insert(adapter.id()) {
                return Err(ConfigError::AdapterTwice(adapter.id().to_owned()));
            }
            crate::mitigate::adapters::check(adapter)
                .map_err(|reason| ConfigError::Adapter { id: adapter.id().to_owned(), reason: reason.to_string() })?;
        }
        Ok(())
    }
}
