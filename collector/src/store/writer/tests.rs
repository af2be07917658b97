//! The store's threads against an engine that is played by a small HTTP server: it goes away, is slow, refuses, forgets to answer.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use bytes::Bytes;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::ledger::StoreLedger;
use schemas::net::PrefixSet;
use schemas::time::Timestamp;
use uuid::Uuid;

use super::*;
use crate::exporter::Exporters;
use crate::store::link::Endpoint;

const EXPORTER: Address = Address::from_v4(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// How the engine behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Well,
    /// 500 with a code by which the moment is wrong.
    OutOfMemory,
    /// The same, but only for blocks that begin with a port from the first to the second.
    OutOfMemoryFor(u16, u16),
    /// It says nothing until its mood changes.
    Mute,
    /// It stores the block and then fails to say so.
    Forgetful,
    /// 400 with a code by which the block is wrong.
    Strict,
    /// The same, but for one block only: that which begins with this port.
    StrictFor(u16),
}

#[derive(Debug, Default)]
struct Tables {
    mood: Mood,
    /// Each block once, in the order of their arrival.
    blocks: Vec<(String, Vec<u8>)>,
    requests: usize,
}

#[derive(Clone, Default)]
struct Engine(Arc<Mutex<Tables>>);

impl Engine {
    fn start() -> (Self, Link) {
        let engine = Self::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        let router = axum::Router::new().fallback(insert_of).with_state(engine.clone()).layer(axum::extract::DefaultBodyLimit::disable());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        let link = Link::away("not yet");
        link.set_up(Endpoint {
            url: format!("http://{}", receiver.recv().unwrap()),
            user: String::new(),
            password: String::new(),
            database: "weir".to_owned(),
            is_remote: false,
        });
        (engine, link)
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, mood: Mood) {
        self.tables().mood = mood;
    }

    /// The ports of all rows that it has.
    fn rows(&self) -> Vec<u16> {
        self.tables().blocks.iter().flat_map(|(_, octets)| octets.chunks(2).map(|port| u16::from_le_bytes([port[0], port[1]]))).collect()
    }
}

async fn insert_of(
    State(engine): State<Engine>,
    Query(parameters): Query<HashMap<String, String>>,
    body: bytes::Bytes,
) -> (StatusCode, &'static str) {
    engine.tables().requests += 1;
    while engine.tables().mood == Mood::Mute {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut tables = engine.tables();
    let id = parameters["insert_deduplication_token"].clone();
    let port = u16::from_le_bytes([body[0], body[1]]);
    let mood = match tables.mood {
        Mood::OutOfMemoryFor(from, to) if (from..=to).contains(&port) => Mood::OutOfMemory,
        Mood::StrictFor(only) if only == port => Mood::Strict,
        Mood::OutOfMemoryFor(..) | Mood::StrictFor(_) => Mood::Well,
        mood => mood,
    };
    if matches!(mood, Mood::Well | Mood::Forgetful) && !tables.blocks.iter().any(|(known, _)| *known == id) {
        tables.blocks.push((id, body.to_vec()));
    }
    match mood {
        Mood::Well | Mood::Mute | Mood::OutOfMemoryFor(..) | Mood::StrictFor(_) => (StatusCode::OK, ""),
        Mood::OutOfMemory => (StatusCode::INTERNAL_SERVER_ERROR, "Code: 241. DB::Exception: memory limit exceeded"),
        Mood::Forgetful => (StatusCode::BAD_GATEWAY, "the connection was lost"),
        Mood::Strict => (StatusCode::BAD_REQUEST, "Code: 16. DB::Exception: no such column"),
    }
}

/// The ports of all rows since they were taken.
#[derive(Default)]
struct Ports(Vec<u8>);

impl Encode for Ports {
    fn append(&mut self, batch: &FlowBatch) -> usize {
        self.0.extend(batch.source_port[..batch.rows()].iter().flat_map(|port| port.to_le_bytes()));
        batch.rows() * 2
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0).into()
    }
}

/// A block for each parcel of 10 rows.
fn config() -> Config {
    Config { batch_rows_max: 10, wait_milliseconds_max: 1, ..Config::default() }
}

/// A store with one shard, which is played by the test.
struct Shard {
    store: Option<Store>,
    handover: Option<Handover>,
    exporters: Exporters,
    /// The port of the first row, and of the next.
    first: u16,
    sent: u16,
}

impl Shard {
    fn start(folder: &Folder, config: &Config, link: &Link) -> Self {
        Self::start_patient(folder, config, link, Patience::default())
    }

    fn start_patient(folder: &Folder, config: &Config, link: &Link, patience: Patience) -> Self {
        let statement = Insert { statement: "INSERT INTO flows FORMAT Native".to_owned(), settings: Vec::new(), shards: 0 };
        let (store, mut handovers) =
            Store::start_patient(config, &folder.0, 1, link.clone(), Box::new(Ports::default()), Arc::new(statement.into()), patience)
                .unwrap();
        let mut exporters = Exporters::new(PrefixSet::default(), 10);
        exporters.admit(EXPORTER, Timestamp(0)).unwrap();
        Self { store: Some(store), handover: handovers.pop(), exporters, first: 0, sent: 0 }
    }

    /// Hands over blocks of 10 rows each, whose ports go on from the last.
    fn send(&mut self, blocks: usize) {
        for _ in 0..blocks {
            let mut batch = FlowBatch::with_capacity(10);
            for row in 0..10 {
                batch.source_port[row] = self.sent;
                self.sent += 1;
            }
            let present = ColumnSet::of(&[Column::SourcePort]);
            batch.commit(10, Origin { present, ..Origin::of(EXPORTER, Version::Netflow5) });
            let handover = self.handover.as_mut().unwrap();
            handover.take(&batch, &mut self.exporters, Timestamp(0));
            handover.send();
            // Never more on the way than there are batches.
            let metrics = self.store.as_ref().unwrap().status().metrics();
            wait(|| {
                metrics
                    .counts()
                    .iter()
                    .any(|count| *count == ("weir_collector_store_rows_encoded_total", None, (self.sent - self.first).into()))
            });
        }
    }

    fn ledger(&mut self) -> StoreLedger {
        self.exporters.handed(EXPORTER).ledger()
    }

    fn wait_for(&mut self, what: impl Fn(&StoreLedger) -> bool) -> StoreLedger {
        let began = Instant::now();
        loop {
            let ledger = self.ledger();
            assert_eq!(ledger.imbalance(self.sent.into()), 0, "at any moment: {ledger:?}");
            if what(&ledger) {
                return ledger;
            }
            assert!(began.elapsed() < PATIENCE, "{ledger:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The shard ends, then the store; the folder stays for the next.
    fn stop(&mut self) -> StoreLedger {
        self.handover = None;
        self.store.take().unwrap().stop();
        self.ledger()
    }
}

/// A folder that goes with its handle.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("weir-store-{}", Uuid::new_v4())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn wait(mut until: impl FnMut() -> bool) {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the engine has each of the first rows once, and in order.
fn has_all(engine: &Engine, rows: u16) -> bool {
    engine.rows() == (0..rows).collect::<Vec<_>>()
}

#[test]
fn every_row_is_stored_once_and_in_order() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    let mut shard = Shard::start(&folder, &config(), &link);
    shard.send(5);
    let ledger = shard.wait_for(|ledger| ledger.records_stored == 50);
    assert_eq!((ledger.blocks_stored, ledger.blocks_retried, has_all(&engine, 50)), (5, 0, true));
    shard.send(1);
    // What waits in memory at a stop is stored before the end.
    assert_eq!(shard.stop().records_stored, 60);
    assert!(!folder.0.exists(), "nothing was on disk");
}

#[test]
fn parcels_wait_for_others_and_become_one_block() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    let mut shard = Shard::start(&folder, &Config { batch_rows_max: 40, wait_milliseconds_max: 600_000, ..config() }, &link);
    shard.send(9);
    let ledger = shard.wait_for(|ledger| ledger.records_stored == 80);
    // The ninth would have been too many for the second block: it waits until the end.
    assert_eq!((ledger.blocks_stored, ledger.records_waiting), (2, 10));
    let ledger = shard.stop();
    assert_eq!((ledger.blocks_stored, ledger.records_stored, has_all(&engine, 90)), (3, 90, true));
}

#[test]
fn an_engine_without_memory_gets_everything_later_in_order_and_by_way_of_the_disk() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    engine.set(Mood::OutOfMemory);
    let mut shard = Shard::start(&folder, &config(), &link);
    shard.send(5);
    let ledger = shard.wait_for(|ledger| ledger.records_spooled == 50 && ledger.blocks_retried > 0);
    assert_eq!(ledger.records_stored, 0);
    assert!(shard.store.as_ref().unwrap().status().metrics().away().unwrap().1.contains("memory limit"));
    engine.set(Mood::Well);
    shard.send(1);
    shard.wait_for(|ledger| ledger.records_stored == 60);
    assert!(has_all(&engine, 60));
    shard.stop();
}

/// The block is there already when it comes again: only its id tells.
#[test]
fn a_block_whose_acknowledgement_was_lost_is_stored_once() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    engine.set(Mood::Forgetful);
    let mut shard = Shard::start(&folder, &config(), &link);
    shard.send(2);
    shard.wait_for(|ledger| ledger.blocks_retried >= 2);
    engine.set(Mood::Well);
    shard.wait_for(|ledger| ledger.records_stored == 20);
    assert!(has_all(&engine, 20) && engine.tables().requests > 2);
    shard.stop();
}

#[test]
fn what_is_on_disk_at_the_end_is_stored_after_the_next_start_before_what_is_new() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    let mut shard = Shard::start(&folder, &config(), &Link::away("the engine is not there"));
    shard.send(3);
    let ledger = shard.stop();
    assert_eq!((ledger.records_spooled, ledger.records_stored, ledger.imbalance(30)), (30, 0, 0));

    let mut next = Shard::start(&folder, &config(), &link);
    (next.first, next.sent) = (30, 30);
    next.send(1);
    let status = next.store.as_ref().unwrap().status().clone();
    wait(|| next.ledger().records_stored == 10);
    let ledger = status.recovered();
    assert_eq!((ledger.records_recovered, ledger.records_stored, ledger.imbalance(0)), (30, 30, 0));
    assert_eq!(status.recovered_of(EXPORTER), ledger);
    assert!(has_all(&engine, 40));
    next.stop();
}

#[test]
fn a_block_that_the_engine_refuses_is_set_aside_and_those_behind_it_are_stored() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    engine.set(Mood::StrictFor(0));
    let mut shard = Shard::start(&folder, &config(), &link);
    shard.send(2);
    shard.wait_for(|ledger| ledger.records_dropped_by_engine == 10 && ledger.records_stored == 10);
    assert_eq!(engine.rows(), (10..20).collect::<Vec<_>>());
    let kept: Vec<_> = fs::read_dir(folder.0.join("refused")).unwrap().collect();
    assert_eq!(kept.len(), 1);
    shard.stop();
}

/// As when a column was dropped by hand: what is wrong is not the block, and it can be mended.
#[test]
fn an_engine_that_refuses_every_block_gets_all_of_them_when_it_takes_them_again() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    engine.set(Mood::Strict);
    let mut shard = Shard::start(&folder, &config(), &link);
    shard.send(2);
    let ledger = shard.wait_for(|ledger| ledger.blocks_retried >= 5);
    assert_eq!((ledger.records_dropped_by_engine, ledger.records_set_aside, ledger.records_spooled), (0, 0, 20));
    engine.set(Mood::Well);
    shard.wait_for(|ledger| ledger.records_stored == 20);
    shard.stop();
}

/// It may have stored the block and lost the answer: who says now that the records are gone may be wrong.
#[test]
fn a_block_that_is_refused_after_an_attempt_without_an_answer_is_not_counted_as_lost() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    engine.set(Mood::Forgetful);
    let mut shard = Shard::start(&folder, &config(), &link);
    shard.send(1);
    shard.wait_for(|ledger| ledger.blocks_retried >= 1);
    engine.set(Mood::StrictFor(0));
    shard.send(1);
    let ledger = shard.wait_for(|ledger| ledger.records_set_aside == 10 && ledger.records_stored == 10);
    assert_eq!((ledger.records_dropped_by_engine, ledger.records_spooled), (0, 0));
    shard.stop();
    // The next start asks again, and the engine has it once.
    engine.set(Mood::Well);
    let mut next = Shard::start(&folder, &config(), &link);
    let status = next.store.as_ref().unwrap().status().clone();
    wait(|| status.recovered().records_stored == 10);
    assert!(has_all(&engine, 20));
    next.stop();
}

const HASTY: Patience = Patience {
    late: Duration::from_millis(20),
    late_max: Duration::from_millis(20),
    memory: Duration::from_millis(300),
    stop: Duration::from_secs(5),
};

#[test]
fn a_block_that_the_engine_has_no_memory_for_waits_for_the_next_start_and_those_behind_it_do_not_wait() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    // Two behind each other, what is tried first in place of the one being the other; and three more that are taken for each of them.
    engine.set(Mood::OutOfMemoryFor(10, 20));
    let mut shard = Shard::start_patient(&folder, &config(), &link, HASTY);
    shard.send(10);
    let ledger = shard.wait_for(|ledger| ledger.records_stored == 80 && ledger.records_set_aside == 20);
    assert_eq!((ledger.records_dropped_by_engine, ledger.records_spooled, ledger.records_waiting), (0, 0, 0));
    let counts = shard.store.as_ref().unwrap().status().metrics().counts();
    assert!(counts.contains(&("weir_collector_store_blocks_set_aside_total", Some(("reason", "memory")), 2)), "{counts:?}");
    shard.stop();
    engine.set(Mood::Well);
    let mut next = Shard::start(&folder, &config(), &link);
    let status = next.store.as_ref().unwrap().status().clone();
    wait(|| status.recovered().records_stored == 20);
    let mut rows = engine.rows();
    rows.sort_unstable();
    assert_eq!(rows, (0..100).collect::<Vec<_>>());
    next.stop();
}

#[test]
fn a_block_waits_while_few_others_show_that_it_is_not_the_moment() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    engine.set(Mood::OutOfMemoryFor(0, 0));
    let mut shard = Shard::start_patient(&folder, &config(), &link, Patience { memory: Duration::ZERO, ..HASTY });
    shard.send(3);
    let ledger = shard.wait_for(|ledger| ledger.records_stored == 20 && ledger.blocks_retried >= 5);
    assert_eq!((ledger.records_set_aside, ledger.records_spooled), (0, 10));
    engine.set(Mood::Well);
    shard.wait_for(|ledger| ledger.records_stored == 30);
    shard.stop();
}

#[test]
fn an_engine_that_has_no_memory_for_any_block_loses_none_its_place() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    engine.set(Mood::OutOfMemory);
    let patience = Patience { memory: Duration::ZERO, ..HASTY };
    let mut shard = Shard::start_patient(&folder, &config(), &link, patience);
    shard.send(3);
    // The first and the second in turn.
    let ledger = shard.wait_for(|ledger| ledger.blocks_retried >= 4);
    assert_eq!((ledger.records_set_aside, ledger.records_spooled), (0, 30));
    engine.set(Mood::Well);
    shard.wait_for(|ledger| ledger.records_stored == 30);
    shard.stop();
}

#[test]
fn while_an_answer_is_late_everything_goes_to_disk_and_is_stored_once_when_it_has_come() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    engine.set(Mood::Mute);
    let mut shard = Shard::start_patient(&folder, &config(), &link, HASTY);
    shard.send(3);
    let ledger = shard.wait_for(|ledger| ledger.records_spooled == 30);
    assert_eq!((ledger.records_waiting, engine.tables().requests), (0, 1), "the first is not sent again");
    engine.set(Mood::Well);
    let ledger = shard.wait_for(|ledger| ledger.records_stored == 30);
    assert_eq!((ledger.blocks_retried, has_all(&engine, 30), engine.tables().requests), (0, true, 3));
    shard.stop();
}

struct Fragile;

impl Encode for Fragile {
    fn append(&mut self, _: &FlowBatch) -> usize {
        panic!("as a fault of ours would")
    }

    fn take(&mut self) -> Bytes {
        Bytes::new()
    }
}

#[test]
fn a_thread_that_has_panicked_is_known() {
    let folder = Folder::new();
    let start = |encode: Box<dyn Encode>| Store::start(&config(), &folder.0, 1, Link::away("away"), encode, LateInsert::default()).unwrap();
    let (store, handovers) = start(Box::<Ports>::default());
    assert!(store.status().is_whole());
    drop(handovers);
    store.stop();

    let (store, mut handovers) = start(Box::new(Fragile));
    let (status, mut exporters) = (store.status().clone(), Exporters::new(PrefixSet::default(), 10));
    exporters.admit(EXPORTER, Timestamp(0)).unwrap();
    let mut batch = FlowBatch::with_capacity(10);
    batch.commit(1, Origin::of(EXPORTER, Version::Netflow5));
    handovers[0].take(&batch, &mut exporters, Timestamp(0));
    handovers[0].send();
    wait(|| !status.is_whole());
    // What is handed over from now on is not taken for stored.
    handovers[0].take(&batch, &mut exporters, Timestamp(0));
    handovers[0].send();
    assert_eq!(exporters.handed(EXPORTER).ledger().records_dropped_by_queue, 1);
    store.stop();
}

/// A block of 10 rows has 20 octets: the queue holds two, and the spool none.
#[test]
fn without_a_spool_what_the_queue_does_not_hold_is_lost_and_counted() {
    let ((engine, link), folder) = (Engine::start(), Folder::new());
    let mut config = Config { queue_octets_max: 40, ..config() };
    config.spool.octets_max = 0;
    engine.set(Mood::OutOfMemory);
    let mut shard = Shard::start(&folder, &config, &link);
    shard.send(5);
    let ledger = shard.wait_for(|ledger| ledger.records_dropped_by_spool == 30);
    assert_eq!(ledger.records_waiting, 20);
    engine.set(Mood::Well);
    shard.wait_for(|ledger| ledger.records_stored == 20);
    assert!(has_all(&engine, 20));
    shard.stop();
}
