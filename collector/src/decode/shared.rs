//! Templates shared between shards: one control thread, a bounded queue to it, snapshots from it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use schemas::net::Address;
use schemas::time::Timestamp;

use super::Config;
use super::control::{Control, ControlSet, Outcome};
use super::persist;
use super::state::{Scope, State};
use crate::enrich::interface::Interfaces;

/// Sets that are taken in before what was learned is published.
const SETS_PER_SNAPSHOT_MAX: usize = 256;
/// How often templates are aged, and written down if any is new.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// What the control thread knew at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Which one this is, from 0.
    pub(crate) generation: u64,
    /// What is known of each scope.
    pub(crate) states: HashMap<Scope, Arc<State>>,
    /// For each shard the number of the last set that was taken in.
    pub(crate) processed: Vec<u64>,
}

/// What the control thread has to do.
enum Task {
    Set { shard: usize, number: u64, set: ControlSet },
    Shard { outcomes: Sender<(Address, Outcome)>, number: Sender<usize> },
    Stop,
}

/// The control thread: owns the templates of all shards.
#[derive(Debug)]
pub struct ControlThread {
    tasks: Sender<Task>,
    per_exporter_max: usize,
    published: Arc<Published>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Published {
    snapshot: ArcSwap<Snapshot>,
    /// The snapshot's generation, to be read without taking it.
    generation: AtomicU64,
}

/// A shard's way to the control thread.
#[derive(Debug)]
pub struct SharedTemplates {
    tasks: Sender<Task>,
    outcomes: Receiver<(Address, Outcome)>,
    published: Arc<Published>,
    snapshot: Arc<Snapshot>,
    shard: usize,
    number: u64,
    /// Sets that were handed over and not yet taken in, and how many of them each exporter has.
    outstanding: VecDeque<(u64, Address)>,
    of_exporter: HashMap<Address, usize>,
    per_exporter_max: usize,
}

impl ControlThread {
    /// Starts the thread; templates from before a restart are read from `file`, and written there.
    ///
    /// # Errors
    ///
    /// If the system starts no thread. A file that cannot be read is warned of and replaced: templates come again.
    pub fn start(config: &Config, file: Option<PathBuf>) -> io::Result<Self> {
        Self::start_telling(config, file, None)
    }

    /// The same; what options data say of interfaces is told to `interfaces`.
    ///
    /// # Errors
    ///
    /// As [`ControlThread::start`].
    pub fn start_telling(config: &Config, file: Option<PathBuf>, interfaces: Option<Interfaces>) -> io::Result<Self> {
        let (tasks, queue) = bounded(config.control_queue_sets_max.max(1));
        let published = Arc::new(Published::default());
        let mut work = Work {
            control: Control::new(config).telling(interfaces),
            published: published.clone(),
            shards: Vec::new(),
            processed: Vec::new(),
            file,
            is_new: false,
        };
        work.load();
        let thread = std::thread::Builder::new().name("weir-control".into()).spawn(move || work.run(&queue))?;
        let per_exporter_max = config.control_queue_sets_per_exporter_max.max(1);
        Ok(Self { tasks, per_exporter_max, published, thread: Some(thread) })
    }

    /// The templates for one more shard; `None` if the thread has ended.
    #[must_use]
    pub fn templates(&self) -> Option<super::Templates> {
        let (outcomes, receiver) = bounded(1_024);
        let (number, answer) = bounded(1);
        self.tasks.send(Task::Shard { outcomes, number }).ok()?;
        let shard = answer.recv().ok()?;
        let snapshot = self.published.snapshot.load_full();
        let shared = SharedTemplates {
            tasks: self.tasks.clone(),
            outcomes: receiver,
            published: self.published.clone(),
            snapshot,
            shard,
            number: 0,
            outstanding: VecDeque::new(),
            of_exporter: HashMap::new(),
            per_exporter_max: self.per_exporter_max,
        };
        Some(super::Templates::Shared(shared))
    }

    /// Takes in what was handed over, writes the templates down and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _gone = self.tasks.send(Task::Stop);
            let _panicked = thread.join();
        }
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.end();
    }
}

impl SharedTemplates {
    /// Hands a set over and returns its number; `None` if the queue is full, or what the set's exporter may have of it.
    pub(crate) fn hand_over(&mut self, set: ControlSet) -> Option<u64> {
        let exporter = set.scope.exporter;
        self.settle();
        // One exporter whose options change all the time takes no other's place.
        if self.of_exporter.get(&exporter).is_some_and(|own| *own >= self.per_exporter_max) {
            return None;
        }
        let number = self.number + 1;
        match self.tasks.try_send(Task::Set { shard: self.shard, number, set }) {
            Ok(()) => {
                self.number = number;
                self.outstanding.push_back((number, exporter));
                *self.of_exporter.entry(exporter).or_default() += 1;
                Some(number)
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }

    /// Forgets the sets that were taken in.
    fn settle(&mut self) {
        self.snapshot();
        while let Some(&(number, exporter)) = self.outstanding.front()
            && self.is_processed(number)
        {
            self.outstanding.pop_front();
            if let Some(own) = self.of_exporter.get_mut(&exporter) {
                *own = own.saturating_sub(1);
                if *own == 0 {
                    self.of_exporter.remove(&exporter);
                }
            }
        }
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&mut self) -> &Snapshot {
        if self.published.generation.load(Ordering::Acquire) != self.snapshot.generation {
            self.snapshot = self.published.snapshot.load_full();
        }
        &self.snapshot
    }

    /// Whether the set with this number was taken in when the snapshot was made.
    pub(crate) fn is_processed(&self, number: u64) -> bool {
        self.snapshot.processed.get(self.shard).is_some_and(|&processed| processed >= number)
    }

    /// What has become of sets that were handed over.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Address, Outcome)> {
        self.outcomes.try_iter()
    }
}

/// The thread's own.
struct Work {
    control: Control,
    published: Arc<Published>,
    shards: Vec<Sender<(Address, Outcome)>>,
    processed: Vec<u64>,
    file: Option<PathBuf>,
    is_new: bool,
}

impl Work {
    fn run(mut self, queue: &Receiver<Task>) {
        let mut housekeeping = std::time::Instant::now() + HOUSEKEEPING;
        loop {
            let mut stop = false;
            match queue.recv_deadline(housekeeping) {
                Ok(task) => {
                    stop = self.take(task);
                    let mut taken = 1;
                    while let Some(task) = (taken < SETS_PER_SNAPSHOT_MAX && !stop).then(|| queue.try_recv().ok()).flatten() {
                        stop = self.take(task);
                        taken += 1;
                    }
                    self.publish();
                }
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => stop = true,
            }
            if stop {
                self.save();
                return;
            }
            if std::time::Instant::now() >= housekeeping {
                housekeeping = std::time::Instant::now() + HOUSEKEEPING;
                if self.control.expire(Timestamp::from(SystemTime::now())) {
                    self.is_new = true;
                    self.publish();
                }
                self.save();
            }
        }
    }

    /// Does a task, and returns whether it was the last.
    fn take(&mut self, task: Task) -> bool {
        match task {
            Task::Set { shard, number, set } => {
                let outcome = self.control.process(&set);
                self.is_new = true;
                if let Some(processed) = self.processed.get_mut(shard) {
                    *processed = number;
                }
                if outcome != Outcome::default()
                    && let Some(outcomes) = self.shards.get(shard)
                {
                    // A shard that does not listen loses counts, and holds nobody up.
                    let _full = outcomes.try_send((set.scope.exporter, outcome));
                }
            }
            Task::Shard { outcomes, number } => {
                self.shards.push(outcomes);
                self.processed.push(0);
                let _gone = number.send(self.shards.len() - 1);
            }
            Task::Stop => return true,
        }
        false
    }

    fn publish(&self) {
        let generation = self.published.generation.load(Ordering::Relaxed) + 1;
        let snapshot = Snapshot { generation, states: self.control.states(), processed: self.processed.clone() };
        self.published.snapshot.store(Arc::new(snapshot));
        self.published.generation.store(generation, Ordering::Release);
    }

    fn load(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        match persist::load(&mut self.control, file) {
            Ok(templates) => tracing::info!(templates, file = %file.display(), "templates from before the restart"),
            Err(persist::PersistError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "templates from before the restart are lost, exporters will send them again");
            }
        }
        self.publish();
    }

    fn save(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.is_new) else {
            return;
        };
        match persist::save(&self.control, file) {
            Ok(()) => self.is_new = false,
            Err(error) => tracing::warn!(%error, file = %file.display(), "templates cannot be written down"),
        }
    }
}

#[cfg(test)]
#[path = "shared/tests.rs"]
mod tests;
