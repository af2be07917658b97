//! What should be announced: the wishes of incidents and people, shown to the guard and kept as rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use schemas::incident::{Incident, IncidentStatus};
use schemas::net::{Prefix, PrefixSet};
use schemas::rule::{IntentType, Rule, RuleOwner, RuleState};
use schemas::time::Timestamp;
use uuid::Uuid;

use super::guard::{Guard, GuardedRule, Refusal};
use super::plan::{self, Intent, NO_ADAPTER};
use super::{Command, Effect};
use crate::analyst::Event;
use crate::config;
use crate::metrics::Metrics;

/// How often a rule that the guard refused is shown to it again while its incident lasts.
const REFUSED_MILLISECONDS: u64 = 5_000;

/// What makes two rules the same: one owner for each.
type Key = (String, Prefix, IntentType);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) rule: Rule,
    /// Failures in a row.
    pub(super) failures: u32,
    /// When something is to be done again; `None` = nothing is.
    pub(super) due: Option<Timestamp>,
    /// A command is under way.
    pub(super) in_flight: bool,
    pub(super) changed_at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Speaker {
    pub(super) listed_whole: bool,
    pub(super) list_in_flight: bool,
    pub(super) list_due: Timestamp,
    pub(super) failures: u32,
}

/// What should be announced, and where each rule stands.
#[derive(Debug)]
pub struct Mitigator {
    pub(super) config: config::Mitigation,
    pub(super) guard: Guard,
    pub(super) entries: BTreeMap<Uuid, Entry>,
    keys: HashMap<Key, Uuid>,
    pub(super) speakers: BTreeMap<String, Speaker>,
    /// Automatic rules that a person withdrew while their incident goes on.
    declined: BTreeSet<(Uuid, String)>,
    /// Incidents whose rules are lifted to see whether they are over.
    probed: BTreeSet<Uuid>,
    pub(super) loaded: bool,
    pub(super) metrics: Metrics,
}

impl Mitigator {
    /// A mitigator that knows no rule yet. Nothing of a speaker's is touched before [`Mitigator::load`].
    #[must_use]
    pub fn new(config: &config::Mitigation, networks: PrefixSet, metrics: Metrics) -> Self {
        let speakers = config.adapters.iter().map(|adapter| (adapter.id().to_owned(), Speaker::default())).collect();
        let guard = Guard::new(config, networks);
        let (entries, keys, declined, probed) = (BTreeMap::new(), HashMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { config: config.clone(), guard, entries, keys, speakers, declined, probed, loaded: false, metrics }
    }

    /// The rules that are held: live ones, shown ones and refused ones of open incidents.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.entries.values().map(|entry| &entry.rule)
    }

    /// Whether the kill switch is on.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.guard.is_frozen()
    }

    /// Takes up the rules that were live when the program ended: what is wanted still is announced again, the rest is withdrawn.
    ///
    /// `active` are the incidents that are open still. From now on routes of ours that no rule wants are withdrawn.
    pub fn load(&mut self, rules: Vec<Rule>, active: &BTreeSet<Uuid>, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for rule in rules.into_iter().filter(|rule| rule.state.is_live()) {
            let (uuid, state) = (rule.uuid, rule.state);
            let orphaned = rule.owner == RuleOwner::Automatic && rule.incident_uuid.is_none_or(|incident| !active.contains(&incident));
            self.insert(rule, now);
            let wanted = state != RuleState::Withdrawing && !orphaned && self.guarded(uuid).is_ok();
            effects.extend(if wanted {
                self.announce_again(uuid, now)
            } else {
                self.withdraw_rule(uuid, "not wanted after the restart", now)
            });
        }
        self.loaded = true;
        for id in self.speakers.keys().cloned().collect::<Vec<_>>() {
            effects.extend(self.list(&id, now));
        }
        effects
    }

    /// Takes in what the analysts tell.
    pub fn incident(&mut self, event: &Event, now: Timestamp) -> Vec<Effect> {
        let incident = event.incident();
        if incident.status != IncidentStatus::Active || matches!(event, Event::Ended(_)) {
            return self.stand_down(incident.uuid, now);
        }
        match event {
            Event::Probed(_) => {
                self.probed.insert(incident.uuid);
                return self.withdraw_automatic(incident.uuid, "lifted to see whether the attack is over", now);
            }
            Event::Updated(_) if self.probed.contains(&incident.uuid) => return Vec::new(),
            _ => self.probed.remove(&incident.uuid),
        };
        let mut effects = Vec::new();
        if self.guard.networks().next().is_none() {
            // Nothing is ours, so nothing is to be protected: not even a refusal is worth a record.
            return effects;
        }
        for intent in plan::plan(incident, &self.config) {
            effects.extend(self.answer(incident, intent, now));
        }
        effects
    }

    fn answer(&mut self, incident: &Incident, intent: Intent, now: Timestamp) -> Vec<Effect> {
        if self.declined.contains(&(incident.uuid, intent.adapter_id.clone())) {
            return Vec::new();
        }
        let key = (intent.adapter_id.clone(), intent.target, intent.intent_type);
        match self.keys.get(&key).copied() {
            Some(uuid) => self.renew(uuid, now),
            None => self.begin(intent, now),
        }
    }

    /// A new automatic rule: announced, shown or refused, and saved in any case.
    fn begin(&mut self, intent: Intent, now: Timestamp) -> Vec<Effect> {
        let rule = new_rule(intent, now);
        let uuid = rule.uuid;
        self.insert(rule, now);
        self.submit(uuid, now)
    }

    /// Shows a rule to the guard, and does what it says.
    pub(super) fn submit(&mut self, uuid: Uuid, now: Timestamp) -> Vec<Effect> {
        let live = self.entries.values().filter(|entry| entry.rule.uuid != uuid && entry.rule.state.is_live()).count();
        let Some(entry) = self.entries.get_mut(&uuid) else { return Vec::new() };
        let before = (entry.rule.state, entry.rule.error.clone());
        let verdict = match check_adapter(&self.speakers, &entry.rule) {
            // Without an adapter a rule is shown all the same, if it would be let through.
            Err(Refusal::UnknownAdapter { id }) if id == NO_ADAPTER => {
                self.guard.permit(&entry.rule).and(Err(Refusal::UnknownAdapter { id }))
            }
            Err(refusal) => Err(refusal),
            Ok(()) => self.guard.admit(&entry.rule, live, now),
        };
        entry.changed_at = now;
        match verdict {
            Ok(guarded) => {
                entry.rule.state = RuleState::Pending;
                entry.rule.error = None;
                entry.in_flight = true;
                entry.due = None;
                self.metrics.rule_announced(&entry.rule);
                return vec![save(&entry.rule), send(&entry.rule, Command::Announce(guarded))];
            }
            Err(Refusal::DryRun) => {
                entry.rule.state = RuleState::DryRun;
                entry.rule.error = None;
                entry.due = None;
                self.metrics.rule_dry_run(&entry.rule);
            }
            Err(refusal) => {
                entry.rule.state = RuleState::Refused;
                entry.rule.error = Some(refusal.to_string());
                entry.due = Some(now.plus(REFUSED_MILLISECONDS));
            }
        }
        if (entry.rule.state, entry.rule.error.clone()) == before {
            return Vec::new();
        }
        if entry.rule.state == RuleState::Refused {
            self.metrics.rule_refused(&entry.rule);
        }
        vec![save(&entry.rule)]
    }

    /// While an incident lasts, the time of its rule does not run out: it is prolonged when half of it is over.
    fn renew(&mut self, uuid: Uuid, now: Timestamp) -> Vec<Effect> {
        let Some(entry) = self.entries.get_mut(&uuid) else { return Vec::new() };
        let held = matches!(entry.rule.state, RuleState::Pending | RuleState::Active | RuleState::Failed);
        let left = entry.rule.expires_at().map(|end| end.since(now));
        if entry.rule.owner != RuleOwner::Automatic || !held || left.is_none_or(|left| left > self.config.ttl_seconds * 500) {
            return Vec::new();
        }
        entry.rule.ttl = now.since(entry.rule.created_at) / 1_000 + self.config.ttl_seconds;
        vec![save(&entry.rule)]
    }

    /// The incident is over: its automatic rules go.
    fn stand_down(&mut self, incident: Uuid, now: Timestamp) -> Vec<Effect> {
        self.declined.retain(|(own, _)| *own != incident);
        self.probed.remove(&incident);
        self.withdraw_automatic(incident, "the incident has ended", now)
    }

    fn withdraw_automatic(&mut self, incident: Uuid, reason: &str, now: Timestamp) -> Vec<Effect> {
        let own = |entry: &&Entry| entry.rule.incident_uuid == Some(incident) && entry.rule.owner == RuleOwner::Automatic;
        let uuids: Vec<Uuid> = self.entries.values().filter(own).map(|entry| entry.rule.uuid).collect();
        uuids.into_iter().flat_map(|uuid| self.withdraw_rule(uuid, reason, now)).collect()
    }

    /// Announces a rule that a person wants; an automatic one that does the same becomes theirs.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] that holds; nothing is saved then.
    pub fn announce(&mut self, intent: Intent, now: Timestamp) -> Result<(Rule, Vec<Effect>), Refusal> {
        let key = (intent.adapter_id.clone(), intent.target, intent.intent_type);
        let there = self.keys.get(&key).and_then(|uuid| self.entries.get_mut(uuid));
        if let Some(entry) = there.filter(|entry| matches!(entry.rule.state, RuleState::Pending | RuleState::Active | RuleState::Failed)) {
            if entry.rule.owner == RuleOwner::Manual {
                return Err(Refusal::Duplicate { uuid: entry.rule.uuid });
            }
            entry.rule.owner = RuleOwner::Manual;
            entry.rule.reason = intent.reason;
            entry.rule.ttl = if intent.ttl == 0 { 0 } else { now.since(entry.rule.created_at) / 1_000 + intent.ttl };
            return Ok((entry.rule.clone(), vec![save(&entry.rule)]));
        }
        let rule = new_rule(Intent { owner: RuleOwner::Manual, ..intent }, now);
        check_adapter(&self.speakers, &rule)?;
        let live = self.entries.values().filter(|entry| entry.rule.state.is_live()).count();
        let guarded = self.guard.admit(&rule, live, now)?;
        let mut effects = self.make_room(&key, now);
        self.insert(rule.clone(), now);
        if let Some(entry) = self.entries.get_mut(&rule.uuid) {
            entry.in_flight = true;
        }
        self.metrics.rule_announced(&rule);
        effects.extend([save(&rule), send(&rule, Command::Announce(guarded))]);
        Ok((rule, effects))
    }

    /// A rule that is only shown, refused or on its way out gives its place to one that is announced.
    fn make_room(&mut self, key: &Key, now: Timestamp) -> Vec<Effect> {
        let Some(entry) = self.keys.get(key).and_then(|uuid| self.entries.get_mut(uuid)) else { return Vec::new() };
        entry.rule.withdrawn_at = Some(now);
        if entry.rule.state == RuleState::Withdrawing {
            // The new rule takes the route over.
            entry.rule.state = RuleState::Withdrawn;
        }
        let (rule, uuid) = (entry.rule.clone(), entry.rule.uuid);
        self.remove(uuid);
        vec![save(&rule)]
    }

    /// Withdraws a rule by a person's will; `None` if there is no such rule.
    pub fn withdraw(&mut self, uuid: Uuid, now: Timestamp) -> Option<Vec<Effect>> {
        let rule = &self.entries.get(&uuid)?.rule;
        if let (RuleOwner::Automatic, Some(incident)) = (rule.owner, rule.incident_uuid) {
            self.declined.insert((incident, rule.adapter_id.clone()));
        }
        Some(self.withdraw_rule(uuid, "withdrawn by hand", now))
    }

    /// Turns the kill switch: on withdraws every rule and lets nothing through until it is off.
    pub fn freeze(&mut self, frozen: bool, now: Timestamp) -> Vec<Effect> {
        self.guard.set_frozen(frozen);
        self.withdraw_unpermitted(now)
    }

    /// Replaces the allowlist that is set at run time; rules that it protects are withdrawn.
    pub fn set_allowlist(&mut self, allowlist: Vec<Prefix>, now: Timestamp) -> Vec<Effect> {
        self.guard.set_allowlist(allowlist);
        self.withdraw_unpermitted(now)
    }

    /// Turns the dry run: on withdraws automatic rules.
    pub fn set_dry_run(&mut self, dry_run: bool, now: Timestamp) -> Vec<Effect> {
        self.guard.set_dry_run(dry_run);
        self.config.dry_run = dry_run;
        let shown: Vec<Uuid> =
            self.entries.values().filter(|entry| entry.rule.state == RuleState::DryRun).map(|entry| entry.rule.uuid).collect();
        let mut effects = self.withdraw_unpermitted(now);
        effects.extend(shown.into_iter().flat_map(|uuid| self.submit(uuid, now)));
        effects
    }

    fn withdraw_unpermitted(&mut self, now: Timestamp) -> Vec<Effect> {
        let held = |entry: &&Entry| matches!(entry.rule.state, RuleState::Pending | RuleState::Active | RuleState::Failed);
        let refused: Vec<(Uuid, Refusal)> =
            self.entries.values().filter(held).filter_map(|entry| Some((entry.rule.uuid, self.guard.permit(&entry.rule).err()?))).collect();
        refused.into_iter().flat_map(|(uuid, refusal)| self.withdraw_rule(uuid, &refusal.to_string(), now)).collect()
    }

    pub(super) fn guarded(&self, uuid: Uuid) -> Result<GuardedRule, Refusal> {
        let Some(entry) = self.entries.get(&uuid) else { return Err(Refusal::UnknownAdapter { id: NO_ADAPTER.to_owned() }) };
        check_adapter(&self.speakers, &entry.rule)?;
        self.guard.permit(&entry.rule)
    }

    fn insert(&mut self, rule: Rule, now: Timestamp) {
        self.keys.insert(key_of(&rule), rule.uuid);
        self.entries.insert(rule.uuid, Entry { rule, failures: 0, due: None, in_flight: false, changed_at: now });
    }

    pub(super) fn remove(&mut self, uuid: Uuid) {
        if let Some(entry) = self.entries.remove(&uuid) {
            let key = key_of(&entry.rule);
            if self.keys.get(&key) == Some(&uuid) {
                self.keys.remove(&key);
            }
        }
    }
}

fn check_adapter(speakers: &BTreeMap<String, Speaker>, rule: &Rule) -> Result<(), Refusal> {
    if !speakers.contains_key(&rule.adapter_id) {
        return Err(Refusal::UnknownAdapter { id: rule.adapter_id.clone() });
    }
    match rule.intent_type {
        IntentType::Blackhole => Ok(()),
        IntentType::Flowspec => Err(Refusal::Unsupported { id: rule.adapter_id.clone(), intent: "flowspec" }),
        IntentType::Scrubbing => Err(Refusal::Unsupported { id: rule.adapter_id.clone(), intent: "scrubbing" }),
    }
}

fn new_rule(intent: Intent, now: Timestamp) -> Rule {
    Rule {
        uuid: Uuid::new_v4(),
        target: intent.target,
        intent_type: intent.intent_type,
        adapter_id: intent.adapter_id,
        incident_uuid: intent.incident_uuid,
        owner: intent.owner,
        reason: intent.reason,
        ttl: intent.ttl,
        state: RuleState::Pending,
        error: None,
        created_at: now,
        confirmed_at: None,
        withdrawn_at: None,
    }
}

fn key_of(rule: &Rule) -> Key {
    (rule.adapter_id.clone(), rule.target, rule.intent_type)
}

pub(super) fn save(rule: &Rule) -> Effect {
    Effect::Save(Box::new(rule.clone()))
}

pub(super) fn send(rule: &Rule, command: Command) -> Effect {
    Effect::Send(rule.adapter_id.clone(), command)
}
