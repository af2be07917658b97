//! The leak probe: behind a rule that stops an attack upstream, silence says nothing, so the rule is lifted for a while to look.

use std::collections::BTreeSet;

use schemas::rule::{Rule, RuleOwner, RuleState};
use schemas::time::Timestamp;
use uuid::Uuid;

/// First wait after a probe that let the attack back in; it doubles with each, up to [`WAIT_MILLISECONDS_MAX`].
const WAIT_MILLISECONDS: u64 = 60_000;
const WAIT_MILLISECONDS_MAX: u64 = 3_600_000;

/// What is known of one incident's rules, and of the looks behind them.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Automatic rules that the speakers carry.
    rules: BTreeSet<Uuid>,
    /// Since when the rules are lifted.
    since: Option<Timestamp>,
    /// Not before then again.
    next_at: Timestamp,
    /// Probes in a row that let the attack in.
    failures: u32,
}

impl Probe {
    /// Takes in what became of a rule of this incident.
    pub fn rule_changed(&mut self, rule: &Rule) {
        if rule.state == RuleState::Active && rule.owner == RuleOwner::Automatic {
            self.rules.insert(rule.uuid);
        } else {
            self.rules.remove(&rule.uuid);
        }
    }

    /// Whether a rule may be why it is quiet.
    #[must_use]
    pub fn is_shielded(&self) -> bool {
        self.since.is_none() && !self.rules.is_empty()
    }

    /// Whether the rules may be lifted now.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.is_shielded() && now >= self.next_at
    }

    /// When the rules were lifted, while they are.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// The rules are lifted.
    pub fn begin(&mut self, now: Timestamp) {
        self.since = Some(now);
    }

    /// The attack is back, if there is a probe: the next one waits longer.
    pub fn fail(&mut self, now: Timestamp) -> bool {
        let probing = self.since.take().is_some();
        if probing {
            let wait = WAIT_MILLISECONDS.saturating_mul(1 << self.failures.min(10)).min(WAIT_MILLISECONDS_MAX);
            self.next_at = now.plus(wait);
            self.failures += 1;
        }
        probing
    }
}

#[cfg(test)]
mod tests {
    use schemas::rule::IntentType;

    use super::*;

    fn rule(state: RuleState, owner: RuleOwner) -> Rule {
        Rule {
            uuid: Uuid::from_u128(1),
            target: "203.0.113.7".parse().unwrap(),
            intent_type: IntentType::Blackhole,
            adapter_id: "edge".to_owned(),
            incident_uuid: None,
            owner,
            reason: String::new(),
            ttl: 600,
            state,
            error: None,
            created_at: Timestamp(0),
            confirmed_at: None,
            withdrawn_at: None,
        }
    }

    #[test]
    fn only_an_automatic_rule_that_is_carried_hides_an_attack() {
        let mut probe = Probe::default();
        for (state, owner) in
            [(RuleState::Pending, RuleOwner::Automatic), (RuleState::Active, RuleOwner::Manual), (RuleState::DryRun, RuleOwner::Automatic)]
        {
            probe.rule_changed(&rule(state, owner));
            assert!(!probe.is_shielded());
        }
        probe.rule_changed(&rule(RuleState::Active, RuleOwner::Automatic));
        assert!(probe.is_due(Timestamp(0)));
        probe.rule_changed(&rule(RuleState::Withdrawing, RuleOwner::Automatic));
        assert!(!probe.is_shielded());
    }

    #[test]
    fn each_probe_that_lets_the_attack_in_doubles_the_wait() {
        let mut probe = Probe::default();
        let mut now = Timestamp(1_000_000);
        assert!(!probe.fail(now));
        for wait in [60_000, 120_000, 240_000] {
            probe.rule_changed(&rule(RuleState::Active, RuleOwner::Automatic));
            assert!(probe.is_due(now));
            probe.begin(now);
            assert!(!probe.is_shielded() && probe.fail(now));
            assert!(!probe.is_due(now.plus(wait - 1)));
            now = now.plus(wait);
        }
        (0..40).for_each(|_| {
            probe.begin(now);
            probe.fail(now);
        });
        assert!(probe.is_due(now.plus(3_600_000)));
    }
}
