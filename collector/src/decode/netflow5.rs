//! NetFlow versions 1, 5 and 7: fixed layouts, a column at a time.
//!
//! Cisco, "NetFlow Export Datagram Format" (tables B-1 to B-6). All three put the same fields in the first 40 octets of a record.

use schemas::flow::{Column, ColumnSet, FlowBatch};
use schemas::net::Address;

use super::clock::from_uptime;
use super::column::slot;
use super::cursor::{u8_at, u16_at, u32_at};
use super::error::DecodeError;

/// Records that a version 5 datagram holds at most.
const NETFLOW5_RECORDS_MAX: u16 = 30;
/// Records that fit the largest datagram of version 1 (24 by Cisco) and version 7 (28); one bound for both, with room for odd exporters.
const RECORDS_MAX: u16 = 30;

/// What the header of a version 1, 5 or 7 datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Number of records, at least one.
    pub(crate) count: usize,
    /// Export time, unix milliseconds by the exporter's clock.
    pub(crate) export_milliseconds: u64,
    /// Milliseconds since the exporter's start.
    pub(crate) uptime_milliseconds: u32,
    /// Records before this datagram; version 1 has none.
    pub(crate) sequence: Option<u32>,
    /// Engine type × 256 + engine id (version 5).
    pub(crate) engine: u16,
    /// Packets that each counted one stands for, by the header (version 5).
    ///
    /// The field is a mode of two bits and an interval of 14. An interval of 0 is what a router writes that does not sample, so
    /// it is told here as 1: the header has no other way to say "every packet". Versions 1 and 7 say nothing.
    pub(crate) sampling_interval: Option<u32>,
}

/// The columns that versions 5 and 7 carry.
pub(crate) const PRESENT: ColumnSet = ColumnSet::of(&[
    Column::SourceAddress,
    Column::DestinationAddress,
    Column::NextHop,
    Column::IngressInterface,
    Column::EgressInterface,
    Column::PacketDeltaCount,
    Column::OctetDeltaCount,
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
    Column::SourcePort,
    Column::DestinationPort,
    Column::TcpControlBits,
    Column::ProtocolIdentifier,
    Column::IpClassOfService,
    Column::BgpSourceAsNumber,
    Column::BgpDestinationAsNumber,
    Column::SourcePrefixLength,
    Column::DestinationPrefixLength,
]);

/// The columns that version 1 carries: no autonomous systems, no prefix lengths.
pub(crate) const PRESENT_NETFLOW1: ColumnSet = PRESENT
    .without(Column::BgpSourceAsNumber)
    .without(Column::BgpDestinationAsNumber)
    .without(Column::SourcePrefixLength)
    .without(Column::DestinationPrefixLength);

macro_rules! be {
    (u8, $record:ident, $at:literal) => {
        $record[$at]
    };
    (u16, $record:ident, $at:literal) => {
        u16::from_be_bytes([$record[$at], $record[$at + 1]])
    };
    (u32, $record:ident, $at:literal) => {
        u32::from_be_bytes([$record[$at], $record[$at + 1], $record[$at + 2], $record[$at + 3]])
    };
}

/// Writes one column from one place of every record.
macro_rules! column {
    ($batch:ident . $column:ident [$first:ident] = $records:ident, $record:ident => $value:expr) => {
        for (value, $record) in slot(&mut $batch.$column, $first, $records.len()).iter_mut().zip($records) {
            *value = $value;
        }
    };
}

/// The fields that every version has at the same place.
macro_rules! common {
    ($batch:ident, $first:ident, $records:ident, $header:ident, $flags:literal) => {
        column!($batch.source_address[$first] = $records, r => Address::from_v4(be!(u32, r, 0)));
        column!($batch.destination_address[$first] = $records, r => Address::from_v4(be!(u32, r, 4)));
        column!($batch.next_hop[$first] = $records, r => Address::from_v4(be!(u32, r, 8)));
        column!($batch.ingress_interface[$first] = $records, r => u32::from(be!(u16, r, 12)));
        column!($batch.egress_interface[$first] = $records, r => u32::from(be!(u16, r, 14)));
        column!($batch.packet_delta_count[$first] = $records, r => u64::from(be!(u32, r, 16)));
        column!($batch.octet_delta_count[$first] = $records, r => u64::from(be!(u32, r, 20)));
        let (export, uptime) = ($header.export_milliseconds, $header.uptime_milliseconds);
        column!($batch.flow_start_milliseconds[$first] = $records, r => from_uptime(export, uptime, be!(u32, r, 24)));
        column!($batch.flow_end_milliseconds[$first] = $records, r => from_uptime(export, uptime, be!(u32, r, 28)));
        column!($batch.source_port[$first] = $records, r => be!(u16, r, 32));
        column!($batch.destination_port[$first] = $records, r => be!(u16, r, 34));
        column!($batch.protocol_identifier[$first] = $records, r => be!(u8, r, 38));
        column!($batch.ip_class_of_service[$first] = $records, r => be!(u8, r, 39));
        column!($batch.tcp_control_bits[$first] = $records, r => u16::from(be!(u8, r, $flags)));
    };
}

/// The fields that versions 5 and 7 add.
macro_rules! routed {
    ($batch:ident, $first:ident, $records:ident) => {
        column!($batch.bgp_source_as_number[$first] = $records, r => u32::from(be!(u16, r, 40)));
        column!($batch.bgp_destination_as_number[$first] = $records, r => u32::from(be!(u16, r, 42)));
        column!($batch.source_prefix_length[$first] = $records, r => be!(u8, r, 44));
        column!($batch.destination_prefix_length[$first] = $records, r => be!(u8, r, 45));
    };
}

/// Decodes a version 1 datagram into the rows behind the batch's last, without committing them.
///
/// Cisco's record has 52 octets, softflowd's has 48; the datagram's length tells which.
///
/// # Errors
///
/// As [`netflow5`].
pub(crate) fn netflow1(payload: &[u8], batch: &mut FlowBatch) -> Result<Header, DecodeError> {
    let header = header(payload, 1, RECORDS_MAX, 16)?;
    let octets = payload.get(16..).unwrap_or_default();
    let first = batch.rows();
    if octets.len() == header.count * 52 {
        let records = records::<52>(octets, header.count)?;
        common!(batch, first, records, header, 40);
    } else {
        let records = records::<48>(octets, header.count)?;
        common!(batch, first, records, header, 40);
    }
    Ok(header)
}

/// Decodes one version 5 datagram: a 24-octet header, then `count` records of 48 octets; nothing is committed.
///
/// # Errors
///
/// [`DecodeError::Count`] if the header promises no record or more than 30, [`DecodeError::Truncated`] if fewer records follow
/// than it promises.
pub(crate) fn netflow5(payload: &[u8], batch: &mut FlowBatch) -> Result<Header, DecodeError> {
    let header = header(payload, 5, NETFLOW5_RECORDS_MAX, 24)?;
    let records = records::<48>(payload.get(24..).unwrap_or_default(), header.count)?;
    let first = batch.rows();
    common!(batch, first, records, header, 37);
    routed!(batch, first, records);
    Ok(header)
}

/// Decodes one version 7 datagram: a 24-octet header, then `count` records of 52 octets; nothing is committed.
///
/// # Errors
///
/// As [`netflow5`].
pub(crate) fn netflow7(payload: &[u8], batch: &mut FlowBatch) -> Result<Header, DecodeError> {
    let header = header(payload, 7, RECORDS_MAX, 24)?;
    let records = records::<52>(payload.get(24..).unwrap_or_default(), header.count)?;
    let first = batch.rows();
    common!(batch, first, records, header, 37);
    routed!(batch, first, records);
    Ok(header)
}

fn header(payload: &[u8], version: u16, count_max: u16, header_octets: usize) -> Result<Header, DecodeError> {
    let cut = DecodeError::Truncated { offset: payload.len(), needed: header_octets.saturating_sub(payload.len()) };
    if payload.len() < header_octets {
        return Err(cut);
    }
    let field = |offset| u32_at(payload, offset).ok_or(cut);
    let count = u16_at(payload, 2).ok_or(cut)?;
    if count == 0 || count > count_max {
        return Err(DecodeError::Count { version, count });
    }
    // A fraction of a second that is a second or more is no fraction.
    let nanoseconds = Some(field(12)?).filter(|&nanoseconds| nanoseconds < 1_000_000_000).unwrap_or(0);
    let sampling = u16_at(payload, 22).filter(|_| version == 5).map(|field| u32::from(field & 0x3fff));
    Ok(Header {
        count: usize::from(count),
        export_milliseconds: u64::from(field(8)?) * 1_000 + u64::from(nanoseconds / 1_000_000),
        uptime_milliseconds: field(4)?,
        sequence: if version == 1 { None } else { Some(field(16)?) },
        engine: if version == 5 { u16::from_be_bytes([u8_at(payload, 20).ok_or(cut)?, u8_at(payload, 21).ok_or(cut)?]) } else { 0 },
        sampling_interval: sampling.map(|interval| interval.max(1)),
    })
}

fn records<const N: usize>(octets: &[u8], count: usize) -> Result<&[[u8; N]], DecodeError> {
    let (records, _) = octets.as_chunks::<N>();
    records.get(..count).ok_or(DecodeError::Truncated { offset: octets.len(), needed: (count * N).saturating_sub(octets.len()) })
}

#[cfg(test)]
#[path = "netflow5/tests.rs"]
mod tests;
