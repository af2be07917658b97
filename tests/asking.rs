//! What becomes of questions that take long: too many at once, clients that go away or read nothing, answers that break off.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use api::config::Config;
use collector::store::schema::Schema;

use tests::engine::Alone;
use tests::process::wait_until;
use tests::rest::Rest;

const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-11-20T12:00:00Z; every flow is of the hour that begins then.
const SECOND: u64 = 1_795_176_000;
const HOUR: &str = "from=2026-11-20T12:00:00Z&to=2026-11-20T13:00:00Z";

/// An engine whose `flows` do not end, and fail at one of them.
struct Store {
    engine: Alone,
}

impl Store {
    fn start(fails_at: Option<u64>) -> Self {
        let engine = Alone::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let schema = Schema::new(&collector::store::config::Config::default(), "weir").unwrap();
        runtime.block_on(schema.prepare(&engine.link().client().unwrap())).unwrap();
        let store = Self { engine };
        store.make_endless("flows", fails_at);
        store
    }

    /// Puts rows without an end in the place of a table.
    fn make_endless(&self, table: &str, fails_at: Option<u64>) {
        let columns = self.engine.query(&format!(
            "SELECT name, replaceAll(type, '\\'', '\\\\\\'') FROM system.columns WHERE database = 'weir' AND table = '{table}' FORMAT TSVRaw"
        ));
        let failure = fails_at.map_or("0".to_owned(), |number| format!("throwIf(number = {number}, 'in the middle')"));
        let shown: Vec<String> = columns
            .lines()
            .map(|line| match line.split_once('\t').unwrap() {
                ("time", _) => format!("toDateTime({SECOND} + number % 3600 + {failure}, 'UTC') AS time"),
                (name, kind) => format!("defaultValueOfTypeName('{kind}') AS {name}"),
            })
            .collect();
        self.engine.query(&format!("RENAME TABLE {table} TO {table}_of_before"));
        self.engine.query(&format!("CREATE VIEW {table} AS SELECT {} FROM numbers(1000000000000000)", shown.join(", ")));
    }

    fn rest(&self, change: impl FnOnce(&mut Config)) -> Rest {
        Rest::start(&self.engine.link(), |config| {
            (config.api.query.rows_read_max, config.api.query.export_rows_max) = (u64::MAX >> 1, 100_000_000);
            config.api.query.wait_milliseconds_max = 50;
            change(config);
        })
    }

    /// Statements on `flows` that run now.
    fn running(&self) -> String {
        self.engine.query("SELECT count() FROM system.processes WHERE query LIKE '%FROM flows%' AND query NOT LIKE '%processes%'")
    }
}

/// What comes until there are so many octets, or no more.
fn read(stream: &mut TcpStream, octets_max: u64) -> String {
    let mut text = Vec::new();
    drop(stream.take(octets_max).read_to_end(&mut text));
    String::from_utf8(text).unwrap()
}

#[test]
fn a_client_that_goes_away_ends_its_query() {
    let store = Store::start(None);
    let rest = store.rest(|_| {});
    // A page, whose answer has not begun, and a file in the middle.
    for format in ["json", "csv"] {
        let mut client = rest.connect(&format!("flows?{HOUR}&format={format}"));
        if format == "csv" {
            assert!(read(&mut client, 20).starts_with("HTTP/1.1 200"));
        }
        wait_until("the query", PATIENCE, || store.running() == "1");
        drop(client);
        wait_until("the end of the query", PATIENCE, || store.running() == "0");
    }
}

#[test]
fn one_question_too_many_is_told_to_come_again() {
    let store = Store::start(None);
    let rest = store.rest(|config| config.api.query.concurrent_max = 1);
    let first = rest.connect(&format!("flows?{HOUR}"));
    wait_until("the first question", PATIENCE, || store.running() == "1");
    let (status, headers, said) = rest.ask("billing", &[]);
    let said = String::from_utf8(said).unwrap();
    assert!(status == 503 && said.contains("1 queries run already (api.query.concurrent_max)"), "{status}: {said}");
    assert!(headers.contains("\"retry-after\": \"5\""), "{headers}");
    drop(first);
    wait_until("a place", PATIENCE, || rest.ask("billing", &[]).0 == 200);
}

#[test]
fn files_have_places_of_their_own_and_who_reads_nothing_loses_his() {
    let store = Store::start(None);
    let rest = store.rest(|config| {
        (config.api.write_seconds_max, config.api.query.export_concurrent_max, config.api.query.concurrent_max) = (1, 1, 1);
    });
    let csv = format!("flows?{HOUR}&format=csv");
    let mut first = rest.connect(&csv);
    assert!(read(&mut first, 20).starts_with("HTTP/1.1 200"));
    let refused = read(&mut rest.connect(&csv), 2_000);
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("1 exports run already (api.query.export_concurrent_max)"),
        "{refused}"
    );
    assert_eq!(rest.ask("billing", &[]).0, 200, "a question has its own place");
    // The first reads no further: its place becomes free, and its query ends.
    wait_until("a place", PATIENCE, || read(&mut rest.connect(&csv), 20).starts_with("HTTP/1.1 200"));
    wait_until("the end of the queries", PATIENCE, || store.running() == "0");
    let rest_of_it = read(&mut first, u64::MAX);
    assert!(!rest_of_it.ends_with("\r\n0\r\n\r\n"), "a file that was broken off does not look whole");
}

#[test]
fn a_file_that_breaks_off_is_no_whole_file() {
    let store = Store::start(Some(300_000));
    let rest = store.rest(|_| {});
    let told = read(&mut rest.connect(&format!("flows?{HOUR}&format=csv")), u64::MAX);
    assert!(told.starts_with("HTTP/1.1 200") && told.len() > 10_000_000, "{}", told.len());
    assert!(!told.ends_with("0\r\n\r\n") && !told.contains("exception") && !told.contains("in the middle"));
    // What is made as a whole is refused as a whole.
    let told = read(&mut rest.connect(&format!("flows?{HOUR}&format=parquet&limit=400000")), 12);
    assert_eq!(told, "HTTP/1.1 500");
}

#[test]
fn bills_that_take_too_long_end_at_their_limit() {
    let store = Store::start(None);
    store.make_endless("traffic_1m", None);
    let rest = store.rest(|config| config.api.query.billing_seconds_max = 1);
    let (status, _, said) = rest.ask("billing", &[]);
    let said = String::from_utf8(said).unwrap();
    assert!(status == 422 && said.contains("api.query.billing_seconds_max = 1"), "{status}: {said}");
}
