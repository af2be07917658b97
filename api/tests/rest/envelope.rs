//! What holds for every route: envelope, media types, sizes, limits, idempotency, health.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use api::auth::Role;
use api::clock::Clock;

use crate::harness::{Folder, START, Server};

fn bearer(server: &Server) -> String {
    format!("Bearer {}", server.owner)
}

#[test]
fn what_is_not_there_and_wrong_methods_are_json() {
    let server = Server::start();
    server.get("/api/v1/nothing").fails(404, "resource_not_found");
    server.get("/").fails(404, "resource_not_found");
    let reply = server.call(&server.owner, "PUT", "/api/v1/nodes", &Value::Null);
    reply.fails(405, "method_not_allowed");
    let mut allowed: Vec<&str> = reply.header("allow").unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

#[test]
fn bodies_that_are_no_json_object_are_told_apart() {
    let server = Server::start();
    let authorization = bearer(&server);
    let post = |content_type: &str, body: &[u8]| {
        server.send("POST", "/api/v1/nodes", &[("authorization", &authorization), ("content-type", content_type)], body)
    };
    post("application/json", b"{\"name\":").fails(400, "invalid_request");
    post("application/json", b"").fails(400, "invalid_request");
    post("application/json", b"\xff\xfe").fails(400, "invalid_request");
    post("application/json", "[".repeat(100_000).as_bytes()).fails(400, "invalid_request");
    post("application/json", b"[]").fails(422, "validation_error");
    post("text/plain", b"{}").fails(415, "unsupported_media_type");
    post("application/x-www-form-urlencoded", b"name=a").fails(415, "unsupported_media_type");
    server.send("POST", "/api/v1/nodes", &[("authorization", &authorization)], b"{}").fails(415, "unsupported_media_type");
    post("application/json; charset=utf-8", b"{\"name\":\"a\",\"ip\":\"203.0.113.1\"}").succeeds(201);
}

#[test]
fn a_body_over_the_limit_is_refused_whether_or_not_its_length_is_told() {
    let server = Server::start_with(|config| config.api.body_octets_max = 1_000);
    let authorization = bearer(&server);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    server.send("POST", "/api/v1/nodes", &headers, &[b' '; 1_001]).fails(413, "payload_too_large");
    // Exactly 1,000 octets are read, and are no JSON.
    server.send("POST", "/api/v1/nodes", &headers, &[b' '; 1_000]).fails(400, "invalid_request");
    let mut stream = std::net::TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /api/v1/nodes HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", " ".repeat(1_001));
    stream.write_all((head + &chunk).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
}

#[test]
fn every_answer_tells_the_rate_limit_and_the_one_too_many_tells_when_to_come_back() {
    let server = Server::start_with(|config| config.api.rate_limit.requests_per_minute = 3);
    for left in ["2", "1", "0"] {
        let reply = server.get("/api/v1/nodes");
        assert_eq!((reply.succeeds(200).header("x-ratelimit-limit"), reply.header("x-ratelimit-remaining")), (Some("3"), Some(left)));
        // The window began at START, a whole second.
        assert_eq!(reply.header("x-ratelimit-reset"), Some("1795176060"));
    }
    server.clock.advance(20_000);
    let reply = server.get("/api/v1/nodes");
    assert_eq!(reply.fails(429, "rate_limited").header("retry-after"), Some("40"));
    assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"));
    let other = server.token(Role::Readonly);
    server.call(&other, "GET", "/api/v1/nodes", &Value::Null).succeeds(200);
    server.clock.advance(40_000);
    server.get("/api/v1/nodes").succeeds(200);
    server.sql("UPDATE workspaces SET rate_limit = 7");
    assert_eq!(server.get("/api/v1/nodes").header("x-ratelimit-limit"), Some("7"));
}

#[test]
fn the_default_limits_are_those_of_the_contract_and_zero_turns_one_off() {
    let server = Server::start();
    assert_eq!(server.get("/api/v1/nodes").header("x-ratelimit-limit"), Some("1000"));
    assert_eq!(server.send("GET", "/api/v1/nodes", &[], b"").header("x-ratelimit-limit"), Some("100"));
    assert!(server.get("/api/v1/nothing").header("x-ratelimit-reset").is_some());
    let server = Server::start_with(|config| config.api.rate_limit.requests_per_minute = 0);
    assert_eq!(server.get("/api/v1/nodes").header("x-ratelimit-limit"), None);
}

#[test]
fn an_address_that_guesses_is_slowed_down_and_tokens_from_it_still_work() {
    let server = Server::start_with(|config| config.api.rate_limit.failed_authentications_per_minute = 2);
    for _ in 0..2 {
        server.send("GET", "/api/v1/nodes", &[], b"").fails(401, "unauthorized");
    }
    let reply = server.send("GET", "/api/v1/nodes", &[], b"");
    assert_eq!(reply.fails(429, "rate_limited").header("retry-after"), Some("60"));
    server.get("/api/v1/nodes").succeeds(200);
    assert_eq!(server.send("GET", "/api/health", &[], b"").status, 200);
}

#[test]
fn the_same_idempotency_key_gets_the_first_answer_again_for_a_day() {
    let server = Server::start();
    let authorization = bearer(&server);
    let post = |path: &str, key: &str, body: &Value| {
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
        server.send("POST", path, &headers, body.to_string().as_bytes())
    };
    let body = json!({ "name": "a", "ip": "203.0.113.1" });
    let first = post("/api/v1/nodes", "k1", &body);
    first.succeeds(201);
    let second = post("/api/v1/nodes", "k1", &body);
    assert_eq!((second.succeeds(201).text.as_str(), second.header("idempotent-replayed")), (first.text.as_str(), Some("true")));
    assert_eq!(first.header("idempotent-replayed"), None);
    post("/api/v1/nodes", "k1", &json!({ "name": "b", "ip": "203.0.113.1" })).fails(409, "idempotency_conflict");
    post("/api/deploy", "k1", &body).fails(409, "idempotency_conflict");
    // A failure is an answer as well.
    post("/api/v1/nodes", "k2", &body).fails(409, "duplicate_resource");
    post("/api/v1/nodes", "k2", &body).fails(409, "duplicate_resource");
    post("/api/v1/nodes", &"k".repeat(256), &body).fails(400, "invalid_parameter");
    // Another token's keys are its own.
    let other = format!("Bearer {}", server.token(Role::Operator));
    let headers = [("authorization", other.as_str()), ("content-type", "application/json"), ("idempotency-key", "k1")];
    server.send("POST", "/api/v1/nodes", &headers, json!({ "name": "c", "ip": "203.0.113.1" }).to_string().as_bytes()).succeeds(201);
    server.clock.advance(24 * 60 * 60 * 1_000);
    post("/api/v1/nodes", "k1", &body).fails(409, "duplicate_resource");
}

#[test]
fn two_requests_with_one_key_at_once_make_one_node() {
    let server = Server::start();
    let authorization = bearer(&server);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json"), ("idempotency-key", "k")];
    let body = json!({ "name": "a", "ip": "203.0.113.1" }).to_string();
    let replies: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| server.send("POST", "/api/v1/nodes", &headers, body.as_bytes()).status)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(replies, [201; 8]);
    assert_eq!(server.count("SELECT count(*) FROM nodes"), 1);
}

#[test]
fn health_names_what_is_down_and_recovers() {
    let server = Server::start();
    let reply = server.send("GET", "/api/health", &[], b"");
    assert_eq!((reply.status, reply.text.as_str()), (200, "{\"status\":\"ok\"}"));
    server.app.live.expect_shards(1, START);
    server.clock.advance(5_001);
    let reply = server.send("GET", "/api/health", &[], b"");
    assert_eq!((reply.status, &reply.json), (503, &json!({ "status": "degraded", "failing": ["collector"] })));
    assert_eq!(server.get("/api/v1/status").json["overall"], "degraded");
    server.app.live.expect_shards(1, server.clock.now());
    assert_eq!(server.send("GET", "/api/health", &[], b"").status, 200);
}

#[test]
fn the_state_outlives_a_restart() {
    let folder = Folder::new();
    let clock = Clock::standing(START);
    let (uuid, token) = {
        let server = Server::start_in(&folder.0, clock.clone(), |_| {});
        let reply = server.post("/api/v1/nodes", &json!({ "name": "a", "ip": "2001:db8::1" }));
        server.post("/api/v1/mitigation/freeze", &json!({ "frozen": true })).succeeds(200);
        (reply.json["node"]["uuid"].as_str().unwrap().to_owned(), server.owner.clone())
    };
    let server = Server::start_in(&folder.0, clock, |_| {});
    let reply = server.call(&token, "GET", &format!("/api/v1/nodes/{uuid}"), &Value::Null);
    assert_eq!(reply.succeeds(200).json["node"]["ip"], "2001:db8::1");
    let freeze = server.get("/api/v1/mitigation/freeze");
    assert_eq!((&freeze.json["frozen"], &freeze.json["changed_by"]), (&json!(true), &json!("test owner")));
}
