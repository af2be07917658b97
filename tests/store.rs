//! Every flow that the ledger calls stored is there once: the engine killed, stopped and out of memory, the collector killed, the disk full,
//! read-only or damaged, all under a load through the real socket.
//!
//! `WEIR_TEST_CLICKHOUSE_URL` (`http://user:password@host:port`) names a server to be used in place of the embedded engine, which is not ours
//! to kill then. Its database `weir_tests` is dropped, and there is one of it: `cargo nextest run -p tests --test store -j1`. Where there is no
//! server, `cargo run -p tests --example far` is what comes nearest to one.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use collector::store::link::Endpoint;
use schemas::ledger::{Ledger, StoreLedger};
use tests::far::{Far, Way};
use tests::isolation::{folder, isolated, run};
use tests::kept::{DATABASE, ask, ask_at, clear, kept, kept_at, url};
use tests::load::Load;
use tests::memory::Group;
use tests::process::wait_until;
use tests::server::Server;

const PATIENCE: Duration = Duration::from_secs(120);
const EXPORTERS: u8 = 3;
const FLOWS_PER_SECOND: u32 = 15_000;
/// What an engine keeps up with that has no memory most of the time.
const FEW_FLOWS_PER_SECOND: u32 = 6_000;

/// An engine that is nowhere.
fn away(spool: &str) -> String {
    format!(
        "networks = [\"203.0.113.0/24\"]\n[collector.store]\nengine = \"clickhouse\"\nwait_milliseconds_max = 100\n\
         queue_octets_max = 100000\n[collector.store.clickhouse]\nurl = \"http://127.0.0.1:1\"\n[collector.store.spool]\n{spool}\n"
    )
}

/// Whether the engine is one that may be killed or starved.
fn is_ours() -> bool {
    if url().is_some() {
        println!("skipped: what befalls the server is not ours to say");
    }
    url().is_none()
}

/// What the metrics say of the whole store, by name.
fn store(server: &Server) -> StoreLedger {
    let count = |name: &str| server.metric(&format!("weir_collector_store_{name}"));
    let names = StoreLedger::default().counts().map(|(name, _)| name).collect::<Vec<_>>();
    let value =
        |name: &str| if matches!(name, "records_waiting" | "records_spooled") { count(name) } else { count(&format!("{name}_total")) };
    let map: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), (value(name) as u64).into())).collect();
    serde_json::from_value(map.into()).unwrap()
}

/// The exporters' pages: what was decoded and what became of it, each of which balances at any moment.
fn pages(server: &Server) -> BTreeMap<String, (Ledger, StoreLedger)> {
    let (status, body) = server.get("/api/v1/exporters?limit=100");
    assert_eq!(status, 200, "{body}");
    let page = |exporter: &serde_json::Value| {
        let ledger: Ledger = serde_json::from_value(exporter["ledger"].clone()).unwrap();
        let store: StoreLedger = serde_json::from_value(exporter["store"].clone()).unwrap();
        assert_eq!(store.imbalance(ledger.records_decoded), 0, "at any moment: {store:?} of {}", ledger.records_decoded);
        (exporter["address"].as_str().unwrap().to_owned(), (ledger, store))
    };
    body["exporters"].as_array().unwrap().iter().map(page).collect()
}

/// Waits until nothing is on its way any more; the balance is held meanwhile.
fn settled(server: &Server) -> (u64, StoreLedger) {
    let began = Instant::now();
    loop {
        let (mut decoded, mut sum) = (0, StoreLedger::default());
        for (ledger, store) in pages(server).values() {
            decoded += ledger.records_decoded;
            sum += store;
        }
        let is_all = decoded == server.metric("weir_collector_records_decoded_total") as u64;
        if decoded > 0 && is_all && sum.records_waiting == 0 && sum.records_spooled == 0 {
            return (decoded, sum);
        }
        assert!(began.elapsed() < PATIENCE, "still on its way: {sum:?} of {decoded}");
        sleep(Duration::from_millis(200));
    }
}

/// The engine's child of the server under test.
fn child() -> Option<u32> {
    let is_engine = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|octet| *octet == 0).skip(1).take(2).eq([b"engine".as_slice(), b"run"])
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).find(is_engine)
}

fn signal(name: &str) {
    run("kill", &[name, &child().expect("the engine runs").to_string()]);
}

/// Where it answers, as a serving Weir notes it for a backtest beside it.
fn endpoint() -> Endpoint {
    let told: serde_json::Value = serde_json::from_slice(&fs::read(folder().join("weir-data/engine.json")).unwrap()).unwrap();
    let word = |key: &str| told[key].as_str().unwrap().to_owned();
    Endpoint { url: word("url"), user: word("user"), password: word("password"), database: word("database"), is_remote: false }
}

fn wait_for_engine(server: &Server) {
    wait_until("the engine", PATIENCE, || {
        if url().is_some() {
            server.words().contains("the store's server answers")
        } else {
            server.metric("weir_collector_engine_up") >= 1.0
        }
    });
}

/// Rows and different flows, rows by exporter, and whether the sums hold the same.
const QUESTIONS: [&str; 4] = [
    "SELECT count(), uniqExact(source_address) FROM flows",
    "SELECT replaceOne(IPv6NumToString(exporter), '::ffff:', ''), count() FROM flows GROUP BY 1 ORDER BY 1",
    "SELECT (SELECT (sum(octets), sum(packets), count()) FROM flows) = (SELECT (sum(octets), sum(packets), sum(flows)) FROM traffic_1m)",
    "SELECT (SELECT (sum(octets), sum(packets), count()) FROM flows) = (SELECT (sum(octets), sum(packets), sum(flows)) FROM traffic_1h)",
];

/// Holds what is stored, by the answers to [`QUESTIONS`], against what the ledger says of it.
fn check(answers: &[String], stored: u64, by_exporter: &BTreeMap<String, u64>) {
    println!("{answers:?}");
    assert_eq!(answers[0], format!("{stored}\t{stored}"), "each is there, and once");
    let expected: Vec<String> = by_exporter.iter().map(|(exporter, rows)| format!("{exporter}\t{rows}")).collect();
    assert_eq!(answers[1], expected.join("\n"));
    assert_eq!((answers[2].as_str(), answers[3].as_str()), ("1", "1"), "the views hold the same");
}

/// Ends the load and holds everything that was sent against what is stored, by the answers to [`QUESTIONS`].
fn check_all(server: Server, load: Load, ask: impl Fn() -> Vec<String>) {
    let sent = load.end();
    let (decoded, sum) = settled(&server);
    println!("sent {sent}, {sum:?}");
    assert_eq!(decoded + server.metric("weir_collector_kernel_drops_total") as u64 * 30, sent);
    assert_eq!((sum.records_stored, sum.imbalance(decoded)), (decoded, 0), "{sum:?}");
    assert!(sum.blocks_retried > 0, "the engine was away");
    let by_exporter = stored_by_exporter(&server);
    server.stop();
    check(&ask(), decoded, &by_exporter);
}

/// Makes trouble for an engine that takes flows, and holds everything that was sent against what is stored.
fn troubled(configuration: &str, flows_per_second: u32, trouble: impl FnOnce(&Server)) {
    let server = Server::start(&kept(configuration));
    wait_for_engine(&server);
    let load = Load::begin(server.netflow(), EXPORTERS, flows_per_second, 0);
    wait_until("inserts", PATIENCE, || store(&server).records_stored > 20_000);
    trouble(&server);
    check_all(server, load, || ask(&QUESTIONS));
}

fn stored_by_exporter(server: &Server) -> BTreeMap<String, u64> {
    pages(server).into_iter().map(|(exporter, (_, store))| (exporter, store.records_stored)).collect()
}

#[test]
fn an_engine_that_is_killed_and_stopped_under_load_has_every_flow_once() {
    if !is_ours() {
        return;
    }
    isolated(|| {
        let server = Server::start(&kept(""));
        wait_for_engine(&server);
        let load = Load::begin(server.netflow(), EXPORTERS, FLOWS_PER_SECOND, 0);
        for round in 0..3 {
            sleep(Duration::from_millis(1_700));
            pages(&server);
            signal(if round == 1 { "-STOP" } else { "-KILL" });
            sleep(Duration::from_millis(1_500));
            pages(&server);
            if round == 1 {
                signal("-CONT");
            }
            wait_for_engine(&server);
        }
        check_all(server, load, || ask(&QUESTIONS));
    });
}

/// The least memory that an engine can be given, most of which queries hold: inserts are refused for want of it (code 241).
#[test]
fn an_engine_whose_memory_queries_take_under_load_has_every_flow_once() {
    if !is_ours() {
        return;
    }
    isolated(|| {
        troubled("[collector.store.embedded]\nmemory_octets_max = 536870912\n", FEW_FLOWS_PER_SECOND, |server| {
            let refused = || server.metric("weir_collector_store_insert_failures_total{reason=\"memory\"}") as u64;
            let (end, endpoint) = (Instant::now() + PATIENCE, endpoint());
            // 15 million numbers of 8 octets lie in 128 MiB, of which the engine has 384 in all; each query keeps them for two seconds.
            let greedy =
                "SELECT length(a) + sleep(2) FROM (SELECT groupArray(number) AS a FROM numbers(15000000)) SETTINGS max_memory_usage = 0";
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
                        while refused() < 3 && Instant::now() < end {
                            let (status, said) = tests::engine::ask(&agent, &endpoint, "", greedy);
                            assert!(status == 200 || said.contains("MEMORY_LIMIT_EXCEEDED"), "{status}: {said}");
                            pages(server);
                        }
                    });
                }
            });
            println!("{} inserts refused", refused());
            assert!(refused() > 0);
        });
    });
}

/// The kernel's own end of a process for want of memory: the child may have 48 million octets more than it has.
#[test]
fn an_engine_that_the_kernel_ends_for_want_of_memory_under_load_has_every_flow_once() {
    if !is_ours() {
        return;
    }
    isolated(|| {
        if !Group::can_be_made() {
            println!("skipped: no group with little memory can be made here");
            return;
        }
        troubled("", FLOWS_PER_SECOND, |server| {
            let group = Group::begin(child().expect("the engine runs"), 48_000_000);
            wait_until("the end of the engine", PATIENCE, || {
                pages(server);
                server.metric("weir_collector_engine_ends_unasked_total") as u64 == 1
            });
            assert!(group.kills() >= 1 && server.words().contains("signal 9"), "{}", server.words());
            wait_for_engine(server);
        });
    });
}

/// A child that gets no more addresses: what it asks the system for fails, whoever asks.
#[test]
fn an_engine_that_gets_no_memory_from_the_system_under_load_has_every_flow_once() {
    if !is_ours() {
        return;
    }
    isolated(|| {
        troubled("", FEW_FLOWS_PER_SECOND, |server| {
            let before = child().expect("the engine runs");
            run("prlimit", &["--pid", &before.to_string(), "--as=1000000:"]);
            let troubles = || {
                (server.metric("weir_collector_store_insert_failures_total") + server.metric("weir_collector_engine_ends_unasked_total"))
                    as u64
            };
            wait_until("trouble", PATIENCE, || {
                pages(server);
                troubles() >= 3
            });
            if child() == Some(before) {
                run("prlimit", &["--pid", &before.to_string(), "--as=unlimited:"]);
            }
        });
    });
}

/// Whether by its address alone or over a way on which answers are lost: compressed rows, tables that are made, questions, a wrong password.
#[test]
fn a_server_has_every_flow_once_though_answers_are_lost() {
    isolated(|| {
        let far = url().is_none().then(Far::start);
        let url = url().or_else(|| far.as_ref().map(Far::url)).unwrap();
        clear(&url);
        let set = |way: Way| far.iter().for_each(|far| far.set(way));
        let wrong = kept_at(&url, "").replace("password = \"", "password = \"wrong");
        let server = Server::start(&wrong);
        let load = Load::begin(server.netflow(), EXPORTERS, 3_000, 0);
        wait_until("flows on disk", PATIENCE, || store(&server).records_spooled > 0);
        assert!(server.words().contains("AUTHENTICATION_FAILED"), "{}", server.words());
        let first = load.end();
        server.stop();
        let server = Server::start(&kept_at(&url, ""));
        wait_until("what was on disk", PATIENCE, || store(&server).records_stored >= first);
        let load = Load::begin(server.netflow(), EXPORTERS, FEW_FLOWS_PER_SECOND, u32::try_from(first).unwrap());
        for way in [Way::Open, Way::Forgetful, Way::Open, Way::Cut, Way::Open] {
            set(way);
            sleep(Duration::from_millis(1_500));
            pages(&server);
        }
        let (status, top) = server.get("/api/v1/analytics/top?group_by=exporter");
        assert!(status == 200 && top["rows"].as_array().is_some_and(|rows| rows.len() == 3), "{top}");
        let sent = first + load.end();
        let (decoded, sum) = settled(&server);
        println!("sent {sent}, {sum:?}");
        assert_eq!((sum.records_stored, sum.records_recovered, sum.imbalance(decoded)), (sent, first, 0), "{sum:?}");
        let by_exporter = stored_by_exporter(&server);
        server.stop();
        let ask = |statement: &&str| ask_at(&url, DATABASE, statement);
        check(&QUESTIONS.iter().map(ask).collect::<Vec<_>>(), sent, &by_exporter);
        assert_eq!(ask(&"SELECT count() FROM migrations"), collector::store::schema::MIGRATIONS.len().to_string());
        assert!(far.is_none_or(|far| far.compressed() > 0 && sum.blocks_retried > 0));
    });
}

#[test]
fn a_collector_that_is_killed_under_load_loses_only_what_it_never_called_stored_or_spooled() {
    isolated(|| {
        url().iter().for_each(|url| clear(url));
        let (mut at_least, mut first) = (0, 0);
        for round in 0..2 {
            let server = Server::start(&kept("fsync = \"never\""));
            wait_for_engine(&server);
            let load = Load::begin(server.netflow(), EXPORTERS, FLOWS_PER_SECOND, first);
            sleep(Duration::from_millis(2_000));
            if url().is_none() {
                // So that part of it is on disk.
                signal("-KILL");
                wait_until("flows on disk", PATIENCE, || store(&server).records_spooled > 0);
            }
            let ledger = store(&server);
            println!("round {round}: {ledger:?}");
            // What is on disk is recovered by the next, and counted by it as stored.
            at_least += ledger.records_stored + ledger.records_spooled - ledger.records_recovered;
            if let Some(child) = child() {
                run("kill", &["-KILL", &child.to_string()]);
            }
            server.crash();
            first += u32::try_from(load.end()).unwrap();
        }
        let server = Server::start(&kept(""));
        wait_for_engine(&server);
        let load = Load::begin(server.netflow(), EXPORTERS, FLOWS_PER_SECOND, first);
        sleep(Duration::from_millis(1_000));
        let sent = u64::from(first) + load.end();
        let (decoded, sum) = settled(&server);
        println!("sent {sent}, {sum:?}");
        assert_eq!((sum.records_stored, sum.imbalance(decoded)), (decoded + sum.records_recovered, 0));
        assert!(url().is_some() || sum.records_recovered > 0, "{sum:?}");
        server.stop();
        let answer = ask(&[
            "SELECT count(), uniqExact(source_address) FROM flows",
            "SELECT count() = (SELECT sum(flows) FROM traffic_1m) FROM flows",
        ]);
        let (rows, different) = answer[0].split_once('\t').unwrap();
        let rows: u64 = rows.parse().unwrap();
        assert_eq!(rows.to_string(), different, "nothing is there twice");
        assert!(rows >= at_least + decoded && rows <= sent, "{rows} of {sent}, at least {at_least} + {decoded}");
        assert_eq!(answer[1], "1");
    });
}

/// Whoever is killed in the middle of an insert, flows and their sums are one: the engine is asked to end, and ends what it has begun.
#[test]
fn an_engine_whose_collector_is_killed_ends_what_it_inserts_in_the_sums_too() {
    if url().is_some() {
        return println!("skipped: a server of somebody else's does not end with the collector");
    }
    isolated(|| {
        let mut first = 0;
        for round in 0..5 {
            let server = Server::start(&kept(""));
            wait_for_engine(&server);
            let load = Load::begin(server.netflow(), EXPORTERS, FLOWS_PER_SECOND, first);
            sleep(Duration::from_millis(1_500 + 130 * round));
            if round == 4 {
                signal("-STOP");
            }
            server.crash();
            first += u32::try_from(load.end()).unwrap();
            if round < 4 {
                wait_until("the engine's end", PATIENCE, || child().is_none());
            }
        }
        // The one that was stopped is woken by the next, and ends before that one begins.
        let server = Server::start(&kept(""));
        wait_for_engine(&server);
        server.stop();
        let answer = ask(&["SELECT count(), (SELECT sum(flows) FROM traffic_1m), (SELECT sum(flows) FROM application_1h) FROM flows"]);
        let counts: Vec<u64> = answer[0].split('\t').map(|count| count.parse().unwrap()).collect();
        println!("sent {first}, {counts:?}");
        assert!(counts[0] > 0 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    });
}

/// Mounts a little disk where the spool is to be.
fn little_disk() -> PathBuf {
    let spool = folder().join("weir-data/spool");
    fs::create_dir_all(&spool).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", &spool.to_string_lossy()]);
    spool
}

fn failures(server: &Server) -> u64 {
    server.metric("weir_collector_store_spool_failures_total") as u64
}

#[test]
fn a_full_disk_is_named_and_what_does_not_fit_is_counted() {
    isolated(|| {
        let spool = little_disk();
        let server = Server::start(&away(""));
        let load = Load::begin(server.netflow(), EXPORTERS, FLOWS_PER_SECOND, 0);
        wait_until("a loss", PATIENCE, || store(&server).records_dropped_by_spool > 0);
        let ledger = store(&server);
        assert!(failures(&server) > 0 && ledger.records_spooled > 0, "{ledger:?}");
        assert!(server.words().contains("the disk is full"), "{}", server.words());
        let (status, health) = server.get("/api/health");
        assert_eq!((status, health["failing"][0].as_str()), (503, Some("store")), "{health}");
        // It goes on: as soon as there is room, flows are kept again.
        run("mount", &["-o", "remount,size=64m", &spool.to_string_lossy()]);
        wait_until("flows on disk", PATIENCE, || store(&server).records_spooled > ledger.records_spooled);
        pages(&server);
        let _ = load.end();
        server.stop();
        run("umount", &[&spool.to_string_lossy()]);
    });
}

#[test]
fn a_read_only_disk_is_named_what_is_on_it_is_recovered_and_what_is_new_is_counted() {
    isolated(|| {
        let spool = little_disk();
        let server = Server::start(&away(""));
        let load = Load::begin(server.netflow(), EXPORTERS, 3_000, 0);
        wait_until("flows on disk", PATIENCE, || store(&server).records_spooled > 0);
        let _ = load.end();
        server.stop();
        run("mount", &["-o", "remount,ro", &spool.to_string_lossy()]);
        let server = Server::start(&away(""));
        assert!(store(&server).records_recovered > 0);
        let load = Load::begin(server.netflow(), EXPORTERS, FLOWS_PER_SECOND, 1_000_000);
        wait_until("a loss", PATIENCE, || store(&server).records_dropped_by_spool > 0);
        assert!(server.words().contains("the disk cannot be written"), "{}", server.words());
        pages(&server);
        let _ = load.end();
        server.stop();
        run("umount", &[&spool.to_string_lossy()]);
    });
}

#[test]
fn a_damaged_segment_costs_what_was_damaged_and_the_rest_is_recovered() {
    isolated(|| {
        let server = Server::start(&away(""));
        let load = Load::begin(server.netflow(), EXPORTERS, FLOWS_PER_SECOND, 0);
        wait_until("blocks on disk", PATIENCE, || server.metric("weir_collector_store_spool_blocks") >= 6.0);
        let _ = load.end();
        server.stop();
        let segment = folder().join("weir-data/spool/000000000000.segment");
        let mut octets = fs::read(&segment).unwrap();
        // In the head of the first record.
        octets[16 + 40] ^= 0xff;
        fs::write(&segment, &octets).unwrap();
        let server = Server::start(&away(""));
        let ledger = store(&server);
        println!("{ledger:?}");
        assert!(ledger.records_recovered > ledger.records_dropped_corrupt && ledger.records_dropped_corrupt > 0, "{ledger:?}");
        assert_eq!((ledger.records_spooled, ledger.imbalance(0)), (ledger.records_recovered - ledger.records_dropped_corrupt, 0));
        assert_eq!(server.metric("weir_collector_store_spool_segments_corrupt_total") as u64, 1);
        assert!(server.words().contains("part of the spool cannot be read back"));
        server.stop();
    });
}
