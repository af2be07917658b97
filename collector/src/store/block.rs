//! Blocks: a batch of flow records as the table `flows` has them, in the engine's own format.
//!
//! Only columns of which some row has more than zeroes are sent, and numbers and addresses in the narrowest type that holds those of all
//! rows: of the others the engine makes what a zero means, and of these what the table has, at less cost than to send it.

mod filing;
mod interface;
mod place;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::Bytes;
use schemas::flow::{Column, FlowBatch, GROUP_ROWS, Origin, Segment};
use schemas::net::{Address, PrefixSet};
use schemas::time::Timestamp;

pub use self::filing::PARTITIONS_MAX;
use super::names::Names;
use super::native::{Keys, Native};
use crate::count::clock::Moments;
use crate::count::volume::{Exported, Told, Volumes};
use filing::Filing;
use interface::Interfaces;
use place::Side;

/// The most octets or packets that a record can stand for, sampling undone: 4.5 · 10^15, what a line of 10 Tb/s carries in an hour. Sums
/// have 64 bits, of which thousands of records that claim more would take all.
const VOLUME_MAX: u64 = 1 << 52;

/// Makes blocks of batches; keeps its room from one to the next.
#[derive(Debug, Default)]
pub struct Encoder {
    native: Native,
    future_milliseconds_max: u64,
    filing: Filing,
    networks: PrefixSet,
    exporters: Exporters,
    numbers: Vec<u32>,
    octets: Vec<u8>,
    wide: [Vec<u64>; 2],
    /// Volumes of which some were too great, and how many since the start.
    cut: (Vec<u64>, u64),
    source: Side,
    destination: Side,
    interfaces: Interfaces,
    applications: Keys,
}

impl Encoder {
    /// An encoder that takes an exporter's clock for wrong if a record ends later than so long after its arrival, as the counters do.
    #[must_use]
    pub fn new(future_milliseconds_max: u64) -> Self {
        Self { future_milliseconds_max, ..Self::default() }
    }

    /// The same with the networks that are ours: while there are none, every address is looked at as closely as ours.
    #[must_use]
    pub fn with_networks(self, networks: PrefixSet) -> Self {
        Self { networks, ..self }
    }

    /// The same; rows are filed under ends of so many days back at most, 0 = a year.
    #[must_use]
    pub fn reaching_back(self, days: u32) -> Self {
        Self { filing: Filing::new(days), ..self }
    }

    /// The rows of a batch as a block; they were made before `now`.
    pub fn encode(&mut self, batch: &FlowBatch, names: &impl Names, now: Timestamp) -> Bytes {
        self.append(batch, names, now);
        self.take()
    }

    /// Puts the rows of a batch, as a block of their own, behind those since [`Self::take`]: an insert may have many. How many octets they are.
    pub fn append(&mut self, batch: &FlowBatch, names: &impl Names, now: Timestamp) -> usize {
        self.exporters.number(batch.segments());
        self.native.begin(batch.rows());
        self.times(batch, now);
        self.origins(batch);
        self.volumes(batch);
        records(&mut self.native, batch);
        place::write(&mut self.native, batch, &self.networks, &mut self.source, &mut self.destination);
        self.interfaces.write(&mut self.native, batch, &self.exporters.of_segments, names);
        self.applications(batch, names);
        self.communities(batch);
        self.native.end()
    }

    /// Octets and packets of records that no line carries, since the start: they are stored as the most that can be.
    #[must_use]
    pub fn volumes_cut(&self) -> u64 {
        let (_, count) = &self.cut;
        *count
    }

    /// How many records of the last batch are not filed under their end, which cannot be or for whose hour the block had no room, by exporter.
    pub fn refiled(&self) -> impl Iterator<Item = (Address, u64)> {
        self.filing.refiled()
    }

    /// The blocks since the last call.
    pub fn take(&mut self) -> Bytes {
        self.filing.begin_block();
        self.native.take()
    }

    fn times(&mut self, batch: &FlowBatch, now: Timestamp) {
        self.numbers.clear();
        self.filing.begin_batch();
        for segment in batch.segments() {
            let moments = Moments::of(&segment.origin, now.milliseconds(), self.future_milliseconds_max);
            let seconds = |moment: u64| u32::try_from(moment / 1_000).unwrap_or(u32::MAX);
            let latest = seconds(moments.span(0, 0).end);
            let (edges, filing) = (self.filing.edges(segment.origin.exporter, latest), &mut self.filing);
            if segment.origin.present.has(Column::FlowEndMilliseconds) {
                let times = of(&batch.flow_start_milliseconds, segment).iter().zip(of(&batch.flow_end_milliseconds, segment));
                self.numbers.extend(times.map(|(&start, &end)| {
                    let end = seconds(moments.span(start, end).end);
                    if edges.is_recent(end) { end } else { filing.late(&edges, end) }
                }));
            } else {
                self.numbers.extend(std::iter::repeat_n(latest, segment.rows));
            }
        }
        self.native.column("time", "DateTime('UTC')");
        self.native.values(&self.numbers, u32::to_le_bytes);
        runs(&mut self.native, batch, "received_at", "DateTime64(3, 'UTC')", |origin| origin.arrival_milliseconds.to_le_bytes());
        let [scratch, _] = &mut self.wide;
        for (name, column, values) in [
            ("flow_start_milliseconds", Column::FlowStartMilliseconds, &batch.flow_start_milliseconds),
            ("flow_end_milliseconds", Column::FlowEndMilliseconds, &batch.flow_end_milliseconds),
        ] {
            if !batch.written().has(column) {
                continue;
            }
            self.native.column(name, "DateTime64(3, 'UTC')");
            // A time in whole seconds ends a flow with its second, as it does for the counters.
            let is_end = column == Column::FlowEndMilliseconds;
            let rest = |origin: &Origin| if is_end { u64::from(origin.time_resolution_milliseconds.saturating_sub(1)) } else { 0 };
            if batch.segments().iter().all(|segment| segment.origin.clock_offset_milliseconds == 0 && rest(&segment.origin) == 0) {
                self.native.values(values.get(..batch.rows()).unwrap_or_default(), u64::to_le_bytes);
                continue;
            }
            scratch.clear();
            for segment in batch.segments() {
                let (offset, rest) = (segment.origin.clock_offset_milliseconds, rest(&segment.origin));
                // A time that is not told stays untold.
                scratch.extend(
                    of(values, segment)
                        .iter()
                        .map(|&time| if time == 0 { 0 } else { time.saturating_add(rest).saturating_add_signed(offset) }),
                );
            }
            self.native.values(scratch, u64::to_le_bytes);
        }
    }

    fn origins(&mut self, batch: &FlowBatch) {
        let native = &mut self.native;
        runs(native, batch, "exporter", "IPv6", |origin| origin.exporter.0.to_be_bytes());
        runs(native, batch, "observation_domain_id", "UInt32", |origin| origin.observation_domain_id.to_le_bytes());
        runs(native, batch, "version", VERSION, |origin| [origin.version as u8]);
        runs(native, batch, "template_id", "UInt16", |origin| origin.template_id.to_le_bytes());
        self.octets.clear();
        for segment in batch.segments() {
            let source = segment.origin.sampling_source as u8;
            self.octets.extend(of(&batch.sampling_interval, segment).iter().map(|&interval| if interval == 0 { 0 } else { source }));
        }
        native.column("sampling_source", SAMPLING_SOURCE);
        native.values(&self.octets, |source| [source]);
    }

    fn volumes(&mut self, batch: &FlowBatch) {
        let native = &mut self.native;
        runs(native, batch, "volume", VOLUME, |origin| [Told::of(origin.present) as u8]);
        let is_plain = !batch.written().has(Column::LinkLayerOctets);
        let is_delta = batch.segments().iter().all(|segment| Told::of(segment.origin.present) == Told::Delta);
        let [octets, packets] = &mut self.wide;
        let mut write = |name: &str, values: &[u64]| volume(native, name, values, &batch.sampling_interval, &mut self.cut);
        if is_plain && is_delta {
            write("octets", batch.octet_delta_count.get(..batch.rows()).unwrap_or_default());
            write("packets", batch.packet_delta_count.get(..batch.rows()).unwrap_or_default());
        } else {
            collect(batch, octets, packets, Volumes::forth);
            write("octets", octets);
            write("packets", packets);
        }
        if batch.segments().iter().any(|segment| Volumes::new(batch, segment, 0).is_two_way) {
            collect(batch, octets, packets, Volumes::back);
            write("reverse_octets", octets);
            write("reverse_packets", packets);
        }
    }

    fn applications(&mut self, batch: &FlowBatch, names: &impl Names) {
        let keys = &mut self.applications;
        keys.clear();
        self.numbers.clear();
        let ports = batch.source_port.iter().zip(&batch.destination_port);
        let rows = batch.protocol_identifier.iter().zip(ports).take(batch.rows());
        self.numbers
            .extend(rows.map(|(&protocol, (&source, &destination))| keys.number_of(names.application(protocol, source, destination))));
        if keys.count() > 1 {
            self.native.low_cardinality("application", keys, &self.numbers);
        }
    }

    fn communities(&mut self, batch: &FlowBatch) {
        let lists = batch.communities.get(..batch.rows()).unwrap_or_default();
        if !batch.written().has(Column::Communities) || !are_told(lists) {
            return;
        }
        let [ends, _] = &mut self.wide;
        ends.clear();
        self.numbers.clear();
        for &list in lists {
            self.numbers.extend_from_slice(batch.community_list(list));
            ends.push(self.numbers.len() as u64);
        }
        self.native.column("communities", "Array(UInt32)");
        self.native.values(ends, u64::to_le_bytes);
        self.native.values(&self.numbers, u32::to_le_bytes);
    }
}

const VERSION: &str = "Enum8('netflow1' = 0, 'netflow5' = 1, 'netflow7' = 2, 'netflow9' = 3, 'ipfix' = 4, 'sflow5' = 5, 'packet' = 6)";
const SAMPLING_SOURCE: &str = "Enum8('unknown' = 0, 'config' = 1, 'header' = 2, 'options' = 3, 'record' = 4)";
const VOLUME: &str = "Enum8('delta' = 0, 'two_way' = 1, 'total' = 2)";

/// The exporters of a batch, numbered as they come.
#[derive(Debug, Default)]
struct Exporters {
    numbers: HashMap<Address, u32>,
    of_segments: Vec<u32>,
}

impl Exporters {
    fn number(&mut self, segments: &[Segment]) {
        self.numbers.clear();
        self.of_segments.clear();
        let mut last = None;
        for Segment { origin, .. } in segments {
            let number = match last {
                Some((exporter, number)) if exporter == origin.exporter => number,
                _ => {
                    let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
                    *self.numbers.entry(origin.exporter).or_insert(next)
                }
            };
            last = Some((origin.exporter, number));
            self.of_segments.push(number);
        }
    }
}

/// The values of a column that belong to a segment.
fn of<'a, T>(values: &'a [T], segment: &Segment) -> &'a [T] {
    values.get(segment.first..segment.first + segment.rows).unwrap_or_default()
}

/// Writes a column of which all rows of a segment have the same value, unless all are zero.
fn runs<const N: usize>(native: &mut Native, batch: &FlowBatch, name: &str, kind: &str, value: impl Fn(&Origin) -> [u8; N]) {
    if batch.segments().iter().all(|segment| value(&segment.origin) == [0; N]) {
        return;
    }
    native.column(name, kind);
    let mut run: Option<([u8; N], usize)> = None;
    for segment in batch.segments() {
        let value = value(&segment.origin);
        run = match run {
            Some((last, rows)) if last == value => Some((last, rows + segment.rows)),
            Some((last, rows)) => {
                native.repeat(last, rows);
                Some((value, segment.rows))
            }
            None => Some((value, segment.rows)),
        };
    }
    if let Some((last, rows)) = run {
        native.repeat(last, rows);
    }
}

/// Writes octets or packets of all rows, none more than can be with its interval.
fn volume(native: &mut Native, name: &str, values: &[u64], intervals: &[u32], (cut, count): &mut (Vec<u64>, u64)) {
    let interval_max = intervals.iter().take(values.len()).max().map_or(1, |interval| u64::from(*interval).max(1));
    if values.iter().max().is_none_or(|value| value.saturating_mul(interval_max) <= VOLUME_MAX) {
        native.numbers(name, values);
        return;
    }
    cut.clear();
    cut.extend(values.iter().zip(intervals).map(|(&value, &interval)| value.min(VOLUME_MAX / u64::from(interval.max(1)))));
    *count += values.iter().zip(&*cut).filter(|(value, cut)| value != cut).count() as u64;
    native.numbers(name, cut);
}

/// The octets and packets of every row, as `volume` tells them.
fn collect<'a>(batch: &'a FlowBatch, octets: &mut Vec<u64>, packets: &mut Vec<u64>, volume: impl Fn(&Volumes<'a>, usize) -> Exported) {
    octets.clear();
    packets.clear();
    for segment in batch.segments() {
        for skipped in (0..segment.rows).step_by(GROUP_ROWS) {
            let volumes = Volumes::new(batch, segment, skipped);
            for row in 0..GROUP_ROWS.min(segment.rows - skipped) {
                let exported = volume(&volumes, row);
                octets.push(exported.octets);
                packets.push(exported.packets);
            }
        }
    }
}

/// Writes the columns that the table has as the batch has them, those of which some row has more than zero.
fn records(native: &mut Native, batch: &FlowBatch) {
    macro_rules! columns {
        ($($kind:ident: $($name:ident / $variant:ident)*;)*) => {$($(
            if batch.written().has(Column::$variant) {
                native.$kind(stringify!($name), batch.$name.get(..batch.rows()).unwrap_or_default());
            }
        )*)*};
    }
    columns! {
        addresses:
            source_address / SourceAddress destination_address / DestinationAddress next_hop / NextHop bgp_next_hop / BgpNextHop
            post_nat_source_address / PostNatSourceAddress post_nat_destination_address / PostNatDestinationAddress;
        numbers:
            protocol_identifier / ProtocolIdentifier fragment / Fragment ip_class_of_service / IpClassOfService ip_ttl / IpTtl
            flow_direction / FlowDirection forwarding_status / ForwardingStatus flow_end_reason / FlowEndReason
            firewall_event / FirewallEvent nat_event / NatEvent
            source_port / SourcePort destination_port / DestinationPort tcp_control_bits / TcpControlBits icmp_type_code / IcmpTypeCode
            link_layer_octets / LinkLayerOctets vlan_id / VlanId post_vlan_id / PostVlanId
            post_napt_source_port / PostNaptSourcePort post_napt_destination_port / PostNaptDestinationPort
            sampling_interval / SamplingInterval ingress_interface / IngressInterface egress_interface / EgressInterface
            bgp_source_as_number / BgpSourceAsNumber bgp_destination_as_number / BgpDestinationAsNumber flow_label / FlowLabel
            mpls_top_label / MplsTopLabel mpls_label_2 / MplsLabel2 mpls_label_3 / MplsLabel3
            ingress_vrf_id / IngressVrfId egress_vrf_id / EgressVrfId
            selector_id / SelectorId octet_total_count / OctetTotalCount packet_total_count / PacketTotalCount
            initiator_octets / InitiatorOctets initiator_packets / InitiatorPackets
            responder_octets / ResponderOctets responder_packets / ResponderPackets
            reverse_octet_delta_count / ReverseOctetDeltaCount reverse_packet_delta_count / ReversePacketDeltaCount
            post_octet_delta_count / PostOctetDeltaCount post_packet_delta_count / PostPacketDeltaCount
            source_mac_address / SourceMacAddress destination_mac_address / DestinationMacAddress application_id / ApplicationId;
    }
}

/// Whether any row has more than zero.
fn are_told<T: Default + PartialEq>(values: &[T]) -> bool {
    let zero = T::default();
    values.iter().any(|value| *value != zero)
}
