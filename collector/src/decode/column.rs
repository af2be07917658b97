//! A column at a time: the inner loops that read one field of every record of a set.
//!
//! Each width has a loop of its own, so that a record costs a load, a swap and a store.

use schemas::flow::{Column, FlowBatch};
use schemas::net::Address;

use super::cursor::number;
use super::template::VARIABLE;

/// Where a field lies: in the run of fixed fields behind the `run`-th field of variable length, or that next field itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// How many fields of variable length come before.
    pub(crate) run: usize,
    /// Octets from the start of the run; without meaning for a field of variable length.
    pub(crate) offset: usize,
    /// Octets of the field; [`VARIABLE`] for one of variable length.
    pub(crate) length: u16,
}

/// The records of a data set: for any place, one slice of octets per record.
pub(crate) trait Records<'a>: Copy {
    /// For each record the octets of the field.
    fn fields(self, place: Place) -> impl Iterator<Item = &'a [u8]>;

    /// For each record the first `N` octets of a field that has as many.
    fn arrays<const N: usize>(self, place: Place) -> impl Iterator<Item = &'a [u8; N]>;
}

/// Records of one length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed<'a> {
    octets: &'a [u8],
    stride: usize,
}

impl<'a> Fixed<'a> {
    /// `octets` are a whole number of records of `stride` octets.
    pub(crate) fn new(octets: &'a [u8], stride: usize) -> Self {
        debug_assert!(stride > 0 && octets.len().is_multiple_of(stride), "padding is cut off before");
        Self { octets, stride: stride.max(1) }
    }

    /// The records, one behind the other.
    pub(crate) fn octets(self) -> &'a [u8] {
        self.octets
    }

    /// The octets of each record.
    pub(crate) fn stride(self) -> usize {
        self.stride
    }
}

impl<'a> Records<'a> for Fixed<'a> {
    #[inline]
    fn fields(self, place: Place) -> impl Iterator<Item = &'a [u8]> {
        let range = place.offset..place.offset.saturating_add(usize::from(place.length));
        self.map(move |record| record.get(range.clone()).unwrap_or_default())
    }

    #[inline]
    fn arrays<const N: usize>(self, place: Place) -> impl Iterator<Item = &'a [u8; N]> {
        // The offset is checked against the same stride every time: the compiler does it once.
        let offset = place.offset;
        self.map(move |record| record.get(offset..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; N]))
    }
}

/// The records. (`chunks_exact` divides when it is made, which a set of few records pays for in every column.)
impl<'a> Iterator for Fixed<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (record, rest) = self.octets.split_at_checked(self.stride)?;
        self.octets = rest;
        Some(record)
    }
}

/// Records with fields of variable length, whose places were found beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chained<'a> {
    octets: &'a [u8],
    /// For each record: where it starts, then start and end of each field of variable length.
    spans: &'a [u32],
    spans_per_record: usize,
}

impl<'a> Chained<'a> {
    /// `spans` has `spans_per_record` entries for each record.
    pub(crate) fn new(octets: &'a [u8], spans: &'a [u32], spans_per_record: usize) -> Self {
        Self { octets, spans, spans_per_record: spans_per_record.max(1) }
    }
}

impl<'a> Records<'a> for Chained<'a> {
    #[inline]
    fn fields(self, place: Place) -> impl Iterator<Item = &'a [u8]> {
        let at = |spans: &[u32], index: usize| spans.get(index).map_or(usize::MAX, |&span| span as usize);
        self.spans.chunks_exact(self.spans_per_record).map(move |spans| {
            let range = if place.length == VARIABLE {
                at(spans, 2 * place.run + 1)..at(spans, 2 * place.run + 2)
            } else {
                let start = at(spans, 2 * place.run).saturating_add(place.offset);
                start..start.saturating_add(usize::from(place.length))
            };
            self.octets.get(range).unwrap_or_default()
        })
    }

    #[inline]
    fn arrays<const N: usize>(self, place: Place) -> impl Iterator<Item = &'a [u8; N]> {
        let (run, offset) = (2 * place.run, place.offset);
        self.spans.chunks_exact(self.spans_per_record).map(move |spans| {
            let start = spans.get(run).map_or(usize::MAX, |&span| span as usize).saturating_add(offset);
            self.octets.get(start..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; N])
        })
    }
}

/// How a value meets what the column already has from another field of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// It is the first.
    Set,
    /// It fills in where the first said nothing.
    Fill,
    /// The larger one stays.
    Largest,
}

/// A column's type that holds a number of up to 64 bits.
pub(crate) trait Number: Copy + Default + Ord {
    /// The value, or the type's largest if it is larger.
    fn of(value: u64) -> Self;
}

macro_rules! number {
    ($($type:ty),*) => { $(impl Number for $type {
        #[inline]
        fn of(value: u64) -> Self { Self::try_from(value).unwrap_or(Self::MAX) }
    })* };
}
number!(u8, u16, u32, u64);

/// The rows `first..first + rows` of a column.
pub(crate) fn slot<T>(column: &mut [T], first: usize, rows: usize) -> &mut [T] {
    column.get_mut(first..first.saturating_add(rows)).unwrap_or_default()
}

/// Writes one value a record: what `read` makes of the field's octets.
#[inline]
pub(crate) fn each<'a, T: Copy + Default + PartialOrd>(
    column: &mut [T],
    records: impl Records<'a>,
    place: Place,
    write: Write,
    read: impl Fn(&[u8]) -> T,
) {
    let values = column.iter_mut().zip(records.fields(place));
    match write {
        Write::Set => values.for_each(|(value, octets)| *value = read(octets)),
        Write::Fill => values.filter(|(value, _)| **value == T::default()).for_each(|(value, octets)| *value = read(octets)),
        Write::Largest => values.for_each(|(value, octets)| {
            let other = read(octets);
            if other > *value {
                *value = other;
            }
        }),
    }
}

/// Writes one value a record: what `read` makes of the field's `N` octets.
#[inline]
pub(crate) fn each_array<'a, T, const N: usize>(column: &mut [T], records: impl Records<'a>, place: Place, read: impl Fn(&[u8; N]) -> T) {
    for (value, octets) in column.iter_mut().zip(records.arrays(place)) {
        *value = read(octets);
    }
}

/// Writes one value a record: what `of` makes of the field's number.
#[inline]
pub(crate) fn each_number<'a, T: Copy + Default + PartialOrd>(
    column: &mut [T],
    records: impl Records<'a>,
    place: Place,
    write: Write,
    of: impl Fn(u64) -> T,
) {
    match (place.length, write) {
        (1, Write::Set) => each_array(column, records, place, |&[octet]| of(u64::from(octet))),
        (2, Write::Set) => each_array(column, records, place, |octets| of(u64::from(u16::from_be_bytes(*octets)))),
        (3, Write::Set) => each_array(column, records, place, |&[a, b, c]| of(u64::from(u32::from_be_bytes([0, a, b, c])))),
        (4, Write::Set) => each_array(column, records, place, |octets| of(u64::from(u32::from_be_bytes(*octets)))),
        (8, Write::Set) => each_array(column, records, place, |octets| of(u64::from_be_bytes(*octets))),
        _ => each(column, records, place, write, |octets| of(number(octets))),
    }
}

macro_rules! number_columns {
    ($($variant:ident $name:ident,)*) => {
        /// Writes the numbers of a field into their column.
        pub(crate) fn numbers<'a>(
            batch: &mut FlowBatch, rows: usize, column: Column, records: impl Records<'a>, place: Place, write: Write,
        ) {
            let first = batch.rows();
            match column {
                $(Column::$variant => each_number(slot(&mut batch.$name, first, rows), records, place, write, Number::of),)*
                _ => debug_assert!(false, "a column of addresses takes no numbers"),
            }
        }
    };
}

number_columns! {
    SourcePort source_port, DestinationPort destination_port, ProtocolIdentifier protocol_identifier, TcpControlBits tcp_control_bits,
    OctetDeltaCount octet_delta_count, PacketDeltaCount packet_delta_count, LinkLayerOctets link_layer_octets,
    SamplingInterval sampling_interval, FlowStartMilliseconds flow_start_milliseconds, FlowEndMilliseconds flow_end_milliseconds,
    IngressInterface ingress_interface, EgressInterface egress_interface, BgpSourceAsNumber bgp_source_as_number,
    BgpDestinationAsNumber bgp_destination_as_number, Fragment fragment, IcmpTypeCode icmp_type_code,
    IpClassOfService ip_class_of_service, IpTtl ip_ttl, FlowLabel flow_label, SourcePrefixLength source_prefix_length,
    DestinationPrefixLength destination_prefix_length, FlowDirection flow_direction, ForwardingStatus forwarding_status,
    FlowEndReason flow_end_reason, SelectorId selector_id, OctetTotalCount octet_total_count, PacketTotalCount packet_total_count,
    InitiatorOctets initiator_octets, ResponderOctets responder_octets, InitiatorPackets initiator_packets,
    ResponderPackets responder_packets, ReverseOctetDeltaCount reverse_octet_delta_count,
    ReversePacketDeltaCount reverse_packet_delta_count, PostOctetDeltaCount post_octet_delta_count,
    PostPacketDeltaCount post_packet_delta_count, VlanId vlan_id, PostVlanId post_vlan_id, SourceMacAddress source_mac_address,
    DestinationMacAddress destination_mac_address, MplsTopLabel mpls_top_label, MplsLabel2 mpls_label_2, MplsLabel3 mpls_label_3,
    IngressVrfId ingress_vrf_id, EgressVrfId egress_vrf_id, FirewallEvent firewall_event, NatEvent nat_event,
    PostNaptSourcePort post_napt_source_port, PostNaptDestinationPort post_napt_destination_port, ApplicationId application_id,
}

macro_rules! address_columns {
    ($($variant:ident $name:ident,)*) => {
        /// Writes the addresses of a field into their column; a field of neither 4 nor 16 octets holds none.
        pub(crate) fn addresses<'a>(
            batch: &mut FlowBatch, rows: usize, column: Column, records: impl Records<'a>, place: Place, write: Write,
        ) {
            let first = batch.rows();
            match column {
                $(Column::$variant => write_addresses(slot(&mut batch.$name, first, rows), records, place, write),)*
                _ => debug_assert!(false, "a column of numbers takes no addresses"),
            }
        }
    };
}

address_columns! {
    SourceAddress source_address, DestinationAddress destination_address, NextHop next_hop, BgpNextHop bgp_next_hop,
    PostNatSourceAddress post_nat_source_address, PostNatDestinationAddress post_nat_destination_address,
}

fn write_addresses<'a>(column: &mut [Address], records: impl Records<'a>, place: Place, write: Write) {
    match (place.length, write) {
        (4, Write::Set) => each_array(column, records, place, |octets| Address::from_v4(u32::from_be_bytes(*octets))),
        (16, Write::Set) => each_array(column, records, place, |octets| Address(u128::from_be_bytes(*octets))),
        // A record of a template with both kinds of addresses writes zeros into the one that it has not got.
        (_, Write::Fill) => column.iter_mut().zip(records.fields(place)).for_each(|(value, octets)| match read_address(octets) {
            other if other.is_none() => {}
            other if value.is_none() || *value == Address::from_v4(0) => *value = other,
            _ => {}
        }),
        _ => each(column, records, place, write, read_address),
    }
}

fn read_address(octets: &[u8]) -> Address {
    match (octets.first_chunk(), octets.first_chunk(), octets.len()) {
        (Some(octets), _, 4) => Address::from_v4(u32::from_be_bytes(*octets)),
        (_, Some(octets), 16) => Address(u128::from_be_bytes(*octets)),
        _ => Address(0),
    }
}
