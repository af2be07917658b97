//! Information elements: which column a field feeds, and how.
//!
//! IANA, "IP Flow Information Export (IPFIX) Entities"; version 9 field types share the numbers below 128 (RFC 7012 §1.1).

use schemas::flow::Column;

use super::frame::Link;

/// The enterprise number of reverse elements (RFC 5103 §6.1).
const REVERSE: u32 = 29_305;

/// What a field's value means to Weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A number that goes to a column as it is; one too large for the column is the column's largest.
    Number(Column),
    /// A number of which a record with several keeps the largest.
    Largest(Column),
    /// An IPv4 address.
    Address4(Column),
    /// An IPv6 address.
    Address6(Column),
    /// A moment.
    Time(Edge, Clock),
    /// How long the flow lasted, in so many parts of a millisecond.
    Duration(u64),
    /// `systemInitTimeMilliseconds(160)`: what moments by the uptime clock count from.
    SystemInit,
    /// `fragmentOffset(88)`.
    FragmentOffset,
    /// `fragmentFlags(197)`.
    FragmentFlags,
    /// ICMP type: the upper octet of the column.
    IcmpType,
    /// ICMP code: the lower octet.
    IcmpCode,
    /// One packet of so many is sampled.
    SamplingInterval,
    /// `samplingPacketInterval(305)` or `samplingSize(309)`: packets taken …
    SamplingTaken,
    /// … `samplingPacketSpace(306)`: and then left …
    SamplingLeft,
    /// … `samplingPopulation(310)`: or of so many in all.
    SamplingPopulation,
    /// The first octets of a packet.
    Section(Link),
    /// `dataLinkFrameSize(312)`: octets of the frame that the section was cut from.
    FrameOctets,
}

/// Which of a flow's moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Its first packet.
    Start,
    /// Its last packet.
    End,
    /// The moment of an event, which is both.
    Both,
}

/// What a moment is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Milliseconds since the exporter's start, 32 bits.
    Uptime,
    /// Unix seconds.
    Seconds,
    /// Unix milliseconds.
    Milliseconds,
    /// 64-bit NTP (RFC 7011 §6.1.9, §6.1.10).
    Ntp,
    /// Microseconds before the export time.
    MicrosecondsBefore,
}

/// The meaning of a field, `None` if no column comes of it.
///
/// `postOctetDeltaCount(23)` and `postPacketDeltaCount(24)` count the same packets again behind the exporter: they have columns of their own and are
/// never added to elements 1 and 2.
pub(crate) fn meaning(enterprise: u32, element: u16) -> Option<Meaning> {
    match enterprise {
        0 if element < 0x8000 => standard(element).or_else(|| transport(element)),
        0 => cisco_asa(element),
        REVERSE => match element {
            1 | 85 => Some(Meaning::Number(Column::ReverseOctetDeltaCount)),
            2 | 86 => Some(Meaning::Number(Column::ReversePacketDeltaCount)),
            _ => None,
        },
        _ => None,
    }
}

fn standard(element: u16) -> Option<Meaning> {
    use Column as C;
    use Meaning::{Address4, Address6, Duration, Largest, Number, Time};
    Some(match element {
        1 => Number(C::OctetDeltaCount),
        2 => Number(C::PacketDeltaCount),
        4 => Number(C::ProtocolIdentifier),
        5 => Number(C::IpClassOfService),
        6 => Number(C::TcpControlBits),
        7 => Number(C::SourcePort),
        8 => Address4(C::SourceAddress),
        9 | 29 => Number(C::SourcePrefixLength),
        10 => Number(C::IngressInterface),
        11 => Number(C::DestinationPort),
        12 => Address4(C::DestinationAddress),
        13 | 30 => Number(C::DestinationPrefixLength),
        14 => Number(C::EgressInterface),
        15 => Address4(C::NextHop),
        16 => Number(C::BgpSourceAsNumber),
        17 => Number(C::BgpDestinationAsNumber),
        18 => Address4(C::BgpNextHop),
        21 => Time(Edge::End, Clock::Uptime),
        22 => Time(Edge::Start, Clock::Uptime),
        23 => Number(C::PostOctetDeltaCount),
        24 => Number(C::PostPacketDeltaCount),
        27 => Address6(C::SourceAddress),
        28 => Address6(C::DestinationAddress),
        31 => Number(C::FlowLabel),
        32 | 139 => Number(C::IcmpTypeCode),
        34 | 50 => Meaning::SamplingInterval,
        48 | 302 => Number(C::SelectorId),
        52 | 53 | 192 => Largest(C::IpTtl),
        56 => Number(C::SourceMacAddress),
        57 | 80 => Number(C::DestinationMacAddress),
        58 | 243 => Number(C::VlanId),
        59 | 254 => Number(C::PostVlanId),
        61 => Number(C::FlowDirection),
        62 => Address6(C::NextHop),
        63 => Address6(C::BgpNextHop),
        70 => Number(C::MplsTopLabel),
        71 => Number(C::MplsLabel2),
        72 => Number(C::MplsLabel3),
        85 => Number(C::OctetTotalCount),
        86 => Number(C::PacketTotalCount),
        88 => Meaning::FragmentOffset,
        89 => Number(C::ForwardingStatus),
        95 => Number(C::ApplicationId),
        136 => Number(C::FlowEndReason),
        150 => Time(Edge::Start, Clock::Seconds),
        151 => Time(Edge::End, Clock::Seconds),
        152 => Time(Edge::Start, Clock::Milliseconds),
        153 => Time(Edge::End, Clock::Milliseconds),
        154 | 156 => Time(Edge::Start, Clock::Ntp),
        155 | 157 => Time(Edge::End, Clock::Ntp),
        158 => Time(Edge::Start, Clock::MicrosecondsBefore),
        159 => Time(Edge::End, Clock::MicrosecondsBefore),
        160 => Meaning::SystemInit,
        161 => Duration(1),
        162 => Duration(1_000),
        197 => Meaning::FragmentFlags,
        225 => Address4(C::PostNatSourceAddress),
        226 => Address4(C::PostNatDestinationAddress),
        227 => Number(C::PostNaptSourcePort),
        228 => Number(C::PostNaptDestinationPort),
        230 => Number(C::NatEvent),
        231 => Number(C::InitiatorOctets),
        232 => Number(C::ResponderOctets),
        233 => Number(C::FirewallEvent),
        234 => Number(C::IngressVrfId),
        235 => Number(C::EgressVrfId),
        281 => Address6(C::PostNatSourceAddress),
        282 => Address6(C::PostNatDestinationAddress),
        298 => Number(C::InitiatorPackets),
        299 => Number(C::ResponderPackets),
        305 | 309 => Meaning::SamplingTaken,
        306 => Meaning::SamplingLeft,
        310 => Meaning::SamplingPopulation,
        312 => Meaning::FrameOctets,
        313 => Meaning::Section(Link::Ip),
        104 | 315 => Meaning::Section(Link::Ethernet),
        322 => Time(Edge::Both, Clock::Seconds),
        323 => Time(Edge::Both, Clock::Milliseconds),
        324 | 325 => Time(Edge::Both, Clock::Ntp),
        _ => return None,
    })
}

/// Elements that name the transport protocol too, and ICMP in halves.
fn transport(element: u16) -> Option<Meaning> {
    Some(match element {
        176 | 178 => Meaning::IcmpType,
        177 | 179 => Meaning::IcmpCode,
        180 | 182 => Meaning::Number(Column::SourcePort),
        181 | 183 => Meaning::Number(Column::DestinationPort),
        _ => return None,
    })
}

/// Field types of Cisco's ASA in version 9, from before IANA had numbers for them ("NetFlow Secure Event Logging", table 3).
fn cisco_asa(element: u16) -> Option<Meaning> {
    Some(match element {
        40_001 => Meaning::Address4(Column::PostNatSourceAddress),
        40_002 => Meaning::Address4(Column::PostNatDestinationAddress),
        40_003 => Meaning::Number(Column::PostNaptSourcePort),
        40_004 => Meaning::Number(Column::PostNaptDestinationPort),
        40_005 => Meaning::Number(Column::FirewallEvent),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_counts_have_columns_of_their_own() {
        assert_eq!(meaning(29_305, 1), Some(Meaning::Number(Column::ReverseOctetDeltaCount)));
        assert_eq!(meaning(0, 1), Some(Meaning::Number(Column::OctetDeltaCount)));
        assert_eq!(meaning(9, 1), None, "another enterprise's element 1 is no octet count");
    }
}
