//! Whose the records on disk are: the accounts of exporters, found again by the addresses that lie there with the records.
//!
//! So what is remembered of a block that waits does not grow with the exporters whose records it has.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::net::Address;

use crate::store::account::{Account, Charge, Charges, Fate, Share};

/// What is remembered of one share of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// Which of the sums it is charged to.
    sum: usize,
    /// How many of the exporters that lie with the block are its own.
    exporters: usize,
    rows: u64,
}

/// The accounts of all exporters that have records on disk, as each shard has them.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// The accounts that blocks as a whole are charged to: one for each shard, and one for what was found at the start.
    sums: Vec<Arc<Account>>,
    /// An exporter's account within one of the sums, and the first block that was charged to it.
    accounts: HashMap<(usize, Address), (u64, Arc<Account>)>,
    /// Whether there are records of which it could not be read whose they were.
    has_lost_track: bool,
}

impl Owners {
    /// Remembers to whom the records of block `sequence` are charged.
    pub(super) fn learn(&mut self, sequence: u64, charges: &Charges) -> Box<[Portion]> {
        charges.0.iter().map(|share| self.learn_share(sequence, share)).collect()
    }

    fn learn_share(&mut self, sequence: u64, share: &Share) -> Portion {
        let place = self.sums.iter().position(|sum| Arc::ptr_eq(sum, &share.sum)).unwrap_or_else(|| {
            self.sums.push(Arc::clone(&share.sum));
            self.sums.len() - 1
        });
        for charge in &share.exporters {
            let known = self.accounts.entry((place, charge.account.exporter())).or_insert_with(|| (sequence, Arc::clone(&charge.account)));
            // A shard has forgotten the exporter and heard it anew. A block that comes late may still be of the one before.
            if !Arc::ptr_eq(&known.1, &charge.account) && sequence >= known.0 {
                *known = (sequence, Arc::clone(&charge.account));
            }
        }
        Portion { sum: place, exporters: share.exporters.len(), rows: share.records() }
    }

    /// The charges of block `sequence`, whose rows by exporter, one portion's after the other's, were read from the disk.
    pub(super) fn charges(&self, sequence: u64, portions: &[Portion], mut exporters: &[(Address, u32)]) -> Charges {
        let account = |sum: usize, exporter: Address| {
            let known = self.accounts.get(&(sum, exporter)).filter(|(first, _)| *first <= sequence);
            // Of an exporter that its shard has forgotten nobody asks any more.
            known.map_or_else(|| Account::new(exporter), |(_, account)| Arc::clone(account))
        };
        let share = |portion: &Portion| {
            let (own, others) = exporters.split_at(portion.exporters.min(exporters.len()));
            exporters = others;
            let charge = |(exporter, records): &(Address, u32)| Charge { account: account(portion.sum, *exporter), records: *records };
            Share { exporters: own.iter().map(charge).collect(), sum: self.sum(portion.sum) }
        };
        Charges(portions.iter().map(share).collect())
    }

    /// The charges of a block of which only the number of rows is known any more: the exporters' shares follow when nothing waits.
    pub(super) fn unknown(&mut self, portions: &[Portion]) -> Charges {
        self.has_lost_track = true;
        let share = |portion: &Portion| {
            let records = u32::try_from(portion.rows).unwrap_or(u32::MAX);
            let exporters = [Charge { account: Account::new(Address::default()), records }];
            Share { exporters: exporters.into(), sum: self.sum(portion.sum) }
        };
        Charges(portions.iter().map(share).collect())
    }

    /// Nothing is on disk any more: what accounts still believe to be there is what could not be read.
    pub(super) fn settle(&mut self) {
        let accounts = std::mem::take(&mut self.accounts);
        if std::mem::take(&mut self.has_lost_track) {
            for (_, account) in accounts.into_values() {
                account.turn(account.ledger().records_spooled, 0, Fate::Spooled, Fate::DroppedCorrupt);
            }
        }
    }

    fn sum(&self, place: usize) -> Arc<Account> {
        self.sums.get(place).map_or_else(|| Account::new(Address::default()), Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = Address::from_v4(1);

    fn charges(account: &Arc<Account>, sum: &Arc<Account>) -> Charges {
        let exporters = [Charge { account: Arc::clone(account), records: 5 }].into();
        Charges([Share { exporters, sum: Arc::clone(sum) }].into())
    }

    #[test]
    fn an_exporter_is_charged_by_the_shard_that_heard_it_and_as_it_was_known_then() {
        let mut owners = Owners::default();
        let (shards, [first, anew, other]) = ([Account::new(A), Account::new(A)], [0; 3].map(|_| Account::new(A)));
        let places = [owners.learn(10, &charges(&first, &shards[0])), owners.learn(11, &charges(&other, &shards[1]))];
        let found = |owners: &Owners, sequence, portions: &[Portion]| {
            Arc::clone(&owners.charges(sequence, portions, &[(A, 5)]).0[0].exporters[0].account)
        };
        assert!(Arc::ptr_eq(&found(&owners, 10, &places[0]), &first) && Arc::ptr_eq(&found(&owners, 11, &places[1]), &other));
        // Its shard forgets it and hears it anew; a block of before comes late, from memory.
        owners.learn(20, &charges(&anew, &shards[0]));
        owners.learn(15, &charges(&first, &shards[0]));
        assert!(Arc::ptr_eq(&found(&owners, 20, &places[0]), &anew));
        assert!(!Arc::ptr_eq(&found(&owners, 15, &places[0]), &anew), "records of before are not charged to it");
    }

    #[test]
    fn an_exporter_that_two_shards_hear_is_charged_to_each_of_them() {
        let mut owners = Owners::default();
        let ([one, two], shards) = ([Account::new(A), Account::new(A)], [Account::new(A), Account::new(A)]);
        let [first, second] = [charges(&one, &shards[0]), charges(&two, &shards[1])].map(|charges| charges.0[0].clone());
        let portions = owners.learn(1, &Charges([first, second].into()));
        let found = owners.charges(1, &portions, &[(A, 3), (A, 4)]);
        found.turn(Fate::Waiting, Fate::Stored);
        assert_eq!([&one, &two, &shards[0], &shards[1]].map(|account| account.ledger().records_stored), [3, 4, 3, 4]);
        owners.unknown(&portions).turn(Fate::Spooled, Fate::DroppedCorrupt);
        assert_eq!(shards.map(|account| account.ledger().records_dropped_corrupt), [5, 5]);
    }

    #[test]
    fn records_of_which_track_was_lost_are_counted_when_nothing_waits() {
        let mut owners = Owners::default();
        let (account, sum) = (Account::new(A), Account::new(Address::default()));
        let place = owners.learn(1, &charges(&account, &sum));
        charges(&account, &sum).turn(Fate::Waiting, Fate::Spooled);
        owners.unknown(&place).turn(Fate::Spooled, Fate::DroppedCorrupt);
        assert_eq!((sum.ledger().records_dropped_corrupt, account.ledger().records_spooled), (5, 5));
        owners.settle();
        assert_eq!((account.ledger().records_dropped_corrupt, account.ledger().records_spooled), (5, 0));
    }
}
