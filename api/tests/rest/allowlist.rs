//! The allowlist.

use serde_json::{Value, json};

use crate::harness::Server;

#[test]
fn entries_are_added_listed_by_node_and_removed() {
    let server = Server::start();
    let node = server.post("/api/v1/nodes", &json!({ "name": "a", "ip": "203.0.113.1" }));
    let node = node.json["node"]["uuid"].as_str().unwrap();
    let wide = server.post("/api/v1/allowlist", &json!({ "ip_address": "2001:DB8::/32", "label": "Office VPN" }));
    let entry = &wide.succeeds(201).json["entry"];
    assert_eq!(
        (&entry["ip_address"], &entry["scope"], &entry["node"], &entry["label"]),
        (&json!("2001:db8::/32"), &json!("workspace"), &Value::Null, &json!("Office VPN"))
    );
    server.clock.advance(1);
    server.post("/api/v1/allowlist", &json!({ "ip_address": "198.51.100.7", "scope": "node", "node": node })).succeeds(201);
    assert_eq!(server.get("/api/v1/allowlist").json["total"], 2);
    let of_node = server.get(&format!("/api/v1/allowlist?node={node}"));
    assert_eq!((&of_node.json["total"], &of_node.json["allowlist"][0]["ip_address"]), (&json!(2), &json!("198.51.100.7")));
    assert_eq!(server.get("/api/v1/allowlist?node=00000000-0000-0000-0000-000000000000").json["total"], 1);
    server.get("/api/v1/allowlist?node=x").fails(400, "invalid_parameter");
    let id = wide.json["entry"]["id"].as_str().unwrap();
    server.delete(&format!("/api/v1/allowlist/{id}")).succeeds(204);
    server.delete(&format!("/api/v1/allowlist/{id}")).fails(404, "resource_not_found");
    assert_eq!(server.count("SELECT count(*) FROM audit WHERE resource = 'allowlist'"), 3);
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    let server = Server::start();
    let post = |body: Value| server.post("/api/v1/allowlist", &body);
    assert_eq!(
        post(json!({ "scope": "node" })).fails(422, "validation_error").message(),
        "Validation error: ip_address: this field is required; node: this field is required when scope is node"
    );
    assert_eq!(
        post(json!({ "ip_address": "203.0.113.7/24" })).fails(422, "validation_error").message(),
        "Validation error: ip_address: 203.0.113.7/24 has bits set behind its length, did you mean 203.0.113.0/24"
    );
    let nobody = "00000000-0000-0000-0000-000000000000";
    post(json!({ "ip_address": "203.0.113.7", "scope": "node", "node": nobody })).fails(422, "validation_error");
    post(json!({ "ip_address": "203.0.113.7", "node": nobody })).fails(422, "validation_error");
    post(json!({ "ip_address": "203.0.113.7" })).succeeds(201);
    post(json!({ "ip_address": "203.0.113.7/32" })).fails(409, "duplicate_resource");
}
