//! Blocks are gathered of what many parcels bring: the engine works by the block, so it takes few large ones at much less cost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::flow::FlowBatch;
use schemas::net::Address;

use super::account::{Bill, Charges};
use super::config::Config;
use super::handover::Parcel;

/// Makes the octets that the engine reads of batches.
pub trait Encode: Send {
    /// Puts a batch behind those since [`Self::take`], in the format of the insert. How many octets it became.
    fn append(&mut self, batch: &FlowBatch) -> usize;

    /// The octets of all batches since the last call.
    fn take(&mut self) -> Bytes;

    /// Records of the last batch that are not filed under their end, by exporter.
    fn refiled(&self) -> HashMap<Address, u64> {
        HashMap::new()
    }

    /// Octets and packets of records that were more than can be, since the start.
    fn volumes_cut(&self) -> u64 {
        0
    }
}

/// A block in the making.
pub struct Gatherer {
    encode: Box<dyn Encode>,
    bill: Bill,
    rows: usize,
    began: Instant,
    rows_max: usize,
    wait: Duration,
}

impl Gatherer {
    /// Gathers blocks of at most `batch_rows_max` rows, or of a parcel where that has more.
    #[must_use]
    pub fn new(config: &Config, encode: Box<dyn Encode>) -> Self {
        Self {
            encode,
            bill: Bill::default(),
            rows: 0,
            began: Instant::now(),
            rows_max: config.batch_rows_max,
            wait: Duration::from_millis(config.wait_milliseconds_max) * 3 / 4,
        }
    }

    /// Whether the rows of a parcel would be more than a block is to have.
    #[must_use]
    pub fn is_too_full_for(&self, parcel: &Parcel) -> bool {
        self.rows > 0 && self.rows + parcel.batch.rows() > self.rows_max
    }

    /// Puts the rows of a parcel into the block. How many octets they became.
    pub fn add(&mut self, parcel: &Parcel) -> usize {
        if self.rows == 0 {
            self.began = Instant::now();
        }
        self.rows += parcel.batch.rows();
        parcel.charge_to(&mut self.bill);
        let octets = self.encode.append(&parcel.batch);
        parcel.refiled(&self.encode.refiled());
        octets
    }

    /// Octets and packets of records that were more than can be, since the start.
    #[must_use]
    pub fn volumes_cut(&self) -> u64 {
        self.encode.volumes_cut()
    }

    /// How long the block still waits for more; `None` when it is empty.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        (self.rows > 0).then(|| self.wait.saturating_sub(self.began.elapsed()))
    }

    /// The block, when it has any rows; an empty one is begun.
    pub fn take(&mut self) -> Option<(Bytes, Charges)> {
        (std::mem::take(&mut self.rows) > 0).then(|| (self.encode.take(), self.bill.take()))
    }
}
