//! Makes the inputs that fuzzing begins with: one of each kind of datagram, frame and file, all sound.

use std::net::SocketAddr;

use bench::synthesize::{Exporter, Flow, Fragment, Layout, Protocol};
use collector::store::spool::{record, segment};
use schemas::net::Address;
use schemas::time::Timestamp;

use crate::packet;

/// An input with the name of its decoder and its own.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// When the exporters of the seeds speak: 2026-11-20T12:00:00Z.
pub const MOMENT: Timestamp = Timestamp(1_795_176_000_000);

const CONFIGURATION: &str = r#"data_dir = "./weir-data"
networks = ["203.0.113.0/24", "2001:db8::/32"]

[collector.receive]
netflow = ["0.0.0.0:2055"]
exporters_allowed = ["192.0.2.0/24"]

[analytics.threshold]
packets_per_second = 100_000

[[analytics.threshold.hosts]]
target = "203.0.113.7"
bits_per_second = 5_000_000_000

[[analytics.mitigation.adapters]]
type = "gobgp"
id = "edge"
communities = ["65535:666"]
"#;

/// Filters of queries, each with other kinds of fields.
const FILTERS: &[(&str, &str)] = &[
    ("addresses-and-ports", "dst_address in 203.0.113.0/24 and protocol = udp and src_port in (53, 123)"),
    ("either-end-and-ranges", "not (port in 1024..2048 or address not in (2001:db8::/32, 10.0.0.1..10.0.0.9)) and octets >= 10k"),
    ("texts", "src_customer = \"O'Neill \\\"x\\\"\" or dst_city != 'Köln' and src_country in (de, FR)"),
    (
        "flags-and-prefixes",
        "tcp_flags has syn+ack and tcp_flags != 18 and src_prefix = 10.0.0.0/8 and dst_as in AS64500..AS64510 and in_boundary = external",
    ),
];

/// All seeds.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = vec![
        ("netflow1", "two-records", sequence(&[fixed(1, 16, 52)])),
        ("netflow5", "flows", exported(Protocol::Netflow5, 1)),
        ("netflow7", "two-records", sequence(&[fixed(7, 24, 52)])),
        ("netflow9", "templates-options-flows", exported(Protocol::Netflow9, 100)),
        ("netflow9", "data-before-its-template", reversed(Protocol::Netflow9)),
        ("netflow9", "new-layout-under-an-old-id", relaid(9)),
        ("ipfix", "templates-options-flows", exported(Protocol::Ipfix, 100)),
        ("ipfix", "variable-length", exported(Protocol::IpfixVariable, 1)),
        ("ipfix", "data-before-its-template", reversed(Protocol::Ipfix)),
        ("ipfix", "new-layout-under-an-old-id", relaid(10)),
        ("sflow5", "counters-samples", exported(Protocol::Sflow5, 1_000)),
    ];
    // Versions 9 and 10, eight fields each, three records of rising octets.
    let records: Vec<u8> = (0..=255).collect();
    seeds.push(("plan_against_oracle", "version9", [&[0, 7, 0x30, 0x31, 2, 3, 5, 6, 7, 0x18], records.as_slice()].concat()));
    seeds.push(("plan_against_oracle", "ipfix", [&[1, 7, 0, 0x11, 0x19, 0x1a, 0x0c, 0x1d, 0x1e, 0x1f], records.as_slice()].concat()));
    seeds.push(("config", "provider", CONFIGURATION.as_bytes().to_vec()));
    seeds.extend(FILTERS.iter().map(|(name, text)| ("filter", *name, text.as_bytes().to_vec())));
    seeds.extend(frames());
    seeds.extend(captures());
    seeds.extend(segments());
    seeds
}

/// Datagrams one behind the other, each behind one octet that picks its exporter and two with its length.
#[must_use]
pub fn sequence(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let part = |datagram: &Vec<u8>| {
        let length = u16::try_from(datagram.len()).unwrap().to_be_bytes();
        [&[0, length[0], length[1]], datagram.as_slice()].concat()
    };
    datagrams.iter().flat_map(part).collect()
}

fn exported(protocol: Protocol, sampling_interval: u32) -> Vec<u8> {
    sequence(&datagrams(protocol, sampling_interval))
}

fn reversed(protocol: Protocol) -> Vec<u8> {
    let mut datagrams = datagrams(protocol, 100);
    datagrams.reverse();
    sequence(&datagrams)
}

/// The announcement of an exporter, and three flows of each family.
#[must_use]
pub fn datagrams(protocol: Protocol, sampling_interval: u32) -> Vec<Vec<u8>> {
    let mut exporter = Exporter::new(Layout::new(protocol, sampling_interval), Timestamp(MOMENT.0 - 60_000));
    let flow = |number: u32, v4: bool| {
        let address = |own: u32| if v4 { Address::from_v4(own) } else { Address(0x2001_0db8_u128 << 96 | u128::from(own)) };
        Flow {
            source: address(0xc633_6400 + number),
            destination: address(0xcb00_7100 + number),
            source_port: 53,
            destination_port: 40_000,
            protocol: if number == 1 { 6 } else { 17 },
            tcp_control_bits: if number == 1 { 0x12 } else { 0 },
            fragment: Fragment::Whole,
            packets: 3,
            octets: 1_500,
            start: Timestamp(MOMENT.0 - 2_000),
            end: Timestamp(MOMENT.0 - 1_000),
            ingress_interface: 1,
            egress_interface: 2,
            ttl: 60,
        }
    };
    let flows: Vec<Flow> = (1..=3).flat_map(|number| [flow(number, true), flow(number, false)]).collect();
    let mut datagrams = Vec::new();
    exporter.export(MOMENT, &flows, &mut |draft| datagrams.push(draft.octets().to_vec()));
    datagrams
}

/// A datagram of version 1 or 7 with two records: version, count, and numbers that rise from octet to octet.
fn fixed(version: u8, header_octets: u8, record_octets: u8) -> Vec<u8> {
    let mut datagram: Vec<u8> = (0..header_octets + 2 * record_octets).collect();
    datagram[..4].copy_from_slice(&[0, version, 0, 2]);
    // Uptime, then the export time in seconds.
    datagram[4..8].copy_from_slice(&60_000_u32.to_be_bytes());
    datagram[8..12].copy_from_slice(&u32::try_from(MOMENT.0 / 1_000).unwrap().to_be_bytes());
    datagram
}

/// A template of two fields, its data, another template of three fields under the same id, and data of that.
fn relaid(version: u16) -> Vec<u8> {
    let set = if version == 9 { 0 } else { 2 };
    let template = |fields: &[(u16, u16)]| {
        let mut body = vec![set, u16::try_from(8 + fields.len() * 4).unwrap(), 300, u16::try_from(fields.len()).unwrap()];
        body.extend(fields.iter().flat_map(|(element, length)| [*element, *length]));
        body.into_iter().flat_map(u16::to_be_bytes).collect::<Vec<u8>>()
    };
    let data = |octets: u16| [&300_u16.to_be_bytes()[..], &(4 + octets).to_be_bytes(), &vec![7; usize::from(octets)]].concat();
    let parts = [template(&[(8, 4), (1, 4)]), data(16), template(&[(8, 4), (1, 4), (2, 4)]), data(24)];
    sequence(&parts.map(|part| message(version, &part)))
}

/// A header of version 9 or 10 in front of sets.
#[must_use]
pub fn message(version: u16, sets: &[u8]) -> Vec<u8> {
    let seconds = u32::try_from(MOMENT.0 / 1_000).unwrap().to_be_bytes();
    let header = if version == 9 {
        [&version.to_be_bytes()[..], &[0, 1], &60_000_u32.to_be_bytes(), &seconds, &[0, 0, 0, 1], &[0, 0, 0, 1]].concat()
    } else {
        let length = u16::try_from(16 + sets.len()).unwrap();
        [&version.to_be_bytes()[..], &length.to_be_bytes(), &seconds, &[0, 0, 0, 1], &[0, 0, 0, 1]].concat()
    };
    [&header, sets].concat()
}

fn sample_packets() -> [(&'static str, Vec<u8>); 5] {
    let v4: [SocketAddr; 2] = ["198.51.100.1:53".parse().unwrap(), "203.0.113.1:40000".parse().unwrap()];
    let v6: [SocketAddr; 2] = ["[2001:db8::1]:123".parse().unwrap(), "[2001:db8::2]:40000".parse().unwrap()];
    let inner = packet::udp(v4[0], v4[1], &[1; 20]);
    let virtual_network = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat();
    let mut tagged = packet::tcp(v4[0], v4[1], 2, 10);
    tagged.splice(12..12, [0x88, 0xa8, 0, 100, 0x81, 0, 0, 200]);
    [
        ("udp", packet::udp(v4[0], v4[1], &[2; 30])),
        ("tcp6", packet::tcp(v6[0], v6[1], 0x12, 12)),
        ("ping6", packet::ping(v6[0].ip(), v6[1].ip(), 16)),
        ("two-tags", tagged),
        ("vxlan", packet::udp(v4[0], SocketAddr::new(v4[1].ip(), 4789), &virtual_network)),
    ]
}

fn frames() -> Vec<Seed> {
    sample_packets().map(|(name, packet)| ("frame", name, [&[0], packet.as_slice()].concat())).to_vec()
}

fn captures() -> Vec<Seed> {
    let from: SocketAddr = "198.51.100.1:5000".parse().unwrap();
    let mut frames: Vec<Vec<u8>> = sample_packets().map(|(_, packet)| packet).to_vec();
    frames.extend(packet::udp_fragments(from, "203.0.113.1:2055".parse().unwrap(), &[3; 100], 48, 9));
    let packets = (0..).zip(frames).map(|(number, octets)| crate::capture::Packet { microseconds: MOMENT.0 * 1_000 + number, octets });
    vec![("capture", "packets-and-fragments", crate::capture::encode(&packets.collect::<Vec<_>>()))]
}

/// Segments of three records, behind the octet that says whether checksums are made right: as they were written, and with the first one done.
fn segments() -> Vec<Seed> {
    let mut octets = segment::HEADER.to_vec();
    for number in 0..3_u64 {
        let exporters = vec![(Address::from_v4(1), 2), (Address(u128::MAX), 5)];
        let block: Vec<u8> = (0..40).map(|octet| octet / 4).collect();
        let (mut head, mut record) = record::record(uuid::Uuid::from_u128(number.into()), number, exporters, &block).unwrap();
        (head.rows_before, head.shards) = (number * 7, u32::try_from(number).unwrap());
        record::seal(&head, &mut record);
        octets.extend(record);
    }
    let mut done = octets.clone();
    let state = segment::HEADER.len() + usize::try_from(record::STATE_AT).unwrap();
    done[state..state + record::DONE.len()].copy_from_slice(&record::DONE);
    vec![("spool", "three-blocks", [&[1], octets.as_slice()].concat()), ("spool", "first-is-done", [&[0], done.as_slice()].concat())]
}
