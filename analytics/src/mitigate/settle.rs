//! What became of it: answers of adapters, comparison with what they carry, retries, and time that runs out.

use schemas::net::Prefix;
use schemas::rule::RuleState;
use schemas::time::Timestamp;
use uuid::Uuid;

use super::adapters::Carried;
use super::mitigator::{Entry, Mitigator, Speaker, save, send};
use super::{Command, Effect, Outcome};

/// First wait before something that failed is tried again; it doubles up to [`RETRY_MILLISECONDS_MAX`].
const RETRY_MILLISECONDS: u64 = 500;
const RETRY_MILLISECONDS_MAX: u64 = 30_000;
impl Mitigator {
    /// Takes in what an adapter says.
    pub fn outcome(&mut self, adapter: &str, outcome: Outcome, now: Timestamp) -> Vec<Effect> {
        match outcome {
            Outcome::Carried(uuid, result) => self.carried(uuid, result, now),
            Outcome::Gone(uuid, result) => self.gone(adapter, uuid, result, now),
            Outcome::Listed(asked_at, result) => self.listed(adapter, asked_at, result, now),
        }
    }

    fn carried(&mut self, uuid: Uuid, result: Result<Carried, String>, now: Timestamp) -> Vec<Effect> {
        let Some(entry) = self.entries.get_mut(&uuid) else { return Vec::new() };
        if entry.rule.state == RuleState::Withdrawing {
            // The withdrawal is behind this command in the adapter's queue.
            return Vec::new();
        }
        entry.in_flight = false;
        let before = entry.rule.clone();
        match result {
            Ok(carried @ (Carried::Peers(_) | Carried::Alone)) => {
                entry.rule.state = RuleState::Active;
                entry.rule.error = (carried == Carried::Alone).then(|| "the speaker has no peers: read back from its own table".to_owned());
                entry.rule.confirmed_at = entry.rule.confirmed_at.or(Some(now));
                (entry.failures, entry.due) = (0, None);
                if before.state != RuleState::Active {
                    self.metrics.rule_confirmed(&entry.rule);
                }
            }
            Ok(Carried::TableOnly) => {
                entry.rule.state = RuleState::Pending;
                entry.rule.error = Some("in the speaker's table, but no established peer is sent it".to_owned());
                entry.retry(now);
            }
            Ok(Carried::Absent) => return self.announce_again(uuid, now),
            Err(error) => {
                entry.rule.state = RuleState::Failed;
                self.metrics.adapter_failed(&entry.rule.adapter_id, &error);
                entry.rule.error = Some(error);
                entry.retry(now);
            }
        }
        if entry.rule == before {
            return Vec::new();
        }
        entry.changed_at = now;
        vec![save(&entry.rule)]
    }

    fn gone(&mut self, adapter: &str, uuid: Option<Uuid>, result: Result<(), String>, now: Timestamp) -> Vec<Effect> {
        if let Err(error) = &result {
            self.metrics.adapter_failed(adapter, error);
        }
        let Some(entry) = uuid.and_then(|uuid| self.entries.get_mut(&uuid)) else { return Vec::new() };
        if entry.rule.state != RuleState::Withdrawing {
            return Vec::new();
        }
        entry.in_flight = false;
        match result {
            Ok(()) => {
                entry.rule.state = RuleState::Withdrawn;
                entry.rule.error = None;
                entry.rule.withdrawn_at = Some(now);
                let rule = entry.rule.clone();
                self.metrics.rule_withdrawn(&rule);
                self.remove(rule.uuid);
                vec![save(&rule)]
            }
            Err(error) => {
                entry.retry(now);
                let is_news = entry.rule.error.as_ref() != Some(&error);
                entry.rule.error = Some(error);
                if is_news { vec![save(&entry.rule)] } else { Vec::new() }
            }
        }
    }

    /// Compares what a speaker carries with what it should: missing routes are announced again, those of ours that no rule wants are withdrawn.
    fn listed(&mut self, adapter: &str, asked_at: Timestamp, result: Result<Vec<Prefix>, String>, now: Timestamp) -> Vec<Effect> {
        let Some(speaker) = self.speakers.get_mut(adapter) else { return Vec::new() };
        speaker.list_in_flight = false;
        let routes = match result {
            Ok(routes) => routes,
            Err(error) => {
                speaker.failures += 1;
                speaker.list_due = now.plus(back_off(speaker.failures));
                self.metrics.adapter_failed(adapter, &error);
                return Vec::new();
            }
        };
        (speaker.failures, speaker.listed_whole) = (0, true);
        speaker.list_due = now.plus(self.config.reconcile_seconds.max(1) * 1_000);
        let mut effects = Vec::new();
        // What has changed since it was asked, the list cannot know.
        let settled = |entry: &&Entry| entry.rule.adapter_id == adapter && !entry.in_flight && entry.changed_at <= asked_at;
        let missing =
            |entry: &&Entry| matches!(entry.rule.state, RuleState::Active | RuleState::Pending) && !routes.contains(&entry.rule.target);
        let missing: Vec<Uuid> = self.entries.values().filter(settled).filter(missing).map(|entry| entry.rule.uuid).collect();
        for uuid in missing {
            effects.extend(self.announce_again(uuid, now));
        }
        for target in routes {
            let known = self
                .entries
                .values()
                .any(|entry| entry.rule.adapter_id == adapter && entry.rule.target == target && entry.rule.state.is_live());
            if !known && self.loaded {
                self.metrics.orphan_withdrawn(adapter, target);
                effects.push(Effect::Send(adapter.to_owned(), Command::Withdraw { uuid: None, target }));
            }
        }
        effects
    }

    /// Time passes: rules expire, what failed is tried again, speakers are compared.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let expired = |entry: &&Entry| entry.rule.state != RuleState::Withdrawing && entry.rule.expires_at().is_some_and(|end| end <= now);
        let expired: Vec<Uuid> = self.entries.values().filter(expired).map(|entry| entry.rule.uuid).collect();
        for uuid in expired {
            effects.extend(self.withdraw_rule(uuid, "its time has run out", now));
        }
        let due = |entry: &&Entry| !entry.in_flight && entry.due.is_some_and(|due| due <= now);
        let due: Vec<(Uuid, RuleState)> = self.entries.values().filter(due).map(|entry| (entry.rule.uuid, entry.rule.state)).collect();
        for (uuid, state) in due {
            effects.extend(match state {
                RuleState::Refused => self.submit(uuid, now),
                RuleState::Withdrawing => self.withdraw_again(uuid),
                RuleState::Pending => self.check_again(uuid),
                _ => self.announce_again(uuid, now),
            });
        }
        let lists = |(id, speaker): (&String, &Speaker)| (!speaker.list_in_flight && speaker.list_due <= now).then(|| id.clone());
        if self.loaded {
            for id in self.speakers.iter().filter_map(lists).collect::<Vec<_>>() {
                effects.extend(self.list(&id, now));
            }
        }
        effects
    }

    /// A rule could not be saved: it is not announced, and tried again like any failure.
    pub fn unsaved(&mut self, uuid: Uuid, error: &str, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&uuid).filter(|entry| entry.rule.state == RuleState::Pending) {
            entry.rule.state = RuleState::Failed;
            entry.rule.error = Some(format!("not saved, so not announced: {error}"));
            entry.in_flight = false;
            entry.retry(now);
        }
    }

    pub(super) fn announce_again(&mut self, uuid: Uuid, now: Timestamp) -> Vec<Effect> {
        match self.guarded(uuid) {
            Err(refusal) => self.withdraw_rule(uuid, &refusal.to_string(), now),
            Ok(guarded) => {
                let Some(entry) = self.entries.get_mut(&uuid) else { return Vec::new() };
                let was = entry.rule.state;
                entry.rule.state = RuleState::Pending;
                (entry.in_flight, entry.due, entry.changed_at) = (true, None, now);
                let command = send(&entry.rule, Command::Announce(guarded));
                // A retry is no news; that a confirmed rule has to be announced again is.
                if was == RuleState::Active { vec![save(&entry.rule), command] } else { vec![command] }
            }
        }
    }

    fn check_again(&mut self, uuid: Uuid) -> Vec<Effect> {
        let Some(entry) = self.entries.get_mut(&uuid) else { return Vec::new() };
        (entry.in_flight, entry.due) = (true, None);
        vec![send(&entry.rule, Command::Check { uuid, target: entry.rule.target })]
    }

    fn withdraw_again(&mut self, uuid: Uuid) -> Vec<Effect> {
        let Some(entry) = self.entries.get_mut(&uuid) else { return Vec::new() };
        (entry.in_flight, entry.due) = (true, None);
        vec![send(&entry.rule, Command::Withdraw { uuid: Some(uuid), target: entry.rule.target })]
    }

    pub(super) fn withdraw_rule(&mut self, uuid: Uuid, why: &str, now: Timestamp) -> Vec<Effect> {
        let Some(entry) = self.entries.get_mut(&uuid) else { return Vec::new() };
        if !entry.rule.state.is_live() || !self.speakers.contains_key(&entry.rule.adapter_id) {
            // It was never announced, or there is nobody left who could withdraw it.
            entry.rule.withdrawn_at = Some(now);
            if entry.rule.state.is_live() {
                entry.rule.state = RuleState::Withdrawn;
                entry.rule.error = Some(format!("adapter {} is no longer configured", entry.rule.adapter_id));
            }
            let rule = entry.rule.clone();
            self.remove(uuid);
            return vec![save(&rule)];
        }
        if entry.rule.state == RuleState::Withdrawing && entry.in_flight {
            return Vec::new();
        }
        entry.rule.state = RuleState::Withdrawing;
        entry.rule.error = Some(why.to_owned());
        (entry.changed_at, entry.failures) = (now, 0);
        let saved = save(&entry.rule);
        std::iter::once(saved).chain(self.withdraw_again(uuid)).collect()
    }

    pub(super) fn list(&mut self, adapter: &str, now: Timestamp) -> Vec<Effect> {
        let networks: Vec<Prefix> = self.guard.networks().collect();
        let Some(speaker) = self.speakers.get_mut(adapter) else { return Vec::new() };
        speaker.list_in_flight = true;
        // The first look is at everything, since the networks may have been others; later ones spare a speaker that holds the whole internet.
        let networks = speaker.listed_whole.then_some(networks);
        vec![Effect::Send(adapter.to_owned(), Command::List { networks, asked_at: now })]
    }
}

impl Entry {
    fn retry(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now.plus(back_off(self.failures)));
    }
}

fn back_off(failures: u32) -> u64 {
    RETRY_MILLISECONDS.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETRY_MILLISECONDS_MAX)
}
