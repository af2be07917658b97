//! Nodes and the deploy route.

use serde_json::{Value, json};

use api::auth::Role;
use schemas::counter::{Direction, HostReport, Target, Volume};

use crate::harness::{START, Server};

fn node(server: &Server, name: &str) -> String {
    let reply = server.post("/api/v1/nodes", &json!({ "name": name, "ip": "203.0.113.10" }));
    reply.succeeds(201);
    reply.json["node"]["uuid"].as_str().unwrap().to_owned()
}

#[test]
fn a_created_node_is_the_full_object_with_every_field_present() {
    let server = Server::start();
    let reply = server.post(
        "/api/v1/nodes",
        &json!({ "name": "web-prod-1", "ip": "::FFFF:203.0.113.10", "location": "FRA", "os": "debian", "interface": "ens3", "priority": "high" }),
    );
    reply.succeeds(201);
    let node = &reply.json["node"];
    assert_eq!(node["ip"], "203.0.113.10", "an IPv4 address in IPv6 clothes is an IPv4 address");
    assert_eq!(
        (&node["location"], &node["os"], &node["interface"], &node["priority"]),
        (&json!("FRA"), &json!("debian"), &json!("ens3"), &json!("high"))
    );
    assert_eq!(node["created_at"], "2026-11-20T12:00:00.000Z");
    // No exporter was heard, and nothing is learned.
    assert_eq!(
        (&node["status"], &node["last_pps"], &node["active_incidents"], &node["last_seen"]),
        (&json!("offline"), &json!(0), &json!(0), &Value::Null)
    );
    let nothing = json!({ "avg_pps": null, "p95_pps": null, "p99_pps": null, "protocols": { "tcp": null, "udp": null, "icmp": null, "other": null } });
    assert_eq!(node["baseline"], nothing);
    assert_eq!(reply.json["api_key"].as_str().unwrap().len(), 64);
    let uuid = node["uuid"].as_str().unwrap();
    let again = server.get(&format!("/api/v1/nodes/{uuid}"));
    assert_eq!(&again.succeeds(200).json["node"], node);
    assert!(again.json.get("api_key").is_none());
}

/// Forty minutes of 1,000 packets/s, a quarter of them UDP.
#[test]
fn a_nodes_baseline_is_what_was_learned_of_it() {
    let server = Server::start();
    let uuid = node(&server, "web");
    let target = Target { prefix: "203.0.113.10".parse().unwrap(), direction: Direction::Incoming };
    let volume = Volume { packets: 10_000.0, octets: 5e6, flows: 1.0, tcp_packets: 7_500.0, udp_packets: 2_500.0, ..Volume::default() };
    for span in 0..6 * 40 {
        server.app.live.baselines().report(&[HostReport { target, volume }], START.plus(span * 10_000));
    }
    let reply = server.get(&format!("/api/v1/nodes/{uuid}"));
    let baseline = &reply.succeeds(200).json["node"]["baseline"];
    for (name, percent) in [("tcp", 75.0), ("udp", 25.0), ("icmp", 0.0), ("other", 0.0)] {
        assert!((baseline["protocols"][name].as_f64().unwrap() - percent).abs() < 1e-9, "{baseline}");
    }
    for key in ["avg_pps", "p95_pps", "p99_pps"] {
        assert!((baseline[key].as_f64().unwrap() / 1_000.0 - 1.0).abs() < 0.03, "{baseline}");
    }
}

#[test]
fn defaults_are_eth0_and_production() {
    let server = Server::start();
    let uuid = node(&server, "a");
    let node = &server.get(&format!("/api/v1/nodes/{uuid}")).json["node"];
    assert_eq!((&node["interface"], &node["priority"], &node["location"]), (&json!("eth0"), &json!("production"), &Value::Null));
}

#[test]
fn every_fault_of_a_node_is_named_in_one_line() {
    let server = Server::start();
    let reply = server.post("/api/v1/nodes", &json!({ "name": "x".repeat(101), "ip": "300.1.1.1", "nmae": 1, "priority": "urgent" }));
    reply.fails(422, "validation_error");
    assert_eq!(
        reply.message(),
        "Validation error: ip: not an IP address; name: at most 100 characters; nmae: unknown key; \
         priority: must be one of production, staging, development, normal, high"
    );
    assert_eq!(reply.json["error"]["details"][0], json!({ "field": "ip", "message": "not an IP address" }));
    let reply = server.post("/api/v1/nodes", &json!({}));
    assert_eq!(
        reply.fails(422, "validation_error").message(),
        "Validation error: ip: this field is required; name: this field is required"
    );
    // 100 characters of two octets each are within the limit.
    server.post("/api/v1/nodes", &json!({ "name": "é".repeat(100), "ip": "2001:db8::1" })).succeeds(201);
}

#[test]
fn two_nodes_may_not_share_a_name_until_one_is_deleted() {
    let server = Server::start();
    let uuid = node(&server, "a");
    let other = node(&server, "b");
    server.post("/api/v1/nodes", &json!({ "name": "a", "ip": "203.0.113.11" })).fails(409, "duplicate_resource");
    server.patch(&format!("/api/v1/nodes/{other}"), &json!({ "name": "a" })).fails(409, "duplicate_resource");
    assert_eq!(server.delete(&format!("/api/v1/nodes/{uuid}")).succeeds(204).text, "");
    server.get(&format!("/api/v1/nodes/{uuid}")).fails(404, "resource_not_found");
    server.delete(&format!("/api/v1/nodes/{uuid}")).fails(404, "resource_not_found");
    node(&server, "a");
    assert_eq!(server.count("SELECT count(*) FROM nodes WHERE deleted_at IS NOT NULL"), 1);
}

#[test]
fn a_change_touches_only_what_it_names_and_null_clears() {
    let server = Server::start();
    let reply = server.post("/api/v1/nodes", &json!({ "name": "a", "ip": "203.0.113.10", "location": "FRA", "os": "debian" }));
    let path = format!("/api/v1/nodes/{}", reply.json["node"]["uuid"].as_str().unwrap());
    let changed = server.patch(&path, &json!({ "location": null, "priority": "high", "threshold_pps": 5000 }));
    let node = &changed.succeeds(200).json["node"];
    assert_eq!(
        (&node["location"], &node["os"], &node["priority"], &node["threshold_pps"]),
        (&Value::Null, &json!("debian"), &json!("high"), &json!(5000))
    );
    let reply = server.patch(&path, &json!({ "name": null, "uuid": "x" }));
    assert_eq!(reply.fails(422, "validation_error").message(), "Validation error: name: must not be null; uuid: unknown key");
    server.patch(&path, &json!({})).succeeds(200);
    server.patch("/api/v1/nodes/none", &json!({})).fails(404, "resource_not_found");
    // One create and one change; what changes nothing is not written.
    assert_eq!(server.count("SELECT count(*) FROM audit WHERE resource = 'node'"), 2);
    assert_eq!(server.count("SELECT count(*) FROM audit WHERE action = 'change' AND before LIKE '%FRA%' AND after NOT LIKE '%FRA%' AND actor = 'test owner' AND address = '127.0.0.1'"), 1);
}

#[test]
fn lists_are_paged_newest_first() {
    let server = Server::start();
    for index in 0..5 {
        node(&server, &format!("n{index}"));
        server.clock.advance(1_000);
    }
    let reply = server.get("/api/v1/nodes?limit=2&offset=1");
    reply.succeeds(200);
    let names: Vec<&str> = reply.json["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n3", "n2"]);
    assert_eq!((&reply.json["total"], &reply.json["limit"], &reply.json["offset"]), (&json!(5), &json!(2), &json!(1)));
    let all = server.get("/api/v1/nodes");
    assert_eq!((&all.json["limit"], &all.json["offset"]), (&json!(50), &json!(0)));
    assert_eq!(server.get("/api/v1/nodes?status=offline&limit=1").json["total"], 5);
    assert_eq!(server.get("/api/v1/nodes?status=online").json["nodes"], json!([]));
    for bad in ["limit=0", "limit=101", "limit=x", "limit=-1", "offset=-1", "offset=1.5", "status=up"] {
        let reply = server.get(&format!("/api/v1/nodes?{bad}"));
        let field = bad.split('=').next().unwrap();
        assert_eq!(reply.fails(400, "invalid_parameter").json["error"]["details"][0]["field"], field);
    }
}

#[test]
fn the_plan_bounds_the_nodes() {
    let server = Server::start_with(|config| config.api.nodes_max = 1);
    node(&server, "a");
    server.post("/api/v1/nodes", &json!({ "name": "b", "ip": "203.0.113.11" })).fails(403, "node_limit");
}

#[test]
fn an_installer_registers_its_server() {
    let server = Server::start();
    let deploy = server.token(Role::Deploy);
    let reply = server.call(&deploy, "POST", "/api/deploy", &json!({ "name": "web-1", "ip": "2001:DB8::0010" }));
    reply.succeeds(200);
    assert_eq!((&reply.json["name"], &reply.json["ip"]), (&json!("web-1"), &json!("2001:db8::10")));
    let key = reply.json["api_key"].as_str().unwrap();
    assert!(key.len() == 64 && key.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let uuid = reply.json["node_uuid"].as_str().unwrap();
    server.get(&format!("/api/v1/nodes/{uuid}")).succeeds(200);
    for body in [json!({ "ip": "203.0.113.1" }), json!({ "name": "a" }), json!({ "name": " ", "ip": "203.0.113.1" })] {
        let reply = server.call(&deploy, "POST", "/api/deploy", &body);
        assert_eq!(reply.fails(400, "invalid_request").message(), "Node name / IP required");
    }
    server.call(&deploy, "POST", "/api/deploy", &json!({ "name": "a", "ip": "x" })).fails(422, "validation_error");
    server.call(&deploy, "POST", "/api/deploy", &json!({ "name": "web-1", "ip": "203.0.113.1" })).fails(409, "duplicate_resource");
    server.send("POST", "/api/deploy", &[], b"{}").fails(401, "unauthorized");
}

#[test]
fn a_suspended_or_unpaid_workspace_registers_nothing() {
    let server = Server::start();
    let body = json!({ "name": "a", "ip": "203.0.113.1" });
    server.sql("UPDATE workspaces SET suspended = 1");
    server.post("/api/deploy", &body).fails(402, "subscription_required");
    // Paid until the very moment at which the clock stands.
    server.sql("UPDATE workspaces SET suspended = 0, paid_until = 1795176000000");
    server.post("/api/deploy", &body).fails(402, "subscription_required");
    server.sql("UPDATE workspaces SET paid_until = 1795176000001");
    server.post("/api/deploy", &body).succeeds(200);
}
