//! Records in, incidents out: the counters and the analysts together, without sockets and on a clock of the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use analytics::{Analyst, Event};
use collector::count::Counter;
use collector::exporter::Exporters;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::incident::{Family, Incident};
use schemas::net::{Address, Prefix, PrefixSet};
use schemas::time::Timestamp;

/// A moment at the turn of a second.
const START: u64 = 1_800_000_000_000;
const COLUMNS: &[Column] = &[
    Column::SourceAddress,
    Column::DestinationAddress,
    Column::SourcePort,
    Column::DestinationPort,
    Column::ProtocolIdentifier,
    Column::TcpControlBits,
    Column::PacketDeltaCount,
    Column::OctetDeltaCount,
    Column::SamplingInterval,
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
];

/// A record, its times in milliseconds after the start.
#[derive(Clone, Copy)]
struct Record {
    source: u32,
    destination: Address,
    ports: (u16, u16),
    protocol: u8,
    flags: u16,
    packets: u64,
    octets: u64,
    sampling: u32,
    start: u64,
    end: u64,
}

/// One UDP packet of 1,000 octets to 203.0.113.7, at 1 in 1,000.
fn sample(at: u64, source: u32) -> Record {
    Record {
        source,
        destination: "203.0.113.7".parse().unwrap(),
        ports: (11_211, 40_000),
        protocol: 17,
        flags: 0,
        packets: 1,
        octets: 1_000,
        sampling: 1_000,
        start: at,
        end: at,
    }
}

/// One shard and the analysts.
struct Pipe {
    counter: Counter,
    exporters: Exporters,
    analyst: Analyst,
    now: u64,
    events: Vec<Event>,
}

impl Pipe {
    fn new() -> Self {
        let config = analytics::Config::default();
        let analyst = Analyst::new(&config, analytics::metrics::Metrics::default());
        let networks: PrefixSet = ["203.0.113.0/24", "2001:db8::/32"].iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
        let counter = Counter::new(&collector::count::Config::default(), networks, analyst.limits().for_counters());
        let mut exporters = Exporters::new(PrefixSet::default(), 16);
        exporters.admit(Address::from_v4(0xc000_0201), Timestamp(START));
        Self { counter, exporters, analyst, now: 0, events: Vec::new() }
    }

    fn hear(&mut self, records: &[Record]) {
        let mut batch = FlowBatch::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            batch.source_address[index] = Address::from_v4(0xc633_0000 + record.source);
            batch.destination_address[index] = record.destination;
            (batch.source_port[index], batch.destination_port[index]) = record.ports;
            batch.protocol_identifier[index] = record.protocol;
            batch.tcp_control_bits[index] = record.flags;
            batch.packet_delta_count[index] = record.packets;
            batch.octet_delta_count[index] = record.octets;
            batch.sampling_interval[index] = record.sampling;
            batch.flow_start_milliseconds[index] = START + record.start;
            batch.flow_end_milliseconds[index] = START + record.end;
        }
        let origin = Origin {
            exporter: Address::from_v4(0xc000_0201),
            source_port: 2055,
            version: Version::Netflow9,
            observation_domain_id: 0,
            template_id: 256,
            arrival_milliseconds: START + self.now,
            export_milliseconds: START + self.now,
            clock_offset_milliseconds: 0,
            time_resolution_milliseconds: 1,
            sampling_source: schemas::counter::SamplingSource::Record,
            present: ColumnSet::of(COLUMNS),
            derived: ColumnSet::default(),
        };
        batch.commit(records.len(), origin);
        self.counter.count(&batch, &mut self.exporters, Timestamp(START + self.now));
    }

    /// Goes to `until`, a slot at a time.
    fn run(&mut self, until: u64) {
        while self.now < until {
            self.now += 100;
            self.analyst.observe(self.counter.tick(Timestamp(START + self.now)));
            self.events.extend(self.analyst.tick(Timestamp(START + self.now)));
        }
    }

    fn opened(&self) -> Vec<&Incident> {
        self.events.iter().filter_map(|event| if let Event::Opened(incident) = event { Some(&**incident) } else { None }).collect()
    }

    fn ended(&self) -> Vec<&Incident> {
        self.events.iter().filter_map(|event| if let Event::Ended(incident) = event { Some(&**incident) } else { None }).collect()
    }
}

/// 30 samples × 1,000 octets × 1-in-1,000 each tenth of a second: 300,000 packets/s and 2.4 Gbit/s, 3 and 2.4 times the limits.
#[test]
fn a_sampled_flood_is_seen_in_its_first_slots_and_told_as_what_it_is() {
    let mut pipe = Pipe::new();
    pipe.run(5_000);
    for slot in 50..150 {
        let samples: Vec<Record> = (0..30).map(|index| sample(slot * 100 + index * 3, index as u32)).collect();
        pipe.hear(&samples);
        pipe.run((slot + 1) * 100);
    }
    let [incident] = pipe.opened()[..] else { panic!("{:?}", pipe.opened()) };
    let delay = incident.detected_at.since(Timestamp(START + 5_000));
    assert!(delay <= 300, "{delay} ms");
    assert_eq!((incident.family, incident.subtype.as_deref()), (Family::UdpFlood, Some("memcached_amplification")));
    assert_eq!(incident.started_at, Timestamp(START + 5_000));
    pipe.run(40_000);
    let [ended] = pipe.ended()[..] else { panic!("{:?}", pipe.ended()) };
    // Ten seconds of 300,000 packets/s, sampling undone.
    assert_eq!((ended.total_packets, ended.peak_pps, ended.peak_bps), (3_000_000, 300_000, 2_400_000_000));
    // An estimate of 30, by a sketch.
    assert!(ended.source_ip_count.is_some_and(|count| (25..=35).contains(&count)), "{:?}", ended.source_ip_count);
    assert_eq!(pipe.opened().len(), 1);
}

/// 1 Gbit in a flow of 60 s is 16.7 Mbit/s.
#[test]
fn a_long_flow_is_no_spike() {
    let mut pipe = Pipe::new();
    pipe.run(60_000);
    pipe.hear(&[Record { packets: 125_000, octets: 125_000_000, sampling: 1, start: 0, end: 60_000, ..sample(0, 1) }]);
    pipe.run(70_000);
    assert!(pipe.events.is_empty());
}

/// An active timeout of 60 s: three records a minute apart, of 200,000 packets/s each, are one incident.
#[test]
fn an_attack_that_is_told_once_a_minute_is_one_incident() {
    let mut pipe = Pipe::new();
    for minute in 1..=3 {
        pipe.run(minute * 60_000 + 500);
        let (start, end) = ((minute - 1) * 60_000, minute * 60_000);
        pipe.hear(&[Record { packets: 12_000_000, octets: 1_200_000_000, sampling: 1, start, end, ..sample(0, 1) }]);
    }
    pipe.run(300_000);
    assert_eq!((pipe.opened().len(), pipe.ended().len()), (1, 1));
    let total = pipe.ended()[0].total_packets;
    // 36,000,000, and of the slot in which two records meet nothing is lost.
    assert!(total.abs_diff(36_000_000) < 40_000, "{total}");
}

/// 256 hosts at 5,000 packets/s: each a twentieth of its limit, together 1,280,000, over the prefix's 1,000,000.
#[test]
fn carpet_bombing_is_one_incident_on_the_prefix() {
    let mut pipe = Pipe::new();
    for slot in 0..40 {
        let records: Vec<Record> = (0..256u32)
            .map(|host| Record {
                destination: Address::from_v4(0xcb00_7100 + host),
                packets: 500,
                octets: 50_000,
                sampling: 1,
                start: slot * 100,
                end: slot * 100 + 99,
                ..sample(0, 1)
            })
            .collect();
        pipe.hear(&records);
        pipe.run((slot + 1) * 100);
    }
    let found: Vec<String> = pipe.opened().iter().map(|incident| format!("{} {:?}", incident.target, incident.subtype)).collect();
    assert_eq!(found, ["203.0.113.0/24 Some(\"carpet_bombing\")"]);
}

#[test]
fn an_ipv6_syn_flood_is_told_by_its_flags() {
    let mut pipe = Pipe::new();
    for slot in 0..20 {
        let record = |source| Record {
            destination: "2001:db8::7".parse().unwrap(),
            ports: (40_000 + source as u16, 443),
            protocol: 6,
            flags: 2,
            packets: 1_000,
            octets: 60_000,
            sampling: 1,
            start: slot * 100,
            end: slot * 100 + 99,
            ..sample(0, source)
        };
        pipe.hear(&(0..50).map(record).collect::<Vec<_>>());
        pipe.run((slot + 1) * 100);
    }
    let [incident] = pipe.opened()[..] else { panic!("{:?}", pipe.opened()) };
    assert_eq!((incident.family, incident.subtype.as_deref()), (Family::SynFlood, Some("syn")));
    assert_eq!(incident.tcp_flag_breakdown.as_ref().unwrap()["SYN"], 1.0);
    assert_eq!((incident.top_dst_ports[0].value, incident.top_dst_ports[0].share), (443, 1.0));
}
