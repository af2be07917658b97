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
use schemas::counter::Direction;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::incident::{Family, Incident, Metric};
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
    source: Address,
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
        source: Address::from_v4(0xc633_0000 + source),
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
        Self::with("")
    }

    /// With a part of `[analytics]`.
    fn with(config: &str) -> Self {
        let config: analytics::Config = toml::from_str(config).unwrap();
        let analyst = Analyst::new(&config, analytics::metrics::Metrics::default());
        let networks: PrefixSet =
            ["203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32"].iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
        let counter = Counter::new(&collector::count::Config::default(), networks, analyst.limits().for_counters());
        let mut exporters = Exporters::new(PrefixSet::default(), 16);
        exporters.admit(Address::from_v4(0xc000_0201), Timestamp(START));
        Self { counter, exporters, analyst, now: 0, events: Vec::new() }
    }

    fn hear(&mut self, records: &[Record]) {
        let mut batch = FlowBatch::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            batch.source_address[index] = record.source;
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
    // Ten seconds of 300,000 packets/s, sampling undone. Of 1,500 samples in five of them two errors are 5.2 %, which the peak does without.
    assert_eq!((ended.total_packets, ended.peak_pps, ended.peak_bps), (3_000_000, 284_516, 2_276_126_516));
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

/// Each slot's records for so many seconds, unsampled.
fn play(pipe: &mut Pipe, seconds: u64, records: impl Fn(u64) -> Vec<Record>) {
    for slot in 0..seconds * 10 {
        let each = |record: Record| Record { sampling: 1, start: slot * 100, end: slot * 100 + 99, ..record };
        pipe.hear(&records(slot).into_iter().map(each).collect::<Vec<_>>());
        pipe.run((slot + 1) * 100);
    }
}

/// 60,000 packets/s of a busy web server's clients, and 20,000 SYN: under 100,000 in all, twice the limit of 10,000 SYN.
#[test]
fn a_syn_flood_under_the_general_limit_is_found_by_the_limit_of_syn() {
    let tcp = |source: u32, flags, packets| Record {
        ports: (40_000, 443),
        protocol: 6,
        flags,
        packets,
        octets: packets * 60,
        ..sample(0, source)
    };
    let traffic = |_| vec![tcp(1, 0x18, 3_000), tcp(2, 0x10, 3_000), tcp(3, 0x02, 1_000), tcp(4, 0x02, 1_000)];
    let mut pipe = Pipe::with("[threshold]\nsyn = { packets_per_second = 10_000 }");
    play(&mut pipe, 3, traffic);
    let [incident] = pipe.opened()[..] else { panic!("{:?}", pipe.opened()) };
    assert_eq!((incident.family, incident.subtype.as_deref()), (Family::SynFlood, Some("syn")));
    assert_eq!((incident.threshold.metric, incident.threshold.value), (Metric::SynPacketsPerSecond, 10_000.0));
    assert!(incident.evidence.iter().all(|evidence| evidence.metric == Metric::SynPacketsPerSecond && evidence.value <= 20_001.0));
    assert!(incident.summary.contains("the limit of 10,000 packets/s"), "{}", incident.summary);
    let mut pipe = Pipe::new();
    play(&mut pipe, 3, traffic);
    assert!(pipe.opened().is_empty(), "the general limit does not see it");
}

/// A bot sends 8,000 packets/s of its hostgroup's 5,000; as many come to another host of the group, which may have 100,000.
#[test]
fn what_a_host_sends_is_held_to_the_outgoing_limit_of_its_hostgroup() {
    let group = "[[hostgroups]]\nname = \"customers\"\nprefixes = [\"203.0.113.0/25\"]\noutgoing = { packets_per_second = 5_000 }";
    let mut pipe = Pipe::with(group);
    play(&mut pipe, 3, |_| {
        let record = Record { packets: 800, octets: 80_000, ports: (40_000, 40_001), ..sample(0, 9) };
        let ours = |text: &str| text.parse::<Address>().unwrap();
        vec![
            Record { source: ours("203.0.113.9"), destination: sample(0, 1).source, ..record },
            Record { destination: ours("203.0.113.8"), ..record },
        ]
    });
    let found: Vec<_> = pipe.opened().iter().map(|incident| (incident.target.to_string(), incident.direction)).collect();
    assert_eq!(found, [("203.0.113.9".to_owned(), Direction::Outgoing)]);
    assert!(pipe.opened()[0].evidence[0].rule.ends_with("the limit of hostgroup customers"), "{:?}", pipe.opened()[0].evidence);
}

/// 1,024 hosts at 800 packets/s: 204,800 to each /24, under its 1,000,000, and 819,200 to the /22, over its 500,000.
#[test]
fn a_carpet_over_a_customers_prefix_is_one_incident_on_it() {
    let network = "[[threshold.networks]]\nprefix = \"198.18.4.0/22\"\ntotal = { packets_per_second = 500_000 }";
    let carpet = |_| {
        (0..1_024).map(|host| Record { destination: Address::from_v4(0xc612_0400 + host), packets: 80, octets: 8_000, ..sample(0, host) })
    };
    let mut pipe = Pipe::with(network);
    play(&mut pipe, 3, |slot| carpet(slot).collect());
    let [incident] = pipe.opened()[..] else { panic!("{:?}", pipe.opened()) };
    assert_eq!((incident.target.to_string().as_str(), incident.subtype.as_deref()), ("198.18.4.0/22", Some("carpet_bombing")));
    assert!(incident.detected_at.since(Timestamp(START)) <= 1_000, "{}", incident.detected_at);
    assert!(incident.evidence[0].rule.ends_with("the limit of network 198.18.4.0/22"), "{:?}", incident.evidence);
    pipe.run(30_000);
    // All that came, but for what the /22 got before a quarter of its limit made it a suspect.
    let total = pipe.ended()[0].total_packets;
    assert!((2_457_600 - 125_000..=2_457_600).contains(&total), "{total}");
}

/// The same /22, of which one /24 gets 1,280,000 packets/s: over its own limit too, and all of what the /22 gets.
#[test]
fn a_carpet_over_a_24_is_not_told_again_of_the_prefix_around_it() {
    let network = "[[threshold.networks]]\nprefix = \"198.18.4.0/22\"\ntotal = { packets_per_second = 1_000_000 }";
    let mut pipe = Pipe::with(network);
    play(&mut pipe, 3, |_| {
        (0..256)
            .map(|host| Record { destination: Address::from_v4(0xc612_0500 + host), packets: 500, octets: 50_000, ..sample(0, host) })
            .collect()
    });
    let found: Vec<String> = pipe.opened().iter().map(|incident| incident.target.to_string()).collect();
    assert_eq!(found, ["198.18.5.0/24"]);
}
