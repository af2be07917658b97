//! Blindness from snapshots to alarms, doubt and incidents that are held open, on a clock of the test's own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "tests")]

use analytics::{Analyst, Config, Event};
use schemas::alarm::AlarmKind;
use schemas::counter::{Detail, Direction, DomainReport, ExporterReport, SamplingSource, Snapshot, Target, TargetUpdate, Volume};
use schemas::flow::Version;
use schemas::incident::Incident;
use schemas::ledger::{Ledger, StoreLedger};
use schemas::net::Address;
use schemas::time::Timestamp;

/// 2026-11-20T12:00:00Z, a whole second.
const START: u64 = 1_795_176_000_000;
const EXPORTER: &str = "192.0.2.1";

/// An exporter, what a shard counts of it, and the analysts.
struct World {
    analyst: Analyst,
    now: u64,
    last_seen: u64,
    ledger: Ledger,
    domain: DomainReport,
    kernel_drops: u64,
    events: Vec<Event>,
}

impl World {
    fn new() -> Self {
        let domain = DomainReport {
            version: Version::Ipfix,
            observation_domain_id: 1,
            agent: None,
            templates: 1,
            datagrams: 0,
            records: 0,
            lost_by_sequence: 0,
            sets_without_template: 0,
            sampling_interval: None,
            sampling_source: SamplingSource::Unknown,
            clock_offset_milliseconds: 0,
            interfaces: Vec::new(),
        };
        Self {
            analyst: Analyst::new(&Config::default(), analytics::metrics::Metrics::default()),
            now: START,
            last_seen: START,
            ledger: Ledger::default(),
            domain,
            kernel_drops: 0,
            events: Vec::new(),
        }
    }

    /// A tenth of a second in which a host received `packets`; the second's end reports the exporter.
    fn slot(&mut self, packets: f64) {
        let exporter: Address = EXPORTER.parse().unwrap();
        self.now += 100;
        let exporters = if self.now.is_multiple_of(1_000) {
            vec![ExporterReport {
                exporter,
                ledger: self.ledger,
                store: StoreLedger::default(),
                last_seen: Timestamp(self.last_seen),
                domains: vec![self.domain.clone()],
            }]
        } else {
            Vec::new()
        };
        let volume = Volume { packets, octets: packets * 100.0, udp_packets: packets, samples: packets, ..Volume::default() };
        let target = Target { prefix: "203.0.113.7".parse().unwrap(), direction: Direction::Incoming };
        let detail = Detail { packets: packets as u64, exporters: vec![(exporter, packets as u64, 0)], ..Detail::default() };
        let update = TargetUpdate { target, slots: vec![(self.now / 100 - 1, volume)], detail: Some(Box::new(detail)) };
        let targets = if packets > 0.0 { vec![update] } else { Vec::new() };
        let snapshot =
            Snapshot { taken_at: Timestamp(self.now), targets, exporters, kernel_drops: self.kernel_drops, ..Snapshot::default() };
        self.analyst.observe(snapshot);
        let events = self.analyst.tick(Timestamp(self.now));
        self.events.extend(events);
    }

    /// Seconds in each of which the exporter sends 100 records in 100 sets, changed by `change`.
    fn seconds(&mut self, seconds: u64, packets_per_second: f64, change: impl Fn(&mut Self)) -> &mut Self {
        for _ in 0..seconds {
            self.ledger.sets_seen += 100;
            self.ledger.records_decoded += 100;
            self.domain.records += 100;
            change(self);
            for _ in 0..10 {
                self.last_seen = self.now + 100;
                self.slot(packets_per_second / 10.0);
            }
        }
        self
    }

    /// Seconds in which nothing comes.
    fn silence(&mut self, seconds: u64) -> &mut Self {
        (0..seconds * 10).for_each(|_| self.slot(0.0));
        self
    }

    fn alarms(&self) -> Vec<AlarmKind> {
        self.analyst.alarms().alarms().iter().map(|alarm| alarm.kind).collect()
    }

    fn ended(&self) -> Vec<&Incident> {
        self.events.iter().filter_map(|event| if let Event::Ended(incident) = event { Some(&**incident) } else { None }).collect()
    }

    fn open(&self) -> Incident {
        self.analyst.incidents().next().cloned().expect("an incident is open")
    }
}

fn nothing(_: &mut World) {}

#[test]
fn an_exporter_that_falls_silent_is_an_alarm_until_it_is_heard() {
    let mut world = World::new();
    assert_eq!(world.seconds(20, 0.0, nothing).silence(29).alarms(), []);
    world.silence(2);
    let alarms = world.analyst.alarms().alarms();
    assert_eq!((alarms.len(), alarms[0].kind, alarms[0].exporter), (1, AlarmKind::ExporterSilent, Some(EXPORTER.parse().unwrap())));
    assert!(alarms[0].text.starts_with("nothing was heard for 3"), "{}", alarms[0].text);
    assert_eq!(world.seconds(2, 0.0, nothing).alarms(), []);
}

/// One that speaks every 20 s is missed after three times that.
#[test]
fn an_exporter_that_is_rare_by_nature_is_missed_later() {
    let mut world = World::new();
    for _ in 0..12 {
        world.seconds(1, 0.0, nothing).silence(19);
    }
    assert_eq!(world.silence(30).alarms(), []);
    assert_eq!(world.silence(15).alarms(), [AlarmKind::ExporterSilent]);
}

#[test]
fn a_stranger_who_is_heard_a_few_times_is_not_missed() {
    let mut world = World::new();
    assert_eq!(world.seconds(5, 0.0, nothing).silence(120).alarms(), []);
}

#[test]
fn what_cannot_be_read_scaled_or_dated_is_an_alarm() {
    type Fault = fn(&mut World);
    let faults: [(AlarmKind, Fault); 5] = [
        (AlarmKind::Loss, |world| world.domain.lost_by_sequence += 3),
        (AlarmKind::TemplatesUnknown, |world| world.ledger.sets_without_template += 10),
        (AlarmKind::TemplatesUnknown, |world| world.ledger.sets_waiting = 500),
        (AlarmKind::SamplingUnknown, |world| world.ledger.records_sampling_unknown += 10),
        (AlarmKind::ClockWrong, |world| world.domain.clock_offset_milliseconds = -90_000),
    ];
    for (kind, fault) in faults {
        let mut world = World::new();
        assert_eq!(world.seconds(20, 0.0, nothing).alarms(), []);
        assert_eq!(world.seconds(20, 0.0, fault).alarms(), [kind]);
    }
}

/// 10 s are far from the 60 s of a wrong clock, and yet a clock does not go so far in a second.
#[test]
fn a_clock_that_is_set_is_an_alarm_for_a_while() {
    let mut world = World::new();
    world.seconds(20, 0.0, nothing);
    assert_eq!(world.seconds(2, 0.0, |world| world.domain.clock_offset_milliseconds = 10_000).alarms(), [AlarmKind::ClockWrong]);
    assert_eq!(world.seconds(100, 0.0, nothing).alarms(), []);
}

#[test]
fn kernel_drops_and_late_counters_are_alarms_of_nobody() {
    let mut world = World::new();
    world.seconds(20, 0.0, nothing).kernel_drops = 7;
    assert_eq!(world.seconds(2, 0.0, nothing).alarms(), [AlarmKind::KernelDrops]);
    assert_eq!(world.seconds(100, 0.0, nothing).alarms(), []);
    world.analyst.tick(Timestamp(world.now + 4_000));
    let alarms = world.analyst.alarms().alarms();
    assert_eq!((alarms[0].kind, alarms[0].exporter, alarms[0].value), (AlarmKind::DetectorBehind, None, 4.0));
}

/// A flood of 500,000 packets a second, and then the exporter is silent: that the flood is over is not known.
#[test]
fn an_incident_whose_exporter_falls_silent_is_held_and_then_given_up_in_words() {
    let mut world = World::new();
    world.seconds(70, 0.0, nothing).seconds(5, 500_000.0, nothing);
    assert_eq!(world.open().confidence, 100);
    world.silence(60);
    let held = world.open();
    assert_eq!(held.confidence, 50);
    assert!(
        held.timeline.iter().any(|entry| entry.text.starts_with("held open: every exporter that saw it is silent")),
        "{:?}",
        held.timeline
    );
    world.silence(560);
    let [ended] = world.ended()[..] else { panic!("{:?}", world.ended()) };
    assert!(ended.timeline.last().unwrap().text.starts_with("given up: whether it is over is not known"), "{:?}", ended.timeline);
}

#[test]
fn an_incident_that_was_held_ends_when_its_exporter_has_told_of_peace_for_the_hold() {
    let mut world = World::new();
    world.seconds(70, 0.0, nothing).seconds(5, 500_000.0, nothing).silence(60).seconds(8, 0.0, nothing);
    assert_eq!(world.open().confidence, 100);
    let told = world.seconds(6, 0.0, nothing).ended()[0].timeline.last().unwrap().text.clone();
    assert_eq!(told, "below 0.7 of the limit for 10 s");
}

/// One that tells of the attack alone is silent because the attack is over.
#[test]
fn an_exporter_that_is_known_by_the_attack_alone_holds_nothing() {
    let mut world = World::new();
    world.seconds(20, 0.0, nothing).seconds(5, 500_000.0, nothing).silence(13);
    assert_eq!(world.ended().len(), 1);
}

/// All records of unknown rate leave 80 of 100.
#[test]
fn an_unknown_sampling_rate_lowers_the_confidence() {
    let mut world = World::new();
    let fault = |world: &mut World| world.ledger.records_sampling_unknown += 100;
    world.seconds(70, 0.0, fault).seconds(5, 500_000.0, fault);
    assert_eq!(world.open().confidence, 80);
}
