//! The mitigator against a speaker in memory, in whatever order things happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use analytics::config::Mitigation;
use analytics::mitigate::adapters::Carried;
use analytics::mitigate::plan::Intent;
use analytics::mitigate::{Command, Effect, Outcome};
use proptest::prelude::*;
use schemas::net::Prefix;
use schemas::rule::{Rule, RuleState};
use schemas::time::Timestamp;
use uuid::Uuid;

use super::{EDGE, config, ended, intent, mitigator, opened, peers};

/// A speaker in memory: does what it is told, in order, and fails when it is told to.
#[derive(Default)]
struct Speaker {
    queue: VecDeque<Command>,
    routes: BTreeSet<Prefix>,
    fails: bool,
}

impl Speaker {
    fn step(&mut self) -> Option<Outcome> {
        let command = self.queue.pop_front()?;
        let error = || "away".to_owned();
        Some(match command {
            Command::Announce(rule) if self.fails => Outcome::Carried(rule.uuid(), Err(error())),
            Command::Announce(rule) => {
                self.routes.insert(rule.target());
                Outcome::Carried(rule.uuid(), peers())
            }
            Command::Check { uuid, .. } if self.fails => Outcome::Carried(uuid, Err(error())),
            Command::Check { uuid, target } => {
                Outcome::Carried(uuid, if self.routes.contains(&target) { peers() } else { Ok(Carried::Absent) })
            }
            Command::Withdraw { uuid, .. } if self.fails => Outcome::Gone(uuid, Err(error())),
            Command::Withdraw { uuid, target } => {
                self.routes.remove(&target);
                Outcome::Gone(uuid, Ok(()))
            }
            Command::List { asked_at, .. } if self.fails => Outcome::Listed(asked_at, Err(error())),
            Command::List { asked_at, .. } => Outcome::Listed(asked_at, Ok(self.routes.iter().copied().collect())),
        })
    }
}

#[derive(Clone, Debug)]
enum Act {
    Open(u8),
    End(u8),
    Announce(u8, u64),
    Withdraw(usize),
    Freeze(bool),
    Allow(u8),
    Fail(bool),
    Lose(u8),
    Plant(u8),
    Wait(u64),
    Step,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0u8..6).prop_map(Act::Open),
        2 => (0u8..6).prop_map(Act::End),
        2 => (0u8..6, 0u64..20).prop_map(|(host, ttl)| Act::Announce(host, ttl)),
        1 => (0usize..6).prop_map(Act::Withdraw),
        1 => any::<bool>().prop_map(Act::Freeze),
        1 => (0u8..8).prop_map(Act::Allow),
        1 => any::<bool>().prop_map(Act::Fail),
        1 => (0u8..6).prop_map(Act::Lose),
        1 => (0u8..10).prop_map(Act::Plant),
        3 => (1u64..15_000).prop_map(Act::Wait),
        6 => Just(Act::Step),
    ];
    proptest::collection::vec(act, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    /// Whatever happens in whatever order: every announcement is of a rule saved before, none goes out while frozen, and when all has settled the
    /// speaker carries just the rules that are active.
    #[test]
    fn the_speaker_ends_up_with_what_is_wanted(acts in acts()) {
        let mut mitigator = mitigator(&Mitigation { rules_per_minute_max: 1_000, ..config() });
        let (mut speaker, mut now, mut saved) = (Speaker::default(), 1_000u64, BTreeMap::<Uuid, Rule>::new());
        let host = |host: u8| format!("203.0.113.{host}");
        let mut open = BTreeSet::new();
        let settle = (0..400).map(|_| Act::Wait(500));
        let acts = acts.into_iter().chain([Act::Fail(false)]).chain(settle);
        for act in acts {
            let at = Timestamp(now);
            let effects = match act {
                Act::Open(own) => {
                    open.insert(own);
                    mitigator.incident(&opened(u128::from(own) + 1, &host(own)), at)
                }
                Act::End(own) => {
                    open.remove(&own);
                    mitigator.incident(&ended(u128::from(own) + 1, &host(own)), at)
                }
                Act::Announce(own, ttl) => mitigator.announce(Intent { ttl, ..intent(&host(own)) }, at).map(|(_, effects)| effects).unwrap_or_default(),
                Act::Withdraw(index) => {
                    let uuid = mitigator.rules().nth(index).map(|rule| rule.uuid);
                    uuid.and_then(|uuid| mitigator.withdraw(uuid, at)).unwrap_or_default()
                }
                Act::Freeze(frozen) => mitigator.freeze(frozen, at),
                Act::Allow(own) => mitigator.set_allowlist(vec![host(own).parse().unwrap()], at),
                Act::Fail(fails) => { speaker.fails = fails; Vec::new() }
                Act::Lose(own) => { speaker.routes.remove(&host(own).parse().unwrap()); Vec::new() }
                Act::Plant(own) => { speaker.routes.insert(host(own).parse().unwrap()); Vec::new() }
                Act::Wait(milliseconds) => {
                    now += milliseconds;
                    let mut effects = mitigator.tick(Timestamp(now));
                    while let Some(outcome) = speaker.step() {
                        effects.extend(mitigator.outcome(EDGE, outcome, Timestamp(now)));
                    }
                    effects
                }
                Act::Step => speaker.step().map(|outcome| mitigator.outcome(EDGE, outcome, at)).unwrap_or_default(),
            };
            for effect in effects {
                match effect {
                    Effect::Save(rule) => { saved.insert(rule.uuid, *rule); }
                    Effect::Send(_, command) => {
                        if let Command::Announce(rule) = &command {
                            prop_assert!(saved.contains_key(&rule.uuid()), "announced before it was saved");
                            prop_assert!(!mitigator.is_frozen());
                        }
                        speaker.queue.push_back(command);
                    }
                }
            }
            let live: Vec<Prefix> = mitigator.rules().filter(|rule| rule.state.is_live()).map(|rule| rule.target).collect();
            prop_assert_eq!(live.len(), live.iter().collect::<BTreeSet<_>>().len(), "two rules of one kind");
        }
        let active: BTreeSet<Prefix> = mitigator.rules().filter(|rule| rule.state == RuleState::Active).map(|rule| rule.target).collect();
        prop_assert_eq!(&speaker.routes, &active);
        prop_assert!(mitigator.rules().all(|rule| !rule.state.is_live() || rule.state == RuleState::Active), "{:?}", mitigator.rules().collect::<Vec<_>>());
        // What is told of each rule last is what holds.
        for rule in mitigator.rules() {
            prop_assert_eq!(saved.get(&rule.uuid).map(|own| own.state), Some(rule.state));
        }
    }
}
