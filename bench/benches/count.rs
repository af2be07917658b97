//! What counting a flow record costs: `cargo bench -p bench --bench count`.
//!
//! Records of seeded traffic at a million a second, each for one host and its /24 in one direction, with the ticks that fall
//! due in between. The batch has just been written when it is counted, as behind the decoder. Beside it, in the same run,
//! the same updates of the same 128 octets in a `DashMap`, without all that comes before them.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    reason = "a bench of fixed sizes"
)]

use std::hint::black_box;
use std::time::Duration;

use collector::count::{Config, Counter};
use collector::exporter::Exporters;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use dashmap::DashMap;
use schemas::counter::SamplingSource;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::limit::{Limit, Limits};
use schemas::net::{Address, Prefix, PrefixSet};
use schemas::time::Timestamp;

const ROWS: usize = 4_096;
/// Records in a set: a full v9 datagram's.
const SEGMENT_ROWS: usize = 24;
const RECORDS_A_MILLISECOND: usize = 1_000;
const START: u64 = 1_800_000_000_000;
/// 10.0.0.0.
const FIRST_HOST: u32 = 10 << 24;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let first = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let second = (first ^ first >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        second ^ second >> 31
    }

    fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// Who gets the traffic.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// All hosts alike.
    Uniform,
    /// The n-th host a share of 1 / n.
    Zipf,
    /// One host everything.
    Flood,
}

/// How long flows last and how late they are told.
#[derive(Clone, Copy, Debug)]
enum Export {
    /// Sampled packets, told at once.
    Prompt,
    /// NetFlow with an active timeout of 60 s and an inactive one of 15 s.
    Late,
}

struct Traffic {
    random: Random,
    hosts: Vec<u32>,
    shape: Shape,
    export: Export,
}

impl Traffic {
    fn new(hosts: u32, shape: Shape, export: Export) -> Self {
        let mut random = Random(7);
        let mut order: Vec<u32> = (0..hosts).map(|host| FIRST_HOST + host).collect();
        for index in (1..hosts).rev() {
            order.swap(index as usize, random.below(index + 1) as usize);
        }
        Self { random, hosts: order, shape, export }
    }

    fn host(&mut self) -> u32 {
        let hosts = self.hosts.len();
        match self.shape {
            Shape::Uniform => self.hosts[self.random.below(hosts as u32) as usize],
            Shape::Zipf => {
                // The inverse of the harmonic sum, ln n.
                let share = self.random.next() as f64 / u64::MAX as f64;
                self.hosts[((hosts as f64).powf(share) as usize).clamp(1, hosts) - 1]
            }
            Shape::Flood => self.hosts[0],
        }
    }

    fn fill(&mut self, batch: &mut FlowBatch, now: u64) {
        batch.clear();
        for row in 0..ROWS {
            let host = self.host();
            let random = self.random.next();
            batch.source_address[row] = Address::from_v4(0xc633_0000 | random as u32 & 0xffff);
            batch.destination_address[row] = Address::from_v4(host);
            batch.source_port[row] = (random >> 16) as u16;
            batch.destination_port[row] = 443;
            batch.protocol_identifier[row] = if random >> 60 < 4 { 17 } else { 6 };
            batch.tcp_control_bits[row] = 0x1b;
            batch.packet_delta_count[row] = 1 + (random >> 32) % 16;
            batch.octet_delta_count[row] = batch.packet_delta_count[row] * 700;
            batch.sampling_interval[row] = 1;
            let (lag, duration) = match self.export {
                Export::Prompt => ((random >> 40) % 200, 0),
                Export::Late => ((random >> 40) % 20_000, if random >> 63 == 0 { (random >> 50) % 300 } else { (random >> 44) % 60_000 }),
            };
            batch.flow_end_milliseconds[row] = now - lag;
            batch.flow_start_milliseconds[row] = now - lag - duration;
        }
        let mut origin = origin(now);
        for first in (0..ROWS).step_by(SEGMENT_ROWS) {
            origin.source_port = first as u16;
            batch.commit(SEGMENT_ROWS.min(ROWS - first), origin);
        }
    }
}

fn origin(now: u64) -> Origin {
    Origin {
        exporter: Address::from_v4(1),
        source_port: 2055,
        version: Version::Netflow9,
        observation_domain_id: 0,
        template_id: 256,
        arrival_milliseconds: now,
        export_milliseconds: now,
        clock_offset_milliseconds: 0,
        time_resolution_milliseconds: 1,
        sampling_source: SamplingSource::Header,
        present: ColumnSet::of(&[
            Column::SourceAddress,
            Column::DestinationAddress,
            Column::SourcePort,
            Column::DestinationPort,
            Column::ProtocolIdentifier,
            Column::TcpControlBits,
            Column::PacketDeltaCount,
            Column::OctetDeltaCount,
            Column::FlowStartMilliseconds,
            Column::FlowEndMilliseconds,
        ]),
        derived: ColumnSet::default(),
    }
}

/// What the thread has spent on a processor: others may use the machine at the same time.
fn thread_time() -> Duration {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own, which the call fills.
    #[expect(unsafe_code, reason = "the standard library has no clock of a thread's time")]
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut spent);
    }
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// Feeds batches at the pace of a million records a second; only what `work` does is timed.
struct Feed {
    traffic: Traffic,
    batch: FlowBatch,
    now: u64,
    rows: usize,
}

impl Feed {
    fn new(traffic: Traffic) -> Self {
        Self { traffic, batch: FlowBatch::with_capacity(ROWS), now: START, rows: 0 }
    }

    fn run(&mut self, batches: u64, mut work: impl FnMut(&FlowBatch, u64)) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..batches {
            self.rows += ROWS;
            self.now = START + (self.rows / RECORDS_A_MILLISECOND) as u64;
            self.traffic.fill(&mut self.batch, self.now);
            let begun = thread_time();
            work(&self.batch, self.now);
            spent += thread_time() - begun;
        }
        spent
    }
}

/// A counter that has seen all its hosts, and its traffic.
struct Warm {
    counter: Counter,
    exporters: Exporters,
    feed: Feed,
    ticked: u64,
    ticking: Duration,
    ticks: u32,
}

impl Warm {
    fn new(hosts: u32, shape: Shape, export: Export) -> Self {
        let network = Prefix::of(Address::from_v4(FIRST_HOST), 32 - hosts.ilog2() as u8);
        let config = Config { hosts_max: hosts as usize * 3 / 2, ..Config::default() };
        // So high that nobody is a suspect, but for the flood.
        let limit = Limit::of(1e8, 1e12);
        let limits = if matches!(shape, Shape::Flood) { Limits::default() } else { Limits::of_hosts(limit) };
        let mut exporters = Exporters::new(PrefixSet::default(), 8);
        exporters.admit(Address::from_v4(1), Timestamp(START));
        let counter = Counter::new(&config, PrefixSet::from_iter([network]), limits);
        let feed = Feed::new(Traffic::new(hosts, shape, export));
        let mut warm = Self { counter, exporters, feed, ticked: START, ticking: Duration::ZERO, ticks: 0 };
        warm.run(u64::from(hosts) * 4 / ROWS as u64 + 64);
        (warm.ticking, warm.ticks) = (Duration::ZERO, 0);
        warm
    }

    fn run(&mut self, batches: u64) -> Duration {
        let Self { counter, exporters, feed, ticked, ticking, ticks } = self;
        let mut ticked_within = Duration::ZERO;
        let spent = feed.run(batches, |batch, now| {
            counter.count(batch, exporters, Timestamp(now));
            if now >= *ticked + 100 {
                let begun = thread_time();
                *ticked = now;
                black_box(counter.tick(Timestamp(now)));
                ticked_within += thread_time() - begun;
                *ticks += 1;
            }
        });
        *ticking += ticked_within;
        spent
    }
}

fn bench_counter(group: &mut BenchmarkGroup<'_, WallTime>, hosts: u32, shape: Shape, export: Export) {
    let name = format!("counter/{hosts}/{shape:?}/{export:?}");
    let mut warm = None;
    group.bench_function(&name, |bencher| {
        let warm = warm.get_or_insert_with(|| Warm::new(hosts, shape, export));
        bencher.iter_custom(|batches| warm.run(batches));
    });
    if let Some(Warm { counter, ticking, ticks, .. }) = warm {
        eprintln!("{name}: {:?} hosts, prefixes, suspects; a tick takes {:?}", counter.held(), ticking / ticks.max(1));
    }
}

/// The compact entry's 128 octets, less the key.
#[derive(Clone, Copy, Default)]
struct Plain {
    totals: [f32; 11],
    rings: [[u16; 16]; 2],
}

fn bench_dashmap(group: &mut BenchmarkGroup<'_, WallTime>, hosts: u32, shape: Shape) {
    let map: DashMap<(Address, u8), Plain> = DashMap::with_capacity(hosts as usize * 3 / 2);
    let work = |batch: &FlowBatch, now: u64| {
        for row in 0..ROWS {
            let (packets, octets) = (batch.packet_delta_count[row] as f32, batch.octet_delta_count[row] as f32);
            let totals = [packets, octets, 1.0, packets, octets, 0.0, packets, 0.0, 0.0, 0.0, octets];
            let host = batch.destination_address[row];
            for key in [(host, 128), (Address(host.0 & !0xff), 120)] {
                let mut entry = map.entry(key).or_default();
                entry.totals.iter_mut().zip(totals).for_each(|(sum, count)| *sum += count);
                let cell = now as usize / 1_000 % 16;
                entry.rings.iter_mut().for_each(|ring| ring[cell] = ring[cell].saturating_add(1));
            }
        }
    };
    let mut warm = None;
    group.bench_function(format!("dashmap/{hosts}/{shape:?}"), |bencher| {
        let feed = warm.get_or_insert_with(|| {
            let mut feed = Feed::new(Traffic::new(hosts, shape, Export::Prompt));
            feed.run(u64::from(hosts) * 4 / ROWS as u64 + 64, work);
            feed
        });
        bencher.iter_custom(|batches| feed.run(batches, work));
    });
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("count");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for hosts in [65_536, 1_048_576] {
        for shape in [Shape::Uniform, Shape::Zipf] {
            bench_counter(&mut group, hosts, shape, Export::Prompt);
            bench_dashmap(&mut group, hosts, shape);
        }
        bench_counter(&mut group, hosts, Shape::Uniform, Export::Late);
    }
    bench_counter(&mut group, 65_536, Shape::Flood, Export::Prompt);
    group.finish();
}

criterion_group!(count, benches);
criterion_main!(count);
