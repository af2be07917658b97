//! The exporters that a shard hears: a bounded table with one loss ledger each.

use std::collections::HashMap;

use schemas::ledger::Ledger;
use schemas::net::{Address, PrefixSet};
use schemas::time::Timestamp;

/// One sender of flow telemetry, as one shard sees it.
#[derive(Debug, Default)]
pub struct Exporter {
    /// What came from it and what became of that.
    pub ledger: Ledger,
    /// When its last datagram arrived.
    pub last_seen: Timestamp,
}

/// The exporters of one shard.
#[derive(Debug)]
pub struct Exporters {
    known: Vec<(Address, Exporter)>,
    /// Places in `known`.
    index: HashMap<Address, usize>,
    /// The one that was asked for last: datagrams come in bursts.
    last: Option<(Address, usize)>,
    allowed: PrefixSet,
    exporters_max: usize,
    /// Datagrams of senders that are not allowed or over the bound; they get no entry, so that a spoofer costs no memory.
    refused: Ledger,
}

impl Exporters {
    /// An empty table for at most `exporters_max` senders within `allowed`; an empty set allows any.
    #[must_use]
    pub fn new(allowed: PrefixSet, exporters_max: usize) -> Self {
        Self { known: Vec::new(), index: HashMap::new(), last: None, allowed, exporters_max, refused: Ledger::default() }
    }

    /// The entry of the sender of a datagram that has just arrived, made if there is room, with its arrival counted.
    ///
    /// `None` if the sender is not allowed or the table is full: the datagram is then counted as refused.
    pub fn admit(&mut self, exporter: Address, arrival: Timestamp) -> Option<&mut Exporter> {
        let is_welcome = || self.known.len() < self.exporters_max && (self.allowed.is_empty() || self.allowed.get(exporter).is_some());
        if self.find(exporter).is_none() && !is_welcome() {
            self.refused.datagrams_received += 1;
            self.refused.datagrams_refused += 1;
            return None;
        }
        let entry = self.entry(exporter);
        entry.ledger.datagrams_received += 1;
        entry.last_seen = arrival;
        Some(entry)
    }

    /// The entry of an observation point of our own, which no allow-list or bound holds off.
    pub fn observe(&mut self, observer: Address, now: Timestamp) -> &mut Exporter {
        let entry = self.entry(observer);
        entry.last_seen = now;
        entry
    }

    /// The ledger of an exporter that was admitted; of any other, the one of the refused.
    pub fn ledger(&mut self, exporter: Address) -> &mut Ledger {
        match self.find(exporter).and_then(|index| self.known.get_mut(index)) {
            Some((_, entry)) => &mut entry.ledger,
            None => &mut self.refused,
        }
    }

    fn find(&self, exporter: Address) -> Option<usize> {
        match self.last {
            Some((last, index)) if last == exporter => Some(index),
            _ => self.index.get(&exporter).copied(),
        }
    }

    /// The entry of an exporter, made if there is none.
    fn entry(&mut self, exporter: Address) -> &mut Exporter {
        let index = self.find(exporter).unwrap_or_else(|| {
            self.known.push((exporter, Exporter::default()));
            self.index.insert(exporter, self.known.len() - 1);
            self.known.len() - 1
        });
        self.last = Some((exporter, index));
        &mut self.known.get_mut(index).expect("entries are never removed").1
    }

    /// The admitted exporters.
    pub fn iter(&self) -> impl Iterator<Item = (Address, &Exporter)> {
        self.known.iter().map(|(address, exporter)| (*address, exporter))
    }

    /// The sum of all ledgers, the refused datagrams included.
    #[must_use]
    pub fn total(&self) -> Ledger {
        let mut sum = self.refused;
        self.known.iter().for_each(|(_, exporter)| sum += &exporter.ledger);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_outside_the_allow_list_or_over_the_bound_are_counted_and_leave_no_entry() {
        let allowed = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        let mut exporters = Exporters::new(allowed, 1);
        assert!(exporters.admit("192.0.2.1".parse().unwrap(), Timestamp(5)).is_some());
        assert!(exporters.admit("192.0.2.2".parse().unwrap(), Timestamp(5)).is_none());
        assert!(exporters.admit("198.51.100.1".parse().unwrap(), Timestamp(5)).is_none());
        assert_eq!(exporters.iter().count(), 1);
        assert_eq!((exporters.total().datagrams_received, exporters.total().datagrams_refused), (3, 2));
    }
}
