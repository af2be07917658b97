//! Which limits the operator sets: for everybody, and for networks, hostgroups, prefixes and hosts.

use std::collections::{BTreeMap, BTreeSet};

use schemas::incident::Metric;
use schemas::limit;
use schemas::net::{Prefix, PrefixSet};
use serde::{Deserialize, Serialize};

/// Limits on all traffic of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kind {
    /// Packets a second.
    pub packets_per_second: Option<u64>,
    /// Bits a second, IP octets × 8.
    pub bits_per_second: Option<u64>,
}

/// A limit on packets of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Packets {
    /// Packets a second.
    pub packets_per_second: Option<u64>,
}

/// A struct with its own fields and a limit for each metric: what is not named is left as it is elsewhere, 0 turns it off.
macro_rules! with_rates {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            /// Packets a second.
            pub packets_per_second: Option<u64>,
            /// Bits a second, IP octets × 8.
            pub bits_per_second: Option<u64>,
            /// Flow records a second, as they are exported.
            pub flows_per_second: Option<u64>,
            /// TCP.
            pub tcp: Option<Kind>,
            /// UDP.
            pub udp: Option<Kind>,
            /// ICMP and ICMPv6.
            pub icmp: Option<Kind>,
            /// TCP with SYN and without ACK.
            pub syn: Option<Packets>,
            /// TCP with SYN, ACK and nothing else.
            pub syn_ack: Option<Packets>,
            /// TCP with RST, maybe ACK, and nothing else.
            pub reset: Option<Packets>,
            /// TCP with flags that no stack sends.
            pub odd: Option<Packets>,
            /// Parts of fragmented packets.
            pub fragment: Option<Packets>,
        }

        impl $name {
            /// The limit of one metric, in its unit a second; `None` if it is not named.
            #[must_use]
            pub fn get(&self, metric: Metric) -> Option<u64> {
                match metric {
                    Metric::PacketsPerSecond => self.packets_per_second,
                    Metric::BitsPerSecond => self.bits_per_second,
                    Metric::FlowsPerSecond => self.flows_per_second,
                    Metric::TcpPacketsPerSecond => self.tcp.and_then(|own| own.packets_per_second),
                    Metric::TcpBitsPerSecond => self.tcp.and_then(|own| own.bits_per_second),
                    Metric::UdpPacketsPerSecond => self.udp.and_then(|own| own.packets_per_second),
                    Metric::UdpBitsPerSecond => self.udp.and_then(|own| own.bits_per_second),
                    Metric::IcmpPacketsPerSecond => self.icmp.and_then(|own| own.packets_per_second),
                    Metric::IcmpBitsPerSecond => self.icmp.and_then(|own| own.bits_per_second),
                    Metric::SynPacketsPerSecond => self.syn.and_then(|own| own.packets_per_second),
                    Metric::SynAckPacketsPerSecond => self.syn_ack.and_then(|own| own.packets_per_second),
                    Metric::ResetPacketsPerSecond => self.reset.and_then(|own| own.packets_per_second),
                    Metric::OddPacketsPerSecond => self.odd.and_then(|own| own.packets_per_second),
                    Metric::FragmentPacketsPerSecond => self.fragment.and_then(|own| own.packets_per_second),
                }
            }

            /// The limits alone.
            #[must_use]
            pub fn rates(&self) -> Rates {
                Rates {
                    packets_per_second: self.packets_per_second,
                    bits_per_second: self.bits_per_second,
                    flows_per_second: self.flows_per_second,
                    tcp: self.tcp,
                    udp: self.udp,
                    icmp: self.icmp,
                    syn: self.syn,
                    syn_ack: self.syn_ack,
                    reset: self.reset,
                    odd: self.odd,
                    fragment: self.fragment,
                }
            }
        }
    };
}

with_rates! {
    /// A limit for each metric; one that is not named is left to the next level, 0 turns it off.
    #[derive(Copy, Default)]
    Rates {}
}

with_rates! {
    /// Limits of a host or of every host in a prefix; those on what comes to it beside the target.
    #[derive(Copy)]
    Override {
        /// The host or prefix.
        target: Prefix,
        /// Limits on what it sends.
        outgoing: Option<Rates>,
        /// Whether it is the limit of a node, which is set at run time and yields to what is said of hosts and prefixes.
        #[serde(skip)]
        is_node: bool,
    }
}

impl Override {
    /// One that names no limit yet.
    #[must_use]
    pub fn of(target: Prefix) -> Self {
        let Rates { packets_per_second, bits_per_second, flows_per_second, tcp, udp, icmp, syn, syn_ack, reset, odd, fragment } =
            Rates::default();
        Self {
            target,
            outgoing: None,
            is_node: false,
            packets_per_second,
            bits_per_second,
            flows_per_second,
            tcp,
            udp,
            icmp,
            syn,
            syn_ack,
            reset,
            odd,
            fragment,
        }
    }
}

with_rates! {
    /// Limits of every host in a network, and of the network in sum; those on what comes to a host beside the prefix.
    Network {
        /// The network.
        prefix: Prefix,
        /// Limits on what a host sends.
        outgoing: Option<Rates>,
        /// Limits on the sum of what comes to the network.
        total: Option<Rates>,
        /// Limits on the sum of what it sends.
        total_outgoing: Option<Rates>,
    }
}

with_rates! {
    /// `[[analytics.hostgroups]]`: hosts that serve the same end; the limits on what comes to each beside the name.
    Hostgroup {
        /// The name, unique.
        name: String,
        /// Where its hosts are; each prefix is counted in sum too.
        prefixes: Vec<Prefix>,
        /// Limits on what a host sends.
        outgoing: Option<Rates>,
        /// Limits on the sum of what comes to each of the prefixes.
        total: Option<Rates>,
        /// Limits on the sum of what each of them sends.
        total_outgoing: Option<Rates>,
    }
}

/// `[analytics.threshold]`: what holds for every host of which nothing else is said, and the list of those of which something is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threshold {
    /// Packets a second to one host; 0 turns the metric off.
    pub packets_per_second: u64,
    /// Bits a second to one host, IP octets × 8; 0 turns the metric off.
    pub bits_per_second: u64,
    /// Flow records a second, as they are exported; 0 turns the metric off.
    pub flows_per_second: u64,
    /// TCP.
    pub tcp: Option<Kind>,
    /// UDP.
    pub udp: Option<Kind>,
    /// ICMP and ICMPv6.
    pub icmp: Option<Kind>,
    /// TCP with SYN and without ACK.
    pub syn: Option<Packets>,
    /// TCP with SYN, ACK and nothing else.
    pub syn_ack: Option<Packets>,
    /// TCP with RST, maybe ACK, and nothing else.
    pub reset: Option<Packets>,
    /// TCP with flags that no stack sends.
    pub odd: Option<Packets>,
    /// Parts of fragmented packets.
    pub fragment: Option<Packets>,
    /// The limit on a mean over windows of 0.1, 1, 5 and 30 s, as multiples of the limits; 0 turns a window off.
    pub window_multiples: [f64; 4],
    /// The limits on the sum over a /24 or /48, as a multiple of those of a host in it, where nothing names them.
    pub prefix_multiple: f64,
    /// Limits on the traffic *from* a host, where they differ from those to it.
    pub outgoing: Option<Rates>,
    /// Limits on the sum over a /24 or /48.
    pub prefix: Option<Rates>,
    /// Limits of networks; the longest prefix holds.
    pub networks: Vec<Network>,
    /// Limits of single hosts, or of every host in a prefix; the longest prefix holds.
    pub hosts: Vec<Override>,
}

impl Default for Threshold {
    fn default() -> Self {
        Self {
            packets_per_second: 100_000,
            bits_per_second: 1_000_000_000,
            flows_per_second: 0,
            tcp: None,
            udp: None,
            icmp: None,
            syn: None,
            syn_ack: None,
            reset: None,
            odd: None,
            fragment: None,
            window_multiples: [2.0, 1.0, 1.0, 1.0],
            prefix_multiple: schemas::limit::Limits::PREFIX_FACTOR,
            outgoing: None,
            prefix: None,
            networks: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

impl Threshold {
    /// What holds for every host.
    #[must_use]
    pub fn rates(&self) -> Rates {
        Rates {
            packets_per_second: Some(self.packets_per_second),
            bits_per_second: Some(self.bits_per_second),
            flows_per_second: Some(self.flows_per_second),
            tcp: self.tcp,
            udp: self.udp,
            icmp: self.icmp,
            syn: self.syn,
            syn_ack: self.syn_ack,
            reset: self.reset,
            odd: self.odd,
            fragment: self.fragment,
        }
    }
}

/// Networks, hostgroups, and prefixes of a hostgroup, at most of each.
const LEVELS_MAX: usize = 10_000;

/// What in the limits cannot be: the key below `analytics`, and the fault.
///
/// `networks` are those that are ours; empty: all are.
pub(crate) fn check(threshold: &Threshold, hostgroups: &[Hostgroup], networks: &PrefixSet) -> Result<(), (&'static str, String)> {
    let outside = |prefix: Prefix| !networks.is_empty() && !networks.covers(prefix);
    let sums_one = |prefix: Prefix, totals: [&Option<Rates>; 2]| limit::is_host(prefix) && totals.iter().any(|total| total.is_some());
    let mut prefixes = BTreeSet::new();
    for Network { prefix, total, total_outgoing, .. } in &threshold.networks {
        let fault = |text: String| Err(("threshold.networks", format!("{prefix} {text}")));
        if !prefixes.insert(prefix) {
            return fault("is there twice".to_owned());
        }
        if outside(*prefix) {
            return fault("lies outside networks".to_owned());
        }
        if sums_one(*prefix, [total, total_outgoing]) {
            return fault("is judged as one host, and has no total".to_owned());
        }
    }
    let (mut names, mut groups) = (BTreeSet::new(), BTreeMap::new());
    for Hostgroup { name, prefixes, total, total_outgoing, .. } in hostgroups {
        let fault = |text: String| Err(("hostgroups", format!("{name}: {text}")));
        if name.trim().is_empty() || name.len() > 100 {
            return fault("a name has 1 to 100 octets".to_owned());
        }
        if !names.insert(name) {
            return fault("the name is used twice".to_owned());
        }
        if prefixes.is_empty() || prefixes.len() > LEVELS_MAX {
            return fault(format!("1 to {LEVELS_MAX} prefixes are needed"));
        }
        for prefix in prefixes {
            if let Some(other) = groups.insert(*prefix, name) {
                return fault(format!("{prefix} is in {other} already"));
            }
            if outside(*prefix) {
                return fault(format!("{prefix} lies outside networks"));
            }
        }
        if !prefixes.is_empty() && prefixes.iter().all(|prefix| sums_one(*prefix, [total, total_outgoing])) {
            return fault("total is of a sum, and there are only single hosts".to_owned());
        }
    }
    for (key, count) in [("threshold.networks", threshold.networks.len()), ("hostgroups", hostgroups.len())] {
        if count > LEVELS_MAX {
            return Err((key, format!("{count} are more than {LEVELS_MAX}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| text.parse().unwrap()).collect();
        let fault = |text: &str| toml::from_str::<Config>(text).unwrap().check(&networks).map_err(|error| error.to_string()).err();
        let group = |name: &str, rest: &str| format!("[[hostgroups]]\nname = \"{name}\"\n{rest}\n");
        let web = group("web", "prefixes = [\"10.0.0.0/22\", \"10.0.9.9\"]\ntotal = { packets_per_second = 5 }");
        assert_eq!(fault(&web), None);
        let twice = "[[threshold.networks]]\nprefix = \"10.0.0.0/22\"\n".repeat(2);
        for (text, message) in [
            (web.clone() + &group("web", "prefixes = [\"10.1.0.0/22\"]"), "analytics.hostgroups: web: the name is used twice"),
            (web + &group("mail", "prefixes = [\"10.0.0.0/22\"]"), "analytics.hostgroups: mail: 10.0.0.0/22 is in web already"),
            (group("dns", "prefixes = []"), "analytics.hostgroups: dns: 1 to 10000 prefixes are needed"),
            (group("dns", "prefixes = [\"192.0.2.0/24\"]"), "analytics.hostgroups: dns: 192.0.2.0/24 lies outside networks"),
            (group(" ", "prefixes = [\"10.0.0.0/24\"]"), "analytics.hostgroups:  : a name has 1 to 100 octets"),
            (
                group("one", "prefixes = [\"10.0.0.1\"]\ntotal = { packets_per_second = 5 }"),
                "analytics.hostgroups: one: total is of a sum, and there are only single hosts",
            ),
            (twice, "analytics.threshold.networks: 10.0.0.0/22 is there twice"),
            (
                "[[threshold.networks]]\nprefix = \"192.0.2.0/24\"\n".to_owned(),
                "analytics.threshold.networks: 192.0.2.0/24 lies outside networks",
            ),
            (
                "[[threshold.networks]]\nprefix = \"2001:db8::/64\"\ntotal = { bits_per_second = 5 }\n".to_owned(),
                "analytics.threshold.networks: 2001:db8::/64 is judged as one host, and has no total",
            ),
        ] {
            assert_eq!(fault(&text).as_deref(), Some(message));
        }
        assert!(toml::from_str::<Config>("[threshold]\nsyn = { bits_per_second = 5 }").is_err());
        assert!(toml::from_str::<Config>("[[hostgroups]]\nname = \"web\"\nprefixes = []\nudp = { pps = 5 }").is_err());
    }
}
