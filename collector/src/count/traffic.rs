//! One row of a batch as traffic: sampling undone, volume chosen, and what kind it is.

use schemas::amplification;
use schemas::counter::Volume;
use schemas::flow::{Column, FlowBatch, GROUP_ROWS, Segment, fragment};
use schemas::net::Address;

use super::clock::Span;
use super::volume::{Exported, Values, Volumes, at};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;
/// Bits of `tcpControlBits(6)`.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// What kinds of traffic a record is of: its class in five bits, and amplification.
///
/// A class is a protocol, for TCP with what its flags tell, and whether it is fragments: what no two limits tell apart is one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    const UDP: u8 = 1;
    const ICMP: u8 = 2;
    /// TCP; the three bits below tell what its flags are.
    const TCP: u8 = 8;
    const SYN: u8 = 1;
    const SYN_ACK: u8 = 2;
    const RESET: u8 = 3;
    const ODD: u8 = 4;
    const ODD_SYN: u8 = 5;
    const FLAGS: u8 = 7;
    const FRAGMENT: u8 = 16;
    const AMPLIFICATION: u8 = 32;

    /// The kind of a record; without a branch, since nobody foresees the next record's protocol.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "there are as many protocols as octets, and six bits of flags")]
    fn of(protocol: u8, flags: Flags, source_port: u16, fragment: u8, ports: &Ports) -> Self {
        static PROTOCOLS: [[u8; 2]; 256] = protocols();
        static FLAGS: [u8; 128] = flags_table();
        let [own, possible] = PROTOCOLS[usize::from(protocol)];
        let is_fragment = u8::from(fragment & fragment::FRAGMENT != 0);
        // A later fragment of a TCP packet has no flags, and that is nothing odd.
        let flags = FLAGS[usize::from((flags.0 | is_fragment << 6) & 127)];
        let amplification = u8::from(ports.hold(source_port)) * Self::AMPLIFICATION;
        Self(own | (flags | amplification) & possible | (is_fragment * Self::FRAGMENT))
    }

    /// 1 for each of [`Shares::kinds`] that the traffic is of, else 0.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a kind has six bits")]
    fn factors(self) -> &'static [f32; 8] {
        static FACTORS: [[f32; 8]; 64] = factors();
        &FACTORS[usize::from(self.0 & 63)]
    }

    const fn is_tcp(self) -> bool {
        self.0 & Self::TCP != 0
    }

    const fn is_udp(self) -> bool {
        self.0 & 15 == Self::UDP
    }

    const fn is_icmp(self) -> bool {
        self.0 & 15 == Self::ICMP
    }

    const fn is_syn(self) -> bool {
        self.is_tcp() && matches!(self.0 & Self::FLAGS, Self::SYN | Self::ODD_SYN)
    }

    const fn is_syn_ack(self) -> bool {
        self.is_tcp() && self.0 & Self::FLAGS == Self::SYN_ACK
    }

    const fn is_reset(self) -> bool {
        self.is_tcp() && self.0 & Self::FLAGS == Self::RESET
    }

    const fn is_odd(self) -> bool {
        self.is_tcp() && matches!(self.0 & Self::FLAGS, Self::ODD | Self::ODD_SYN)
    }

    const fn is_fragment(self) -> bool {
        self.0 & Self::FRAGMENT != 0
    }

    const fn is_amplification(self) -> bool {
        self.0 & Self::AMPLIFICATION != 0
    }
}

/// The TCP flags of a record in six bits; the bit above them is set where none is told.
#[derive(Clone, Copy, Debug)]
struct Flags(u8);

impl Flags {
    const UNTOLD: Self = Self(0x40);

    #[inline]
    fn of(tcp_control_bits: u16) -> Self {
        Self(tcp_control_bits.to_le_bytes()[0] & 0x3f)
    }
}

/// The kind that a protocol is, and the bits of a kind that its records may have besides.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn protocols() -> [[u8; 2]; 256] {
    let mut protocols = [[0; 2]; 256];
    protocols[TCP as usize] = [Kind::TCP, Kind::FLAGS];
    protocols[UDP as usize] = [Kind::UDP, Kind::AMPLIFICATION];
    protocols[ICMP as usize] = [Kind::ICMP, 0];
    protocols[ICMP_V6 as usize] = [Kind::ICMP, 0];
    protocols
}

/// What the flags of a TCP record tell, the seventh bit set where none may be told.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn flags_table() -> [u8; 128] {
    let mut table = [0; 128];
    let mut index = 0u8;
    while index < 128 {
        let flags = index & 0x3f;
        // A flow record's flags are those of all its packets: with an ACK among them, any may be there.
        let is_odd = flags & ACK == 0 && (flags & (FIN | PSH | URG) != 0 || index == 0);
        let is_syn = flags & (SYN | ACK) == SYN;
        table[index as usize] = match flags {
            _ if is_odd && is_syn => Kind::ODD_SYN,
            _ if is_odd => Kind::ODD,
            _ if is_syn => Kind::SYN,
            flags if flags == SYN | ACK => Kind::SYN_ACK,
            flags if flags & !ACK == RST => Kind::RESET,
            _ => 0,
        };
        index += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn factors() -> [[f32; 8]; 64] {
    let mut factors = [[0.0; 8]; 64];
    let mut bits = 0u8;
    while bits < 64 {
        let kind = Kind(bits);
        let (tcp, udp) = (kind.is_tcp(), kind.is_udp());
        let is = [tcp, udp, kind.is_icmp(), kind.is_syn(), kind.is_fragment(), kind.is_amplification(), tcp, udp];
        let mut count = 0;
        while count < 8 {
            if is[count] {
                factors[bits as usize][count] = 1.0;
            }
            count += 1;
        }
        bits += 1;
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
    /// Packets if they are TCP, UDP, ICMP, SYN, fragments, amplification; octets if they are TCP, UDP.
    pub(super) kinds: [f32; 8],
    /// Packets, octets, flows.
    pub(super) all: [f32; 3],
}

impl Amount {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "single precision is enough for a baseline and a bound")]
    pub(super) fn shares(&self) -> Shares {
        let (packets, octets) = (self.packets as f32, self.octets as f32);
        let mut kinds = [packets, packets, packets, packets, packets, packets, octets, octets];
        kinds.iter_mut().zip(self.kind.factors()).for_each(|(count, factor)| *count *= factor);
        Shares { kinds, all: [packets, octets, 1.0] }
    }

    /// Packets that one sample stands for.
    pub(super) fn rate(&self) -> f64 {
        if self.samples > 0.0 { self.packets / f64::from(self.samples) } else { 1.0 }
    }

    /// All counts of the record.
    pub(super) fn volume(&self) -> Volume {
        let (packets, octets) = (self.packets, self.octets);
        let kind = self.kind;
        let packets_if = |is: bool| packets * f64::from(u8::from(is));
        let octets_if = |is: bool| octets * f64::from(u8::from(is));
        Volume {
            packets,
            octets,
            flows: 1.0,
            tcp_packets: packets_if(kind.is_tcp()),
            udp_packets: packets_if(kind.is_udp()),
            icmp_packets: packets_if(kind.is_icmp()),
            syn_packets: packets_if(kind.is_syn()),
            fragment_packets: packets_if(kind.is_fragment()),
            amplification_packets: packets_if(kind.is_amplification()),
            tcp_octets: octets_if(kind.is_tcp()),
            udp_octets: octets_if(kind.is_udp()),
            amplification_octets: octets_if(kind.is_amplification()),
            icmp_octets: octets_if(kind.is_icmp()),
            syn_ack_packets: packets_if(kind.is_syn_ack()),
            reset_packets: packets_if(kind.is_reset()),
            odd_packets: packets_if(kind.is_odd()),
            samples: f64::from(self.samples),
        }
    }
}

/// One direction of one record, as a suspect's picture needs it.
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
    pub(super) amount: Amount,
}

/// Some rows of a segment, with the columns that count; zeroes where the segment has no such column.
pub(super) struct Rows<'a> {
    /// How many rows there are, at most [`GROUP_ROWS`].
    pub(super) count: usize,
    source_address: Values<'a, Address>,
    destination_address: Values<'a, Address>,
    source_port: Values<'a, u16>,
    destination_port: Values<'a, u16>,
    icmp_type_code: Values<'a, u16>,
    protocol: Values<'a, u8>,
    tcp_flags: Values<'a, u16>,
    /// Set where the segment tells of no flags.
    flags_untold: Flags,
    ttl: Values<'a, u8>,
    fragment: Values<'a, u8>,
    sampling_interval: Values<'a, u32>,
    start: Values<'a, u64>,
    end: Values<'a, u64>,
    is_repeat: Values<'a, u8>,
    pub(super) volumes: Volumes<'a>,
}

impl<'a> Rows<'a> {
    /// The rows of a segment from `skipped` on, as many as make a group.
    #[inline]
    pub(super) fn new(batch: &'a FlowBatch, segment: &Segment, skipped: usize) -> Self {
        let present = segment.origin.present;
        let count = segment.rows.saturating_sub(skipped).min(GROUP_ROWS);
        let first = segment.first + skipped;
        macro_rules! column {
            ($name:ident, $zero:expr) => {
                batch.$name.get(first..).and_then(|values| values.first_chunk()).unwrap_or(&[$zero; GROUP_ROWS])
            };
            ($name:ident, $variant:ident, $zero:expr) => {
                if present.has(Column::$variant) { column!($name, $zero) } else { &[$zero; GROUP_ROWS] }
            };
        }
        Self {
            count,
            source_address: column!(source_address, SourceAddress, Address(0)),
            destination_address: column!(destination_address, DestinationAddress, Address(0)),
            source_port: column!(source_port, SourcePort, 0),
            destination_port: column!(destination_port, DestinationPort, 0),
            icmp_type_code: column!(icmp_type_code, IcmpTypeCode, 0),
            protocol: column!(protocol_identifier, ProtocolIdentifier, 0),
            tcp_flags: column!(tcp_control_bits, TcpControlBits, 0),
            flags_untold: if present.has(Column::TcpControlBits) { Flags(0) } else { Flags::UNTOLD },
            ttl: column!(ip_ttl, IpTtl, 0),
            fragment: column!(fragment, Fragment, 0),
            // The decoder writes the effective rate whether the record carries one or not.
            sampling_interval: column!(sampling_interval, 1),
            start: column!(flow_start_milliseconds, FlowStartMilliseconds, 0),
            end: column!(flow_end_milliseconds, FlowEndMilliseconds, 0),
            volumes: Volumes::new(batch, segment, skipped),
            is_repeat: match batch.labels.is_repeat.get(first..).and_then(|values| values.first_chunk()) {
                Some(values) if batch.labels.are_written() => values,
                _ => &[0; GROUP_ROWS],
            },
        }
    }

    #[inline]
    pub(super) fn addresses(&self, row: usize) -> (Address, Address) {
        (at(self.source_address, row), at(self.destination_address, row))
    }

    /// Whether the row's traffic is counted where it crosses another interface.
    #[inline]
    pub(super) fn is_repeat(&self, row: usize) -> bool {
        at(self.is_repeat, row) != 0
    }

    /// Start and end by the exporter's clock.
    #[inline]
    pub(super) fn times(&self, row: usize) -> (u64, u64) {
        (at(self.start, row), at(self.end, row))
    }

    /// How much traffic a row stands for, from source to destination or back.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "samples are told in single precision")]
    pub(super) fn amount(&self, row: usize, exported: Exported, is_back: bool, ports: &Ports) -> Amount {
        let (port, flags) = if is_back {
            (at(self.destination_port, row), Flags::UNTOLD)
        } else {
            (at(self.source_port, row), Flags(Flags::of(at(self.tcp_flags, row)).0 | self.flags_untold.0))
        };
        let kind = Kind::of(at(self.protocol, row), flags, port, at(self.fragment, row), ports);
        let rate = f64::from(at(self.sampling_interval, row).max(1));
        let samples = exported.packets as f64;
        Amount { packets: samples * rate, octets: exported.octets as f64 * rate, samples: samples as f32, kind }
    }

    /// The traffic of a row from source to destination, or back with both ends exchanged.
    pub(super) fn traffic(&self, row: usize, is_back: bool, (span, amount): (Span, Amount)) -> Traffic {
        let (mut source, mut destination) = self.addresses(row);
        let (mut source_port, mut destination_port) = (at(self.source_port, row), at(self.destination_port, row));
        let mut tcp_flags = at(self.tcp_flags, row);
        if is_back {
            (source, destination) = (destination, source);
            (source_port, destination_port) = (destination_port, source_port);
            tcp_flags = 0;
        }
        let (protocol, ttl) = (at(self.protocol, row), at(self.ttl, row));
        // NetFlow version 5 writes type and code of ICMP into the destination port; other exporters have a field for them.
        if matches!(protocol, ICMP | ICMP_V6) && destination_port == 0 && !is_back {
            destination_port = at(self.icmp_type_code, row);
        }
        Traffic { source, destination, source_port, destination_port, protocol, tcp_flags, ttl, span, amount }
    }
}

/// The ports of the amplification registry, each in a slot of its own: a table of eight cache lines, where a bit for each port that
/// there is would be 128, of which few are at hand.
pub(super) struct Ports {
    /// Odd, and such that no two ports fall into the same slot.
    multiplier: u16,
    slots: [u16; 256],
}

impl Ports {
    /// # Panics
    ///
    /// If the registry has so many ports that no multiplier tells them apart.
    pub(super) fn new() -> Self {
        (0..=u16::MAX / 2).find_map(|half| Self::by(half * 2 + 1)).expect("few ports fall into different slots")
    }

    fn by(multiplier: u16) -> Option<Self> {
        // Port 0 belongs into slot 0, so that no other slot is taken for its; and slot 0 holds one that belongs elsewhere, if nothing else.
        let mut slots = [0; 256];
        for service in amplification::SERVICES {
            let slot = slots.get_mut(slot(multiplier, service.port)).filter(|slot| **slot == 0)?;
            *slot = service.port;
        }
        let [first, ..] = &mut slots;
        if *first == 0 {
            *first = amplification::SERVICES.first()?.port;
        }
        Some(Self { multiplier, slots })
    }

    #[inline]
    fn hold(&self, port: u16) -> bool {
        self.slots.get(slot(self.multiplier, port)) == Some(&port)
    }
}

#[inline]
fn slot(multiplier: u16, port: u16) -> usize {
    usize::from(port.wrapping_mul(multiplier) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_those_of_the_registry_and_no_others() {
        let ports = Ports::new();
        for port in 0..=u16::MAX {
            assert_eq!(ports.hold(port), amplification::service_of(port).is_some(), "{port}");
        }
    }

    #[test]
    fn flags_are_odd_only_if_no_stack_sends_them_even_in_sum() {
        let ports = Ports::new();
        let kinds = |flags: &[u8], fragment: u8| -> Vec<Kind> {
            flags.iter().map(|flags| Kind::of(TCP, Flags::of(u16::from(*flags)), 80, fragment, &ports)).collect()
        };
        // A whole connection, one that was reset, a packet of it, an opening that was given up, one with ECN.
        let normal = kinds(&[SYN | ACK | PSH | FIN, SYN | ACK | RST, ACK, SYN | RST, SYN | 0xc0, PSH | ACK, FIN | ACK], 0);
        assert!(normal.iter().all(|kind| !kind.is_odd() && !kind.is_syn_ack() && !kind.is_reset() && kind.is_tcp()));
        let odd = kinds(&[0, FIN, SYN | FIN, FIN | PSH | URG, PSH, URG], 0);
        assert!(odd.iter().all(|kind| kind.is_odd()));
        assert_eq!(odd.iter().map(|kind| kind.is_syn()).collect::<Vec<_>>(), [false, false, true, false, false, false]);
        assert!(kinds(&[SYN, SYN | 0xc0], 0).iter().all(|kind| kind.is_syn() && !kind.is_odd()));
        assert!(kinds(&[SYN | ACK], 0).iter().all(|kind| kind.is_syn_ack() && !kind.is_syn()));
        assert!(kinds(&[RST, RST | ACK], 0).iter().all(|kind| kind.is_reset()));
        // Later fragments have no flags; and who tells of none says nothing.
        assert!(kinds(&[0], fragment::FRAGMENT).iter().all(|kind| !kind.is_odd() && kind.is_fragment()));
        assert!(!Kind::of(TCP, Flags::UNTOLD, 80, 0, &ports).is_odd());
        assert_eq!(Kind::of(UDP, Flags::of(u16::from(SYN)), 443, 0, &ports), Kind(Kind::UDP));
    }

    #[test]
    fn a_volume_tells_every_kind_of_a_record() {
        let ports = Ports::new();
        let volume = |protocol, flags| {
            let kind = Kind::of(protocol, Flags::of(flags), 123, fragment::FRAGMENT, &ports);
            Amount { packets: 2.0, octets: 100.0, samples: 1.0, kind }.volume()
        };
        let all = Volume { packets: 2.0, octets: 100.0, flows: 1.0, samples: 1.0, fragment_packets: 2.0, ..Volume::default() };
        assert_eq!(volume(TCP, 0x02), Volume { tcp_packets: 2.0, tcp_octets: 100.0, syn_packets: 2.0, ..all });
        assert_eq!(volume(TCP, 0x12), Volume { tcp_packets: 2.0, tcp_octets: 100.0, syn_ack_packets: 2.0, ..all });
        assert_eq!(volume(TCP, 0x14), Volume { tcp_packets: 2.0, tcp_octets: 100.0, reset_packets: 2.0, ..all });
        assert_eq!(volume(TCP, 0x01), Volume { tcp_packets: 2.0, tcp_octets: 100.0, odd_packets: 2.0, ..all });
        assert_eq!(volume(ICMP_V6, 0), Volume { icmp_packets: 2.0, icmp_octets: 100.0, ..all });
        let udp = Volume { udp_packets: 2.0, udp_octets: 100.0, amplification_packets: 2.0, amplification_octets: 100.0, ..all };
        assert_eq!(volume(UDP, 0x02), udp);
        assert_eq!(volume(47, 0x02), all);
    }
}
