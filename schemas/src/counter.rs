//! What a shard tells the analysts: counts of a target in slots of 100 ms, and how its exporters fare.

use serde::{Deserialize, Serialize};

use crate::flow::Version;
use crate::incident::Metric;
use crate::interface::CounterSample;
use crate::ledger::{Ledger, StoreLedger};
use crate::net::{Address, Prefix};
use crate::time::Timestamp;

/// Length of a slot in milliseconds; slot n holds the traffic of `[n × 100, n × 100 + 100)` unix milliseconds.
pub const SLOT_MILLISECONDS: u64 = 100;

/// Which way the traffic goes, seen from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the target.
    Incoming,
    /// From the target.
    Outgoing,
}

/// Whose traffic is counted: a host or a prefix, and one direction of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// A host, or the prefix that is summed.
    pub prefix: Prefix,
    /// The direction.
    pub direction: Direction,
}

macro_rules! volume {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Traffic of one target in one span of time, sampling undone; octets are IP octets.
        ///
        /// Values are real numbers, since a flow of 60 s leaves a 600th of itself in each slot, and of 53 bits, so that
        /// running sums of an hour of a 400 Gbit/s attack are exact to the octet.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct Volume { $($(#[$doc])* pub $name: f64,)* }

        impl std::ops::AddAssign<&Volume> for Volume {
            fn add_assign(&mut self, other: &Volume) { $(self.$name += other.$name;)* }
        }

        impl Volume {
            /// How many counts a volume has.
            pub const COUNTS: usize = [$(stringify!($name)),*].len();

            /// The volume times `factor`, in every count.
            #[must_use]
            pub fn scaled(&self, factor: f64) -> Volume {
                Volume { $($name: self.$name * factor,)* }
            }

            /// The volume less another one, and in no count less than nothing.
            #[must_use]
            pub fn without(&self, other: &Volume) -> Volume {
                Volume { $($name: (self.$name - other.$name).max(0.0),)* }
            }

            /// The counts in declaration order.
            #[must_use]
            pub const fn to_array(&self) -> [f64; Volume::COUNTS] {
                [$(self.$name),*]
            }

            /// The volume of counts in declaration order.
            #[must_use]
            pub const fn from_array([$($name),*]: [f64; Volume::COUNTS]) -> Volume {
                Volume { $($name),* }
            }
        }
    };
}

volume! {
    /// Packets.
    packets,
    /// IP octets.
    octets,
    /// Flow records, not scaled by sampling.
    flows,
    /// TCP packets.
    tcp_packets,
    /// UDP packets.
    udp_packets,
    /// ICMP and ICMPv6 packets.
    icmp_packets,
    /// TCP packets of records whose flags are SYN without ACK.
    syn_packets,
    /// Parts of fragmented packets.
    fragment_packets,
    /// UDP packets from a port of the amplification registry.
    amplification_packets,
    /// TCP octets.
    tcp_octets,
    /// UDP octets.
    udp_octets,
    /// UDP octets from a port of the amplification registry.
    amplification_octets,
    /// ICMP and ICMPv6 octets.
    icmp_octets,
    /// TCP packets of records whose flags are SYN and ACK alone: the flags of a record are those of all its packets, so that a whole
    /// connection has these and others.
    syn_ack_packets,
    /// TCP packets of records whose flags are RST, or RST and ACK, alone.
    reset_packets,
    /// TCP packets of records with flags that no stack sends, not even in sum: none at all, or FIN, PSH or URG without ACK.
    odd_packets,
    /// Samples that `packets` was reconstructed from: unscaled packets.
    samples,
}

impl Volume {
    /// The count that a metric limits: packets, bits or flow records.
    #[must_use]
    pub const fn count(&self, metric: Metric) -> f64 {
        match metric {
            Metric::PacketsPerSecond => self.packets,
            Metric::BitsPerSecond => self.octets * 8.0,
            Metric::FlowsPerSecond => self.flows,
            Metric::TcpPacketsPerSecond => self.tcp_packets,
            Metric::TcpBitsPerSecond => self.tcp_octets * 8.0,
            Metric::UdpPacketsPerSecond => self.udp_packets,
            Metric::UdpBitsPerSecond => self.udp_octets * 8.0,
            Metric::IcmpPacketsPerSecond => self.icmp_packets,
            Metric::IcmpBitsPerSecond => self.icmp_octets * 8.0,
            Metric::SynPacketsPerSecond => self.syn_packets,
            Metric::SynAckPacketsPerSecond => self.syn_ack_packets,
            Metric::ResetPacketsPerSecond => self.reset_packets,
            Metric::OddPacketsPerSecond => self.odd_packets,
            Metric::FragmentPacketsPerSecond => self.fragment_packets,
        }
    }

    /// The packets that a metric's count is made of; all of them for flow records.
    #[must_use]
    pub const fn packets_of(&self, metric: Metric) -> f64 {
        match metric {
            Metric::BitsPerSecond | Metric::FlowsPerSecond => self.packets,
            Metric::TcpBitsPerSecond => self.tcp_packets,
            Metric::UdpBitsPerSecond => self.udp_packets,
            Metric::IcmpBitsPerSecond => self.icmp_packets,
            packets => self.count(packets),
        }
    }

    /// The mean of a metric over `seconds`, in the metric's unit a second.
    #[must_use]
    pub fn rate(&self, metric: Metric, seconds: f64) -> f64 {
        self.count(metric) / seconds
    }
}

/// Traffic of one target that has come to light since the last snapshot.
#[derive(Clone, Debug)]
pub struct TargetUpdate {
    /// Whose traffic.
    pub target: Target,
    /// What each changed slot gains, by ascending slot number; a slot may gain again in a later snapshot.
    pub slots: Vec<(u64, Volume)>,
    /// What the flows look like, where it was asked for.
    pub detail: Option<Box<Detail>>,
}

/// What a suspect has exchanged with one of its largest peers since the last snapshot, in the direction of the suspicion.
///
/// It tells which part of the traffic is whose, so that the two directions can be held against each other; of many small peers nothing is
/// told.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// The suspect, or the other direction of one.
    pub target: Target,
    /// The peer's address in 32 bits, see [`Address::folded`].
    pub peer: u32,
    /// The first and the last slot that its records lie in.
    pub slots: (u64, u64),
    /// What came or went.
    pub volume: Volume,
}

/// The largest values of one property with their estimated packets and octets, descending by packets.
pub type Ranking<T> = Vec<(T, u64, u64)>;

/// What a suspect's recent traffic is made of, by space-saving sketches; packets and octets with sampling undone.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// Packets that the rankings were drawn from.
    pub packets: u64,
    /// Octets that the rankings were drawn from.
    pub octets: u64,
    /// Top source addresses (for outgoing traffic: top destinations).
    pub peers: Ranking<Address>,
    /// Estimated number of different peers.
    pub peer_count: u64,
    /// The smallest of the peers' hashes, at most 64, ascending: by them two sets of peers are compared.
    pub peer_sample: Vec<u64>,
    /// Records that the number of peers was drawn from.
    pub peer_records: u64,
    /// Connections that these peers opened, sampling undone: their SYN packets, and flow records of whole connections.
    pub connections: u64,
    /// The span that the numbers of peers, records and connections are of, in milliseconds.
    pub peer_milliseconds: u64,
    /// Top source ports, with the protocol.
    pub source_ports: Ranking<(u8, u16)>,
    /// Top destination ports, with the protocol.
    pub destination_ports: Ranking<(u8, u16)>,
    /// IP protocols.
    pub protocols: Ranking<u8>,
    /// TCP flag combinations.
    pub tcp_flags: Ranking<u16>,
    /// Mean packet lengths of the records, rounded down to multiples of 64 octets.
    pub packet_lengths: Ranking<u16>,
    /// Times to live.
    pub ttls: Ranking<u8>,
    /// Exporters that saw the traffic.
    pub exporters: Ranking<Address>,
    /// Of a prefix: where in it the traffic lies.
    pub spread: Option<Box<Spread>>,
}

/// Where within a prefix its traffic lies: octets and packets of each part, counted exactly since the last [`Detail`].
///
/// A target of length n has 256 parts of length n + 8 (a /24: its addresses), or as many as there are addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Packets and octets by the eight bits behind the prefix.
    pub parts: Vec<[f32; 2]>,
    /// Packets and octets by the eight bits behind these, whatever these are (IPv6, down to /64); else empty.
    pub finer: Vec<[f32; 2]>,
}

impl Spread {
    /// Adds what another shard counted.
    pub fn add(&mut self, other: &Self) {
        for (own, theirs) in [(&mut self.parts, &other.parts), (&mut self.finer, &other.finer)] {
            if own.len() < theirs.len() {
                own.resize(theirs.len(), [0.0; 2]);
            }
            for (own, theirs) in own.iter_mut().zip(theirs) {
                own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own += theirs);
            }
        }
    }
}

/// How often a host or prefix with traffic is reported, whether it is a suspect or not.
pub const HOST_REPORT_MILLISECONDS: u64 = 10_000;

/// What came of one host or prefix since its last report, by the time of arrival; for pages and baselines.
#[derive(Clone, Copy, Debug)]
pub struct HostReport {
    /// The host and direction.
    pub target: Target,
    /// What was counted in the span of [`HOST_REPORT_MILLISECONDS`]; `samples` and what follows `udp_octets` are 0: a host's entry has no
    /// room for them.
    pub volume: Volume,
}

/// How one exporter fares on one shard, since the start.
#[derive(Clone, Debug)]
pub struct ExporterReport {
    /// The sender.
    pub exporter: Address,
    /// The ledger of this exporter on this shard.
    pub ledger: Ledger,
    /// What became of its records behind the counters.
    pub store: StoreLedger,
    /// When a datagram was last heard.
    pub last_seen: Timestamp,
    /// One entry for every protocol and observation domain.
    pub domains: Vec<DomainReport>,
}

/// One observation domain of an exporter.
#[derive(Clone, Debug, Serialize)]
pub struct DomainReport {
    /// The protocol.
    pub version: Version,
    /// Observation domain, source id, engine or sub-agent.
    pub observation_domain_id: u32,
    /// The sFlow agent's address.
    pub agent: Option<Address>,
    /// Templates that are known now.
    pub templates: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Flow records decoded.
    pub records: u64,
    /// Units that never came, by the sequence numbers.
    pub lost_by_sequence: u64,
    /// Records and sets given up without their template.
    pub sets_without_template: u64,
    /// The rate that holds for most records; `None` while none is known.
    pub sampling_interval: Option<u32>,
    /// Where the rate was learned.
    pub sampling_source: SamplingSource,
    /// What is added to the exporter's times to have ours, in milliseconds.
    pub clock_offset_milliseconds: i64,
    /// Interfaces seen in records, ascending, at most 1,024 of them.
    pub interfaces: Vec<u32>,
}

/// Where a sampling rate was learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingSource {
    /// Nowhere yet.
    #[default]
    Unknown,
    /// The operator said so.
    Config,
    /// The datagram's header (v5).
    Header,
    /// An options record.
    Options,
    /// The flow record or sample itself.
    Record,
}

/// Everything a shard tells at the end of a slot.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Number of the shard, from 0.
    pub shard: usize,
    /// When it was taken, by our clock.
    pub taken_at: Timestamp,
    /// Suspects, and prefixes that are suspects, with the slots that changed.
    pub targets: Vec<TargetUpdate>,
    /// The other direction of suspects, where that is no suspect itself: what they answer. Not judged, only asked.
    pub answers: Vec<TargetUpdate>,
    /// What suspects, and the other direction of hosts among them, exchanged with their largest peers.
    pub talks: Vec<Talk>,
    /// Targets whose suspicion ended: no update comes until it begins anew.
    pub released: Vec<Target>,
    /// Hosts and prefixes with traffic: each once in [`HOST_REPORT_MILLISECONDS`], and a hundredth of them in each snapshot,
    /// so that a shard with a million hosts never stops to report. A host's turn is the same on every shard.
    pub hosts: Vec<HostReport>,
    /// Exporters heard since the start, in the snapshots that close a second; else empty.
    pub exporters: Vec<ExporterReport>,
    /// Sum of all exporters' ledgers, in the snapshots that close a second.
    pub ledger: Option<Ledger>,
    /// What became of this shard's records behind the counters, in the snapshots that close a second.
    pub store: Option<StoreLedger>,
    /// What interfaces counted, by the word of their exporter, since the last snapshot that closed a second (sFlow).
    pub interface_counters: Vec<(Address, CounterSample)>,
    /// Datagrams that the kernel dropped at this shard's sockets, since the start (`SO_RXQ_OVFL`).
    pub kernel_drops: u64,
    /// Targets for which there was no room among the suspects, since the start.
    pub suspects_refused: u64,
    /// Suspects whose other direction could not be counted, since the start: there was no room for a host.
    pub answers_refused: u64,
}
