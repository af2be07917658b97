//! One row of a batch as traffic: sampling undone, volume chosen, and what kind it is.

use schemas::amplification;
use schemas::counter::Volume;
use schemas::flow::{Column, FlowBatch, Segment, fragment};
use schemas::net::Address;

use super::clock::{Clock, Reach, Span};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;
/// Bits of `tcpControlBits(6)`.
const SYN: u16 = 0x02;
const ACK: u16 = 0x10;

/// What kinds of traffic a record is of, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    const TCP: u8 = 1;
    const UDP: u8 = 2;
    const ICMP: u8 = 4;
    const SYN: u8 = 8;
    const FRAGMENT: u8 = 16;
    const AMPLIFICATION: u8 = 32;

    /// 1 for each of [`Shares::kinds`] that the traffic is of, else 0.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a kind has six bits")]
    fn factors(self) -> &'static [f32; 8] {
        static FACTORS: [[f32; 8]; 64] = factors();
        &FACTORS[usize::from(self.0 & 63)]
    }

    fn is(self, kind: u8) -> bool {
        self.0 & kind != 0
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn factors() -> [[f32; 8]; 64] {
    const KINDS: [u8; 8] = [Kind::TCP, Kind::UDP, Kind::ICMP, Kind::SYN, Kind::FRAGMENT, Kind::AMPLIFICATION, Kind::TCP, Kind::UDP];
    let mut factors = [[0.0; 8]; 64];
    let mut kind = 0;
    while kind < 64 {
        let mut count = 0;
        while count < 8 {
            if kind & KINDS[count] as usize != 0 {
                factors[kind][count] = 1.0;
            }
            count += 1;
        }
        kind += 1;
    }
    factors
}

/// How much traffic a record stands for, sampling undone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) packets: f64,
    pub(super) octets: f64,
    /// Packets as exported.
    samples: f32,
    kind: Kind,
}

/// What the compact entries add up of a record, in single precision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shares {
    pub(super) packets: f32,
    pub(super) octets: f32,
    /// Packets if they are TCP, UDP, ICMP, SYN, fragments, amplification; octets if they are TCP, UDP.
    pub(super) kinds: [f32; 8],
}

impl Amount {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "single precision is enough for a baseline and a bound")]
    fn shares(&self) -> Shares {
        let (packets, octets) = (self.packets as f32, self.octets as f32);
        let mut kinds = [packets, packets, packets, packets, packets, packets, octets, octets];
        kinds.iter_mut().zip(self.kind.factors()).for_each(|(count, factor)| *count *= factor);
        Shares { packets, octets, kinds }
    }

    /// All counts of the record.
    pub(super) fn volume(&self) -> Volume {
        let (packets, octets) = (self.packets, self.octets);
        let has = |kind| f64::from(u8::from(self.kind.is(kind)));
        Volume {
            packets,
            octets,
            flows: 1.0,
            tcp_packets: packets * has(Kind::TCP),
            udp_packets: packets * has(Kind::UDP),
            icmp_packets: packets * has(Kind::ICMP),
            syn_packets: packets * has(Kind::SYN),
            fragment_packets: packets * has(Kind::FRAGMENT),
            amplification_packets: packets * has(Kind::AMPLIFICATION),
            tcp_octets: octets * has(Kind::TCP),
            udp_octets: octets * has(Kind::UDP),
            amplification_octets: octets * has(Kind::AMPLIFICATION),
            samples: f64::from(self.samples),
        }
    }
}

/// One direction of one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) protocol: u8,
    /// `tcpControlBits(6)`, 0 for the direction that they are not told of.
    pub(super) tcp_flags: u16,
    /// 0 where none is told.
    pub(super) ttl: u8,
    pub(super) span: Span,
    pub(super) reach: Reach,
    pub(super) amount: Amount,
    pub(super) shares: Shares,
}

/// Which columns hold the volume of a segment's rows.
#[derive(Clone, Copy)]
enum Counts<'a> {
    /// One way: packets and octets, and the link layer's octets in front of each packet.
    Delta(&'a [u64], &'a [u64], &'a [u16]),
    /// Both ways.
    TwoWay(&'a [u64], &'a [u64], &'a [u64], &'a [u64]),
    /// Since the flow began.
    Total(&'a [u64], &'a [u64]),
}

/// The rows of a segment, with the columns that count; a column that the segment has not got is an empty slice.
pub(super) struct Rows<'a> {
    source_address: &'a [Address],
    destination_address: &'a [Address],
    source_port: &'a [u16],
    destination_port: &'a [u16],
    icmp_type_code: &'a [u16],
    protocol: &'a [u8],
    tcp_flags: &'a [u16],
    ttl: &'a [u8],
    fragment: &'a [u8],
    sampling_interval: &'a [u32],
    start: &'a [u64],
    end: &'a [u64],
    counts: Counts<'a>,
    reverse_packets: &'a [u64],
    reverse_octets: &'a [u64],
}

/// Packets and octets as exported, IP octets only.
#[derive(Clone, Copy, Default)]
pub(super) struct Exported {
    packets: u64,
    octets: u64,
}

impl Exported {
    pub(super) fn is_none(self) -> bool {
        self.packets == 0 && self.octets == 0
    }

    fn plus(self, other: Self) -> Self {
        Self { packets: self.packets.saturating_add(other.packets), octets: self.octets.saturating_add(other.octets) }
    }
}

#[inline]
fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

impl<'a> Rows<'a> {
    pub(super) fn new(batch: &'a FlowBatch, segment: &Segment) -> Self {
        let present = segment.origin.present;
        let range = segment.first..segment.first + segment.rows;
        macro_rules! column {
            ($name:ident, $variant:ident) => {
                if present.has(Column::$variant) { batch.$name.get(range.clone()).unwrap_or_default() } else { &[] }
            };
        }
        let any = |columns: &[Column]| columns.iter().any(|&column| present.has(column));
        let counts = if any(&[Column::OctetDeltaCount, Column::PacketDeltaCount]) {
            Counts::Delta(
                column!(packet_delta_count, PacketDeltaCount),
                column!(octet_delta_count, OctetDeltaCount),
                column!(link_layer_octets, LinkLayerOctets),
            )
        } else if any(&[Column::InitiatorOctets, Column::InitiatorPackets, Column::ResponderOctets, Column::ResponderPackets]) {
            Counts::TwoWay(
                column!(initiator_packets, InitiatorPackets),
                column!(initiator_octets, InitiatorOctets),
                column!(responder_packets, ResponderPackets),
                column!(responder_octets, ResponderOctets),
            )
        } else {
            Counts::Total(column!(packet_total_count, PacketTotalCount), column!(octet_total_count, OctetTotalCount))
        };
        Self {
            source_address: column!(source_address, SourceAddress),
            destination_address: column!(destination_address, DestinationAddress),
            source_port: column!(source_port, SourcePort),
            destination_port: column!(destination_port, DestinationPort),
            icmp_type_code: column!(icmp_type_code, IcmpTypeCode),
            protocol: column!(protocol_identifier, ProtocolIdentifier),
            tcp_flags: column!(tcp_control_bits, TcpControlBits),
            ttl: column!(ip_ttl, IpTtl),
            fragment: column!(fragment, Fragment),
            // The decoder writes the effective rate whether the record carries one or not.
            sampling_interval: batch.sampling_interval.get(range.clone()).unwrap_or_default(),
            start: column!(flow_start_milliseconds, FlowStartMilliseconds),
            end: column!(flow_end_milliseconds, FlowEndMilliseconds),
            counts,
            reverse_packets: column!(reverse_packet_delta_count, ReversePacketDeltaCount),
            reverse_octets: column!(reverse_octet_delta_count, ReverseOctetDeltaCount),
        }
    }

    pub(super) fn addresses(&self, row: usize) -> (Address, Address) {
        (at(self.source_address, row), at(self.destination_address, row))
    }

    /// Start and end by the exporter's clock.
    pub(super) fn times(&self, row: usize) -> (u64, u64) {
        (at(self.start, row), at(self.end, row))
    }

    /// What went from source to destination, and what came back.
    #[inline]
    pub(super) fn exported(&self, row: usize) -> (Exported, Exported) {
        let there = |packets: &[u64], octets: &[u64]| Exported { packets: at(packets, row), octets: at(octets, row) };
        let mut back = there(self.reverse_packets, self.reverse_octets);
        let forth = match self.counts {
            Counts::Delta(packets, octets, link_layer) => {
                let Exported { packets, octets } = there(packets, octets);
                let link_layer = u64::from(at(link_layer, row)).saturating_mul(packets);
                Exported { packets, octets: octets.saturating_sub(link_layer) }
            }
            Counts::TwoWay(packets, octets, responder_packets, responder_octets) => {
                let answers = there(responder_packets, responder_octets);
                back = back.plus(answers);
                there(packets, octets)
            }
            Counts::Total(packets, octets) => there(packets, octets),
        };
        (forth, back)
    }

    /// The traffic of a row from source to destination, or back with both ends exchanged.
    #[inline]
    pub(super) fn traffic(&self, row: usize, exported: Exported, is_back: bool, clock: &Clock, span: Span, ports: &Ports) -> Traffic {
        let (mut source, mut destination) = self.addresses(row);
        let (mut source_port, mut destination_port) = (at(self.source_port, row), at(self.destination_port, row));
        let mut tcp_flags = at(self.tcp_flags, row);
        if is_back {
            (source, destination) = (destination, source);
            (source_port, destination_port) = (destination_port, source_port);
            tcp_flags = 0;
        }
        let protocol = at(self.protocol, row);
        // NetFlow version 5 writes type and code of ICMP into the destination port; other exporters have a field for them.
        if matches!(protocol, ICMP | ICMP_V6) && destination_port == 0 && !is_back {
            destination_port = at(self.icmp_type_code, row);
        }
        let rate = f64::from(at(self.sampling_interval, row).max(1));
        let kind = kind(protocol, tcp_flags, source_port, at(self.fragment, row), ports);
        let (packets, octets) = (exported.packets as f64 * rate, exported.octets as f64 * rate);
        let amount = Amount { packets, octets, samples: exported.packets as f32, kind };
        Traffic {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            tcp_flags,
            ttl: at(self.ttl, row),
            span,
            reach: clock.reach(span),
            amount,
            shares: amount.shares(),
        }
    }
}

/// The ports of the amplification registry.
pub(super) struct Ports(Box<[u64; 1024]>);

impl Ports {
    pub(super) fn new() -> Self {
        Self(amplification::ports())
    }

    fn hold(&self, port: u16) -> bool {
        self.0.get(usize::from(port / 64)).is_some_and(|word| word >> (port % 64) & 1 == 1)
    }
}

fn kind(protocol: u8, tcp_flags: u16, source_port: u16, fragment: u8, ports: &Ports) -> Kind {
    let bits = match protocol {
        TCP if tcp_flags & (SYN | ACK) == SYN => Kind::TCP | Kind::SYN,
        TCP => Kind::TCP,
        UDP if ports.hold(source_port) => Kind::UDP | Kind::AMPLIFICATION,
        UDP => Kind::UDP,
        ICMP | ICMP_V6 => Kind::ICMP,
        _ => 0,
    };
    Kind(if fragment & fragment::FRAGMENT == 0 { bits } else { bits | Kind::FRAGMENT })
}
