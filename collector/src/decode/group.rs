//! Columns in company: fields of one width and kind of column, up to four in one pass over the records.
//!
//! To walk from record to record costs more than to read a field: four fields share the walk.

use schemas::flow::{Column, FlowBatch};
use schemas::net::Address;

use super::clock::Uptime;
use super::column::{Fixed, slot};

/// Fields that are read in one pass.
const FIELDS_MAX: usize = 4;

/// What the fields of a group become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    U16,
    U32,
    U64,
    Address,
    /// Unix milliseconds, out of a moment on the uptime clock.
    Uptime,
}

/// Up to four fields of records of one length, each with a column of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    kind: Kind,
    /// Octets of each field.
    octets: u16,
    /// Places among the columns of the kind, and octets from the start of the record.
    fields: Vec<(usize, usize)>,
    /// Where the last of them ends.
    end: usize,
}

/// Collects fields into groups.
#[derive(Debug, Default)]
pub(crate) struct Groups(Vec<Group>);

impl Groups {
    /// Takes in a number or an address of `octets` octets at `offset` if `column` can be read in company, and returns whether it can.
    pub(crate) fn take_in(&mut self, column: Column, offset: usize, octets: u16) -> bool {
        kind(column).is_some_and(|(kind, place)| self.add(kind, octets, place, offset))
    }

    /// Takes in a moment on the uptime clock likewise.
    pub(crate) fn take_in_uptime(&mut self, column: Column, offset: usize, octets: u16) -> bool {
        kind(column).is_some_and(|(_, place)| self.add(Kind::Uptime, octets, place, offset))
    }

    fn add(&mut self, kind: Kind, octets: u16, place: usize, offset: usize) -> bool {
        if !kind.widths().contains(&octets) {
            return false;
        }
        let end = offset.saturating_add(usize::from(octets));
        match self.0.iter_mut().find(|group| (group.kind, group.octets) == (kind, octets) && group.fields.len() < FIELDS_MAX) {
            Some(group) => {
                group.fields.push((place, offset));
                group.end = group.end.max(end);
            }
            None => self.0.push(Group { kind, octets, fields: vec![(place, offset)], end }),
        }
        true
    }

    /// The groups.
    pub(crate) fn into_vec(self) -> Vec<Group> {
        self.0
    }
}

impl Kind {
    /// Lengths of fields that have a loop of their own: the element's, and the shorter ones that exporters send.
    fn widths(self) -> &'static [u16] {
        match self {
            Self::U8 => &[1],
            Self::U16 => &[1, 2],
            Self::U32 => &[2, 4],
            Self::U64 => &[4, 8],
            Self::Address => &[4, 16],
            Self::Uptime => &[4],
        }
    }
}

impl Group {
    /// Writes the columns of the `rows` rows behind the batch's last, one for each record; moments on an uptime clock that is not
    /// known are left out.
    pub(crate) fn run(&self, records: Fixed<'_>, rows: usize, uptime: Option<Uptime>, batch: &mut FlowBatch) {
        let first = batch.rows();
        let rows = (first, rows);
        match (self.kind, self.octets) {
            (Kind::U8, _) => self.run_as(records, rows, &mut columns_u8(batch), |&[octet]| octet),
            (Kind::U16, 1) => self.run_as(records, rows, &mut columns_u16(batch), |&[octet]| u16::from(octet)),
            (Kind::U16, _) => self.run_as(records, rows, &mut columns_u16(batch), |octets| u16::from_be_bytes(*octets)),
            (Kind::U32, 2) => self.run_as(records, rows, &mut columns_u32(batch), |octets| u32::from(u16::from_be_bytes(*octets))),
            (Kind::U32, _) => self.run_as(records, rows, &mut columns_u32(batch), |octets| u32::from_be_bytes(*octets)),
            (Kind::U64, 4) => self.run_as(records, rows, &mut columns_u64(batch), |octets| u64::from(u32::from_be_bytes(*octets))),
            (Kind::U64, _) => self.run_as(records, rows, &mut columns_u64(batch), |octets| u64::from_be_bytes(*octets)),
            (Kind::Address, 4) => {
                self.run_as(records, rows, &mut columns_address(batch), |octets| Address::from_v4(u32::from_be_bytes(*octets)));
            }
            (Kind::Address, _) => self.run_as(records, rows, &mut columns_address(batch), |octets| Address(u128::from_be_bytes(*octets))),
            (Kind::Uptime, _) => {
                if let Some(uptime) = uptime {
                    self.run_as(records, rows, &mut columns_u64(batch), |octets| uptime.at(u32::from_be_bytes(*octets)));
                }
            }
        }
    }

    #[inline]
    fn run_as<T, const N: usize>(
        &self,
        records: Fixed<'_>,
        (first, rows): (usize, usize),
        columns: &mut [&mut [T]],
        read: impl Fn(&[u8; N]) -> T,
    ) {
        let stride = records.stride();
        if rows.saturating_mul(stride) > records.octets().len() || self.end > stride || usize::from(self.octets) != N {
            debug_assert!(false, "a field lies within its record, and a record within the set");
            return;
        }
        let mut next = records.octets().as_ptr();
        // The columns are cut to `rows`, so that a record is asked for no more often.
        let mut record = || {
            let behind = next.wrapping_add(stride);
            std::mem::replace(&mut next, behind)
        };
        let at = |record: *const u8, offset: usize| {
            // SAFETY: one of the first `rows` records, each of `stride` octets, and no field ends behind its record: checked above.
            #[expect(unsafe_code, reason = "a check of every field of every record costs as much again as reading it")]
            read(unsafe { &*record.add(offset).cast::<[u8; N]>() })
        };
        match *self.fields.as_slice() {
            [(a, at_a), (b, at_b), (c, at_c), (d, at_d)] => {
                let Ok([a, b, c, d]) = columns.get_disjoint_mut([a, b, c, d]) else { return };
                let (a, b, c, d) = (slot(a, first, rows), slot(b, first, rows), slot(c, first, rows), slot(d, first, rows));
                for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                    let record = record();
                    (*a, *b, *c, *d) = (at(record, at_a), at(record, at_b), at(record, at_c), at(record, at_d));
                }
            }
            [(a, at_a), (b, at_b), (c, at_c)] => {
                let Ok([a, b, c]) = columns.get_disjoint_mut([a, b, c]) else { return };
                let (a, b, c) = (slot(a, first, rows), slot(b, first, rows), slot(c, first, rows));
                for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                    let record = record();
                    (*a, *b, *c) = (at(record, at_a), at(record, at_b), at(record, at_c));
                }
            }
            [(a, at_a), (b, at_b)] => {
                let Ok([a, b]) = columns.get_disjoint_mut([a, b]) else { return };
                let (a, b) = (slot(a, first, rows), slot(b, first, rows));
                for (a, b) in a.iter_mut().zip(b) {
                    let record = record();
                    (*a, *b) = (at(record, at_a), at(record, at_b));
                }
            }
            [(a, at_a)] => {
                let Some(a) = columns.get_mut(a) else { return };
                slot(a, first, rows).iter_mut().for_each(|a| *a = at(record(), at_a));
            }
            _ => debug_assert!(false, "a group has one to four fields"),
        }
    }
}

macro_rules! kinds {
    ($($kind:ident $columns:ident $type:ty { $($variant:ident $name:ident,)* })*) => {
        /// The kind of a column, and its place among those of the kind.
        fn kind(column: Column) -> Option<(Kind, usize)> {
            let kinds = [$((Kind::$kind, [$(Column::$variant),*].as_slice())),*];
            kinds.into_iter().find_map(|(kind, columns)| Some((kind, columns.iter().position(|&other| other == column)?)))
        }

        $(fn $columns(batch: &mut FlowBatch) -> [&mut [$type]; [$(Column::$variant),*].len()] {
            [$(&mut *batch.$name),*]
        })*
    };
}

kinds! {
    U8 columns_u8 u8 {
        ProtocolIdentifier protocol_identifier, IpClassOfService ip_class_of_service, SourcePrefixLength source_prefix_length,
        DestinationPrefixLength destination_prefix_length, FlowDirection flow_direction, ForwardingStatus forwarding_status,
        FlowEndReason flow_end_reason, FirewallEvent firewall_event, NatEvent nat_event,
    }
    U16 columns_u16 u16 {
        SourcePort source_port, DestinationPort destination_port, TcpControlBits tcp_control_bits, IcmpTypeCode icmp_type_code,
        VlanId vlan_id, PostVlanId post_vlan_id, PostNaptSourcePort post_napt_source_port,
        PostNaptDestinationPort post_napt_destination_port,
    }
    U32 columns_u32 u32 {
        IngressInterface ingress_interface, EgressInterface egress_interface, BgpSourceAsNumber bgp_source_as_number,
        BgpDestinationAsNumber bgp_destination_as_number, FlowLabel flow_label, IngressVrfId ingress_vrf_id, EgressVrfId egress_vrf_id,
    }
    U64 columns_u64 u64 {
        FlowStartMilliseconds flow_start_milliseconds, FlowEndMilliseconds flow_end_milliseconds,
        OctetDeltaCount octet_delta_count, PacketDeltaCount packet_delta_count, OctetTotalCount octet_total_count,
        PacketTotalCount packet_total_count, InitiatorOctets initiator_octets, ResponderOctets responder_octets,
        InitiatorPackets initiator_packets, ResponderPackets responder_packets, PostOctetDeltaCount post_octet_delta_count,
        PostPacketDeltaCount post_packet_delta_count, ReverseOctetDeltaCount reverse_octet_delta_count,
        ReversePacketDeltaCount reverse_packet_delta_count,
    }
    Address columns_address Address {
        SourceAddress source_address, DestinationAddress destination_address, NextHop next_hop, BgpNextHop bgp_next_hop,
        PostNatSourceAddress post_nat_source_address, PostNatDestinationAddress post_nat_destination_address,
    }
}
