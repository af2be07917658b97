//! Pieces and rows.

use super::*;

const START: Timestamp = Timestamp(1_795_176_000_000);

fn row(arrival: u64, exporter: &str, octets: u64, reverse_octets: u64) -> FlowRow {
    FlowRow {
        arrival: signed(Timestamp(arrival)),
        start: signed(Timestamp(arrival - 2_000)),
        end: signed(Timestamp(arrival - 1_000)),
        exporter: exporter.parse().unwrap(),
        observation_domain_id: 7,
        version_number: 4,
        template_id: 256,
        sampling_source_number: 3,
        sampling_interval: 1_000,
        source_address: "::ffff:198.51.100.1".parse().unwrap(),
        destination_address: "2001:db8::1".parse().unwrap(),
        source_port: 53,
        destination_port: 40_000,
        protocol_identifier: 17,
        tcp_control_bits: 0,
        octets,
        packets: 1,
        reverse_octets,
        reverse_packets: 0,
        is_repeat: octets == 2,
        fragment: 1,
        icmp_type_code: 0,
        ip_ttl: 64,
    }
}

#[test]
fn rows_of_one_arrival_are_a_batch_and_those_of_one_exporter_a_run() {
    let mut rows = Rows::default();
    assert!(rows.batch().is_none());
    for (exporter, octets, reverse_octets) in
        [("::ffff:192.0.2.1", 1, 0), ("::ffff:192.0.2.1", 2, 0), ("::ffff:192.0.2.1", 3, 9), ("::ffff:192.0.2.2", 4, 0)]
    {
        assert!(rows.takes(START));
        rows.push(&row(START.0, exporter, octets, reverse_octets));
    }
    assert!(!rows.takes(START.plus(1)));
    let (batch, arrival) = rows.batch().unwrap();
    assert_eq!((arrival, batch.rows()), (START, 4));
    let runs: Vec<_> = batch.segments().iter().map(|run| (run.origin.exporter.to_string(), run.first, run.rows)).collect();
    assert_eq!(runs, [("192.0.2.1".to_owned(), 0, 2), ("192.0.2.1".to_owned(), 2, 1), ("192.0.2.2".to_owned(), 3, 1)]);
    let two_way: Vec<bool> = batch.segments().iter().map(|run| run.origin.present.has(Column::ReverseOctetDeltaCount)).collect();
    assert_eq!(two_way, [false, true, false]);
    assert_eq!((&batch.octet_delta_count[..4], &batch.labels.is_repeat[..4]), ([1, 2, 3, 4].as_slice(), [0, 1, 0, 0].as_slice()));
    assert_eq!(
        (batch.source_address[0].to_string(), batch.destination_address[0].to_string()),
        ("198.51.100.1".to_owned(), "2001:db8::1".to_owned())
    );
    assert_eq!((batch.segments()[0].origin.version, batch.segments()[0].origin.sampling_source), (Version::Ipfix, SamplingSource::Options));
    assert_eq!((batch.flow_start_milliseconds[0], batch.flow_end_milliseconds[0]), (START.0 - 2_000, START.0 - 1_000));
    rows.clear();
    assert!(rows.takes(START.plus(1)) && rows.batch().is_none());
}

#[test]
fn a_full_batch_takes_no_more() {
    let mut rows = Rows::default();
    (0..ROWS_MAX).for_each(|_| rows.push(&row(START.0, "::ffff:192.0.2.1", 1, 0)));
    assert!(!rows.takes(START));
    assert_eq!(rows.batch().unwrap().0.rows(), ROWS_MAX);
}

#[test]
fn pieces_are_whole_seconds_cut_to_what_was_asked_for() {
    let second = |second: u32, flows: u64| SecondRow { second: 1_795_176_000 + second, flows, time_min: second, time_max: second + 10 };
    let rows = [second(0, 400_000), second(1, 600_000), second(5, 1), second(6, 2_000_000), second(7, 1)];
    let (from, to) = (START.plus(500), START.plus(7_300));
    let pieces = cut(&rows, from, to);
    let shown: Vec<_> = pieces.iter().map(|piece| (piece.from.since(START), piece.to.since(START), piece.flows, piece.time)).collect();
    assert_eq!(
        shown,
        [(500, 2_000, 1_000_000, (0, 11)), (5_000, 6_000, 1, (5, 15)), (6_000, 7_000, 2_000_000, (6, 16)), (7_000, 7_300, 1, (7, 17))]
    );
}

#[test]
fn hours_are_cut_to_what_was_asked_for() {
    let spans: Vec<_> =
        hours(START.plus(1), START.plus(2 * HOUR_MILLISECONDS + 5)).map(|(from, to)| (from.since(START), to.since(START))).collect();
    assert_eq!(
        spans,
        [(1, HOUR_MILLISECONDS), (HOUR_MILLISECONDS, 2 * HOUR_MILLISECONDS), (2 * HOUR_MILLISECONDS, 2 * HOUR_MILLISECONDS + 5)]
    );
    assert_eq!(hours(START, START.plus(HOUR_MILLISECONDS)).count(), 1);
}
