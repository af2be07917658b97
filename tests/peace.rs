//! What is much traffic and no attack, and what only looks like it: records in, incidents out, on a clock of the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use analytics::{Analyst, Event};
use bench::synthesize::Random;
use collector::count::Counter;
use collector::exporter::Exporters;
use schemas::counter::Direction;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::incident::{Family, Incident};
use schemas::net::{Address, Prefix, PrefixSet};
use schemas::time::Timestamp;

/// A moment at the turn of a second.
const START: u64 = 1_800_000_000_000;
const HOST: &str = "203.0.113.7";
const NEIGHBOUR: &str = "203.0.113.99";
const EXPORTER: u32 = 0xc000_0201;
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
    Column::IpTtl,
];
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const PSH: u16 = 0x08;
const ACK: u16 = 0x10;

#[derive(Clone, Copy)]
struct Packet {
    source: Address,
    destination: Address,
    ports: (u16, u16),
    protocol: u8,
    flags: u16,
    octets: u64,
}

impl Packet {
    fn answer(self, flags: u16, octets: u64) -> Self {
        let Self { source, destination, ports: (from, to), .. } = self;
        Self { source: destination, destination: source, ports: (to, from), flags, octets, ..self }
    }

    fn with(self, flags: u16, octets: u64) -> Self {
        Self { flags, octets, ..self }
    }
}

fn host() -> Address {
    HOST.parse().unwrap()
}

fn outside(number: u32) -> Address {
    Address::from_v4(0xc633_0000 + number)
}

/// A segment of 1,500 octets from port 443 of a server outside to the host.
fn segment(server: u32) -> Packet {
    let ports = (443, 50_000 + (server % 10_000) as u16);
    Packet { source: outside(server), destination: host(), ports, protocol: TCP, flags: ACK, octets: 1_500 }
}

/// So many packets a second, made by chance.
struct Stream {
    packets_per_second: f64,
    make: Box<dyn Fn(&mut Random) -> Packet>,
}

fn stream(packets_per_second: f64, make: impl Fn(&mut Random) -> Packet + 'static) -> Stream {
    Stream { packets_per_second, make: Box::new(make) }
}

/// A download from `servers`, 1,500 octets a packet, one acknowledgement for `each` packets.
fn download(packets_per_second: f64, servers: u32, each: f64) -> Vec<Stream> {
    vec![
        stream(packets_per_second, move |random| segment(random.below(servers))),
        stream(packets_per_second / each, move |random| segment(random.below(servers)).answer(ACK, 52)),
    ]
}

/// One exporter, one shard and the analysts.
struct Pipe {
    counter: Counter,
    exporters: Exporters,
    analyst: Analyst,
    random: Random,
    sampling: u32,
    now: u64,
    events: Vec<Event>,
}

impl Pipe {
    fn new(sampling: u32) -> Self {
        let mut pipe = Self::within(&["203.0.113.0/24"], sampling);
        // A neighbour that says something, so that the exporter is known to show what goes out.
        pipe.play(&[stream(50_000.0, |_| Packet { destination: NEIGHBOUR.parse().unwrap(), ..segment(9_999) }.answer(ACK, 52))], 12_000);
        pipe
    }

    fn within(networks: &[&str], sampling: u32) -> Self {
        let analyst = Analyst::new(&analytics::Config::default(), analytics::metrics::Metrics::default());
        let networks: PrefixSet = networks.iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
        let counter = Counter::new(&collector::count::Config::default(), networks, analyst.limits().for_counters());
        let mut exporters = Exporters::new(PrefixSet::default(), 16);
        exporters.admit(Address::from_v4(EXPORTER), Timestamp(START));
        Self { counter, exporters, analyst, random: Random::new(7), sampling, now: 0, events: Vec::new() }
    }

    /// Tells of packets, each for so many of its kind, that were sent in `[start, end]`.
    fn hear(&mut self, packets: &[(Packet, u64, u64, u64)], sampling: u32) {
        for packets in packets.chunks(2_048) {
            let mut batch = FlowBatch::with_capacity(packets.len());
            for (index, (packet, count, start, end)) in packets.iter().enumerate() {
                batch.source_address[index] = packet.source;
                batch.destination_address[index] = packet.destination;
                (batch.source_port[index], batch.destination_port[index]) = packet.ports;
                batch.protocol_identifier[index] = packet.protocol;
                batch.tcp_control_bits[index] = packet.flags;
                batch.packet_delta_count[index] = *count;
                batch.octet_delta_count[index] = packet.octets * count;
                batch.sampling_interval[index] = sampling;
                batch.ip_ttl[index] = 57;
                batch.flow_start_milliseconds[index] = START + start;
                batch.flow_end_milliseconds[index] = START + end;
            }
            let origin = Origin {
                exporter: Address::from_v4(EXPORTER),
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
            batch.commit(packets.len(), origin);
            self.counter.count(&batch, &mut self.exporters, Timestamp(START + self.now));
        }
    }

    /// Plays streams until `until`, a slot at a time, each packet sampled by chance and told within its slot.
    fn play(&mut self, streams: &[Stream], until: u64) {
        while self.now < until {
            let mut samples = Vec::new();
            for stream in streams {
                let mean = stream.packets_per_second / 10.0 / f64::from(self.sampling);
                let mut count = mean as u64;
                count += u64::from(f64::from(self.random.below(1_000_000)) < (mean - count as f64) * 1e6);
                for _ in 0..count {
                    let at = self.now + u64::from(self.random.below(100));
                    samples.push(((stream.make)(&mut self.random), 1, at, at));
                }
            }
            samples.sort_by_key(|(.., at)| *at);
            self.now += 100;
            self.hear(&samples, self.sampling);
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.analyst.observe(self.counter.tick(Timestamp(START + self.now)));
        self.events.extend(self.analyst.tick(Timestamp(START + self.now)));
    }

    fn opened(&self) -> Vec<&Incident> {
        self.events.iter().filter_map(|event| if let Event::Opened(incident) = event { Some(&**incident) } else { None }).collect()
    }

    fn ended(&self) -> Vec<&Incident> {
        self.events.iter().filter_map(|event| if let Event::Ended(incident) = event { Some(&**incident) } else { None }).collect()
    }
}

/// Plays streams for ten seconds after the first twelve; what it opened.
fn verdict(sampling: u32, streams: &[Stream]) -> Vec<(Family, u64, Direction)> {
    let mut pipe = Pipe::new(sampling);
    pipe.play(streams, 22_000);
    let since = |incident: &&Incident| (incident.family, incident.detected_at.since(Timestamp(START + 12_000)), incident.direction);
    pipe.opened().iter().map(since).collect()
}

fn assert_peace(name: &str, streams: &[Stream]) {
    for sampling in [100, 1_000] {
        let opened = verdict(sampling, streams);
        assert!(opened.is_empty(), "{name} at 1 in {sampling}: {opened:?}");
    }
}

/// An incident within 300 ms, where a tenth of a second holds samples enough.
fn assert_attack(name: &str, family: Family, streams: &[Stream]) {
    for sampling in [100, 1_000] {
        let opened = verdict(sampling, streams);
        let [(found, delay, Direction::Incoming)] = opened[..] else { panic!("{name} at 1 in {sampling}: {opened:?}") };
        assert!(found == family && delay <= 300, "{name} at 1 in {sampling}: {opened:?}");
    }
}

#[test]
fn downloads_and_speed_tests_are_no_attacks() {
    assert_peace("a download of 2.4 Gbit/s", &download(200_000.0, 1, 2.0));
    assert_peace("segments joined by the receiver", &download(200_000.0, 1, 40.0));
    assert_peace("a speed test with eight servers, 6 Gbit/s", &download(500_000.0, 8, 2.0));
}

#[test]
fn uploads_and_backups_are_no_attacks_of_ours_nor_on_us() {
    // 3.6 Gbit/s go out, and 150,000 acknowledgements a second come in.
    let out = |random: &mut Random| segment(random.below(2)).answer(ACK, 1_500);
    assert_peace("a backup", &[stream(300_000.0, out), stream(150_000.0, |random| segment(random.below(2)).with(ACK, 52))]);
}

#[test]
fn transfers_by_quic_and_calls_are_no_attacks() {
    let quic = |random: &mut Random| Packet { protocol: UDP, flags: 0, octets: 1_280, ..segment(random.below(2)) };
    assert_peace("QUIC", &[stream(200_000.0, quic), stream(20_000.0, move |random| quic(random).answer(0, 60))]);
    let call = |random: &mut Random| Packet { protocol: UDP, flags: 0, octets: 200, ports: (20_000, 20_002), ..segment(random.below(2)) };
    assert_peace("calls", &[stream(150_000.0, call), stream(150_000.0, move |random| call(random).answer(0, 200))]);
}

/// A client of a crowd of 40,000.
fn client(random: &mut Random) -> Packet {
    let ports = (40_000 + random.below(20_000) as u16, 443);
    Packet { source: outside(10_000 + random.below(40_000)), ports, ..segment(0) }
}

/// Connections of ten packets of each side: requests of 500 octets, answers of 12 kB.
fn connections(each_second: f64, client: fn(&mut Random) -> Packet, answer: u64) -> Vec<Stream> {
    vec![
        stream(each_second, move |random| client(random).with(SYN, 60)),
        stream(each_second, move |random| client(random).with(PSH | ACK, 500)),
        stream(each_second * 5.0, move |random| client(random).with(ACK, 52)),
        stream(each_second, move |random| client(random).with(ACK | 1, 52)),
        stream(each_second, move |random| client(random).answer(SYN | ACK, 60)),
        stream(each_second * 8.0, move |random| client(random).answer(ACK, answer)),
        stream(each_second, move |random| client(random).answer(ACK | 1, 52)),
    ]
}

#[test]
fn a_flash_crowd_is_no_attack() {
    // 40,000 connections a second, one of each client: 320,000 packets/s come in, 3.9 Gbit/s go out.
    assert_peace("a crowd", &connections(40_000.0, client, 1_500));
}

#[test]
fn a_flood_of_requests_is_an_attack() {
    // The same from 400 bots, 100 connections a second each.
    let bot = |random: &mut Random| Packet { source: outside(10_000 + random.below(400)), ..client(random) };
    // Of 32 samples in a tenth of a second nearly each is of another bot, as of a crowd: it takes some more to see that there are few.
    for (sampling, most) in [(100, 300), (1_000, 1_000)] {
        // Whether it is requests that are flooded, a tenth of a second says roughly.
        let [(family, delay, Direction::Incoming)] = verdict(sampling, &connections(40_000.0, bot, 1_500))[..] else {
            panic!("one incident at 1 in {sampling}")
        };
        assert!(matches!(family, Family::HttpFlood | Family::TcpFlood) && delay <= most, "{family:?} after {delay} ms at 1 in {sampling}");
    }
    // From 40,000, but all they get is a refusal.
    assert_attack("refused", Family::HttpFlood, &connections(40_000.0, client, 60));
}

#[test]
fn floods_of_tcp_without_connections_are_attacks() {
    let small = |_: &mut Random| segment(1).with(PSH | ACK, 60);
    assert_attack("one source, no answers", Family::TcpFlood, &[stream(400_000.0, small)]);
    let closed = [stream(400_000.0, small), stream(400_000.0, |_| segment(1).answer(RST, 40))];
    assert_attack("one source, answered by resets", Family::TcpFlood, &closed);
    let echoed = [stream(400_000.0, small), stream(90_000.0, |_| segment(1).answer(ACK, 52))];
    assert_attack("small packets of a real connection", Family::TcpFlood, &echoed);
    let spoofed = |random: &mut Random| Packet { ports: (random.below(65_536) as u16, 80), ..segment(random.below(60_000)) };
    let answered =
        [stream(400_000.0, move |random| spoofed(random).with(ACK, 52)), stream(300_000.0, move |random| spoofed(random).answer(RST, 40))];
    assert_attack("spoofed", Family::TcpFlood, &answered);
    let middlebox = |random: &mut Random| segment(random.below(3_000)).with(PSH | ACK, 1_000);
    let reflected = [stream(400_000.0, middlebox), stream(200_000.0, move |random| middlebox(random).answer(RST, 40))];
    assert_attack("reflected by middleboxes", Family::TcpFlood, &reflected);
    let handshakes = |random: &mut Random| segment(random.below(3_000)).with(SYN | ACK, 60);
    assert_attack(
        "SYN-ACK",
        Family::TcpFlood,
        &[stream(400_000.0, handshakes), stream(400_000.0, move |random| handshakes(random).answer(RST, 40))],
    );
}

#[test]
fn large_packets_of_one_source_that_nobody_answers_are_an_attack() {
    // By a port each, as tools do it; and in one connection's shape, of which 3 × 64 packets are enough to miss its answers.
    let ports = |random: &mut Random| Packet { ports: (random.below(65_536) as u16, 80), ..segment(1) };
    assert_attack("a port each", Family::TcpFlood, &[stream(400_000.0, ports)]);
    for (sampling, most) in [(100, 300), (1_000, 800)] {
        let opened = verdict(sampling, &[stream(400_000.0, |_| segment(1))]);
        assert!(opened.len() == 1 && opened[0].1 <= most, "{sampling}: {opened:?}");
    }
}

#[test]
fn floods_of_udp_that_nobody_answers_are_attacks() {
    let udp = |_: &mut Random| Packet { protocol: UDP, flags: 0, octets: 1_280, ..segment(1) };
    assert_attack("from port 443", Family::UdpFlood, &[stream(400_000.0, udp)]);
    let quic = |random: &mut Random| Packet { protocol: UDP, flags: 0, octets: 1_250, ..client(random) };
    assert_attack("QUIC's first packets", Family::UdpFlood, &[stream(400_000.0, quic)]);
    let echo = [stream(400_000.0, udp), stream(100_000.0, |_| Packet { protocol: 1, ..segment(1) }.answer(0, 70))];
    assert_attack("answered by errors", Family::UdpFlood, &echo);
}

#[test]
fn what_begins_beside_a_download_is_found_at_its_own_size() {
    let spoofed =
        |random: &mut Random| Packet { ports: (random.below(65_536) as u16, 80), flags: SYN, octets: 60, ..segment(random.below(60_000)) };
    let answers = |random: &mut Random| Packet { ports: (53, 40_000), protocol: UDP, flags: 0, ..segment(random.below(2_000)) };
    let make: [fn(&mut Random) -> Packet; 2] = [spoofed, answers];
    let floods = [Family::SynFlood, Family::UdpFlood].into_iter().zip(make);
    for ((family, flood), sampling) in floods.flat_map(|flood| [(flood, 100), (flood, 1_000)]) {
        let mut pipe = Pipe::new(sampling);
        pipe.play(&download(200_000.0, 1, 2.0), 22_000);
        assert!(pipe.opened().is_empty());
        let mut streams = download(200_000.0, 1, 2.0);
        streams.push(stream(400_000.0, flood));
        pipe.play(&streams, 32_000);
        let [incident] = pipe.opened()[..] else { panic!("{:?}", pipe.opened()) };
        let delay = incident.detected_at.since(Timestamp(START + 22_000));
        assert!(incident.family == family && delay <= 300, "{:?} after {delay} ms at 1 in {sampling}", incident.family);
        assert!(incident.timeline.iter().any(|entry| entry.text.contains("bulk transfer by TCP")), "{:?}", incident.timeline);
        // It is over when the flood is, and the download goes on.
        pipe.play(&download(200_000.0, 1, 2.0), 60_000);
        let [ended] = pipe.ended()[..] else { panic!("{:?}", pipe.ended()) };
        assert!(ended.peak_pps.abs_diff(400_000) < 100_000, "{}", ended.peak_pps);
        assert!(ended.total_packets.abs_diff(4_000_000) < 800_000, "{}", ended.total_packets);
        assert!(ended.timeline.last().unwrap().text.contains("what goes on is no attack"), "{:?}", ended.timeline.last());
        assert_eq!(pipe.opened().len(), 1);
    }
}

#[test]
fn a_download_that_is_told_once_a_minute_is_no_attack_whichever_record_comes_first() {
    for order in [0, 1] {
        let mut pipe = Pipe::within(&["203.0.113.0/24"], 1);
        for minute in 1..=3u64 {
            let (start, end) = ((minute - 1) * 60_000, minute * 60_000);
            // 200,000 packets/s for a minute; the flags of a record are those of all its packets.
            let flags = if minute == 1 { SYN | ACK | PSH } else { ACK | PSH };
            let records = [(segment(1).with(flags, 1_500), 12_000_000, start, end), (segment(1).answer(flags, 52), 6_000_000, start, end)];
            pipe.now = end;
            for second in 0..2 {
                pipe.hear(&records[(second + order) % 2..][..1], 1);
                // The other one comes within the second.
                for _ in 0..5 {
                    pipe.now += 100;
                    pipe.tick();
                }
            }
        }
        assert!(pipe.opened().is_empty(), "{order}: {:?}", pipe.opened());
    }
}

#[test]
fn where_nothing_outgoing_is_exported_shape_tells_a_download() {
    let mut pipe = Pipe::within(&["203.0.113.0/24"], 1_000);
    pipe.play(&download(200_000.0, 2, 2.0)[..1], 20_000);
    assert!(pipe.opened().is_empty(), "{:?}", pipe.opened());
    let mut pipe = Pipe::within(&["203.0.113.0/24"], 1_000);
    pipe.play(&[stream(400_000.0, |_| segment(1).with(PSH | ACK, 60))], 1_000);
    assert_eq!(pipe.opened().len(), 1, "small packets have another shape");
}

#[test]
fn while_no_networks_are_configured_answers_count_as_well() {
    let mut pipe = Pipe::within(&[], 1_000);
    pipe.play(&download(200_000.0, 1, 2.0), 20_000);
    assert!(pipe.opened().is_empty(), "{:?}", pipe.opened());
    // The server sends 2.4 Gbit/s: sources are not judged.
    let mut pipe = Pipe::within(&[], 100);
    pipe.play(&connections(40_000.0, client, 1_500), 5_000);
    assert!(pipe.opened().is_empty(), "{:?}", pipe.opened());
    let mut pipe = Pipe::within(&[], 1_000);
    pipe.play(&[stream(400_000.0, |_| segment(1).with(PSH | ACK, 60)), stream(400_000.0, |_| segment(1).answer(RST, 40))], 1_000);
    let targets: Vec<String> = pipe.opened().iter().map(|incident| incident.target.to_string()).collect();
    assert_eq!(targets, [HOST], "and none on whom the resets go to");
}
