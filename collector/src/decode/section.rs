//! Packet sections: the columns that a record does not export and that the first octets of its packet tell.
//!
//! `dataLinkFrameSection(315)`, `ipHeaderPacketSection(313)` (RFC 7133, RFC 5477).

use schemas::flow::{Column, ColumnSet, FlowBatch};

use super::column::{Place, Records};
use super::cursor::number;
use super::frame::{Headers, Link, dissect};

/// Columns that headers can tell.
const HEADERS: ColumnSet = ColumnSet::of(&[
    Column::SourceAddress,
    Column::DestinationAddress,
    Column::SourcePort,
    Column::DestinationPort,
    Column::ProtocolIdentifier,
    Column::TcpControlBits,
    Column::Fragment,
    Column::IcmpTypeCode,
    Column::IpClassOfService,
    Column::IpTtl,
    Column::FlowLabel,
    Column::VlanId,
    Column::SourceMacAddress,
    Column::DestinationMacAddress,
]);
/// Counts; a record with any of them is not counted by its section.
const COUNTS: ColumnSet = ColumnSet::of(&[
    Column::OctetDeltaCount,
    Column::PacketDeltaCount,
    Column::OctetTotalCount,
    Column::PacketTotalCount,
    Column::InitiatorOctets,
    Column::InitiatorPackets,
]);
/// What a section says of a volume: one packet of so many octets.
const VOLUME: ColumnSet = ColumnSet::of(&[Column::OctetDeltaCount, Column::PacketDeltaCount, Column::LinkLayerOctets]);

/// How a template's packet section is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    place: Place,
    link: Link,
    frame_octets: Option<Place>,
    derived: ColumnSet,
}

impl Section {
    /// A section at `place` of a record that exports the columns `exported` itself.
    pub(crate) fn new(place: Place, link: Link, frame_octets: Option<Place>, exported: ColumnSet) -> Self {
        let counts = COUNTS.0 & exported.0 != 0;
        let derived = HEADERS.minus(exported).union(if counts { ColumnSet::default() } else { VOLUME });
        Self { place, link, frame_octets, derived }
    }

    /// Reads the section of every record into the rows behind the batch's last, and returns the columns that it wrote.
    pub(crate) fn run<'a>(&self, records: impl Records<'a>, rows: usize, batch: &mut FlowBatch) -> ColumnSet {
        let first = batch.rows();
        let mut frames = self.frame_octets.map(|place| records.fields(place).map(number));
        for (row, octets) in (first..first + rows).zip(records.fields(self.place)) {
            let frame_octets = frames.as_mut().and_then(Iterator::next).and_then(|octets| u32::try_from(octets).ok());
            if let Some(headers) = dissect(self.link, octets) {
                self.write(row, &headers, frame_octets.filter(|&octets| octets != 0), batch);
            }
        }
        self.derived
    }

    fn write(&self, row: usize, headers: &Headers, frame_octets: Option<u32>, batch: &mut FlowBatch) {
        let octets = frame_octets.unwrap_or_else(|| u32::from(headers.network_offset).saturating_add(headers.ip_octets));
        macro_rules! put {
            ($($variant:ident $name:ident = $value:expr,)*) => {
                $(if self.derived.has(Column::$variant) && let Some(slot) = batch.$name.get_mut(row) {
                    *slot = $value;
                })*
            };
        }
        put! {
            SourceAddress source_address = headers.source_address,
            DestinationAddress destination_address = headers.destination_address,
            SourcePort source_port = headers.source_port,
            DestinationPort destination_port = headers.destination_port,
            ProtocolIdentifier protocol_identifier = headers.protocol_identifier,
            TcpControlBits tcp_control_bits = headers.tcp_control_bits,
            Fragment fragment = headers.fragment,
            IcmpTypeCode icmp_type_code = headers.icmp_type_code,
            IpClassOfService ip_class_of_service = headers.ip_class_of_service,
            IpTtl ip_ttl = headers.ip_ttl,
            FlowLabel flow_label = headers.flow_label,
            VlanId vlan_id = headers.vlan_id,
            SourceMacAddress source_mac_address = headers.source_mac_address,
            DestinationMacAddress destination_mac_address = headers.destination_mac_address,
            OctetDeltaCount octet_delta_count = u64::from(octets),
            PacketDeltaCount packet_delta_count = 1,
            LinkLayerOctets link_layer_octets = headers.link_layer_octets(octets),
        }
    }
}
