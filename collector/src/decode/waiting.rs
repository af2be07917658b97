//! Data sets that came before their template, held per exporter within bounds.

use std::collections::{HashMap, VecDeque};

use schemas::ledger::Ledger;
use schemas::net::Address;
use schemas::time::Timestamp;

use super::Config;
use super::control::Scope;
use super::walk::Header;

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
