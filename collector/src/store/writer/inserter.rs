//! The thread that inserts: block by block, in order; it waits for an engine that is away, and for no block that the engine cannot take.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::LateInsert;
use crate::store::insert::{Failure, Insert, insert};
use crate::store::link::{Link, OwnWay};
use crate::store::metrics::{Aside, Metrics};
use crate::store::queue::{Block, Next, Past, Queue};

/// The pauses after a failure, each twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// After so many refusals in a row it is tried whether the engine takes other blocks.
const REFUSALS_MAX: u32 = 3;

/// So many others the engine must have taken before a block that it has no memory for is set aside: for one there may be enough by chance.
const TAKEN_MIN: u32 = 3;

/// How long is waited for the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// An answer that takes longer than this, and twice as long as the last, is late: what waits in memory is brought to safety.
    pub(super) late: Duration,
    /// But any is late that takes longer than this.
    pub(super) late_max: Duration,
    /// How long an engine may have no memory for a block until it is tried whether it takes others.
    pub(super) memory: Duration,
    /// How long a stop waits for the engine to take what is in memory; what it has not taken by then goes to disk.
    pub(super) stop: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            late: Duration::from_secs(2),
            late_max: Duration::from_secs(10),
            memory: Duration::from_secs(180),
            stop: Duration::from_secs(5),
        }
    }
}

/// Inserts what waits in the queue.
pub(super) struct Inserter {
    queue: Arc<Queue>,
    way: OwnWay,
    statement: LateInsert,
    metrics: Arc<Metrics>,
    closes: watch::Receiver<bool>,
    patience: Patience,
    /// How long the last answer took.
    took: Duration,
    stuck: Option<Stuck>,
}

/// The oldest block, which the engine does not take though it answers.
struct Stuck {
    sequence: u64,
    is_refused: bool,
    since: Instant,
    tries: u32,
    /// From here on others are tried in its place: is it the block, or the moment?
    next: u64,
    /// Others that the engine has taken since, behind each of which this one is tried once more.
    taken: u32,
    is_its_turn: bool,
}

impl Stuck {
    fn new(sequence: u64, is_refused: bool) -> Self {
        Self { sequence, is_refused, since: Instant::now(), tries: 1, next: sequence + 1, taken: 0, is_its_turn: false }
    }
}

impl Inserter {
    /// One that inserts what `queue` holds until `closes` turns true, and then what can still be inserted.
    pub(super) fn new(
        queue: Arc<Queue>,
        link: Link,
        statement: LateInsert,
        metrics: Arc<Metrics>,
        closes: watch::Receiver<bool>,
        patience: Patience,
    ) -> Self {
        Self { queue, way: OwnWay::new(link), statement, metrics, closes, patience, took: Duration::ZERO, stuck: None }
    }

    /// Inserts block by block, in order, until the store closes and nothing more can be done.
    pub(super) async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        while !(self.is_closing() && self.queue.may_close()) {
            let first = self.first();
            let mut block = match self.queue.next_from(first) {
                Next::Insert(block) => block,
                Next::Nothing if first > 0 => {
                    // It takes no other either.
                    self.stuck = None;
                    continue;
                }
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
            let is_again = match self.insert(&mut block).await {
                Ok(()) => self.stored(&block),
                Err(Failure::Refused(reason)) => self.not_taken(&block, "refused", &reason),
                Err(Failure::Later { name: "memory", reason }) => self.not_taken(&block, "memory", &reason),
                Err(Failure::Later { name, reason }) => self.failed(&block, name, &reason),
            };
            if is_again {
                self.rest(pause).await;
            }
            pause = if is_again { (pause * 2).min(PAUSE_MAX) } else { PAUSE_MIN };
        }
        self.queue.close();
    }

    /// The least sequence of the block to be sent next.
    fn first(&self) -> u64 {
        let is_ripe = |stuck: &&Stuck| {
            let is_tried = if stuck.is_refused { stuck.tries >= REFUSALS_MAX } else { stuck.since.elapsed() >= self.patience.memory };
            is_tried && !stuck.is_its_turn
        };
        self.stuck.as_ref().filter(is_ripe).map_or(0, |stuck| stuck.next)
    }

    /// Whether the block is to be sent again: never.
    fn stored(&mut self, block: &Block) -> bool {
        self.queue.acknowledged(block);
        match &mut self.stuck {
            // What was wrong may have been mended since.
            Some(stuck) if stuck.sequence < block.sequence => (stuck.taken, stuck.is_its_turn) = (stuck.taken + 1, true),
            _ => self.stuck = None,
        }
        false
    }

    /// Whether the block is to be sent again.
    fn not_taken(&mut self, block: &Block, name: &'static str, reason: &str) -> bool {
        self.metrics.insert_failed(name, reason);
        let is_refused = name == "refused";
        match &mut self.stuck {
            Some(stuck) if stuck.sequence < block.sequence => stuck.next = block.sequence + 1,
            Some(stuck) if stuck.is_its_turn && stuck.taken < TAKEN_MIN && !is_refused => stuck.is_its_turn = false,
            Some(stuck) if stuck.is_its_turn => {
                self.stuck = None;
                let why = match (is_refused, block.past.is_in_doubt) {
                    (false, _) => Aside::Memory,
                    (true, true) => Aside::InDoubt,
                    (true, false) => Aside::Refused,
                };
                self.queue.set_aside(block, why, reason);
                return false;
            }
            Some(stuck) if stuck.is_refused == is_refused => stuck.tries += 1,
            _ => self.stuck = Some(Stuck::new(block.sequence, is_refused)),
        }
        self.queue.retreat();
        block.charges.retried();
        true
    }

    /// Whether the block is to be sent again: always.
    fn failed(&mut self, block: &Block, name: &'static str, reason: &str) -> bool {
        self.metrics.insert_failed(name, reason);
        self.stuck = None;
        self.queue.retreat();
        block.charges.retried();
        true
    }

    async fn insert(&mut self, block: &mut Block) -> Result<(), Failure> {
        let client = self.way.client().map_err(|away| Failure::unsent(&away))?;
        let Some(statement) = self.statement.get() else {
            return Err(Failure::unsent(&"the engine has not said how blocks are inserted"));
        };
        if statement.shards > 0 && block.past.shards == 0 {
            // Before it is sent: its shard must not follow from another number of shards after a crash.
            self.queue.tried(block, Past { shards: statement.shards, ..block.past });
        }
        let began = Instant::now();
        let outcome = self.answer(&client, statement, block).await;
        match &outcome {
            Ok(()) => {
                self.took = began.elapsed();
                self.metrics.inserted(self.took);
            }
            Err(Failure::Later { .. }) if !block.past.is_in_doubt => {
                self.queue.tried(block, Past { is_in_doubt: true, ..block.past });
            }
            Err(_) => {}
        }
        outcome
    }

    /// Sends a block and waits for the answer; when that is late, what waits in memory goes to disk meanwhile, this block too.
    async fn answer(&self, client: &clickhouse::Client, statement: &Insert, block: &Block) -> Result<(), Failure> {
        let mut closes = self.closes.clone();
        let stop = async {
            drop(closes.wait_for(|closes| *closes).await);
            tokio::time::sleep(self.patience.stop).await;
        };
        let late = (self.took * 2).clamp(self.patience.late, self.patience.late_max);
        let (mut answer, mut stop) = (pin!(insert(client, statement, block)), pin!(stop));
        tokio::select! {
            done = &mut answer => return done,
            () = &mut stop => return Err(Failure::stop()),
            () = tokio::time::sleep(late) => {}
        }
        self.metrics.insert_late(late);
        self.queue.retreat();
        tokio::select! {
            done = answer => done,
            () = stop => Err(Failure::stop()),
        }
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
