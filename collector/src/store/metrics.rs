//! What the store tells an operator besides its ledgers: one method an event, which logs and counts it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};
use uuid::Uuid;

use super::spool::{Opened, SpoolError};

/// How long the same trouble is told no more.
const QUIET: Duration = Duration::from_secs(10);

/// Counts of the store, read by others while it runs.
#[derive(Debug, Default)]
pub struct Metrics {
    rows_encoded: AtomicU64,
    octets_encoded: AtomicU64,
    encode_nanoseconds: AtomicU64,
    volumes_cut: AtomicU64,
    inserts: AtomicU64,
    insert_nanoseconds: AtomicU64,
    inserts_late: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    held: Held,
    spool_failures: BTreeMap<&'static str, u64>,
    insert_failures: BTreeMap<&'static str, u64>,
    blocks_set_aside: BTreeMap<&'static str, u64>,
    segments_corrupt: u64,
    blocks_corrupt: u64,
    /// Since when the engine does not answer, and what it said last.
    away: Option<(Instant, String)>,
    told: BTreeMap<&'static str, Instant>,
}

/// What waits, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Blocks in memory.
    pub queue_blocks: u64,
    /// Their octets.
    pub queue_octets: u64,
    /// Blocks on disk.
    pub spool_blocks: u64,
    /// Octets on disk.
    pub spool_octets: u64,
    /// Files on disk.
    pub spool_segments: u64,
}

/// Why a block is sent no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The engine refuses it, and has refused it whenever it was sent.
    Refused,
    /// The engine refuses it; but it was sent before without an answer.
    InDoubt,
    /// The engine has no memory for it, time and again.
    Memory,
}

impl Aside {
    /// The name that a metric has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::InDoubt => "in_doubt",
            Self::Memory => "memory",
        }
    }
}

/// A count with its name and, where it has one, a label.
pub type Count = (&'static str, Option<(&'static str, &'static str)>, u64);

impl Metrics {
    /// What the spool held at the start.
    pub fn opened(&self, opened: &Opened) {
        let Opened { blocks, rows, segments_corrupt, rows_corrupt, segments_unreadable } = *opened;
        self.lock().segments_corrupt += segments_corrupt;
        if *opened == Opened::default() {
            return;
        }
        info!(blocks, rows, "the spool holds flows from before, which are stored now");
        if segments_corrupt + segments_unreadable + rows_corrupt > 0 {
            error!(segments_corrupt, segments_unreadable, rows_corrupt, "part of the spool cannot be read back");
        }
    }

    /// Rows were put into a block.
    pub fn encoded(&self, rows: u64, octets: u64, took: Duration) {
        self.rows_encoded.fetch_add(rows, Ordering::Relaxed);
        self.octets_encoded.fetch_add(octets, Ordering::Relaxed);
        self.encode_nanoseconds.fetch_add(nanoseconds(took), Ordering::Relaxed);
    }

    /// So many octets and packets of records were more than can be.
    pub fn volumes_cut(&self, since_start: u64) {
        if self.volumes_cut.swap(since_start, Ordering::Relaxed) < since_start && self.lock().is_news("volumes") {
            warn!(
                values = since_start,
                "records claim more octets or packets than any line carries: they are stored as the most that can be"
            );
        }
    }

    /// The engine has acknowledged a block.
    pub fn inserted(&self, took: Duration) {
        self.inserts.fetch_add(1, Ordering::Relaxed);
        self.insert_nanoseconds.fetch_add(nanoseconds(took), Ordering::Relaxed);
        if let Some((since, _)) = self.lock().away.take() {
            info!(seconds = since.elapsed().as_secs(), "the engine stores flows again");
        }
    }

    /// A block was not taken, and is sent again.
    pub fn insert_failed(&self, name: &'static str, reason: &str) {
        let mut inner = self.lock();
        *inner.insert_failures.entry(name).or_default() += 1;
        if inner.is_news(name) {
            warn!(name, reason, "the engine takes no flows: they wait on disk");
        }
        match &mut inner.away {
            Some((_, last)) => reason.clone_into(last),
            None => inner.away = Some((Instant::now(), reason.to_owned())),
        }
    }

    /// The engine has not answered for longer than it used to.
    pub fn insert_late(&self, waited: Duration) {
        self.inserts_late.fetch_add(1, Ordering::Relaxed);
        if self.lock().is_news("late") {
            warn!(milliseconds = waited.as_millis(), "the engine is slow to answer: flows wait on disk");
        }
    }

    /// A block is not sent again, at least not before the next start.
    pub fn block_set_aside(&self, id: Uuid, records: u64, why: Aside, reason: &str) {
        *self.lock().blocks_set_aside.entry(why.name()).or_default() += 1;
        match why {
            Aside::Refused => {
                error!(block = %id, records, reason, "the engine refuses a block: its flows are lost, and it is kept in the spool's folder refused");
            }
            Aside::InDoubt => {
                error!(block = %id, records, reason, "the engine refuses a block that it may have: it waits in the spool's folder set_aside for the next start");
            }
            Aside::Memory => {
                error!(block = %id, records, reason, "the engine has no memory for a block, and takes others: it waits in the spool's folder set_aside for the next start");
            }
        }
    }

    /// A block cannot be written to disk, read from it or marked there; so many records are lost by that.
    pub fn spool_failed(&self, failure: &SpoolError, records_dropped: u64) {
        let mut inner = self.lock();
        *inner.spool_failures.entry(failure.name()).or_default() += 1;
        // What is lost is told by itself: the same trouble may have been told a moment ago, when it cost nothing yet.
        if !inner.is_news(if records_dropped > 0 { "lost" } else { failure.name() }) {
            return;
        }
        if records_dropped > 0 {
            error!(error = %failure, records_dropped, "flows are lost: the spool takes no more");
        } else {
            warn!(error = %failure, "the spool fails");
        }
    }

    /// The program ends, and neither the engine nor the disk has taken what waited in memory.
    pub fn lost_at_stop(records: u64) {
        error!(records, "flows are lost with the stop: the engine has not said that it has them, and the spool takes no more");
    }

    /// A block cannot be read back.
    pub fn block_corrupt(&self, id: Uuid, records: u64) {
        self.lock().blocks_corrupt += 1;
        error!(block = %id, records, "a block of the spool is not as it was written: its flows are lost");
    }

    /// What waits now.
    pub fn holds(&self, held: Held) {
        self.lock().held = held;
    }

    /// What waits.
    #[must_use]
    pub fn held(&self) -> Held {
        self.lock().held
    }

    /// How long the engine has not answered, and what it said last; `None` while it does.
    #[must_use]
    pub fn away(&self) -> Option<(Duration, String)> {
        self.lock().away.as_ref().map(|(since, reason)| (since.elapsed(), reason.clone()))
    }

    /// Every count with its Prometheus name and a label; those that end in `_total` only grow.
    #[must_use]
    pub fn counts(&self) -> Vec<Count> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let inner = self.lock();
        let held = inner.held;
        let mut counts = vec![
            ("weir_collector_store_rows_encoded_total", None, read(&self.rows_encoded)),
            ("weir_collector_store_octets_encoded_total", None, read(&self.octets_encoded)),
            ("weir_collector_store_encode_nanoseconds_total", None, read(&self.encode_nanoseconds)),
            ("weir_collector_store_volumes_cut_total", None, read(&self.volumes_cut)),
            ("weir_collector_store_inserts_total", None, read(&self.inserts)),
            ("weir_collector_store_insert_nanoseconds_total", None, read(&self.insert_nanoseconds)),
            ("weir_collector_store_inserts_late_total", None, read(&self.inserts_late)),
            ("weir_collector_store_queue_blocks", None, held.queue_blocks),
            ("weir_collector_store_queue_octets", None, held.queue_octets),
            ("weir_collector_store_spool_blocks", None, held.spool_blocks),
            ("weir_collector_store_spool_octets", None, held.spool_octets),
            ("weir_collector_store_spool_segments", None, held.spool_segments),
            ("weir_collector_store_spool_segments_corrupt_total", None, inner.segments_corrupt),
            ("weir_collector_store_spool_blocks_corrupt_total", None, inner.blocks_corrupt),
            ("weir_collector_store_away", None, u64::from(inner.away.is_some())),
        ];
        let by_reason = |name, failures: &BTreeMap<&'static str, u64>| {
            failures.iter().map(|(reason, count)| (name, Some(("reason", *reason)), *count)).collect::<Vec<_>>()
        };
        counts.extend(by_reason("weir_collector_store_insert_failures_total", &inner.insert_failures));
        counts.extend(by_reason("weir_collector_store_spool_failures_total", &inner.spool_failures));
        counts.extend(by_reason("weir_collector_store_blocks_set_aside_total", &inner.blocks_set_aside));
        counts
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether this trouble was not told a moment ago.
    fn is_news(&mut self, name: &'static str) -> bool {
        let is_news = self.told.get(name).is_none_or(|told| told.elapsed() >= QUIET);
        if is_news {
            self.told.insert(name, Instant::now());
        }
        is_news
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
