//! `weir replay`: a capture through the whole pipe on a virtual clock, and what would have come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use analytics::mitigate::adapters::Carried;
use analytics::mitigate::{Command, Effect, Mitigator, Outcome};
use analytics::{Analyst, Event};
use anyhow::{Context as _, ensure};
use collector::decode::Templates;
use collector::receive::capture::Capture;
use collector::replay;
use collector::shard::Pipe;
use serde_json::{Value, json};
use uuid::Uuid;

use schemas::counter::Snapshot;
use schemas::incident::Incident;
use schemas::ledger::Ledger;
use schemas::net::PrefixSet;
use schemas::rule::{Rule, RuleState};
use schemas::time::Timestamp;

use crate::config::Config;

/// The speaker that is imagined where the configuration has none.
const SPEAKER: &str = "replay";

/// How long the clock runs on behind the last packet, on top of an incident's hold: what is late comes to light, and incidents end.
const TAIL_MILLISECONDS: u64 = 35_000;

/// What a capture comes to.
#[derive(Debug)]
pub struct Report {
    /// By the moment at which they were opened.
    pub incidents: Vec<Incident>,
    /// By the moment at which they were wanted: announced ones as they ended, refused ones with the reason.
    pub rules: Vec<Rule>,
    /// What was received and what became of it.
    pub ledger: Ledger,
}

/// Everything behind the shard, on the clock of the capture.
struct Replay {
    analyst: Analyst,
    mitigator: Mitigator,
    incidents: BTreeMap<Uuid, Incident>,
    rules: BTreeMap<Uuid, Rule>,
    now: Timestamp,
}

/// Runs a capture and prints its report: a line for each incident, a line for each rule, a line of totals.
///
/// With `speed` the capture's clock runs so many times as fast as ours; without, as fast as it can.
///
/// # Errors
///
/// If the file cannot be read, or not to its end: what could be read is reported all the same.
pub fn run(file: &Path, config: &Config, speed: Option<f64>) -> anyhow::Result<()> {
    ensure!(speed.is_none_or(|speed| speed > 0.0 && speed.is_finite()), "--speed must be above 0");
    let (report, outcome) = report(file, config, speed)?;
    match print(&report, &mut io::stdout().lock()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error).context("cannot write"),
        _ => {}
    }
    outcome
}

/// What a capture comes to, and whether it could be read to its end.
///
/// # Errors
///
/// If the file is no capture.
pub fn report(file: &Path, config: &Config, speed: Option<f64>) -> anyhow::Result<(Report, anyhow::Result<()>)> {
    let named = || file.display().to_string();
    let content = replay::content(file).with_context(named)?;
    let mut capture = Capture::open(file).with_context(named)?;
    let networks: PrefixSet = config.networks.iter().copied().collect();
    let mut replay = Replay::new(config, networks.clone());
    let limits = replay.analyst.limits().for_counters();
    let mut pipe = Pipe::new(0, &config.collector, Templates::Inline, networks, limits);
    let tail = TAIL_MILLISECONDS + config.analytics.incident.hold_seconds.saturating_mul(1_000);
    let mut pace = speed.map(Pace::new);
    let outcome = replay::run(&mut capture, content, &[], &mut pipe, tail, |snapshot| {
        if let Some(pace) = &mut pace {
            pace.wait(snapshot.taken_at);
        }
        replay.take(snapshot);
    });
    let ledger = pipe.ledger();
    Ok((replay.finish(ledger), outcome.map(|_| ()).with_context(named)))
}

impl Replay {
    fn new(config: &Config, networks: PrefixSet) -> Self {
        let mut mitigation = config.analytics.mitigation.clone();
        // What would be announced is the question: so nothing is held back, and somebody is there to take it.
        mitigation.dry_run = false;
        if mitigation.adapters.is_empty() {
            mitigation.adapters.extend(serde_json::from_value(json!({ "type": "gobgp", "id": SPEAKER })).ok());
        }
        let metrics = analytics::metrics::Metrics::default();
        let analyst = Analyst::new(&config.analytics, metrics.clone());
        let mut replay = Self {
            analyst,
            mitigator: Mitigator::new(&mitigation, networks, metrics),
            incidents: BTreeMap::new(),
            rules: BTreeMap::new(),
            now: Timestamp::default(),
        };
        let effects = replay.mitigator.load(Vec::new(), &BTreeSet::new(), Timestamp::default());
        replay.perform(effects);
        replay
    }

    fn take(&mut self, snapshot: Snapshot) {
        self.now = snapshot.taken_at;
        self.analyst.observe(snapshot);
        for event in self.analyst.tick(self.now) {
            self.event(&event);
        }
        let effects = self.mitigator.tick(self.now);
        self.perform(effects);
    }

    fn event(&mut self, event: &Event) {
        let incident = event.incident();
        self.incidents.insert(incident.uuid, incident.clone());
        let effects = self.mitigator.incident(event, self.now);
        self.perform(effects);
    }

    /// Keeps rules, and lets the speaker do at once what it is asked.
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Save(rule) => {
                    if let Some(Event::Updated(incident) | Event::Ended(incident)) = self.analyst.rule_changed(&rule, self.now) {
                        self.incidents.insert(incident.uuid, *incident);
                    }
                    self.rules.insert(rule.uuid, *rule);
                }
                Effect::Send(adapter, command) => {
                    let outcome = self.answer(command);
                    let effects = self.mitigator.outcome(&adapter, outcome, self.now);
                    self.perform(effects);
                }
            }
        }
    }

    fn answer(&self, command: Command) -> Outcome {
        let carried = || Carried::Peers(vec![SPEAKER.to_owned()]);
        match command {
            Command::Announce(rule) => Outcome::Carried(rule.uuid(), Ok(carried())),
            Command::Check { uuid, .. } => Outcome::Carried(uuid, Ok(carried())),
            Command::Withdraw { uuid, .. } => Outcome::Gone(uuid, Ok(())),
            Command::List { asked_at, .. } => {
                let live = self.rules.values().filter(|rule| rule.state == RuleState::Active).map(|rule| rule.target);
                Outcome::Listed(asked_at, Ok(live.collect()))
            }
        }
    }

    fn finish(self, ledger: Ledger) -> Report {
        let mut incidents: Vec<Incident> = self.incidents.into_values().collect();
        incidents.sort_by_key(|incident| (incident.detected_at, incident.target));
        let mut rules: Vec<Rule> = self.rules.into_values().collect();
        rules.sort_by_key(|rule| (rule.created_at, rule.target));
        Report { incidents, rules, ledger }
    }
}

/// Holds the capture's clock to a multiple of ours.
struct Pace {
    speed: f64,
    began: Instant,
    first: Option<Timestamp>,
}

impl Pace {
    fn new(speed: f64) -> Self {
        Self { speed, began: Instant::now(), first: None }
    }

    fn wait(&mut self, now: Timestamp) {
        let first = *self.first.get_or_insert(now);
        let due = Duration::from_millis(now.since(first)).div_f64(self.speed);
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

fn print(report: &Report, output: &mut impl Write) -> io::Result<()> {
    for incident in &report.incidents {
        line(output, "incident", json!(incident))?;
    }
    for rule in &report.rules {
        line(output, "rule", json!(rule))?;
    }
    let mut totals = json!(report.ledger);
    if let Value::Object(fields) = &mut totals {
        fields.insert("incidents".to_owned(), json!(report.incidents.len()));
        fields.insert("rules".to_owned(), json!(report.rules.len()));
    }
    line(output, "totals", totals)?;
    output.flush()
}

/// One object, its type in front.
fn line(output: &mut impl Write, kind: &str, object: Value) -> io::Result<()> {
    let text = object.to_string();
    let rest = text.strip_prefix('{').unwrap_or(&text);
    writeln!(output, "{{\"type\":\"{kind}\",{rest}")
}
