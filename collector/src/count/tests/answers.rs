//! What suspects answer: their other direction, and what they exchange with whom.

use super::*;

/// A download of 1,000 packets of 1,500 octets from 198.51.100.1, and its 10 acknowledgements.
fn download(now: u64) -> [Row; 2] {
    let data = Row { protocol: 6, source_port: 443, tcp_flags: 0x10, packets: 1_000, octets: 1_500_000, start: now, end: now, ..row() };
    let acknowledgements = Row { source: data.destination, destination: data.source, packets: 10, octets: 400, ..data.clone() };
    [acknowledgements, data]
}

/// 200,000 packets/s and 2.4 Gbit/s: suspects by the data, not by the acknowledgements.
fn download_for(bench: &mut Bench, milliseconds: u64) -> Told {
    let mut told = Told::default();
    for _ in 0..milliseconds / 100 {
        for _ in 0..20 {
            bench.count(&download(bench.now));
        }
        bench.now += 100;
        told.take(bench.counter.tick(Timestamp(bench.now)));
    }
    told
}

const PEER: u32 = 0xc633_6401;

fn peer() -> u32 {
    let peer = address("198.51.100.1").folded();
    // One for one with the address.
    assert_eq!(peer ^ address("198.51.100.2").folded(), PEER ^ (PEER + 1));
    peer
}

#[test]
fn what_a_suspect_answers_is_counted_from_before_it_was_one() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    let told = download_for(&mut bench, 1_000);
    let (to, from) = (incoming("203.0.113.7"), outgoing("203.0.113.7"));
    assert!(near(told.sum(to).packets, 200_000.0) && near(told.answers[&from].packets, 2_000.0), "{:?}", told.answers);
    let talks = |target| told.talks[&(target, peer())].packets;
    assert!(near(talks(to), 200_000.0) && near(talks(from), 2_000.0), "{:?}", told.talks);
}

#[test]
fn answers_are_counted_where_sources_are_not() {
    let mut bench = Bench::within(&Config::default(), PrefixSet::default(), Limits::default());
    let told = download_for(&mut bench, 1_000);
    let (to, from) = (incoming("203.0.113.7"), outgoing("203.0.113.7"));
    assert!(near(told.sum(to).packets, 200_000.0));
    // What it answered while it was none, with an eighth of a 0.1-s limit, nobody knows.
    let answered = told.answers[&from].packets;
    assert!((1_800.0..=2_000.0).contains(&answered), "{answered}");
    assert!(!told.slots.contains_key(&from), "sources are no suspects");
    // A flood whose sources answer nothing has no answers.
    bench.count(&vec![Row { destination: address("203.0.113.9"), start: bench.now, end: bench.now, ..row() }; 200]);
    assert!(bench.run(100).answers.keys().all(|target| target.prefix != prefix("203.0.113.9")));
}

#[test]
fn a_companion_goes_with_its_suspect_and_takes_no_suspects_place() {
    let config = Config { suspects_max: 1, ..Config::default() };
    let mut bench = Bench::new(&config, Limits::default());
    let told = download_for(&mut bench, 200);
    assert_eq!((told.answers.len(), told.refused, bench.counter.held().2), (1, 0, 1));
    let told = bench.run(40_000);
    assert_eq!((told.released, bench.counter.held().2), (vec![incoming("203.0.113.7")], 0));
    bench.count(&download(bench.now));
    let told = bench.run(200);
    assert!(told.slots.is_empty() && told.answers.is_empty() && told.talks.is_empty());
}

#[test]
fn a_companion_that_is_over_its_own_share_is_a_suspect_and_stays_one() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    let (to, from) = (incoming("203.0.113.7"), outgoing("203.0.113.7"));
    assert!(!download_for(&mut bench, 100).slots.contains_key(&from));
    // The download ends, an upload goes on: what was a suspect is the companion now.
    let mut told = Told::default();
    for _ in 0..400 {
        for _ in 0..5 {
            bench.count(&download(bench.now).map(|row| Row { source: row.destination, destination: row.source, ..row }));
        }
        bench.now += 100;
        told.take(bench.counter.tick(Timestamp(bench.now)));
    }
    assert!(told.released.contains(&to) && !told.released.contains(&from), "{:?}", told.released);
    assert!(near(told.sum(from).packets, 2_000_000.0) && told.answers.contains_key(&to), "{:?}", told.answers);
    // Both end when it does.
    let released = bench.run(40_000).released;
    assert!(released.contains(&from) && !released.contains(&to) && bench.counter.held().2 == 0, "{released:?}");
}

#[test]
fn a_stronger_suspect_takes_the_place_of_a_weaker_one_and_of_its_companion() {
    let config = Config { suspects_max: 1, ..Config::default() };
    let mut bench = Bench::new(&config, Limits::default());
    download_for(&mut bench, 100);
    // Seven seconds later the download weighs a tenth.
    bench.run(7_000);
    let rows = download(bench.now).map(|row| Row { packets: row.packets * 20, octets: row.octets * 20, ..row });
    let ours = address("203.0.113.7");
    let swap = |end: Address| if end == ours { Address(end.0 + 1) } else { end };
    bench.count(&rows.map(|row| Row { source: swap(row.source), destination: swap(row.destination), ..row }));
    let told = bench.run(100);
    assert_eq!((told.released.as_slice(), bench.counter.held().2), ([incoming("203.0.113.7")].as_slice(), 1));
    assert!(told.slots.contains_key(&incoming("203.0.113.8")) && told.answers.contains_key(&outgoing("203.0.113.8")));
    bench.count(&download(bench.now));
    assert!(!bench.run(100).answers.contains_key(&outgoing("203.0.113.7")), "the companion went with it");
}
