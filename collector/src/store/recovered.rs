//! The accounts of what the spool held when the program started: of exporters that no shard may have heard yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemas::ledger::StoreLedger;
use schemas::net::Address;

use super::account::{Account, Charge, Charges, Share};

/// Accounts by exporter, and of all.
#[derive(Debug)]
pub struct Recovered {
    exporters: Mutex<BTreeMap<Address, Arc<Account>>>,
    sum: Arc<Account>,
}

impl Default for Recovered {
    fn default() -> Self {
        Self { exporters: Mutex::default(), sum: Account::new(Address::default()) }
    }
}

impl Recovered {
    /// Counts a block as recovered and waiting on disk.
    #[must_use]
    pub fn charges(&self, exporters: &[(Address, u32)]) -> Charges {
        let charge = |(exporter, records): &(Address, u32)| Charge { account: self.account(*exporter), records: *records };
        let share = Share { exporters: exporters.iter().map(charge).collect(), sum: Arc::clone(&self.sum) };
        let recover = |account: &Account, records: u64| {
            account.change(|ledger| {
                ledger.records_recovered += records;
                ledger.records_spooled += records;
            });
        };
        share.exporters.iter().for_each(|charge| recover(&charge.account, u64::from(charge.records)));
        recover(&self.sum, share.records());
        Charges([share].into())
    }

    /// Counts records that were written before and cannot be read; where it is known, of which exporters.
    pub fn corrupt(&self, exporters: &[(Address, u32)], records: u64) {
        let lose = |account: &Account, records: u64| {
            account.change(|ledger| {
                ledger.records_recovered = ledger.records_recovered.wrapping_add(records);
                ledger.records_dropped_corrupt = ledger.records_dropped_corrupt.wrapping_add(records);
            });
        };
        exporters.iter().for_each(|(exporter, records)| lose(&self.account(*exporter), u64::from(*records)));
        lose(&self.sum, records);
    }

    /// What became of the records of every exporter.
    #[must_use]
    pub fn exporters(&self) -> BTreeMap<Address, StoreLedger> {
        self.lock().iter().map(|(exporter, account)| (*exporter, account.ledger())).collect()
    }

    /// What became of the records of one exporter.
    #[must_use]
    pub fn exporter(&self, exporter: Address) -> StoreLedger {
        self.lock().get(&exporter).map(|account| account.ledger()).unwrap_or_default()
    }

    /// What became of all of them.
    #[must_use]
    pub fn sum(&self) -> StoreLedger {
        self.sum.ledger()
    }

    fn account(&self, exporter: Address) -> Arc<Account> {
        Arc::clone(self.lock().entry(exporter).or_insert_with(|| Account::new(exporter)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Arc<Account>>> {
        self.exporters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
