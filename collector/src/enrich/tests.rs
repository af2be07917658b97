//! Labels of a batch: by the tables that are in force when it is decoded, and none where there are none.

use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};

use super::config::Assignment;
use super::*;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// Rows of these sources and destinations.
fn batch(rows: &[(&str, &str)]) -> FlowBatch {
    let mut batch = FlowBatch::with_capacity(16);
    for (row, (source, destination)) in rows.iter().enumerate() {
        (batch.source_address[row], batch.destination_address[row]) = (address(source), address(destination));
    }
    let present = ColumnSet::of(&[Column::SourceAddress, Column::DestinationAddress]);
    let origin = Origin { present, ..Origin::of(Address::from_v4(1), Version::Ipfix) };
    batch.commit(rows.len(), origin);
    batch
}

fn customer(name: &str, prefixes: &[&str]) -> Assignment {
    Assignment { name: name.to_owned(), prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect() }
}

#[test]
fn nothing_is_written_where_nothing_is_configured() {
    let enrichment = Enrichment::start(&Config::default()).unwrap();
    let mut batch = batch(&[("192.0.2.1", "2001:db8::1")]);
    Enricher::new(enrichment.tables()).enrich(&mut batch);
    assert!(!batch.labels.are_written());
    assert!(enrichment.tables().get().is_empty());
}

#[test]
fn both_ends_of_each_row_are_labelled_with_their_places() {
    let config = Config {
        customers: vec![customer("One", &["192.0.2.0/24", "2001:db8::/32"]), customer("Two", &["192.0.2.128/25"])],
        sites: vec![customer("Bern", &["192.0.2.192/26"])],
        ..Config::default()
    };
    let enrichment = Enrichment::start(&config).unwrap();
    let mut batch = batch(&[("192.0.2.1", "2001:db8::1"), ("192.0.2.200", "198.51.100.1")]);
    Enricher::new(enrichment.tables()).enrich(&mut batch);
    let labels = &batch.labels;
    assert!(labels.are_written());
    let told = |number: u32| {
        let place = labels.places().place(number);
        let names = labels.places();
        (names.name(place.customer).to_owned(), names.name(place.site).to_owned(), place.prefix_length)
    };
    assert_eq!(told(labels.source_place[0]), ("One".to_owned(), String::new(), 24));
    assert_eq!(told(labels.destination_place[0]), ("One".to_owned(), String::new(), 32));
    // Inside a site's prefix, which is the longest that tells anything.
    assert_eq!(told(labels.source_place[1]), ("Two".to_owned(), "Bern".to_owned(), 26));
    assert_eq!(labels.destination_place[1], 0);
}

#[test]
fn rows_are_labelled_by_the_tables_that_are_in_force() {
    let config = Config { customers: vec![customer("One", &["192.0.2.0/24"])], ..Config::default() };
    let enrichment = Enrichment::start(&config).unwrap();
    let mut enricher = Enricher::new(enrichment.tables());
    let mut first = batch(&[("192.0.2.1", "198.51.100.1")]);
    enricher.enrich(&mut first);
    enrichment.tables().set(Arc::default());
    let mut second = batch(&[("192.0.2.1", "198.51.100.1")]);
    enricher.enrich(&mut second);
    assert_eq!((first.labels.are_written(), second.labels.are_written()), (true, false));
    // What was labelled before keeps the meaning of its numbers.
    let place = first.labels.places().place(first.labels.source_place[0]);
    assert_eq!(first.labels.places().name(place.customer), "One");
}

#[test]
fn places_over_their_bound_are_counted_and_nowhere() {
    let config = Config {
        customers: vec![customer("One", &["192.0.2.0/25"]), customer("Two", &["192.0.2.128/25"])],
        places_max: 1,
        ..Config::default()
    };
    let enrichment = Enrichment::start(&config).unwrap();
    let tables = enrichment.tables().get();
    assert_eq!(tables.places().name(tables.place(address("192.0.2.1")).customer), "One");
    assert_eq!(tables.place(address("192.0.2.129")), &Place::default());
    assert!(enrichment.metrics().counts().any(|(name, _, value)| name == "weir_collector_enrich_runs_refused" && value == 1));
}
