//! Blocks on their way to the engine: in memory while it answers, on disk while it does not, and always the oldest first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::account::{Charges, Fate};
use super::config::Config;
use super::metrics::{Aside, Held, Metrics};
use super::spool::{Lost, Spool, SpoolError, record};

/// A disk that cannot be read is tried so often before the block is given up.
const READ_TRIES: u32 = 5;

/// A block as the engine reads it.
#[derive(Clone, Debug)]
pub struct Block {
    /// By this the engine knows a block that it has already.
    pub id: Uuid,
    /// Its place among all blocks.
    pub sequence: u64,
    /// Its rows.
    pub octets: Bytes,
    /// Whose they are.
    pub charges: Charges,
    /// What was tried with it.
    pub past: Past,
}

/// What was tried with a block so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The shards of the cluster when it was first sent, by which its own follows from its id; 0 before that, and without a cluster.
    pub shards: u32,
    /// Whether the engine may have it: it was sent, and nothing came back that would say.
    pub is_in_doubt: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// This block is to be inserted.
    Insert(Block),
    /// Nothing waits.
    Nothing,
    /// The disk did not give the block: it may in a while.
    Later,
}

/// The queue, shared between who makes blocks and who inserts them; it is for one thread each.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    /// Told when a block has come.
    pub arrived: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Inner {
    memory: VecDeque<Block>,
    memory_octets: usize,
    memory_octets_max: usize,
    spool: Spool,
    sequence: u64,
    is_away: bool,
    read_failures: u32,
}

impl Queue {
    /// A queue in front of `spool`.
    #[must_use]
    pub fn new(config: &Config, spool: Spool, metrics: Arc<Metrics>) -> Self {
        let sequence = spool.last().map_or(0, |last| last + 1);
        let inner = Inner {
            memory: VecDeque::new(),
            memory_octets: 0,
            memory_octets_max: config.queue_octets_max,
            spool,
            sequence,
            is_away: false,
            read_failures: 0,
        };
        metrics.holds(inner.held());
        Self { inner: Mutex::new(inner), arrived: Notify::new(), metrics }
    }

    /// Takes a block: to memory while the engine keeps up, else to disk, else to what is left of memory.
    pub fn push(&self, octets: Bytes, charges: Charges) {
        let mut inner = self.lock();
        let block = Block { id: Uuid::new_v4(), sequence: inner.sequence, octets, charges, past: Past::default() };
        inner.sequence += 1;
        let keeps_up = !inner.is_away && inner.spool.blocks() == 0 && inner.has_room(&block);
        if keeps_up {
            inner.remember(block);
        } else {
            drop(inner);
            let outcome = self.to_disk(&block);
            inner = self.lock();
            if let Err(error) = outcome {
                if inner.has_room(&block) {
                    self.metrics.spool_failed(&error, 0);
                    inner.remember(block);
                } else {
                    self.metrics.spool_failed(&error, block.charges.records());
                    block.charges.turn(Fate::Waiting, Fate::DroppedBySpool);
                }
            }
        }
        self.told(&inner);
        drop(inner);
        self.arrived.notify_one();
    }

    /// The oldest block of those from `sequence` on.
    #[must_use]
    pub fn next_from(&self, sequence: u64) -> Next {
        let mut inner = self.lock();
        loop {
            let memory = inner.memory.iter().find(|block| block.sequence >= sequence);
            let spooled = match (memory, inner.spool.first_from(sequence)) {
                (Some(block), spooled) if spooled.is_none_or(|spooled| block.sequence < spooled) => return Next::Insert(block.clone()),
                (_, Some(spooled)) => spooled,
                (_, None) => return Next::Nothing,
            };
            let Some(place) = inner.spool.place(spooled) else { return Next::Nothing };
            // It is removed by who asks here, and by nobody else: who makes blocks need not wait for the disk.
            drop(inner);
            let found = place.read();
            inner = self.lock();
            let lost = match found {
                Ok(found) => match inner.spool.resolve(spooled, found) {
                    Some(Ok(block)) => {
                        inner.read_failures = 0;
                        return Next::Insert(block);
                    }
                    lost => lost.and_then(Result::err),
                },
                Err(error) if inner.read_failures < READ_TRIES => {
                    inner.read_failures += 1;
                    self.metrics.spool_failed(&error.into(), 0);
                    return Next::Later;
                }
                Err(_) => inner.spool.give_up(spooled),
            };
            inner.read_failures = 0;
            if let Some(Lost { id, charges }) = lost {
                self.metrics.block_corrupt(id, charges.records());
                charges.turn(Fate::Spooled, Fate::DroppedCorrupt);
            }
            self.remove(&mut inner, spooled);
        }
    }

    /// Remembers what was tried with a block.
    pub fn tried(&self, block: &mut Block, past: Past) {
        block.past = past;
        let mut inner = self.lock();
        if let Some(known) = inner.memory.iter_mut().find(|known| known.sequence == block.sequence) {
            known.past = past;
        } else if let Err(error) = inner.spool.tried(block.sequence, past) {
            self.metrics.spool_failed(&error, 0);
        }
    }

    /// The engine has a block.
    pub fn acknowledged(&self, block: &Block) {
        let mut inner = self.lock();
        inner.is_away = false;
        self.end(&mut inner, block, Fate::Stored);
    }

    /// The engine takes none of a block, now or ever: those behind it shall not wait for that.
    ///
    /// One that it may have all the same, or may take another time, stays on disk for the next start.
    pub fn set_aside(&self, block: &Block, why: Aside, reason: &str) {
        let mut inner = self.lock();
        let outcome = match why {
            Aside::Refused => {
                inner.spool.keep_refused(block);
                Ok(Fate::DroppedByEngine)
            }
            Aside::InDoubt | Aside::Memory => inner.spool.set_aside(block).map(|()| Fate::SetAside),
        };
        let records = block.charges.records();
        self.metrics.block_set_aside(block.id, records, why, reason);
        let fate = outcome.unwrap_or_else(|error| {
            self.metrics.spool_failed(&error, records);
            Fate::DroppedByEngine
        });
        self.end(&mut inner, block, fate);
    }

    /// The engine does not answer: what waits in memory goes to disk, where a crash of ours does not reach it.
    pub fn retreat(&self) {
        self.lock().is_away = true;
        loop {
            let Some(block) = self.lock().memory.front().cloned() else { break };
            if let Err(error) = self.to_disk(&block) {
                self.metrics.spool_failed(&error, 0);
                break;
            }
        }
        self.told(&self.lock());
    }

    /// The end: what could not go to disk is lost.
    pub fn close(&self) {
        self.retreat();
        let mut inner = self.lock();
        let lost: u64 = inner.memory.iter().map(|block| block.charges.records()).sum();
        if lost > 0 {
            Metrics::lost_at_stop(lost);
        }
        while let Some(block) = inner.memory.pop_front() {
            block.charges.turn(Fate::Waiting, Fate::DroppedBySpool);
        }
        inner.memory_octets = 0;
        if let Err(error) = inner.spool.sync() {
            self.metrics.spool_failed(&error, 0);
        }
        self.told(&inner);
    }

    /// What is to be done now and then.
    pub fn tick(&self) {
        let mut inner = self.lock();
        if let Err(error) = inner.spool.sync_if_due() {
            self.metrics.spool_failed(&error, 0);
        }
        inner.spool.sweep();
        self.told(&inner);
    }

    /// Whether a stop need not wait: nothing is in memory, or it would have to go behind what is on disk.
    #[must_use]
    pub fn may_close(&self) -> bool {
        let inner = self.lock();
        inner.memory.is_empty() || inner.is_away || inner.spool.blocks() > 0
    }

    /// Writes a block to disk, and takes it out of memory if it was there.
    fn to_disk(&self, block: &Block) -> Result<(), SpoolError> {
        self.lock().spool.admits()?;
        // To compress takes as long as the disk, and nobody waits for it.
        let record = record::of(block)?;
        let mut inner = self.lock();
        inner.spool.append(block, record)?;
        block.charges.turn(Fate::Waiting, Fate::Spooled);
        inner.take_from_memory(block.sequence);
        Ok(())
    }

    /// Takes a block away from wherever it waits.
    fn end(&self, inner: &mut Inner, block: &Block, fate: Fate) {
        if inner.take_from_memory(block.sequence) {
            block.charges.turn(Fate::Waiting, fate);
        } else if inner.spool.holds(block.sequence) {
            block.charges.turn(Fate::Spooled, fate);
            self.remove(inner, block.sequence);
        }
        self.told(inner);
    }

    fn remove(&self, inner: &mut Inner, sequence: u64) {
        if let Err(error) = inner.spool.remove(sequence) {
            self.metrics.spool_failed(&error, 0);
        }
    }

    fn told(&self, inner: &Inner) {
        self.metrics.holds(inner.held());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A block that is longer than the bound alone passes when nothing else waits.
    fn has_room(&self, block: &Block) -> bool {
        self.memory.is_empty() || self.memory_octets + block.octets.len() <= self.memory_octets_max
    }

    fn remember(&mut self, block: Block) {
        self.memory_octets += block.octets.len();
        self.memory.push_back(block);
    }

    /// Whether it was there; it is the first, but for one that overtakes another.
    fn take_from_memory(&mut self, sequence: u64) -> bool {
        let place = self.memory.iter().position(|block| block.sequence == sequence);
        let Some(block) = place.and_then(|place| self.memory.remove(place)) else {
            return false;
        };
        self.memory_octets -= block.octets.len();
        true
    }

    fn held(&self) -> Held {
        Held {
            queue_blocks: self.memory.len() as u64,
            queue_octets: self.memory_octets as u64,
            spool_blocks: self.spool.blocks(),
            spool_octets: self.spool.octets(),
            spool_segments: self.spool.segments(),
        }
    }
}

#[cfg(test)]
mod tests;
