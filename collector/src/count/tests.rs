//! The counter as its shard sees it: batches in, ledgers and snapshots out.

use std::collections::BTreeMap;

use schemas::counter::{SamplingSource, Target, Volume};
use schemas::flow::{Column, ColumnSet, Origin, Version};
use schemas::incident::Metric;
use schemas::limit::Limit;
use schemas::net::{Prefix, PrefixTable};

use super::*;

mod answers;
mod suspects;

/// A moment at the turn of a second.
const START: u64 = 1_800_000_000_000;
const EXPORTER: &str = "192.0.2.1";

/// One row, in the columns that a v9 record has.
#[derive(Clone)]
struct Row {
    source: Address,
    destination: Address,
    protocol: u8,
    source_port: u16,
    tcp_flags: u16,
    fragment: u8,
    packets: u64,
    octets: u64,
    link_layer: u16,
    reverse: (u64, u64),
    sampling: u32,
    start: u64,
    end: u64,
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// A UDP record of 1,000 packets of 1,000 octets in a moment, from outside to 203.0.113.7.
fn row() -> Row {
    Row {
        source: address("198.51.100.1"),
        destination: address("203.0.113.7"),
        protocol: 17,
        source_port: 40_000,
        tcp_flags: 0,
        fragment: 0,
        packets: 1_000,
        octets: 1_000_000,
        link_layer: 0,
        reverse: (0, 0),
        sampling: 1,
        start: START,
        end: START,
    }
}

const ONE_WAY: &[Column] = &[
    Column::SourceAddress,
    Column::DestinationAddress,
    Column::ProtocolIdentifier,
    Column::SourcePort,
    Column::TcpControlBits,
    Column::Fragment,
    Column::PacketDeltaCount,
    Column::OctetDeltaCount,
    Column::LinkLayerOctets,
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
];

/// A counter, its exporter and the moment.
struct Bench {
    counter: Counter,
    exporters: Exporters,
    batch: FlowBatch,
    now: u64,
    clock_offset: i64,
    time_resolution: u16,
}

impl Bench {
    fn new(config: &Config, limits: Limits) -> Self {
        let networks = ["203.0.113.0/24", "203.0.112.0/24", "2001:db8::/32"].into_iter().map(prefix).collect();
        Self::within(config, networks, limits)
    }

    fn within(config: &Config, networks: PrefixSet, limits: Limits) -> Self {
        let mut exporters = Exporters::new(PrefixSet::default(), 16);
        exporters.admit(address(EXPORTER), Timestamp(START));
        let mut bench = Self {
            counter: Counter::new(config, networks, limits),
            exporters,
            batch: FlowBatch::with_capacity(4_096),
            now: START,
            clock_offset: 0,
            time_resolution: 1,
        };
        bench.counter.tick(Timestamp(START));
        bench
    }

    fn origin(&self, columns: &[Column]) -> Origin {
        Origin {
            exporter: address(EXPORTER),
            source_port: 2055,
            version: Version::Netflow9,
            observation_domain_id: 0,
            template_id: 256,
            arrival_milliseconds: self.now,
            export_milliseconds: self.now,
            clock_offset_milliseconds: self.clock_offset,
            time_resolution_milliseconds: self.time_resolution,
            sampling_source: SamplingSource::Header,
            present: ColumnSet::of(columns),
            derived: ColumnSet::default(),
        }
    }

    fn write(&mut self, rows: &[Row]) {
        self.batch.clear();
        for (index, row) in rows.iter().enumerate() {
            self.batch.source_address[index] = row.source;
            self.batch.destination_address[index] = row.destination;
            self.batch.protocol_identifier[index] = row.protocol;
            self.batch.source_port[index] = row.source_port;
            self.batch.tcp_control_bits[index] = row.tcp_flags;
            self.batch.fragment[index] = row.fragment;
            self.batch.packet_delta_count[index] = row.packets;
            self.batch.octet_delta_count[index] = row.octets;
            self.batch.link_layer_octets[index] = row.link_layer;
            self.batch.sampling_interval[index] = row.sampling;
            self.batch.flow_start_milliseconds[index] = row.start;
            self.batch.flow_end_milliseconds[index] = row.end;
            (self.batch.reverse_packet_delta_count[index], self.batch.reverse_octet_delta_count[index]) = row.reverse;
        }
    }

    fn count(&mut self, rows: &[Row]) {
        self.write(rows);
        let mut columns = ONE_WAY.to_vec();
        columns.push(Column::SamplingInterval);
        if rows.iter().any(|row| row.reverse != (0, 0)) {
            columns.extend([Column::ReversePacketDeltaCount, Column::ReverseOctetDeltaCount]);
        }
        self.commit(rows.len(), &columns);
    }

    /// Counts rows already written.
    fn commit(&mut self, rows: usize, columns: &[Column]) {
        let origin = self.origin(columns);
        self.batch.commit(rows, origin);
        self.exporters.ledger(address(EXPORTER)).records_decoded += rows as u64;
        self.counter.count(&self.batch, &mut self.exporters, Timestamp(self.now));
    }

    fn ledger(&self) -> Ledger {
        let ledger = self.exporters.total();
        assert_eq!(ledger.imbalance()[2], ("records", 0));
        ledger
    }

    /// Ticks for so many milliseconds, and adds up what is told.
    fn run(&mut self, milliseconds: u64) -> Told {
        let mut told = Told::default();
        for _ in 0..milliseconds / 100 {
            self.now += 100;
            told.take(self.counter.tick(Timestamp(self.now)));
        }
        told
    }
}

/// Snapshots, added up.
#[derive(Default)]
struct Told {
    slots: BTreeMap<Target, BTreeMap<u64, Volume>>,
    details: BTreeMap<Target, schemas::counter::Detail>,
    answers: BTreeMap<Target, Volume>,
    talks: BTreeMap<(Target, u32), Volume>,
    released: Vec<Target>,
    hosts: BTreeMap<Target, Volume>,
    refused: u64,
}

impl Told {
    fn take(&mut self, snapshot: Snapshot) {
        for update in snapshot.targets {
            assert!(update.slots.is_sorted_by(|(left, _), (right, _)| left < right));
            let slots = self.slots.entry(update.target).or_default();
            update.slots.iter().for_each(|(slot, volume)| *slots.entry(*slot).or_default() += volume);
            update.detail.into_iter().for_each(|detail| drop(self.details.insert(update.target, *detail)));
        }
        for update in snapshot.answers {
            let sum = self.answers.entry(update.target).or_default();
            update.slots.iter().for_each(|(_, volume)| *sum += volume);
        }
        snapshot.talks.iter().for_each(|talk| *self.talks.entry((talk.target, talk.peer)).or_default() += &talk.volume);
        self.released.extend(snapshot.released);
        snapshot.hosts.iter().for_each(|host| *self.hosts.entry(host.target).or_default() += &host.volume);
        self.refused = snapshot.suspects_refused;
    }

    fn sum(&self, target: Target) -> Volume {
        let mut sum = Volume::default();
        self.slots.get(&target).into_iter().flatten().for_each(|(_, volume)| sum += volume);
        sum
    }
}

fn incoming(text: &str) -> Target {
    Target { prefix: prefix(text), direction: Direction::Incoming }
}

fn outgoing(text: &str) -> Target {
    Target { prefix: prefix(text), direction: Direction::Outgoing }
}

/// So low that whatever comes makes a suspect.
fn low() -> Limits {
    Limits::of_hosts(Limit::of(10.0, 1e4))
}

fn near(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-6 * right.abs().max(1.0)
}

#[test]
fn every_row_lands_in_exactly_one_count_of_the_ledger() {
    let mut bench = Bench::new(&Config::default(), Limits::default());
    let outside = address("198.51.100.2");
    bench.count(&[
        row(),
        Row { packets: 0, octets: 0, ..row() },
        Row { destination: outside, ..row() },
        Row { start: START - 200_000, end: START - 120_001, ..row() },
        // Both ends are ours, and prefixes too: four entries, one record.
        Row { source: address("203.0.112.9"), ..row() },
        Row { start: START + 10_000, end: START + 10_000, ..row() },
    ]);
    let ledger = bench.ledger();
    assert_eq!((ledger.records_counted, ledger.records_without_volume, ledger.records_unmonitored), (3, 1, 1));
    assert_eq!((ledger.records_too_late, ledger.records_over_host_bound, ledger.records_clock_corrected), (1, 0, 1));
}

#[test]
fn octets_are_ip_octets_with_sampling_undone_and_an_unknown_rate_counts_once() {
    let mut bench = Bench::new(&Config::default(), low());
    // A thousandth of the packets, 14 octets of Ethernet in front of each: 1,000 × (1,014 − 14) × 1 = 1,000 × 1,000.
    bench.count(&[
        Row { packets: 10, octets: 10_140, link_layer: 14, sampling: 1_000, ..row() },
        Row { packets: 3, octets: 300, sampling: 0, ..row() },
    ]);
    let volume = bench.run(100).sum(incoming("203.0.113.7"));
    assert!(near(volume.octets, 10_000_300.0) && near(volume.packets, 10_003.0), "{volume:?}");
    assert!(near(volume.samples, 13.0) && near(volume.flows, 2.0), "{volume:?}");
}

#[test]
fn both_directions_and_the_prefixes_of_both_ends_are_counted() {
    let mut bench = Bench::new(&Config::default(), low());
    bench.count(&[
        Row { source: address("203.0.112.9"), ..row() },
        Row { source: address("2001:db8:1:2::3"), destination: address("2001:db9::1"), ..row() },
    ]);
    let told = bench.run(100);
    let expected = [
        incoming("203.0.113.7"),
        incoming("203.0.113.0/24"),
        outgoing("203.0.112.9"),
        outgoing("203.0.112.0/24"),
        outgoing("2001:db8:1:2::3"),
        outgoing("2001:db8:1::/48"),
    ];
    assert_eq!(told.slots.keys().copied().collect::<std::collections::BTreeSet<_>>(), expected.into_iter().collect());
    assert!(expected.iter().all(|&target| near(told.sum(target).octets, 1e6)));
}

#[test]
fn what_came_back_is_traffic_of_the_other_direction_without_its_flags() {
    let mut bench = Bench::new(&Config::default(), low());
    bench.count(&[Row { protocol: 6, tcp_flags: 2, reverse: (7, 700), ..row() }]);
    let told = bench.run(100);
    let (there, back) = (told.sum(incoming("203.0.113.7")), told.sum(outgoing("203.0.113.7")));
    assert!(near(there.syn_packets, 1_000.0) && near(there.octets, 1e6), "{there:?}");
    assert!(near(back.packets, 7.0) && near(back.octets, 700.0) && near(back.syn_packets, 0.0) && near(back.tcp_packets, 7.0), "{back:?}");
    assert_eq!(bench.ledger().records_counted, 1);
}

#[test]
fn initiator_and_responder_count_where_no_delta_is_told_and_totals_where_neither_is() {
    let mut bench = Bench::new(&Config::default(), low());
    let ends = &[Column::SourceAddress, Column::DestinationAddress, Column::FlowStartMilliseconds, Column::FlowEndMilliseconds];
    let volumes = [Column::InitiatorPackets, Column::InitiatorOctets, Column::ResponderPackets, Column::ResponderOctets];
    let totals = [Column::PacketTotalCount, Column::OctetTotalCount];
    bench.write(&[row()]);
    (bench.batch.initiator_packets[0], bench.batch.initiator_octets[0]) = (5, 500);
    (bench.batch.responder_packets[0], bench.batch.responder_octets[0]) = (6, 600);
    (bench.batch.packet_total_count[0], bench.batch.octet_total_count[0]) = (9, 900);
    bench.commit(1, &[ends.as_slice(), &volumes, &totals].concat());
    bench.write(&[row()]);
    (bench.batch.packet_total_count[0], bench.batch.octet_total_count[0]) = (9, 900);
    bench.commit(1, &[ends.as_slice(), &totals].concat());
    let told = bench.run(100);
    assert!(near(told.sum(incoming("203.0.113.7")).octets, 500.0 + 900.0));
    assert!(near(told.sum(outgoing("203.0.113.7")).octets, 600.0));
    assert_eq!(bench.ledger().records_counted, 2);
}

#[test]
fn with_no_networks_every_destination_is_watched_and_no_source() {
    let mut bench = Bench::within(&Config::default(), PrefixSet::default(), low());
    bench.count(&[row()]);
    let told = bench.run(100);
    assert_eq!(told.slots.keys().copied().collect::<Vec<_>>(), [incoming("203.0.113.0/24"), incoming("203.0.113.7")]);
}

#[test]
fn kinds_of_traffic_are_told_apart() {
    let mut bench = Bench::new(&Config::default(), low());
    let packets = |packets| Row { packets, octets: packets * 100, ..row() };
    bench.count(&[
        Row { protocol: 6, tcp_flags: 0x02, ..packets(1) },
        Row { protocol: 6, tcp_flags: 0x12, ..packets(2) },
        Row { source_port: 11_211, ..packets(4) },
        Row { protocol: 1, ..packets(8) },
        Row { fragment: schemas::flow::fragment::FRAGMENT | schemas::flow::fragment::LATER, source_port: 0, ..packets(16) },
        Row { protocol: 47, ..packets(32) },
    ]);
    let volume = bench.run(100).sum(incoming("203.0.113.7"));
    let found = [volume.packets, volume.tcp_packets, volume.syn_packets, volume.udp_packets, volume.icmp_packets];
    assert!(found.iter().zip([63.0, 3.0, 1.0, 20.0, 8.0]).all(|(found, expected)| near(*found, expected)), "{volume:?}");
    let found = [volume.fragment_packets, volume.amplification_packets, volume.amplification_octets, volume.tcp_octets, volume.udp_octets];
    assert!(found.iter().zip([16.0, 4.0, 400.0, 300.0, 2_000.0]).all(|(found, expected)| near(*found, expected)), "{volume:?}");
}

/// 1 Gbit over a minute: 16.7 Mbit in each second, which is no spike of any second, and a target far below its limit.
#[test]
fn a_flow_of_a_minute_lies_in_its_minute_and_makes_no_suspect() {
    let minute = Row { packets: 100_000, octets: 125_000_000, start: START - 60_000, end: START, ..row() };
    let mut bench = Bench::new(&Config::default(), Limits::default());
    bench.count(std::slice::from_ref(&minute));
    assert!(bench.run(1_000).slots.is_empty());
    let mut bench = Bench::new(&Config::default(), low());
    bench.count(&[minute]);
    let told = bench.run(1_000);
    let slots = &told.slots[&incoming("203.0.113.7")];
    assert_eq!((slots.len(), *slots.keys().next().unwrap()), (600, START / 100 - 600));
    assert!(slots.values().all(|volume| near(volume.octets * 8.0, 1e9 / 600.0)));
}

#[test]
fn a_record_by_a_wrong_clock_is_moved_by_the_offset_and_a_late_one_to_its_own_slots() {
    let mut bench = Bench::new(&Config::default(), low());
    bench.clock_offset = -3_600_000;
    bench.count(&[Row { start: START + 3_600_000 - 250, end: START + 3_600_000 - 250, ..row() }]);
    bench.clock_offset = 0;
    bench.count(&[Row { start: START - 70_500, end: START - 70_500, ..row() }]);
    let told = bench.run(1_000);
    let slots = &told.slots[&incoming("203.0.113.7")];
    // The late one is told by the second, in ten equal slots.
    let second = START / 1_000 - 71;
    let expected: Vec<_> = (0..10).map(|slot| (second * 10 + slot, 1e5)).chain([(START / 100 - 3, 1e6)]).collect();
    assert!(slots.iter().zip(&expected).all(|((slot, volume), (at, octets))| slot == at && near(volume.octets, *octets)), "{slots:?}");
    assert_eq!((slots.len(), bench.ledger().records_clock_corrected), (expected.len(), 0));
}

#[test]
fn frames_without_addresses_are_nobodys_traffic() {
    // ARP, spanning tree and the like, of an sFlow agent or a mirror port, while no network is configured.
    let mut bench = Bench::within(&Config::default(), PrefixSet::default(), Limits::default());
    bench.count(&[Row { source: Address(0), destination: Address(0), protocol: 0, ..row() }]);
    assert_eq!((bench.ledger().records_unmonitored, bench.ledger().records_counted), (1, 0));
    assert!(bench.run(100).slots.is_empty());
}

#[test]
fn a_record_of_whole_seconds_lies_in_its_second_and_not_in_a_tenth_of_it() {
    let mut bench = Bench::new(&Config::default(), low());
    bench.time_resolution = 1_000;
    bench.now = START + 1_500;
    // 1,000 packets, and START is the turn of a second: 100 in each of its ten slots.
    bench.count(&[row()]);
    let told = bench.run(100);
    let slots = &told.slots[&incoming("203.0.113.7")];
    assert_eq!(slots.keys().copied().collect::<Vec<_>>(), (START / 100..START / 100 + 10).collect::<Vec<_>>());
    assert!(slots.values().all(|volume| (volume.packets - 100.0).abs() < 1.0), "{slots:?}");
}
