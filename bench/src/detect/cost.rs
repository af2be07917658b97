//! `weir-bench detect --cost`: memory and time of one shard's counters and of the analysts with very many active hosts.

use std::path::Path;
use std::time::Duration;

use analytics::Analyst;
use anyhow::{Context as _, Result, ensure};
use bench::synthesize::{Exporter, Flow, Fragment, Hosts, Layout, Protocol, Random};
use collector::count;
use collector::decode::{Datagram, Templates};
use collector::shard::Pipe;
use schemas::counter::SLOT_MILLISECONDS;
use schemas::net::{Address, Prefix, PrefixSet};
use schemas::time::Timestamp;
use serde::Serialize;

use super::vector::stranger;
use super::wire::{EPOCH, NETWORKS};
use crate::latency::rank;
use crate::measure;
use crate::report::Machine;

/// Every host is heard in both directions within so many slots: ten seconds.
const TURN: u32 = 100;
/// Turns until everything is as large as it gets, and those that are measured.
const WARM_TURNS: u32 = 3;
const MEASURED_TURNS: u32 = 3;

/// Hosts of the shard that shows what has nothing to do with hosts.
const FEW: u32 = 1_000;

/// Entries for the prefixes of so many hosts, both directions.
fn prefixes_of(hosts: u32) -> usize {
    hosts as usize / 32 + 1_024
}

/// What it costs.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    hosts: u32,
    /// Resident memory of the program before.
    program_octets: u64,
    /// What a shard has whatever its hosts, prefixes included; it is in none of the figures below.
    fixed_octets: u64,
    /// What the counters and the analysts added.
    counters_octets: u64,
    analysts_octets: u64,
    octets_per_host: f64,
    counters_octets_per_host: f64,
    analysts_octets_per_host: f64,
    held: u64,
    counters_tick_milliseconds: Times,
    analysts_tick_milliseconds: Times,
    records_over_host_bound: u64,
}

/// CPU time of one tick.
#[derive(Debug, Serialize)]
struct Times {
    p50: f64,
    p99: f64,
    largest: f64,
}

impl Times {
    fn of(mut spent: Vec<Duration>) -> Self {
        spent.sort();
        let milliseconds: Vec<f64> = spent.iter().map(|spent| spent.as_secs_f64() * 1e3).collect();
        Self { p50: rank(&milliseconds, 50), p99: rank(&milliseconds, 99), largest: rank(&milliseconds, 100) }
    }
}

/// Measures and prints one JSON object.
///
/// # Errors
///
/// If not all hosts were counted, which would make the figures worthless.
pub(super) fn run(hosts: u32, json: Option<&Path>) -> Result<()> {
    ensure!((1_000..16_000_000).contains(&hosts), "hosts: from 1,000 to 16,000,000");
    let resident = || measure::resident_octets(std::process::id());
    let program_octets = resident();
    // What a shard has whatever its hosts: the log of records, room for a batch, and here as many prefixes as the large one has.
    let mut few = Bench::new(FEW, prefixes_of(hosts))?;
    few.turn(None, &mut [Vec::new(), Vec::new()]);
    let fixed_octets = resident().saturating_sub(program_octets);
    let empty_octets = program_octets + fixed_octets;
    let mut bench = Bench::new(hosts, prefixes_of(hosts))?;
    // Counters first, alone, so that their memory is known.
    for _ in 0..WARM_TURNS {
        bench.turn(None, &mut [Vec::new(), Vec::new()]);
    }
    let with_counters_octets = resident();
    let counters_octets = with_counters_octets.saturating_sub(empty_octets + fixed_octets);
    let config = analytics::Config::default();
    let mut analyst = Analyst::new(&config, analytics::metrics::Metrics::default());
    let mut spent = [Vec::new(), Vec::new()];
    for _ in 0..WARM_TURNS {
        bench.turn(Some(&mut analyst), &mut [Vec::new(), Vec::new()]);
    }
    for _ in 0..MEASURED_TURNS {
        bench.turn(Some(&mut analyst), &mut spent);
    }
    let analysts_octets = resident().saturating_sub(with_counters_octets);
    let ledger = bench.pipe.ledger();
    let counted = u64::from(hosts) * 2 * u64::from(2 * WARM_TURNS + MEASURED_TURNS);
    ensure!(ledger.records_counted + ledger.records_over_host_bound == counted, "{counted} records made: {ledger:?}");
    let [counters, analysts] = spent;
    let per_host = |octets: u64| octets as f64 / f64::from(hosts);
    let report = Report {
        machine: Machine::this(),
        hosts,
        program_octets,
        fixed_octets,
        counters_octets,
        analysts_octets,
        octets_per_host: per_host(counters_octets + analysts_octets),
        counters_octets_per_host: per_host(counters_octets),
        analysts_octets_per_host: per_host(analysts_octets),
        held: bench.reported,
        counters_tick_milliseconds: Times::of(counters),
        analysts_tick_milliseconds: Times::of(analysts),
        records_over_host_bound: ledger.records_over_host_bound,
    };
    let text = serde_json::to_string_pretty(&report)?;
    println!("{text}");
    json.map_or(Ok(()), |path| std::fs::write(path, &text).with_context(|| path.display().to_string()))
}

struct Bench {
    hosts: u32,
    pipe: Pipe,
    exporter: Exporter,
    random: Random,
    now: Timestamp,
    /// Hosts and prefixes that were reported in the last turn.
    reported: u64,
}

impl Bench {
    fn new(hosts: u32, prefixes_max: usize) -> Result<Self> {
        let networks: PrefixSet = NETWORKS.iter().map(|text| text.parse::<Prefix>()).collect::<Result<_, _>>()?;
        let entries = usize::try_from(hosts)? * 2;
        let count = count::Config { hosts_max: entries, prefixes_max, ..count::Config::default() };
        let config = collector::config::Config { count, ..collector::config::Config::default() };
        let analyst = Analyst::new(&analytics::Config::default(), analytics::metrics::Metrics::default());
        let pipe = Pipe::new(0, &config, Templates::Inline, networks, analyst.limits().for_counters());
        let exporter = Exporter::new(Layout::new(Protocol::Netflow9, 1), Timestamp(EPOCH.0 - 3_600_000));
        Ok(Self { hosts, pipe, exporter, random: Random::new(1), now: EPOCH, reported: 0 })
    }

    /// Ten seconds in which every host is heard once in each direction.
    fn turn(&mut self, mut analyst: Option<&mut Analyst>, spent: &mut [Vec<Duration>; 2]) {
        self.reported = 0;
        for step in 0..TURN {
            self.now = self.now.plus(SLOT_MILLISECONDS);
            let part = |step: u32| u32::try_from(u64::from(self.hosts) * u64::from(step) / u64::from(TURN)).unwrap_or(self.hosts);
            let flows: Vec<Flow> = (part(step)..part(step + 1)).flat_map(|host| self.both_ways(host)).collect();
            let (pipe, now) = (&mut self.pipe, self.now);
            self.exporter.export(now, &flows, &mut |draft| {
                pipe.datagram(&Datagram { exporter: Address(9), source_port: 50_000, arrival: now, payload: draft.octets() });
            });
            // What has come is counted before, so that the tick is the tick alone.
            pipe.settle(now);
            let before = measure::own_cpu();
            let snapshot = pipe.tick(now);
            let between = measure::own_cpu();
            let Some(snapshot) = snapshot else { continue };
            self.reported += snapshot.hosts.len() as u64;
            if let Some(analyst) = analyst.as_deref_mut() {
                analyst.observe(snapshot);
                drop(analyst.tick(now));
            }
            let [counters, analysts] = &mut *spent;
            counters.push(between.saturating_sub(before));
            analysts.push(measure::own_cpu().saturating_sub(between));
        }
    }

    /// One flow to a host and one from it; every fourth is of IPv6.
    fn both_ways(&self, number: u32) -> [Flow; 2] {
        let v4 = !number.is_multiple_of(4);
        let network = if v4 { NETWORKS[0] } else { NETWORKS[1] };
        let host = network.parse().map_or(Address(0), |prefix: Prefix| Hosts::address(prefix, number));
        let peer = stranger(u64::from(number) << 8, v4);
        let mut own = self.random.clone();
        let packets = u64::from(own.heavy_tail(200));
        let flow = Flow {
            source: peer,
            destination: host,
            source_port: 443,
            destination_port: 40_000,
            protocol: 6,
            tcp_control_bits: 0x10,
            fragment: Fragment::Whole,
            packets,
            octets: packets * 700,
            start: self.now,
            end: self.now,
            ingress_interface: 10,
            egress_interface: 100,
            ttl: 60,
        };
        [flow, Flow { source: host, destination: peer, source_port: 40_000, destination_port: 443, ..flow }]
    }
}
