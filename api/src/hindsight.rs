//! What would have come of traffic: the analysts and the mitigation on a virtual clock, for whoever drives a pipe on one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use analytics::mitigate::adapters::Carried;
use analytics::mitigate::{Command, Effect, Mitigator, Outcome};
use analytics::{Analyst, Event};
use collector::decode::Templates;
use collector::shard::Pipe;
use serde_json::{Map, Value, json};
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

/// How long the clock runs on behind the last arrival, on top of an incident's hold: what is late comes to light, and incidents end.
const TAIL_MILLISECONDS: u64 = 35_000;

/// What traffic comes to.
#[derive(Debug)]
pub struct Report {
    /// By the moment at which they were opened.
    pub incidents: Vec<Incident>,
    /// By the moment at which they were wanted: announced ones as they ended, refused ones with the reason.
    pub rules: Vec<Rule>,
    /// What was received and what became of it.
    pub ledger: Ledger,
    /// What else the totals say.
    pub totals: Map<String, Value>,
}

/// Everything behind the shard, on the clock of its snapshots.
pub struct Hindsight {
    analyst: Analyst,
    mitigator: Mitigator,
    incidents: BTreeMap<Uuid, Incident>,
    rules: BTreeMap<Uuid, Rule>,
    now: Timestamp,
}

/// How long the clock is to run on behind the last arrival.
#[must_use]
pub fn tail_milliseconds(config: &Config) -> u64 {
    TAIL_MILLISECONDS + config.analytics.incident.hold_seconds.saturating_mul(1_000)
}

impl Hindsight {
    /// The policy of a configuration, and the pipe that its traffic is to take.
    #[must_use]
    pub fn new(config: &Config) -> (Self, Pipe) {
        let networks: PrefixSet = config.networks.iter().copied().collect();
        let mut mitigation = config.analytics.mitigation.clone();
        // What would be announced is the question: so nothing is held back, and somebody is there to take it.
        mitigation.dry_run = false;
        if mitigation.adapters.is_empty() {
            mitigation.adapters.extend(serde_json::from_value(json!({ "type": "gobgp", "id": SPEAKER })).ok());
        }
        let metrics = analytics::metrics::Metrics::default();
        let analyst = Analyst::new(&config.analytics, metrics.clone());
        let limits = analyst.limits().for_counters();
        let mut hindsight = Self {
            analyst,
            mitigator: Mitigator::new(&mitigation, networks.clone(), metrics),
            incidents: BTreeMap::new(),
            rules: BTreeMap::new(),
            now: Timestamp::default(),
        };
        let effects = hindsight.mitigator.load(Vec::new(), &BTreeSet::new(), Timestamp::default());
        hindsight.perform(effects);
        (hindsight, Pipe::new(0, &config.collector, Templates::Inline, networks, limits))
    }

    /// Judges what a pipe tells.
    pub fn take(&mut self, snapshot: Snapshot) {
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

    /// What has come of it all.
    #[must_use]
    pub fn finish(self, ledger: Ledger) -> Report {
        let mut incidents: Vec<Incident> = self.incidents.into_values().collect();
        incidents.sort_by_key(|incident| (incident.detected_at, incident.target));
        let mut rules: Vec<Rule> = self.rules.into_values().collect();
        rules.sort_by_key(|rule| (rule.created_at, rule.target));
        Report { incidents, rules, ledger, totals: Map::new() }
    }
}

/// Prints a report: a line for each incident, a line for each rule, a line of totals. Whoever has read enough may go.
///
/// # Errors
///
/// What the output says.
pub fn print(report: &Report, output: &mut impl Write) -> io::Result<()> {
    match write(report, output) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn write(report: &Report, output: &mut impl Write) -> io::Result<()> {
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
        fields.extend(report.totals.clone());
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
