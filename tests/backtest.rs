//! What is stored of a capture comes to the same incidents as the capture itself.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use api::config::Config;
use api::hindsight::{Hindsight, Report};
use api::{backtest, replay};
use bench::synthesize::{Attack, Exporter, Flow, Hosts, Layout, Popularity, Protocol, Traffic, Vector};
use bytes::Bytes;
use collector::receive::capture::Capture;
use collector::store::block::Encoder;
use collector::store::gather::Encode;
use collector::store::insert::Insert;
use collector::store::names::Nameless;
use collector::store::schema::Schema;
use collector::store::writer::Store;
use schemas::flow::FlowBatch;
use schemas::incident::Incident;
use schemas::time::Timestamp;
use tests::capture::{self, Packet};
use tests::corpus::attacks;
use tests::engine::Alone;
use tests::packet;
use tests::process::wait_until;

/// 2026-11-20T12:00:00Z.
const START: Timestamp = Timestamp(1_795_176_000_000);
const PATIENCE: Duration = Duration::from_secs(60);
/// Sampled one in so many; an attack of 400,000 packets a second is 40 samples each tenth of a second.
const INTERVAL: u32 = 1_000;

fn config(more: &str) -> Config {
    // Without end: captures may be of any year. And a virtual clock gives the store no time to keep up by itself.
    let text = "networks = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n\
        [collector.store]\nwait_milliseconds_max = 60_000\n\
        [collector.store.retention]\nflows_days = 0\nminutes_days = 0\nhours_days = 0\n";
    let path = std::env::temp_dir().join(format!("weir-tests-backtest-{}-{}.toml", std::process::id(), more.len()));
    std::fs::write(&path, format!("{text}{more}")).unwrap();
    let config = Config::load(Some(&path)).unwrap();
    std::fs::remove_file(path).unwrap();
    config
}

/// A minute of an exporter's datagrams: 100 sampled packets a second for 200 hosts, and from the 20th to the 40th second two attacks.
fn exports(protocol: Protocol, file: &Path) {
    let v6 = Some("2001:db8::/48".parse().unwrap());
    let hosts = Hosts { v4: "203.0.113.0/24".parse().unwrap(), v6, count: 200, popularity: Popularity::Even };
    let mut traffic = Traffic::new(1, hosts, 5_000);
    let mut exporter = Exporter::new(Layout::new(protocol, INTERVAL), Timestamp(START.0 - 3_600_000));
    let (begins, ends) = (START.plus(20_000), START.plus(40_000));
    let attack = |seed, vector, target: &str| Attack::new(seed, vector, target.parse().unwrap(), 400_000, begins, ends);
    let mut attacks = [attack(2, Vector::NtpAmplification, "203.0.113.7"), attack(3, Vector::Syn, "2001:db8::7")];
    let single = protocol == Protocol::Sflow5;
    let mut packets = Vec::new();
    for tenth in 1..=600 {
        let now = START.plus(tenth * 100);
        let one = |flow: Flow| Flow { octets: flow.octets / flow.packets, packets: 1, ..flow };
        let mut flows: Vec<Flow> = (0..10).map(|_| one(traffic.flow(now))).collect();
        for attack in &mut attacks {
            attack.flows(Timestamp(now.0 - 100), now, INTERVAL, single, &mut flows);
        }
        let mut microseconds = now.0 * 1_000;
        exporter.export(now, &flows, &mut |draft| {
            microseconds += 10;
            let ports = ("192.0.2.1:4000".parse().unwrap(), "192.0.2.9:2055".parse().unwrap());
            packets.push(Packet { microseconds, octets: packet::udp(ports.0, ports.1, draft.octets()) });
        });
    }
    capture::write(file, &packets);
}

/// Makes blocks without the names of interfaces and applications, which nobody counts.
struct Blocks(Encoder);

impl Encode for Blocks {
    fn append(&mut self, batch: &FlowBatch) -> usize {
        self.0.append(batch, &Nameless, SystemTime::now().into())
    }

    fn take(&mut self) -> Bytes {
        self.0.take()
    }
}

struct Bench {
    engine: Alone,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn start(config: &Config) -> Self {
        let engine = Alone::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let schema = Schema::new(&config.collector.store, "weir").unwrap();
        runtime.block_on(schema.prepare(&engine.link().client().unwrap())).unwrap();
        Self { engine, runtime }
    }

    /// Lets the pipe store what a capture holds; how many records there are.
    fn store(&self, file: &Path, config: &Config) -> u64 {
        let _ = self.engine.query("TRUNCATE TABLE flows");
        let kept = &config.collector.store;
        let statement = Insert::flows(0);
        let encode = Blocks(Encoder::new(config.collector.count.future_milliseconds_max));
        let spool = self.engine.folder().join("spool");
        let (store, mut handovers) =
            Store::start(kept, &spool, 1, self.engine.link(), Box::new(encode), std::sync::Arc::new(statement.into())).unwrap();
        let (_, pipe) = Hindsight::new(config);
        let mut pipe = pipe.stored(handovers.pop());
        let content = collector::replay::content(file).unwrap();
        let ledger = collector::replay::run(&mut Capture::open(file).unwrap(), content, &[], &mut pipe, 0, |_| {}).unwrap();
        let stored = || self.engine.query("SELECT count() FROM flows").parse::<u64>().unwrap();
        wait_until(&format!("{} flows of {}", ledger.records_decoded, file.display()), PATIENCE, || stored() == ledger.records_decoded);
        // Not before: a store whose shards have ended waits for its engine for five seconds, and the first insert may take longer.
        drop(pipe);
        store.stop();
        stored()
    }

    fn backtest(&self, config: &Config, (from, to): (Timestamp, Timestamp)) -> Report {
        self.runtime.block_on(backtest::report(&self.engine.link().client().unwrap(), config, from, to)).unwrap()
    }

    /// Between which moments flows were received.
    fn span(&self) -> (Timestamp, Timestamp) {
        let said =
            self.engine.query("SELECT toUnixTimestamp64Milli(min(received_at)), toUnixTimestamp64Milli(max(received_at)) FROM flows");
        let (first, last) = said.split_once('\t').unwrap();
        (Timestamp(first.parse().unwrap()), Timestamp(last.parse::<u64>().unwrap() + 1))
    }
}

/// The same incidents: what they are, of whom, and when to a slot; their volumes to a hundredth.
fn assert_alike(one: &Report, other: &Report, what: &str) {
    let kinds = |report: &Report| -> Vec<String> {
        let kind = |incident: &Incident| {
            format!("{} {:?} {:?} {:?} {:?}", incident.target, incident.direction, incident.family, incident.subtype, incident.severity)
        };
        let mut kinds: Vec<String> = report.incidents.iter().map(kind).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(one), kinds(other), "{what}");
    for incident in &one.incidents {
        let same = other
            .incidents
            .iter()
            .find(|same| (same.target, same.direction, same.family) == (incident.target, incident.direction, incident.family));
        let same = same.unwrap();
        let times = |incident: &Incident| [incident.started_at, incident.detected_at, incident.ended_at.unwrap_or_default()];
        for (one, other) in times(incident).into_iter().zip(times(same)) {
            assert!(one.0.abs_diff(other.0) <= 200, "{what}: {} {one} {other}", incident.target);
        }
        for (one, other) in [(incident.total_packets, same.total_packets), (incident.total_octets, same.total_octets)] {
            assert!(one.abs_diff(other) <= one / 100, "{what}: {} {one} {other}", incident.target);
        }
    }
    let rules = |report: &Report| report.rules.iter().map(|rule| (rule.target, rule.intent_type, rule.state)).collect::<Vec<_>>();
    assert_eq!(rules(one), rules(other), "{what}");
}

#[test]
fn a_backtest_of_stored_flows_finds_what_a_replay_of_their_exports_finds() {
    let config = config("");
    let bench = Bench::start(&config);
    for protocol in [Protocol::Netflow9, Protocol::Ipfix, Protocol::Sflow5] {
        let file: PathBuf = bench.engine.folder().join(format!("{protocol:?}.pcap"));
        exports(protocol, &file);
        let (replayed, outcome) = replay::report(&file, &config, None).unwrap();
        outcome.unwrap();
        let targets: Vec<String> = replayed.incidents.iter().map(|incident| incident.target.to_string()).collect();
        assert_eq!(targets, ["203.0.113.7", "2001:db8::7"], "{protocol:?}");
        let records = bench.store(&file, &config);
        let tested = bench.backtest(&config, (START, START.plus(600_000)));
        assert_alike(&replayed, &tested, &format!("{protocol:?}"));
        assert_eq!(tested.totals["flows"], records);
        assert_eq!((tested.ledger.records_decoded, tested.ledger.records_counted), (records, replayed.ledger.records_counted));
        // Half of it has half of the attack.
        let half = bench.backtest(&config, (START, START.plus(30_000)));
        assert!(half.incidents.len() == 2 && half.incidents[0].total_packets < tested.incidents[0].total_packets * 3 / 4);
    }
    let none = bench.runtime.block_on(backtest::report(&bench.engine.link().client().unwrap(), &config, Timestamp(0), Timestamp(1)));
    assert!(none.unwrap_err().to_string().starts_with("no flow was received between 1970-01-01T00:00:00.000Z"));
}

#[test]
fn the_attacks_of_the_corpus_are_found_in_what_was_stored_of_them() {
    let mut config = config("[analytics.threshold]\npackets_per_second = 200\nbits_per_second = 10_000_000\n");
    config.networks.clear();
    let labelled: Vec<_> = attacks().into_iter().filter(|labelled| labelled.is_attack == "yes").collect();
    if labelled.is_empty() {
        return;
    }
    let bench = Bench::start(&config);
    for labelled in labelled {
        let (replayed, outcome) = replay::report(&labelled.capture, &config, None).unwrap();
        outcome.unwrap();
        bench.store(&labelled.capture, &config);
        assert_alike(&replayed, &bench.backtest(&config, bench.span()), &labelled.id);
    }
}
