//! Bills: what can be asked, and what is answered while there is no store.

use crate::harness::Server;

const PATH: &str = "/api/v1/analytics/billing";

#[test]
fn every_parameter_at_fault_is_named() {
    let server = Server::start();
    for (query, message) in [
        ("month=2026-13", "month: must be a month like 2026-11"),
        ("timezone=Nowhere%2FElse", "timezone: no time zone of that name is known here; one is Europe/Berlin"),
        ("by=node", "by: must be one of customer, interface"),
        ("percentile=101", "percentile: must be above 0 and at most 100, with two decimals at most"),
        ("missing=1", "missing: must be one of zero, skip"),
        ("format=xml", "format: must be one of json, csv"),
        ("limit=10001", "limit: must be a whole number from 1 to 10000"),
    ] {
        let reply = server.get(&format!("{PATH}?{query}"));
        assert_eq!(reply.fails(400, "invalid_parameter").message(), format!("Invalid parameter: {message}"));
    }
}

#[test]
fn without_a_store_bills_are_to_be_asked_for_again() {
    let server = Server::start();
    let reply = server.get(PATH);
    assert!(reply.fails(503, "unavailable").header("retry-after").is_some());
    assert_eq!(reply.message(), "the store is away: there is no engine here");
}
