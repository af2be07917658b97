//! Batches between a shard and a store that is played by the test.

use schemas::counter::SamplingSource;
use schemas::flow::{Column, ColumnSet, Origin, Segment, Version};
use schemas::net::PrefixSet;

use super::*;
use crate::enrich::config::Assignment;
use crate::enrich::{self, Enrichment, SharedTables};

const A: Address = Address::from_v4(1);
const B: Address = Address::from_v4(2);

/// A batch with so many rows of each exporter, in turn.
fn batch(runs: &[(Address, usize)]) -> FlowBatch {
    let mut batch = FlowBatch::with_capacity(100);
    for (exporter, rows) in runs {
        let present = ColumnSet::of(&[Column::SourcePort]);
        batch.commit(*rows, Origin { present, ..Origin::of(*exporter, Version::Netflow5) });
    }
    batch
}

fn exporters() -> Exporters {
    let mut exporters = Exporters::new(PrefixSet::default(), 10);
    for exporter in [A, B] {
        exporters.admit(exporter, Timestamp(0)).unwrap();
    }
    exporters
}

/// Room for 10 rows in each of the batches, which wait for so long.
fn one(wait_milliseconds_max: u64) -> (Handover, Intake) {
    let config = Config { batch_rows_max: 10, wait_milliseconds_max: 4 * wait_milliseconds_max, ..Config::default() };
    let (mut handovers, intake) = handovers(&config, 1, 4);
    (handovers.pop().unwrap(), intake)
}

fn heard(intake: &Intake) -> Option<Parcel> {
    intake.next(Duration::ZERO).ok()
}

fn records(parcel: &Parcel) -> Vec<(Address, u32)> {
    parcel.exporters.iter().map(|charge| (charge.account.exporter(), charge.records)).collect()
}

#[test]
fn rows_of_alternating_exporters_are_charged_to_each_once() {
    let (mut handover, intake) = one(1_000);
    let mut exporters = exporters();
    handover.take(&batch(&[(A, 1), (B, 2), (A, 3)]), &mut exporters, Timestamp(0));
    handover.take(&batch(&[(B, 1)]), &mut exporters, Timestamp(10));
    handover.tick(Timestamp(999));
    assert!(heard(&intake).is_none());
    handover.tick(Timestamp(1_000));
    let parcel = heard(&intake).unwrap();
    assert_eq!((records(&parcel), parcel.batch.rows()), (vec![(A, 4), (B, 3)], 7));
    assert_eq!((exporters.handed(A).ledger().records_waiting, handover.ledger().records_waiting), (4, 7));
    let mut bill = Bill::default();
    parcel.charge_to(&mut bill);
    bill.take().turn(Fate::Waiting, Fate::Stored);
    let ledger = exporters.handed(B).ledger();
    assert_eq!((ledger.records_waiting, ledger.records_stored, ledger.imbalance(3)), (0, 3, 0));
    intake.give_back(parcel);
    handover.take(&batch(&[(B, 1)]), &mut exporters, Timestamp(2_000));
    handover.send();
    assert_eq!(records(&heard(&intake).unwrap()), [(B, 1)]);
}

#[test]
fn a_full_batch_is_exchanged_and_what_finds_none_is_counted() {
    let (mut handover, intake) = one(1_000);
    let mut exporters = exporters();
    // 4 batches hold 2 runs of 4 rows each; the ninth finds no room, and neither does the tenth.
    for _ in 0..10 {
        handover.take(&batch(&[(A, 4)]), &mut exporters, Timestamp(0));
    }
    let ledger = exporters.handed(A).ledger();
    assert_eq!((ledger.records_waiting, ledger.records_dropped_by_queue, ledger.imbalance(40)), (32, 8, 0));
    let parcel = heard(&intake).unwrap();
    assert_eq!(parcel.batch.rows(), 8);
    intake.give_back(parcel);
    handover.take(&batch(&[(A, 4)]), &mut exporters, Timestamp(0));
    assert_eq!(handover.ledger().records_dropped_by_queue, 8);
}

#[test]
fn while_the_store_pauses_what_is_left_is_filled_before_it_is_sent() {
    let (mut handover, intake) = one(1_000);
    let mut exporters = exporters();
    // A row a second: two batches are sent on with a row each, and two are kept for ten rows each.
    for second in 0..24 {
        handover.take(&batch(&[(A, 1)]), &mut exporters, Timestamp(second * 1_000));
        handover.tick(Timestamp(second * 1_000 + 1_000));
    }
    let ledger = exporters.handed(A).ledger();
    assert_eq!((ledger.records_waiting, ledger.records_dropped_by_queue), (22, 2));
    let rows: Vec<usize> = std::iter::from_fn(|| heard(&intake)).map(|parcel| parcel.batch.rows()).collect();
    assert_eq!(rows, [1, 1, 10, 10]);
}

/// Of batches that came before and behind new tables.
#[test]
fn a_parcel_is_labelled_as_a_whole_by_the_tables_that_are_in_force_when_it_is_sent() {
    let customer = |name: &str| Assignment { name: name.to_owned(), prefixes: vec!["192.0.2.0/24".parse().unwrap()] };
    let tables = |name: &str| {
        let config = enrich::Config { customers: vec![customer(name)], ..enrich::Config::default() };
        Enrichment::start(&config).unwrap().tables().get()
    };
    let shared = SharedTables::default();
    let (handover, intake) = one(1_000);
    let (mut handover, mut exporters) = (handover.labelling(Enricher::new(&shared)), exporters());
    let mut batch = FlowBatch::with_capacity(2);
    batch.source_address[1] = "192.0.2.7".parse().unwrap();
    batch.commit(2, Origin { present: ColumnSet::of(&[Column::SourceAddress]), ..Origin::of(A, Version::Netflow5) });
    for name in ["before", "behind"] {
        shared.set(tables(name));
        handover.take(&batch, &mut exporters, Timestamp(0));
    }
    handover.send();
    let parcel = heard(&intake).unwrap();
    let labels = &parcel.batch.labels;
    let customers = labels.source_place[..4].iter().map(|number| labels.places().name(labels.places().place(*number).customer));
    assert_eq!(customers.collect::<Vec<_>>(), ["", "behind", "", "behind"]);
    intake.give_back(parcel);
    shared.set(Arc::default());
    handover.take(&batch, &mut exporters, Timestamp(0));
    handover.send();
    assert!(!heard(&intake).unwrap().batch.labels.are_written(), "there is nothing to tell any more");
}

#[test]
fn a_store_that_has_ended_loses_what_is_handed_over_and_the_ledger_says_so() {
    let (mut handover, intake) = one(1_000);
    let mut exporters = exporters();
    drop(intake);
    handover.take(&batch(&[(A, 4)]), &mut exporters, Timestamp(0));
    handover.send();
    let ledger = exporters.handed(A).ledger();
    assert_eq!((ledger.records_dropped_by_queue, ledger.records_waiting, ledger.imbalance(4)), (4, 0, 0));
}

/// What is known of rates, as the test says: packets of A's flows, of which each stands for so many.
#[derive(Default)]
struct Known {
    generation: u64,
    interval: Option<u32>,
}

impl Rates for Known {
    fn generation(&mut self) -> u64 {
        self.generation
    }

    fn learn(&mut self, batch: &mut FlowBatch, segment: usize) -> bool {
        let Some(interval) = self.interval else { return false };
        let Segment { first, rows, .. } = batch.segments()[segment];
        batch.sampling_interval[first..first + rows].fill(interval);
        batch.learn_sampling(segment, SamplingSource::Options);
        true
    }
}

/// A batch with so many rows of IPFIX of each exporter, in turn, of unknown rate.
fn unrated(runs: &[(Address, usize)]) -> FlowBatch {
    let mut batch = FlowBatch::with_capacity(100);
    for (exporter, rows) in runs {
        let first = batch.rows();
        batch.source_port[first..first + rows].fill(7);
        batch.commit(*rows, Origin { present: ColumnSet::of(&[Column::SourcePort]), ..Origin::of(*exporter, Version::Ipfix) });
    }
    batch
}

/// Room for 40 rows that wait for a rate, 30 of them of one exporter; parcels of 10 rows, which wait for a second.
fn with_room(batch_rows_max: usize) -> (Handover, Intake) {
    let room = Config { rate_wait_seconds: 60, rate_wait_rows_max: 40, rate_wait_rows_per_exporter_max: 30, ..Config::default() };
    let config = Config { batch_rows_max, wait_milliseconds_max: 4_000, ..room };
    let (mut handovers, intake) = handovers(&config, 1, 4);
    (handovers.pop().unwrap(), intake)
}

fn intervals(parcel: &Parcel) -> &[u32] {
    &parcel.batch.sampling_interval[..parcel.batch.rows()]
}

#[test]
fn rows_of_unknown_rate_wait_for_it_and_the_ledger_says_where_they_are() {
    let (mut handover, intake) = with_room(40);
    let (mut exporters, mut known) = (exporters(), Known::default());
    let mut both = unrated(&[(A, 3), (B, 2)]);
    both.commit(1, Origin { present: ColumnSet::of(&[Column::SourcePort]), ..Origin::of(A, Version::Netflow5) });
    handover.take(&both, &mut exporters, Timestamp(0));
    handover.settle_rates(Timestamp(59_999), &mut known, &mut exporters);
    handover.send();
    // Version 5 tells its rate in its header, or never.
    let parcel = heard(&intake).unwrap();
    assert_eq!(records(&parcel), [(A, 1)]);
    intake.give_back(parcel);
    assert_eq!((exporters.handed(A).ledger().records_waiting, handover.ledger().records_waiting), (4, 6));

    // Only what is new is looked at, so a rate without a new generation is none.
    known.interval = Some(100);
    handover.settle_rates(Timestamp(59_999), &mut known, &mut exporters);
    assert!(!handover.room.is_empty());
    known.generation = 1;
    handover.settle_rates(Timestamp(59_999), &mut known, &mut exporters);
    handover.send();
    let parcel = heard(&intake).unwrap();
    assert_eq!((records(&parcel), intervals(&parcel)), (vec![(A, 3), (B, 2)], [100; 5].as_slice()));
    assert_eq!(parcel.batch.source_port[..5], [7; 5]);
    assert_eq!(parcel.batch.segments()[0].origin.sampling_source, SamplingSource::Options);
    let ledger = handover.ledger();
    assert_eq!((ledger.records_waiting, ledger.records_rate_learned, ledger.imbalance(6)), (6, 5, 0));
    assert!(handover.room.is_empty());
}

#[test]
fn who_lets_one_whole_wait_pass_without_a_rate_waits_no_more() {
    let (mut handover, intake) = with_room(40);
    let (mut exporters, mut known) = (exporters(), Known::default());
    handover.take(&unrated(&[(A, 3)]), &mut exporters, Timestamp(0));
    handover.take(&unrated(&[(A, 1), (B, 1)]), &mut exporters, Timestamp(59_000));
    handover.settle_rates(Timestamp(60_000), &mut known, &mut exporters);
    handover.send();
    let parcel = heard(&intake).unwrap();
    assert_eq!((records(&parcel), intervals(&parcel)), (vec![(A, 4)], [0; 4].as_slice()));
    intake.give_back(parcel);
    let ledger = exporters.handed(A).ledger();
    assert_eq!((ledger.records_rate_not_learned, ledger.imbalance(4)), (4, 0));
    // B began a minute later.
    handover.take(&unrated(&[(A, 2), (B, 1)]), &mut exporters, Timestamp(60_100));
    handover.send();
    assert_eq!(records(&heard(&intake).unwrap()), [(A, 2)]);
    // A clock that is set back holds nothing for ever.
    handover.settle_rates(Timestamp(1_000), &mut known, &mut exporters);
    handover.send();
    assert_eq!(records(&heard(&intake).unwrap()), [(B, 2)]);
}

#[test]
fn what_finds_no_room_to_wait_goes_on_and_is_counted() {
    let (mut handover, intake) = with_room(80);
    let mut exporters = exporters();
    // 30 rows of A's 36 may wait.
    (0..6).for_each(|_| handover.take(&unrated(&[(A, 6)]), &mut exporters, Timestamp(0)));
    handover.send();
    assert_eq!(records(&heard(&intake).unwrap()), [(A, 6)]);
    let ledger = exporters.handed(A).ledger();
    assert_eq!((ledger.records_rate_not_awaited, ledger.records_waiting, ledger.imbalance(36)), (6, 36, 0));
}

#[test]
fn rows_that_wait_take_no_room_from_those_that_come_and_all_go_at_the_end() {
    let (mut handover, intake) = with_room(10);
    let (mut exporters, mut known) = (exporters(), Known { generation: 1, interval: None });
    // Four parcels' worth waits; of four parcels one is for what comes.
    (0..2).for_each(|_| handover.take(&unrated(&[(A, 10), (B, 10)]), &mut exporters, Timestamp(0)));
    (known.generation, known.interval) = (2, Some(10));
    handover.settle_rates(Timestamp(1), &mut known, &mut exporters);
    assert!(!handover.room.is_empty());
    let ledger = handover.ledger();
    assert_eq!((ledger.records_waiting, ledger.records_dropped_by_queue), (40, 0));
    // The store goes on taking parcels while the shard ends.
    let taking = std::thread::spawn(move || {
        let mut rows = 0;
        while let Ok(parcel) = intake.next(Duration::from_secs(20)) {
            rows += intervals(&parcel).iter().filter(|interval| **interval == 10).count();
            intake.give_back(parcel);
        }
        rows
    });
    handover.finish(Timestamp(2), &mut known, &mut exporters);
    let ledger = handover.ledger();
    assert_eq!((ledger.records_rate_learned, ledger.records_dropped_by_queue, ledger.imbalance(40)), (40, 0, 0));
    drop(handover);
    assert_eq!(taking.join().unwrap(), 40);
}

#[test]
fn what_waits_when_the_store_has_ended_is_counted_as_lost() {
    let (mut handover, intake) = with_room(10);
    let (mut exporters, mut known) = (exporters(), Known::default());
    handover.take(&unrated(&[(A, 10)]), &mut exporters, Timestamp(0));
    drop(intake);
    handover.finish(Timestamp(1), &mut known, &mut exporters);
    let ledger = exporters.handed(A).ledger();
    assert_eq!((ledger.records_dropped_by_queue, ledger.records_waiting, ledger.imbalance(10)), (10, 0, 0));
}
