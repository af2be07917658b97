//! From a shard to the store: batches that are filled on one side and emptied on the other, and nobody waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use schemas::flow::FlowBatch;
use schemas::ledger::StoreLedger;
use schemas::net::Address;
use schemas::time::Timestamp;

use super::account::{Account, Bill, Charge, Fate};
use super::config::Config;
use crate::exporter::Exporters;

/// Rows of a parcel: few enough that they are still in the processor's cache when they are encoded.
const PARCEL_ROWS: usize = 16_384;
/// Parcels of a shard at least: one that is filled, one that is encoded, and two for a pause of the store.
const PARCELS_MIN: usize = 4;

/// Rows on their way, and whose they are.
#[derive(Debug)]
pub struct Parcel {
    /// The rows.
    pub batch: FlowBatch,
    exporters: Vec<Charge>,
    sum: Arc<Account>,
    /// Where it is to be returned.
    shard: usize,
}

impl Parcel {
    /// Puts its records on a bill, for those whose they are.
    pub fn charge_to(&self, bill: &mut Bill) {
        bill.add(&self.exporters, &self.sum);
    }

    /// Counts, for those whose they are, the records that are not filed under their end.
    pub(super) fn refiled(&self, by_exporter: &HashMap<Address, u64>) {
        if by_exporter.is_empty() {
            return;
        }
        let count = |account: &Account, records: u64| account.change(|ledger| ledger.records_refiled += records);
        for Charge { account, .. } in &self.exporters {
            if let Some(records) = by_exporter.get(&account.exporter()) {
                count(account, *records);
            }
        }
        count(&self.sum, by_exporter.values().sum());
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.exporters.clear();
    }
}

/// What a shard knows of one exporter's records on their way to the store.
#[derive(Debug)]
pub struct Handed {
    account: Arc<Account>,
    /// Records handed over since the start, those for which there was no room included.
    records: u64,
    dropped: u64,
    /// The parcel that has a charge of this exporter, and the charge's place in it.
    parcel: u64,
    place: usize,
}

impl Handed {
    /// Nothing yet of an exporter.
    #[must_use]
    pub fn new(exporter: Address) -> Self {
        Self { account: Account::new(exporter), records: 0, dropped: 0, parcel: 0, place: 0 }
    }

    /// What became of the records; the rest of what was handed over waits.
    #[must_use]
    pub fn ledger(&self) -> StoreLedger {
        let mut ledger = self.account.ledger();
        ledger.records_dropped_by_queue += self.dropped;
        // What became of them was read last, and only grows: so nothing can have become of more than was handed over.
        ledger.records_waiting = u64::try_from(ledger.imbalance(self.records)).unwrap_or(0);
        ledger
    }
}

/// A shard's end: rows are appended to a batch of its own, which is exchanged for an empty one.
#[derive(Debug)]
pub struct Handover {
    filling: Option<Parcel>,
    /// Empty ones; the last that came back is filled next, so that few are ever touched.
    spare: Vec<Parcel>,
    emptied: Receiver<Parcel>,
    filled: Sender<Parcel>,
    /// All exporters together.
    sum: Handed,
    /// Number of the parcel that is filled, from 1.
    number: u64,
    began: Timestamp,
    wait_milliseconds_max: u64,
    /// Parcels that are not sent on before they are full.
    spare_min: usize,
}

impl Handover {
    /// Takes over the rows of a batch, or counts them as dropped where no room has come back in time.
    pub fn take(&mut self, batch: &FlowBatch, exporters: &mut Exporters, now: Timestamp) {
        if batch.rows() == 0 {
            return;
        }
        let fits = |parcel: &Parcel| {
            let (own, new) = (&parcel.batch.labels, &batch.labels);
            // A block's place numbers are looked up in one generation of the tables.
            let is_same_generation = !own.are_written() || !new.are_written() || Arc::ptr_eq(own.places(), new.places());
            parcel.batch.remaining() >= batch.rows() && is_same_generation
        };
        if self.filling.as_ref().is_some_and(|parcel| !fits(parcel)) {
            self.send();
        }
        if self.filling.is_none() {
            self.open(now);
        }
        let Some(parcel) = &mut self.filling else {
            self.drop_rows(batch, exporters);
            return;
        };
        parcel.batch.append(batch);
        for segment in batch.segments() {
            let rows = segment.rows as u64;
            self.sum.records += rows;
            let handed = exporters.handed(segment.origin.exporter);
            handed.records += rows;
            let is_known = handed.parcel == self.number;
            let charge = if is_known { parcel.exporters.get_mut(handed.place) } else { None };
            let records = u32::try_from(rows).unwrap_or(u32::MAX);
            if let Some(charge) = charge {
                charge.records += records;
            } else {
                (handed.parcel, handed.place) = (self.number, parcel.exporters.len());
                parcel.exporters.push(Charge { account: Arc::clone(&handed.account), records });
            }
        }
    }

    /// Sends on what has waited for long enough.
    pub fn tick(&mut self, now: Timestamp) {
        // A clock that was set back sends as well: it cannot say how long it has been.
        if self.filling.is_some() && (now.since(self.began) >= self.wait_milliseconds_max || now < self.began) {
            self.spare.extend(self.emptied.try_iter());
            // While the store pauses nothing would be stored the sooner: what is left is filled, so that the pause may be as long as can be.
            if self.spare.len() >= self.spare_min {
                self.send();
            }
        }
    }

    /// Sends on what is there.
    pub fn send(&mut self) {
        let Some(parcel) = self.filling.take() else {
            return;
        };
        // There is room for all parcels that there are: only a store that has ended takes none.
        if let Err(error) = self.filled.try_send(parcel) {
            let (mut parcel, mut bill) = (error.into_inner(), Bill::default());
            parcel.charge_to(&mut bill);
            bill.take().turn(Fate::Waiting, Fate::DroppedByQueue);
            parcel.clear();
            self.spare.push(parcel);
        }
    }

    /// What became of all records that this shard handed over.
    #[must_use]
    pub fn ledger(&self) -> StoreLedger {
        self.sum.ledger()
    }

    fn open(&mut self, now: Timestamp) {
        self.spare.extend(self.emptied.try_iter());
        self.filling = self.spare.pop();
        (self.number, self.began) = (self.number + 1, now);
    }

    #[cold]
    fn drop_rows(&mut self, batch: &FlowBatch, exporters: &mut Exporters) {
        for segment in batch.segments() {
            for handed in [exporters.handed(segment.origin.exporter), &mut self.sum] {
                handed.records += segment.rows as u64;
                handed.dropped += segment.rows as u64;
            }
        }
    }
}

/// The store's end: filled batches of all shards.
#[derive(Debug)]
pub struct Intake {
    filled: Receiver<Parcel>,
    emptied: Vec<Sender<Parcel>>,
}

/// Why no batch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// None is filled for now.
    Silence,
    /// All shards have ended.
    End,
}

impl Intake {
    /// Waits for a filled batch.
    ///
    /// # Errors
    ///
    /// [`Quiet`] if none comes.
    pub fn next(&self, wait: Duration) -> Result<Parcel, Quiet> {
        self.filled.recv_timeout(wait).map_err(|error| match error {
            RecvTimeoutError::Timeout => Quiet::Silence,
            RecvTimeoutError::Disconnected => Quiet::End,
        })
    }

    /// Gives a batch back to its shard, emptied.
    pub fn give_back(&self, mut parcel: Parcel) {
        parcel.clear();
        if let Some(sender) = self.emptied.get(parcel.shard) {
            // A shard that has ended needs none.
            drop(sender.try_send(parcel));
        }
    }
}

/// An end for each shard, and the store's.
///
/// Together they hold `batch_rows_max` rows, and each at least `rows_min`.
#[must_use]
pub fn handovers(config: &Config, shards: usize, rows_min: usize) -> (Vec<Handover>, Intake) {
    let share = config.batch_rows_max / shards.max(1);
    let rows = share.min(PARCEL_ROWS).max(rows_min);
    let parcels = share.div_ceil(rows).max(PARCELS_MIN);
    let (filled_sender, filled) = bounded(parcels * shards);
    let (mut handovers, mut emptied_senders) = (Vec::with_capacity(shards), Vec::with_capacity(shards));
    for shard in 0..shards {
        let (sender, emptied) = bounded(parcels);
        let sum = Handed::new(Address::default());
        let parcel =
            || Parcel { batch: FlowBatch::with_capacity(rows), exporters: Vec::with_capacity(64), sum: Arc::clone(&sum.account), shard };
        let spare = std::iter::repeat_with(parcel).take(parcels).collect();
        emptied_senders.push(sender);
        handovers.push(Handover {
            filling: None,
            spare,
            emptied,
            filled: filled_sender.clone(),
            sum,
            number: 0,
            began: Timestamp::default(),
            // The rest is the block's, which waits for parcels.
            wait_milliseconds_max: config.wait_milliseconds_max / 4,
            spare_min: parcels / 2,
        });
    }
    (handovers, Intake { filled, emptied: emptied_senders })
}

#[cfg(test)]
mod tests;
