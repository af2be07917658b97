//! `weir-bench cpu`: datagrams from memory through decode and count on one thread, without sockets: for profilers.

use std::time::Duration;

use anyhow::{Result, ensure};
use bench::synthesize::{Exporter, Hosts, Layout, Pool, Popularity, Protocol, Traffic};
use clap::Args;
use collector::count::{self, Counter};
use collector::decode::{self, Datagram, Decoder, ROWS_PER_DATAGRAM_MAX, Templates};
use collector::exporter::Exporters;
use schemas::flow::FlowBatch;
use schemas::limit::{Limit, Limits};
use schemas::net::{Address, Prefix, PrefixSet};
use schemas::time::Timestamp;
use serde::Serialize;

use crate::allocations;
use crate::measure::{self, Thread};

/// Datagrams that are decoded into one batch, as a shard does with a burst of its socket.
const BURST: usize = 64;

/// What is measured.
#[derive(Args)]
pub(crate) struct Arguments {
    /// v5, v9, ipfix, ipfix-variable or sflow
    #[arg(long, default_value = "v9")]
    protocol: Protocol,
    /// Monitored hosts
    #[arg(long, default_value_t = 65_536)]
    hosts: u32,
    /// Flows to measure with, after one turn of the ring of datagrams
    #[arg(long, default_value_t = 20_000_000)]
    flows: u64,
    /// Flows a second of the virtual clock
    #[arg(long, default_value_t = 1_000_000)]
    rate: u32,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// CPU time of the parts; nanoseconds a flow.
#[derive(Debug, Serialize)]
struct Report {
    protocol: &'static str,
    hosts: u32,
    flows: u64,
    flows_per_datagram: f64,
    decode_nanoseconds: f64,
    count_nanoseconds: f64,
    tick_nanoseconds: f64,
    allocations_per_datagram: f64,
    allocations_per_tick: f64,
}

#[derive(Clone, Copy, Default)]
struct Spent {
    time: Duration,
    allocations: u64,
}

/// Measures and prints one JSON object.
///
/// # Errors
///
/// If flows are lost on the way, which would make the figures worthless.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut bench = Bench::new(arguments)?;
    let ring = bench.datagrams;
    bench.turn(ring, u64::MAX);
    let warm = bench.flows;
    bench.spent = Default::default();
    bench.turn(usize::MAX, warm + arguments.flows);
    let flows = bench.flows - warm;
    let [decode, count, tick] = bench.spent;
    let total = bench.exporters.total();
    ensure!(total.records_decoded == bench.flows, "{} of {} flows decoded: {total:?}", total.records_decoded, bench.flows);
    ensure!(total.imbalance().iter().all(|(_, difference)| *difference == 0), "the ledger does not balance: {:?}", total.imbalance());
    ensure!(total.records_counted == bench.flows, "{} of {} flows counted: {total:?}", total.records_counted, bench.flows);
    let per_flow = |spent: Spent| spent.time.as_nanos() as f64 / flows as f64;
    let flows_per_datagram = bench.pool.flows_per_datagram();
    let report = Report {
        protocol: arguments.protocol.name(),
        hosts: arguments.hosts,
        flows,
        flows_per_datagram,
        decode_nanoseconds: per_flow(decode),
        count_nanoseconds: per_flow(count),
        tick_nanoseconds: per_flow(tick),
        allocations_per_datagram: (decode.allocations + count.allocations) as f64 * flows_per_datagram / flows as f64,
        allocations_per_tick: tick.allocations as f64 / bench.ticks.max(1) as f64,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

struct Bench {
    pool: Pool,
    datagrams: usize,
    decoder: Decoder,
    counter: Counter,
    exporters: Exporters,
    batch: FlowBatch,
    now: f64,
    milliseconds_per_flow: f64,
    ticked: u64,
    ticks: u64,
    flows: u64,
    /// Decoding, counting, closing slots.
    spent: [Spent; 3],
    own: [Thread; 1],
}

impl Bench {
    fn new(arguments: &Arguments) -> Result<Self> {
        ensure!(arguments.hosts > 0 && arguments.hosts < 1 << 24, "hosts: from 1 to 16,777,215");
        let network: Prefix = "10.0.0.0/8".parse()?;
        let hosts = Hosts { v4: network, v6: None, count: arguments.hosts, popularity: Popularity::Even };
        let now = Timestamp(1_800_000_000_000);
        let exporter = Exporter::new(Layout::new(arguments.protocol, 1), Timestamp(now.0 - 3_600_000));
        let flows_per_datagram = exporter.records_max(true);
        // About four flows for each host.
        let datagrams = (usize::try_from(arguments.hosts)? * 4 / flows_per_datagram).max(1_024);
        let pool = Pool::new(exporter, &mut Traffic::new(arguments.seed, hosts, 60_000), datagrams, now);
        let networks: PrefixSet = [network].into_iter().collect();
        let limits = Limits::of_hosts(Limit::of(100_000.0, 1_000_000_000.0));
        let config = count::Config { hosts_max: usize::try_from(arguments.hosts)? * 3, ..count::Config::default() };
        Ok(Self {
            pool,
            datagrams,
            decoder: Decoder::new(&decode::Config::default(), Templates::Inline),
            counter: Counter::new(&config, networks, limits),
            exporters: Exporters::new(PrefixSet::default(), 16),
            batch: FlowBatch::with_capacity(ROWS_PER_DATAGRAM_MAX + BURST * 64),
            now: now.0 as f64,
            milliseconds_per_flow: 1_000.0 / f64::from(arguments.rate.max(1)),
            ticked: now.0,
            ticks: 0,
            flows: 0,
            spent: Default::default(),
            own: [Thread::own()],
        })
    }

    /// Feeds `datagrams` datagrams, or as many as make `flows` flows.
    fn turn(&mut self, datagrams: usize, flows: u64) {
        let mut fed = 0;
        while fed < datagrams && self.flows < flows {
            let now = Timestamp(whole(self.now));
            if let Some(draft) = self.pool.announcement(now) {
                let datagram = datagram(draft.octets(), now);
                self.decoder.decode(&datagram, &mut self.exporters, &mut self.batch);
            }
            let Self { pool, decoder, counter, exporters, batch, spent, own, .. } = self;
            let [decode, count, tick] = spent;
            let burst = pool.burst(now, BURST);
            let records: u64 = burst.iter().map(|draft| u64::from(draft.flows())).sum();
            fed += burst.len();
            timed(decode, own, || {
                for draft in burst {
                    decoder.decode(&datagram(draft.octets(), now), exporters, batch);
                }
            });
            timed(count, own, || {
                counter.count(batch, exporters, now);
                batch.clear();
            });
            if now.0 >= self.ticked + 100 {
                self.ticked = now.0;
                self.ticks += 1;
                timed(tick, own, || drop(counter.tick(now)));
            }
            self.flows += records;
            self.now += records as f64 * self.milliseconds_per_flow;
        }
    }
}

fn datagram(payload: &[u8], arrival: Timestamp) -> Datagram<'_> {
    Datagram { exporter: Address::from_v4(0x7f00_0101), source_port: 50_000, arrival, payload }
}

fn timed(spent: &mut Spent, own: &[Thread], work: impl FnOnce()) {
    let (time, allocations) = (measure::own_cpu(), allocations::of(own));
    work();
    spent.time += measure::own_cpu().saturating_sub(time);
    spent.allocations += allocations::of(own) - allocations;
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "unix milliseconds")]
fn whole(milliseconds: f64) -> u64 {
    milliseconds as u64
}
