//! The store that flows are kept in under test: the embedded engine, or the server that `WEIR_TEST_CLICKHOUSE_URL` names.

use collector::store::config::Embedded;
use collector::store::link::Endpoint;

use crate::engine::Alone;
use crate::isolation::folder;

/// Our database on a server that is named.
pub const DATABASE: &str = "weir_tests";

/// The server that is named.
#[must_use]
pub fn url() -> Option<String> {
    std::env::var("WEIR_TEST_CLICKHOUSE_URL").ok()
}

/// The configuration of the embedded engine with what is said of the spool, or the server that is named.
#[must_use]
pub fn kept(spool: &str) -> String {
    match url() {
        Some(url) => kept_at(&url, spool),
        None => configuration("engine = \"embedded\"\n", spool),
    }
}

/// Leaves nothing of ours on a server.
///
/// # Panics
///
/// If it refuses.
pub fn clear(url: &str) {
    let _ = ask_at(url, "system", &format!("DROP DATABASE IF EXISTS {DATABASE}"));
}

/// The same with the server at `url`.
///
/// # Panics
///
/// If that is no URL.
#[must_use]
pub fn kept_at(url: &str, spool: &str) -> String {
    let (url, user, password) = named(url);
    let server = format!("url = \"{url}\"\nuser = \"{user}\"\npassword = \"{password}\"\ndatabase = \"{DATABASE}\"\n");
    configuration(&format!("engine = \"clickhouse\"\n[collector.store.clickhouse]\n{server}"), spool)
}

/// Half of the default's wait for a block: a shard has parcels for four seconds in which the store may stand still, as on a busy disk.
fn configuration(engine: &str, spool: &str) -> String {
    format!("networks = [\"203.0.113.0/24\"]\n[collector.store]\nwait_milliseconds_max = 1000\n{engine}[collector.store.spool]\n{spool}\n")
}

/// Address, user and password of `http://user:password@host:port`.
fn named(url: &str) -> (String, String, String) {
    let (scheme, rest) = url.split_once("://").expect("http://… or https://…");
    let (who, host) = rest.trim_end_matches('/').rsplit_once('@').unwrap_or(("default", rest.trim_end_matches('/')));
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    (format!("{scheme}://{host}"), user.to_owned(), password.to_owned())
}

/// Asks the engine of a server that has ended, or the server that is named.
///
/// # Panics
///
/// If it does not answer.
#[must_use]
pub fn ask(statements: &[&str]) -> Vec<String> {
    if let Some(url) = url() {
        return statements.iter().map(|statement| ask_at(&url, DATABASE, statement)).collect();
    }
    let engine = Alone::start_in(&folder().join("weir-data"), &Embedded::default());
    engine.wait_until_up();
    let answers = statements.iter().map(|statement| engine.query(statement)).collect();
    let _ = engine.stop();
    answers
}

/// Asks the server at `url`.
///
/// # Panics
///
/// If it refuses.
#[must_use]
pub fn ask_at(url: &str, database: &str, statement: &str) -> String {
    let (url, user, password) = named(url);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let endpoint = Endpoint { url, user, password, database: database.to_owned(), is_remote: true };
    let (status, said) = crate::engine::ask(&agent, &endpoint, &format!("database={database}"), statement);
    assert_eq!(status, 200, "{statement}: {said}");
    said.trim_end().to_owned()
}
