//! What several sources tell of the same interfaces, and how much of it is kept.

use std::sync::atomic::Ordering::Relaxed;

use super::*;

const ROUTER: Address = Address::from_v4(0xc000_0201);

fn interfaces(json: &str) -> Interfaces {
    Interfaces::new(&serde_json::from_str(json).unwrap())
}

fn told(interface: u32, name: &str, description: &str, speed_bits: u64) -> Told {
    Told { interface, name: name.into(), description: description.into(), speed_bits, is_up: None }
}

#[test]
fn a_later_source_fills_what_earlier_ones_leave_open() {
    let interfaces =
        interfaces(r#"{"known": [{"exporters": "192.0.2.1", "interface": 3, "description": "to AS64500", "boundary": "external"}]}"#);
    let of = |interfaces: &Interfaces| interfaces.snapshot().device(ROUTER).unwrap().interface(3).unwrap().clone();
    assert_eq!((of(&interfaces).name_source, of(&interfaces).boundary), (None, Boundary::External));
    interfaces.tell(ROUTER, Source::Sflow, &[Told { is_up: Some(true), ..told(3, "", "", 1_000) }], Timestamp(1_000));
    interfaces.tell(ROUTER, Source::Options, &[told(3, "xe-0/0/1\0", " transit \n", 0)], Timestamp(2_000));
    let seen = of(&interfaces);
    assert_eq!((&*seen.name, seen.name_source, &*seen.description), ("xe-0/0/1", Some(Source::Options), "to AS64500"));
    assert_eq!((seen.speed_bits, seen.speed_source, seen.is_up), (1_000, Some(Source::Sflow), Some(true)));
    interfaces.tell(ROUTER, Source::Snmp, &[told(3, "xe-0/0/1.0", "other", 2_000)], Timestamp(3_000));
    let seen = of(&interfaces);
    assert_eq!((&*seen.name, seen.name_source, seen.description_source), ("xe-0/0/1.0", Some(Source::Snmp), Some(Source::Config)));
    assert_eq!((seen.speed_bits, seen.speed_source), (2_000, Some(Source::Snmp)));
    assert_eq!(interfaces.snapshot().interface(ROUTER, 3), ("xe-0/0/1.0", Boundary::External));
    assert_eq!(interfaces.snapshot().interface(ROUTER, 4), ("", Boundary::Undefined));
}

#[test]
fn the_first_rule_that_fits_and_says_a_thing_holds() {
    let interfaces = interfaces(
        r#"{"rules": [
            {"exporters": "192.0.2.0/24", "interfaces": [1, 2], "boundary": "internal"},
            {"name": "xe-*", "description": "*transit*", "boundary": "external", "speed_bits": 10},
            {"name": "xe-*", "boundary": "internal", "speed_bits": 20},
            {"exporters": "198.51.100.0/24", "boundary": "external"}
        ]}"#,
    );
    let names = [told(1, "xe-1", "Transit", 5), told(3, "xe-3", "a TRANSIT b", 5), told(4, "xe-4", "", 5), told(5, "ge-5", "", 5)];
    interfaces.tell(ROUTER, Source::Options, &names, Timestamp(1_000));
    let snapshot = interfaces.snapshot();
    let seen: Vec<_> = snapshot.device(ROUTER).unwrap().iter().map(|(index, it)| (index, it.boundary, it.speed_bits)).collect();
    assert_eq!(seen, [(1, Boundary::Internal, 10), (3, Boundary::External, 10), (4, Boundary::Internal, 20), (5, Boundary::Undefined, 5)]);
    // Numbers have a boundary though nobody has told anything of their interface, or of any of their exporter.
    assert_eq!(snapshot.interface(ROUTER, 2), ("", Boundary::Internal));
    assert_eq!(snapshot.interface("192.0.2.77".parse().unwrap(), 1), ("", Boundary::Internal));
    assert_eq!(snapshot.interface("198.51.100.7".parse().unwrap(), 1), ("", Boundary::External));
    assert_eq!(snapshot.interface("2001:db8::1".parse().unwrap(), 1), ("", Boundary::Undefined));
    assert!(snapshot.has_boundaries() && !super::Interfaces::new(&Config::default()).snapshot().has_boundaries());
}

#[test]
fn what_is_over_a_bound_is_counted_and_places_of_the_silent_are_given_away() {
    let interfaces = interfaces(r#"{"interfaces_max": 3, "interfaces_per_exporter_max": 2}"#);
    let many: Vec<_> = (1..=4).map(|index| told(index, "a", "", 0)).collect();
    interfaces.tell(ROUTER, Source::Options, &many, Timestamp(1_000_000));
    let other = Address::from_v4(0xc000_0202);
    interfaces.tell(other, Source::Options, &many, Timestamp(1_000_000));
    interfaces.flush();
    let counts = |interfaces: &Interfaces| (interfaces.metrics().known.load(Relaxed), interfaces.metrics().refused.load(Relaxed));
    // Two of the first, one of the second.
    assert_eq!(counts(&interfaces), (3, 2 + 3));
    interfaces.tell(other, Source::Options, &many[..2], Timestamp(1_000_000 + 3_600_000));
    interfaces.flush();
    assert_eq!(counts(&interfaces), (2, 5));
    assert!(interfaces.snapshot().device(ROUTER).is_none());
}

#[test]
fn what_changes_all_the_time_is_published_now_and_then() {
    let interfaces = Interfaces::new(&Config::default());
    let mut generations = 0;
    let mut last = interfaces.snapshot();
    for millisecond in 0..1_000 {
        interfaces.tell(ROUTER, Source::Options, &[told(1, &millisecond.to_string(), "", 0)], Timestamp(1_000_000 + millisecond));
        let now = interfaces.snapshot();
        generations += u64::from(!Arc::ptr_eq(&last, &now));
        last = now;
    }
    assert_eq!(generations, 5);
    interfaces.observe(&schemas::counter::Snapshot { taken_at: Timestamp(1_002_000), ..schemas::counter::Snapshot::default() });
    assert_eq!(interfaces.snapshot().interface(ROUTER, 1).0, "999", "the last word is published with the next snapshot of a shard");
}

#[test]
fn counters_of_a_shard_s_second_tell_speeds_and_are_followed() {
    let interfaces = Interfaces::new(&Config::default());
    let at = |seconds: u64| {
        let sample = CounterSample {
            interface: 3,
            at: Timestamp(1_795_176_000_000 + seconds * 1_000),
            uptime_milliseconds: seconds * 1_000,
            speed_bits: 1_000_000_000,
            octets_in: schemas::interface::Counter::Bits64(seconds * 1_000),
            octets_out: schemas::interface::Counter::Bits64(0),
            ..CounterSample::default()
        };
        schemas::counter::Snapshot {
            taken_at: sample.at,
            interface_counters: vec![(ROUTER, sample), (Address(5), sample)],
            ..schemas::counter::Snapshot::default()
        }
    };
    interfaces.observe(&at(0));
    interfaces.observe(&at(10));
    let minutes = interfaces.minutes(ROUTER, Timestamp(0), Timestamp(u64::MAX));
    assert_eq!((minutes.len(), minutes[0].octets_in, minutes[0].milliseconds, minutes[0].source), (1, 10_000, 10_000, Source::Sflow));
    assert_eq!(interfaces.snapshot().device(ROUTER).unwrap().interface(3).unwrap().speed_bits, 1_000_000_000);
}
