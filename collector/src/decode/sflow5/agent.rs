//! The agents and sub-agents of each exporter: whose datagrams came, and which never did.

use std::collections::BTreeMap;

use schemas::counter::{DomainReport, SamplingSource};
use schemas::flow::Version;
use schemas::interface::CounterSample;
use schemas::ledger::Ledger;
use schemas::net::Address;

use super::counter::Counters;
use super::record::Sample;
use crate::decode::domain::INTERFACES_EVERY_DATAGRAMS;
use crate::decode::sequence::{Count, Sequence, Unit};
use crate::exporter::Exporters;

/// Sub-agents of one exporter that are told apart; those over the bound share one entry, and their sequence is not followed.
const AGENTS_MAX: usize = 256;
/// Interfaces of a sub-agent that are remembered.
const INTERFACES_MAX: usize = 1_024;

/// The sub-agents that a shard hears.
#[derive(Debug, Default)]
pub struct Agents {
    /// Looked up for each datagram: few keys, which compare faster than they hash.
    exporters: BTreeMap<Address, Vec<Agent>>,
    counters: Counters,
}

/// One sub-agent of one agent behind one exporter.
#[derive(Debug, Default)]
pub(super) struct Agent {
    agent: Address,
    sub_agent: u32,
    tracked: bool,
    sequence: Sequence,
    datagrams: u64,
    pub(super) records: u64,
    sampling_interval: u32,
    is_overridden: bool,
    interfaces: Vec<u32>,
}

impl Agents {
    /// One report for each sub-agent of `exporter`.
    #[must_use]
    pub fn domains(&self, exporter: Address) -> Vec<DomainReport> {
        let agents = self.exporters.get(&exporter).map(Vec::as_slice).unwrap_or_default();
        agents.iter().filter(|agent| agent.tracked).map(Agent::report).collect()
    }

    /// Forgets the agents of exporters that have been forgotten.
    pub(crate) fn forget(&mut self, exporters: &Exporters) {
        if self.exporters.len() > exporters.iter().count() {
            self.exporters.retain(|exporter, _| exporters.knows(*exporter));
        }
    }

    /// Counts gaps in the sequences as lost: nothing late is awaited any more.
    pub fn finish(&mut self, exporters: &mut Exporters) {
        for (exporter, agents) in &mut self.exporters {
            let ledger = exporters.ledger(*exporter);
            agents.iter_mut().for_each(|agent| agent.sequence.settle(ledger));
        }
    }

    /// What interfaces counted since this was last asked, with the exporter that told it.
    pub fn take_counters(&mut self) -> Vec<(Address, CounterSample)> {
        self.counters.take()
    }

    /// The entry of a sub-agent, made if there is none, and where its counters go.
    #[inline]
    pub(super) fn get(&mut self, exporter: Address, agent: Address, sub_agent: u32) -> (&mut Agent, &mut Counters) {
        let agents = self.exporters.entry(exporter).or_default();
        let index = agents.iter().position(|entry| entry.tracked && entry.agent == agent && entry.sub_agent == sub_agent);
        let index = index.unwrap_or_else(|| {
            if agents.len() <= AGENTS_MAX {
                let tracked = agents.len() < AGENTS_MAX;
                agents.push(Agent { agent, sub_agent, tracked, ..Agent::default() });
            }
            agents.len() - 1
        });
        (agents.get_mut(index).expect("the entry was found or made above"), &mut self.counters)
    }
}

impl Agent {
    /// Follows the datagrams' numbers.
    pub(super) fn observe(&mut self, sequence: u32, uptime_milliseconds: u32, ledger: &mut Ledger) {
        self.datagrams += 1;
        if self.tracked {
            self.sequence.observe(Unit::Datagrams, sequence, Some(Count::DATAGRAM), Some(uptime_milliseconds), ledger);
        }
    }

    /// Remembers the rate of a sample, and now and then its interfaces.
    #[inline]
    pub(super) fn see(&mut self, sample: &Sample, is_overridden: bool) {
        self.is_overridden = is_overridden;
        self.sampling_interval = sample.sampling_interval;
        if self.datagrams % INTERFACES_EVERY_DATAGRAMS != 1 {
            return;
        }
        for interface in [sample.ingress_interface, sample.egress_interface] {
            if self.interfaces.len() < INTERFACES_MAX
                && let Err(place) = self.interfaces.binary_search(&interface)
            {
                self.interfaces.insert(place, interface);
            }
        }
    }

    fn report(&self) -> DomainReport {
        let sampling_interval = (self.sampling_interval != 0).then_some(self.sampling_interval);
        DomainReport {
            version: Version::Sflow5,
            observation_domain_id: self.sub_agent,
            agent: Some(self.agent),
            templates: 0,
            datagrams: self.datagrams,
            records: self.records,
            lost_by_sequence: self.sequence.lost(),
            sets_without_template: 0,
            sampling_interval,
            sampling_source: match (self.is_overridden, sampling_interval) {
                (true, _) => SamplingSource::Config,
                (false, Some(_)) => SamplingSource::Record,
                (false, None) => SamplingSource::Unknown,
            },
            clock_offset_milliseconds: 0,
            interfaces: self.interfaces.clone(),
        }
    }
}
