//! Does what the mitigator says: saves rules, then asks the adapters, each by a task of its own, and brings their answers back.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use schemas::net::{Prefix, PrefixSet};
use schemas::rule::Rule;
use schemas::time::Timestamp;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::adapters::{Adapter, AdapterError};
use super::guard::Refusal;
use super::plan::Intent;
use super::{Command, Effect, Mitigator, Outcome};
use crate::analyst::Event;
use crate::config;
use crate::metrics::Metrics;

/// Incident events and requests that wait for the driver.
const REQUESTS_MAX: usize = 4_096;
/// Commands that wait for one adapter.
const COMMANDS_MAX: usize = 1_024;

/// Where rules are kept; called in order, one call at a time.
pub trait Store: Send + 'static {
    /// Keeps the rules as they are now, all or none, before anything is announced. The place to tell others of them, too.
    fn save(&mut self, rules: &[Rule]) -> impl Future<Output = Result<(), String>> + Send;
}

/// What the driver is asked by the API, and told by the analysts.
#[derive(Debug)]
enum Request {
    Incident(Box<Event>),
    Announce(Box<Intent>, oneshot::Sender<Result<Rule, Refusal>>),
    Withdraw(Uuid, oneshot::Sender<bool>),
    Freeze(bool, oneshot::Sender<()>),
    Allowlist(Vec<Prefix>, oneshot::Sender<()>),
    DryRun(bool, oneshot::Sender<()>),
    Rules(oneshot::Sender<Vec<Rule>>),
}

/// What the driver starts with, out of the state.
#[derive(Debug, Default)]
pub struct Start {
    /// Rules that were live.
    pub rules: Vec<Rule>,
    /// Incidents that are open.
    pub active: BTreeSet<Uuid>,
    /// Whether the kill switch is on.
    pub frozen: bool,
    /// The allowlist that is set at run time.
    pub allowlist: Vec<Prefix>,
}

/// The driver has ended.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the mitigation driver has ended")]
pub struct Ended;

/// The way to the driver; cheap to clone. It ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Request>);

impl Handle {
    /// Tells of an incident, from a thread outside the runtime. An update that finds the queue full is dropped: the next one says the same.
    ///
    /// # Errors
    ///
    /// [`Ended`].
    pub fn incident(&self, event: Event) -> Result<(), Ended> {
        let is_update = matches!(event, Event::Updated(_));
        match self.0.try_send(Request::Incident(Box::new(event))) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) if is_update => Ok(()),
            Err(mpsc::error::TrySendError::Full(request)) => self.0.blocking_send(request).map_err(|_| Ended),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Ended),
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// Announces a rule that a person wants.
    ///
    /// # Errors
    ///
    /// [`Ended`]; within, the guard's [`Refusal`].
    pub async fn announce(&self, intent: Intent) -> Result<Result<Rule, Refusal>, Ended> {
        self.ask(|reply| Request::Announce(Box::new(intent), reply)).await
    }

    /// Withdraws a rule; `false` if there is no such rule.
    ///
    /// # Errors
    ///
    /// [`Ended`].
    pub async fn withdraw(&self, uuid: Uuid) -> Result<bool, Ended> {
        self.ask(|reply| Request::Withdraw(uuid, reply)).await
    }

    /// Turns the kill switch.
    ///
    /// # Errors
    ///
    /// [`Ended`].
    pub async fn freeze(&self, frozen: bool) -> Result<(), Ended> {
        self.ask(|reply| Request::Freeze(frozen, reply)).await
    }

    /// Replaces the allowlist that is set at run time.
    ///
    /// # Errors
    ///
    /// [`Ended`].
    pub async fn set_allowlist(&self, allowlist: Vec<Prefix>) -> Result<(), Ended> {
        self.ask(|reply| Request::Allowlist(allowlist, reply)).await
    }

    /// Turns the dry run of automatic rules.
    ///
    /// # Errors
    ///
    /// [`Ended`].
    pub async fn set_dry_run(&self, dry_run: bool) -> Result<(), Ended> {
        self.ask(|reply| Request::DryRun(dry_run, reply)).await
    }

    /// The rules that are held now.
    ///
    /// # Errors
    ///
    /// [`Ended`].
    pub async fn rules(&self) -> Result<Vec<Rule>, Ended> {
        self.ask(Request::Rules).await
    }
}

/// Starts the driver and a task for each adapter of the configuration, in the current tokio runtime.
///
/// # Errors
///
/// [`AdapterError::Setting`] if an adapter's settings make no sense.
pub fn spawn<S: Store>(
    config: &config::Mitigation,
    networks: PrefixSet,
    start: Start,
    store: S,
    metrics: Metrics,
) -> Result<(Handle, tokio::task::JoinHandle<()>), AdapterError> {
    let mut adapters: BTreeMap<String, Box<dyn Adapter>> = BTreeMap::new();
    for adapter in &config.adapters {
        adapters.insert(adapter.id().to_owned(), super::adapters::make(adapter)?);
    }
    Ok(spawn_with(config, networks, start, store, adapters, metrics))
}

/// Starts the driver with adapters that are made already.
pub fn spawn_with<S: Store>(
    config: &config::Mitigation,
    networks: PrefixSet,
    start: Start,
    store: S,
    adapters: BTreeMap<String, Box<dyn Adapter>>,
    metrics: Metrics,
) -> (Handle, tokio::task::JoinHandle<()>) {
    let mitigator = Mitigator::new(config, networks, metrics);
    let (sender, requests) = mpsc::channel(REQUESTS_MAX);
    // Every outcome answers one of the bounded commands.
    let (outcomes_sender, outcomes) = mpsc::unbounded_channel();
    let start_worker = |(id, adapter): (String, Box<dyn Adapter>)| {
        let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
        tokio::spawn(work(id.clone(), Arc::from(adapter), waiting, outcomes_sender.clone()));
        (id, commands)
    };
    let workers = adapters.into_iter().map(start_worker).collect();
    let driver = Driver { mitigator, store, workers, outcomes: outcomes_sender.clone(), unsaved: BTreeMap::new() };
    (Handle(sender), tokio::spawn(driver.run(start, requests, outcomes)))
}

type Outcomes = mpsc::UnboundedSender<(String, Outcome)>;

struct Driver<S> {
    mitigator: Mitigator,
    store: S,
    workers: BTreeMap<String, mpsc::Sender<Command>>,
    outcomes: Outcomes,
    unsaved: BTreeMap<Uuid, Rule>,
}

impl<S: Store> Driver<S> {
    async fn run(mut self, start: Start, mut requests: mpsc::Receiver<Request>, mut outcomes: mpsc::UnboundedReceiver<(String, Outcome)>) {
        let mut effects = self.mitigator.freeze(start.frozen, now());
        effects.extend(self.mitigator.set_allowlist(start.allowlist, now()));
        effects.extend(self.mitigator.load(start.rules, &start.active, now()));
        self.perform(effects).await;
        let mut clock = tokio::time::interval(Duration::from_millis(100));
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Requests first: what an incident needs does not wait for a listing.
                biased;
                request = requests.recv() => match request {
                    Some(request) => self.serve(request).await,
                    None => return,
                },
                Some((adapter, outcome)) = outcomes.recv() => {
                    let effects = self.mitigator.outcome(&adapter, outcome, now());
                    self.perform(effects).await;
                }
                _ = clock.tick() => {
                    let effects = self.mitigator.tick(now());
                    self.perform(effects).await;
                }
            }
        }
    }

    /// An answer goes out when what it says has been saved; that nobody waits for it any more is no fault.
    async fn serve(&mut self, request: Request) {
        match request {
            Request::Incident(event) => {
                let effects = self.mitigator.incident(&event, now());
                self.perform(effects).await;
            }
            Request::Announce(intent, reply) => {
                let answer = match self.mitigator.announce(*intent, now()) {
                    Ok((rule, effects)) => {
                        self.perform(effects).await;
                        Ok(self.mitigator.rules().find(|own| own.uuid == rule.uuid).cloned().unwrap_or(rule))
                    }
                    Err(refusal) => Err(refusal),
                };
                reply.send(answer).ok();
            }
            Request::Withdraw(uuid, reply) => {
                let effects = self.mitigator.withdraw(uuid, now());
                let known = effects.is_some();
                self.perform(effects.unwrap_or_default()).await;
                reply.send(known).ok();
            }
            Request::Freeze(frozen, reply) => {
                let effects = self.mitigator.freeze(frozen, now());
                self.perform(effects).await;
                reply.send(()).ok();
            }
            Request::Allowlist(allowlist, reply) => {
                let effects = self.mitigator.set_allowlist(allowlist, now());
                self.perform(effects).await;
                reply.send(()).ok();
            }
            Request::DryRun(dry_run, reply) => {
                let effects = self.mitigator.set_dry_run(dry_run, now());
                self.perform(effects).await;
                reply.send(()).ok();
            }
            Request::Rules(reply) => {
                reply.send(self.mitigator.rules().cloned().collect()).ok();
            }
        }
    }

    async fn perform(&mut self, effects: Vec<Effect>) {
        let mut commands = Vec::new();
        for effect in effects {
            match effect {
                Effect::Save(rule) => {
                    self.unsaved.insert(rule.uuid, *rule);
                }
                Effect::Send(adapter, command) => commands.push((adapter, command)),
            }
        }
        let saved = self.save().await;
        for (adapter, command) in commands {
            match (&saved, command) {
                // To withdraw needs no leave: what is not announced does no harm.
                (Err(error), Command::Announce(guarded)) => self.mitigator.unsaved(guarded.uuid(), error, now()),
                (_, command) => self.send(adapter, command),
            }
        }
    }

    /// Saves what has changed; what cannot be saved waits for the next turn, at most as many as there are rules.
    async fn save(&mut self) -> Result<(), String> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let rules: Vec<Rule> = self.unsaved.values().cloned().collect();
        self.store.save(&rules).await?;
        self.unsaved.clear();
        Ok(())
    }

    fn send(&self, adapter: String, command: Command) {
        let worker = self.workers.get(&adapter);
        let refused = match worker.map(|worker| worker.try_send(command.clone())) {
            Some(Ok(())) => return,
            Some(Err(mpsc::error::TrySendError::Full(_))) => "its queue is full",
            Some(Err(mpsc::error::TrySendError::Closed(_))) => "its task has ended",
            None => "it was not started",
        };
        self.outcomes.send((adapter, failed(command, refused.to_owned()))).ok();
    }
}

/// One adapter's commands, one after the other but for listings: so a withdrawal never overtakes its announcement.
async fn work(id: String, adapter: Arc<dyn Adapter>, mut commands: mpsc::Receiver<Command>, outcomes: Outcomes) {
    while let Some(command) = commands.recv().await {
        let outcome = match command {
            Command::Announce(rule) => Outcome::Carried(rule.uuid(), adapter.announce(&rule).await.map_err(|error| error.to_string())),
            Command::Check { uuid, target } => Outcome::Carried(uuid, adapter.check(target).await.map_err(|error| error.to_string())),
            Command::Withdraw { uuid, target } => Outcome::Gone(uuid, adapter.withdraw(target).await.map_err(|error| error.to_string())),
            Command::List { networks, asked_at } => {
                // A look at a large table takes seconds, and nothing waits for it: what changes meanwhile is told apart by `asked_at`.
                let (id, adapter, outcomes) = (id.clone(), Arc::clone(&adapter), outcomes.clone());
                tokio::spawn(async move {
                    let routes = adapter.list(networks.as_deref()).await.map_err(|error| error.to_string());
                    outcomes.send((id, Outcome::Listed(asked_at, routes))).ok();
                });
                continue;
            }
        };
        if outcomes.send((id.clone(), outcome)).is_err() {
            return;
        }
    }
}

fn failed(command: Command, error: String) -> Outcome {
    match command {
        Command::Announce(rule) => Outcome::Carried(rule.uuid(), Err(error)),
        Command::Check { uuid, .. } => Outcome::Carried(uuid, Err(error)),
        Command::Withdraw { uuid, .. } => Outcome::Gone(uuid, Err(error)),
        Command::List { asked_at, .. } => Outcome::Listed(asked_at, Err(error)),
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
