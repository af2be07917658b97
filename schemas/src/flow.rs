//! `FlowBatch`: decoded flow records, one column a field, and the segments that say where they came from.

use std::ops::Range;

use serde::Serialize;

use crate::counter::SamplingSource;
use crate::net::Address;

mod column_set;
mod label;

pub use column_set::ColumnSet;
pub use label::Labels;

/// The export protocol of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// NetFlow version 1.
    Netflow1,
    /// NetFlow version 5.
    Netflow5,
    /// NetFlow version 7.
    Netflow7,
    /// NetFlow version 9 (RFC 3954).
    Netflow9,
    /// IPFIX (RFC 7011).
    Ipfix,
    /// sFlow version 5.
    Sflow5,
    /// A packet of a mirror port or a packet capture, each a record of its own.
    Packet,
}

/// Rows by which each column is longer than its batch's capacity, so that whoever reads rows in groups of so many finds whole arrays.
pub const GROUP_ROWS: usize = 32;

/// A value that a column may hold.
trait Value: Sized {
    /// As many zeroes, in memory that the system has zeroed and that nobody has touched.
    fn zeroes(count: usize) -> Box<[Self]>;
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(impl Value for $number {
            fn zeroes(count: usize) -> Box<[Self]> {
                vec![0; count].into_boxed_slice()
            }
        })*
    };
}

numbers! { u8 u16 u32 u64 }

impl Value for Address {
    fn zeroes(count: usize) -> Box<[Self]> {
        // In place, and optimized builds leave nothing of it to be done.
        vec![0; count].into_iter().map(Address).collect()
    }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident / $variant:ident: $type:ty,)*) => {
        /// A field of a flow record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Column { $($(#[$doc])* $variant,)* }

        impl Column {
            /// All columns, in the order of the batch.
            pub const ALL: &[Column] = &[$(Column::$variant),*];

            /// The column's name, as in the batch, the store and `weir decode`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Column::$variant => stringify!($name),)* }
            }
        }

        /// Decoded flow records, one column a field, all columns of one fixed capacity.
        ///
        /// Rows `0..rows()` are valid. A column that no segment has written is all zero, and what a column holds
        /// behind `rows()` is zero unless the column belongs to a write in progress: so a decoder writes only the
        /// columns its layout carries, and then commits.
        #[derive(Debug)]
        pub struct FlowBatch {
            $($(#[$doc])* pub $name: Box<[$type]>,)*
            capacity: usize,
            rows: usize,
            segments: Vec<Segment>,
            written: ColumnSet,
            /// The lists that the column `communities` tells of, one behind the other.
            community_values: Vec<u32>,
            /// What the tables say of each row; see [`Labels`].
            pub labels: Labels,
        }

        impl FlowBatch {
            /// An empty batch with room for `rows` records; memory is touched only as rows are written.
            #[must_use]
            pub fn with_capacity(rows: usize) -> Self {
                Self {
                    $($name: <$type>::zeroes(rows + GROUP_ROWS),)*
                    capacity: rows,
                    rows: 0,
                    // A segment has a row at least: so this never grows, and what is not needed is never touched.
                    segments: Vec::with_capacity(rows),
                    written: ColumnSet::default(),
                    community_values: Vec::new(),
                    labels: Labels::with_capacity(rows + GROUP_ROWS),
                }
            }

            /// Takes over all rows of another batch, with their segments and labels; the columns that neither has written are not touched.
            ///
            /// # Panics
            ///
            /// If there is no room for them: [`FlowBatch::remaining`] was not asked.
            pub fn append(&mut self, other: &FlowBatch) {
                let from = self.rows;
                self.append_rows(other, 0..other.rows);
                self.append_community_values(from..self.rows, &other.community_values);
                self.segments.extend(other.segments.iter().map(|segment| Segment { first: from + segment.first, ..*segment }));
            }

            /// Copies columns and labels of rows of another batch behind the last row; not their segments, and of lists only their numbers.
            fn append_rows(&mut self, other: &FlowBatch, of: Range<usize>) {
                assert!(of.len() <= self.remaining(), "a batch never holds more than its capacity");
                let (from, to) = (self.rows, self.rows + of.len());
                $(if other.written.has(Column::$variant)
                    && let (Some(into), Some(rows)) = (self.$name.get_mut(from..to), other.$name.get(of.clone()))
                {
                    into.copy_from_slice(rows);
                })*
                self.labels.append(from, &other.labels, of);
                self.written = self.written.union(other.written);
                self.rows = to;
            }

            /// Forgets all rows and zeroes what they wrote.
            pub fn clear(&mut self) {
                let rows = self.rows;
                $(if self.written.has(Column::$variant) {
                    self.$name.iter_mut().take(rows).for_each(|value| *value = <$type>::default());
                })*
                self.rows = 0;
                self.segments.clear();
                self.community_values.clear();
                self.written = ColumnSet::default();
                self.labels.clear(rows);
            }
        }
    };
}

columns! {
    /// `sourceIPv4Address(8)` or `sourceIPv6Address(27)`.
    source_address / SourceAddress: Address,
    /// `destinationIPv4Address(12)` or `destinationIPv6Address(28)`.
    destination_address / DestinationAddress: Address,
    /// `sourceTransportPort(7)`.
    source_port / SourcePort: u16,
    /// `destinationTransportPort(11)`.
    destination_port / DestinationPort: u16,
    /// `protocolIdentifier(4)`.
    protocol_identifier / ProtocolIdentifier: u8,
    /// `tcpControlBits(6)`.
    tcp_control_bits / TcpControlBits: u16,
    /// `octetDeltaCount(1)`, in octets as exported, before sampling is undone; sFlow: the frame's length.
    octet_delta_count / OctetDeltaCount: u64,
    /// `packetDeltaCount(2)`, before sampling is undone; sFlow: 1.
    packet_delta_count / PacketDeltaCount: u64,
    /// Octets of each packet that `octet_delta_count` has in front of the IP header (sFlow, packets; 0 in NetFlow).
    link_layer_octets / LinkLayerOctets: u16,
    /// Packets that each counted one stands for; 0 while the exporter's rate is not known.
    sampling_interval / SamplingInterval: u32,
    /// Start of the flow, unix milliseconds by the exporter's clock.
    flow_start_milliseconds / FlowStartMilliseconds: u64,
    /// End of the flow, unix milliseconds by the exporter's clock.
    flow_end_milliseconds / FlowEndMilliseconds: u64,
    /// `ingressInterface(10)`.
    ingress_interface / IngressInterface: u32,
    /// `egressInterface(14)`.
    egress_interface / EgressInterface: u32,
    /// `bgpSourceAsNumber(16)`.
    bgp_source_as_number / BgpSourceAsNumber: u32,
    /// `bgpDestinationAsNumber(17)`.
    bgp_destination_as_number / BgpDestinationAsNumber: u32,
    /// Bits of [`fragment`](mod@fragment) for of the packets: from `fragmentOffset(88)`, `fragmentFlags(197)` or the sampled header.
    fragment / Fragment: u8,
    /// `icmpTypeCodeIPv4(32)`, `icmpTypeCodeIPv6(139)`: type × 256 + code.
    icmp_type_code / IcmpTypeCode: u16,
    /// `ipClassOfService(5)`.
    ip_class_of_service / IpClassOfService: u8,
    /// `ipTTL(192)`, or the larger of `minimumTTL(52)` and `maximumTTL(53)`.
    ip_ttl / IpTtl: u8,
    /// `flowLabelIPv6(31)`.
    flow_label / FlowLabel: u32,
    /// `sourceIPv4PrefixLength(9)` or `sourceIPv6PrefixLength(29)`.
    source_prefix_length / SourcePrefixLength: u8,
    /// `destinationIPv4PrefixLength(13)` or `destinationIPv6PrefixLength(30)`.
    destination_prefix_length / DestinationPrefixLength: u8,
    /// `ipNextHopIPv4Address(15)` or `ipNextHopIPv6Address(62)`.
    next_hop / NextHop: Address,
    /// `bgpNextHopIPv4Address(18)` or `bgpNextHopIPv6Address(63)`.
    bgp_next_hop / BgpNextHop: Address,
    /// `flowDirection(61)`: 0 ingress, 1 egress.
    flow_direction / FlowDirection: u8,
    /// `forwardingStatus(89)`.
    forwarding_status / ForwardingStatus: u8,
    /// `flowEndReason(136)`.
    flow_end_reason / FlowEndReason: u8,
    /// `samplerId(48)` or `selectorId(302)`: which sampler saw the flow.
    selector_id / SelectorId: u64,
    /// `octetTotalCount(85)`.
    octet_total_count / OctetTotalCount: u64,
    /// `packetTotalCount(86)`.
    packet_total_count / PacketTotalCount: u64,
    /// `initiatorOctets(231)`: octets from source to destination of a two-way record.
    initiator_octets / InitiatorOctets: u64,
    /// `responderOctets(232)`.
    responder_octets / ResponderOctets: u64,
    /// `initiatorPackets(298)`.
    initiator_packets / InitiatorPackets: u64,
    /// `responderPackets(299)`.
    responder_packets / ResponderPackets: u64,
    /// Reverse `octetDeltaCount(1)` of a biflow (RFC 5103, PEN 29305).
    reverse_octet_delta_count / ReverseOctetDeltaCount: u64,
    /// Reverse `packetDeltaCount(2)` of a biflow (RFC 5103, PEN 29305).
    reverse_packet_delta_count / ReversePacketDeltaCount: u64,
    /// `postOctetDeltaCount(23)`.
    post_octet_delta_count / PostOctetDeltaCount: u64,
    /// `postPacketDeltaCount(24)`.
    post_packet_delta_count / PostPacketDeltaCount: u64,
    /// `vlanId(58)`, or the outermost tag of the sampled header.
    vlan_id / VlanId: u16,
    /// `postVlanId(59)`.
    post_vlan_id / PostVlanId: u16,
    /// `sourceMacAddress(56)`, 48 bits.
    source_mac_address / SourceMacAddress: u64,
    /// `destinationMacAddress(80)` or `postDestinationMacAddress(57)`, 48 bits.
    destination_mac_address / DestinationMacAddress: u64,
    /// `mplsTopLabelStackSection(70)`: label, experimental bits, bottom of stack; 24 bits.
    mpls_top_label / MplsTopLabel: u32,
    /// `mplsLabelStackSection2(71)`, 24 bits.
    mpls_label_2 / MplsLabel2: u32,
    /// `mplsLabelStackSection3(72)`, 24 bits.
    mpls_label_3 / MplsLabel3: u32,
    /// `ingressVRFID(234)`.
    ingress_vrf_id / IngressVrfId: u32,
    /// `egressVRFID(235)`.
    egress_vrf_id / EgressVrfId: u32,
    /// `firewallEvent(233)`.
    firewall_event / FirewallEvent: u8,
    /// `natEvent(230)`.
    nat_event / NatEvent: u8,
    /// `postNATSourceIPv4Address(225)` or `postNATSourceIPv6Address(281)`.
    post_nat_source_address / PostNatSourceAddress: Address,
    /// `postNATDestinationIPv4Address(226)` or `postNATDestinationIPv6Address(282)`.
    post_nat_destination_address / PostNatDestinationAddress: Address,
    /// `postNAPTSourceTransportPort(227)`.
    post_napt_source_port / PostNaptSourcePort: u16,
    /// `postNAPTDestinationTransportPort(228)`.
    post_napt_destination_port / PostNaptDestinationPort: u16,
    /// `applicationId(95)` as a number: the engine's octet, then the selector.
    application_id / ApplicationId: u64,
    /// BGP communities of the route to the destination (sFlow's `extended_gateway`): a list of [`FlowBatch::community_list`]; 0 = none.
    communities / Communities: u64,
}

/// Bits of the column `fragment`.
pub mod fragment {
    /// The packet is a part of a larger one.
    pub const FRAGMENT: u8 = 1;
    /// It is not the first part, so it shows no ports.
    pub const LATER: u8 = 2;
}

/// Bits of a number in the column `communities` that hold the list's length; its place is above them.
const LENGTH_BITS: u32 = 8;
/// Communities of one list.
const COMMUNITIES_MAX: usize = (1 << LENGTH_BITS) - 1;

/// Where a run of records came from; the records of one set, or of one datagram without sets.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The sender of the datagram.
    pub exporter: Address,
    /// Its UDP port.
    pub source_port: u16,
    /// The export protocol.
    pub version: Version,
    /// Observation domain (IPFIX), source id (v9), engine type × 256 + engine id (v5, v7), sub-agent (sFlow).
    pub observation_domain_id: u32,
    /// The template, 0 where the protocol has none.
    pub template_id: u16,
    /// When the datagram arrived, unix milliseconds.
    pub arrival_milliseconds: u64,
    /// The export time of its header, unix milliseconds by the exporter's clock; 0 where it has none.
    pub export_milliseconds: u64,
    /// What to add to the exporter's times to have ours, as estimated from its datagrams so far.
    pub clock_offset_milliseconds: i64,
    /// What the ends of the rows are told in: 1, or 1,000 where a record ended somewhere within its second.
    pub time_resolution_milliseconds: u16,
    /// Where the rows' sampling intervals were learned.
    pub sampling_source: SamplingSource,
    /// Columns that the records carry, whatever their value.
    pub present: ColumnSet,
    /// Those of `present` that are no field of the record itself: read out of a packet section within it (IE 313, 315), or told by the gateway
    /// beside it (sFlow's `extended_gateway`).
    pub derived: ColumnSet,
}

impl Origin {
    /// An exporter's records of which nothing else is told: no times, no sampling, no columns.
    #[must_use]
    pub fn of(exporter: Address, version: Version) -> Self {
        Self {
            exporter,
            source_port: 1,
            version,
            observation_domain_id: 0,
            template_id: 0,
            arrival_milliseconds: 0,
            export_milliseconds: 0,
            clock_offset_milliseconds: 0,
            time_resolution_milliseconds: 1,
            sampling_source: SamplingSource::Unknown,
            present: ColumnSet::default(),
            derived: ColumnSet::default(),
        }
    }
}

/// A run of rows of one origin.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Index of the first row.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
    /// Where they came from.
    pub origin: Origin,
}

impl FlowBatch {
    /// The number of valid rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many more rows there is room for.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.capacity - self.rows
    }

    /// The columns that any segment has written; all others are zero.
    #[must_use]
    pub fn written(&self) -> ColumnSet {
        self.written
    }

    /// The runs of rows, in order and without gaps.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Keeps a list of BGP communities, of which the first 255 are taken, and answers its number for the column `communities`.
    pub fn push_communities(&mut self, values: impl Iterator<Item = u32>) -> u64 {
        let first = self.community_values.len();
        self.community_values.extend(values.take(COMMUNITIES_MAX));
        let length = self.community_values.len() - first;
        if length == 0 { 0 } else { (first as u64) << LENGTH_BITS | length as u64 }
    }

    /// The BGP communities that a number of the column `communities` stands for.
    #[must_use]
    pub fn community_list(&self, number: u64) -> &[u32] {
        let (first, length) = (number >> LENGTH_BITS, number & COMMUNITIES_MAX as u64);
        let range = usize::try_from(first).ok().zip(usize::try_from(length).ok());
        range.and_then(|(first, length)| self.community_values.get(first..first.checked_add(length)?)).unwrap_or_default()
    }

    /// Takes over some segments of another batch, with their rows and labels.
    ///
    /// # Panics
    ///
    /// If there is no room for them: [`FlowBatch::remaining`] was not asked.
    pub fn append_segments(&mut self, other: &FlowBatch, segments: Range<usize>) {
        let taken = other.segments.get(segments).unwrap_or_default();
        let (Some(first), Some(last)) = (taken.first(), taken.last()) else { return };
        let (from, of) = (self.rows, first.first..last.first + last.rows);
        self.append_rows(other, of.clone());
        if other.written.has(Column::Communities) {
            for row in from..self.rows {
                let list = self.communities.get(row).copied().unwrap_or(0);
                if list != 0 {
                    let own = self.push_communities(other.community_list(list).iter().copied());
                    self.communities.iter_mut().skip(row).take(1).for_each(|list| *list = own);
                }
            }
        }
        self.segments.extend(taken.iter().map(|segment| Segment { first: from + segment.first - of.start, ..*segment }));
    }

    /// Says where the sampling intervals of a segment were learned, which the caller has written behind its commit.
    pub fn learn_sampling(&mut self, segment: usize, source: SamplingSource) {
        let Some(segment) = self.segments.get_mut(segment) else { return };
        segment.origin.sampling_source = source;
        segment.origin.present = segment.origin.present.with(Column::SamplingInterval);
        self.written = self.written.with(Column::SamplingInterval);
    }

    /// Takes over the lists of rows that were appended.
    fn append_community_values(&mut self, rows: Range<usize>, values: &[u32]) {
        if values.is_empty() {
            return;
        }
        let moved = (self.community_values.len() as u64) << LENGTH_BITS;
        self.community_values.extend_from_slice(values);
        let lists = self.communities.get_mut(rows).unwrap_or_default();
        lists.iter_mut().filter(|list| **list != 0).for_each(|list| *list += moved);
    }

    /// Makes the next `rows` rows valid, which the caller has written in the columns of `origin.present`.
    ///
    /// # Panics
    ///
    /// If there is no room for them: [`FlowBatch::remaining`] was not asked.
    pub fn commit(&mut self, rows: usize, origin: Origin) {
        assert!(rows <= self.remaining(), "a batch never holds more than its capacity");
        if rows == 0 {
            return;
        }
        self.written = self.written.union(origin.present);
        self.segments.push(Segment { first: self.rows, rows, origin });
        self.rows += rows;
    }
}

#[cfg(test)]
mod tests;
