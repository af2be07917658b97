//! What a shard keeps of each observation domain, source id and engine, and how it is found.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use schemas::counter::{DomainReport, SamplingSource};
use schemas::flow::{FlowBatch, Version};
use schemas::ledger::Ledger;
use schemas::time::Timestamp;

use super::clock::{ClockOffset, UptimeStart};
use super::column::slot;
use super::sequence::{Count, Sequence, Unit};
use super::state::{Scope, State};
use super::{Decoder, Plane};
use crate::exporter::{Exporters, IDLE_EXPORTER_MILLISECONDS, IDLE_STRANGER_MILLISECONDS};

/// Interfaces of a domain that are remembered.
const INTERFACES_MAX: usize = 1_024;
/// One datagram of so many is searched for interfaces: a page about an exporter needs no more.
pub(crate) const INTERFACES_EVERY_DATAGRAMS: u64 = 64;

/// One observation domain of one exporter, as one shard sees it.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) scope: Scope,
    /// What is known of its templates; empty for versions without.
    pub(crate) state: Arc<State>,
    /// Of which snapshot the state is.
    pub(crate) generation: u64,
    /// The last control set that was handed over and not yet seen to be processed.
    pub(crate) pending: Option<u64>,
    /// The interval that the operator has set.
    pub(crate) overridden: Option<u32>,
    last_seen: Timestamp,
    sequence: Sequence,
    clock: ClockOffset,
    uptime_start: UptimeStart,
    datagrams: u64,
    records: u64,
    without_template: u64,
    sampling: (Option<u32>, SamplingSource),
    interfaces: Vec<u32>,
}

impl Domain {
    pub(crate) fn new(scope: Scope, state: Arc<State>, overridden: Option<u32>) -> Self {
        Self {
            scope,
            state,
            generation: 0,
            pending: None,
            overridden,
            last_seen: Timestamp::default(),
            sequence: Sequence::default(),
            clock: ClockOffset::default(),
            uptime_start: UptimeStart::default(),
            datagrams: 0,
            records: 0,
            without_template: 0,
            sampling: (None, SamplingSource::Unknown),
            interfaces: Vec::new(),
        }
    }

    /// Whether a template set is on its way that may change what is known.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some() || self.state.superseded.load(Ordering::Relaxed)
    }

    /// Takes a datagram's export time, and the uptime at it where its header tells that.
    pub(crate) fn observe_clock(&mut self, export_milliseconds: u64, uptime_milliseconds: Option<u32>, arrival: Timestamp) {
        self.datagrams += 1;
        self.last_seen = arrival;
        self.clock.observe(export_milliseconds, arrival);
        if let Some(uptime) = uptime_milliseconds {
            self.uptime_start.observe(export_milliseconds, uptime, arrival);
        }
    }

    /// What to add to the times of a datagram's records, in milliseconds; `uptime_milliseconds` of its header where they count from that.
    pub(crate) fn clock_offset(&self, export_milliseconds: u64, uptime_milliseconds: Option<u32>) -> i64 {
        let fraction = uptime_milliseconds.map_or(0, |uptime| self.uptime_start.fraction_cut(export_milliseconds, uptime));
        self.clock.estimate().saturating_add(fraction)
    }

    /// Takes a datagram's sequence number; `records` as far as they could be counted.
    pub(crate) fn observe_sequence(&mut self, sequence: u32, records: Option<Count>, uptime: Option<u32>, ledger: &mut Ledger) {
        let (unit, count) = match self.scope.version {
            Version::Netflow9 => (Unit::Datagrams, Some(Count::DATAGRAM)),
            _ => (Unit::Records, records),
        };
        self.sequence.observe(unit, sequence, count, uptime, ledger);
    }

    /// Counts a gap in the sequence as lost.
    pub(crate) fn settle(&mut self, ledger: &mut Ledger) {
        self.sequence.settle(ledger);
    }

    /// Takes note of a data set that was given up.
    pub(crate) fn give_up(&mut self) {
        self.without_template += 1;
    }

    /// Takes note of rows that were written behind the batch's last: before they are committed.
    pub(crate) fn see(&mut self, rows: usize, sampling: (Option<u32>, SamplingSource), batch: &mut FlowBatch) {
        self.records += u64::try_from(rows).unwrap_or(u64::MAX);
        self.sampling = sampling;
        if self.datagrams % INTERFACES_EVERY_DATAGRAMS != 1 {
            return;
        }
        let first = batch.rows();
        for column in [slot(&mut batch.ingress_interface, first, rows), slot(&mut batch.egress_interface, first, rows)] {
            let mut last = 0;
            for &mut interface in column {
                if interface != last
                    && self.interfaces.len() < INTERFACES_MAX
                    && let Err(place) = self.interfaces.binary_search(&interface)
                {
                    self.interfaces.insert(place, interface);
                }
                last = interface;
            }
        }
    }

    pub(crate) fn report(&self) -> DomainReport {
        DomainReport {
            version: self.scope.version,
            observation_domain_id: self.scope.domain,
            agent: None,
            templates: u64::try_from(self.state.templates()).unwrap_or(u64::MAX),
            datagrams: self.datagrams,
            records: self.records,
            lost_by_sequence: self.sequence.lost(),
            sets_without_template: self.without_template,
            sampling_interval: self.sampling.0,
            sampling_source: self.sampling.1,
            clock_offset_milliseconds: self.clock.estimate(),
            interfaces: self.interfaces.clone(),
        }
    }
}

impl Decoder {
    /// The domain that a sender's datagrams belong to: the scope's, or its own where it was told apart.
    pub(super) fn resolve(&mut self, scope: &Scope, source_port: u16) -> Option<usize> {
        let index = self.domain(*scope)?;
        self.update(index);
        if self.domains.get(index)?.state.ports.contains(&source_port) {
            let own = self.domain(Scope { port: source_port, ..*scope })?;
            self.update(own);
            return Some(own);
        }
        Some(index)
    }

    /// The entry of a scope, made if there is room.
    pub(super) fn domain(&mut self, scope: Scope) -> Option<usize> {
        if let Some((_, index)) = self.last.filter(|(last, _)| *last == scope) {
            return Some(index);
        }
        let index = match self.index.get(&scope) {
            Some(&index) => index,
            None if self.domains.len() >= self.config.domains_max => return None,
            // One exporter that makes up domains takes no other's place.
            None if self.of_exporter.get(&scope.exporter).map_or(0, Vec::len) >= self.config.domains_per_exporter_max => return None,
            None => {
                let overridden = self.overrides.get(scope.exporter).map(|(_, interval)| *interval);
                let mut domain = Domain::new(scope, self.nothing.clone(), overridden);
                domain.generation = u64::MAX;
                self.domains.push(domain);
                self.index.insert(scope, self.domains.len() - 1);
                self.of_exporter.entry(scope.exporter).or_default().push(self.domains.len() - 1);
                self.domains.len() - 1
            }
        };
        self.last = Some((scope, index));
        Some(index)
    }

    /// Forgets what has gone, so that spoofed senders do not hold places for ever: domains where the table is full, agents with their exporter.
    pub(super) fn forget_idle(&mut self, now: Timestamp, exporters: &mut Exporters) {
        self.agents.forget(exporters);
        if self.domains.len() < self.config.domains_max {
            return;
        }
        self.domains.retain_mut(|domain| {
            let idle_max = if domain.records == 0 { IDLE_STRANGER_MILLISECONDS } else { IDLE_EXPORTER_MILLISECONDS };
            let stays = now.since(domain.last_seen) < idle_max;
            if !stays {
                domain.sequence.settle(exporters.ledger(domain.scope.exporter));
            }
            stays
        });
        (self.last, self.index, self.of_exporter) = (None, HashMap::new(), HashMap::new());
        for (index, domain) in self.domains.iter().enumerate() {
            self.index.insert(domain.scope, index);
            self.of_exporter.entry(domain.scope.exporter).or_default().push(index);
        }
    }

    /// Brings what a domain knows up to date.
    pub(super) fn update(&mut self, index: usize) {
        let Some(domain) = self.domains.get_mut(index) else {
            return;
        };
        match &mut self.plane {
            Plane::Inline(control) => {
                if domain.generation != self.generation {
                    domain.generation = self.generation;
                    domain.state = control.state(&domain.scope).unwrap_or(&self.nothing).clone();
                }
            }
            Plane::Shared(shared) => {
                let snapshot = shared.snapshot();
                if domain.generation != snapshot.generation {
                    domain.generation = snapshot.generation;
                    domain.state = snapshot.states.get(&domain.scope).unwrap_or(&self.nothing).clone();
                    domain.pending = domain.pending.filter(|&number| !shared.is_processed(number));
                }
            }
        }
    }
}
