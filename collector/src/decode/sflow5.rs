//! sFlow version 5 (sflow.org, "sFlow Version 5", July 2004): a flow record for each flow sample.
//!
//! A sample is followed by its length, whatever its records claim; one that contradicts itself costs only itself.

mod agent;
mod counter;
mod record;
#[cfg(test)]
mod tests;

use schemas::counter::SamplingSource;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::ledger::Ledger;
use schemas::net::Address;

use agent::Agent;
pub use agent::Agents;
use counter::Counting;
use record::Sample;

use super::Datagram;

/// The columns that every flow sample has, whatever their value.
const COLUMNS: ColumnSet = ColumnSet::of(&[
    Column::SourceAddress,
    Column::DestinationAddress,
    Column::SourcePort,
    Column::DestinationPort,
    Column::ProtocolIdentifier,
    Column::TcpControlBits,
    Column::OctetDeltaCount,
    Column::PacketDeltaCount,
    Column::LinkLayerOctets,
    Column::SamplingInterval,
    Column::IngressInterface,
    Column::EgressInterface,
    Column::Fragment,
    Column::IcmpTypeCode,
    Column::IpClassOfService,
    Column::IpTtl,
    Column::VlanId,
    Column::SourceMacAddress,
    Column::DestinationMacAddress,
]);
/// Columns that few samples have; written only then.
const EGRESS: ColumnSet = ColumnSet::of(&[Column::FlowDirection]);
const FLOW_LABEL: ColumnSet = ColumnSet::of(&[Column::FlowLabel]);
const LABELS: ColumnSet = ColumnSet::of(&[Column::MplsTopLabel, Column::MplsLabel2, Column::MplsLabel3]);
const GATEWAY: ColumnSet = ColumnSet::of(&[Column::BgpSourceAsNumber, Column::BgpDestinationAsNumber, Column::Communities]);
const SWITCH: ColumnSet = ColumnSet::of(&[Column::PostVlanId]);
const ROUTER: ColumnSet =
    ColumnSet::of(&[Column::NextHop, Column::BgpNextHop, Column::SourcePrefixLength, Column::DestinationPrefixLength]);

/// Kinds of samples: enterprise 0, then the format.
mod kind {
    pub(super) const FLOW: u32 = 1;
    pub(super) const COUNTERS: u32 = 2;
    pub(super) const EXPANDED_FLOW: u32 = 3;
    pub(super) const EXPANDED_COUNTERS: u32 = 4;
    /// Of the records in a counter sample, the one that every interface has.
    pub(super) const GENERIC_INTERFACE: u32 = 1;
}

/// The type of a sample's source that is an interface; a compact source has it in its upper octet.
const INTERFACE_SOURCE: u32 = 0;
/// The two bits that tell how the rest of a compact output interface is meant: index, reason of a discard, or number of interfaces.
const INTERFACE_VALUE: u32 = 0x3fff_ffff;

/// Octets in front of the samples, behind the agent's address.
struct Header {
    agent: Address,
    sub_agent: u32,
    sequence: u32,
    uptime_milliseconds: u32,
    samples: u32,
}

/// Decodes one datagram: its flow samples become rows of `batch`, all else is counted in `ledger`.
///
/// A datagram whose samples run out before their count, or over its end, is malformed; the whole samples in front of that
/// are decoded all the same. A rate in `overridden` is the operator's and holds against that of the samples. The caller keeps
/// room for 65,536 rows.
pub fn decode(datagram: &Datagram<'_>, overridden: Option<u32>, agents: &mut Agents, ledger: &mut Ledger, batch: &mut FlowBatch) {
    let Some((header, samples)) = header(datagram.payload) else {
        ledger.datagrams_malformed += 1;
        return;
    };
    let (agent, counters) = agents.get(datagram.exporter, header.agent, header.sub_agent);
    agent.observe(header.sequence, header.uptime_milliseconds, ledger);
    let counters = counters.of_datagram(datagram.exporter, header.agent, header.uptime_milliseconds, datagram.arrival);
    let mut walk = Walk { agent, counters, overridden, ledger, batch, rows: 0, present: COLUMNS };
    let whole = walk.samples(samples, header.samples);
    let (rows, present) = (walk.rows, walk.present);
    agent.records += rows as u64;
    ledger.records_decoded += rows as u64;
    if whole {
        ledger.datagrams_decoded += 1;
    } else {
        ledger.datagrams_malformed += 1;
    }
    let origin = Origin {
        exporter: datagram.exporter,
        source_port: datagram.source_port,
        version: Version::Sflow5,
        observation_domain_id: header.sub_agent,
        template_id: 0,
        arrival_milliseconds: datagram.arrival.milliseconds(),
        export_milliseconds: 0,
        clock_offset_milliseconds: 0,
        time_resolution_milliseconds: 1,
        sampling_source: if overridden.is_some() { SamplingSource::Config } else { SamplingSource::Record },
        present,
        derived: ColumnSet(present.0 & GATEWAY.0),
    };
    batch.commit(rows, origin);
}

fn header(payload: &[u8]) -> Option<(Header, &[u8])> {
    let (_version, rest) = record::long(payload)?;
    let (agent, rest) = record::address(rest)?;
    let (sub_agent, rest) = record::long(rest)?;
    let (sequence, rest) = record::long(rest)?;
    let (uptime_milliseconds, rest) = record::long(rest)?;
    let (samples, rest) = record::long(rest)?;
    Some((Header { agent, sub_agent, sequence, uptime_milliseconds, samples }, rest))
}

/// One datagram on its way into the batch.
struct Walk<'a> {
    agent: &'a mut Agent,
    counters: Counting<'a>,
    overridden: Option<u32>,
    ledger: &'a mut Ledger,
    batch: &'a mut FlowBatch,
    rows: usize,
    present: ColumnSet,
}

impl Walk<'_> {
    /// Takes `count` samples; `false` if there are fewer. Each takes eight octets at least, so the loop ends with the datagram.
    fn samples(&mut self, mut rest: &[u8], count: u32) -> bool {
        for _ in 0..count {
            let Some(([k0, k1, k2, k3, l0, l1, l2, l3], behind)) = rest.split_first_chunk::<8>() else {
                return false;
            };
            self.ledger.sets_seen += 1;
            let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
            let Some((body, next)) = usize::try_from(length).ok().and_then(|length| behind.split_at_checked(length)) else {
                self.ledger.sets_malformed += 1;
                return false;
            };
            if self.sample(u32::from_be_bytes([*k0, *k1, *k2, *k3]), body, behind).is_some() {
                self.ledger.sets_decoded += 1;
            } else {
                self.ledger.sets_malformed += 1;
            }
            rest = next;
        }
        true
    }

    /// Takes one sample of the octets `body`, behind whose end `beyond` goes on; `None` if it contradicts itself.
    #[inline]
    fn sample(&mut self, kind: u32, body: &[u8], beyond: &[u8]) -> Option<()> {
        match kind {
            kind::FLOW => {
                let (numbers, records) = body.split_first_chunk::<32>()?;
                let at = |offset| record::long_at(numbers, offset);
                let sample = Sample::new(at(8)?, at(20)?, at(24)? & INTERFACE_VALUE).seen_at(at(4)?);
                self.flow(sample, at(28)?, records, beyond.get(32..)?)
            }
            kind::EXPANDED_FLOW => {
                let (numbers, records) = body.split_first_chunk::<44>()?;
                let at = |offset| record::long_at(numbers, offset);
                let source = if at(4)? == INTERFACE_SOURCE { at(8)? } else { 0 };
                let sample = Sample::new(at(12)?, at(28)?, at(36)?).seen_at(source);
                self.flow(sample, at(40)?, records, beyond.get(44..)?)
            }
            kind::COUNTERS => self.counters(body.get(8..)?),
            kind::EXPANDED_COUNTERS => self.counters(body.get(12..)?),
            // Discarded packets (format 5) and whatever vendors add: skipped by its length.
            _ => {
                self.ledger.sets_of_unknown_kind += 1;
                Some(())
            }
        }
    }

    #[inline]
    fn flow<'a>(&mut self, mut sample: Sample<'a>, count: u32, records: &'a [u8], beyond: &'a [u8]) -> Option<()> {
        sample.records(count, records, beyond)?;
        sample.sampling_interval = self.overridden.unwrap_or(sample.sampling_interval);
        let row = self.batch.rows() + self.rows;
        self.present = self.present.union(sample.write(self.batch, row));
        self.rows += 1;
        if sample.sampling_interval == 0 {
            self.ledger.records_sampling_unknown += 1;
        }
        self.agent.see(&sample, self.overridden.is_some());
        Some(())
    }

    /// Counts the records of a counter sample, which begin behind its header's sequence number and source.
    fn counters(&mut self, body: &[u8]) -> Option<()> {
        let (count, mut rest) = record::long(body)?;
        let mut counted = 0;
        for _ in 0..count {
            let (kind, length) = (record::long_at(rest, 0)?, record::long_at(rest, 4)?);
            let (record, next) = rest.get(8..)?.split_at_checked(usize::try_from(length).ok()?)?;
            if kind == kind::GENERIC_INTERFACE && !self.counters.take(record)? {
                self.ledger.counters_dropped += 1;
            }
            rest = next;
            counted += 1;
        }
        self.ledger.counters_decoded += counted;
        Some(())
    }
}
