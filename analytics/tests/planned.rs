//! Maintenance windows from findings to incidents that do not open, on a clock of the test's own.
#![allow(clippy::unwrap_used, reason = "tests")]

use analytics::planned::Window;
use analytics::{Analyst, Config, Event};
use schemas::counter::{Direction, Snapshot, Target, TargetUpdate, Volume};
use schemas::incident::Incident;
use schemas::time::Timestamp;

/// 2026-11-20T12:00:00Z, a whole second.
const START: u64 = 1_795_176_000_000;
const VICTIM: &str = "203.0.113.7";

fn analyst() -> Analyst {
    Analyst::new(&Config::default(), analytics::metrics::Metrics::default())
}

/// A window of 3 s that begins with the test.
fn window(prefix: &str, resolve_open: bool) -> Window {
    let (from, to) = (Timestamp(START), Timestamp(START + 3_000));
    let (uuid, prefix) = (uuid::Uuid::from_u128(1), prefix.parse().unwrap());
    Window { uuid, prefix, from, to, reason: "load test".to_owned(), resolve_open }
}

/// A flood of 500,000 packets a second, five times the limit, that a mirror sees in these tenths of a second.
fn flood(analyst: &mut Analyst, host: &str, tenths: std::ops::Range<u64>) -> Vec<Event> {
    let target = Target { prefix: host.parse().unwrap(), direction: Direction::Incoming };
    let volume = Volume { packets: 5e4, octets: 5e6, udp_packets: 5e4, udp_octets: 5e6, samples: 5e4, ..Volume::default() };
    let tell = |tenth: u64| {
        let taken_at = Timestamp(START + (tenth + 1) * 100);
        let update = TargetUpdate { target, slots: vec![(START / 100 + tenth, volume)], detail: None };
        analyst.observe(Snapshot { taken_at, targets: vec![update], ..Snapshot::default() });
        analyst.tick(taken_at)
    };
    tenths.flat_map(tell).collect()
}

fn opened(events: &[Event]) -> Vec<&Incident> {
    events.iter().filter_map(|event| if let Event::Opened(incident) = event { Some(&**incident) } else { None }).collect()
}

fn ended(events: &[Event]) -> Vec<&Incident> {
    events.iter().filter_map(|event| if let Event::Ended(incident) = event { Some(&**incident) } else { None }).collect()
}

#[test]
fn nothing_opens_in_a_window_and_what_goes_on_behind_it_opens_at_once() {
    let mut analyst = analyst();
    analyst.set_planned(vec![window(VICTIM, false)]);
    assert!(opened(&flood(&mut analyst, VICTIM, 0..28)).is_empty());
    assert_eq!(opened(&flood(&mut analyst, "203.0.113.8", 28..29)).len(), 1, "a neighbour is attacked all the same");
    let events = flood(&mut analyst, VICTIM, 29..32);
    let [incident] = opened(&events)[..] else { panic!("{events:?}") };
    assert_eq!(incident.detected_at, Timestamp(START + 3_000));
}

#[test]
fn an_open_incident_goes_on_in_a_window_that_does_not_end_it() {
    for (resolve_open, count) in [(false, 0), (true, 1)] {
        let mut analyst = analyst();
        assert_eq!(opened(&flood(&mut analyst, VICTIM, 0..10)).len(), 1);
        analyst.set_planned(vec![window("203.0.113.0/24", resolve_open)]);
        let events = flood(&mut analyst, VICTIM, 10..20);
        assert_eq!((opened(&events).len(), ended(&events).len()), (0, count));
        assert!(ended(&events).iter().all(|incident| incident.timeline.last().unwrap().text == "planned: load test"));
    }
}
