//! Incidents: lists and their filters, the single one, and what people make of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use api::auth::Role;
use api::state::{StateError, incidents};
use schemas::counter::{Direction, Target};
use schemas::incident::{Family, Incident, IncidentStatus, LimitSource, Metric, Severity, Threshold};
use schemas::time::Timestamp;

use crate::harness::{START, Server};

pub(crate) fn incident(target: &str, started_at: Timestamp) -> Incident {
    let threshold = Threshold { metric: Metric::PacketsPerSecond, value: 100_000.0, source: LimitSource::Static };
    let (target, detected_at) = (target.parse().unwrap(), started_at.plus(400));
    Incident {
        family: Family::UdpFlood,
        subtype: Some("memcached_amplification".to_owned()),
        severity: Severity::High,
        confidence: 97,
        peak_pps: 2_450_000,
        peak_bps: 27_000_000_000,
        total_packets: 1,
        total_octets: 1_400,
        protocol_breakdown: BTreeMap::from([("udp".to_owned(), 1.0)]),
        summary: "203.0.113.7 receives 24 times its limit.".to_owned(),
        ..Incident::of(Uuid::new_v4(), target, Direction::Incoming, threshold, started_at, detected_at)
    }
}

pub(crate) fn save(server: &Server, incident: &Incident) {
    let (workspace, incident) = (server.app.state.workspace, incident.clone());
    server.app.state.write_blocking::<_, StateError>(move |transaction| incidents::save(transaction, workspace, &incident)).unwrap();
}

#[test]
fn a_single_incident_has_every_field_and_a_list_the_main_ones() {
    let server = Server::start();
    let one = incident("203.0.113.7", START);
    save(&server, &one);
    let reply = server.get(&format!("/api/v1/incidents/{}", one.uuid));
    assert_eq!(reply.succeeds(200).json["incident"], serde_json::to_value(&one).unwrap());
    assert_eq!(reply.json["incident"]["geo_breakdown"], Value::Null, "present, though nothing fills it");
    let list = server.get("/api/v1/incidents");
    let entry = &list.succeeds(200).json["incidents"][0];
    assert_eq!((&entry["family"], &entry["peak_pps"], &entry["target"]), (&json!("udp_flood"), &json!(2_450_000), &json!("203.0.113.7")));
    assert!(entry.get("evidence").is_none());
    assert_eq!((&list.json["total"], &list.json["limit"], &list.json["offset"]), (&json!(1), &json!(50), &json!(0)));
    server.get("/api/v1/incidents/00000000-0000-0000-0000-000000000000").fails(404, "resource_not_found");
}

#[test]
fn lists_are_filtered_newest_first() {
    let server = Server::start();
    let mut first = incident("203.0.113.7", START);
    let mut second = incident("203.0.113.0/24", START.plus(1_000));
    let third = incident("2001:db8::7", START.plus(2_000));
    (first.status, first.severity, first.family) = (IncidentStatus::Resolved, Severity::Low, Family::SynFlood);
    let node = Uuid::new_v4();
    second.node = Some(schemas::incident::NodeReference { uuid: node, name: "a".into(), ip: "203.0.113.7".parse().unwrap() });
    for incident in [&first, &second, &third] {
        save(&server, incident);
    }
    let listed = |query: &str| -> Vec<String> {
        let reply = server.get(&format!("/api/v1/incidents?{query}"));
        reply.succeeds(200).json["incidents"].as_array().unwrap().iter().map(|entry| entry["uuid"].as_str().unwrap().to_owned()).collect()
    };
    let [first, second, third] = [first, second, third].map(|incident| incident.uuid.to_string());
    let check = |query: &str, expected: &[&String]| assert_eq!(listed(query).iter().collect::<Vec<_>>(), expected, "{query}");
    check("", &[&third, &second, &first]);
    check("status=resolved", &[&first]);
    check("severity=high", &[&third, &second]);
    check("family=syn_flood", &[&first]);
    check("family=tcp_syn", &[&first]);
    check(&format!("node={node}"), &[&second]);
    check("target=203.0.113.7", &[&second, &first]);
    check("target=203.0.113.8", &[&second]);
    check("target=2001:db8::/32", &[&third]);
    check("since=2026-11-20T12:00:01Z&until=2026-11-20T12:00:02Z", &[&second]);
    check("limit=1&offset=2", &[&first]);
    for bad in ["status=open", "severity=bad", "family=flood", "node=x", "target=x", "since=yesterday", "limit=101"] {
        server.get(&format!("/api/v1/incidents?{bad}")).fails(400, "invalid_parameter");
    }
}

#[test]
fn what_a_person_made_of_an_incident_holds_against_later_news_of_it() {
    let server = Server::start();
    let mut one = incident("203.0.113.7", START);
    save(&server, &one);
    let path = format!("/api/v1/incidents/{}", one.uuid);
    server.clock.advance(60_000);
    let analyst = server.token(Role::Analyst);
    let reply = server.call(&analyst, "PATCH", &path, &json!({ "status": "false_positive", "note": "a speed test" }));
    let changed = &reply.succeeds(200).json["incident"];
    assert_eq!(
        (&changed["status"], &changed["note"], &changed["ended_at"]),
        (&json!("false_positive"), &json!("a speed test"), &Value::Null)
    );
    assert!(server.controls.try_recv().is_err(), "an analyst labels, and ends nothing");
    // It teaches: half as much again as 2,450,000 packets/s is nothing to speak of.
    let target = Target { prefix: one.target, direction: one.direction };
    assert_eq!(server.app.live.baselines().learned(target).map(|learned| learned.packets_per_second), Some(3_675_000.0));
    one.peak_pps = 3_000_000;
    save(&server, &one);
    let later = &server.get(&path).json["incident"];
    assert_eq!(
        (&later["status"], &later["note"], &later["peak_pps"]),
        (&json!("false_positive"), &json!("a speed test"), &json!(3_000_000))
    );
    assert_eq!(server.get("/api/v1/incidents?status=active").json["total"], 0);
    server.patch(&path, &json!({ "note": null })).succeeds(200);
    assert_eq!(server.get(&path).json["incident"]["note"], Value::Null);
    assert_eq!(
        server.patch(&path, &json!({ "status": "active", "severity": "low" })).fails(422, "validation_error").message(),
        "Validation error: severity: unknown key; status: must be one of resolved, false_positive"
    );
    assert_eq!(server.count("SELECT count(*) FROM audit WHERE resource = 'incident'"), 2);
}

#[test]
fn a_node_under_an_incident_is_in_attack_and_so_is_the_overall_status() {
    let server = Server::start();
    let reply = server.post("/api/v1/nodes", &json!({ "name": "a", "ip": "203.0.113.7" }));
    let uuid = reply.json["node"]["uuid"].as_str().unwrap();
    let status = server.get("/api/v1/status");
    assert_eq!(
        (&status.json["overall"], &status.json["nodes_total"], &status.json["nodes_online"]),
        (&json!("degraded"), &json!(1), &json!(0))
    );
    save(&server, &incident("203.0.113.0/24", START));
    let status = server.get("/api/v1/status");
    assert_eq!(
        status.succeeds(200).json,
        json!({
            "ok": true, "overall": "under_attack", "nodes_total": 1, "nodes_online": 1, "under_attack": 1,
            "alarms": [], "nodes": [{ "uuid": uuid, "name": "a", "status": "attack", "pps": 0, "active_incidents": 1 }],
        })
    );
    assert_eq!(server.get("/api/v1/nodes?status=attack").json["total"], 1);
}

#[test]
fn without_nodes_and_attacks_everything_is_operational() {
    let server = Server::start();
    assert_eq!(server.get("/api/v1/status").json["overall"], "operational");
}
