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

    /// The kind of a record; without a branch, since nobody foresees the next record's protocol.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "there are as many protocols as octets")]
    fn of(protocol: u8, tcp_flags: u16, source_port: u16, fragment: u8, ports: &Ports) -> Self {
        static PROTOCOLS: [[u8; 2]; 256] = protocols();
        let [own, possible] = PROTOCOLS[usize::from(protocol)];
        let syn = u8::from(tcp_flags & (SYN | ACK) == SYN) * Self::SYN;
        let amplification = u8::from(ports.hold(source_port)) * Self::AMPLIFICATION;
        let fragment = u8::from(fragment & fragment::FRAGMENT != 0) * Self::FRAGMENT;
        Self(own | (syn | amplification) & possible | fragment)
    }

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

/// The kind that a protocol is, and the kinds that its records may be besides.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn protocols() -> [[u8; 2]; 256] {
    let mut protocols = [[0; 2]; 256];
    protocols[TCP as usize] = [Kind::TCP, Kind::SYN];
    protocols[UDP as usize] = [Kind::UDP, Kind::AMPLIFICATION];
    protocols[ICMP as usize] = [Kind::ICMP, 0];
    protocols[ICMP_V6 as usize] = [Kind::ICMP, 0];
    protocols
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
        let (port, flags) =
            if is_back { (at(self.destination_port, row), 0) } else { (at(self.source_port, row), at(self.tcp_flags, row)) };
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
}
