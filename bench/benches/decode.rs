//! Decoding, a record: Weir's decoder, and netflow_parser on the same octets in the same run.
//!
//! `cargo bench -p bench --bench decode`. The unit is a record: times are printed for a burst of 64 datagrams, `elem/s` are records.

use std::hint::black_box;
use std::time::Duration;

use bench::synthesize::{Exporter, Hosts, Layout, Pool, Popularity, Protocol, Traffic as Peaceful};
use collector::decode::{Config, Datagram, Decoder, ROWS_PER_DATAGRAM_MAX, Templates};
use collector::exporter::Exporters;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use netflow_parser::NetflowParser;
use schemas::flow::FlowBatch;
use schemas::net::{Address, PrefixSet};
use schemas::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Datagrams that are decoded before the batch is cleared: what a shard receives in one burst.
const BURST: usize = 64;
/// A datagram is filled with records up to this, within an Ethernet frame of 1,500.
const DATAGRAM_OCTETS: usize = 1_400;
/// The length that says "in the data".
const VARIABLE: u16 = 65_535;

/// The fields of a router's ingress IPv4 cache, 20 of them in 63 octets: (element, octets).
const FIELDS: [(u16, u16); 20] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 8),
    (1, 8),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (61, 1),
    (89, 1),
];

/// A template and a burst of data.
struct Traffic {
    template: Vec<u8>,
    data: Vec<Vec<u8>>,
    records: usize,
}

fn put(octets: &mut Vec<u8>, number: u64, length: usize) {
    octets.extend(number.to_be_bytes().into_iter().skip(8 - length));
}

fn header(version: u16, sequence: u64, sets: &[u8]) -> Vec<u8> {
    let mut octets = version.to_be_bytes().to_vec();
    if version == 9 {
        octets.extend([0, 1]);
        put(&mut octets, 3_600_000, 4);
        put(&mut octets, 1_700_000_000, 4);
    } else {
        put(&mut octets, 16 + sets.len() as u64, 2);
        put(&mut octets, 1_700_000_000, 4);
    }
    put(&mut octets, sequence, 4);
    put(&mut octets, 7, 4);
    octets.extend(sets);
    octets
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    put(&mut octets, 4 + body.len() as u64, 2);
    octets.extend(body);
    octets
}

fn template(version: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, 256, 2);
    put(&mut body, fields.len() as u64, 2);
    for &(element, length) in fields {
        put(&mut body, u64::from(element), 2);
        put(&mut body, u64::from(length), 2);
    }
    header(version, 0, &set(if version == 9 { 0 } else { 2 }, &body))
}

fn record(fields: &[(u16, u16)], seed: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    for &(element, length) in fields {
        let value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(u32::from(element));
        match (element, length) {
            (_, VARIABLE) => {
                let name = format!("interface{}", seed % 1_000);
                put(&mut octets, name.len() as u64, 1);
                octets.extend(name.as_bytes());
            }
            (21 | 22, _) => put(&mut octets, 3_500_000 + value % 60_000, 4),
            (1 | 2, 8) => put(&mut octets, value % 1_000_000, 8),
            (_, length) => put(&mut octets, value, usize::from(length)),
        }
    }
    octets
}

fn templated(version: u16, fields: &[(u16, u16)]) -> Traffic {
    let (mut data, mut records) = (Vec::new(), 0);
    for _ in 0..BURST {
        let (mut body, first) = (Vec::new(), records);
        while body.len() < DATAGRAM_OCTETS - 80 {
            body.extend(record(fields, records as u64));
            records += 1;
        }
        let sequence = if version == 9 { data.len() + 1 } else { first };
        data.push(header(version, sequence as u64, &set(256, &body)));
    }
    Traffic { template: template(version, fields), data, records }
}

fn netflow5() -> Traffic {
    let mut data = Vec::new();
    for index in 0..BURST {
        let mut octets = vec![0, 5, 0, 30];
        put(&mut octets, 3_600_000, 4);
        put(&mut octets, 1_700_000_000, 4);
        put(&mut octets, 0, 4);
        put(&mut octets, index as u64 * 30, 4);
        put(&mut octets, 0, 4);
        for row in 0..30u8 {
            octets.extend((0..48u8).map(|octet| octet * 4 + row));
        }
        data.push(octets);
    }
    Traffic { template: Vec::new(), data, records: BURST * 30 }
}

/// CPU time of this thread for `times` runs: others on the machine do not count.
fn cpu_time(times: u64, mut run: impl FnMut()) -> Duration {
    let spent = || -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells each thread's time");
        text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).expect("the first number is the time on a CPU")
    };
    let begin = spent();
    (0..times).for_each(|_| run());
    Duration::from_nanos(spent() - begin)
}

/// Flow samples of TCP and UDP packets with their headers, as a switch's agent sends them.
fn sflow5() -> Traffic {
    let hosts = Hosts { v4: "10.0.0.0/8".parse().expect("a prefix"), v6: None, count: 65_536, popularity: Popularity::Even };
    let now = Timestamp(1_700_000_000_000);
    let exporter = Exporter::new(Layout::new(Protocol::Sflow5, 1_000), now);
    let mut pool = Pool::new(exporter, &mut Peaceful::new(1, hosts, 60_000), BURST, now);
    let burst = pool.burst(now, BURST);
    let records = burst.iter().map(|draft| draft.flows() as usize).sum();
    Traffic { template: Vec::new(), data: burst.iter().map(|draft| draft.octets().to_vec()).collect(), records }
}

/// Weir's decoder and netflow_parser on the same octets.
fn compare(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, traffic: &Traffic) {
    weir(group, name, traffic);
    group.bench_function(format!("{name}/netflow_parser"), |bencher| {
        let mut parser = NetflowParser::default();
        let _learned = parser.parse_bytes(&traffic.template);
        bencher.iter_custom(|times| {
            cpu_time(times, || {
                for payload in &traffic.data {
                    let _packets = black_box(parser.parse_bytes(payload));
                }
            })
        });
    });
}

fn weir(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, traffic: &Traffic) {
    group.throughput(Throughput::Elements(traffic.records as u64));
    group.bench_function(format!("{name}/weir"), |bencher| {
        let mut decoder = Decoder::new(&Config::default(), Templates::Inline);
        let mut exporters = Exporters::new(PrefixSet::default(), 16);
        let mut batch = FlowBatch::with_capacity(2 * ROWS_PER_DATAGRAM_MAX);
        let exporter = Address::from_v4(0xc000_0201);
        let mut decode = |payload: &[u8], batch: &mut FlowBatch| {
            let datagram = Datagram { exporter, source_port: 50_000, arrival: Timestamp(1_700_000_000_100), payload };
            decoder.decode(&datagram, &mut exporters, batch);
        };
        decode(&traffic.template, &mut batch);
        bencher.iter_custom(|times| {
            cpu_time(times, || {
                traffic.data.iter().for_each(|payload| decode(payload, &mut batch));
                assert_eq!(batch.rows(), traffic.records, "every record is decoded");
                black_box(&batch);
                batch.clear();
            })
        });
    });
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    compare(&mut group, "netflow5", &netflow5());
    compare(&mut group, "netflow9", &templated(9, &FIELDS));
    compare(&mut group, "ipfix", &templated(10, &FIELDS));
    let mut fields = FIELDS.to_vec();
    fields.insert(10, (82, VARIABLE));
    compare(&mut group, "ipfix_variable", &templated(10, &fields));
    weir(&mut group, "sflow5", &sflow5());
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decode(&mut criterion);
    criterion.final_summary();
}
