//! Analytics as far as they go without an engine: parameters and their faults, the store's absence, incidents of a range.

use schemas::time::Timestamp;

use crate::harness::{START, Server};
use crate::incidents::{incident, save};

const DAY: u64 = 86_400_000;

fn encoded(text: &str) -> String {
    text.bytes().map(|octet| if octet.is_ascii_alphanumeric() { char::from(octet).to_string() } else { format!("%{octet:02X}") }).collect()
}

#[test]
fn without_an_engine_charts_rankings_and_flows_are_unavailable_and_say_why() {
    let server = Server::start();
    for path in ["traffic", "top", "flows", "flows?format=csv", "flows?format=parquet", "traffic?group_by=src_as,protocol&step=1m&top=5"] {
        let reply = server.get(&format!("/api/v1/analytics/{path}"));
        reply.fails(503, "unavailable");
        assert!(reply.message().starts_with("the store is away: "), "{}", reply.text);
        assert_eq!(reply.header("retry-after"), Some("5"), "{path}");
    }
}

#[test]
fn every_bad_parameter_is_named() {
    let server = Server::start();
    for (path, field) in [
        ("traffic?from=yesterday", "from"),
        ("traffic?from=now&to=now-1h", "from"),
        ("traffic?to=2200-01-01T00:00:00Z", "to"),
        ("traffic?step=0", "step"),
        ("traffic?from=now-30d&step=1s", "step"),
        ("traffic?metric=octets", "metric"),
        ("traffic?group_by=src_az", "group_by"),
        ("traffic?group_by=src_as,src_as", "group_by"),
        ("traffic?group_by=octets", "group_by"),
        ("traffic?group_by=src_as,dst_as,src_port,dst_port,protocol,exporter,in_if", "group_by"),
        ("traffic?top=101", "top"),
        ("traffic?filter=src_port", "filter"),
        ("top?metric=bps", "metric"),
        ("top?limit=1001", "limit"),
        ("top?filter=1%3D1", "filter"),
        ("flows?limit=1001", "limit"),
        ("flows?offset=-1", "offset"),
        ("flows?format=xml", "format"),
        ("summary?range=8d", "range"),
    ] {
        let reply = server.get(&format!("/api/v1/analytics/{path}"));
        reply.fails(400, "invalid_parameter");
        assert_eq!(reply.json["error"]["details"][0]["field"], field, "{path}: {}", reply.text);
    }
    let reply = server.get("/api/v1/analytics/top?group_by=src_sa&limit=0");
    assert_eq!(reply.json["error"]["details"].as_array().unwrap().len(), 2, "every fault is named, not the first alone");
    assert!(reply.message().contains("there is no src_sa, did you mean src_as?"), "{}", reply.text);
}

#[test]
fn a_fault_of_a_filter_has_its_place_and_a_picture_in_the_details() {
    let server = Server::start();
    let reply = server.get(&format!("/api/v1/analytics/top?filter={}", encoded("protocol = udp and scr_port = 53")));
    reply.fails(400, "invalid_parameter");
    assert!(reply.message().starts_with("Invalid parameter: filter: line 1, column 20: there is no word scr_port, did you mean src_port?"));
    assert!(!reply.message().contains('\n'), "the message is one line");
    let details = reply.json["error"]["details"][0]["message"].as_str().unwrap();
    assert!(details.ends_with("protocol = udp and scr_port = 53\n                   ^^^^^^^^"), "{details}");
}

#[test]
fn hostile_filters_end_at_a_bound() {
    let server = Server::start_with(|config| config.api.rate_limit.requests_per_minute = 0);
    let list = format!("src_port in (1{})", ",1".repeat(1_100));
    let terms = format!("src_as=1{}", " or src_as=1".repeat(200));
    for (filter, key) in [
        ("(".repeat(100), "filter_depth_max"),
        ("not ".repeat(100), "filter_depth_max"),
        (list, "filter_values_max"),
        (terms, "filter_terms_max"),
        ("x".repeat(9_000), "filter_octets_max"),
    ] {
        let reply = server.get(&format!("/api/v1/analytics/top?filter={}", encoded(&filter)));
        reply.fails(400, "invalid_parameter");
        assert!(reply.message().contains(&format!("api.query.{key}")), "{}", reply.text);
    }
    for text in [
        "'; DROP TABLE flows --",
        "\u{0}",
        "\u{202e}\u{1f4a5}",
        "src_site = '\u{0}' and",
        "protocol = udp; SELECT 1",
        "{p0:String}",
        "src_as = ?",
        "/**/",
    ] {
        server.get(&format!("/api/v1/analytics/flows?filter={}", encoded(text))).fails(400, "invalid_parameter");
    }
}

#[test]
fn a_summary_counts_incidents_even_while_the_store_is_away() {
    let server = Server::start();
    let at = |days: u64| Timestamp(START.milliseconds() - days * DAY);
    let mut old = incident("203.0.113.1", at(8));
    save(&server, &old);
    for (days, mitigated) in [(0, Some(2_400)), (1, Some(1_400)), (6, None)] {
        let mut one = incident("203.0.113.7", at(days));
        // Seen after 0.4 s, a rule 2 s and 1 s behind that.
        one.mitigated_at = mitigated.map(|late| at(days).plus(late));
        save(&server, &one);
    }
    let reply = server.get("/api/v1/analytics/summary?range=7d");
    reply.succeeds(200);
    let json = &reply.json;
    assert_eq!(json["from"], "2026-11-14T00:00:00.000Z");
    assert_eq!((&json["incidents"]["total"], &json["incidents"]["active"]), (&3.into(), &3.into()));
    let days = json["incidents"]["by_day"].as_array().unwrap();
    assert_eq!((days.len(), &days[0]["count"], &days[1]["count"], &days[6]["count"]), (7, &1.into(), &0.into(), &1.into()));
    assert_eq!(json["incidents"]["by_family"][0], serde_json::json!({ "family": "udp_flood", "count": 3 }));
    assert_eq!(json["incidents"]["by_target"][0], serde_json::json!({ "target": "203.0.113.7", "count": 3 }));
    assert_eq!(json["time_to_detect_seconds"], serde_json::json!({ "p50": 0.4, "p95": 0.4 }));
    assert_eq!(json["time_to_mitigate_seconds"], serde_json::json!({ "p50": 1.0, "p95": 2.0 }));
    assert_eq!(json["mitigated_share"], 0.6667);
    assert!(json["traffic"].is_null() && json["top_asns"].is_null());
    assert_eq!(json["store"]["available"], false);
    assert!(json["store"]["reason"].as_str().unwrap().starts_with("the store is away"));
    old.started_at = at(0);
    assert_eq!(server.get("/api/v1/analytics/summary?range=30d").json["incidents"]["total"], 4);
}
