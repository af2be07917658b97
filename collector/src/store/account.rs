//! What became of records, by exporter: written by the store's threads, read by a shard that waits for nobody.

use std::collections::HashMap;
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

    /// Moves records on, those of `blocks` blocks.
    pub(super) fn turn(&self, records: u64, blocks: u64, from: Fate, to: Fate) {
        self.change(|ledger| {
            if let Some(count) = place(ledger, from) {
                *count = count.wrapping_sub(records);
            }
            if let Some(count) = place(ledger, to) {
                *count = count.wrapping_add(records);
            }
            ledger.blocks_stored += if to == Fate::Stored { blocks } else { 0 };
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

/// What one shard has brought to a block, or what the spool held at the start.
#[derive(Clone, Debug)]
pub struct Share {
    /// By exporter.
    pub exporters: Box<[Charge]>,
    /// The account of all of them.
    pub sum: Arc<Account>,
}

impl Share {
    /// All records of the share.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.exporters.iter().map(|charge| u64::from(charge.records)).sum()
    }
}

/// Whose the records of a block are.
#[derive(Clone, Debug, Default)]
pub struct Charges(pub Box<[Share]>);

impl Charges {
    /// All records of the block.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.0.iter().map(Share::records).sum()
    }

    /// Moves the records on, in every account.
    pub fn turn(&self, from: Fate, to: Fate) {
        for (place, share) in self.0.iter().enumerate() {
            for charge in &share.exporters {
                charge.account.turn(u64::from(charge.records), 1, from, to);
            }
            share.sum.turn(share.records(), blocks(place), from, to);
        }
    }

    /// Counts that the block is sent once more.
    pub fn retried(&self) {
        for (place, share) in self.0.iter().enumerate() {
            for charge in &share.exporters {
                charge.account.change(|ledger| ledger.blocks_retried += 1);
            }
            share.sum.change(|ledger| ledger.blocks_retried += blocks(place));
        }
    }
}

/// The blocks that a share stands for among the sums: the first for all of them, since sums are added up.
fn blocks(place: usize) -> u64 {
    u64::from(place == 0)
}

/// Charges that are gathered for a block: what comes of one exporter by way of one shard is one charge.
#[derive(Debug, Default)]
pub struct Bill {
    shares: Vec<(Arc<Account>, Vec<Charge>)>,
    /// Where among those of its share an account's charge is, by the account's address in memory.
    places: HashMap<usize, usize>,
}

impl Bill {
    /// Puts more on it, which comes by way of the shard with the account `sum`.
    pub fn add(&mut self, exporters: &[Charge], sum: &Arc<Account>) {
        let known = self.shares.iter().position(|(account, _)| Arc::ptr_eq(account, sum));
        let share = known.unwrap_or_else(|| {
            self.shares.push((Arc::clone(sum), Vec::new()));
            self.shares.len() - 1
        });
        let Some((_, charges)) = self.shares.get_mut(share) else { return };
        for charge in exporters {
            let place = *self.places.entry(Arc::as_ptr(&charge.account).addr()).or_insert(charges.len());
            match charges.get_mut(place) {
                Some(known) => known.records += charge.records,
                None => charges.push(charge.clone()),
            }
        }
    }

    /// What is on it, and an empty one from now on.
    pub fn take(&mut self) -> Charges {
        self.places.clear();
        Charges(self.shares.drain(..).map(|(sum, exporters)| Share { exporters: exporters.into(), sum }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_in_one_place_at_a_time() {
        let (account, sum) = (Account::new(Address::from_v4(1)), Account::new(Address::default()));
        let exporters = [Charge { account: Arc::clone(&account), records: 3 }].into();
        let charges = Charges([Share { exporters, sum: Arc::clone(&sum) }].into());
        charges.turn(Fate::Waiting, Fate::Spooled);
        assert_eq!(account.ledger().records_spooled, 3);
        charges.retried();
        charges.turn(Fate::Spooled, Fate::Stored);
        let ledger = sum.ledger();
        assert_eq!((ledger.records_spooled, ledger.records_stored, ledger.blocks_stored, ledger.blocks_retried), (0, 3, 1, 1));
    }

    #[test]
    fn what_several_shards_bring_to_a_block_is_one_block() {
        let [exporter, other, elsewhere, shard, second] = [1, 2, 1, 4, 5].map(|number| Account::new(Address::from_v4(number)));
        let charge = |account: &Arc<Account>, records| Charge { account: Arc::clone(account), records };
        let mut bill = Bill::default();
        bill.add(&[charge(&exporter, 3), charge(&other, 1)], &shard);
        bill.add(&[charge(&elsewhere, 2)], &second);
        bill.add(&[charge(&exporter, 1)], &shard);
        let charges = bill.take();
        let told = |share: &Share| share.exporters.iter().map(|charge| charge.records).collect::<Vec<_>>();
        assert_eq!((charges.0.iter().map(told).collect::<Vec<_>>(), charges.records()), (vec![vec![4, 1], vec![2]], 7));
        charges.turn(Fate::Waiting, Fate::Stored);
        let stored = |account: &Account| (account.ledger().records_stored, account.ledger().blocks_stored);
        let accounts = [&exporter, &other, &elsewhere, &shard, &second];
        assert_eq!(accounts.map(|account| stored(account)), [(4, 1), (1, 1), (2, 1), (5, 1), (2, 0)]);
        assert!(bill.take().0.is_empty());
    }
}
