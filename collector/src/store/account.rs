//! What became of records, by exporter: written by the store's threads, read by a shard that waits for nobody.

use std::sync::Arc;

use arc_swap::ArcSwap;
use schemas::ledger::StoreLedger;
use schemas::net::Address;

/// What became of the records of one exporter that a shard handed over, as one consistent picture.
///
/// What waits is not in here: it is what was handed over less everything that is.
#[derive(Debug)]
pub struct Account {
    exporter: Address,
    ledger: ArcSwap<StoreLedger>,
}

/// Where records are, or how they ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They wait in memory.
    Waiting,
    /// They wait on disk.
    Spooled,
    /// The engine has them.
    Stored,
    /// There was nobody to hand them to.
    DroppedByQueue,
    /// The spool had no room, or its disk was at fault.
    DroppedBySpool,
    /// They could not be read back.
    DroppedCorrupt,
    /// The engine wants none of them.
    DroppedByEngine,
    /// They lie on disk until the next start, since the engine had no memory for them or may have them already.
    SetAside,
}

impl Account {
    /// An empty account.
    #[must_use]
    pub fn new(exporter: Address) -> Arc<Self> {
        Arc::new(Self { exporter, ledger: ArcSwap::from_pointee(StoreLedger::default()) })
    }

    /// Whose records these are.
    #[must_use]
    pub fn exporter(&self) -> Address {
        self.exporter
    }

    /// What became of them so far.
    #[must_use]
    pub fn ledger(&self) -> StoreLedger {
        **self.ledger.load()
    }

    /// Changes the picture as a whole.
    pub fn change(&self, change: impl Fn(&mut StoreLedger)) {
        self.ledger.rcu(|ledger| {
            let mut ledger = **ledger;
            change(&mut ledger);
            ledger
        });
    }

    /// Moves records on.
    pub fn turn(&self, records: u64, from: Fate, to: Fate) {
        self.change(|ledger| {
            if let Some(count) = place(ledger, from) {
                *count = count.wrapping_sub(records);
            }
            if let Some(count) = place(ledger, to) {
                *count = count.wrapping_add(records);
            }
            ledger.blocks_stored += u64::from(to == Fate::Stored);
        });
    }
}

fn place(ledger: &mut StoreLedger, fate: Fate) -> Option<&mut u64> {
    match fate {
        Fate::Waiting => None,
        Fate::Spooled => Some(&mut ledger.records_spooled),
        Fate::Stored => Some(&mut ledger.records_stored),
        Fate::DroppedByQueue => Some(&mut ledger.records_dropped_by_queue),
        Fate::DroppedBySpool => Some(&mut ledger.records_dropped_by_spool),
        Fate::DroppedCorrupt => Some(&mut ledger.records_dropped_corrupt),
        Fate::DroppedByEngine => Some(&mut ledger.records_dropped_by_engine),
        Fate::SetAside => Some(&mut ledger.records_set_aside),
    }
}

/// Records of one exporter within a block.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The account that they are charged to.
    pub account: Arc<Account>,
    /// How many.
    pub records: u32,
}

/// Whose the records of a block are.
#[derive(Clone, Debug)]
pub struct Charges {
    /// By exporter.
    pub exporters: Box<[Charge]>,
    /// The account of all of them: a shard's, or that of what the spool held at the start.
    pub sum: Arc<Account>,
}

impl Charges {
    /// All records of the block.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.exporters.iter().map(|charge| u64::from(charge.records)).sum()
    }

    /// Moves the records on, in every account.
    pub fn turn(&self, from: Fate, to: Fate) {
        for charge in &self.exporters {
            charge.account.turn(u64::from(charge.records), from, to);
        }
        self.sum.turn(self.records(), from, to);
    }

    /// Counts that the block is sent once more.
    pub fn retried(&self) {
        self.exporters.iter().map(|charge| &charge.account).chain([&self.sum]).for_each(|account| {
            account.change(|ledger| ledger.blocks_retried += 1);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_in_one_place_at_a_time() {
        let (account, sum) = (Account::new(Address::from_v4(1)), Account::new(Address::default()));
        let exporters = [Charge { account: Arc::clone(&account), records: 3 }].into();
        let charges = Charges { exporters, sum: Arc::clone(&sum) };
        charges.turn(Fate::Waiting, Fate::Spooled);
        assert_eq!(account.ledger().records_spooled, 3);
        charges.retried();
        charges.turn(Fate::Spooled, Fate::Stored);
        let ledger = sum.ledger();
        assert_eq!((ledger.records_spooled, ledger.records_stored, ledger.blocks_stored, ledger.blocks_retried), (0, 3, 1, 1));
    }
}
