//! The OpenAPI document against the code: every route and field, and every answer of every test.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use api::auth::Access;
use api::routes;
use schemas::time::Timestamp;

use crate::harness::Server;
use crate::incidents::incident;

pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

/// Asserts that an answer is documented: its path, method and status, and its body field by field.
#[track_caller]
pub(crate) fn documents(method: &str, path: &str, status: u16, body: &Value) {
    let path = path.split('?').next().unwrap();
    let fits = |template: &str| {
        let (own, other): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        own.len() == other.len() && own.iter().zip(&other).all(|(own, other)| own.starts_with('{') || own == other)
    };
    // A literal path goes before one with a parameter, as in the router.
    let templates: Vec<&String> = DOCUMENT["paths"].as_object().unwrap().keys().filter(|template| fits(template)).collect();
    let Some(template) = templates.iter().min_by_key(|template| template.matches('{').count()) else { return };
    let operation = &DOCUMENT["paths"][template.as_str()][method.to_lowercase()];
    if operation.is_null() || status == 405 {
        return;
    }
    let response = resolve(&operation["responses"][status.to_string()]);
    assert!(!response.is_null(), "{method} {template} does not document {status}: {body}");
    match response.get("content") {
        Some(content) => conforms(&content["application/json"]["schema"], body, &format!("{method} {template} {status}")),
        None => assert_eq!(*body, Value::Null),
    }
}

fn resolve(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// The part of JSON Schema that the document uses.
#[track_caller]
fn conforms(schema: &'static Value, value: &Value, at: &str) {
    let schema = resolve(schema);
    if let Some(constant) = schema.get("const") {
        return assert_eq!(value, constant, "{at}");
    }
    if schema.get("oneOf").is_some() {
        if !value.is_null() {
            conforms(&schema["oneOf"][0], value, at);
        }
        return;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().map(|name| name.as_str().unwrap()).collect(),
        name => vec![name.as_str().unwrap_or_else(|| panic!("{at}: no type in {schema}"))],
    };
    let own = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
    };
    assert!(types.contains(&own) || own == "integer" && types.contains(&"number"), "{at}: {value} is not {types:?}");
    if let Some(words) = schema.get("enum") {
        assert!(words.as_array().unwrap().contains(value), "{at}: {value} is not one of {words}");
    }
    if let Value::Array(values) = value {
        values.iter().enumerate().for_each(|(index, value)| conforms(&schema["items"], value, &format!("{at}[{index}]")));
    }
    let (Value::Object(fields), Some(properties)) = (value, schema.get("properties")) else { return };
    for (name, value) in fields {
        let property = properties.get(name).unwrap_or_else(|| panic!("{at}: {name} is not documented"));
        conforms(property, value, &format!("{at}.{name}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(fields.contains_key(name.as_str().unwrap()), "{at}: {name} is missing");
    }
}

#[test]
fn every_route_is_documented_and_every_documented_route_is_there() {
    let served: BTreeSet<(String, String, &str)> = routes::all()
        .map(|route| {
            let role = match route.access {
                Access::Public => "public",
                Access::Deploy => "deploy",
                Access::Least(role) => role.name(),
            };
            (route.path.to_owned(), route.method_name().to_lowercase(), role)
        })
        .collect();
    let mut documented = BTreeSet::new();
    for (path, operations) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            documented.insert((path.clone(), method.clone(), operation["x-role"].as_str().unwrap()));
        }
    }
    assert_eq!(served, documented);
}

#[test]
fn the_document_is_served_to_anybody() {
    let server = Server::start();
    let reply = server.send("GET", "/api/openapi.json", &[], b"");
    assert_eq!((reply.status, &reply.json["openapi"]), (200, &Value::from("3.1.0")));
    assert_eq!(reply.json, *DOCUMENT);
}

fn properties(schema: &str) -> BTreeSet<String> {
    DOCUMENT["components"]["schemas"][schema]["properties"].as_object().unwrap().keys().cloned().collect()
}

fn fields(value: Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn incidents_rules_and_ledgers_are_documented_field_by_field() {
    let incident = serde_json::to_value(incident("203.0.113.7", Timestamp(0))).unwrap();
    assert_eq!(fields(incident), properties("Incident"));
    let rule = schemas::rule::Rule {
        uuid: uuid::Uuid::nil(),
        target: "203.0.113.7".parse().unwrap(),
        intent_type: schemas::rule::IntentType::Blackhole,
        adapter_id: String::new(),
        incident_uuid: None,
        owner: schemas::rule::RuleOwner::Manual,
        reason: String::new(),
        ttl: 0,
        state: schemas::rule::RuleState::Pending,
        error: None,
        created_at: Timestamp(0),
        confirmed_at: None,
        withdrawn_at: None,
    };
    assert_eq!(fields(serde_json::to_value(rule).unwrap()), properties("Rule"));
    let ledger = serde_json::to_value(schemas::ledger::Ledger::default()).unwrap();
    assert_eq!(fields(ledger), properties("Ledger"));
    let kinds: Vec<&str> = schemas::alarm::AlarmKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(DOCUMENT["components"]["schemas"]["Alarm"]["properties"]["kind"]["enum"], serde_json::json!(kinds));
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn walk(value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    assert!(DOCUMENT.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                }
                fields.values().for_each(walk);
            }
            Value::Array(values) => values.iter().for_each(walk),
            _ => {}
        }
    }
    walk(&DOCUMENT);
}
