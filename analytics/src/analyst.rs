//! The analysts' thread in one place: snapshots and the time go in, incidents come out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use schemas::counter::{Direction, Snapshot, Target};
use schemas::incident::{Incident, IncidentStatus, TimelineKind};
use schemas::rule::{Rule, RuleState};
use schemas::time::Timestamp;
use uuid::Uuid;

use crate::baseline::{Baselines, Rate};
use crate::config::{self, Config, Override};
use crate::detect::carpet;
use crate::detect::limit::{Limit, Limits};
use crate::detect::peace::withheld::Withheld;
use crate::detect::peace::{self, Verdict};
use crate::detect::window::{Look, Scan, Scanner};
use crate::group::Groups;
use crate::incident::blind::Quiet;
use crate::incident::{self, Case, Change};
use crate::merge::{self, Merger, SLOTS_PER_SECOND, Track, slot_of};
use crate::metrics::Metrics;
use crate::planned::{self, Planned};
use crate::sight::{Board, Sight};

/// Ended incidents that still hear of their rules.
const RECENT_MAX: usize = 1_000;

/// What the analysts have to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An attack was found.
    Opened(Box<Incident>),
    /// Its numbers, its kind or what was done about it changed; also for an incident that has ended.
    Updated(Box<Incident>),
    /// Its rules are to be lifted to see whether it is over.
    Probed(Box<Incident>),
    /// It was not: they are to be announced again.
    Resumed(Box<Incident>),
    /// It is over, or a person said so.
    Ended(Box<Incident>),
}

impl Event {
    /// The incident as it is now.
    #[must_use]
    pub fn incident(&self) -> &Incident {
        match self {
            Self::Opened(incident) | Self::Updated(incident) | Self::Probed(incident) | Self::Resumed(incident) | Self::Ended(incident) => {
                incident
            }
        }
    }
}

/// Why a person's word on an incident was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AnalystError {
    /// No incident of this name is open.
    #[error("no open incident {0}")]
    NotOpen(Uuid),
}

struct Finding {
    target: Target,
    scan: Scan,
    limit: Limit,
    /// What is left of it when what is no attack's is taken out, if there is such.
    verdict: Option<Verdict>,
}

/// Merges, detects and follows; owns every open incident.
#[derive(Debug)]
pub struct Analyst {
    rules: config::Incident,
    limits: Limits,
    merger: Merger,
    scanner: Scanner,
    cases: BTreeMap<Target, Case>,
    /// Targets of whose attack a person has said that it is over, and when it was last near the limit.
    quiet: BTreeMap<Target, u64>,
    /// The last slot that an ended incident of the target explains.
    explained: BTreeMap<Target, u64>,
    withheld: Withheld,
    recent: VecDeque<Incident>,
    baselines: Arc<Baselines>,
    sight: Sight,
    planned: Planned,
    shown_at: Timestamp,
    groups: Groups,
    grouped_at: Timestamp,
    metrics: Metrics,
}

impl Analyst {
    /// An analyst that knows nothing yet.
    #[must_use]
    pub fn new(config: &Config, metrics: Metrics) -> Self {
        Self {
            rules: config.incident.clone(),
            limits: Limits::with_hostgroups(config.threshold.clone(), config.hostgroups.clone(), &[]),
            merger: Merger::new(config.targets_max, metrics.clone()),
            scanner: Scanner::default(),
            cases: BTreeMap::new(),
            quiet: BTreeMap::new(),
            explained: BTreeMap::new(),
            withheld: Withheld::new(metrics.clone()),
            recent: VecDeque::new(),
            baselines: Arc::new(Baselines::new(&config.baseline, metrics.clone())),
            sight: Sight::new(config.sight.clone(), metrics.clone()),
            planned: Planned::default(),
            shown_at: Timestamp::default(),
            groups: Groups::default(),
            grouped_at: Timestamp::default(),
            metrics,
        }
    }

    /// What everybody carries and what is normal, to be read by other threads.
    #[must_use]
    pub fn baselines(&self) -> Arc<Baselines> {
        Arc::clone(&self.baselines)
    }

    /// The alarms, to be read by other threads.
    #[must_use]
    pub fn alarms(&self) -> Board {
        self.sight.board()
    }

    /// Replaces the limits that are set at run time: those of nodes and the API's thresholds.
    pub fn set_limits(&mut self, overrides: &[Override]) {
        self.limits = self.limits.with_runtime(overrides);
    }

    /// Replaces the maintenance windows.
    pub fn set_planned(&mut self, windows: Vec<planned::Window>) {
        self.planned.set(windows);
    }

    /// The limits that hold now; those for the counters are part of it.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes up incidents that were open when the program ended.
    pub fn restore(&mut self, incidents: Vec<Incident>, now: Timestamp) {
        for incident in incidents.into_iter().filter(|incident| incident.status == IncidentStatus::Active) {
            let case = Case::restore(incident, &self.limits, now);
            self.cases.insert(case.target, case);
        }
    }

    /// The open incidents.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.cases.values().map(|case| &case.incident)
    }

    /// Takes in what a shard tells.
    pub fn observe(&mut self, snapshot: Snapshot) {
        self.baselines.report(&snapshot.hosts, snapshot.taken_at);
        self.sight.observe(&snapshot);
        self.withheld.learn(&snapshot);
        self.merger.merge(snapshot);
    }

    /// Judges what has changed since the last call.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        let mut findings = self.scan(now);
        // Prefixes first, the widest of each other first: hosts of a prefix that is attacked as a whole open nothing of their own.
        findings.sort_by_key(|finding| Limits::is_host(finding.target.prefix));
        for finding in &findings {
            self.open(finding, &findings, now, &mut events);
        }
        self.sight.tick(now);
        self.end(now, &mut events);
        self.group(now, &mut events);
        self.tell(now, &mut events);
        // Nothing is learned of what goes on there, nor of what a person has spoken about before it has fallen.
        self.baselines.attacked(self.cases.keys().chain(self.quiet.keys()));
        self.merger.age(now);
        self.withheld.age(now);
        self.show_rates(now);
        events
    }

    /// Looks at every target that changed; open incidents follow, the rest is returned if it is no peace.
    fn scan(&mut self, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (target, changed) in self.merger.take_changed() {
            let Some(track) = self.merger.get(&target) else { continue };
            let limit = self.baselines.raise(self.limits.of(target), target);
            let explained = self.explained.get(&target).copied().unwrap_or(0);
            let multiples = self.limits.multiples();
            let look = Look { ring: &track.ring, changed, explained, limit: &limit, multiples, rules: &self.rules };
            let scan = self.scanner.scan(&look);
            let case = self.cases.get_mut(&target);
            let verdict = if !scan.crossings.is_empty() || (case.is_some() && scan.last_warm.is_some()) {
                self.withheld.judge(target, (look, track, &scan), &self.merger, &mut self.scanner, now)
            } else {
                None
            };
            if let Some(case) = case {
                let doubt = self.sight.doubt(&track.details);
                match verdict {
                    Some(Verdict { rest, scan, explained, seconds }) => {
                        case.follow(&scan, &peace::remaining(track, rest), &self.rules, doubt, now);
                        case.leave_out(&explained, seconds, now);
                    }
                    None => case.follow(&scan, track, &self.rules, doubt, now),
                }
            } else if let Some(quiet) = self.quiet.get_mut(&target) {
                *quiet = scan.last_warm.unwrap_or(*quiet).max(*quiet);
            } else if !verdict.as_ref().map_or(&scan, |verdict| &verdict.scan).crossings.is_empty() {
                findings.push(Finding { target, scan, limit, verdict });
            }
            self.merger.clear_gains(&target);
        }
        findings
    }

    fn open(&mut self, finding: &Finding, findings: &[Finding], now: Timestamp, events: &mut Vec<Event>) {
        let target = finding.target;
        let scan = finding.verdict.as_ref().map_or(&finding.scan, |verdict| &verdict.scan);
        let Some(worst) = scan.worst() else { return };
        let is_host = Limits::is_host(target.prefix);
        let explains = |case: &Case| {
            let named = case.incident.target;
            let is_named = !is_host && target.prefix.covers(named);
            let is_part = || named.covers(target.prefix) && !carpet::stands_out(worst, case.target, &self.merger);
            carpet::lies_within(target, case.target) && (is_named || is_part())
        };
        if self.cases.values().any(explains) {
            self.metrics.finding_folded();
            return;
        }
        if !is_host {
            let narrower = findings.iter().map(|finding| finding.target).chain(self.cases.keys().copied());
            if carpet::is_of_one(target, worst, narrower, &self.merger) {
                self.metrics.finding_folded();
                return;
            }
            let carpet =
                |crossing| carpet::unexplained(target, crossing, &self.merger, &self.limits, self.rules.carpet_hosts) > crossing.limit;
            if !finding.scan.crossings.iter().any(carpet) {
                return;
            }
        }
        if self.planned.silences(target, now, &self.metrics) {
            return;
        }
        if self.cases.len() >= self.rules.open_max {
            self.metrics.incident_refused(target.prefix);
            return;
        }
        let Some(track) = self.merger.get(&target) else { return };
        let remaining = finding.verdict.as_ref().map(|verdict| peace::remaining(track, verdict.rest.clone()));
        let doubt = self.sight.doubt(&track.details);
        if let Some(mut case) = Case::open(target, scan, remaining.as_ref().unwrap_or(track), &finding.limit, &self.rules, doubt, now) {
            finding.verdict.iter().for_each(|verdict| case.leave_out(&verdict.explained, verdict.seconds, now));
            case.incident.baseline = self.baselines.usual(target);
            self.metrics.incident_opened(&case.incident);
            events.push(Event::Opened(Box::new(case.incident.clone())));
            self.cases.insert(target, case);
        }
    }

    fn end(&mut self, now: Timestamp, events: &mut Vec<Event>) {
        for (target, text) in self.planned.resolved(self.cases.keys().copied(), now) {
            events.extend(self.close(target, IncidentStatus::Resolved, &text, now));
        }
        let over = |case: &&Case| case.is_over(self.merger.get(&case.target), &self.rules, now);
        let ended: Vec<Target> = self.cases.values().filter(over).map(|case| case.target).collect();
        for target in ended {
            let quiet = self.cases.get_mut(&target).map_or(Quiet::Seen, |case| case.quiet(&self.sight, now));
            match quiet {
                Quiet::Seen => {}
                Quiet::Held { is_new } => {
                    if is_new {
                        self.metrics.incident_held(target.prefix);
                    }
                    continue;
                }
                Quiet::GivenUp(text) => {
                    events.extend(self.close(target, IncidentStatus::Resolved, &text, now));
                    continue;
                }
            }
            if let Some(case) = self.cases.get_mut(&target).filter(|case| case.probe.is_shielded()) {
                if case.probe.is_due(now) {
                    case.begin_probe(now);
                    events.push(Event::Probed(Box::new(case.incident.clone())));
                }
                continue;
            }
            let mut text = format!("below {} of the limit for {} s", self.rules.end_ratio, self.rules.hold_seconds);
            if let Some(reason) = self.withheld.part(&target) {
                text += &format!("; what goes on is no attack: {}", reason.text());
            }
            events.extend(self.close(target, IncidentStatus::Resolved, &text, now));
        }
        // What is older than the rings reach back explains nothing any more.
        let oldest = slot_of(now).saturating_sub((merge::RING_SECONDS + 2) * SLOTS_PER_SECOND);
        self.explained.retain(|_, slot| *slot >= oldest);
        let hold = self.rules.hold_seconds * SLOTS_PER_SECOND;
        let merger = &self.merger;
        self.quiet.retain(|target, warm| {
            let late = merger.get(target).map_or(0, |track| track.lateness.milliseconds()) / schemas::counter::SLOT_MILLISECONDS;
            slot_of(now).saturating_sub(*warm) < hold + late
        });
    }

    fn close(&mut self, target: Target, status: IncidentStatus, text: &str, now: Timestamp) -> Option<Event> {
        let mut case = self.cases.remove(&target)?;
        let left = self.left(target, now);
        case.close(status, left.as_ref().or(self.merger.get(&target)), text, now);
        self.explained.insert(target, case.last_slot());
        self.metrics.incident_ended(&case.incident);
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(case.incident.clone());
        Some(Event::Ended(Box::new(case.incident)))
    }

    /// A target's track without what is no attack's, if there is such.
    fn left(&mut self, target: Target, now: Timestamp) -> Option<Track> {
        let track = self.merger.get(&target)?;
        let limit = self.baselines.raise(self.limits.of(target), target);
        let (newest, multiples) = (track.ring.newest(), self.limits.multiples());
        let changed = (newest.saturating_sub(merge::EXACT_SECONDS * SLOTS_PER_SECOND), newest);
        let look = Look { ring: &track.ring, changed, explained: 0, limit: &limit, multiples, rules: &self.rules };
        let scan = self.scanner.scan(&look);
        let verdict = self.withheld.judge(target, (look, track, &scan), &self.merger, &mut self.scanner, now)?;
        Some(peace::remaining(track, verdict.rest))
    }

    fn tell(&mut self, now: Timestamp, events: &mut Vec<Event>) {
        for case in self.cases.values_mut() {
            let due = now.since(case.told_at) >= self.rules.update_milliseconds;
            let incident = || Box::new(case.incident.clone());
            match case.change {
                Change::Resumed => events.push(Event::Resumed(incident())),
                Change::Escalated => events.push(Event::Updated(incident())),
                Change::Numbers if due => events.push(Event::Updated(incident())),
                _ => continue,
            }
            case.change = Change::None;
            case.told_at = now;
        }
    }

    /// Once a second: which incidents are one attack.
    fn group(&mut self, now: Timestamp, events: &mut Vec<Event>) {
        if now.since(self.grouped_at) < 1_000 {
            return;
        }
        self.grouped_at = now;
        self.groups.age(now);
        self.cases.values().for_each(|case| self.groups.learn(&case.incident, &case.sources));
        for (uuid, group) in self.groups.settle() {
            if let Some(case) = self.cases.values_mut().find(|case| case.incident.uuid == uuid) {
                case.join(group, now);
            } else if let Some(ended) = self.recent.iter_mut().rev().find(|incident| incident.uuid == uuid) {
                incident::join(ended, group, now);
                events.push(Event::Updated(Box::new(ended.clone())));
            }
        }
    }

    /// Once a second: the suspects' last whole second.
    fn show_rates(&mut self, now: Timestamp) {
        if now.since(self.shown_at) < 1_000 {
            return;
        }
        self.shown_at = now;
        let last = slot_of(now).saturating_sub(1);
        let rate = |track: &Track| {
            let volume = track.ring.sum(last.saturating_sub(SLOTS_PER_SECOND - 1), last);
            Rate { packets_per_second: volume.packets, bits_per_second: volume.octets * 8.0 }
        };
        // Of records that come late, the last second knows nothing: their reports do.
        let fresh = self.merger.iter().filter(|(_, track)| track.lateness.milliseconds() <= 2_000);
        self.baselines.show_suspects(fresh.map(|(target, track)| (*target, rate(track))).collect(), now);
    }

    /// A person's word: the incident is over, or was none. Its target is left alone until its traffic has fallen.
    ///
    /// # Errors
    ///
    /// [`AnalystError::NotOpen`] if no incident of this name is open.
    pub fn resolve(&mut self, uuid: Uuid, status: IncidentStatus, note: Option<String>, now: Timestamp) -> Result<Event, AnalystError> {
        let target =
            self.cases.values().find(|case| case.incident.uuid == uuid).map(|case| case.target).ok_or(AnalystError::NotOpen(uuid))?;
        if let Some(case) = self.cases.get_mut(&target)
            && note.is_some()
        {
            case.incident.note = note;
        }
        let text = if status == IncidentStatus::FalsePositive { "marked as a false positive" } else { "resolved by hand" };
        let event = self.close(target, status, text, now).ok_or(AnalystError::NotOpen(uuid))?;
        if status == IncidentStatus::FalsePositive {
            self.baselines.teach(event.incident(), now);
        }
        self.quiet.insert(target, slot_of(now));
        Ok(event)
    }

    /// Enters what became of a rule into the incident that it answers, open or ended.
    pub fn rule_changed(&mut self, rule: &Rule, now: Timestamp) -> Option<Event> {
        let uuid = rule.incident_uuid?;
        let open = self.cases.values_mut().find(|case| case.incident.uuid == uuid).map(|case| {
            case.probe.rule_changed(rule);
            &mut case.incident
        });
        let incident = open.or_else(|| self.recent.iter_mut().rev().find(|incident| incident.uuid == uuid))?;
        if !incident.rules.contains(&rule.uuid) {
            incident.rules.push(rule.uuid);
        }
        let what = format!("{} of {} by {}", word(rule), rule.target, rule.adapter_id);
        let (kind, text) = match rule.state {
            RuleState::DryRun => (TimelineKind::RuleDryRun, format!("{what} only shown: dry run")),
            RuleState::Pending => (TimelineKind::RuleAnnounced, format!("{what} announced")),
            RuleState::Active => {
                incident.mitigated_at = incident.mitigated_at.or(rule.confirmed_at);
                (TimelineKind::RuleConfirmed, format!("{what} confirmed"))
            }
            RuleState::Failed | RuleState::Refused => {
                (TimelineKind::RuleFailed, format!("{what} {}: {}", rule.state.name(), rule.error.as_deref().unwrap_or("no reason given")))
            }
            RuleState::Withdrawing => return Some(Event::Updated(Box::new(incident.clone()))),
            RuleState::Withdrawn => (TimelineKind::Withdrawn, format!("{what} withdrawn")),
        };
        // A retry that fails as before is no news.
        if incident.timeline.iter().rev().find(|entry| entry.text.starts_with(&what)).is_none_or(|last| last.text != text) {
            incident::log(incident, now, kind, text);
        }
        Some(Event::Updated(Box::new(incident.clone())))
    }
}

fn word(rule: &Rule) -> &'static str {
    match rule.intent_type {
        schemas::rule::IntentType::Blackhole => "blackhole",
        schemas::rule::IntentType::Flowspec => "flowspec rule",
        schemas::rule::IntentType::Scrubbing => "scrubbing",
    }
}

/// Whether a target's traffic may be answered with a rule: only what comes to it.
#[must_use]
pub fn is_answerable(incident: &Incident) -> bool {
    incident.direction == Direction::Incoming && incident.status == IncidentStatus::Active
}
