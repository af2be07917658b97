//! The mitigator from incidents and wishes to commands and rules, on a clock of the test's own and without a speaker.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use analytics::Event;
use analytics::config::{self, Mitigation};
use analytics::metrics::Metrics;
use analytics::mitigate::adapters::Carried;
use analytics::mitigate::guard::Refusal;
use analytics::mitigate::plan::Intent;
use analytics::mitigate::{Command, Effect, Mitigator, Outcome};
use schemas::counter::Direction;
use schemas::incident::{Family, Incident, IncidentStatus, LimitSource, Metric, Severity, Threshold};
use schemas::net::{Prefix, PrefixSet};
use schemas::rule::{IntentType, Rule, RuleOwner, RuleState};
use schemas::time::Timestamp;
use uuid::Uuid;

#[path = "mitigation/model.rs"]
mod model;

const EDGE: &str = "edge";

fn adapter(id: &str) -> config::Adapter {
    toml::from_str(&format!("type = \"gobgp\"\nid = \"{id}\"")).unwrap()
}

fn config() -> Mitigation {
    Mitigation { dry_run: false, adapters: vec![adapter(EDGE)], ..Mitigation::default() }
}

fn mitigator(config: &Mitigation) -> Mitigator {
    let networks: PrefixSet = ["203.0.113.0/24", "2001:db8::/32"].iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
    let mut mitigator = Mitigator::new(config, networks, Metrics::default());
    let effects = mitigator.load(Vec::new(), &BTreeSet::new(), Timestamp(0));
    for id in config.adapters.iter().map(config::Adapter::id) {
        mitigator.outcome(id, Outcome::Listed(Timestamp(0), Ok(Vec::new())), Timestamp(0));
    }
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Send(_, Command::List { networks: None, .. }))));
    mitigator
}

fn incident(number: u128, target: &str) -> Incident {
    let threshold = Threshold { metric: Metric::PacketsPerSecond, value: 1.0, source: LimitSource::Static };
    let [started_at, detected_at] = [Timestamp(0); 2];
    let blank = Incident::of(Uuid::from_u128(number), target.parse().unwrap(), Direction::Incoming, threshold, started_at, detected_at);
    Incident { family: Family::UdpFlood, severity: Severity::High, confidence: 90, ..blank }
}

fn opened(number: u128, target: &str) -> Event {
    Event::Opened(Box::new(incident(number, target)))
}

fn updated(number: u128, target: &str) -> Event {
    Event::Updated(Box::new(incident(number, target)))
}

fn ended(number: u128, target: &str) -> Event {
    Event::Ended(Box::new(Incident { status: IncidentStatus::Resolved, ..incident(number, target) }))
}

fn intent(target: &str) -> Intent {
    Intent {
        target: target.parse().unwrap(),
        intent_type: IntentType::Blackhole,
        adapter_id: EDGE.into(),
        owner: RuleOwner::Manual,
        incident_uuid: None,
        reason: "by hand".into(),
        ttl: 0,
    }
}

/// The states that are saved, and the words of the commands, in order.
fn words(effects: &[Effect]) -> Vec<&'static str> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Save(rule) => rule.state.name(),
            Effect::Send(_, Command::Announce(_)) => "→ announce",
            Effect::Send(_, Command::Check { .. }) => "→ check",
            Effect::Send(_, Command::Withdraw { .. }) => "→ withdraw",
            Effect::Send(_, Command::List { .. }) => "→ list",
        })
        .collect()
}

fn only(mitigator: &Mitigator) -> Rule {
    let rules: Vec<&Rule> = mitigator.rules().collect();
    assert_eq!(rules.len(), 1, "{rules:?}");
    rules[0].clone()
}

fn peers() -> Result<Carried, String> {
    Ok(Carried::Peers(vec!["192.0.2.2".into()]))
}

/// A time without listings, which come every ten seconds.
fn tick(mitigator: &mut Mitigator, now: u64) -> Vec<&'static str> {
    words(&mitigator.tick(Timestamp(now))).into_iter().filter(|word| *word != "→ list").collect()
}

#[test]
fn an_incident_is_answered_confirmed_and_its_end_is_the_withdrawal() {
    let mut mitigator = mitigator(&config());
    assert_eq!(words(&mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(1_000))), ["pending", "→ announce"]);
    let rule = only(&mitigator);
    assert_eq!((rule.owner, rule.incident_uuid, rule.ttl), (RuleOwner::Automatic, Some(Uuid::from_u128(1)), 600));
    assert_eq!(words(&mitigator.outcome(EDGE, Outcome::Carried(rule.uuid, peers()), Timestamp(1_050))), ["active"]);
    assert_eq!(only(&mitigator).confirmed_at, Some(Timestamp(1_050)));
    // What goes on needs nothing more.
    assert!(mitigator.incident(&updated(1, "203.0.113.7"), Timestamp(2_000)).is_empty());
    assert_eq!(words(&mitigator.incident(&ended(1, "203.0.113.7"), Timestamp(60_000))), ["withdrawing", "→ withdraw"]);
    assert_eq!(words(&mitigator.outcome(EDGE, Outcome::Gone(Some(rule.uuid), Ok(())), Timestamp(60_010))), ["withdrawn"]);
    assert_eq!(mitigator.rules().count(), 0);
}

#[test]
fn a_dry_run_shows_the_rule_and_sends_nothing() {
    let mut dry = mitigator(&Mitigation { dry_run: true, ..config() });
    assert_eq!(words(&dry.incident(&opened(1, "203.0.113.7"), Timestamp(0))), ["dry_run"]);
    assert!(dry.incident(&updated(1, "203.0.113.7"), Timestamp(5_000)).is_empty());
    assert!(tick(&mut dry, 9_000).is_empty());
    let effects = dry.incident(&ended(1, "203.0.113.7"), Timestamp(10_000));
    assert!(
        matches!(&effects[..], [Effect::Save(rule)] if rule.state == RuleState::DryRun && rule.withdrawn_at == Some(Timestamp(10_000)))
    );
    // Without a speaker it is shown just the same.
    let mut none = mitigator(&Mitigation { adapters: Vec::new(), ..Mitigation::default() });
    assert_eq!(words(&none.incident(&opened(1, "203.0.113.7"), Timestamp(0))), ["dry_run"]);
    // A person's rule is announced in spite of it.
    assert_eq!(words(&dry.announce(intent("203.0.113.8"), Timestamp(0)).unwrap().1), ["pending", "→ announce"]);
}

#[test]
fn the_end_of_the_dry_run_announces_what_was_shown() {
    let mut mitigator = mitigator(&Mitigation { dry_run: true, ..config() });
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    assert_eq!(words(&mitigator.set_dry_run(false, Timestamp(1_000))), ["pending", "→ announce"]);
    assert_eq!(words(&mitigator.set_dry_run(true, Timestamp(2_000))), ["withdrawing", "→ withdraw"]);
}

#[test]
fn what_the_guard_refuses_is_saved_with_its_reason_and_never_sent() {
    let mut mitigator = mitigator(&config());
    for (number, target, reason) in
        [(1, "198.51.100.7", "198.51.100.7 is not within our networks"), (2, "203.0.113.0/24", "wider than /32")]
    {
        let effects = mitigator.incident(&opened(number, target), Timestamp(0));
        let [Effect::Save(rule)] = &effects[..] else { panic!("{effects:?}") };
        assert!(rule.state == RuleState::Refused && rule.error.as_ref().unwrap().contains(reason), "{rule:?}");
        assert!(mitigator.incident(&updated(number, target), Timestamp(1_000)).is_empty());
    }
    // Asked again, the answer is the same, and no news.
    assert!(tick(&mut mitigator, 6_000).is_empty());
    // Outgoing and doubtful incidents want nothing.
    let outgoing = Incident { direction: Direction::Outgoing, ..incident(3, "203.0.113.7") };
    let doubtful = Incident { confidence: 49, ..incident(4, "203.0.113.7") };
    for quiet in [outgoing, doubtful] {
        assert!(mitigator.incident(&Event::Opened(Box::new(quiet)), Timestamp(0)).is_empty());
    }
}

#[test]
fn a_speaker_that_fails_is_tried_again_ever_more_slowly() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    let uuid = only(&mitigator).uuid;
    let fail = |mitigator: &mut Mitigator, now| words(&mitigator.outcome(EDGE, Outcome::Carried(uuid, Err("away".into())), Timestamp(now)));
    assert_eq!(fail(&mut mitigator, 100), ["failed"]);
    // 0.5 s, then 1 s, then 2 s later.
    for (quiet, due) in [(599, 600), (1_599, 1_600), (3_599, 3_600)] {
        assert!(tick(&mut mitigator, quiet).is_empty(), "{quiet}");
        assert_eq!(tick(&mut mitigator, due), ["→ announce"]);
        fail(&mut mitigator, due);
    }
    assert_eq!(only(&mitigator).error.as_deref(), Some("away"));
    assert_eq!(tick(&mut mitigator, 9_000), ["→ announce"]);
    assert_eq!(words(&mitigator.outcome(EDGE, Outcome::Carried(uuid, peers()), Timestamp(9_010))), ["active"]);
}

#[test]
fn a_rule_that_no_peer_is_sent_is_pending_until_one_is() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    let uuid = only(&mitigator).uuid;
    assert_eq!(words(&mitigator.outcome(EDGE, Outcome::Carried(uuid, Ok(Carried::TableOnly)), Timestamp(100))), ["pending"]);
    assert!(only(&mitigator).error.unwrap().contains("no established peer"));
    assert_eq!(tick(&mut mitigator, 600), ["→ check"]);
    assert!(mitigator.outcome(EDGE, Outcome::Carried(uuid, Ok(Carried::TableOnly)), Timestamp(610)).is_empty());
    assert_eq!(tick(&mut mitigator, 1_610), ["→ check"]);
    assert_eq!(words(&mitigator.outcome(EDGE, Outcome::Carried(uuid, peers()), Timestamp(1_620))), ["active"]);
}

#[test]
fn a_speaker_without_peers_is_the_router_itself() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    let uuid = only(&mitigator).uuid;
    assert_eq!(words(&mitigator.outcome(EDGE, Outcome::Carried(uuid, Ok(Carried::Alone)), Timestamp(100))), ["active"]);
    assert!(only(&mitigator).error.unwrap().contains("no peers"));
}

#[test]
fn without_networks_no_rule_is_made_at_all() {
    let mut open = Mitigator::new(&config(), PrefixSet::default(), Metrics::default());
    open.load(Vec::new(), &BTreeSet::new(), Timestamp(0));
    assert!(open.incident(&opened(1, "203.0.113.7"), Timestamp(0)).is_empty());
    assert_eq!(open.announce(intent("203.0.113.7"), Timestamp(0)).unwrap_err(), Refusal::NoNetworks);
}

#[test]
fn a_rule_runs_out_unless_its_incident_lasts() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    mitigator.announce(Intent { ttl: 30, ..intent("203.0.113.8") }, Timestamp(0)).unwrap();
    let uuids: Vec<Uuid> = mitigator.rules().map(|rule| rule.uuid).collect();
    for uuid in uuids {
        mitigator.outcome(EDGE, Outcome::Carried(uuid, peers()), Timestamp(10));
    }
    assert!(tick(&mut mitigator, 29_999).is_empty());
    assert_eq!(tick(&mut mitigator, 30_000), ["withdrawing", "→ withdraw"]);
    // After half of its 600 s the automatic one is prolonged: to 300 + 600.
    assert!(mitigator.incident(&updated(1, "203.0.113.7"), Timestamp(299_000)).is_empty());
    assert_eq!(words(&mitigator.incident(&updated(1, "203.0.113.7"), Timestamp(300_000))), ["active"]);
    assert!(tick(&mut mitigator, 899_999).is_empty());
    assert_eq!(tick(&mut mitigator, 900_000), ["withdrawing", "→ withdraw"]);
}

#[test]
fn the_kill_switch_withdraws_everything_and_lets_nothing_through() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    let manual = mitigator.announce(intent("203.0.113.8"), Timestamp(0)).unwrap().0;
    assert_eq!(words(&mitigator.freeze(true, Timestamp(1_000))).iter().filter(|word| **word == "→ withdraw").count(), 2);
    assert_eq!(mitigator.announce(intent("203.0.113.9"), Timestamp(1_000)).unwrap_err(), Refusal::Frozen);
    // An announcement that was under way and succeeds does not bring a rule back.
    assert!(mitigator.outcome(EDGE, Outcome::Carried(manual.uuid, peers()), Timestamp(1_001)).is_empty());
    for uuid in mitigator.rules().map(|rule| rule.uuid).collect::<Vec<_>>() {
        mitigator.outcome(EDGE, Outcome::Gone(Some(uuid), Ok(())), Timestamp(1_010));
    }
    assert_eq!(words(&mitigator.incident(&updated(1, "203.0.113.7"), Timestamp(2_000))), ["refused"]);
    assert!(mitigator.freeze(false, Timestamp(3_000)).is_empty());
    assert_eq!(tick(&mut mitigator, 7_000), ["pending", "→ announce"]);
}

#[test]
fn what_becomes_protected_is_withdrawn() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    mitigator.incident(&opened(2, "203.0.113.8"), Timestamp(0));
    let effects = mitigator.set_allowlist(vec!["203.0.113.8/29".parse().unwrap()], Timestamp(10));
    let [Effect::Save(rule), Effect::Send(..)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((rule.target.to_string().as_str(), rule.state), ("203.0.113.8", RuleState::Withdrawing));
    assert!(rule.error.as_ref().unwrap().contains("allowlist"));
}

#[test]
fn a_rule_has_one_owner() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    let automatic = only(&mitigator);
    let (taken, effects) = mitigator.announce(intent("203.0.113.7"), Timestamp(5_000)).unwrap();
    assert_eq!((taken.uuid, taken.owner, words(&effects)), (automatic.uuid, RuleOwner::Manual, vec!["pending"]));
    // The end of the incident leaves a person's rule alone, and a second of theirs is refused.
    assert!(mitigator.incident(&ended(1, "203.0.113.7"), Timestamp(6_000)).is_empty());
    assert_eq!(mitigator.announce(intent("203.0.113.7"), Timestamp(7_000)).unwrap_err(), Refusal::Duplicate { uuid: automatic.uuid });
}

#[test]
fn what_a_person_withdraws_does_not_come_back_in_the_same_incident() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    let uuid = only(&mitigator).uuid;
    assert_eq!(words(&mitigator.withdraw(uuid, Timestamp(10)).unwrap()), ["withdrawing", "→ withdraw"]);
    mitigator.outcome(EDGE, Outcome::Gone(Some(uuid), Ok(())), Timestamp(20));
    assert!(mitigator.incident(&updated(1, "203.0.113.7"), Timestamp(1_000)).is_empty());
    mitigator.incident(&ended(1, "203.0.113.7"), Timestamp(2_000));
    assert_eq!(words(&mitigator.incident(&opened(2, "203.0.113.7"), Timestamp(3_000))), ["pending", "→ announce"]);
    assert!(mitigator.withdraw(Uuid::nil(), Timestamp(0)).is_none());
}

#[test]
fn wishes_that_cannot_be_met_are_refused_by_name() {
    let mut mitigator = mitigator(&config());
    let flowspec = Intent { intent_type: IntentType::Flowspec, ..intent("203.0.113.7") };
    assert!(matches!(mitigator.announce(flowspec, Timestamp(0)), Err(Refusal::Unsupported { intent: "flowspec", .. })));
    let elsewhere = Intent { adapter_id: "core".into(), ..intent("203.0.113.7") };
    assert_eq!(mitigator.announce(elsewhere, Timestamp(0)).unwrap_err(), Refusal::UnknownAdapter { id: "core".into() });
}

#[test]
fn after_a_restart_what_is_wanted_is_announced_and_the_rest_withdrawn() {
    let mut before = mitigator(&config());
    before.incident(&opened(1, "203.0.113.1"), Timestamp(0));
    before.incident(&opened(2, "203.0.113.2"), Timestamp(0));
    before.announce(intent("203.0.113.3"), Timestamp(0)).unwrap();
    before.announce(intent("203.0.113.4"), Timestamp(0)).unwrap();
    let rules: Vec<Rule> = before.rules().cloned().collect();
    // Incident 2 has ended meanwhile, and the networks are smaller by 203.0.113.4.
    let networks: PrefixSet = ["203.0.113.0/30"].iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
    let mut after = Mitigator::new(&config(), networks, Metrics::default());
    let effects = after.load(rules, &BTreeSet::from([Uuid::from_u128(1)]), Timestamp(9_000));
    let mut sent: Vec<(String, &str)> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send(_, Command::Announce(rule)) => Some((rule.target().to_string(), "announce")),
            Effect::Send(_, Command::Withdraw { target, .. }) => Some((target.to_string(), "withdraw")),
            _ => None,
        })
        .collect();
    sent.sort();
    let wanted = [("203.0.113.1", "announce"), ("203.0.113.2", "withdraw"), ("203.0.113.3", "announce"), ("203.0.113.4", "withdraw")];
    assert_eq!(sent, wanted.map(|(target, word)| (target.to_owned(), word)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Send(_, Command::List { networks: None, .. }))));
}

#[test]
fn a_comparison_brings_back_what_is_missing_and_takes_away_orphans() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.1"), Timestamp(0));
    let uuid = only(&mitigator).uuid;
    mitigator.outcome(EDGE, Outcome::Carried(uuid, peers()), Timestamp(10));
    let orphan: Prefix = "203.0.113.200".parse().unwrap();
    let effects = mitigator.outcome(EDGE, Outcome::Listed(Timestamp(20_000), Ok(vec![orphan])), Timestamp(20_005));
    assert_eq!(words(&effects), ["pending", "→ announce", "→ withdraw"]);
    assert!(matches!(&effects[2], Effect::Send(_, Command::Withdraw { uuid: None, target }) if *target == orphan));
    // A list that was asked for before the rule changed knows nothing of it.
    mitigator.outcome(EDGE, Outcome::Carried(uuid, peers()), Timestamp(20_010));
    assert!(mitigator.outcome(EDGE, Outcome::Listed(Timestamp(20_001), Ok(Vec::new())), Timestamp(20_020)).is_empty());
    // Every ten seconds, within the networks only.
    let lists = mitigator.tick(Timestamp(30_020));
    assert!(matches!(&lists[..], [Effect::Send(_, Command::List { networks: Some(networks), .. })] if networks.len() == 2), "{lists:?}");
}

#[test]
fn before_the_state_is_loaded_no_route_is_taken_for_an_orphan() {
    let mut early = Mitigator::new(&config(), PrefixSet::default(), Metrics::default());
    let listed = Outcome::Listed(Timestamp(0), Ok(vec!["203.0.113.200".parse().unwrap()]));
    assert!(early.outcome(EDGE, listed, Timestamp(1)).is_empty());
    assert!(early.tick(Timestamp(100_000)).is_empty());
}

#[test]
fn a_rule_that_cannot_be_saved_is_tried_again() {
    let mut mitigator = mitigator(&config());
    mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(0));
    let uuid = only(&mitigator).uuid;
    mitigator.unsaved(uuid, "disk full", Timestamp(0));
    assert_eq!(only(&mitigator).state, RuleState::Failed);
    // The driver keeps what it could not save, and tries that first.
    assert_eq!(tick(&mut mitigator, 500), ["→ announce"]);
}

/// A leak probe lifts the automatic rules, keeps them away while it looks, and brings them back when the attack is there still.
#[test]
fn a_leak_probe_lifts_the_rules_until_the_attack_is_back() {
    let mut mitigator = mitigator(&config());
    let sent = |effects: &[Effect]| effects.iter().filter(|effect| matches!(effect, Effect::Send(_, Command::Announce(_)))).count();
    assert_eq!(sent(&mitigator.incident(&opened(1, "203.0.113.7"), Timestamp(1_000))), 1);
    let uuid = mitigator.rules().next().unwrap().uuid;
    let peers = Carried::Peers(vec!["192.0.2.1".to_owned()]);
    mitigator.outcome(EDGE, Outcome::Carried(uuid, Ok(peers)), Timestamp(1_100));
    let effects = mitigator.incident(&Event::Probed(Box::new(incident(1, "203.0.113.7"))), Timestamp(20_000));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Send(_, Command::Withdraw { .. }))), "{effects:?}");
    mitigator.outcome(EDGE, Outcome::Gone(Some(uuid), Ok(())), Timestamp(20_100));
    assert_eq!(sent(&mitigator.incident(&updated(1, "203.0.113.7"), Timestamp(21_000))), 0);
    assert_eq!(sent(&mitigator.incident(&Event::Resumed(Box::new(incident(1, "203.0.113.7"))), Timestamp(22_000))), 1);
}
