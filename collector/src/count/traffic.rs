//! One row of a batch as traffic: sampling undone, volume chosen, and what kind it is.

use schemas::counter::Volume;
use schemas::flow::{Column, FlowBatch, GROUP_ROWS, Segment};
use schemas::net::Address;

use super::clock::Span;
use super::kind::{Flags, Kind, Ports};
use super::volume::{Exported, Values, Volumes, at};

const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// How much traffic a record stands for, sampling undone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) packets: f64,
    pub(super) octets: f64,
    /// Packets as exported.
    samples: f32,
    pub(super) kind: Kind,
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
    /// So many packets and octets of a kind, every packet seen.
    #[expect(clippy::cast_possible_truncation, reason = "samples are told in single precision")]
    pub(super) fn of(packets: f64, octets: f64, kind: Kind) -> Self {
        Self { packets, octets, samples: packets as f32, kind }
    }

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
        let [packet, octet] = self.kind.counts();
        let mut counts = [0.0; Volume::COUNTS];
        for ((count, packet), octet) in counts.iter_mut().zip(packet).zip(octet) {
            *count = self.packets * packet + self.octets * octet;
        }
        Volume { flows: 1.0, samples: f64::from(self.samples), ..Volume::from_array(counts) }
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
            flags_untold: if present.has(Column::TcpControlBits) { Flags::of(0) } else { Flags::UNTOLD },
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
            (at(self.source_port, row), Flags::of(at(self.tcp_flags, row)).or(self.flags_untold))
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

#[cfg(test)]
mod tests {
    use schemas::flow::fragment;

    use super::*;

    #[test]
    fn a_volume_tells_every_kind_of_a_record() {
        let ports = Ports::new();
        let volume = |protocol, flags| {
            let kind = Kind::of(protocol, Flags::of(flags), 123, fragment::FRAGMENT, &ports);
            Amount::of(2.0, 100.0, kind).volume()
        };
        let all = Volume { packets: 2.0, octets: 100.0, flows: 1.0, samples: 2.0, fragment_packets: 2.0, ..Volume::default() };
        assert_eq!(volume(6, 0x02), Volume { tcp_packets: 2.0, tcp_octets: 100.0, syn_packets: 2.0, ..all });
        assert_eq!(volume(6, 0x12), Volume { tcp_packets: 2.0, tcp_octets: 100.0, syn_ack_packets: 2.0, ..all });
        assert_eq!(volume(6, 0x14), Volume { tcp_packets: 2.0, tcp_octets: 100.0, reset_packets: 2.0, ..all });
        assert_eq!(volume(6, 0x01), Volume { tcp_packets: 2.0, tcp_octets: 100.0, odd_packets: 2.0, ..all });
        assert_eq!(volume(58, 0), Volume { icmp_packets: 2.0, icmp_octets: 100.0, ..all });
        let udp = Volume { udp_packets: 2.0, udp_octets: 100.0, amplification_packets: 2.0, amplification_octets: 100.0, ..all };
        assert_eq!(volume(17, 0x02), udp);
        assert_eq!(volume(47, 0x02), all);
    }
}
