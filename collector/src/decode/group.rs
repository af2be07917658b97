//! Columns in company: fields that have the width of their column, up to four in one pass over the records.
//!
//! To walk from record to record costs more than to read a field: four fields share the walk.

use schemas::flow::{Column, FlowBatch};
use schemas::net::Address;

use super::column::Fixed;

/// Fields that are read in one pass.
const FIELDS_MAX: usize = 4;

/// The type of a column, and so the width of the fields that go into it as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    U16,
    U32,
    U64,
    Address4,
}

/// Up to four fields of records of one length, each with a column of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    kind: Kind,
    /// Columns, and octets from the start of the record.
    fields: Vec<(Column, usize)>,
}

/// Collects fields into groups.
#[derive(Debug, Default)]
pub(crate) struct Groups(Vec<Group>);

impl Groups {
    /// Takes in a field of `length` octets at `offset` if it goes into `column` as it is, and returns whether it does.
    pub(crate) fn take_in(&mut self, column: Column, offset: usize, length: u16) -> bool {
        let Some(kind) = kind(column).filter(|kind| length == kind.octets()) else {
            return false;
        };
        match self.0.iter_mut().find(|group| group.kind == kind && group.fields.len() < FIELDS_MAX) {
            Some(group) => group.fields.push((column, offset)),
            None => self.0.push(Group { kind, fields: vec![(column, offset)] }),
        }
        true
    }

    /// The groups.
    pub(crate) fn into_vec(self) -> Vec<Group> {
        self.0
    }
}

impl Kind {
    fn octets(self) -> u16 {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 | Self::Address4 => 4,
            Self::U64 => 8,
        }
    }
}

impl Group {
    /// Writes the columns of the rows behind the batch's last, one for each record.
    pub(crate) fn run(&self, records: Fixed<'_>, batch: &mut FlowBatch) {
        match self.kind {
            Kind::U8 => self.run_as(records, batch, held_u8, |[octet]: &[u8; 1]| *octet),
            Kind::U16 => self.run_as(records, batch, held_u16, |octets| u16::from_be_bytes(*octets)),
            Kind::U32 => self.run_as(records, batch, held_u32, |octets| u32::from_be_bytes(*octets)),
            Kind::U64 => self.run_as(records, batch, held_u64, |octets| u64::from_be_bytes(*octets)),
            Kind::Address4 => self.run_as(records, batch, held_address, |octets| Address::from_v4(u32::from_be_bytes(*octets))),
        }
    }

    #[inline]
    fn run_as<T, const N: usize>(&self, records: Fixed<'_>, batch: &mut FlowBatch, held: Held<T>, read: impl Fn(&[u8; N]) -> T) {
        let first = batch.rows();
        if self.fields.iter().any(|&(_, offset)| offset.saturating_add(N) > records.stride()) {
            debug_assert!(false, "a field lies within its record");
            return;
        }
        let at = |record: &[u8], offset: usize| {
            // SAFETY: `record` has `stride` octets, as all that `Fixed` gives out, and no field ends behind them: checked above.
            #[expect(unsafe_code, reason = "a check of every field of every record costs as much again as reading it")]
            read(unsafe { &*record.as_ptr().add(offset).cast::<[u8; N]>() })
        };
        // The columns leave the batch for the pass: that they are different ones shows only then.
        let mut columns: [Box<[T]>; FIELDS_MAX] = Default::default();
        for (column, &(name, _)) in columns.iter_mut().zip(&self.fields) {
            *column = held(batch, name).map(std::mem::take).unwrap_or_default();
        }
        let [a, b, c, d] = columns.each_mut().map(|column| column.get_mut(first..).unwrap_or_default());
        match *self.fields.as_slice() {
            [(_, at_a), (_, at_b), (_, at_c), (_, at_d)] => {
                for ((((a, b), c), d), record) in a.iter_mut().zip(b).zip(c).zip(d).zip(records) {
                    (*a, *b, *c, *d) = (at(record, at_a), at(record, at_b), at(record, at_c), at(record, at_d));
                }
            }
            [(_, at_a), (_, at_b), (_, at_c)] => {
                for (((a, b), c), record) in a.iter_mut().zip(b).zip(c).zip(records) {
                    (*a, *b, *c) = (at(record, at_a), at(record, at_b), at(record, at_c));
                }
            }
            [(_, at_a), (_, at_b)] => {
                for ((a, b), record) in a.iter_mut().zip(b).zip(records) {
                    (*a, *b) = (at(record, at_a), at(record, at_b));
                }
            }
            [(_, at_a)] => a.iter_mut().zip(records).for_each(|(a, record)| *a = at(record, at_a)),
            _ => debug_assert!(false, "a group has one to four fields"),
        }
        for (column, &(name, _)) in columns.into_iter().zip(&self.fields) {
            if let Some(place) = held(batch, name) {
                *place = column;
            }
        }
    }
}

/// Finds a column of one type in a batch.
type Held<T> = fn(&mut FlowBatch, Column) -> Option<&mut Box<[T]>>;

macro_rules! kinds {
    ($($kind:ident $held:ident $type:ty { $($variant:ident $name:ident,)* })*) => {
        fn kind(column: Column) -> Option<Kind> {
            match column {
                $($(Column::$variant => Some(Kind::$kind),)*)*
                _ => None,
            }
        }

        $(fn $held(batch: &mut FlowBatch, column: Column) -> Option<&mut Box<[$type]>> {
            match column {
                $(Column::$variant => Some(&mut batch.$name),)*
                _ => None,
            }
        })*
    };
}

kinds! {
    U8 held_u8 u8 {
        ProtocolIdentifier protocol_identifier, IpClassOfService ip_class_of_service, SourcePrefixLength source_prefix_length,
        DestinationPrefixLength destination_prefix_length, FlowDirection flow_direction, ForwardingStatus forwarding_status,
        FlowEndReason flow_end_reason, FirewallEvent firewall_event, NatEvent nat_event,
    }
    U16 held_u16 u16 {
        SourcePort source_port, DestinationPort destination_port, TcpControlBits tcp_control_bits, IcmpTypeCode icmp_type_code,
        VlanId vlan_id, PostVlanId post_vlan_id, PostNaptSourcePort post_napt_source_port,
        PostNaptDestinationPort post_napt_destination_port,
    }
    U32 held_u32 u32 {
        IngressInterface ingress_interface, EgressInterface egress_interface, BgpSourceAsNumber bgp_source_as_number,
        BgpDestinationAsNumber bgp_destination_as_number, FlowLabel flow_label, IngressVrfId ingress_vrf_id, EgressVrfId egress_vrf_id,
    }
    U64 held_u64 u64 {
        OctetDeltaCount octet_delta_count, PacketDeltaCount packet_delta_count, OctetTotalCount octet_total_count,
        PacketTotalCount packet_total_count, InitiatorOctets initiator_octets, ResponderOctets responder_octets,
        InitiatorPackets initiator_packets, ResponderPackets responder_packets, PostOctetDeltaCount post_octet_delta_count,
        PostPacketDeltaCount post_packet_delta_count, ReverseOctetDeltaCount reverse_octet_delta_count,
        ReversePacketDeltaCount reverse_packet_delta_count,
    }
    Address4 held_address Address {
        SourceAddress source_address, DestinationAddress destination_address, NextHop next_hop, BgpNextHop bgp_next_hop,
        PostNatSourceAddress post_nat_source_address, PostNatDestinationAddress post_nat_destination_address,
    }
}
