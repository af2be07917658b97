//! Maintenance windows.

use serde_json::{Value, json};

use api::analysis::Control;

use crate::harness::{START, Server};

/// What the analysts were told last of what is planned: prefix and reason of each window.
fn told(server: &Server) -> Vec<(String, String)> {
    let windows =
        server.controls.try_iter().filter_map(|control| if let Control::Maintenance(windows) = control { Some(windows) } else { None });
    windows.last().unwrap().into_iter().map(|window| (window.prefix.to_string(), window.reason)).collect()
}

#[test]
fn windows_are_planned_told_to_the_analysts_changed_and_removed() {
    let server = Server::start();
    let node = server.post("/api/v1/nodes", &json!({ "name": "a", "ip": "203.0.113.1" }));
    let node = node.json["node"]["uuid"].as_str().unwrap();
    let body = json!({ "target": "203.0.113.0/28", "from": START.plus(60_000), "to": START.plus(120_000), "reason": "load test" });
    let wide = server.post("/api/v1/maintenance", &body);
    let window = &wide.succeeds(201).json["window"];
    assert_eq!(
        (&window["target"], &window["node"], &window["status"], &window["resolve_open"]),
        (&json!("203.0.113.0/28"), &Value::Null, &json!("planned"), &json!(false))
    );
    server.clock.advance(1);
    let body = json!({ "node": node, "to": START.plus(3_600_000), "reason": "backup", "resolve_open": true });
    assert_eq!(server.post("/api/v1/maintenance", &body).succeeds(201).json["window"]["status"], "active");
    let pair = |prefix: &str, reason: &str| (prefix.to_owned(), reason.to_owned());
    assert_eq!(told(&server), [pair("203.0.113.0/28", "load test"), pair("203.0.113.1", "backup")]);
    let list = server.get("/api/v1/maintenance");
    assert_eq!((&list.succeeds(200).json["total"], &list.json["maintenance"][0]["node"]), (&json!(2), &json!(node)));
    // A node that moves takes its windows along; one that is deleted has none.
    server.patch(&format!("/api/v1/nodes/{node}"), &json!({ "ip": "203.0.113.2" })).succeeds(200);
    assert_eq!(told(&server)[1], pair("203.0.113.2", "backup"));
    server.delete(&format!("/api/v1/nodes/{node}")).succeeds(204);
    assert_eq!(told(&server), [pair("203.0.113.0/28", "load test")]);
    let path = format!("/api/v1/maintenance/{}", wide.json["window"]["id"].as_str().unwrap());
    let changed = server.patch(&path, &json!({ "to": START.plus(90_000), "reason": "short test" }));
    assert_eq!(changed.succeeds(200).json["window"]["to"], "2026-11-20T12:01:30.000Z");
    assert_eq!(told(&server), [pair("203.0.113.0/28", "short test")]);
    server.clock.advance(90_000);
    assert_eq!(server.get(&path).succeeds(200).json["window"]["status"], "over");
    server.delete(&path).succeeds(204);
    server.get(&path).fails(404, "resource_not_found");
    server.patch(&path, &json!({})).fails(404, "resource_not_found");
    server.delete(&path).fails(404, "resource_not_found");
    assert_eq!(server.count("SELECT count(*) FROM audit WHERE resource = 'maintenance'"), 4);
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    let server = Server::start();
    let post = |body: Value| server.post("/api/v1/maintenance", &body);
    assert_eq!(
        post(json!({})).fails(422, "validation_error").message(),
        "Validation error: reason: this field is required; target: this field is required where no node is named; to: this field is required"
    );
    let nobody = "00000000-0000-0000-0000-000000000000";
    post(json!({ "node": nobody, "to": START.plus(1_000), "reason": "a" })).fails(422, "validation_error");
    post(json!({ "node": nobody, "target": "203.0.113.7", "to": START.plus(1_000), "reason": "a" })).fails(422, "validation_error");
    let ends = |to: u64| json!({ "target": "203.0.113.7", "to": START.plus(to), "reason": "a" });
    assert!(post(ends(0)).fails(422, "validation_error").message().contains("to: must be later than from"));
    assert!(post(ends(31 * 86_400_000 + 1)).fails(422, "validation_error").message().contains("to: at most 31 days after from"));
    let path = format!("/api/v1/maintenance/{}", post(ends(1_000)).succeeds(201).json["window"]["id"].as_str().unwrap());
    server.patch(&path, &json!({ "from": START.plus(2_000) })).fails(422, "validation_error");
}
