//! Stored flows, read in the order in which they arrived and made batches again.

use std::net::Ipv6Addr;
use std::sync::Arc;

use clickhouse::query::RowCursor;
use clickhouse::{Client, Row};
use serde::Deserialize;

use schemas::counter::SamplingSource;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::net::Address;
use schemas::place::Places;
use schemas::time::Timestamp;

/// Flows that the engine sorts at once: some 150 MB there, and nothing here but what is on its way.
const FLOWS_AT_ONCE: u64 = 1_000_000;
/// Flows of one moment that are counted at once.
const ROWS_MAX: usize = 8_192;
const HOUR_MILLISECONDS: u64 = 3_600_000;

/// The columns that are counted; of a record of one way or two, whatever fields it told them by.
const PRESENT: ColumnSet = ColumnSet::of(&[
    Column::SourceAddress,
    Column::DestinationAddress,
    Column::SourcePort,
    Column::DestinationPort,
    Column::ProtocolIdentifier,
    Column::TcpControlBits,
    Column::OctetDeltaCount,
    Column::PacketDeltaCount,
    Column::SamplingInterval,
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
    Column::Fragment,
    Column::IcmpTypeCode,
    Column::IpTtl,
]);
const REVERSE: ColumnSet = ColumnSet::of(&[Column::ReverseOctetDeltaCount, Column::ReversePacketDeltaCount]);

// The order of the table is that of `time`. A record that ended more than an hour before its arrival is too late for every window
// (`lateness_seconds_max`): nobody looks for it in the hours before.
const SECONDS: &str = "SELECT toUInt32(intDiv(toUnixTimestamp64Milli(received_at), 1000)) AS second, count() AS flows, \
    toUInt32(min(time)) AS time_min, toUInt32(max(time)) AS time_max FROM flows \
    WHERE received_at >= fromUnixTimestamp64Milli({from:Int64}) AND received_at < fromUnixTimestamp64Milli({to:Int64}) \
    AND time >= toDateTime({time_min:UInt32}) AND time <= toDateTime({time_max:UInt32}) GROUP BY second ORDER BY second";

const FLOWS: &str = "SELECT toUnixTimestamp64Milli(received_at) AS arrival, toUnixTimestamp64Milli(flow_start_milliseconds) AS start, \
    toUnixTimestamp64Milli(flow_end_milliseconds) AS end, exporter, observation_domain_id, CAST(version, 'Int8') AS version_number, \
    template_id, CAST(sampling_source, 'Int8') AS sampling_source_number, sampling_interval, source_address, destination_address, \
    source_port, destination_port, protocol_identifier, tcp_control_bits, octets, packets, reverse_octets, reverse_packets, is_repeat, \
    fragment, icmp_type_code, ip_ttl FROM flows \
    WHERE received_at >= fromUnixTimestamp64Milli({from:Int64}) AND received_at < fromUnixTimestamp64Milli({to:Int64}) \
    AND time >= toDateTime({time_min:UInt32}) AND time <= toDateTime({time_max:UInt32}) \
    ORDER BY received_at, exporter, observation_domain_id";

const KEPT: &str = "SELECT count() AS flows, toUInt32(min(time)) AS time_min, toUInt32(max(time)) AS time_max FROM flows";

#[derive(Row, Deserialize)]
struct SecondRow {
    second: u32,
    flows: u64,
    time_min: u32,
    time_max: u32,
}

#[derive(Row, Deserialize)]
struct KeptRow {
    flows: u64,
    time_min: u32,
    time_max: u32,
}

/// A stored flow, as far as it is counted.
#[derive(Row, Deserialize)]
pub(super) struct FlowRow {
    arrival: i64,
    start: i64,
    end: i64,
    exporter: Ipv6Addr,
    observation_domain_id: u32,
    version_number: i8,
    template_id: u16,
    sampling_source_number: i8,
    sampling_interval: u32,
    source_address: Ipv6Addr,
    destination_address: Ipv6Addr,
    source_port: u16,
    destination_port: u16,
    protocol_identifier: u8,
    tcp_control_bits: u16,
    octets: u64,
    packets: u64,
    reverse_octets: u64,
    reverse_packets: u64,
    is_repeat: bool,
    fragment: u8,
    icmp_type_code: u16,
    ip_ttl: u8,
}

impl FlowRow {
    /// When it was received.
    pub(super) fn arrival(&self) -> Timestamp {
        Timestamp(unsigned(self.arrival))
    }

    fn origin(&self) -> Origin {
        let version = match self.version_number {
            0 => Version::Netflow1,
            1 => Version::Netflow5,
            2 => Version::Netflow7,
            3 => Version::Netflow9,
            4 => Version::Ipfix,
            5 => Version::Sflow5,
            _ => Version::Packet,
        };
        let sampling_source = match self.sampling_source_number {
            1 => SamplingSource::Config,
            2 => SamplingSource::Header,
            3 => SamplingSource::Options,
            4 => SamplingSource::Record,
            _ => SamplingSource::Unknown,
        };
        let is_two_way = self.reverse_octets != 0 || self.reverse_packets != 0;
        Origin {
            exporter: Address(u128::from(self.exporter)),
            source_port: 0,
            version,
            observation_domain_id: self.observation_domain_id,
            template_id: self.template_id,
            arrival_milliseconds: unsigned(self.arrival),
            export_milliseconds: 0,
            // What is stored is by our clock, to the last moment of what the exporter's clock can tell.
            clock_offset_milliseconds: 0,
            time_resolution_milliseconds: 1,
            sampling_source,
            present: if is_two_way { PRESENT.union(REVERSE) } else { PRESENT },
            derived: ColumnSet::default(),
        }
    }
}

fn unsigned(milliseconds: i64) -> u64 {
    u64::try_from(milliseconds).unwrap_or(0)
}

fn signed(moment: Timestamp) -> i64 {
    i64::try_from(moment.0).unwrap_or(i64::MAX)
}

fn seconds(milliseconds: u64) -> u32 {
    u32::try_from(milliseconds / 1_000).unwrap_or(u32::MAX)
}

/// A span of arrivals that is read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    from: Timestamp,
    to: Timestamp,
    flows: u64,
    /// Between what moments those flows are filed.
    time: (u32, u32),
}

impl Piece {
    /// Its flows, by their arrival.
    pub(super) fn rows(&self, client: &Client) -> clickhouse::error::Result<RowCursor<FlowRow>> {
        bounded(client.query(FLOWS), self.from, self.to, self.time).fetch()
    }
}

fn bounded(query: clickhouse::query::Query, from: Timestamp, to: Timestamp, time: (u32, u32)) -> clickhouse::query::Query {
    query.param("from", signed(from)).param("to", signed(to)).param("time_min", time.0).param("time_max", time.1)
}

/// The hours that a span of time touches, cut to it.
pub(super) fn hours(from: Timestamp, to: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    (from.0 / HOUR_MILLISECONDS..to.0.div_ceil(HOUR_MILLISECONDS)).map(move |hour| {
        let begins = Timestamp(hour * HOUR_MILLISECONDS);
        (from.max(begins), to.min(begins.plus(HOUR_MILLISECONDS)))
    })
}

/// The pieces that the flows of at most an hour are read in.
pub(super) async fn pieces(client: &Client, from: Timestamp, to: Timestamp) -> clickhouse::error::Result<Vec<Piece>> {
    let time = (seconds(from.0.saturating_sub(HOUR_MILLISECONDS)).saturating_sub(1), seconds(to.0).saturating_add(1));
    let rows: Vec<SecondRow> = bounded(client.query(SECONDS), from, to, time).fetch_all().await?;
    Ok(cut(&rows, from, to))
}

/// Whole seconds, as many as hold what is read at once, or one.
fn cut(rows: &[SecondRow], from: Timestamp, to: Timestamp) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for row in rows {
        let begins = Timestamp(u64::from(row.second) * 1_000);
        match pieces.last_mut() {
            Some(piece) if piece.flows + row.flows <= FLOWS_AT_ONCE => {
                piece.to = begins.plus(1_000).min(to);
                piece.flows += row.flows;
                piece.time = (piece.time.0.min(row.time_min), piece.time.1.max(row.time_max));
            }
            _ => pieces.push(Piece {
                from: begins.max(from),
                to: begins.plus(1_000).min(to),
                flows: row.flows,
                time: (row.time_min, row.time_max),
            }),
        }
    }
    pieces
}

/// From when to when flows are kept at all.
pub(super) async fn kept(client: &Client) -> clickhouse::error::Result<Option<(Timestamp, Timestamp)>> {
    let row: KeptRow = client.query(KEPT).fetch_one().await?;
    let moment = |seconds: u32| Timestamp(u64::from(seconds) * 1_000);
    Ok((row.flows > 0).then(|| (moment(row.time_min), moment(row.time_max))))
}

/// Flows of one arrival on their way to the counters.
pub(super) struct Rows {
    batch: FlowBatch,
    /// Of the rows that are written and not yet valid: whose, and how many.
    open: Option<(Origin, usize)>,
    /// The tables' words but for the repeats are not counted, so the places stay unnamed.
    places: Arc<Places>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { batch: FlowBatch::with_capacity(ROWS_MAX), open: None, places: Arc::default() }
    }
}

impl Rows {
    /// Whether a flow with this arrival may join what is there.
    pub(super) fn takes(&self, arrival: Timestamp) -> bool {
        self.open.as_ref().is_none_or(|(origin, open)| origin.arrival_milliseconds == arrival.0 && self.batch.rows() + open < ROWS_MAX)
    }

    /// Adds a flow, for which there must be room.
    pub(super) fn push(&mut self, row: &FlowRow) {
        let origin = row.origin();
        if self.open.as_ref().is_some_and(|(open, _)| !is_same(open, &origin)) {
            self.close();
        }
        let (_, open) = self.open.get_or_insert((origin, 0));
        let index = self.batch.rows() + *open;
        *open += 1;
        macro_rules! write {
            ($($column:ident: $value:expr,)*) => {
                $(if let Some(cell) = self.batch.$column.get_mut(index) {
                    *cell = $value;
                })*
            };
        }
        write! {
            source_address: Address(u128::from(row.source_address)),
            destination_address: Address(u128::from(row.destination_address)),
            source_port: row.source_port,
            destination_port: row.destination_port,
            protocol_identifier: row.protocol_identifier,
            tcp_control_bits: row.tcp_control_bits,
            octet_delta_count: row.octets,
            packet_delta_count: row.packets,
            reverse_octet_delta_count: row.reverse_octets,
            reverse_packet_delta_count: row.reverse_packets,
            sampling_interval: row.sampling_interval,
            flow_start_milliseconds: unsigned(row.start),
            flow_end_milliseconds: unsigned(row.end),
            fragment: row.fragment,
            icmp_type_code: row.icmp_type_code,
            ip_ttl: row.ip_ttl,
        }
        if row.is_repeat {
            self.batch.labels.mark_written(&self.places);
            if let Some(is_repeat) = self.batch.labels.is_repeat.get_mut(index) {
                *is_repeat = 1;
            }
        }
    }

    fn close(&mut self) {
        if let Some((origin, rows)) = self.open.take() {
            self.batch.commit(rows, origin);
        }
    }

    /// What is there, and when it arrived; `None` if nothing is.
    pub(super) fn batch(&mut self) -> Option<(&FlowBatch, Timestamp)> {
        self.close();
        let arrival = self.batch.segments().first()?.origin.arrival_milliseconds;
        Some((&self.batch, Timestamp(arrival)))
    }

    /// Makes room.
    pub(super) fn clear(&mut self) {
        self.batch.clear();
    }
}

/// Whether flows of both can be of one run; all else that is told of them is the same then or is not counted.
fn is_same(one: &Origin, other: &Origin) -> bool {
    let key = |origin: &Origin| {
        (origin.exporter, origin.version as u8, origin.observation_domain_id, origin.template_id, origin.present, origin.sampling_source)
    };
    key(one) == key(other)
}

#[cfg(test)]
mod tests;
