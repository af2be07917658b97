//! From a shard to the store: batches that are filled on one side and emptied on the other, and nobody waits.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use schemas::flow::FlowBatch;
use schemas::ledger::StoreLedger;
use schemas::net::Address;
use schemas::time::Timestamp;

use super::account::{Account, Bill, Charge, Fate};
use super::config::Config;
use super::room::{Left, Rates, Room, Verdict};
use crate::enrich::Enricher;
use crate::exporter::Exporters;

/// Rows of a parcel: few enough that they are still in the processor's cache when they are encoded.
const PARCEL_ROWS: usize = 16_384;
/// Parcels of a shard at least: one that is filled, one that is encoded, and two for a pause of the store.
const PARCELS_MIN: usize = 4;

/// How long a shard's end waits for the store to take one more parcel.
const FINISH_WAIT: Duration = Duration::from_secs(5);

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
    /// What became of them on this side, which nobody else counts.
    own: StoreLedger,
    /// The parcel that has a charge of this exporter, and the charge's place in it.
    parcel: u64,
    place: usize,
}

impl Handed {
    /// Nothing yet of an exporter.
    #[must_use]
    pub fn new(exporter: Address) -> Self {
        Self { account: Account::new(exporter), records: 0, own: StoreLedger::default(), parcel: 0, place: 0 }
    }

    /// What became of the records; the rest of what was handed over waits.
    #[must_use]
    pub fn ledger(&self) -> StoreLedger {
        let mut ledger = self.account.ledger();
        ledger += &self.own;
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
    /// Says where the ends of a parcel's rows lie: thousands of look-ups side by side, where a burst of datagrams has dozens.
    enricher: Enricher,
    /// All exporters together.
    sum: Handed,
    /// Number of the parcel that is filled, from 1.
    number: u64,
    began: Timestamp,
    wait_milliseconds_max: u64,
    /// Parcels that are not sent on before they are full.
    spare_min: usize,
    /// Rows that wait for their sampling rate.
    room: Room,
}

impl Handover {
    /// The same, with the rows of its parcels labelled by `enricher`.
    #[must_use]
    pub fn labelling(self, enricher: Enricher) -> Self {
        Self { enricher, ..self }
    }

    /// Takes over the rows of a batch, or counts them as dropped where no room has come back in time. Rows whose sampling rate may yet be
    /// told wait for it.
    pub fn take(&mut self, batch: &FlowBatch, exporters: &mut Exporters, now: Timestamp) {
        let all = 0..batch.segments().len();
        if !self.room.is_for(batch) {
            self.pass_or_drop(batch, all, exporters, now);
            return;
        }
        let mut first = 0;
        for index in all.clone() {
            match self.room.take(batch, index, now) {
                Verdict::Pass => continue,
                Verdict::NoRoom => {
                    self.count(batch, index..index + 1, exporters, |ledger| &mut ledger.records_rate_not_awaited);
                    continue;
                }
                Verdict::Held => self.enter(batch, index..index + 1, exporters),
            }
            self.pass_or_drop(batch, first..index, exporters, now);
            first = index + 1;
        }
        self.pass_or_drop(batch, first..all.end, exporters, now);
    }

    /// Hands on rows whose sampling rate was learned since, and those that have waited for it for long enough.
    pub fn settle_rates(&mut self, now: Timestamp, rates: &mut impl Rates, exporters: &mut Exporters) {
        self.release(now, false, rates, exporters);
    }

    /// Hands on everything; rows that wait for a sampling rate go as they are.
    ///
    /// Waits for room as long as the store gives any: the shard receives no more.
    pub fn finish(&mut self, now: Timestamp, rates: &mut impl Rates, exporters: &mut Exporters) {
        self.release(now, true, rates, exporters);
        while !self.room.is_empty() {
            self.send();
            let Ok(parcel) = self.emptied.recv_timeout(FINISH_WAIT) else { break };
            self.spare.push(parcel);
            self.release(now, true, rates, exporters);
        }
        self.send();
        if !self.room.is_empty() {
            let mut lost = Vec::new();
            self.room.release(now, true, rates, |batch, segments, _| {
                lost.extend(batch.segments().get(segments).into_iter().flatten().map(|segment| (segment.origin.exporter, segment.rows)));
                true
            });
            for (exporter, rows) in lost {
                self.count_rows(exporter, rows, exporters, |ledger| &mut ledger.records_dropped_by_queue);
            }
        }
    }

    fn release(&mut self, now: Timestamp, is_end: bool, rates: &mut impl Rates, exporters: &mut Exporters) {
        // The room cannot be lent while rows of it are passed on.
        let mut room = std::mem::take(&mut self.room);
        self.spare.extend(self.emptied.try_iter());
        room.release(now, is_end, rates, |batch, segments, left| {
            // What comes now goes first: it cannot wait.
            let may = is_end || self.spare.len() >= self.spare_min;
            if !may || !self.pass(batch, segments.clone(), exporters, now, false) {
                return false;
            }
            self.count(batch, segments, exporters, |ledger| match left {
                Left::Rated => &mut ledger.records_rate_learned,
                Left::Unrated => &mut ledger.records_rate_not_learned,
            });
            true
        });
        self.room = room;
    }

    fn pass_or_drop(&mut self, batch: &FlowBatch, segments: Range<usize>, exporters: &mut Exporters, now: Timestamp) {
        if !self.pass(batch, segments.clone(), exporters, now, true) {
            self.enter(batch, segments.clone(), exporters);
            self.count(batch, segments, exporters, |ledger| &mut ledger.records_dropped_by_queue);
        }
    }

    /// Puts segments into the parcel that is filled, and charges them; whether there was room. Those that are `new` have not been entered.
    fn pass(&mut self, batch: &FlowBatch, segments: Range<usize>, exporters: &mut Exporters, now: Timestamp, new: bool) -> bool {
        let taken = batch.segments().get(segments.clone()).unwrap_or_default();
        let rows: usize = taken.iter().map(|segment| segment.rows).sum();
        if rows == 0 {
            return true;
        }
        if self.filling.as_ref().is_some_and(|parcel| parcel.batch.remaining() < rows) {
            self.send();
        }
        if self.filling.is_none() {
            self.open(now);
        }
        let Some(parcel) = &mut self.filling else {
            return false;
        };
        if rows == batch.rows() {
            parcel.batch.append(batch);
        } else {
            parcel.batch.append_segments(batch, segments);
        }
        for segment in taken {
            let handed = exporters.handed(segment.origin.exporter);
            handed.records += if new { segment.rows as u64 } else { 0 };
            let is_known = handed.parcel == self.number;
            let charge = if is_known { parcel.exporters.get_mut(handed.place) } else { None };
            let records = u32::try_from(segment.rows).unwrap_or(u32::MAX);
            if let Some(charge) = charge {
                charge.records += records;
            } else {
                (handed.parcel, handed.place) = (self.number, parcel.exporters.len());
                parcel.exporters.push(Charge { account: Arc::clone(&handed.account), records });
            }
        }
        self.sum.records += if new { rows as u64 } else { 0 };
        true
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
        let Some(mut parcel) = self.filling.take() else {
            return;
        };
        self.enricher.enrich(&mut parcel.batch);
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

    /// Enters the records of segments as handed over.
    #[cold]
    fn enter(&mut self, batch: &FlowBatch, segments: Range<usize>, exporters: &mut Exporters) {
        for segment in batch.segments().get(segments).into_iter().flatten() {
            for handed in [exporters.handed(segment.origin.exporter), &mut self.sum] {
                handed.records += segment.rows as u64;
            }
        }
    }

    /// Counts the records of segments.
    #[cold]
    fn count(
        &mut self,
        batch: &FlowBatch,
        segments: Range<usize>,
        exporters: &mut Exporters,
        count: impl Fn(&mut StoreLedger) -> &mut u64,
    ) {
        for segment in batch.segments().get(segments).into_iter().flatten() {
            self.count_rows(segment.origin.exporter, segment.rows, exporters, &count);
        }
    }

    fn count_rows(&mut self, exporter: Address, rows: usize, exporters: &mut Exporters, count: impl Fn(&mut StoreLedger) -> &mut u64) {
        for handed in [exporters.handed(exporter), &mut self.sum] {
            *count(&mut handed.own) += rows as u64;
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
            enricher: Enricher::default(),
            sum,
            number: 0,
            began: Timestamp::default(),
            // The rest is the block's, which waits for parcels.
            wait_milliseconds_max: config.wait_milliseconds_max / 4,
            spare_min: parcels / 2,
            room: Room::new(config, shards),
        });
    }
    (handovers, Intake { filled, emptied: emptied_senders })
}

#[cfg(test)]
mod tests;
