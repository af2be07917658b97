//! Blocks on their way to the engine: in memory while it answers, on disk while it does not, and always the oldest first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::account::{Charges, Fate};
use super::config::Config;
use super::metrics::{Held, Metrics};
use super::spool::{Spool, SpoolError};

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
    /// Where it waits.
    pub fate: Fate,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// The oldest block is to be inserted.
    Insert(Block),
    /// Nothing waits.
    Nothing,
    /// The disk did not give the oldest block: it may in a while.
    Later,
}

/// The queue, shared between who makes blocks and who inserts them.
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
        let block = Block { id: Uuid::new_v4(), sequence: inner.sequence, octets, charges, fate: Fate::Waiting };
        inner.sequence += 1;
        let keeps_up = !inner.is_away && inner.spool.blocks() == 0 && inner.has_room(&block);
        if keeps_up {
            inner.remember(block);
        } else if let Err(error) = inner.spool(&block) {
            if inner.has_room(&block) {
                self.metrics.spool_failed(&error, 0);
                inner.remember(block);
            } else {
                self.metrics.spool_failed(&error, block.charges.records());
                block.charges.turn(Fate::Waiting, Fate::DroppedBySpool);
            }
        }
        self.told(&inner);
        self.arrived.notify_one();
    }

    /// The oldest block.
    #[must_use]
    pub fn next(&self) -> Next {
        let mut inner = self.lock();
        loop {
            let (memory, spool) = (inner.memory.front().map(|block| block.sequence), inner.spool.first());
            let sequence = match (memory, spool) {
                (Some(memory), Some(spool)) if spool < memory => spool,
                (Some(_), _) => return inner.memory.front().cloned().map_or(Next::Nothing, Next::Insert),
                (None, Some(spool)) => spool,
                (None, None) => return Next::Nothing,
            };
            let Some(entry) = inner.spool.entry(sequence).cloned() else {
                return Next::Nothing;
            };
            match inner.spool.read(&entry) {
                Ok(Some(octets)) => {
                    inner.read_failures = 0;
                    let (id, charges) = (entry.id(), entry.charges);
                    return Next::Insert(Block { id, sequence, octets: octets.into(), charges, fate: Fate::Spooled });
                }
                Err(error) if inner.read_failures < READ_TRIES => {
                    inner.read_failures += 1;
                    self.metrics.spool_failed(&error, 0);
                    return Next::Later;
                }
                Ok(None) | Err(_) => {
                    inner.read_failures = 0;
                    self.metrics.block_corrupt(entry.id(), entry.charges.records());
                    entry.charges.turn(Fate::Spooled, Fate::DroppedCorrupt);
                    self.remove(&mut inner, sequence);
                }
            }
        }
    }

    /// The engine has a block.
    pub fn acknowledged(&self, block: &Block) {
        let mut inner = self.lock();
        inner.is_away = false;
        block.charges.turn(block.fate, Fate::Stored);
        self.forget(&mut inner, block);
    }

    /// The engine wants none of a block: it is set aside.
    pub fn refused(&self, block: &Block) {
        let mut inner = self.lock();
        block.charges.turn(block.fate, Fate::DroppedByEngine);
        inner.spool.keep_refused(block.id, &block.octets);
        self.forget(&mut inner, block);
    }

    /// The engine does not answer: what waits in memory goes to disk, where a crash of ours does not reach it.
    pub fn retreat(&self) {
        let mut inner = self.lock();
        inner.is_away = true;
        while let Some(block) = inner.memory.front().cloned() {
            if let Err(error) = inner.spool(&block) {
                self.metrics.spool_failed(&error, 0);
                break;
            }
            inner.memory.pop_front();
            inner.memory_octets -= block.octets.len();
        }
        self.told(&inner);
    }

    /// The end: what could not go to disk is lost.
    pub fn close(&self) {
        self.retreat();
        let mut inner = self.lock();
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

    fn forget(&self, inner: &mut Inner, block: &Block) {
        if block.fate == Fate::Waiting {
            // It was the first, and nobody else takes any away.
            inner.memory.pop_front();
            inner.memory_octets -= block.octets.len();
        } else {
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

    fn spool(&mut self, block: &Block) -> Result<(), SpoolError> {
        self.spool.append(block.sequence, block.id, &block.charges, &block.octets)?;
        block.charges.turn(Fate::Waiting, Fate::Spooled);
        Ok(())
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
