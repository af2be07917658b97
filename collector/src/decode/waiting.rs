//! Data sets that came before their template, held per exporter within bounds.

use std::collections::{HashMap, VecDeque};

use schemas::flow::FlowBatch;
use schemas::ledger::Ledger;
use schemas::net::Address;
use schemas::time::Timestamp;

use super::state::Scope;
use super::walk::{Header, Set};
use super::{Config, Context, Decoder, Plane, ROWS_PER_DATAGRAM_MAX};
use crate::exporter::Exporters;

/// How often waiting sets are searched for those that have waited too long, and templates for those that were not announced again.
const HOUSEKEEPING_MILLISECONDS: u64 = 1_000;

/// A data set that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// Its scope, the port 0.
    pub(crate) scope: Scope,
    /// The sender's port.
    pub(crate) source_port: u16,
    /// When it arrived.
    pub(crate) arrival: Timestamp,
    /// The header of its datagram.
    pub(crate) header: Header,
    /// Its set id.
    pub(crate) set_id: u16,
    /// The octets behind its header.
    pub(crate) body: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    octets: usize,
}

impl Queue {
    fn pop(&mut self) -> Option<Waiter> {
        let waiter = self.waiters.pop_front()?;
        self.octets -= waiter.body.len();
        Some(waiter)
    }

    fn push(&mut self, waiter: Waiter) {
        self.octets += waiter.body.len();
        self.waiters.push_back(waiter);
    }
}

/// The data sets that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queues: HashMap<Address, Queue>,
    octets: usize,
}

impl Waiting {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Lets a set wait; where there is no room the exporter's oldest ones make it, and count as without template.
    pub(crate) fn push(&mut self, waiter: Waiter, config: &Config, ledger: &mut Ledger) {
        let octets = waiter.body.len();
        let queue = self.queues.entry(waiter.scope.exporter).or_default();
        while queue.waiters.len() >= config.waiting_sets_per_exporter_max
            || queue.octets + octets > config.waiting_octets_per_exporter_max
            || self.octets + octets > config.waiting_octets_max
        {
            let Some(oldest) = queue.pop() else {
                ledger.sets_without_template += 1;
                if queue.waiters.is_empty() {
                    self.queues.remove(&waiter.scope.exporter);
                }
                return;
            };
            self.octets -= oldest.body.len();
            ledger.sets_waiting -= 1;
            ledger.sets_without_template += 1;
        }
        ledger.sets_waiting += 1;
        self.octets += octets;
        queue.push(waiter);
    }

    /// Takes everything of one exporter out; what has to wait on comes back by [`Waiting::put_back`].
    pub(crate) fn take(&mut self, exporter: Address) -> impl Iterator<Item = Waiter> + use<> {
        let queue = self.queues.remove(&exporter).unwrap_or_default();
        self.octets -= queue.octets;
        queue.waiters.into_iter()
    }

    /// Lets a set that was taken out wait on; its place in the ledger is still that of a waiting one.
    pub(crate) fn put_back(&mut self, waiter: Waiter) {
        self.octets += waiter.body.len();
        self.queues.entry(waiter.scope.exporter).or_default().push(waiter);
    }

    /// The exporters that sets wait of.
    pub(crate) fn exporters(&self) -> Vec<Address> {
        self.queues.keys().copied().collect()
    }
}

impl Decoder {
    /// Decodes data that waited and whose template has come, as far as the batch has room, and gives up what has waited too long.
    pub fn release(&mut self, now: Timestamp, exporters: &mut Exporters, batch: &mut FlowBatch) {
        self.refresh(exporters);
        let is_due = now.since(self.housekeeping) >= HOUSEKEEPING_MILLISECONDS;
        if is_due {
            self.housekeeping = now;
            self.forget_idle(now, exporters);
            if let Plane::Inline(control) = &mut self.plane
                && control.expire(now)
            {
                self.generation += 1;
            }
        }
        if self.waiting.is_empty() || !(is_due || self.is_new) {
            return;
        }
        self.is_new = false;
        for exporter in self.waiting.exporters() {
            let ledger = exporters.ledger(exporter);
            for waiter in self.waiting.take(exporter) {
                self.release_one(waiter, now, ledger, batch);
            }
        }
    }

    fn release_one(&mut self, waiter: Waiter, now: Timestamp, ledger: &mut Ledger, batch: &mut FlowBatch) {
        let domain = self.resolve(&waiter.scope, waiter.source_port);
        let state = domain.and_then(|index| self.domains.get(index)).filter(|domain| !domain.is_pending());
        let is_known = state.is_some_and(|domain| domain.state.plan(waiter.set_id).is_some());
        if is_known && batch.remaining() >= ROWS_PER_DATAGRAM_MAX {
            ledger.sets_waiting -= 1;
            let context = Context { scope: waiter.scope, source_port: waiter.source_port, arrival: waiter.arrival, header: waiter.header };
            self.known_data(domain, &context, Set { id: waiter.set_id, body: &waiter.body }, ledger, batch);
        } else if !is_known && now.since(waiter.arrival) > self.config.waiting_seconds_max * 1_000 {
            ledger.sets_waiting -= 1;
            ledger.sets_without_template += 1;
            if let Some(domain) = domain.and_then(|index| self.domains.get_mut(index)) {
                domain.give_up();
            }
        } else {
            // What finds no room now is tried again with the next batch.
            self.is_new |= is_known;
            self.waiting.put_back(waiter);
        }
    }

    /// Gives up what still waits, and counts gaps in sequences as lost: nothing more will come.
    pub fn finish(&mut self, exporters: &mut Exporters) {
        self.refresh(exporters);
        for exporter in self.waiting.exporters() {
            let ledger = exporters.ledger(exporter);
            for _waiter in self.waiting.take(exporter) {
                ledger.sets_waiting -= 1;
                ledger.sets_without_template += 1;
            }
        }
        self.agents.finish(exporters);
        for domain in &mut self.domains {
            domain.settle(exporters.ledger(domain.scope.exporter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::flow::Version;

    fn waiter(exporter: u32, octets: usize, set_id: u16) -> Waiter {
        Waiter {
            scope: Scope { exporter: Address::from_v4(exporter), version: Version::Ipfix, domain: 0, port: 0 },
            source_port: 1,
            arrival: Timestamp(0),
            header: Header { export_milliseconds: 0, uptime_milliseconds: None, sequence: 0, domain: 0 },
            set_id,
            body: vec![0; octets].into(),
        }
    }

    #[test]
    fn the_oldest_of_the_same_exporter_makes_room_and_is_counted() {
        let config = Config { waiting_sets_per_exporter_max: 2, waiting_octets_per_exporter_max: 100, ..Config::default() };
        let (mut waiting, mut ledger) = (Waiting::default(), Ledger::default());
        for set_id in 256..260 {
            waiting.push(waiter(1, 10, set_id), &config, &mut ledger);
        }
        waiting.push(waiter(2, 10, 300), &config, &mut ledger);
        assert_eq!((ledger.sets_waiting, ledger.sets_without_template), (3, 2));
        let kept: Vec<u16> = waiting.take(Address::from_v4(1)).map(|waiter| waiter.set_id).collect();
        assert_eq!(kept, [258, 259]);
        assert_eq!(waiting.octets, 10);
    }

    #[test]
    fn a_set_over_the_bound_does_not_wait() {
        let config = Config { waiting_octets_per_exporter_max: 100, ..Config::default() };
        let (mut waiting, mut ledger) = (Waiting::default(), Ledger::default());
        waiting.push(waiter(1, 101, 256), &config, &mut ledger);
        assert!(waiting.is_empty());
        assert_eq!((ledger.sets_waiting, ledger.sets_without_template), (0, 1));
    }
}
