//! The store's threads: one makes blocks of what the shards hand over, one inserts them.

mod flows;
mod inserter;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use schemas::ledger::StoreLedger;
use schemas::net::Address;
use tokio::sync::watch;

use super::config::Config;
use super::gather::{Encode, Gatherer};
use super::handover::{Handover, Intake, Quiet, handovers};
use super::insert::Insert;
use super::link::Link;
use super::metrics::Metrics;
use super::queue::Queue;
use super::recovered::Recovered;
use super::spool::Spool;
use crate::shard::ROWS_COUNTED_MAX;

pub use self::flows::{Flows, LateInterfaces};
use self::inserter::{Inserter, Patience};

/// How often what is written is looked after.
const TICK: Duration = Duration::from_millis(250);

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
    is_whole: Arc<AtomicBool>,
}

/// What each of the threads holds: when one ends, however it ends, the store is not whole any more.
struct Part(Arc<AtomicBool>);

impl Drop for Part {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Status {
    /// Whether both threads run; if one has panicked, flows are kept no more.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

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
        Self::start_patient(config, folder, shards, link, encode, statement, Patience::default())
    }

    fn start_patient(
        config: &Config,
        folder: &Path,
        shards: usize,
        link: Link,
        encode: Box<dyn Encode>,
        statement: LateInsert,
        patience: Patience,
    ) -> io::Result<(Self, Vec<Handover>)> {
        let status = Status { metrics: Arc::default(), recovered: Arc::default(), is_whole: Arc::new(AtomicBool::new(true)) };
        let part = || Part(Arc::clone(&status.is_whole));
        let (spool, opened) = Spool::open(folder, &config.spool, &status.recovered);
        status.metrics.opened(&opened);
        let queue = Arc::new(Queue::new(config, spool, Arc::clone(&status.metrics)));
        let (handovers, intake) = handovers(config, shards, ROWS_COUNTED_MAX);
        let (closed, closes) = watch::channel(false);
        let inserter = Inserter::new(Arc::clone(&queue), link, statement, Arc::clone(&status.metrics), closes, patience);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sends = part();
        let inserter = Builder::new().name("weir-store-send".to_owned()).spawn(move || {
            let _sends = sends;
            runtime.block_on(inserter.run());
        })?;
        let (metrics, gatherer, makes) = (Arc::clone(&status.metrics), Gatherer::new(config, encode), part());
        let encoder = Builder::new().name("weir-store-make".to_owned()).spawn(move || {
            let _makes = makes;
            make_blocks(&intake, gatherer, &queue, &metrics);
            closed.send_replace(true);
        })?;
        Ok((Self { encoder, inserter, status }, handovers))
    }

    /// What it tells.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
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

fn make_blocks(intake: &Intake, mut gatherer: Gatherer, queue: &Queue, metrics: &Metrics) {
    let push = |gatherer: &mut Gatherer| {
        if let Some((octets, charges)) = gatherer.take() {
            queue.push(octets, charges);
        }
    };
    let mut ticked = Instant::now();
    loop {
        match intake.next(gatherer.patience().map_or(TICK, |patience| patience.min(TICK))) {
            Ok(parcel) => {
                if gatherer.is_too_full_for(&parcel) {
                    push(&mut gatherer);
                }
                let began = Instant::now();
                let octets = gatherer.add(&parcel);
                metrics.encoded(parcel.batch.rows() as u64, octets as u64, began.elapsed());
                metrics.volumes_cut(gatherer.volumes_cut());
                intake.give_back(parcel);
            }
            Err(Quiet::Silence) => {}
            Err(Quiet::End) => break,
        }
        if gatherer.patience().is_some_and(|patience| patience.is_zero()) {
            push(&mut gatherer);
        }
        if ticked.elapsed() >= TICK {
            queue.tick();
            ticked = Instant::now();
        }
    }
    push(&mut gatherer);
}

#[cfg(test)]
mod tests;
