//! The embedded engine: what it answers, and what becomes of it when it is killed, stopped, out of memory or an orphan.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use collector::store::config::Embedded;
use collector::store::engine::install::{self, InstallError, Observer, Package};
use tests::engine::{Alone, ask, library};
use tests::process::wait_until;
use tests::weir::program;

const PATIENCE: Duration = Duration::from_secs(60);
const TABLE: &str = "CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 1000";

/// Rows `from..from + count` of `a` and `s` as one Native block: two columns, each with name, type and values.
fn native(from: u64, count: u64) -> Vec<u8> {
    let mut block = vec![2];
    for octet in [count & 0x7f | 0x80, count >> 7 & 0x7f | 0x80, count >> 14] {
        block.push(u8::try_from(octet).unwrap());
    }
    block.extend(b"\x01a\x06UInt64");
    (from..from + count).for_each(|value| block.extend(value.to_le_bytes()));
    block.extend(b"\x01s\x06String");
    (0..count).for_each(|_| block.extend(b"\x03abc"));
    block
}

fn insert(engine: &Alone, token: &str, rows: &[u8]) -> (u16, String) {
    engine.send(&format!("insert_deduplication_token={token}&query=INSERT+INTO+t+FORMAT+Native"), rows)
}

#[test]
fn a_statement_is_answered_and_the_end_is_clean() {
    let engine = Alone::start();
    assert_eq!(engine.query("SELECT currentDatabase(), 1 + 1"), "weir\t2");
    assert_eq!(engine.stop(), "exit code 0");
}

#[test]
fn what_is_stored_once_is_there_once_and_survives_a_clean_end() {
    let engine = Alone::start();
    let folder = engine.folder().to_path_buf();
    engine.query(TABLE);
    assert_eq!(insert(&engine, "x", &native(0, 100_000)), (200, String::new()));
    // The same block again: the engine knows its token.
    assert_eq!(insert(&engine, "x", &native(0, 100_000)), (200, String::new()));
    // The token of one statement is not that of the next.
    assert_eq!(engine.send("query=INSERT+INTO+t+FORMAT+CSV", b"100000,\"abc\"\n").0, 200);
    let sums = "SELECT count(), sum(a), uniqExact(s) FROM t";
    // 0 + 1 + … + 100,000.
    assert_eq!(engine.query(sums), "100001\t5000050000\t1");
    let kept = folder.with_extension("kept");
    assert_eq!(engine.stop_and_keep(), "exit code 0");
    fs::rename(&folder, &kept).unwrap();
    let engine = Alone::start_in(&kept, &Embedded::default());
    engine.wait_until_up();
    assert_eq!(engine.query(sums), "100001\t5000050000\t1");
}

#[test]
fn parameters_and_settings_hold_for_their_statement_alone() {
    let engine = Alone::start();
    let threads = "SELECT getSetting('max_threads'), getSetting('max_result_rows')";
    assert_eq!(engine.query(threads), "2\t0");
    for _ in 0..10 {
        // Every connection is asked in turn, or in none: whichever it was, it must not remember.
        assert_eq!(engine.ask("max_threads=1&max_result_rows=7", threads), (200, "1\t7\n".to_owned()));
        assert_eq!(engine.query(threads), "2\t0");
    }
    assert_eq!(engine.ask("param_a=it's+%5C%5C+a+%7B", "SELECT {a:String}"), (200, "it\\'s \\\\ a {\n".to_owned()));
    assert_eq!(engine.ask("", "SELECT {a:String}").0, 400);
    let (status, said) = engine.ask("max_result_rows=10", "SELECT number FROM numbers(100000)");
    assert!(said.contains("TOO_MANY_ROWS_OR_BYTES"), "{status}: {said}");
    // A setting that is not there leaves nothing of the others behind.
    assert_eq!(engine.ask("max_threads=1&nosuch=1", threads).0, 404);
    assert_eq!(engine.ask("max_threads=x", threads).0, 400);
    assert_eq!(engine.query(threads), "2\t0");
    let (status, said) = engine.ask("max_execution_time=1", "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1");
    assert!(status == 408 && said.contains("TIMEOUT_EXCEEDED"), "{status}: {said}");
}

#[test]
fn results_of_many_blocks_are_one_document() {
    let engine = Alone::start();
    let rows = "SELECT number AS a, toString(number) AS b FROM numbers(300000)";
    let lines = |format: &str| engine.ask("", &format!("{rows} FORMAT {format}")).1;
    assert_eq!(lines("CSVWithNames").lines().count(), 300_001);
    assert_eq!(lines("CSVWithNames").lines().filter(|line| line.contains('a')).count(), 1);
    assert_eq!(lines("TSVWithNamesAndTypes").lines().count(), 300_002);
    assert_eq!(lines("JSONEachRow").lines().count(), 300_000);
    let json: serde_json::Value = serde_json::from_str(&lines("JSON")).unwrap();
    assert_eq!(json["data"].as_array().unwrap().len(), 300_000);
    assert_eq!(json["rows"], 300_000);
    // RowBinary: a length, the head of 2 columns, and for each row 8 octets, 1 of a length, and the digits.
    let binary = engine.octets("", &format!("{rows} FORMAT RowBinaryWithNamesAndTypes"));
    let digits: usize = (0..300_000_u32).map(|number| number.to_string().len()).sum();
    assert_eq!(binary.len(), 1 + 2 + 2 + 7 + 7 + 300_000 * 9 + digits);
    let none = engine.octets("", "SELECT 1 AS a WHERE 0 FORMAT RowBinaryWithNamesAndTypes");
    assert_eq!(none, b"\x01\x01a\x05UInt8");
    // A Parquet file begins and ends with its mark, and holds it nowhere else at the end of a part: the engine reads it back.
    let parquet = engine.octets("", &format!("{rows} FORMAT Parquet"));
    let file = engine.folder().join("rows.parquet");
    fs::write(&file, parquet).unwrap();
    assert_eq!(engine.query(&format!("SELECT count(), sum(a) FROM file('{}')", file.display())), "300000\t44999850000");
}

#[test]
fn errors_come_as_clickhouse_sends_them() {
    let engine = Alone::start();
    for (statement, status, name) in [
        ("SELECT nope", 404, "UNKNOWN_IDENTIFIER"),
        ("SELEC 1", 400, "SYNTAX_ERROR"),
        ("SELECT * FROM nope", 404, "UNKNOWN_TABLE"),
        ("INSERT INTO nope VALUES (1)", 404, "UNKNOWN_TABLE"),
        ("", 400, "SYNTAX_ERROR"),
    ] {
        let (found, said) = engine.ask("", statement);
        assert!(found == status && said.contains(name), "{statement}: {found}: {said}");
        assert!(said.starts_with("Code: ") && said.contains("DB::Exception: ") && said.ends_with(")\n"), "{said}");
    }
    // In the middle of a result, between marks.
    let (status, said) = engine.ask("", "SELECT throwIf(number = 3000000) FROM numbers(10000000)");
    assert!(status == 200 && said.ends_with("\r\n__exception__\r\n") && said.contains("FUNCTION_THROW_IF"), "{}", said.len());
    engine.query(TABLE);
    // Rows that break off, of a kind that is not there, and for a table that is not there: nothing of them is stored.
    assert_eq!(insert(&engine, "a", &native(0, 1_000)[..5_000]).0, 400);
    assert_eq!(engine.send("query=INSERT+INTO+t+FORMAT+Nope", b"1").0, 404);
    let (status, said) = engine.send("query=INSERT+INTO+nope+FORMAT+Native", &native(0, 1_000_000));
    assert!(status == 404 && said.contains("UNKNOWN_TABLE"), "{said}");
    assert_eq!(engine.send("decompress=1&query=INSERT+INTO+t+FORMAT+Native", b"1").0, 501);
    assert_eq!(engine.query("SELECT count() FROM t"), "0");
}

#[test]
fn nobody_is_answered_without_the_secret() {
    let engine = Alone::start();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let right = engine.link().endpoint().unwrap();
    for (user, password) in [("weir", "wrong"), ("default", right.password.as_str()), ("weir", "")] {
        let mut endpoint = right.clone();
        (endpoint.user, endpoint.password) = (user.to_owned(), password.to_owned());
        let (status, said) = ask(&agent, &endpoint, "", "SELECT 1");
        assert!(status == 403 && said.contains("AUTHENTICATION_FAILED"), "{status}: {said}");
    }
    let said = agent.get(format!("{}/?query=SELECT+1", right.url)).call().unwrap();
    assert_eq!(said.status(), 403);
    let by_address = format!("{}/?user={}&password={}&query=SELECT+1", right.url, right.user, right.password);
    assert_eq!(agent.get(by_address).call().unwrap().status(), 200);
    // A GET changes nothing.
    let by_address = format!("{}/?user={}&password={}&query=DROP+DATABASE+weir", right.url, right.user, right.password);
    assert_eq!(agent.get(by_address).call().unwrap().status(), 400);
}

/// Whoever is on the machine can connect: who says nothing is sent away before the supervisor takes the engine for dead.
#[test]
fn strangers_who_hold_every_connection_do_not_bring_the_engine_down() {
    let engine = Alone::start();
    let (child, address) = (engine.child(), engine.link().endpoint().unwrap().url.replace("http://", ""));
    let strangers: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // All are let go: those over the bound at once, those within it when they have said nothing for a while.
    for mut stranger in strangers {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = String::new();
        drop(stranger.read_to_string(&mut said));
        assert!(!said.contains("200 OK"), "{said}");
    }
    engine.wait_until_up();
    assert_eq!((engine.query("SELECT 1"), engine.child()), ("1".to_owned(), child));
    assert_eq!(engine.metric("weir_collector_engine_hangs_total"), 0);
}

#[test]
fn a_query_whose_client_has_gone_is_cancelled() {
    let engine = Alone::start();
    let endpoint = engine.link().endpoint().unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_millis(500))).build().into();
    let long = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1";
    let request = agent.post(format!("{}/", endpoint.url)).header("X-ClickHouse-User", &endpoint.user);
    assert!(request.header("X-ClickHouse-Key", &endpoint.password).send(long).is_err());
    let running = || engine.query("SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%processes%'");
    wait_until("the end of the query", PATIENCE, || running() == "0");
}

/// Inserts blocks of 1,000 rows until it is told to stop, each under its number as token, each again until it is acknowledged.
fn load(engine: &Alone, stop: &AtomicBool, acknowledged: &AtomicU64) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(10))).build().into();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(endpoint) = engine.link().endpoint() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let pairs = format!("database=weir&insert_deduplication_token={number}&query=INSERT+INTO+t+FORMAT+Native");
        let request = agent.post(format!("{}/?{pairs}", endpoint.url)).header("X-ClickHouse-User", &endpoint.user);
        let answer = request.header("X-ClickHouse-Key", &endpoint.password).send(&native(number * 1_000, 1_000)[..]);
        if answer.is_ok_and(|answer| answer.status() == 200) {
            number += 1;
            acknowledged.store(number, Ordering::Relaxed);
        }
    }
}

#[test]
fn an_engine_that_is_killed_under_load_keeps_what_it_has_acknowledged_and_keeps_it_once() {
    let engine = Alone::start();
    engine.query(TABLE);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| load(&engine, &stop, &acknowledged));
        for round in 1..=3 {
            let before = acknowledged.load(Ordering::Relaxed);
            wait_until("inserts", PATIENCE, || acknowledged.load(Ordering::Relaxed) >= before + 20);
            engine.kill();
            engine.wait_until_up();
            assert_eq!(engine.metric("weir_collector_engine_ends_unasked_total"), round);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let blocks = acknowledged.load(Ordering::Relaxed);
    // One more may be stored whose acknowledgement was lost with the engine, and was not sent again.
    let rows: u64 = engine.query("SELECT count() FROM t").parse().unwrap();
    assert!(rows == blocks * 1_000 || rows == (blocks + 1) * 1_000, "{rows} rows of {blocks} blocks");
    assert_eq!(engine.query("SELECT count() - uniqExact(a) FROM t"), "0");
    assert_eq!(engine.query(&format!("SELECT count() FROM t WHERE a < {}", blocks * 1_000)), (blocks * 1_000).to_string());
}

#[test]
fn an_engine_that_stands_still_is_noticed_and_goes_on() {
    let engine = Alone::start();
    engine.query(TABLE);
    let child = engine.child();
    engine.signal("STOP");
    wait_until("the silence to be noticed", PATIENCE, || engine.link().endpoint().is_err());
    assert_eq!(engine.link().endpoint().unwrap_err().to_string(), "the engine does not answer");
    engine.signal("CONT");
    engine.wait_until_up();
    assert_eq!((engine.child(), engine.metric("weir_collector_engine_hangs_total")), (child, 1));
    assert_eq!(engine.query("SELECT count() FROM t"), "0");
    // One that stands still for good is ended and started anew.
    engine.signal("STOP");
    wait_until("a new engine", PATIENCE, || engine.metric("weir_collector_engine_starts_total") == 2);
    assert_ne!(engine.child(), child);
    assert_eq!(engine.query("SELECT count() FROM t"), "0");
}

#[test]
fn a_query_that_wants_too_much_memory_ends_and_the_engine_does_not() {
    let config = Embedded { memory_octets_max: 400 * 1_048_576, ..Embedded::default() };
    let engine = Alone::start_with(&config);
    let child = engine.child();
    // 8 octets times 2^27 are a gigabyte, which cannot be on disk in between.
    let greedy = "SELECT length(groupArray(number)) FROM numbers(134217728)";
    for _ in 0..3 {
        let (status, said) = engine.ask("", greedy);
        assert!(status == 500 && said.contains("MEMORY_LIMIT_EXCEEDED"), "{status}: {said}");
    }
    assert_eq!((engine.query("SELECT 1"), engine.child()), ("1".to_owned(), child));
}

/// A child as the supervisor starts it, without a supervisor.
fn child(folder: &std::path::Path) -> (Child, String) {
    let mut command = Command::new(program());
    command.args(["engine", "run", "--library"]).arg(library()).arg("--folder").arg(folder);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"secret\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line)
}

fn finish(child: &mut Child) -> std::process::ExitStatus {
    let mut status = None;
    wait_until("the end of the child", PATIENCE, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

#[test]
fn a_child_ends_when_its_input_ends_or_it_is_asked_to_and_not_by_a_terminal() {
    let folder = temporary("input");
    let (mut one, line) = child(&folder);
    assert!(line.starts_with("ready "), "{line}");
    // What Ctrl-C sends is the parent's to act on: it goes on, and what was sent before it was stopped is past.
    for signal in ["-INT", "-TERM"] {
        assert!(Command::new("kill").args([signal, &one.id().to_string()]).status().unwrap().success());
    }
    assert_eq!(finish(&mut one).code(), Some(0));
    let (mut one, _) = child(&folder);
    assert!(Command::new("kill").args(["-INT", &one.id().to_string()]).status().unwrap().success());
    drop(one.stdin.take());
    assert_eq!(finish(&mut one).code(), Some(0));
    // The kernel ends it before its parent: what it holds is on disk.
    let (mut one, _) = child(&folder);
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", one.id())).unwrap();
    assert_eq!(score.trim(), "500");
    drop(one.stdin.take());
    finish(&mut one);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_child_that_stands_still_is_woken_to_end() {
    let engine = Alone::start();
    engine.signal("STOP");
    assert_eq!(engine.stop(), "exit code 0");
}

#[test]
fn a_child_whose_parent_is_killed_makes_room_for_the_next_even_if_it_stood_still() {
    let folder = temporary("orphan");
    let run = format!("{} engine run --library {} --folder {}; true", program().display(), library().display(), folder.display());
    // The parent is a shell, and the input is ours: it stays open, so that it is the parent's end that must do.
    let mut shell = Command::new("sh").args(["-c", &run]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"secret\n").unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("ready "), "{line}");
    let works_there = |id: &u32| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|path| path == folder.canonicalize().unwrap());
    let ids = || fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let orphan = ids().find(works_there).unwrap();
    assert!(Command::new("kill").args(["-STOP", &orphan.to_string()]).status().unwrap().success());
    shell.kill().unwrap();
    shell.wait().unwrap();
    // The next one wakes it, and begins when it has ended.
    let (mut next, line) = child(&folder);
    assert!(line.starts_with("ready "), "{line}");
    assert!(!ids().any(|id| id == orphan && works_there(&id)));
    drop(input);
    drop(next.stdin.take());
    assert_eq!(finish(&mut next).code(), Some(0));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_keeps_an_engine_from_starting_is_told() {
    let folder = temporary("reasons");
    let config = Embedded { library: folder.join("nosuch.so"), ..Embedded::default() };
    let engine = Alone::start_in(&folder, &config);
    wait_until("a reason", PATIENCE, || engine.metric("weir_collector_engine_starts_failed_total") > 1);
    wait_until("the reason", PATIENCE, || engine.link().endpoint().is_err_and(|away| away.0.contains("nosuch.so")));
    drop(engine);
    let folder = temporary("memory");
    let config = Embedded { memory_octets_max: 1_000_000, ..Embedded::default() };
    let engine = Alone::start_in(&folder, &config);
    wait_until("the reason", PATIENCE, || engine.link().endpoint().is_err_and(|away| away.0.contains("octets of memory")));
}

fn temporary(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-tests-engine-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Remembers what it is told, and breaks off when it is asked to.
#[derive(Default)]
struct Steps {
    steps: Vec<String>,
    breaks_off: bool,
}

impl Observer for Steps {
    fn step(&mut self, step: &str) {
        self.steps.push(step.to_owned());
    }

    fn goes_on(&mut self, _octets: u64) -> bool {
        !self.breaks_off
    }
}

/// A folder that npm takes for a package, with a small library in it.
fn package(folder: &std::path::Path) -> String {
    let package = folder.join("source");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("package.json"), r#"{"name":"engine-of-a-test","version":"1.0.0"}"#).unwrap();
    fs::write(package.join("libchdb.so"), b"no library").unwrap();
    package.display().to_string()
}

fn digest(folder: &std::path::Path, source: &str) -> String {
    let output = Command::new("npm").args(["pack", "--silent", source]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "npm does not run; tests/run installs it");
    let archive = folder.join(String::from_utf8(output.stdout).unwrap().trim());
    let output = Command::new("sha512sum").arg(&archive).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_package_is_taken_only_if_it_is_the_one_that_is_known() {
    let folder = temporary("install");
    let source = package(&folder);
    let place = folder.join("cache").join("libchdb.so");
    let right: &'static str = digest(&folder, &source).leak();
    let name: &'static str = source.leak();
    let of = |sha512: &'static str| Package { name, version: "", sha512 };
    let mut steps = Steps::default();
    let error = install::install(of("0000"), &place, &mut steps).unwrap_err();
    assert!(matches!(&error, InstallError::Checksum { found, .. } if found == right), "{error}");
    let left: Vec<_> = fs::read_dir(place.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["install.lock"]);
    let nowhere = Package { name: "/nosuch/package", version: "", sha512: "" };
    let error = install::install(nowhere, &place, &mut Steps::default()).unwrap_err();
    assert!(matches!(&error, InstallError::Fetch { said, .. } if said.contains("ENOENT")), "{error}");
    let broken = install::install(of(right), &place, &mut Steps { breaks_off: true, ..Steps::default() });
    assert!(matches!(broken, Err(InstallError::BrokenOff)), "{broken:?}");
    // Two at once: one fetches, the other finds it.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| install::install(of(right), &place, &mut Steps::default()).unwrap());
        }
    });
    assert_eq!(fs::read(&place).unwrap(), b"no library");
    // A third time there is nothing to do: not even npm is asked.
    let mut steps = Steps::default();
    install::install(nowhere, &place, &mut steps).unwrap();
    assert!(steps.steps.is_empty());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_insert_that_breaks_off_stores_nothing() {
    let engine = Alone::start();
    engine.query(TABLE);
    let endpoint = engine.link().endpoint().unwrap();
    let address = endpoint.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let rows = native(0, 10_000);
    let head = format!(
        "POST /?database=weir&query=INSERT+INTO+t+FORMAT+Native HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: {}\r\nX-ClickHouse-Key: {}\r\n\
         Content-Length: {}\r\n\r\n",
        endpoint.user,
        endpoint.password,
        rows.len() + 1
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A whole block, but one octet less than was promised.
    stream.write_all(&rows).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let began = Instant::now();
    let mut said = String::new();
    drop(stream.read_to_string(&mut said));
    assert!(began.elapsed() < PATIENCE && !said.starts_with("HTTP/1.1 200"), "{said}");
    // The connection is free again: of the next insert all rows are there, and none of the one before.
    assert_eq!(insert(&engine, "next", &native(20_000, 7)), (200, String::new()));
    assert_eq!(engine.query("SELECT count(), min(a) FROM t"), "7\t20000");
}
