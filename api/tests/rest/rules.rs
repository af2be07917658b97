//! Rules: announced and withdrawn by hand, guarded, frozen, and kept over a restart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use api::analysis::Control;
use api::auth::Role;
use api::clock::Clock;
use schemas::incident::IncidentStatus;

use crate::harness::{Folder, START, Server};
use crate::incidents::{incident, save};

fn blackhole(target: &str) -> Value {
    json!({ "target_ip": target, "intent_type": "blackhole", "adapter_id": "edge" })
}

/// The speaker answers on its own task: waits until what is asked holds.
#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn state(server: &Server, uuid: &str) -> Value {
    let history = server.get("/api/v1/mitigation/rules/history");
    history.json["rules"].as_array().unwrap().iter().find(|rule| rule["uuid"] == uuid).unwrap()["state"].clone()
}

#[test]
fn a_rule_is_pending_then_active_then_withdrawn_and_in_the_history_for_good() {
    let server = Server::start();
    let mut body = blackhole("2001:DB8::0007");
    body["ttl"] = json!(600);
    let reply = server.post("/api/v1/mitigation/rules", &body);
    let rule = &reply.succeeds(201).json["rule"];
    assert_eq!(
        (&rule["target_ip"], &rule["owner"], &rule["ttl"], &rule["reason"]),
        (&json!("2001:db8::7"), &json!("manual"), &json!(600), &json!("announced by test owner"))
    );
    let uuid = rule["uuid"].as_str().unwrap();
    eventually("the confirmation", || state(&server, uuid) == "active");
    assert_eq!(server.speaker.carries(), ["2001:db8::7"]);
    assert_eq!(server.get("/api/v1/mitigation/rules").json["total"], 1);
    server.delete(&format!("/api/v1/mitigation/rules/{uuid}")).succeeds(204);
    eventually("the withdrawal", || state(&server, uuid) == "withdrawn");
    assert!(server.speaker.carries().is_empty());
    let active = server.get("/api/v1/mitigation/rules");
    assert_eq!((&active.json["total"], &active.json["limit"], &active.json["rules"]), (&json!(0), &json!(100), &json!([])));
    server.delete(&format!("/api/v1/mitigation/rules/{uuid}")).fails(404, "resource_not_found");
    assert_eq!(server.count("SELECT count(*) FROM audit WHERE resource = 'rule' AND action IN ('announce', 'withdraw')"), 2);
}

#[test]
fn what_the_guard_does_not_let_through_is_told_by_its_field() {
    let server = Server::start();
    let post = |body: &Value| server.post("/api/v1/mitigation/rules", body);
    assert_eq!(
        post(&blackhole("198.51.100.1")).fails(422, "validation_error").message(),
        "Validation error: target_ip: 198.51.100.1 is not within our networks"
    );
    post(&blackhole("203.0.113.0/31")).fails(422, "validation_error");
    server.post("/api/v1/allowlist", &json!({ "ip_address": "203.0.113.9" })).succeeds(201);
    assert!(post(&blackhole("203.0.113.9")).fails(422, "validation_error").message().contains("allowlist"));
    let mut other = blackhole("203.0.113.7");
    other["adapter_id"] = json!("core");
    assert_eq!(post(&other).fails(422, "validation_error").message(), "Validation error: adapter_id: no adapter core");
    other = blackhole("203.0.113.7");
    other["intent_type"] = json!("flowspec");
    assert!(post(&other).fails(422, "validation_error").message().starts_with("Validation error: intent_type: "));
    assert_eq!(
        post(&json!({ "target_ip": "x", "intent_type": "drop", "ttl": -1, "match": {} })).fails(422, "validation_error").message(),
        "Validation error: adapter_id: this field is required; intent_type: must be one of blackhole, flowspec, scrubbing; \
         match: unknown key; target_ip: not an IP address or prefix; ttl: must be a whole number from 0 to 31536000"
    );
    post(&blackhole("203.0.113.7")).succeeds(201);
    post(&blackhole("203.0.113.7/32")).fails(409, "duplicate_resource");
    assert_eq!(server.get("/api/v1/mitigation/rules/history?limit=500").json["limit"], 500);
    server.get("/api/v1/mitigation/rules/history?limit=501").fails(400, "invalid_parameter");
    server.get("/api/v1/mitigation/rules?limit=0").fails(400, "invalid_parameter");
}

#[test]
fn the_kill_switch_withdraws_everything_and_lets_nothing_through_until_it_is_lifted() {
    let server = Server::start();
    let reply = server.post("/api/v1/mitigation/rules", &blackhole("203.0.113.7"));
    let uuid = reply.succeeds(201).json["rule"]["uuid"].as_str().unwrap();
    eventually("the confirmation", || state(&server, uuid) == "active");
    let frozen = server.post("/api/v1/mitigation/freeze", &json!({ "frozen": true }));
    assert_eq!((&frozen.succeeds(200).json["frozen"], &frozen.json["changed_at"]), (&json!(true), &json!("2026-11-20T12:00:00.000Z")));
    eventually("the withdrawal", || server.speaker.carries().is_empty() && state(&server, uuid) == "withdrawn");
    server.post("/api/v1/mitigation/rules", &blackhole("203.0.113.7")).fails(403, "permission_denied");
    assert!(server.metrics().contains("\nweir_analytics_mitigation_frozen 1\n"));
    server.post("/api/v1/mitigation/freeze", &json!({ "frozen": "no" })).fails(422, "validation_error");
    server.post("/api/v1/mitigation/freeze", &json!({ "frozen": false })).succeeds(200);
    server.post("/api/v1/mitigation/rules", &blackhole("203.0.113.7")).succeeds(201);
}

#[test]
fn an_allowlist_entry_withdraws_the_rules_that_it_protects() {
    let server = Server::start();
    server.post("/api/v1/mitigation/rules", &blackhole("203.0.113.7")).succeeds(201);
    eventually("the route", || server.speaker.carries() == ["203.0.113.7"]);
    server.post("/api/v1/allowlist", &json!({ "ip_address": "203.0.113.0/28" })).succeeds(201);
    eventually("the withdrawal", || server.speaker.carries().is_empty());
}

#[test]
fn rules_of_people_are_announced_again_after_a_restart() {
    let folder = Folder::new();
    let uuid = {
        let server = Server::start_in(&folder.0, Clock::standing(START), |_| {});
        let reply = server.post("/api/v1/mitigation/rules", &blackhole("203.0.113.7"));
        let uuid = reply.succeeds(201).json["rule"]["uuid"].as_str().unwrap().to_owned();
        eventually("the confirmation", || state(&server, &uuid) == "active");
        uuid
    };
    // Its speaker starts empty, as a router that was restarted as well.
    let server = Server::start_in(&folder.0, Clock::standing(START), |_| {});
    eventually("the route", || server.speaker.carries() == ["203.0.113.7"]);
    eventually("the confirmation", || state(&server, &uuid) == "active");
}

#[test]
fn a_word_of_an_operator_ends_the_incident_for_the_analysts_too() {
    let server = Server::start();
    let one = incident("203.0.113.7", START);
    save(&server, &one);
    server.clock.advance(60_000);
    let operator = server.token(Role::Operator);
    let path = format!("/api/v1/incidents/{}", one.uuid);
    let reply = server.call(&operator, "PATCH", &path, &json!({ "status": "resolved", "note": "moved" }));
    assert_eq!(reply.succeeds(200).json["incident"]["duration_sec"], 60);
    let Ok(Control::Resolve { uuid, status, note }) = server.controls.try_recv() else { panic!("nothing was told") };
    assert_eq!((uuid, status, note.as_deref()), (one.uuid, IncidentStatus::Resolved, Some("moved")));
    save(&server, &one);
    let timeline = &server.get(&path).json["incident"]["timeline"];
    assert_eq!(timeline[0]["text"], "test operator set it to resolved", "kept when the detector writes again");
}
