//! Tells somebody: the events of incidents, in order, through a bounded queue to a thread that may wait.
//!
//! An update that still waits is replaced by the next one of its incident, so that a slow receiver gets the latest news and not the
//! whole history; starts and ends are never replaced.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use schemas::incident::{Family, Incident, Severity};
use schemas::time::Timestamp;

use crate::config;

pub mod public;
pub mod webhook;

use webhook::{Outcome, Webhook};

/// How long a stop waits for what is queued.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Pauses between tries grow no further than this.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What happened to an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was opened.
    Start,
    /// It became worse, changed its kind, was answered, or is still going on.
    Update,
    /// It is over.
    End,
    /// Nothing: somebody tries the way.
    Test,
}

impl Kind {
    /// The word on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "attack_start",
            Self::Update => "attack_update",
            Self::End => "attack_end",
            Self::Test => "test",
        }
    }
}

/// One event on its way.
#[derive(Clone, Debug)]
struct Message {
    kind: Kind,
    incident: Uuid,
    timestamp: Timestamp,
    body: String,
}

/// What is counted, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events delivered.
    pub delivered: AtomicU64,
    /// Events given up: refused for good, or after the last try.
    pub failed: AtomicU64,
    /// Events for which there was no room.
    pub dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Message>,
    stopping: Option<Instant>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    counts: Counts,
    config: config::Webhook,
}

/// What decides whether an update is worth telling.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    at: Timestamp,
    severity: Severity,
    family: Family,
    mitigated: bool,
    rules: usize,
}

/// The handle by which events are told; it stops when it is dropped.
#[derive(Debug)]
pub struct Notifier {
    shared: Arc<Shared>,
    told: Mutex<HashMap<Uuid, Told>>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Starts the thread; `None` if nobody is to be told.
    ///
    /// # Errors
    ///
    /// What the system says to a new thread.
    pub fn start(config: &config::Webhook) -> std::io::Result<Option<Self>> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let shared = Arc::new(Shared { queue: Mutex::default(), news: Condvar::new(), counts: Counts::default(), config: config.clone() });
        let worker = Arc::clone(&shared);
        let webhook = Webhook::new(config);
        let thread = std::thread::Builder::new().name("weir-notify".to_owned()).spawn(move || worker.deliver(&webhook))?;
        Ok(Some(Self { shared, told: Mutex::default(), thread: Some(thread) }))
    }

    /// Tells what happened to an incident; of updates those that say something new, or one in `update_seconds`.
    pub fn tell(&self, kind: Kind, incident: &Incident, now: Timestamp) {
        let news = Told {
            at: now,
            severity: incident.severity,
            family: incident.family,
            mitigated: incident.mitigated_at.is_some(),
            rules: incident.rules.len(),
        };
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match (kind, told.get(&incident.uuid)) {
                (Kind::Update, Some(last)) => {
                    let due = now.since(last.at) >= self.shared.config.update_seconds.saturating_mul(1_000);
                    if !due && (Told { at: now, ..*last }) == news {
                        return;
                    }
                    told.insert(incident.uuid, news);
                }
                // News of an incident that has ended is not told.
                (Kind::Update, None) => return,
                (Kind::End, _) => drop(told.remove(&incident.uuid)),
                (Kind::Start | Kind::Test, _) => drop(told.insert(incident.uuid, news)),
            }
        }
        self.shared.push(message(kind, Some(incident), now));
    }

    /// Goes on with incidents that were open when the program ended, without telling them anew.
    pub fn restore<'a>(&self, incidents: impl IntoIterator<Item = &'a Incident>, now: Timestamp) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for incident in incidents {
            let mitigated = incident.mitigated_at.is_some();
            let news = Told { at: now, severity: incident.severity, family: incident.family, mitigated, rules: incident.rules.len() };
            told.insert(incident.uuid, news);
        }
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Events that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }
}

/// Tries to deliver what waits for a few seconds, then stops.
impl Drop for Notifier {
    fn drop(&mut self) {
        self.shared.lock().stopping = Some(Instant::now() + STOP_WAIT);
        self.shared.news.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Sends one `test` event now and says what came of it.
///
/// # Errors
///
/// What the receiver or the way to it said.
pub fn test(config: &config::Webhook, now: Timestamp) -> Result<(), String> {
    let message = message(Kind::Test, None, now);
    match Webhook::new(config).send(message.kind, &message.timestamp.to_string(), &message.body) {
        Outcome::Delivered => Ok(()),
        Outcome::Later { reason, .. } | Outcome::Never { reason } => Err(reason),
    }
}

fn message(kind: Kind, incident: Option<&Incident>, now: Timestamp) -> Message {
    let node = incident.and_then(|incident| incident.node.clone());
    let body: Value = json!({ "event_type": kind.name(), "timestamp": now, "incident": incident, "node": node });
    Message { kind, incident: incident.map(|incident| incident.uuid).unwrap_or_default(), timestamp: now, body: body.to_string() }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, message: Message) {
        let mut queue = self.lock();
        let same = |other: &Message| (other.kind, other.incident) == (Kind::Update, message.incident);
        if message.kind == Kind::Update
            && let Some(waiting) = queue.waiting.iter_mut().find(|other| same(other))
        {
            *waiting = message;
            return;
        }
        if queue.waiting.len() >= self.config.queue_max {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            // An update says what a later one will say as well: it makes room for a start or an end.
            let update = queue.waiting.iter().position(|other| other.kind == Kind::Update);
            match update.filter(|_| message.kind != Kind::Update) {
                Some(index) => drop(queue.waiting.remove(index)),
                None => {
                    tracing::error!(event = message.kind.name(), incident = %message.incident, "no room for another notification");
                    return;
                }
            }
        }
        queue.waiting.push_back(message);
        drop(queue);
        self.news.notify_all();
    }

    /// The thread: one event after the other, each until it is delivered or given up.
    fn deliver(&self, webhook: &Webhook) {
        while let Some(message) = self.next() {
            let mut attempt = 1;
            loop {
                let (reason, after) = match webhook.send(message.kind, &message.timestamp.to_string(), &message.body) {
                    Outcome::Delivered => {
                        self.counts.delivered.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Outcome::Later { reason, after } => (reason, after),
                    Outcome::Never { reason } => {
                        self.give_up(&message, &reason);
                        break;
                    }
                };
                if attempt >= self.config.attempts_max {
                    self.give_up(&message, &reason);
                    break;
                }
                let pause = Duration::from_millis(self.config.retry_milliseconds).saturating_mul(1 << (attempt - 1).min(16));
                let pause = after.unwrap_or(pause).min(PAUSE_MAX.max(after.unwrap_or_default()));
                tracing::warn!(event = message.kind.name(), incident = %message.incident, reason, ?pause, "a notification is tried again");
                if !self.pause(pause) {
                    self.give_up(&message, &reason);
                    break;
                }
                attempt += 1;
            }
        }
    }

    fn give_up(&self, message: &Message, reason: &str) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        tracing::error!(event = message.kind.name(), incident = %message.incident, reason, "a notification was given up");
    }

    /// The next event; `None` when it is time to stop.
    fn next(&self) -> Option<Message> {
        let mut queue = self.lock();
        loop {
            if queue.stopping.is_some_and(|end| queue.waiting.is_empty() || Instant::now() >= end) {
                return None;
            }
            if let Some(message) = queue.waiting.pop_front() {
                return Some(message);
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits; whether another try makes sense, which it does not when the program stops.
    fn pause(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        let mut queue = self.lock();
        while queue.stopping.is_none() {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return true;
            };
            queue = self.news.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}
