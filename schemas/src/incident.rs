//! An incident: what is attacked, how, since when, with what evidence, and what was done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::counter::Direction;
use crate::net::{Address, Prefix};
use crate::time::Timestamp;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$word_doc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word of the API.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|word| word.name() == text)
                    .ok_or_else(|| UnknownWord { word: text.to_owned(), known: Self::ALL.iter().map(|word| word.name()).collect::<Vec<_>>().join(", ") })
            }
        }
    };
}

pub(crate) use words;

/// A word that is not in its list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{word} is none of {known}")]
pub struct UnknownWord {
    /// The word.
    pub word: String,
    /// What it could be.
    pub known: String,
}

words! {
    /// The kind of an attack.
    Family {
        /// UDP packets, amplification among them.
        UdpFlood = "udp_flood",
        /// SYN without ACK is over half of TCP.
        SynFlood = "syn_flood",
        /// Other TCP flags.
        TcpFlood = "tcp_flood",
        /// ICMP and ICMPv6.
        IcmpFlood = "icmp_flood",
        /// Queries to port 53.
        DnsFlood = "dns_flood",
        /// Connections with complete handshakes to web ports.
        HttpFlood = "http_flood",
        /// Fragments are over 60 % of the packets.
        FragmentFlood = "fragment_flood",
        /// Other IP protocols.
        ProtocolFlood = "protocol_flood",
        /// The two largest vectors are each over 35 %.
        MultiVector = "multi_vector",
        /// None stands out.
        Unknown = "unknown",
    }
}

words! {
    /// How bad it is, by the largest ratio of peak to limit.
    Severity {
        /// Below twice the limit.
        Low = "low",
        /// Below five times.
        Medium = "medium",
        /// Below ten times.
        High = "high",
        /// More.
        Critical = "critical",
    }
}

words! {
    /// Where an incident stands.
    IncidentStatus {
        /// Going on.
        Active = "active",
        /// Over.
        Resolved = "resolved",
        /// A person said that it was none.
        FalsePositive = "false_positive",
    }
}

words! {
    /// What a limit is measured in: all traffic, or one kind of it.
    Metric {
        /// Packets a second.
        PacketsPerSecond = "pps",
        /// Bits a second.
        BitsPerSecond = "bps",
        /// Flow records a second, as they are exported: not scaled by sampling.
        FlowsPerSecond = "fps",
        /// TCP packets a second.
        TcpPacketsPerSecond = "tcp_pps",
        /// TCP bits a second.
        TcpBitsPerSecond = "tcp_bps",
        /// UDP packets a second.
        UdpPacketsPerSecond = "udp_pps",
        /// UDP bits a second.
        UdpBitsPerSecond = "udp_bps",
        /// ICMP and ICMPv6 packets a second.
        IcmpPacketsPerSecond = "icmp_pps",
        /// ICMP and ICMPv6 bits a second.
        IcmpBitsPerSecond = "icmp_bps",
        /// TCP packets a second with SYN and without ACK.
        SynPacketsPerSecond = "syn_pps",
        /// TCP packets a second with SYN, ACK and nothing else.
        SynAckPacketsPerSecond = "syn_ack_pps",
        /// TCP packets a second with RST, maybe ACK, and nothing else.
        ResetPacketsPerSecond = "reset_pps",
        /// TCP packets a second with flags that no stack sends.
        OddPacketsPerSecond = "odd_pps",
        /// Parts of fragmented packets a second.
        FragmentPacketsPerSecond = "fragment_pps",
    }
}

impl Metric {
    /// How many metrics there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The metric's place in [`Metric::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What it counts.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::BitsPerSecond | Self::TcpBitsPerSecond | Self::UdpBitsPerSecond | Self::IcmpBitsPerSecond => Unit::Bits,
            Self::FlowsPerSecond => Unit::Flows,
            _ => Unit::Packets,
        }
    }
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Packets, sampling undone.
    Packets,
    /// Bits of IP octets, sampling undone.
    Bits,
    /// Flow records, as exported.
    Flows,
}

words! {
    /// Where a limit came from.
    LimitSource {
        /// The configuration.
        Static = "static",
        /// What was learned.
        Baseline = "baseline",
        /// A limit of this host or node alone.
        Host = "host",
    }
}

/// The limit that was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Measured in.
    pub metric: Metric,
    /// Its value, in the metric's unit a second.
    pub value: f64,
    /// Where it came from.
    pub source: LimitSource,
}

/// One number that speaks for an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The rule that matched, in words: `mean of 1 s over the limit`.
    pub rule: String,
    /// Measured in.
    pub metric: Metric,
    /// Length of the window in milliseconds.
    pub window_milliseconds: u64,
    /// What was seen, in the metric's unit a second.
    pub value: f64,
    /// What it was compared with.
    pub limit: f64,
    /// Relative standard error of `value` from sampling; 0 = every packet was seen.
    pub sampling_error: f64,
    /// When the window ended.
    pub at: Timestamp,
}

/// One entry of a ranking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share<T> {
    /// The value.
    pub value: T,
    /// Packets, sampling undone.
    pub packets: u64,
    /// IP octets, sampling undone.
    pub octets: u64,
    /// Part of all packets, 0 to 1.
    pub share: f64,
}

words! {
    /// A step in an incident's life.
    TimelineKind {
        /// The limit was crossed.
        Opened = "opened",
        /// It grew into the next severity, or changed its family.
        Escalated = "escalated",
        /// A rule was handed to its adapter.
        RuleAnnounced = "rule_announced",
        /// The speaker carries it.
        RuleConfirmed = "rule_confirmed",
        /// The adapter or the guard refused it.
        RuleFailed = "rule_failed",
        /// A rule was only shown.
        RuleDryRun = "rule_dry_run",
        /// A look behind the rule.
        LeakProbe = "leak_probe",
        /// The speaker no longer carries the rule.
        Withdrawn = "withdrawn",
        /// Over.
        Resolved = "resolved",
        /// A person changed it.
        Edited = "edited",
    }
}

/// A step in an incident's life, with its moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: TimelineKind,
    /// In plain words.
    pub text: String,
}

/// The node that an incident's target belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReference {
    /// Its uuid.
    pub uuid: Uuid,
    /// Its display name.
    pub name: String,
    /// Its address.
    pub ip: Address,
}

/// What was normal for the target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Mean packets a second.
    pub avg_pps: f64,
    /// 95th percentile.
    pub p95_pps: f64,
}

/// What an incident's packets are made of, in numbers; null where the telemetry does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Indicators {
    /// Entropy of the sources by packets, in bits; n sources alike have log₂ n. An upper bound.
    pub source_entropy_bits: Option<f64>,
    /// Packets of each source, sampling undone.
    pub packets_per_source: Option<f64>,
    /// How many times to live were seen, at most 16.
    pub ttl_count: Option<u64>,
    /// Mean length of a packet in IP octets.
    pub mean_packet_octets: Option<f64>,
    /// SYN without ACK as a part of the TCP packets, 0 to 1.
    pub syn_share: Option<f64>,
    /// Parts of fragmented packets as a part of all packets, 0 to 1.
    pub fragment_share: Option<f64>,
    /// UDP packets from a port of the amplification registry as a part of the UDP packets, 0 to 1.
    pub amplification_share: Option<f64>,
}

/// An incident, as the API shows it: every field always present, null where no part fills it yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name for good.
    pub uuid: Uuid,
    /// The node that the target belongs to.
    pub node: Option<NodeReference>,
    /// An address, or the smallest covering prefix.
    pub target: Prefix,
    /// Towards the target or from it.
    pub direction: Direction,
    /// The kind.
    pub family: Family,
    /// The finer kind, by the registry of the API's contract.
    pub subtype: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// Where it stands.
    pub status: IncidentStatus,
    /// How sure, 0 to 100: lowered by sampling error and data loss.
    pub confidence: u8,
    /// Start of the first window over the limit.
    pub started_at: Timestamp,
    /// When the incident was opened.
    pub detected_at: Timestamp,
    /// When the first rule was confirmed.
    pub mitigated_at: Option<Timestamp>,
    /// End of the last window over the limit.
    pub ended_at: Option<Timestamp>,
    /// From start to end, or so far.
    pub duration_sec: u64,
    /// Largest packets a second in one window of a second.
    pub peak_pps: u64,
    /// Largest bits a second in one window of a second.
    pub peak_bps: u64,
    /// Packets in all, sampling undone.
    pub total_packets: u64,
    /// IP octets in all, sampling undone.
    pub total_octets: u64,
    /// The limit that was crossed first.
    pub threshold: Threshold,
    /// What was normal before.
    pub baseline: Option<Baseline>,
    /// The numbers that speak for it.
    pub evidence: Vec<Evidence>,
    /// Share of the packets by `tcp`, `udp`, `icmp`, `other`.
    pub protocol_breakdown: BTreeMap<String, f64>,
    /// Share of the TCP packets by flag combination (`SYN`, `SYN|ACK`, …).
    pub tcp_flag_breakdown: Option<BTreeMap<String, f64>>,
    /// Share of the packets by mean length, keys `0-63`, `64-127`, ….
    pub packet_length_histogram: Option<BTreeMap<String, f64>>,
    /// Estimated number of different sources.
    pub source_ip_count: Option<u64>,
    /// Whether the sources look made up.
    pub spoofing_detected: Option<bool>,
    /// Largest sources.
    pub top_src_ips: Vec<Share<Address>>,
    /// Largest source AS numbers.
    pub top_src_asns: Option<Vec<Share<u32>>>,
    /// Largest destination ports.
    pub top_dst_ports: Vec<Share<u16>>,
    /// Largest source ports.
    pub top_src_ports: Vec<Share<u16>>,
    /// Share of the packets by country.
    pub geo_breakdown: Option<BTreeMap<String, f64>>,
    /// Exporters that saw it.
    pub exporters: Vec<Address>,
    /// Rules that answered it.
    pub rules: Vec<Uuid>,
    /// Packet captures of it.
    pub pcaps: Vec<Uuid>,
    /// Its life, in order.
    pub timeline: Vec<TimelineEntry>,
    /// Plain sentences made from the evidence.
    pub summary: String,
    /// A person's words on it.
    pub note: Option<String>,
    /// What its packets are made of, in numbers.
    #[serde(default)]
    pub indicators: Indicators,
    /// The name that incidents share which have the same family and sources and began within five minutes; null for one alone.
    #[serde(default)]
    pub group_uuid: Option<Uuid>,
}

impl Incident {
    /// One of which nothing is known yet but that a limit was crossed: every other field is empty, and severity and family are the least.
    #[must_use]
    pub fn of(
        uuid: Uuid,
        target: Prefix,
        direction: Direction,
        threshold: Threshold,
        started_at: Timestamp,
        detected_at: Timestamp,
    ) -> Self {
        Self {
            uuid,
            node: None,
            target,
            direction,
            family: Family::Unknown,
            subtype: None,
            severity: Severity::Low,
            status: IncidentStatus::Active,
            confidence: 0,
            started_at,
            detected_at,
            mitigated_at: None,
            ended_at: None,
            duration_sec: 0,
            peak_pps: 0,
            peak_bps: 0,
            total_packets: 0,
            total_octets: 0,
            threshold,
            baseline: None,
            evidence: Vec::new(),
            protocol_breakdown: BTreeMap::new(),
            tcp_flag_breakdown: None,
            packet_length_histogram: None,
            source_ip_count: None,
            spoofing_detected: None,
            top_src_ips: Vec::new(),
            top_src_asns: None,
            top_dst_ports: Vec::new(),
            top_src_ports: Vec::new(),
            geo_breakdown: None,
            exporters: Vec::new(),
            rules: Vec::new(),
            pcaps: Vec::new(),
            timeline: Vec::new(),
            summary: String::new(),
            note: None,
            indicators: Indicators::default(),
            group_uuid: None,
        }
    }
}
