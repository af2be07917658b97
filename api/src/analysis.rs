//! The analysts' thread: snapshots of the shards and words of people in; incidents out, to mitigation, state and notification.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use analytics::config::Override;
use analytics::mitigate::driver::Handle;
use analytics::planned::Window;
use analytics::{Analyst, Event};
use collector::enrich::SharedTables;
use collector::shard::SharedLimits;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never, select_biased, tick};
use uuid::Uuid;

use schemas::counter::Snapshot;
use schemas::incident::{Incident, IncidentStatus, NodeReference};
use schemas::net::Address;
use schemas::rule::Rule;
use schemas::time::Timestamp;

use crate::clock::Clock;
use crate::live::Live;
use crate::notify::{Kind, Notifier};
use crate::origin;
use crate::state::nodes::Node;
use crate::state::{State, StateError, incidents};

/// Words that wait for the thread.
const CONTROLS_MAX: usize = 4_096;

/// The thread judges at least this often.
const TICK: Duration = Duration::from_millis(100);
/// The pause after an incident could not be saved, in milliseconds.
const SAVE_PAUSE_MILLISECONDS: u64 = 1_000;

/// What the thread is told besides snapshots.
#[derive(Debug)]
pub enum Control {
    /// A person's word: it is over, or was none.
    Resolve {
        /// The incident.
        uuid: Uuid,
        /// What it is from now on.
        status: IncidentStatus,
        /// Words on it.
        note: Option<String>,
    },
    /// The nodes as they are now, with limits of their own.
    Nodes(Vec<Node>),
    /// The maintenance windows as they are now.
    Maintenance(Vec<Window>),
    /// What became of a rule.
    Rule(Box<Rule>),
    /// An incident that could not be saved, to be tried again.
    Unsaved(Box<Incident>),
}

/// The way to the thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Analysis(Sender<Control>);

impl Analysis {
    /// A way, and its other end for [`Worker::spawn`].
    #[must_use]
    pub fn channel() -> (Self, Receiver<Control>) {
        let (sender, receiver) = bounded(CONTROLS_MAX);
        (Self(sender), receiver)
    }

    /// Tells the thread something, without waiting; whether there was room.
    pub fn tell(&self, control: Control) -> bool {
        match self.0.try_send(control) {
            Ok(()) => true,
            Err(TrySendError::Full(control)) => {
                tracing::warn!(?control, "the analysts do not keep up, and were not told");
                false
            }
            // The program stops: the state has it, and the next start reads it there.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// What the thread works with.
#[derive(Debug)]
pub struct Worker {
    /// The judgement.
    pub analyst: Analyst,
    /// What the API shows.
    pub live: Arc<Live>,
    /// What outlives a restart.
    pub state: Arc<State>,
    /// Who announces rules.
    pub mitigation: Handle,
    /// Who is told.
    pub notifier: Option<Arc<Notifier>>,
    /// The way back to itself.
    pub analysis: Analysis,
    /// The time.
    pub clock: Clock,
    /// The limits of the shards, which follow the analysts'.
    pub limits: SharedLimits,
    /// Nodes by their address.
    pub nodes: HashMap<Address, NodeReference>,
    /// Where addresses lie.
    pub places: SharedTables,
    /// Incidents that wait for room at the state, the latest of each.
    pub unsaved: BTreeMap<Uuid, Incident>,
    /// When they are tried again: a disk that is full is so for a while.
    pub save_again_at: Timestamp,
}

/// The limits that nodes bring.
#[must_use]
pub fn overrides(nodes: &[Node]) -> Vec<Override> {
    let of = |node: &Node| {
        let packets_per_second = Some(node.threshold_pps?);
        Some(Override { packets_per_second, is_node: true, ..Override::of(node.ip.host()) })
    };
    nodes.iter().filter_map(of).collect()
}

/// The nodes by their address; of several at one, the one that was made first.
#[must_use]
pub fn references(nodes: &[Node]) -> HashMap<Address, NodeReference> {
    nodes.iter().map(|node| (node.ip, node.reference())).collect()
}

impl Worker {
    /// Starts the thread; it ends when the last shard has.
    ///
    /// # Errors
    ///
    /// What the system says to a new thread.
    pub fn spawn(self, snapshots: Receiver<Snapshot>, controls: Receiver<Control>) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("weir-analyst".to_owned()).spawn(move || self.run(&snapshots, controls))
    }

    fn run(mut self, snapshots: &Receiver<Snapshot>, mut controls: Receiver<Control>) {
        let ticks = tick(TICK);
        loop {
            select_biased! {
                recv(controls) -> control => match control {
                    Ok(control) => self.control(control),
                    Err(_) => controls = never(),
                },
                recv(snapshots) -> snapshot => match snapshot {
                    Ok(snapshot) => self.observe(snapshot),
                    Err(_) => break,
                },
                recv(ticks) -> _ => {}
            }
            // What has piled up meanwhile is judged at once.
            while let Ok(snapshot) = snapshots.try_recv() {
                self.observe(snapshot);
            }
            self.judge();
        }
        self.judge();
    }

    fn observe(&mut self, snapshot: Snapshot) {
        self.live.observe(&snapshot);
        self.analyst.observe(snapshot);
    }

    fn judge(&mut self) {
        let now = self.clock.now();
        for event in self.analyst.tick(now) {
            self.pass_on(event, true, now);
        }
        self.live.analysts_alive(now);
        if !self.unsaved.is_empty() && now >= self.save_again_at {
            self.save_again_at = Timestamp(now.0 + SAVE_PAUSE_MILLISECONDS);
            for incident in std::mem::take(&mut self.unsaved).into_values() {
                self.save(incident);
            }
        }
    }

    fn control(&mut self, control: Control) {
        let now = self.clock.now();
        match control {
            Control::Resolve { uuid, status, note } => match self.analyst.resolve(uuid, status, note, now) {
                Ok(event) => self.pass_on(event, true, now),
                Err(error) => tracing::debug!(%error, "nothing to resolve"),
            },
            Control::Nodes(nodes) => {
                self.analyst.set_limits(&overrides(&nodes));
                self.limits.set(self.analyst.limits().for_counters());
                self.nodes = references(&nodes);
            }
            Control::Maintenance(windows) => self.analyst.set_planned(windows),
            Control::Rule(rule) => {
                if let Some(event) = self.analyst.rule_changed(&rule, now) {
                    // Mitigation knows, it is where this comes from.
                    self.pass_on(event, false, now);
                }
            }
            Control::Unsaved(incident) => drop(self.unsaved.entry(incident.uuid).or_insert(*incident)),
        }
    }

    /// Mitigation first: what it does is waited for on the wire, the rest by people.
    fn pass_on(&mut self, mut event: Event, to_mitigation: bool, now: Timestamp) {
        let (kind, incident) = match &mut event {
            Event::Opened(incident) => (Kind::Start, incident),
            Event::Updated(incident) | Event::Probed(incident) | Event::Resumed(incident) => (Kind::Update, incident),
            Event::Ended(incident) => (Kind::End, incident),
        };
        incident.node = incident.target.is_host().then(|| self.nodes.get(&incident.target.first()).cloned()).flatten();
        origin::tell(incident, &self.places.get());
        let incident = (**incident).clone();
        if to_mitigation && self.mitigation.incident(event).is_err() {
            tracing::error!("mitigation has ended: no rule is announced or withdrawn");
        }
        if let Some(notifier) = &self.notifier {
            notifier.tell(kind, &incident, now);
        }
        self.save(incident);
    }

    fn save(&mut self, incident: Incident) {
        let (workspace, analysis, kept) = (self.state.workspace, self.analysis.clone(), incident.clone());
        let work = move |transaction: &rusqlite::Transaction<'_>| incidents::save(transaction, workspace, &incident);
        let again = kept.clone();
        let done = move |outcome: Result<(), StateError>| {
            if let Err(error) = outcome {
                tracing::error!(%error, incident = %again.uuid, "an incident is not saved yet");
                analysis.tell(Control::Unsaved(Box::new(again)));
            }
        };
        if let Err(error) = self.state.write_later(work, done) {
            tracing::error!(%error, incident = %kept.uuid, "an incident is not saved yet");
            self.unsaved.insert(kept.uuid, kept);
        }
    }
}
