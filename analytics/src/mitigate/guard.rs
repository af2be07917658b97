//! The gate before every speaker: a [`GuardedRule`] can be made here only, and adapters take nothing else.

use std::collections::VecDeque;

use schemas::net::{Prefix, PrefixSet};
use schemas::rule::{IntentType, Rule, RuleOwner};
use schemas::time::Timestamp;
use uuid::Uuid;

use crate::config::Mitigation;

/// A rule that the guard has let through, at the moment when it is handed to its adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedRule {
    uuid: Uuid,
    target: Prefix,
    intent_type: IntentType,
    adapter_id: String,
}

impl GuardedRule {
    /// The rule's name.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Whose traffic it touches.
    #[must_use]
    pub fn target(&self) -> Prefix {
        self.target
    }

    /// What it does.
    #[must_use]
    pub fn intent_type(&self) -> IntentType {
        self.intent_type
    }

    /// The adapter that announces it.
    #[must_use]
    pub fn adapter_id(&self) -> &str {
        &self.adapter_id
    }
}

/// Why a rule is not announced.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The kill switch is on.
    #[error("mitigation is frozen")]
    Frozen,
    /// The configuration names no networks of ours.
    #[error("no networks are configured, so no rule is ever announced")]
    NoNetworks,
    /// The target is not ours, or not all of it.
    #[error("{target} is not within our networks")]
    OutsideNetworks {
        /// The target.
        target: Prefix,
    },
    /// The target is on the allowlist, or holds or lies in something that is.
    #[error("{target} is protected by the allowlist entry {entry}")]
    Allowlisted {
        /// The target.
        target: Prefix,
        /// The entry.
        entry: Prefix,
    },
    /// The target holds too many addresses.
    #[error("{target} is wider than /{length_min}, the widest that may be announced")]
    TooWide {
        /// The target.
        target: Prefix,
        /// The shortest length that may be.
        length_min: u8,
    },
    /// No adapter has that name.
    #[error("no adapter {id}")]
    UnknownAdapter {
        /// The name.
        id: String,
    },
    /// The adapter cannot do this.
    #[error("adapter {id} does not announce {intent}")]
    Unsupported {
        /// The adapter.
        id: String,
        /// What was wanted.
        intent: &'static str,
    },
    /// The same rule is there already.
    #[error("rule {uuid} does the same")]
    Duplicate {
        /// That rule.
        uuid: Uuid,
    },
    /// Automatic rules are only shown.
    #[error("dry run: automatic rules are only shown")]
    DryRun,
    /// As many rules are announced as may be.
    #[error("{max} rules are announced, more may not be")]
    RulesMax {
        /// The bound.
        max: usize,
    },
    /// As many rules were announced in this minute as may be.
    #[error("{max} rules were announced in the last minute, more may not be")]
    RulesPerMinute {
        /// The bound.
        max: usize,
    },
}

/// Holds what may be announced at all, and how much of it.
#[derive(Debug)]
pub struct Guard {
    networks: PrefixSet,
    configured: Vec<Prefix>,
    allowlist: Vec<Prefix>,
    frozen: bool,
    dry_run: bool,
    length_min_v4: u8,
    length_min_v6: u8,
    rules_max: usize,
    rules_per_minute_max: usize,
    admitted: VecDeque<Timestamp>,
}

impl Guard {
    /// A guard of `networks`; without any it lets nothing through.
    #[must_use]
    pub fn new(config: &Mitigation, networks: PrefixSet) -> Self {
        Self {
            networks,
            configured: config.allowlist.clone(),
            allowlist: Vec::new(),
            frozen: false,
            dry_run: config.dry_run,
            length_min_v4: config.prefix_length_min_v4,
            length_min_v6: config.prefix_length_min_v6,
            rules_max: config.rules_max,
            rules_per_minute_max: config.rules_per_minute_max,
            admitted: VecDeque::new(),
        }
    }

    /// Turns the kill switch.
    pub fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Whether the kill switch is on.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Turns the dry run of automatic rules.
    pub fn set_dry_run(&mut self, dry_run: bool) {
        self.dry_run = dry_run;
    }

    /// Replaces the entries that are set at run time; those of the configuration stay.
    pub fn set_allowlist(&mut self, allowlist: Vec<Prefix>) {
        self.allowlist = allowlist;
    }

    /// The networks that are guarded.
    pub fn networks(&self) -> impl Iterator<Item = Prefix> {
        self.networks.iter().map(|(prefix, ())| *prefix)
    }

    /// Lets through what may be announced: for a rule that is announced already and must be again.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that holds, without those on the number of rules.
    pub fn permit(&self, rule: &Rule) -> Result<GuardedRule, Refusal> {
        let target = rule.target;
        if self.frozen {
            return Err(Refusal::Frozen);
        }
        if self.networks.is_empty() {
            return Err(Refusal::NoNetworks);
        }
        if !self.networks.covers(target) {
            return Err(Refusal::OutsideNetworks { target });
        }
        let protects = |entry: &&Prefix| entry.covers(target) || target.covers(**entry);
        if let Some(entry) = self.configured.iter().chain(&self.allowlist).find(protects) {
            return Err(Refusal::Allowlisted { target, entry: *entry });
        }
        let length_min = if target.is_v4() { self.length_min_v4 } else { self.length_min_v6 };
        if target.length() < length_min {
            return Err(Refusal::TooWide { target, length_min });
        }
        if self.dry_run && rule.owner == RuleOwner::Automatic {
            return Err(Refusal::DryRun);
        }
        Ok(GuardedRule { uuid: rule.uuid, target, intent_type: rule.intent_type, adapter_id: rule.adapter_id.clone() })
    }

    /// Lets a new rule through if it may be announced and `live` others leave room; counts it.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that holds.
    pub fn admit(&mut self, rule: &Rule, live: usize, now: Timestamp) -> Result<GuardedRule, Refusal> {
        let guarded = self.permit(rule)?;
        if live >= self.rules_max {
            return Err(Refusal::RulesMax { max: self.rules_max });
        }
        while self.admitted.front().is_some_and(|earliest| now.since(*earliest) >= 60_000) {
            self.admitted.pop_front();
        }
        if self.admitted.len() >= self.rules_per_minute_max {
            return Err(Refusal::RulesPerMinute { max: self.rules_per_minute_max });
        }
        self.admitted.push_back(now);
        Ok(guarded)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemas::net::Address;
    use schemas::rule::RuleState;

    use super::*;

    fn rule(target: Prefix, owner: RuleOwner) -> Rule {
        Rule {
            uuid: Uuid::nil(),
            target,
            intent_type: IntentType::Blackhole,
            adapter_id: "edge".into(),
            incident_uuid: None,
            owner,
            reason: String::new(),
            ttl: 0,
            state: RuleState::Pending,
            error: None,
            created_at: Timestamp(0),
            confirmed_at: None,
            withdrawn_at: None,
        }
    }

    fn guard(networks: &[&str], config: &Mitigation) -> Guard {
        Guard::new(config, networks.iter().map(|text| text.parse::<Prefix>().unwrap()).collect())
    }

    fn refusal(guard: &Guard, target: &str) -> Option<Refusal> {
        guard.permit(&rule(target.parse().unwrap(), RuleOwner::Manual)).err()
    }

    #[test]
    fn without_networks_nothing_is_announced() {
        assert_eq!(refusal(&guard(&[], &Mitigation::default()), "203.0.113.7"), Some(Refusal::NoNetworks));
    }

    #[test]
    fn hosts_of_ours_pass_and_nothing_else_does() {
        let guard = guard(&["203.0.113.0/24", "2001:db8::/32"], &Mitigation::default());
        assert_eq!(refusal(&guard, "203.0.113.7"), None);
        assert_eq!(refusal(&guard, "2001:db8::7"), None);
        assert!(matches!(refusal(&guard, "198.51.100.7"), Some(Refusal::OutsideNetworks { .. })));
        assert!(matches!(refusal(&guard, "203.0.112.0/23"), Some(Refusal::OutsideNetworks { .. })));
        assert!(matches!(refusal(&guard, "203.0.113.0/31"), Some(Refusal::TooWide { length_min: 32, .. })));
        assert!(matches!(refusal(&guard, "2001:db8::/64"), Some(Refusal::TooWide { length_min: 128, .. })));
    }

    #[test]
    fn the_allowlist_protects_what_lies_in_it_and_around_it() {
        let config = Mitigation { allowlist: vec!["203.0.113.53".parse().unwrap()], prefix_length_min_v4: 24, ..Mitigation::default() };
        let mut guard = guard(&["203.0.113.0/24"], &config);
        guard.set_allowlist(vec!["203.0.113.64/28".parse().unwrap()]);
        assert!(matches!(refusal(&guard, "203.0.113.53"), Some(Refusal::Allowlisted { .. })));
        assert!(matches!(refusal(&guard, "203.0.113.70"), Some(Refusal::Allowlisted { .. })));
        assert!(matches!(refusal(&guard, "203.0.113.0/24"), Some(Refusal::Allowlisted { .. })));
        assert_eq!(refusal(&guard, "203.0.113.54"), None);
    }

    #[test]
    fn a_dry_run_holds_back_automatic_rules_only() {
        let guard = guard(&["203.0.113.0/24"], &Mitigation::default());
        let target = "203.0.113.7".parse().unwrap();
        assert_eq!(guard.permit(&rule(target, RuleOwner::Automatic)), Err(Refusal::DryRun));
        assert!(guard.permit(&rule(target, RuleOwner::Manual)).is_ok());
    }

    #[test]
    fn rules_have_a_bound_in_all_and_a_minute() {
        let config = Mitigation { rules_max: 5, rules_per_minute_max: 2, ..Mitigation::default() };
        let mut guard = guard(&["203.0.113.0/24"], &config);
        let wanted = rule("203.0.113.7".parse().unwrap(), RuleOwner::Manual);
        assert_eq!(guard.admit(&wanted, 5, Timestamp(0)), Err(Refusal::RulesMax { max: 5 }));
        assert!(guard.admit(&wanted, 0, Timestamp(0)).is_ok());
        assert!(guard.admit(&wanted, 1, Timestamp(59_999)).is_ok());
        assert_eq!(guard.admit(&wanted, 2, Timestamp(59_999)), Err(Refusal::RulesPerMinute { max: 2 }));
        assert!(guard.admit(&wanted, 2, Timestamp(60_000)).is_ok());
    }

    fn prefixes(count: usize) -> impl Strategy<Value = Vec<Prefix>> {
        let v4 = (0u32..=0xff, 24u8..=32).prop_map(|(low, length)| Prefix::of(Address::from_v4(0xcb00_7100 | low), length));
        let v6 = (0u128..=0xff, 120u8..=128).prop_map(|(low, length)| Prefix::of(Address(0x2001_0db8_u128 << 96 | low), length));
        proptest::collection::vec(prop_oneof![v4, v6], 0..count)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// What passes lies wholly within a network, touches no allowlist entry, is narrow enough, and nothing passes the kill switch.
        #[test]
        fn nothing_but_what_may_be_announced_becomes_a_guarded_rule(
            networks in prefixes(4),
            configured in prefixes(3),
            runtime in prefixes(3),
            targets in prefixes(20),
            frozen in any::<bool>(),
            dry_run in any::<bool>(),
            automatic in any::<bool>(),
            length_min_v4 in 24u8..=32,
            length_min_v6 in 120u8..=128,
        ) {
            let config = Mitigation {
                allowlist: configured.clone(), dry_run, prefix_length_min_v4: length_min_v4, prefix_length_min_v6: length_min_v6, ..Mitigation::default()
            };
            let mut guard = Guard::new(&config, networks.iter().copied().collect());
            guard.set_allowlist(runtime.clone());
            guard.set_frozen(frozen);
            let owner = if automatic { RuleOwner::Automatic } else { RuleOwner::Manual };
            for target in targets {
                // Address by address, by another way than the guard's.
                let addresses = || target.first().0..=target.last().0;
                let ours = addresses().all(|address| networks.iter().any(|network| network.contains(Address(address))));
                let spared = configured.iter().chain(&runtime).any(|entry| addresses().any(|address| entry.contains(Address(address))));
                let narrow = target.length() >= if target.is_v4() { length_min_v4 } else { length_min_v6 };
                let passed = guard.admit(&rule(target, owner), 0, Timestamp(0));
                if let Ok(guarded) = &passed {
                    prop_assert!(ours && !spared && narrow && !frozen && !(automatic && dry_run));
                    prop_assert_eq!(guarded.target(), target);
                }
                // One network covers the target: then nothing else may hold it back but the bound on rules a minute.
                let covered = networks.iter().any(|network| network.covers(target));
                if covered && !spared && narrow && !frozen && !(automatic && dry_run) {
                    let free = matches!(passed, Ok(_) | Err(Refusal::RulesPerMinute { .. }));
                    prop_assert!(free, "{:?}", passed);
                }
            }
        }
    }
}
