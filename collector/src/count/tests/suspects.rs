//! Suspects: who becomes one, what is kept of them, and what the bounds do.

use super::*;

#[test]
fn a_new_suspect_keeps_what_came_before_it_was_one() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    // A quarter of 100,000 packets/s are 25,000: 24 records stay below it, in one 1-s cell or two, the others do not.
    for _ in 0..60 {
        bench.count(&[Row { octets: 100_000, start: bench.now, end: bench.now, ..row() }]);
        bench.now += 10;
    }
    bench.now = START;
    let told = bench.run(1_000);
    let slots = &told.slots[&incoming("203.0.113.7")];
    assert_eq!(slots.keys().copied().collect::<Vec<_>>(), (START / 100..START / 100 + 6).collect::<Vec<_>>());
    assert!(slots.values().all(|volume| near(volume.packets, 10_000.0)), "{slots:?}");
}

#[test]
fn type_and_code_of_icmp_stand_for_the_destination_port() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    bench.write(&[Row { protocol: 1, source_port: 0, packets: 40_000, ..row() }]);
    // An echo request.
    bench.batch.icmp_type_code[0] = 0x0800;
    bench.commit(1, &[ONE_WAY, &[Column::IcmpTypeCode]].concat());
    let told = bench.run(100);
    assert_eq!(told.details[&incoming("203.0.113.7")].destination_ports[0].0, (1, 0x0800));
}

#[test]
fn a_quiet_suspect_is_released_and_may_become_one_again() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    // Between the 5,000 packets in 0.1 s that make a suspect of a host and the 50,000 of a /24.
    let flood = |now| Row { packets: 40_000, octets: 4_000_000, start: now, end: now, ..row() };
    bench.count(&[flood(START)]);
    let told = bench.run(29_000);
    assert!(told.slots.contains_key(&incoming("203.0.113.7")) && told.released.is_empty());
    assert_eq!(bench.run(3_000).released, [incoming("203.0.113.7")]);
    bench.count(&[Row { packets: 10, octets: 1_000, start: bench.now, end: bench.now, ..row() }]);
    assert!(bench.run(1_000).slots.is_empty());
    bench.count(&[flood(bench.now)]);
    assert!(near(bench.run(1_000).sum(incoming("203.0.113.7")).packets, 40_010.0));
}

#[test]
fn a_carpet_that_no_host_limit_sees_makes_a_suspect_of_the_prefix() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    let rows: Vec<_> = (0..=255)
        .map(|host| Row { destination: Address(address("203.0.113.0").0 + host), packets: 2_000, octets: 200_000, ..row() })
        .collect();
    bench.count(&rows);
    let told = bench.run(100);
    assert_eq!(told.slots.keys().copied().collect::<Vec<_>>(), [incoming("203.0.113.0/24")]);
    assert!(near(told.sum(incoming("203.0.113.0/24")).packets, 512_000.0));
}

/// 1,024 hosts with 500 packets in 0.1 s each: 1.28 M/s on each /24, under a quarter of twice the limit of 3 M/s, and 5.12 M/s in all.
#[test]
fn a_carpet_over_a_configured_sum_makes_a_suspect_of_it_alone() {
    let mut limits = Limits::default();
    let sum = prefix("198.18.0.0/22");
    for table in [&mut limits.incoming, &mut limits.outgoing] {
        table.block = Limit::of(3e6, 1e12);
        table.sums.insert(sum, Limit::of(3e6, 1e12));
    }
    limits.sums = vec![sum, prefix("198.18.0.0/16")];
    let mut bench = Bench::within(&Config::default(), [prefix("198.18.0.0/15")].into_iter().collect(), limits);
    let rows: Vec<_> = (0..1_024)
        .map(|host| Row { destination: Address(address("198.18.0.0").0 + host), packets: 500, octets: 50_000, ..row() })
        .collect();
    bench.count(&rows);
    let told = bench.run(10_000);
    assert_eq!(told.slots.keys().copied().collect::<Vec<_>>(), [incoming("198.18.0.0/22")]);
    // What came before it was a suspect, under a quarter of its limit, is not known exactly.
    let exact = told.sum(incoming("198.18.0.0/22")).packets;
    assert!((512_000.0 - 150_000.0..=512_000.0).contains(&exact), "{exact}");
    assert!(near(told.hosts[&incoming("198.18.0.0/16")].packets, 512_000.0), "the wider sum has no limit, and is told");
    bench.counter.set_limits(Limits::default());
    assert!(bench.counter.targets.sums.is_empty());
}

#[test]
fn a_prefix_with_its_own_limit_is_held_to_that() {
    let mut limits = Limits::default();
    limits.incoming.hosts = PrefixTable::new(vec![(prefix("203.0.113.7"), Limit::of(1e9, 1e15))]);
    let mut bench = Bench::new(&Config::default(), limits);
    let flood = Row { packets: 20_000, octets: 2_000_000, ..row() };
    bench.count(&[flood.clone(), Row { destination: address("203.0.113.8"), ..flood }]);
    assert_eq!(bench.run(100).slots.keys().copied().collect::<Vec<_>>(), [incoming("203.0.113.8")]);
}

/// 600 SYN in 0.1 s are 6,000 a second: under a quarter of twice 100,000 packets, over one of twice 10,000 SYN.
#[test]
fn a_kind_of_traffic_makes_a_suspect_by_its_own_limit() {
    let limit = Limit::of(100_000.0, 1e9).with(Metric::SynPacketsPerSecond, 10_000.0).with(Metric::FlowsPerSecond, 40.0);
    let mut limits = Limits::default();
    limits.incoming.host = limit;
    let mut bench = Bench::new(&Config::default(), limits);
    let tcp = |host: &str, tcp_flags| Row { destination: address(host), protocol: 6, tcp_flags, packets: 600, octets: 24_000, ..row() };
    bench.count(&[tcp("203.0.113.7", 0x02), tcp("203.0.113.8", 0x10)]);
    // Eleven records in a second of a host that may have 40.
    let few = Row { destination: address("203.0.113.9"), packets: 1, octets: 40, ..row() };
    bench.count(&vec![few; 11]);
    let told = bench.run(100);
    assert_eq!(told.slots.keys().copied().collect::<Vec<_>>(), [incoming("203.0.113.7"), incoming("203.0.113.9")]);
    let volume = told.sum(incoming("203.0.113.7"));
    assert!(near(volume.syn_packets, 600.0) && near(volume.rate(Metric::SynPacketsPerSecond, 0.1), 6_000.0), "{volume:?}");
}

#[test]
fn a_limit_that_is_lowered_holds_from_then_on_for_hosts_that_are_known() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    // 1,000 packets are a hundredth of the default limit, and more than a quarter of 2,000.
    bench.count(&[row()]);
    assert!(bench.run(100).slots.is_empty());
    bench.counter.set_limits(Limits::of_hosts(Limit::of(2_000.0, 1e9)));
    bench.count(&[Row { start: bench.now, end: bench.now, ..row() }]);
    assert!(bench.run(100).slots.contains_key(&incoming("203.0.113.7")));
}

#[test]
fn hosts_and_prefixes_with_traffic_are_reported_once_in_ten_seconds() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    bench.count(&[row(), row()]);
    let told = bench.run(10_000);
    assert_eq!(told.hosts.keys().copied().collect::<Vec<_>>(), [incoming("203.0.113.0/24"), incoming("203.0.113.7")]);
    let volume = told.hosts[&incoming("203.0.113.7")];
    assert!(near(volume.octets, 2e6) && near(volume.udp_packets, 2_000.0) && near(volume.flows, 2.0), "{volume:?}");
    assert!(bench.run(10_000).hosts.is_empty());
}

#[test]
fn over_the_bound_records_are_counted_as_such_until_idle_hosts_make_room() {
    let config = Config { hosts_max: 16, ..Config::default() };
    let mut bench = Bench::new(&config, Limits::default());
    let to = |host: u128, now: u64| Row { destination: Address(address("203.0.113.0").0 + host), start: now, end: now, ..row() };
    let rows: Vec<_> = (0..20).map(|host| to(host, START)).collect();
    bench.count(&rows);
    let ledger = bench.ledger();
    assert_eq!((ledger.records_counted, ledger.records_over_host_bound), (16, 4));
    assert_eq!(bench.counter.held().0, 16);
    // 1,000 packets are a 100th of the limit: too heavy to go before the bound has forgotten them, after 144 s and a turn.
    bench.run(30_000);
    assert_eq!(bench.counter.held().0, 16);
    bench.run(130_000);
    assert_eq!(bench.counter.held(), (0, 0, 0));
    bench.count(&[to(99, bench.now)]);
    assert_eq!(bench.ledger().records_counted, 17);
}

#[test]
fn a_scan_cannot_keep_the_table_full() {
    let config = Config { hosts_max: 64, ..Config::default() };
    let mut bench = Bench::new(&config, Limits::default());
    let scan: Vec<_> =
        (0..256).map(|host| Row { destination: Address(address("203.0.113.0").0 + host), packets: 1, octets: 40, ..row() }).collect();
    bench.count(&scan);
    assert_eq!(bench.counter.held().0, 64);
    // Entries of one packet go after ten seconds and a turn of the sweep, until the table is seven eighths full.
    bench.run(21_000);
    assert!(bench.counter.held().0 < 64, "{:?}", bench.counter.held());
}

#[test]
fn ipv6_hosts_are_folded_to_their_64_when_the_table_is_crowded() {
    let config = Config { hosts_max: 16, ..Config::default() };
    let mut bench = Bench::new(&config, Limits::default());
    let rows: Vec<_> = (0..200).map(|host| Row { destination: Address(address("2001:db8:1:2::").0 + host), ..row() }).collect();
    bench.count(&rows);
    let told = bench.run(100);
    assert_eq!(bench.ledger().records_counted, 200);
    // Twelve of sixteen are held on their own, the others in one entry.
    assert_eq!(bench.counter.held().0, 13);
    assert!(near(told.sum(incoming("2001:db8:1:2::/64")).packets, 188_000.0));
    assert!(near(told.sum(incoming("2001:db8:1::/48")).packets, 200_000.0));
}

#[test]
fn when_suspects_run_out_the_strongest_are_kept_and_the_refused_are_counted() {
    let config = Config { suspects_max: 2, ..Config::default() };
    let mut bench = Bench::new(&config, Limits::default());
    let flood = |host: u128, packets: u64, now: u64| Row {
        destination: Address(address("203.0.113.0").0 + host),
        packets,
        octets: packets * 100,
        start: now,
        end: now,
        ..row()
    };
    bench.count(&[flood(1, 6_000, START), flood(2, 12_000, START), flood(3, 6_000, START), flood(3, 200, START)]);
    let told = bench.run(100);
    assert_eq!((told.slots.len(), told.refused), (2, 1));
    // After two seconds the two are known to be a few per cent of their limit: a stronger bound takes the weaker's place.
    bench.run(2_000);
    bench.count(&[flood(4, 8_000, bench.now)]);
    let told = bench.run(100);
    assert_eq!((told.released.as_slice(), told.refused), ([incoming("203.0.113.1")].as_slice(), 1));
    assert!(near(told.sum(incoming("203.0.113.4")).packets, 8_000.0));
}

#[test]
fn a_suspects_picture_names_its_peers_ports_and_exporters() {
    let mut bench = Bench::new(&Config::default(), low());
    let rows: Vec<_> = (0..32u16)
        .map(|number| Row {
            source: Address(address("198.51.0.0").0 + if number % 2 == 0 { 1 } else { u128::from(number) }),
            source_port: if number % 4 == 0 { 53 } else { 40_000 + number },
            ..row()
        })
        .collect();
    bench.count(&rows);
    let told = bench.run(100);
    let detail = &told.details[&incoming("203.0.113.7")];
    assert_eq!((detail.packets, detail.octets), (32_000, 32_000_000));
    assert_eq!(detail.peers[0], (address("198.51.0.1"), 17_000, 17_000_000));
    // 15 senders besides the one.
    assert!((15..=17).contains(&detail.peer_count), "{}", detail.peer_count);
    assert_eq!(detail.source_ports[0], ((17, 53), 8_000, 8_000_000));
    assert_eq!(detail.protocols, vec![(17, 32_000, 32_000_000)]);
    // 1,000 octets lie between 15 and 16 times 64.
    assert_eq!(detail.packet_lengths, vec![(960, 32_000, 32_000_000)]);
    assert_eq!(detail.exporters, vec![(address(EXPORTER), 32_000, 32_000_000)]);
}

#[test]
fn a_tick_that_comes_late_loses_no_slot() {
    let mut bench = Bench::new(&Config::default(), low());
    for _ in 0..20 {
        bench.now += 1_000;
        bench.count(&[Row { start: bench.now, end: bench.now, ..row() }]);
    }
    let told = bench.run(1_000);
    assert_eq!(told.slots[&incoming("203.0.113.7")].len(), 20);
    assert!(near(told.sum(incoming("203.0.113.7")).octets, 20e6));
}
