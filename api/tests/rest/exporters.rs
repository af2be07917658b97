//! Exporters, from what the shards report.

use collector::enrich::interface::{Source, Told};
use serde_json::{Value, json};

use schemas::counter::{Direction, DomainReport, ExporterReport, SamplingSource, Snapshot, Target};
use schemas::flow::Version;
use schemas::interface::{Counter, CounterSample};
use schemas::ledger::{Ledger, StoreLedger};
use schemas::time::Timestamp;

use crate::harness::{START, Server};

fn snapshot(shard: usize, exporter: &str, datagrams: u64, taken_at: Timestamp) -> Snapshot {
    let domain = DomainReport {
        version: Version::Netflow9,
        observation_domain_id: 7,
        agent: None,
        templates: 2,
        datagrams,
        records: datagrams * 10,
        lost_by_sequence: 1,
        sets_without_template: 0,
        sampling_interval: (shard == 1).then_some(1_000),
        sampling_source: if shard == 1 { SamplingSource::Options } else { SamplingSource::Unknown },
        clock_offset_milliseconds: -5,
        interfaces: vec![u32::try_from(shard).unwrap()],
    };
    let ledger = Ledger { datagrams_received: datagrams, records_decoded: datagrams * 10, lost_by_sequence: 1, ..Ledger::default() };
    let report = ExporterReport {
        exporter: exporter.parse().unwrap(),
        ledger,
        store: StoreLedger::default(),
        last_seen: taken_at,
        domains: vec![domain],
    };
    Snapshot { shard, taken_at, exporters: vec![report], ledger: Some(ledger), ..Snapshot::default() }
}

#[test]
fn an_exporter_is_one_however_many_shards_hear_it() {
    let server = Server::start();
    server.app.live.observe(&snapshot(0, "192.0.2.1", 3, START));
    server.app.live.observe(&snapshot(1, "192.0.2.1", 4, START.plus(100)));
    server.app.live.observe(&snapshot(0, "2001:db8::1", 1, START.plus(200)));
    let reply = server.get("/api/v1/exporters/192.0.2.1");
    let exporter = &reply.succeeds(200).json["exporter"];
    assert_eq!((&exporter["datagrams"], &exporter["records"], &exporter["lost_by_sequence"]), (&json!(7), &json!(70), &json!(2)));
    assert_eq!(exporter["last_seen"], "2026-11-20T12:00:00.100Z");
    let domain = &exporter["domains"][0];
    assert_eq!(
        (&domain["sampling_interval"], &domain["sampling_source"], &domain["interfaces"]),
        (&json!(1_000), &json!("options"), &json!([0, 1]))
    );
    let list = server.get("/api/v1/exporters");
    let ids: Vec<&Value> = list.succeeds(200).json["exporters"].as_array().unwrap().iter().map(|exporter| &exporter["id"]).collect();
    assert_eq!(ids, ["2001:db8::1", "192.0.2.1"], "newest first");
    assert_eq!(server.get("/api/v1/exporters?limit=1&offset=1").json["exporters"][0]["id"], "192.0.2.1");
    server.get("/api/v1/exporters/2001:DB8::0001").succeeds(200);
    server.get("/api/v1/exporters/192.0.2.9").fails(404, "resource_not_found");
    server.get("/api/v1/exporters/x").fails(404, "resource_not_found");
    server.get("/api/v1/exporters?limit=0").fails(400, "invalid_parameter");
}

#[test]
fn a_node_is_online_while_any_exporter_is_heard() {
    let server = Server::start();
    server.post("/api/v1/nodes", &json!({ "name": "a", "ip": "203.0.113.7" })).succeeds(201);
    server.app.live.observe(&snapshot(0, "192.0.2.1", 3, START));
    assert_eq!(server.get("/api/v1/nodes").json["nodes"][0]["status"], "online");
    assert_eq!(server.get("/api/v1/status").json["overall"], "operational");
    server.clock.advance(90_001);
    assert_eq!(server.get("/api/v1/nodes").json["nodes"][0]["status"], "offline");
}

/// 80,000 packets a second are over 70 % of the general limit of 100,000, and far below that of a host that has one of its own.
#[test]
fn a_node_is_elevated_by_the_limit_that_holds_for_it() {
    let own = toml::from_str("target = \"203.0.113.7\"\npackets_per_second = 1000000").unwrap();
    let server = Server::start_with(|config| config.analytics.threshold.hosts = vec![own]);
    server.app.live.observe(&snapshot(0, "192.0.2.1", 3, START));
    let rate = analytics::baseline::Rate { packets_per_second: 80_000.0, bits_per_second: 0.0 };
    let addresses = ["203.0.113.7", "203.0.113.8"];
    let target = |address: &str| Target { prefix: address.parse().unwrap(), direction: Direction::Incoming };
    server.app.live.baselines().show_suspects(addresses.map(|address| (target(address), rate)).into(), START);
    for (address, status) in addresses.into_iter().zip(["online", "elevated"]) {
        let node = server.post("/api/v1/nodes", &json!({ "name": address, "ip": address }));
        assert_eq!(node.succeeds(201).json["node"]["status"], status);
    }
}

#[test]
fn metrics_add_up_over_shards_and_count_requests_by_route() {
    let server = Server::start();
    server.app.live.observe(&snapshot(0, "192.0.2.1", 3, START));
    server.app.live.observe(&snapshot(1, "192.0.2.1", 4, START));
    server.get("/api/v1/nodes/00000000-0000-0000-0000-000000000000").fails(404, "resource_not_found");
    let text = server.metrics();
    for line in [
        "weir_collector_datagrams_received_total 7",
        "weir_collector_exporter_datagrams_received_total{exporter=\"192.0.2.1\"} 7",
        "weir_api_requests_total{route=\"/api/v1/nodes/{uuid}\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "));
}

/// Heard for 20 s and then no more; the analysts tell what the service shows.
#[test]
fn an_exporter_that_falls_silent_is_shown_with_its_alarm() {
    let mut analyst = analytics::Analyst::new(&analytics::Config::default(), analytics::metrics::Metrics::default());
    let server = Server::start();
    server.app.live.is_warned_by(analyst.alarms());
    for second in 0..60 {
        let told = snapshot(0, "192.0.2.1", second.min(20), START.plus(second.min(20) * 1_000));
        let told = Snapshot { taken_at: START.plus(second * 1_000), ..told };
        server.app.live.observe(&told);
        analyst.observe(told);
        analyst.tick(START.plus(second * 1_000));
    }
    server.clock.advance(60_000);
    let status = server.get("/api/v1/status");
    let alarm = &status.succeeds(200).json["alarms"][0];
    assert_eq!((&alarm["kind"], &alarm["exporter"]), (&json!("exporter_silent"), &json!("192.0.2.1")));
    assert_eq!(status.json["overall"], "degraded");
    for exporter in [&server.get("/api/v1/exporters/192.0.2.1").json["exporter"], &server.get("/api/v1/exporters").json["exporters"][0]] {
        assert_eq!(exporter["alarms"][0]["text"], "nothing was heard for 39 s");
    }
    assert!(server.metrics().contains("\nweir_analytics_alarms{kind=\"exporter_silent\"} 1\n"));
}

/// Samples of interface 3, 20 s apart: 1,000,000 octets in 1,000 packets in, nothing out.
fn counted(exporter: &str, number: u64) -> Snapshot {
    let zero = [Counter::Bits32(0); 3];
    let sample = CounterSample {
        agent: exporter.parse().unwrap(),
        interface: 3,
        at: START.plus(number * 20_000),
        uptime_milliseconds: number * 20_000,
        uptime_wraps_at: 1 << 32,
        speed_bits: 10_000_000_000,
        is_up: true,
        octets_in: Counter::Bits64(number * 1_000_000),
        octets_out: Counter::Bits64(0),
        packets_in: [Counter::Bits32(u32::try_from(number * 1_000).unwrap()), Counter::Bits32(0), Counter::Bits32(0)],
        packets_out: zero,
        ..CounterSample::default()
    };
    Snapshot { taken_at: sample.at, interface_counters: vec![(exporter.parse().unwrap(), sample)], ..Snapshot::default() }
}

#[test]
fn interfaces_show_what_their_counters_told_last_while_the_store_is_away() {
    let server = Server::start();
    server.app.live.observe(&snapshot(1, "192.0.2.1", 3, START));
    server.get("/api/v1/exporters/192.0.2.1/interfaces").fails(503, "unavailable");
    server.get("/api/v1/exporters/192.0.2.9/interfaces").fails(404, "resource_not_found");
    server.get("/api/v1/exporters/192.0.2.1/interfaces?from=later").fails(400, "invalid_parameter");
    server.get("/api/v1/exporters/192.0.2.1/interfaces?limit=1001").fails(400, "invalid_parameter");
    for number in 0..3 {
        server.app.live.observe(&counted("192.0.2.1", number));
    }
    let told = Told { interface: 3, name: "xe-0/0/3".into(), description: "transit".into(), ..Told::default() };
    server.app.live.interfaces().tell("192.0.2.1".parse().unwrap(), Source::Options, &[told], START);
    server.app.live.interfaces().flush();
    server.clock.advance(60_000);
    let reply = server.get("/api/v1/exporters/192.0.2.1/interfaces");
    let body = &reply.succeeds(200).json;
    assert_eq!(
        (&body["from"], &body["to"], &body["total"]),
        (&json!("2026-11-20T12:00:00.000Z"), &json!("2026-11-20T12:01:00.000Z"), &json!(2))
    );
    assert!(body["flows_unavailable"].is_string());
    let interface = &body["interfaces"][1];
    assert_eq!(
        (&interface["index"], &interface["name"], &interface["speed_bps"]),
        (&json!(3), &json!("xe-0/0/3"), &json!(10_000_000_000_u64))
    );
    assert_eq!((&interface["sources"]["name"], &interface["sources"]["speed"]), (&json!("options"), &json!("sflow")));
    // 2,000,000 octets in 40 s are 400 kbit/s; 18 octets of each of the 2,000 packets are layer 2.
    assert_eq!((&interface["in"]["counters_bps"], &interface["in"]["counters_ip_bps"]), (&json!(400_000.0), &json!(392_800.0)));
    assert_eq!((&interface["in"]["verdict"], &interface["in"]["ratio"]), (&json!("no_flows"), &Value::Null));
    assert_eq!((&body["interfaces"][0]["index"], &body["interfaces"][0]["in"]["verdict"]), (&json!(1), &json!("no_counters")));
    let detail = server.get("/api/v1/exporters/192.0.2.1");
    let known = &detail.succeeds(200).json["exporter"]["interfaces"];
    assert_eq!((&known[1]["description"], &known[1]["up"], &known[1]["boundary"]), (&json!("transit"), &json!(true), &json!("undefined")));
    assert!(server.metrics().contains("\nweir_collector_interfaces_counted 1\n"));
}
