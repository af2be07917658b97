//! The exporters that a shard hears: a bounded table with one loss ledger each.

use std::collections::HashMap;

use schemas::ledger::Ledger;
use schemas::net::{Address, PrefixSet};
use schemas::time::Timestamp;

use crate::store::handover::Handed;

/// How long one that has never sent a record keeps its place in a full table, and how long one that has.
pub(crate) const IDLE_STRANGER_MILLISECONDS: u64 = 60_000;
pub(crate) const IDLE_EXPORTER_MILLISECONDS: u64 = 3_600_000;
/// How often a full table is searched for those that have gone.
const SEARCH_MILLISECONDS: u64 = 1_000;

/// One sender of flow telemetry, as one shard sees it.
#[derive(Debug)]
pub struct Exporter {
    /// What came from it and what became of that.
    pub ledger: Ledger,
    /// When its last datagram arrived.
    pub last_seen: Timestamp,
    /// Its records on their way to the store.
    pub handed: Handed,
}

impl Exporter {
    fn new(address: Address) -> Self {
        Self { ledger: Ledger::default(), last_seen: Timestamp::default(), handed: Handed::new(address) }
    }
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
    /// And all that came from those that have gone.
    refused: Ledger,
    /// Records of those that have gone, on their way to the store.
    gone: Handed,
    searched: Timestamp,
}

impl Exporters {
    /// An empty table for at most `exporters_max` senders within `allowed`; an empty set allows any.
    #[must_use]
    pub fn new(allowed: PrefixSet, exporters_max: usize) -> Self {
        Self {
            known: Vec::new(),
            index: HashMap::new(),
            last: None,
            allowed,
            exporters_max,
            refused: Ledger::default(),
            gone: Handed::new(Address::default()),
            searched: Timestamp::default(),
        }
    }

    /// The entry of the sender of a datagram that has just arrived, made if there is room, with its arrival counted.
    ///
    /// `None` if the sender is not allowed or the table is full: the datagram is then counted as refused.
    pub fn admit(&mut self, exporter: Address, arrival: Timestamp) -> Option<&mut Exporter> {
        if self.find(exporter).is_none() && !self.is_welcome(exporter, arrival) {
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

    /// The records of an exporter on their way to the store.
    pub(crate) fn handed(&mut self, exporter: Address) -> &mut Handed {
        match self.find(exporter).and_then(|index| self.known.get_mut(index)) {
            Some((_, entry)) => &mut entry.handed,
            None => &mut self.gone,
        }
    }

    /// Whether there is, or can be made, a place for a sender that has none.
    fn is_welcome(&mut self, exporter: Address, now: Timestamp) -> bool {
        if !(self.allowed.is_empty() || self.allowed.get(exporter).is_some()) {
            return false;
        }
        if self.known.len() >= self.exporters_max && now.since(self.searched) >= SEARCH_MILLISECONDS {
            self.searched = now;
            self.forget_idle(now);
        }
        self.known.len() < self.exporters_max
    }

    /// Forgets who has gone, so that spoofed senders do not hold their places for ever; their counts stay in the sum.
    #[cold]
    fn forget_idle(&mut self, now: Timestamp) {
        let (refused, before) = (&mut self.refused, self.known.len());
        self.known.retain(|(_, exporter)| {
            let idle_max = if exporter.ledger.records_decoded == 0 { IDLE_STRANGER_MILLISECONDS } else { IDLE_EXPORTER_MILLISECONDS };
            let stays = now.since(exporter.last_seen) < idle_max || exporter.ledger.sets_waiting != 0;
            if !stays {
                *refused += &exporter.ledger;
            }
            stays
        });
        if self.known.len() < before {
            self.index = self.known.iter().enumerate().map(|(place, (address, _))| (*address, place)).collect();
            self.last = None;
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
            self.known.push((exporter, Exporter::new(exporter)));
            self.index.insert(exporter, self.known.len() - 1);
            self.known.len() - 1
        });
        self.last = Some((exporter, index));
        &mut self.known.get_mut(index).expect("the index holds places of entries").1
    }

    /// Whether an exporter has an entry.
    pub(crate) fn knows(&self, exporter: Address) -> bool {
        self.index.contains_key(&exporter)
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

    #[test]
    fn a_full_table_forgets_who_has_gone_but_not_what_came_from_them() {
        let mut exporters = Exporters::new(PrefixSet::default(), 2);
        let address = |last: u32| Address::from_v4(0xc000_0200 | last);
        exporters.admit(address(1), Timestamp(0)).unwrap().ledger.records_decoded = 7;
        // A stranger: its datagram made no record.
        exporters.admit(address(2), Timestamp(0)).unwrap();
        assert!(exporters.admit(address(3), Timestamp(59_000)).is_none());
        assert!(exporters.admit(address(3), Timestamp(60_000)).is_some());
        // After an hour without a datagram the exporter goes as well.
        assert!(exporters.admit(address(4), Timestamp(3_599_000)).is_some());
        let known: Vec<_> = exporters.iter().map(|(address, _)| address).collect();
        assert_eq!(known, [address(1), address(4)]);
        assert!(exporters.admit(address(5), Timestamp(3_600_000)).is_some());
        let total = exporters.total();
        assert_eq!((total.datagrams_received, total.datagrams_refused, total.records_decoded), (6, 1, 7));
        assert_eq!(exporters.ledger(address(4)).datagrams_received, 1);
    }
}
