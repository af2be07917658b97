//! The roles matrix, from the route table itself.

use serde_json::{Value, json};

use api::auth::{Access, Role};
use api::routes;

use crate::harness::Server;

/// Who may call what, by the contract: the table in the code is held against it, not against itself.
const LEAST: &[(&str, &str, Access)] = &[
    ("GET", "/api/health", Access::Public),
    ("GET", "/api/openapi.json", Access::Public),
    ("POST", "/api/deploy", Access::Deploy),
    ("GET", "/api/v1/status", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/nodes", Access::Least(Role::Readonly)),
    ("POST", "/api/v1/nodes", Access::Least(Role::Operator)),
    ("GET", "/api/v1/nodes/{uuid}", Access::Least(Role::Readonly)),
    ("PATCH", "/api/v1/nodes/{uuid}", Access::Least(Role::Operator)),
    ("DELETE", "/api/v1/nodes/{uuid}", Access::Least(Role::Operator)),
    ("GET", "/api/v1/incidents", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/incidents/{uuid}", Access::Least(Role::Readonly)),
    ("PATCH", "/api/v1/incidents/{uuid}", Access::Least(Role::Analyst)),
    ("GET", "/api/v1/exporters", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/exporters/{id}", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/exporters/{id}/interfaces", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/analytics/traffic", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/analytics/top", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/analytics/flows", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/analytics/summary", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/analytics/billing", Access::Least(Role::Readonly)),
    ("GET", "/api/v1/mitigation/rules", Access::Least(Role::Readonly)),
    ("POST", "/api/v1/mitigation/rules", Access::Least(Role::Operator)),
    ("GET", "/api/v1/mitigation/rules/history", Access::Least(Role::Readonly)),
    ("DELETE", "/api/v1/mitigation/rules/{id}", Access::Least(Role::Operator)),
    ("GET", "/api/v1/mitigation/freeze", Access::Least(Role::Readonly)),
    ("POST", "/api/v1/mitigation/freeze", Access::Least(Role::Operator)),
    ("GET", "/api/v1/allowlist", Access::Least(Role::Readonly)),
    ("POST", "/api/v1/allowlist", Access::Least(Role::Operator)),
    ("DELETE", "/api/v1/allowlist/{id}", Access::Least(Role::Operator)),
    ("GET", "/api/v1/maintenance", Access::Least(Role::Readonly)),
    ("POST", "/api/v1/maintenance", Access::Least(Role::Operator)),
    ("GET", "/api/v1/maintenance/{id}", Access::Least(Role::Readonly)),
    ("PATCH", "/api/v1/maintenance/{id}", Access::Least(Role::Operator)),
    ("DELETE", "/api/v1/maintenance/{id}", Access::Least(Role::Operator)),
    ("GET", "/api/v1/tokens", Access::Least(Role::Owner)),
    ("POST", "/api/v1/tokens", Access::Least(Role::Owner)),
    ("DELETE", "/api/v1/tokens/{id}", Access::Least(Role::Owner)),
];

#[test]
fn the_table_is_the_contracts() {
    let mut served: Vec<_> = routes::all().map(|route| (route.method_name(), route.path)).collect();
    let mut agreed: Vec<_> = LEAST.iter().map(|(method, path, _)| (*method, *path)).collect();
    served.sort_unstable();
    agreed.sort_unstable();
    assert_eq!(served, agreed);
    for route in routes::all() {
        let (_, _, access) = LEAST.iter().find(|(method, path, _)| (*method, *path) == (route.method_name(), route.path)).unwrap();
        assert_eq!(route.access, *access, "{} {}", route.method_name(), route.path);
    }
}

#[test]
fn every_role_is_let_in_or_refused_as_the_table_says() {
    let server = Server::start_with(|config| config.api.rate_limit.requests_per_minute = 0);
    for (method, path, access) in LEAST {
        // A resource that is not there: who is let in gets another answer than 401 or 403, and nothing is changed.
        let path = path.replace("{uuid}", "00000000-0000-0000-0000-000000000000").replace("{id}", "00000000-0000-0000-0000-000000000000");
        let body = if matches!(*method, "POST" | "PATCH") { json!({ "unknown": 1 }) } else { Value::Null };
        for role in Role::ALL {
            let token = server.token(*role);
            let reply = server.call(&token, method, &path, &body);
            if access.allows(*role) {
                assert!(!matches!(reply.status, 401 | 403 | 405), "{method} {path} as {}: {}", role.name(), reply.text);
            } else {
                reply.fails(403, "permission_denied");
            }
        }
        let reply = server.send(method, &path, &[("content-type", "application/json")], body.to_string().as_bytes());
        assert_eq!(reply.status == 401, *access != Access::Public, "{method} {path}: {}", reply.text);
    }
}
