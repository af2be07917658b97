//! Batches between a shard and a store that is played by the test.

use schemas::flow::{Column, ColumnSet, Origin, Version};
use schemas::net::PrefixSet;

use super::*;

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

#[test]
fn one_batch_holds_the_place_numbers_of_one_generation() {
    let (mut handover, intake) = one(1_000);
    let mut exporters = exporters();
    let generations = [Arc::default(), Arc::default()];
    for places in [None, Some(&generations[0]), Some(&generations[0]), Some(&generations[1])] {
        let mut batch = batch(&[(A, 1)]);
        if let Some(places) = places {
            batch.labels.mark_written(places);
        }
        handover.take(&batch, &mut exporters, Timestamp(0));
    }
    assert_eq!(heard(&intake).unwrap().batch.rows(), 3);
    handover.send();
    assert!(Arc::ptr_eq(heard(&intake).unwrap().batch.labels.places(), &generations[1]));
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
