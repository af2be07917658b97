//! What it costs a flow to learn where its ends lie: `cargo bench -p bench --bench enrich`.
//!
//! A table of 1,000,000 prefixes of the Internet's lengths, and addresses at random in it. The rows' addresses are in the cache, as
//! behind the decoder; the table is out of it where the name says cold: 64 MiB of other memory are written before each batch, as the
//! counters of many hosts would. Beside it, in the same run: the walk of the maxminddb crate in the MMDB file that the table is
//! made of, without and with the record at its end; and rows where no table is configured.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, missing_docs, reason = "a bench of fixed sizes")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bench::synthesize::mmdb::{Mmdb, Value};
use bench::synthesize::{Random, Route, routes};
use collector::enrich::{Config, Enricher, Enrichment, Tables};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use maxminddb::Reader;
use maxminddb::geoip2::Asn;
use schemas::counter::SamplingSource;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::net::Address;

const ROWS: usize = 8_192;
/// IPv4 and IPv6 of 2026: a million together.
const PREFIXES_V4: usize = 800_000;
const PREFIXES_V6: usize = 200_000;
/// More than the processor's cache holds.
const OTHER_MEMORY_OCTETS: usize = 64 << 20;

/// Which addresses are looked up.
#[derive(Clone, Copy, Debug)]
enum Addresses {
    /// Anywhere between 1.0.0.0 and 223.255.255.255.
    V4,
    /// Anywhere in the prefixes of IPv6.
    V6,
    /// One row of four is IPv6.
    Mixed,
}

struct Feed {
    random: Random,
    v6: Vec<Route>,
    batch: FlowBatch,
    addresses: Addresses,
    other_memory: Vec<u8>,
}

impl Feed {
    fn new(all: &[Route], addresses: Addresses, is_cold: bool) -> Self {
        let v6 = all.iter().filter(|route| !route.prefix.is_v4()).copied().collect();
        let other_memory = vec![0; if is_cold { OTHER_MEMORY_OCTETS } else { 0 }];
        Self { random: Random::new(11), v6, batch: FlowBatch::with_capacity(ROWS), addresses, other_memory }
    }

    fn address(&mut self, is_v6: bool) -> Address {
        let Self { random, v6, .. } = self;
        if !is_v6 {
            return Address::from_v4(random.within(1 << 24, (224 << 24) - 1));
        }
        let prefix = v6[random.below(u32::try_from(v6.len()).unwrap()) as usize].prefix;
        let within = u128::from(random.number()) << 64 | u128::from(random.number());
        Address(prefix.first().0 | within & (prefix.first().0 ^ prefix.last().0))
    }

    fn fill(&mut self) {
        self.batch.clear();
        for octet in self.other_memory.iter_mut().step_by(64) {
            *octet = octet.wrapping_add(1);
        }
        for row in 0..ROWS {
            let is_v6 = match self.addresses {
                Addresses::V4 => false,
                Addresses::V6 => true,
                Addresses::Mixed => self.random.chance(25),
            };
            self.batch.source_address[row] = self.address(is_v6);
            self.batch.destination_address[row] = self.address(is_v6);
        }
        self.batch.commit(ROWS, origin());
    }

    fn run(&mut self, batches: u64, mut work: impl FnMut(&mut FlowBatch)) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..batches {
            self.fill();
            let begun = thread_time();
            work(&mut self.batch);
            spent += thread_time() - begun;
        }
        spent
    }
}

fn origin() -> Origin {
    Origin {
        exporter: Address::from_v4(1),
        source_port: 2055,
        version: Version::Netflow9,
        observation_domain_id: 0,
        template_id: 256,
        arrival_milliseconds: 0,
        export_milliseconds: 0,
        clock_offset_milliseconds: 0,
        sampling_source: SamplingSource::Header,
        time_resolution_milliseconds: 0,
        present: ColumnSet::of(&[Column::SourceAddress, Column::DestinationAddress]),
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

/// The routes as a file of autonomous systems.
fn file(all: &[Route]) -> Vec<u8> {
    let mut mmdb = Mmdb::new(true);
    for Route { prefix, autonomous_system, country } in all {
        let record = Value::Map(vec![
            ("autonomous_system_number", Value::Number(*autonomous_system)),
            ("autonomous_system_organization", Value::Text(format!("Network {autonomous_system}"))),
            ("country_code", Value::text(std::str::from_utf8(country).unwrap())),
        ]);
        mmdb.insert(*prefix, &record);
    }
    mmdb.alias_v4();
    mmdb.finish("Made-up-ASN", 28)
}

/// Some addresses are told the same by the table as by a plain look at every route.
fn hold(tables: &Tables, all: &[Route]) {
    let mut feed = Feed::new(all, Addresses::Mixed, false);
    feed.fill();
    for address in &feed.batch.source_address[..256] {
        let longest = all.iter().filter(|route| route.prefix.contains(*address)).max_by_key(|route| route.prefix.length());
        assert_eq!(tables.place(*address).autonomous_system, longest.map_or(0, |route| route.autonomous_system), "{address}");
    }
}

fn bench_table(group: &mut BenchmarkGroup<'_, WallTime>, enrichment: &Enrichment, all: &[Route]) {
    for addresses in [Addresses::V4, Addresses::V6, Addresses::Mixed] {
        for (name, is_cold) in [("warm", false), ("cold", true)] {
            let mut feed = Feed::new(all, addresses, is_cold);
            let mut enricher = Enricher::new(enrichment.tables());
            group.bench_function(format!("table/{addresses:?}/{name}"), |bencher| {
                bencher.iter_custom(|batches| feed.run(batches, |batch| enricher.enrich(batch)));
            });
        }
    }
    let mut feed = Feed::new(all, Addresses::Mixed, true);
    let mut enricher = Enricher::default();
    group.bench_function("none", |bencher| {
        bencher.iter_custom(|batches| feed.run(batches, |batch| enricher.enrich(batch)));
    });
}

fn bench_walk(group: &mut BenchmarkGroup<'_, WallTime>, file: &[u8], all: &[Route]) {
    let reader = Reader::from_source(file).unwrap();
    for addresses in [Addresses::V4, Addresses::V6] {
        let ends = |batch: &FlowBatch, row: usize| [batch.source_address[row].ip(), batch.destination_address[row].ip()];
        let mut feed = Feed::new(all, addresses, true);
        group.bench_function(format!("maxminddb/{addresses:?}/walk"), |bencher| {
            let work = |batch: &mut FlowBatch| {
                for row in 0..ROWS {
                    black_box(ends(batch, row).map(|ip| reader.lookup(ip).unwrap().offset()));
                }
            };
            bencher.iter_custom(|batches| feed.run(batches, work));
        });
        group.bench_function(format!("maxminddb/{addresses:?}/walk and record"), |bencher| {
            let work = |batch: &mut FlowBatch| {
                for row in 0..ROWS {
                    for ip in ends(batch, row) {
                        let record = reader.lookup(ip).unwrap().decode::<Asn<'_>>().unwrap();
                        black_box(record.and_then(|record| record.autonomous_system_number));
                    }
                }
            };
            bencher.iter_custom(|batches| feed.run(batches, work));
        });
    }
}

fn benches(criterion: &mut Criterion) {
    let all = routes(&mut Random::new(7), PREFIXES_V4, PREFIXES_V6);
    let octets = file(&all);
    let path = std::env::temp_dir().join(format!("weir-bench-enrich-{}.mmdb", std::process::id()));
    std::fs::write(&path, &octets).unwrap();
    let begun = Instant::now();
    let config = Config { mmdb: vec![path.clone()], start_octets_max: u64::MAX, ..Config::default() };
    let enrichment = Enrichment::start(&config).unwrap();
    let took = begun.elapsed();
    std::fs::remove_file(&path).unwrap();
    let tables = enrichment.tables().get();
    let (v4, v6) = tables.table().runs();
    eprintln!(
        "{} prefixes, file of {:.1} MB, read in {took:.2?}: {v4} + {v6} runs, {} places, table of {:.1} MB",
        all.len(),
        octets.len() as f64 / 1e6,
        tables.places().places.len(),
        tables.table().memory_octets() as f64 / 1e6,
    );
    hold(&tables, &all);
    let mut group = criterion.benchmark_group("enrich");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    bench_table(&mut group, &enrichment, &all);
    bench_walk(&mut group, &octets, &all);
    group.finish();
}

criterion_group!(enrich, benches);
criterion_main!(enrich);
