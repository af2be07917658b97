//! The analysts from snapshots to incidents, on a clock of the test's own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "tests")]

use analytics::config::{Override, Rates, Threshold};
use analytics::{Analyst, Config, Event};
use schemas::counter::{Detail, Direction, HostReport, Snapshot, Spread, Target, TargetUpdate, Volume};
use schemas::incident::{Family, Incident, IncidentStatus, LimitSource, Severity, TimelineKind};
use schemas::net::Address;
use schemas::rule::{IntentType, Rule, RuleOwner, RuleState};
use schemas::time::Timestamp;

/// 2026-11-20T12:00:00Z, a whole second.
const START: u64 = 1_795_176_000_000;
const VICTIM: &str = "203.0.113.7";

struct World {
    analyst: Analyst,
    now: u64,
    events: Vec<Event>,
}

impl World {
    fn new(config: &Config) -> Self {
        Self { analyst: Analyst::new(config, analytics::metrics::Metrics::default()), now: START, events: Vec::new() }
    }

    /// The time `seconds` after the start.
    fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = START + (seconds * 1_000.0).round() as u64;
        self
    }

    /// Gains of one shard, in slots given in seconds after the start.
    fn hear(&mut self, shard: usize, target: Target, slots: impl IntoIterator<Item = (f64, Volume)>, detail: Option<Detail>) -> &mut Self {
        let slot = |seconds: f64| (START / 100).checked_add_signed((seconds * 10.0).round() as i64).unwrap();
        let slots = slots.into_iter().map(|(seconds, volume)| (slot(seconds), volume)).collect();
        let update = TargetUpdate { target, slots, detail: detail.map(Box::new) };
        self.analyst.observe(Snapshot { shard, taken_at: Timestamp(self.now), targets: vec![update], ..Snapshot::default() });
        self
    }

    fn tick(&mut self) -> Vec<Event> {
        let events = self.analyst.tick(Timestamp(self.now));
        self.events.extend(events.clone());
        events
    }

    fn opened(&self) -> Vec<&Incident> {
        self.events.iter().filter_map(|event| if let Event::Opened(incident) = event { Some(&**incident) } else { None }).collect()
    }

    fn ended(&self) -> Vec<&Incident> {
        self.events.iter().filter_map(|event| if let Event::Ended(incident) = event { Some(&**incident) } else { None }).collect()
    }
}

fn to(text: &str) -> Target {
    Target { prefix: text.parse().unwrap(), direction: Direction::Incoming }
}

/// UDP, `packets` of `octets` each, seen in `samples`.
fn udp(packets: f64, octets: f64, samples: f64) -> Volume {
    Volume {
        packets,
        octets: packets * octets,
        flows: samples,
        udp_packets: packets,
        udp_octets: packets * octets,
        samples,
        ..Volume::default()
    }
}

/// A flood that a mirror port sees: every packet, slot by slot, from `from` up to `until`.
fn flood(world: &mut World, target: Target, from: f64, until: f64, packets_per_second: f64) {
    let slots = ((until - from) * 10.0).round() as u32;
    for slot in 0..slots {
        let at = from + f64::from(slot) / 10.0;
        let packets = packets_per_second / 10.0;
        world.at(at + 0.1).hear(0, target, [(at, udp(packets, 100.0, packets))], None).tick();
    }
}

/// Nothing is heard from `from` to `until`.
fn silence(world: &mut World, from: f64, until: f64) {
    for slot in 0..((until - from) * 10.0).round() as u32 {
        world.at(from + f64::from(slot) / 10.0).tick();
    }
}

/// 45 samples × 1,000 octets × 1-in-1,000 in a tenth of a second: 450,000 packets/s and 3.6 Gbit/s, each over twice its limit, and over
/// the limit by the 3.5 standard errors of 15 % that are asked for.
#[test]
fn a_sampled_flood_opens_in_the_window_of_a_tenth_of_a_second() {
    let mut world = World::new(&Config::default());
    let detail = Detail {
        packets: 45_000,
        octets: 45_000_000,
        peers: vec![("198.51.100.1".parse().unwrap(), 30_000, 30_000_000), ("198.51.100.2".parse().unwrap(), 15_000, 15_000_000)],
        peer_count: 2,
        source_ports: vec![((17, 11_211), 45_000, 45_000_000)],
        destination_ports: vec![((17, 40_000), 45_000, 45_000_000)],
        protocols: vec![(17, 45_000, 45_000_000)],
        packet_lengths: vec![(960, 45_000, 45_000_000)],
        exporters: vec![("192.0.2.10".parse().unwrap(), 45_000, 45_000_000)],
        ..Detail::default()
    };
    let volume = Volume { amplification_packets: 45_000.0, amplification_octets: 4.5e7, ..udp(45_000.0, 1_000.0, 45.0) };
    let events = world.at(0.1).hear(0, to(VICTIM), [(0.0, volume)], Some(detail)).tick();
    let [Event::Opened(incident)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((incident.family, incident.subtype.as_deref()), (Family::UdpFlood, Some("memcached_amplification")));
    assert_eq!((incident.started_at, incident.detected_at), (Timestamp(START), Timestamp(START + 100)));
    // 1/√45 = 15 % of error leave 85; twice that, of √(0.999/45), is taken off the 45,000 packets of its one second.
    assert_eq!((incident.confidence, incident.peak_pps, incident.total_packets), (85, 31_590, 45_000));
    assert_eq!(incident.evidence.len(), 2);
    assert_eq!(incident.evidence[0].window_milliseconds, 100);
    assert_eq!(incident.top_src_ips[0].share, 0.6667);
    assert_eq!(incident.packet_length_histogram.as_ref().unwrap()["960-1023"], 1.0);
    assert_eq!(incident.exporters, ["192.0.2.10".parse::<Address>().unwrap()]);
    assert!(incident.summary.contains("100 % come from port 11211, 100 % go to port 40000, from about 2 sources"), "{}", incident.summary);
}

/// 1 Gbit over 60 s is 16.7 Mbit/s, a sixtieth of the limit, however it arrives: all at once.
#[test]
fn a_flow_of_a_minute_and_a_gigabit_opens_nothing() {
    let mut world = World::new(&Config::default());
    let slots = (0..600).map(|slot| (f64::from(slot) / 10.0 - 60.0, udp(208.3, 1_000.0, 208.3)));
    assert!(world.at(0.5).hear(0, to(VICTIM), slots, None).tick().is_empty());
}

#[test]
fn shards_that_see_half_each_see_the_attack_together() {
    let mut world = World::new(&Config::default());
    // 60,000 packets/s on each of two shards; the limit is 100,000, the window of a second is the first to be over it.
    for slot in 0..10 {
        let at = f64::from(slot) / 10.0;
        world.at(at + 0.1).hear(0, to(VICTIM), [(at, udp(6_000.0, 100.0, 6_000.0))], None).hear(
            1,
            to(VICTIM),
            [(at, udp(6_000.0, 100.0, 6_000.0))],
            None,
        );
        world.tick();
    }
    assert_eq!(world.opened().len(), 1);
    // 100,000 packets are passed in the ninth slot: 9 × 12,000.
    assert_eq!(world.opened()[0].detected_at, Timestamp(START + 900));
    let mut alone = World::new(&Config::default());
    flood(&mut alone, to(VICTIM), 0.0, 3.0, 60_000.0);
    assert!(alone.opened().is_empty());
}

#[test]
fn an_incident_ends_when_the_traffic_has_stayed_low_for_the_hold() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to(VICTIM), 0.0, 5.0, 300_000.0);
    // 80,000 packets/s are below the limit and above 0.7 of it: the incident goes on.
    flood(&mut world, to(VICTIM), 5.0, 25.0, 80_000.0);
    assert_eq!((world.opened().len(), world.ended().len()), (1, 0));
    flood(&mut world, to(VICTIM), 25.0, 60.0, 1_000.0);
    let [ended] = world.ended()[..] else { panic!() };
    // Seconds that end up to 25.1 hold over 70,000 packets: the last slot at 80,000, and 0.2 s after it, 8 × 8,000 + 2 × 100 do not any more.
    assert_eq!(ended.ended_at, Some(Timestamp(START + 25_100)));
    assert_eq!((ended.status, ended.severity), (IncidentStatus::Resolved, Severity::Medium));
    // 5 s × 300,000 + 20 s × 80,000 + one slot of 100.
    assert_eq!(ended.total_packets, 3_100_100);
    assert_eq!(ended.duration_sec, 26);
    // Windows of 30 s that still hold the attack open nothing.
    assert_eq!(world.opened().len(), 1);
}

#[test]
fn an_attack_that_comes_back_is_a_second_incident() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to(VICTIM), 0.0, 3.0, 500_000.0);
    silence(&mut world, 3.1, 20.0);
    assert_eq!(world.ended().len(), 1);
    flood(&mut world, to(VICTIM), 20.0, 22.0, 500_000.0);
    assert_eq!(world.opened().len(), 2);
    assert_eq!(world.opened()[1].started_at, Timestamp(START + 20_000));
}

/// An exporter with an active timeout of 60 s tells of an attack that goes on once a minute: silence between is no end.
#[test]
fn late_evidence_does_not_flap() {
    let mut world = World::new(&Config::default());
    // 3 records, each of the last 60 s at 200,000 packets/s, each half a second late.
    for minute in 1..=3 {
        let end = f64::from(minute) * 60.0;
        let slots = (0..600).map(|slot| (end - 60.0 + f64::from(slot) / 10.0, udp(20_000.0, 100.0, 20_000.0)));
        world.at(end + 0.5).hear(0, to(VICTIM), slots, None);
        silence(&mut world, end + 0.5, end + 60.4);
    }
    assert_eq!((world.opened().len(), world.ended().len()), (1, 0));
    assert_eq!(world.opened()[0].started_at, Timestamp(START));
    silence(&mut world, 240.4, 300.0);
    let [ended] = world.ended()[..] else { panic!() };
    // 180 s × 200,000.
    assert_eq!((ended.total_packets, ended.ended_at), (36_000_000, Some(Timestamp(START + 180_000))));
}

/// Half of an attack is told at once, half 20 s later: the old slots are looked at again.
#[test]
fn a_late_record_revises_old_slots() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to(VICTIM), 0.0, 5.0, 60_000.0);
    silence(&mut world, 5.1, 20.0);
    assert!(world.opened().is_empty());
    let late = (0..50).map(|slot| (f64::from(slot) / 10.0, udp(6_000.0, 100.0, 6_000.0)));
    world.at(20.0).hear(0, to(VICTIM), late, None).tick();
    let [incident] = world.opened()[..] else { panic!() };
    assert_eq!((incident.started_at, incident.detected_at), (Timestamp(START), Timestamp(START + 20_000)));
    assert_eq!((incident.peak_pps, incident.total_packets), (120_000, 600_000));
}

/// After an incident has ended, late records of its time open nothing.
#[test]
fn a_record_of_an_attack_that_is_over_opens_nothing() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to(VICTIM), 0.0, 5.0, 300_000.0);
    silence(&mut world, 5.1, 30.0);
    assert_eq!(world.ended().len(), 1);
    let late = (0..50).map(|slot| (f64::from(slot) / 10.0, udp(30_000.0, 100.0, 30_000.0)));
    assert!(world.at(30.0).hear(0, to(VICTIM), late, None).tick().is_empty());
}

/// 256 hosts at 5,000 packets/s each: a twentieth of a host's limit, and 1,280,000 in all, over the 1,000,000 of a prefix.
#[test]
fn carpet_bombing_is_one_incident_on_the_prefix() {
    let mut world = World::new(&Config::default());
    for slot in 0..20 {
        let at = f64::from(slot) / 10.0;
        world.at(at + 0.1);
        for host in 0..256 {
            world.hear(0, to(&format!("203.0.113.{host}")), [(at, udp(500.0, 100.0, 500.0))], None);
        }
        world.hear(0, to("203.0.113.0/24"), [(at, udp(128_000.0, 100.0, 128_000.0))], None).tick();
    }
    let [incident] = world.opened()[..] else { panic!() };
    assert_eq!((incident.target.to_string().as_str(), incident.subtype.as_deref()), ("203.0.113.0/24", Some("carpet_bombing")));
    assert_eq!(incident.family, Family::UdpFlood);
}

/// 256 hosts at 200,000 packets/s each are each over their limit; they are still one incident.
/// 16 hosts of a /24 with all that is new in it, and its other hosts with a hundredth of that; then the other half of the /24.
#[test]
fn a_carpet_is_told_with_the_smallest_prefix_that_it_covers_and_grows() {
    let mut world = World::new(&Config::default());
    let within = |parts: std::ops::Range<usize>| {
        let parts = (0..256).map(|number| if parts.contains(&number) { [1e5, 1e7] } else { [50.0, 5e3] }).collect();
        Detail { packets: 1, spread: Some(Box::new(Spread { parts, finer: Vec::new() })), ..Detail::default() }
    };
    let carpet = |world: &mut World, slot: u32, detail: Detail| {
        let at = f64::from(slot) / 10.0;
        world.at(at + 0.1).hear(0, to("203.0.113.0/24"), [(at, udp(3e5, 100.0, 3e5))], Some(detail)).tick();
    };
    (0..40).for_each(|slot| carpet(&mut world, slot, within(32..48)));
    (40..60).for_each(|slot| carpet(&mut world, slot, within(48..64)));
    let targets: Vec<String> = world.events.iter().map(|event| event.incident().target.to_string()).collect();
    assert_eq!((targets[0].as_str(), targets.last().unwrap().as_str()), ("203.0.113.32/28", "203.0.113.32/27"));
    assert!(world.events.last().unwrap().incident().timeline.iter().any(|entry| entry.text == "now on 203.0.113.32/27"));
}

/// The same botnet at two hosts a minute apart, another one at a third.
#[test]
fn one_botnet_at_two_hosts_is_one_group() {
    let mut world = World::new(&Config::default());
    let bots = |from: u64| Detail { packets: 1, peer_count: 64, peer_sample: (from..from + 64).collect(), ..Detail::default() };
    for (number, from) in [(0_u32, 0), (1, 32), (2, 1_000)] {
        let at = f64::from(number) * 60.0;
        let target = to(&format!("203.0.113.{number}"));
        for slot in 0..30 {
            let at = at + f64::from(slot) / 10.0;
            world.at(at + 0.1).hear(0, target, [(at, udp(4e4, 100.0, 4e4))], Some(bots(from))).tick();
        }
        silence(&mut world, at + 3.1, at + 59.0);
    }
    let latest = |text: &str| world.events.iter().rev().map(Event::incident).find(|incident| incident.target.to_string() == text).unwrap();
    let [first, second, third] = ["203.0.113.0", "203.0.113.1", "203.0.113.2"].map(latest);
    assert_eq!((first.group_uuid, second.group_uuid, third.group_uuid), (Some(first.uuid), Some(first.uuid), None));
}

/// The rule stops the flood upstream; behind it silence is no peace until it was lifted and nothing came.
#[test]
fn an_incident_behind_a_rule_ends_only_when_a_probe_finds_nothing() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to(VICTIM), 0.0, 3.0, 500_000.0);
    let incident = world.opened()[0].clone();
    let rule = |state| Rule {
        uuid: uuid::Uuid::from_u128(1),
        target: incident.target,
        intent_type: IntentType::Blackhole,
        adapter_id: "edge".to_owned(),
        incident_uuid: Some(incident.uuid),
        owner: RuleOwner::Automatic,
        reason: String::new(),
        ttl: 600,
        state,
        error: None,
        created_at: Timestamp(START),
        confirmed_at: Some(Timestamp(START)),
        withdrawn_at: None,
    };
    let announced = |world: &mut World, state| drop(world.analyst.rule_changed(&rule(state), Timestamp(world.now)));
    announced(&mut world, RuleState::Active);
    silence(&mut world, 3.1, 15.0);
    let probes = |world: &World| world.events.iter().filter(|event| matches!(event, Event::Probed(_))).count();
    assert_eq!((probes(&world), world.ended().len()), (1, 0));
    announced(&mut world, RuleState::Withdrawn);
    // It was the rule: the flood is back at once.
    flood(&mut world, to(VICTIM), 15.0, 17.0, 500_000.0);
    assert_eq!(world.events.iter().filter(|event| matches!(event, Event::Resumed(_))).count(), 1);
    announced(&mut world, RuleState::Active);
    silence(&mut world, 17.1, 70.0);
    assert_eq!((probes(&world), world.ended().len()), (1, 0), "the next look waits a minute");
    silence(&mut world, 70.0, 80.0);
    assert_eq!(probes(&world), 2);
    announced(&mut world, RuleState::Withdrawn);
    silence(&mut world, 80.0, 95.0);
    let [ended] = world.ended()[..] else { panic!("{:?}", world.events) };
    assert_eq!((world.opened().len(), ended.uuid, ended.status), (1, incident.uuid, IncidentStatus::Resolved));
    let steps: Vec<TimelineKind> = ended.timeline.iter().map(|entry| entry.kind).collect();
    assert_eq!(steps.iter().filter(|kind| **kind == TimelineKind::LeakProbe).count(), 3);
}

#[test]
fn a_carpet_over_the_limit_of_every_host_is_one_incident() {
    for hosts in [256_u32, 16] {
        let mut world = World::new(&Config::default());
        for slot in 0..20 {
            let at = f64::from(slot) / 10.0;
            world.at(at + 0.1);
            for host in 0..hosts {
                world.hear(0, to(&format!("203.0.113.{host}")), [(at, udp(22_000.0, 100.0, 22_000.0))], None);
            }
            let all = f64::from(hosts) * 22_000.0;
            world.hear(0, to("203.0.113.0/24"), [(at, udp(all, 100.0, all))], None).tick();
        }
        let targets: Vec<String> = world.opened().iter().map(|incident| incident.target.to_string()).collect();
        assert_eq!(targets, ["203.0.113.0/24"], "{hosts} hosts");
    }
}

/// One host at 2,000,000 packets/s takes its prefix over its limit too: the host is what is attacked.
#[test]
fn a_host_explains_its_prefix() {
    let mut world = World::new(&Config::default());
    for slot in 0..20 {
        let at = f64::from(slot) / 10.0;
        world.at(at + 0.1).hear(0, to("203.0.113.0/24"), [(at, udp(210_000.0, 100.0, 210_000.0))], None);
        world.hear(0, to(VICTIM), [(at, udp(200_000.0, 100.0, 200_000.0))], None).tick();
    }
    let targets: Vec<String> = world.opened().iter().map(|incident| incident.target.to_string()).collect();
    assert_eq!(targets, [VICTIM]);
}

#[test]
fn ipv6_and_outgoing_traffic_are_judged_alike() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to("2001:db8::7"), 0.0, 1.0, 400_000.0);
    flood(&mut world, Target { direction: Direction::Outgoing, ..to("203.0.113.9") }, 0.0, 1.0, 400_000.0);
    let found: Vec<(String, Direction)> = world.opened().iter().map(|incident| (incident.target.to_string(), incident.direction)).collect();
    assert_eq!(found, [("2001:db8::7".into(), Direction::Incoming), ("203.0.113.9".into(), Direction::Outgoing)]);
}

#[test]
fn limits_of_single_hosts_hold_at_run_time() {
    let mut world = World::new(&Config::default());
    let own = |packets| [Override { packets_per_second: Some(packets), ..Override::of(VICTIM.parse().unwrap()) }];
    world.analyst.set_limits(&own(500_000));
    flood(&mut world, to(VICTIM), 0.0, 2.0, 300_000.0);
    assert!(world.opened().is_empty());
    world.analyst.set_limits(&own(10_000));
    flood(&mut world, to(VICTIM), 2.0, 3.0, 300_000.0);
    assert_eq!(world.opened().len(), 1);
    assert_eq!(world.opened()[0].severity, Severity::Critical);
}

#[test]
fn growth_escalates_at_once() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to(VICTIM), 0.0, 2.0, 150_000.0);
    assert_eq!(world.opened()[0].severity, Severity::Low);
    flood(&mut world, to(VICTIM), 2.0, 4.0, 1_500_000.0);
    let last = world.events.last().unwrap().incident();
    assert_eq!((last.severity, last.peak_pps), (Severity::Critical, 1_500_000));
    // Low → medium → high → critical while the second fills.
    assert!(last.timeline.len() >= 2, "{:?}", last.timeline);
}

#[test]
fn a_false_positive_leaves_the_target_alone_until_its_traffic_has_fallen() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to(VICTIM), 0.0, 2.0, 300_000.0);
    let uuid = world.opened()[0].uuid;
    let event = world.analyst.resolve(uuid, IncidentStatus::FalsePositive, Some("backup".into()), Timestamp(world.now)).unwrap();
    assert_eq!((event.incident().status, event.incident().note.as_deref()), (IncidentStatus::FalsePositive, Some("backup")));
    flood(&mut world, to(VICTIM), 2.0, 40.0, 300_000.0);
    assert_eq!(world.opened().len(), 1);
    // Then the same is no incident any more, and half as much again is one.
    silence(&mut world, 40.1, 60.0);
    flood(&mut world, to(VICTIM), 60.0, 62.0, 300_000.0);
    assert_eq!(world.opened().len(), 1);
    flood(&mut world, to(VICTIM), 62.0, 64.0, 500_000.0);
    assert_eq!(world.opened().len(), 2);
    let threshold = world.opened()[1].threshold;
    assert_eq!((threshold.source, threshold.value), (LimitSource::Baseline, 450_000.0));
}

/// A host that has 90,000 packets/s all day may have twice as much; another may not. What was normal stands in its incident.
#[test]
fn what_was_learned_raises_the_limit_of_a_busy_host() {
    let mut world = World::new(&Config::default());
    let start = world.now;
    for span in 0..6 * 1_440 * 3 {
        world.now = start + span * 10_000;
        let volume = Volume { packets: 900_000.0, octets: 9e7, flows: 1.0, ..Volume::default() };
        let hosts = vec![HostReport { target: to(VICTIM), volume }];
        world.analyst.observe(Snapshot { taken_at: Timestamp(world.now), hosts, ..Snapshot::default() });
    }
    let from = (world.now - start) as f64 / 1_000.0 + 1.0;
    flood(&mut world, to(VICTIM), from, from + 2.0, 150_000.0);
    assert!(world.opened().is_empty());
    flood(&mut world, to(VICTIM), from + 2.0, from + 4.0, 500_000.0);
    let [incident] = world.opened()[..] else { panic!("one incident") };
    assert_eq!(incident.threshold.source, LimitSource::Baseline);
    assert!((180_000.0..300_000.0).contains(&incident.threshold.value), "{:?}", incident.threshold);
    let normal = incident.baseline.unwrap();
    assert!((normal.avg_pps / 90_000.0 - 1.0).abs() < 0.02 && normal.p95_pps > normal.avg_pps, "{normal:?}");
}

#[test]
fn open_incidents_have_a_bound_and_what_is_over_it_is_counted() {
    let mut config = Config::default();
    config.incident.open_max = 1;
    let mut world = World::new(&config);
    flood(&mut world, to(VICTIM), 0.0, 1.0, 400_000.0);
    flood(&mut world, to("203.0.113.8"), 0.0, 1.0, 400_000.0);
    assert_eq!(world.opened().len(), 1);
}

#[test]
fn an_incident_that_was_open_at_the_restart_goes_on_or_ends() {
    let mut world = World::new(&Config::default());
    flood(&mut world, to(VICTIM), 0.0, 2.0, 300_000.0);
    let open: Vec<Incident> = world.analyst.incidents().cloned().collect();
    let mut second = World::new(&Config::default());
    second.at(5.0);
    second.analyst.restore(open.clone(), Timestamp(second.now));
    flood(&mut second, to(VICTIM), 5.0, 7.0, 300_000.0);
    assert!(second.opened().is_empty());
    silence(&mut second, 7.1, 80.0);
    assert_eq!(second.ended()[0].uuid, open[0].uuid);
    let mut third = World::new(&Config::default());
    third.analyst.restore(open, Timestamp(START));
    silence(&mut third, 0.0, 71.0);
    assert_eq!(third.ended().len(), 1);
}

#[test]
fn the_config_reads_its_keys_and_refuses_others() {
    let read = |text: &str| toml::from_str::<Config>(text);
    let config = read(
        "[threshold]\npackets_per_second = 5\nprefix = { bits_per_second = 7 }\n[[threshold.hosts]]\ntarget = \"203.0.113.7\"\npackets_per_second = 9\n\
         [mitigation]\ndry_run = false\n[[mitigation.adapters]]\nid = \"edge\"\ntype = \"gobgp\"\nendpoint = \"http://127.0.0.1:50051\"",
    )
    .unwrap();
    assert_eq!(config.threshold.packets_per_second, 5);
    assert_eq!(config.threshold.prefix, Some(Rates { bits_per_second: Some(7), ..Rates::default() }));
    assert_eq!(config.mitigation.adapters[0].id(), "edge");
    assert!(config.check(&schemas::net::PrefixSet::default()).is_ok());
    assert!(read("[threshold]\nbits = 5").is_err());
    assert!(read("[[mitigation.adapters]]\nid = \"edge\"\ntype = \"gobgp\"\nend = 1").is_err());
    assert!(
        Config { threshold: Threshold { window_multiples: [-1.0, 1.0, 1.0, 1.0], ..Threshold::default() }, ..Config::default() }
            .check(&schemas::net::PrefixSet::default())
            .is_err()
    );
}
