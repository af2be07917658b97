//! The store's threads: one makes blocks of what the shards hand over, one inserts them.

mod flows;

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use schemas::flow::FlowBatch;
use schemas::ledger::StoreLedger;
use schemas::net::Address;
use tokio::sync::watch;

use super::config::Config;
use super::handover::{Handover, Intake, Quiet, handovers};
use super::insert::{Failure, Insert, insert};
use super::link::Link;
use super::metrics::Metrics;
use super::queue::{Block, Next, Queue};
use super::recovered::Recovered;
use super::spool::Spool;
use crate::shard::ROWS_COUNTED_MAX;

pub use self::flows::{Flows, LateInterfaces};

/// How often what is written is looked after.
const TICK: Duration = Duration::from_millis(250);
/// The pauses after a failure, each twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// After so many refusals in a row a block is set aside.
const REFUSALS_MAX: u32 = 3;
/// How long a stop waits for the engine to take what is in memory; what it has not taken by then goes to disk.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Makes the octets that the engine reads of a batch.
pub trait Encode: Send {
    /// A block in the format of the insert.
    fn encode(&mut self, batch: &FlowBatch) -> Bytes;
}

/// How blocks are inserted, once that is known: on a cluster, its servers have to be asked.
pub type LateInsert = Arc<OnceLock<Insert>>;

/// The running store; ends when all shards have let go of their handovers.
#[derive(Debug)]
pub struct Store {
    encoder: JoinHandle<()>,
    inserter: JoinHandle<()>,
    status: Status,
}

/// What the store tells while it runs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Status {
    metrics: Arc<Metrics>,
    recovered: Arc<Recovered>,
}

impl Status {
    /// Counts besides the ledgers.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What became of the records that the spool held at the start.
    #[must_use]
    pub fn recovered(&self) -> StoreLedger {
        self.recovered.sum()
    }

    /// What became of those of one exporter.
    #[must_use]
    pub fn recovered_of(&self, exporter: Address) -> StoreLedger {
        self.recovered.exporter(exporter)
    }
}

impl Store {
    /// Takes up what `folder` holds from before, and starts both threads; each shard gets one of the handovers.
    ///
    /// # Errors
    ///
    /// If the system starts no thread.
    pub fn start(
        config: &Config,
        folder: &Path,
        shards: usize,
        link: Link,
        encode: Box<dyn Encode>,
        statement: LateInsert,
    ) -> io::Result<(Self, Vec<Handover>)> {
        let status = Status { metrics: Arc::default(), recovered: Arc::default() };
        let (spool, opened) = Spool::open(folder, &config.spool, &status.recovered);
        status.metrics.opened(&opened);
        let queue = Arc::new(Queue::new(config, spool, Arc::clone(&status.metrics)));
        let (handovers, intake) = handovers(config, shards, ROWS_COUNTED_MAX);
        let (closed, closes) = watch::channel(false);
        let inserter = Inserter { queue: Arc::clone(&queue), link, statement, metrics: Arc::clone(&status.metrics), closes };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inserter = Builder::new().name("weir-store-send".to_owned()).spawn(move || runtime.block_on(inserter.run()))?;
        let metrics = Arc::clone(&status.metrics);
        let encoder = Builder::new().name("weir-store-make".to_owned()).spawn(move || {
            make_blocks(&intake, encode, &queue, &metrics);
            closed.send_replace(true);
        })?;
        Ok((Self { encoder, inserter, status }, handovers))
    }

    /// What it tells.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Whether both threads run.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.encoder.is_finished() && !self.inserter.is_finished()
    }

    /// Waits until everything that the shards have handed over is with the engine or on disk; the shards must have ended.
    pub fn stop(self) {
        for thread in [self.encoder, self.inserter] {
            if thread.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
    }
}

fn make_blocks(intake: &Intake, mut encode: Box<dyn Encode>, queue: &Queue, metrics: &Metrics) {
    let mut ticked = Instant::now();
    loop {
        match intake.next(TICK) {
            Ok(parcel) => {
                let began = Instant::now();
                let octets = encode.encode(&parcel.batch);
                metrics.encoded(parcel.batch.rows() as u64, octets.len() as u64, began.elapsed());
                let charges = parcel.charges();
                // The shard has its batch back before the disk is touched.
                intake.give_back(parcel);
                queue.push(octets, charges);
            }
            Err(Quiet::Silence) => {}
            Err(Quiet::End) => break,
        }
        if ticked.elapsed() >= TICK {
            queue.tick();
            ticked = Instant::now();
        }
    }
}

struct Inserter {
    queue: Arc<Queue>,
    link: Link,
    statement: LateInsert,
    metrics: Arc<Metrics>,
    closes: watch::Receiver<bool>,
}

impl Inserter {
    /// Inserts block by block, in order, until the store closes and nothing more can be done.
    async fn run(mut self) {
        let (mut pause, mut refusals) = (PAUSE_MIN, 0);
        while !(self.is_closing() && self.queue.may_close()) {
            let block = match self.queue.next() {
                Next::Insert(block) => block,
                Next::Nothing => {
                    tokio::select! {
                        () = self.queue.arrived.notified() => {}
                        _ = self.closes.wait_for(|closes| *closes) => {}
                    }
                    continue;
                }
                Next::Later => {
                    self.rest(PAUSE_MAX).await;
                    continue;
                }
            };
            match self.insert(&block).await {
                Ok(()) => {
                    self.queue.acknowledged(&block);
                    (pause, refusals) = (PAUSE_MIN, 0);
                    continue;
                }
                Err(Failure::Refused(reason)) if refusals + 1 >= REFUSALS_MAX => {
                    self.metrics.block_refused(block.id, block.charges.records(), &reason);
                    self.queue.refused(&block);
                    refusals = 0;
                    continue;
                }
                Err(Failure::Refused(reason)) => {
                    refusals += 1;
                    self.metrics.insert_failed("refused", &reason);
                }
                Err(Failure::Later { name, reason }) => {
                    self.metrics.insert_failed(name, &reason);
                    self.queue.retreat();
                }
            }
            block.charges.retried();
            self.rest(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.queue.close();
    }

    async fn insert(&self, block: &Block) -> Result<(), Failure> {
        let client = self.link.client().map_err(|away| Failure::Later { name: "away", reason: away.to_string() })?;
        let Some(statement) = self.statement.get() else {
            return Err(Failure::Later { name: "away", reason: "the engine has not said how blocks are inserted".to_owned() });
        };
        let began = Instant::now();
        let mut closes = self.closes.clone();
        let patience = async {
            drop(closes.wait_for(|closes| *closes).await);
            tokio::time::sleep(STOP_WAIT).await;
        };
        tokio::select! {
            done = insert(&client, statement, block) => done?,
            () = patience => return Err(Failure::Later { name: "stop", reason: "the engine did not answer before the stop".to_owned() }),
        }
        self.metrics.inserted(began.elapsed());
        Ok(())
    }

    /// Waits, but for no stop.
    async fn rest(&mut self, pause: Duration) {
        if self.is_closing() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.closes.wait_for(|closes| *closes) => {}
        }
    }

    fn is_closing(&self) -> bool {
        // A sender that is gone has panicked, which closes as well.
        *self.closes.borrow() || self.closes.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests;
