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
    known: HashMap<Address, Exporter>,
    allowed: PrefixSet,
    exporters_max: usize,
    /// Datagrams of senders that are not allowed or over the bound; they get no entry, so that a spoofer costs no memory.
    refused: Ledger,
}

impl Exporters {
    /// An empty table for at most `exporters_max` senders within `allowed`; an empty set allows any.
    #[must_use]
    pub fn new(allowed: PrefixSet, exporters_max: usize) -> Self {
        Self { known: HashMap::new(), allowed, exporters_max, refused: Ledger::default() }
    }

    /// The entry of the sender of a datagram that has just arrived, made if there is room, with its arrival counted.
    ///
    /// `None` if the sender is not allowed or the table is full: the datagram is then counted as refused.
    pub fn admit(&mut self, exporter: Address, arrival: Timestamp) -> Option<&mut Exporter> {
        let known = self.known.contains_key(&exporter);
        if !known && (self.known.len() >= self.exporters_max || !(self.allowed.is_empty() || self.allowed.get(exporter).is_some())) {
            self.refused.datagrams_received += 1;
            self.refused.datagrams_refused += 1;
            return None;
        }
        let entry = self.known.entry(exporter).or_default();
        entry.ledger.datagrams_received += 1;
        entry.last_seen = arrival;
        Some(entry)
    }

    /// The entry of an observation point of our own, which no allow-list or bound holds off.
    pub fn observe(&mut self, observer: Address, now: Timestamp) -> &mut Exporter {
        let entry = self.known.entry(observer).or_default();
        entry.last_seen = now;
        entry
    }

    /// The ledger of an exporter that was admitted; of any other, the one of the refused.
    pub fn ledger(&mut self, exporter: Address) -> &mut Ledger {
        match self.known.get_mut(&exporter) {
            Some(entry) => &mut entry.ledger,
            None => &mut self.refused,
        }
    }

    /// The admitted exporters.
    pub fn iter(&self) -> impl Iterator<Item = (Address, &Exporter)> {
        self.known.iter().map(|(address, exporter)| (*address, exporter))
    }

    /// The sum of all ledgers, the refused datagrams included.
    #[must_use]
    pub fn total(&self) -> Ledger {
        let mut sum = self.refused;
        self.known.values().for_each(|exporter| sum += &exporter.ledger);
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
