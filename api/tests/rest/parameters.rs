//! Query parameters: those that a route does not know, and those that it is given twice, are refused before anything is done.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use api::routes;

use crate::document::DOCUMENT;
use crate::harness::Server;

/// The path with a resource in it that is not there.
fn filled(path: &str) -> String {
    path.replace("{uuid}", "00000000-0000-0000-0000-000000000000").replace("{id}", "00000000-0000-0000-0000-000000000000")
}

#[test]
fn every_route_knows_the_parameters_that_are_documented() {
    for route in routes::all() {
        let operation = &DOCUMENT["paths"][route.path][route.method_name().to_lowercase()];
        let documented: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(documented, route.parameters.iter().copied().collect(), "{} {}", route.method_name(), route.path);
    }
}

#[test]
fn every_route_refuses_a_parameter_that_it_does_not_know() {
    let server = Server::start_with(|config| config.api.rate_limit.requests_per_minute = 0);
    for route in routes::all() {
        let (method, path) = (route.method_name(), filled(route.path));
        let body = if matches!(method, "POST" | "PATCH") { json!({ "unknown": 1 }) } else { Value::Null };
        let reply = server.call(&server.owner, method, &format!("{path}?nonsense=1"), &body);
        let message = reply.fails(400, "invalid_parameter").message();
        let expected = match route.parameters {
            [] => "Invalid parameter: nonsense: there is no such parameter: this path takes none".to_owned(),
            known => format!("Invalid parameter: nonsense: there is no such parameter; the parameters are {}", known.join(", ")),
        };
        assert_eq!(message, expected, "{method} {path}");
        for name in route.parameters {
            let reply = server.call(&server.owner, method, &format!("{path}?{name}=1&{name}=1"), &body);
            assert_eq!(reply.fails(400, "invalid_parameter").message(), format!("Invalid parameter: {name}: is given more than once"));
            // Whoever asks for a parameter finds it among those of the route: none of them ends as a fault of ours.
            assert_ne!(server.call(&server.owner, method, &format!("{path}?{name}="), &body).status, 500, "{path}?{name}=");
        }
    }
}

#[test]
fn a_mistyped_filter_is_told_and_changes_nothing() {
    let server = Server::start();
    let reply = server.get("/api/v1/analytics/top?group_by=protocol&fliter=protocol%20%3D%20udp&Limit=5");
    let details = reply.fails(400, "invalid_parameter").json["error"]["details"].clone();
    let told = |index: usize| details[index]["message"].as_str().unwrap();
    assert_eq!((&details[0]["field"], &details[1]["field"], details.as_array().unwrap().len()), (&json!("fliter"), &json!("Limit"), 2));
    assert!(told(0).starts_with("there is no such parameter, did you mean filter?; the parameters are from, to,"), "{details}");
    assert!(told(1).contains("did you mean limit?"), "{details}");
    // A write is refused before it is done.
    let node = json!({ "name": "a", "ip": "203.0.113.1" });
    server.call(&server.owner, "POST", "/api/v1/nodes?dry_run=true", &node).fails(400, "invalid_parameter");
    assert_eq!(server.count("SELECT count(*) FROM nodes"), 0);
    // A token comes first, and a page of nonsense is a short answer.
    server.send("GET", "/api/v1/nodes?nonsense=1", &[], b"").fails(401, "unauthorized");
    let many: Vec<String> = (0..1_000).map(|number| format!("p{number}=1")).collect();
    let reply = server.get(&format!("/api/v1/nodes?{}", many.join("&")));
    assert_eq!(reply.fails(400, "invalid_parameter").json["error"]["details"].as_array().unwrap().len(), 10);
    let long = server.get(&format!("/api/v1/nodes?{}%0A=1", "x".repeat(1_000)));
    assert_eq!(long.fails(400, "invalid_parameter").json["error"]["details"][0]["field"], format!("{}…", "x".repeat(40)));
}
