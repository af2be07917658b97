//! Tokens: shown once, stored as a hash, bound by role and time.

use serde_json::{Value, json};

use api::auth::{Role, Secret, hex};
use schemas::time::Timestamp;

use crate::harness::{START, Server};

#[test]
fn a_token_is_shown_once_and_stored_as_its_hash_only() {
    let server = Server::start();
    let reply = server.post("/api/v1/tokens", &json!({ "name": "panel", "role": "readonly", "expires_at": "2026-11-21T00:00:00Z" }));
    reply.succeeds(201);
    let token = reply.json["token"]["token"].as_str().unwrap();
    assert!(token.len() == 64 && token.bytes().all(|digit| digit.is_ascii_hexdigit()));
    assert_eq!(
        (&reply.json["token"]["role"], &reply.json["token"]["expires_at"]),
        (&json!("readonly"), &json!("2026-11-21T00:00:00.000Z"))
    );
    server.call(token, "GET", "/api/v1/nodes", &Value::Null).succeeds(200);
    let listed = server.get("/api/v1/tokens");
    assert_eq!(listed.succeeds(200).json["total"], 2);
    assert!(!listed.text.contains(token) && !listed.text.contains(&hex(&Secret::parse(token).unwrap().hash())));
    let path = server.app.config.data_dir.join("state.sqlite-wal");
    let stored = std::fs::read(path).unwrap();
    assert!(!stored.windows(64).any(|window| window == token.as_bytes()));
}

#[test]
fn a_token_without_a_role_is_an_operator_and_works_for_both_apis() {
    let server = Server::start();
    let reply = server.post("/api/v1/tokens", &json!({ "name": "one" }));
    assert_eq!(reply.succeeds(201).json["token"]["role"], "operator");
    let token = reply.json["token"]["token"].as_str().unwrap();
    server.call(token, "POST", "/api/deploy", &json!({ "name": "a", "ip": "203.0.113.1" })).succeeds(200);
    server.call(token, "POST", "/api/v1/nodes", &json!({ "name": "b", "ip": "203.0.113.2" })).succeeds(201);
}

#[test]
fn a_revoked_token_is_unknown_at_once() {
    let server = Server::start();
    let reply = server.post("/api/v1/tokens", &json!({ "name": "one" }));
    let (id, token) = (reply.json["token"]["id"].as_str().unwrap(), reply.json["token"]["token"].as_str().unwrap());
    server.delete(&format!("/api/v1/tokens/{id}")).succeeds(204);
    server.call(token, "GET", "/api/v1/nodes", &Value::Null).fails(401, "unauthorized");
    server.delete(&format!("/api/v1/tokens/{id}")).fails(404, "resource_not_found");
}

#[test]
fn a_token_ends_at_its_moment() {
    let server = Server::start();
    let token = server.token_until(Role::Owner, Some(Timestamp(START.0 + 1_000)));
    server.call(&token, "GET", "/api/v1/nodes", &Value::Null).succeeds(200);
    server.clock.advance(1_000);
    server.call(&token, "GET", "/api/v1/nodes", &Value::Null).fails(401, "token_expired");
}

#[test]
fn tokens_that_make_no_sense_are_refused() {
    let server = Server::start();
    let reply = server.post("/api/v1/tokens", &json!({ "role": "root", "expires_at": "2026-11-20T12:00:00Z" }));
    assert_eq!(
        reply.fails(422, "validation_error").message(),
        "Validation error: expires_at: must be in the future; name: this field is required; \
         role: must be one of deploy, readonly, analyst, operator, owner"
    );
    server.post("/api/v1/tokens", &json!({ "name": "a", "expires_at": "tomorrow" })).fails(422, "validation_error");
}

#[test]
fn missing_malformed_and_unknown_tokens_are_unauthorized() {
    let server = Server::start();
    let unknown = format!("Bearer {}", "0".repeat(64));
    for value in ["", "Bearer", "Bearer x", "Basic YTpi", unknown.as_str()] {
        let reply = server.send("GET", "/api/v1/nodes", &[("authorization", value)], b"");
        assert_eq!(reply.fails(401, "unauthorized").header("www-authenticate"), Some("Bearer"));
    }
    server.send("GET", "/api/v1/nodes", &[], b"").fails(401, "unauthorized");
    // The scheme is case-insensitive (RFC 9110 §11.1), and hex digits may be capitals.
    let value = format!("bearer {}", server.owner.to_uppercase());
    server.send("GET", "/api/v1/nodes", &[("authorization", &value)], b"").succeeds(200);
}
