//! The decoder as a whole: datagrams in, rows and a balanced ledger out.

use super::*;
use crate::exporter::Exporters;
use proptest::prelude::*;
use schemas::net::PrefixSet;

/// A decoder with everything around it.
struct Bench {
    decoder: Decoder,
    exporters: Exporters,
    batch: FlowBatch,
    now: u64,
}

const SECONDS: u32 = 1_700_000_000;

impl Bench {
    fn new(config: &Config, templates: Templates) -> Self {
        Self {
            decoder: Decoder::new(config, templates),
            exporters: Exporters::new(PrefixSet::default(), 64),
            batch: FlowBatch::with_capacity(2 * ROWS_PER_DATAGRAM_MAX),
            now: u64::from(SECONDS) * 1_000 + 100,
        }
    }

    fn inline() -> Self {
        Self::new(&Config::default(), Templates::Inline)
    }

    fn send_from(&mut self, exporter: &str, source_port: u16, payload: &[u8]) {
        let datagram = Datagram { exporter: exporter.parse().unwrap(), source_port, arrival: Timestamp(self.now), payload };
        self.decoder.decode(&datagram, &mut self.exporters, &mut self.batch);
        self.decoder.release(Timestamp(self.now), &mut self.exporters, &mut self.batch);
    }

    fn send(&mut self, payload: &[u8]) {
        self.send_from("192.0.2.1", 5_000, payload);
    }

    /// The ledger, whose datagrams and sets must add up; records are counted elsewhere.
    fn ledger(&self) -> Ledger {
        let total = self.exporters.total();
        for (unit, difference) in total.imbalance().into_iter().take(2) {
            assert_eq!(difference, 0, "{unit} of {total:?}");
        }
        assert_eq!(total.records_decoded, u64::try_from(self.batch.rows()).unwrap());
        total
    }

    fn source_ports(&self) -> Vec<u16> {
        self.batch.source_port[..self.batch.rows()].to_vec()
    }
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    octets.extend(u16::try_from(4 + body.len()).unwrap().to_be_bytes());
    octets.extend(body);
    octets
}

fn ipfix(sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let sets = sets.concat();
    let mut octets = vec![0, 10];
    octets.extend(u16::try_from(16 + sets.len()).unwrap().to_be_bytes());
    octets.extend(SECONDS.to_be_bytes());
    octets.extend(sequence.to_be_bytes());
    octets.extend([0, 0, 0, 7]);
    octets.extend(sets);
    octets
}

fn netflow9(sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    netflow9_at(1_000_000, sequence, sets)
}

fn netflow9_at(uptime: u32, sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = vec![0, 9, 0, 1];
    octets.extend(uptime.to_be_bytes());
    octets.extend(SECONDS.to_be_bytes());
    octets.extend(sequence.to_be_bytes());
    octets.extend([0, 0, 0, 7]);
    octets.extend(sets.concat());
    octets
}

/// A template set's body: id, count, and pairs of element and length.
fn template(id: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(u16::try_from(fields.len()).unwrap().to_be_bytes());
    fields.iter().for_each(|(element, length)| body.extend([element.to_be_bytes(), length.to_be_bytes()].concat()));
    body
}

/// An IPFIX options template with one scope field.
fn options_template(id: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let mut body = template(id, fields);
    body.splice(4..4, [0, 1]);
    body
}

/// Source port, destination port.
fn ports() -> Vec<u8> {
    set(2, &template(256, &[(7, 2), (11, 2)]))
}

#[test]
fn a_template_and_its_data_in_one_datagram_are_decoded() {
    let mut bench = Bench::inline();
    bench.send(&ipfix(0, &[ports(), set(256, &[0, 1, 0, 2, 0, 3, 0, 4])]));
    assert_eq!(bench.source_ports(), [1, 3]);
    let segment = bench.batch.segments()[0];
    assert_eq!((segment.origin.observation_domain_id, segment.origin.template_id), (7, 256));
    assert_eq!(segment.origin.export_milliseconds, u64::from(SECONDS) * 1_000);
    let ledger = bench.ledger();
    assert_eq!((ledger.sets_seen, ledger.sets_decoded, ledger.templates_learned, ledger.records_sampling_unknown), (2, 2, 1, 2));
}

#[test]
fn data_waits_for_its_template_and_keeps_its_arrival() {
    let mut bench = Bench::inline();
    let arrival = bench.now;
    bench.send(&ipfix(0, &[set(256, &[0, 1, 0, 2])]));
    assert_eq!((bench.batch.rows(), bench.ledger().sets_waiting), (0, 1));
    bench.now += 5_000;
    bench.send(&ipfix(1, &[ports()]));
    assert_eq!(bench.source_ports(), [1]);
    assert_eq!(bench.batch.segments()[0].origin.arrival_milliseconds, arrival);
    assert_eq!((bench.ledger().sets_waiting, bench.ledger().sets_without_template), (0, 0));
}

#[test]
fn data_whose_template_never_comes_is_given_up() {
    let mut bench = Bench::inline();
    bench.send(&ipfix(0, &[set(256, &[0, 1, 0, 2])]));
    bench.now += 61_000;
    bench.send(&ipfix(1, &[]));
    assert_eq!((bench.ledger().sets_waiting, bench.ledger().sets_without_template), (0, 1));
}

#[test]
fn in_one_pass_data_without_template_is_given_up_at_once() {
    let mut bench = Bench::new(&Config { wait: false, ..Config::default() }, Templates::Inline);
    bench.send(&ipfix(0, &[set(256, &[0, 1, 0, 2]), ports()]));
    assert_eq!((bench.batch.rows(), bench.ledger().sets_without_template), (0, 1));
}

#[test]
fn a_new_layout_under_an_old_id_holds_from_its_announcement_on() {
    let mut bench = Bench::inline();
    bench.send(&ipfix(0, &[ports(), set(256, &[0, 1, 0, 2])]));
    bench.send(&ipfix(1, &[set(2, &template(256, &[(11, 2), (7, 2)])), set(256, &[0, 1, 0, 2])]));
    // And back again: the first announcement's octets are those of before.
    bench.send(&ipfix(2, &[ports(), set(256, &[0, 1, 0, 2])]));
    assert_eq!(bench.source_ports(), [1, 2, 1]);
    assert_eq!(bench.ledger().templates_learned, 3);
}

#[test]
fn an_id_belongs_to_options_or_data_as_announced_last() {
    let mut bench = Bench::inline();
    let options = set(3, &options_template(256, &[(149, 4), (34, 4)]));
    bench.send(&ipfix(0, &[options, set(256, &[0, 0, 0, 7, 0, 0, 0, 100])]));
    bench.send(&ipfix(1, &[ports(), set(256, &[0, 1, 0, 2])]));
    assert_eq!((bench.ledger().options_decoded, bench.source_ports()), (1, vec![1]));
    assert_eq!(bench.batch.sampling_interval[0], 100);
}

#[test]
fn a_withdrawn_template_is_gone() {
    let mut bench = Bench::inline();
    bench.send(&ipfix(0, &[ports(), set(2, &[1, 0, 0, 0]), set(256, &[0, 1, 0, 2])]));
    assert_eq!((bench.batch.rows(), bench.ledger().sets_waiting), (0, 1));
    bench.send(&ipfix(0, &[ports()]));
    assert_eq!(bench.source_ports(), [1]);
}

#[test]
fn a_template_that_is_not_announced_for_its_lifetime_is_gone() {
    let mut bench = Bench::new(&Config { template_lifetime_seconds: 60, ..Config::default() }, Templates::Inline);
    bench.send(&ipfix(0, &[ports()]));
    bench.now += 50_000;
    bench.send(&ipfix(0, &[ports(), set(256, &[0, 1, 0, 2])]));
    bench.now += 50_000;
    bench.send(&ipfix(1, &[set(256, &[0, 3, 0, 2])]));
    bench.now += 61_000;
    bench.send(&ipfix(2, &[]));
    bench.send(&ipfix(2, &[set(256, &[0, 5, 0, 2])]));
    assert_eq!((bench.source_ports(), bench.ledger().sets_waiting), (vec![1, 3], 1));
}

#[test]
fn templates_belong_to_an_exporter_a_version_and_a_domain() {
    let mut bench = Bench::inline();
    bench.send(&ipfix(0, &[ports()]));
    bench.send_from("192.0.2.2", 5_000, &ipfix(0, &[set(256, &[0, 1, 0, 2])]));
    bench.send(&netflow9(0, &[set(256, &[0, 1, 0, 2])]));
    let mut other_domain = ipfix(0, &[set(256, &[0, 1, 0, 2])]);
    other_domain[15] = 8;
    bench.send(&other_domain);
    assert_eq!((bench.batch.rows(), bench.ledger().sets_waiting), (0, 3));
    // The port is no part of the scope.
    bench.send_from("192.0.2.1", 6_000, &ipfix(0, &[set(256, &[0, 9, 0, 2])]));
    assert_eq!(bench.source_ports(), [9]);
}

#[test]
fn two_senders_behind_one_address_are_told_apart_when_their_layouts_contradict() {
    let mut bench = Bench::inline();
    let swapped = set(2, &template(256, &[(11, 2), (7, 2)]));
    bench.send_from("192.0.2.1", 1, &ipfix(0, &[ports()]));
    bench.send_from("192.0.2.1", 2, &ipfix(0, std::slice::from_ref(&swapped)));
    for _ in 0..2 {
        bench.send_from("192.0.2.1", 1, &ipfix(0, &[set(256, &[0, 1, 0, 2])]));
        bench.send_from("192.0.2.1", 2, &ipfix(0, &[set(256, &[0, 1, 0, 2])]));
        bench.send_from("192.0.2.1", 1, &ipfix(0, &[ports()]));
        bench.send_from("192.0.2.1", 2, &ipfix(0, std::slice::from_ref(&swapped)));
    }
    assert_eq!(bench.source_ports(), [1, 2, 1, 2]);
    // A third is taken to speak as the newest.
    bench.send_from("192.0.2.1", 3, &ipfix(0, &[set(256, &[0, 1, 0, 2])]));
    assert_eq!(bench.source_ports()[4], 2);
}

#[test]
fn rates_are_per_sampler_and_hold_for_rows_that_come_later() {
    let mut bench = Bench::inline();
    let data = set(256, &[0, 1, 1, 0, 1, 2, 0, 1, 3]);
    bench.send(&ipfix(0, &[set(2, &template(256, &[(7, 2), (48, 1)])), data.clone()]));
    assert_eq!(bench.ledger().records_sampling_unknown, 3);
    assert!(!bench.batch.segments()[0].origin.present.has(Column::SamplingInterval));
    let options = set(3, &options_template(257, &[(48, 1), (305, 4), (306, 4)]));
    // Sampler 1 takes 1 and leaves 99; sampler 2 takes 1 and leaves 999.
    let rates = set(257, &[1, 0, 0, 0, 1, 0, 0, 0, 99, 2, 0, 0, 0, 1, 0, 0, 3, 231]);
    bench.send(&ipfix(3, &[options, rates, data]));
    assert_eq!(bench.batch.sampling_interval[..6], [0, 0, 0, 100, 1_000, 0]);
    assert_eq!((bench.ledger().options_decoded, bench.ledger().records_sampling_unknown), (2, 4));
    assert_eq!(bench.ledger().lost_by_sequence, 0, "three records, then two options records and three records");
}

#[test]
fn a_row_whose_rate_is_known_shows_it_whatever_the_last_row_says() {
    let mut bench = Bench::inline();
    let sampler = set(3, &options_template(300, &[(302, 1), (34, 1)]));
    bench.send(&ipfix(0, &[sampler, set(300, &[1, 10, 2, 20]), set(2, &template(256, &[(302, 1)])), set(256, &[1, 9])]));
    assert_eq!(bench.batch.sampling_interval[..2], [10, 0], "sampler 9 has told nothing");
    assert!(bench.batch.segments()[0].origin.present.has(Column::SamplingInterval));
}

#[test]
fn a_rate_that_goes_back_to_what_it_was_is_believed_again() {
    let mut bench = Bench::inline();
    let rate = |rate| set(300, &[1, rate]);
    let flow = || set(256, &[0, 1]);
    bench.send(&ipfix(0, &[set(3, &options_template(300, &[(149, 1), (34, 1)])), set(2, &template(256, &[(7, 2)]))]));
    for told in [10, 20, 10, 10, 20] {
        bench.send(&ipfix(0, &[rate(told), flow()]));
    }
    assert_eq!(bench.batch.sampling_interval[..5], [10, 20, 10, 10, 20]);
    // The same octets under another layout: scope and rate have changed places.
    bench.send(&ipfix(0, &[set(3, &options_template(300, &[(34, 1), (149, 1)])), rate(20), flow()]));
    bench.send(&ipfix(0, &[set(3, &options_template(300, &[(149, 1), (34, 1)])), rate(20), flow()]));
    assert_eq!(bench.batch.sampling_interval[6], 20);
}

#[test]
fn a_sampling_probability_of_four_octets_is_a_real_too() {
    let mut bench = Bench::inline();
    let told = set(300, &[[1].as_slice(), &0.01f32.to_be_bytes()].concat());
    bench.send(&ipfix(0, &[set(3, &options_template(300, &[(302, 1), (311, 4)])), told, ports(), set(256, &[0, 1, 0, 2])]));
    assert_eq!(bench.batch.sampling_interval[0], 100);
}

#[test]
fn an_options_record_with_an_empty_name_still_tells_its_rate() {
    let mut bench = Bench::inline();
    let options = set(3, &options_template(257, &[(149, 4), (335, 0xffff), (34, 4)]));
    bench.send(&ipfix(0, &[options, set(257, &[0, 0, 0, 7, 0, 0, 0, 1, 0]), ports(), set(256, &[0, 1, 0, 2])]));
    assert_eq!(bench.batch.sampling_interval[0], 256);
}

#[test]
fn version_9_tells_rates_by_interface_scope() {
    let mut bench = Bench::inline();
    // Scope "interface" of 2 octets, then samplingInterval.
    let options = set(1, &[1, 1, 0, 4, 0, 4, 0, 2, 0, 2, 0, 34, 0, 4, 0, 0]);
    let rates = set(257, &[0, 5, 0, 0, 0, 50, 0, 6, 0, 0, 0, 60]);
    let flows = [set(0, &template(256, &[(7, 2), (10, 2)])), set(256, &[0, 1, 0, 5, 0, 2, 0, 6, 0, 3, 0, 7])];
    bench.send(&netflow9(0, &[vec![options, rates], flows.to_vec()].concat()));
    assert_eq!(bench.batch.sampling_interval[..3], [50, 60, 0]);
}

#[test]
fn the_operators_word_on_sampling_stands_over_the_exporters() {
    let sampling = vec![SamplingOverride { exporters: "192.0.2.0/24".parse().unwrap(), interval: 512.try_into().unwrap() }];
    let mut bench = Bench::new(&Config { sampling, ..Config::default() }, Templates::Inline);
    bench.send(&ipfix(0, &[set(2, &template(256, &[(7, 2), (34, 2)])), set(256, &[0, 1, 0, 2])]));
    assert_eq!((bench.batch.sampling_interval[0], bench.ledger().records_sampling_unknown), (512, 0));
    let report = &bench.decoder.domains("192.0.2.1".parse().unwrap())[0];
    assert_eq!((report.sampling_interval, report.sampling_source), (Some(512), SamplingSource::Config));
}

/// Ten flows of one packet, sent as they end, 0.1 s apart in one second: the header's time is the same in all ten, the uptime tells them apart.
#[test]
fn the_flows_of_a_second_are_not_gathered_in_its_beginning_by_a_header_in_whole_seconds() {
    let mut bench = Bench::inline();
    let second = u64::from(SECONDS) * 1_000;
    let times = set(0, &template(256, &[(22, 4), (21, 4)]));
    let send = |bench: &mut Bench, sequence: u32, milliseconds: u32| {
        let uptime = 1_000_000 + milliseconds;
        let flow = set(256, &[uptime.to_be_bytes(), uptime.to_be_bytes()].concat());
        bench.now = second + u64::from(milliseconds);
        bench.send(&netflow9_at(uptime, sequence, &[times.clone(), flow]));
    };
    // The first second shows when the uptime clock stood at 0.
    (0..10).for_each(|tenth| send(&mut bench, tenth, tenth * 100));
    let ends = |bench: &Bench| -> Vec<u64> {
        let segments = bench.batch.segments().iter();
        segments
            .map(|segment| bench.batch.flow_end_milliseconds[segment.first].saturating_add_signed(segment.origin.clock_offset_milliseconds))
            .collect()
    };
    assert_eq!(bench.batch.flow_end_milliseconds[..2], [second, second], "as exported");
    assert_eq!(ends(&bench), (0..10).map(|tenth| second + tenth * 100).collect::<Vec<_>>());
}

#[test]
fn a_clock_that_is_two_hours_wrong_is_corrected_and_counted() {
    let mut bench = Bench::inline();
    bench.now += 7_200_000;
    bench.send(&ipfix(0, &[ports(), set(256, &[0, 1, 0, 2])]));
    assert_eq!(bench.batch.segments()[0].origin.clock_offset_milliseconds, 7_200_100);
    assert_eq!(bench.ledger().records_clock_corrected, 1);
}

#[test]
fn lost_records_are_counted_when_nothing_late_can_come() {
    let mut bench = Bench::inline();
    bench.send(&ipfix(0, &[ports(), set(256, &[0, 1, 0, 2])]));
    bench.send(&ipfix(11, &[set(256, &[0, 1, 0, 2])]));
    bench.decoder.finish(&mut bench.exporters);
    assert_eq!(bench.ledger().lost_by_sequence, 10);
}

#[test]
fn the_start_of_the_exporter_by_options_gives_uptimes_in_ipfix_a_meaning() {
    let mut bench = Bench::inline();
    let start = u64::from(SECONDS) * 1_000 - 60_000;
    let options = set(3, &options_template(257, &[(149, 4), (160, 8)]));
    let told = set(257, &[[0, 0, 0, 7].as_slice(), &start.to_be_bytes()].concat());
    let flow = [set(2, &template(256, &[(22, 4)])), set(256, &[0, 0, 0x3a, 0x98])];
    bench.send(&ipfix(0, &[vec![options, told], flow.to_vec()].concat()));
    assert_eq!(bench.batch.flow_start_milliseconds[0], start + 15_000);
}

#[test]
fn a_template_bomb_meets_its_bound_and_harms_no_other_exporter() {
    let mut bench = Bench::new(&Config { templates_per_exporter_max: 100, ..Config::default() }, Templates::Inline);
    for first in (256u16..2_256).step_by(200) {
        let body: Vec<u8> = (first..first + 200).flat_map(|id| template(id, &[(7, 2), (11, 2)])).collect();
        bench.send(&ipfix(0, &[set(2, &body)]));
    }
    assert_eq!((bench.ledger().templates_learned, bench.ledger().templates_refused), (100, 1_900));
    bench.send_from("192.0.2.2", 1, &ipfix(0, &[ports(), set(256, &[0, 1, 0, 2])]));
    assert_eq!(bench.source_ports(), [1]);
}

#[test]
fn an_exporter_that_makes_up_domains_takes_no_other_ones_place_and_keeps_none_for_ever() {
    let config = Config { domains_max: 8, domains_per_exporter_max: 4, wait: false, ..Config::default() };
    let mut bench = Bench::new(&config, Templates::Inline);
    let whole = |domain: u8| {
        let mut message = ipfix(0, &[ports(), set(256, &[0, 1, 0, 2])]);
        message[15] = domain;
        message
    };
    (0..100).for_each(|domain| bench.send_from("192.0.2.66", 1, &whole(domain)));
    assert_eq!(bench.batch.rows(), 4);
    bench.send_from("192.0.2.1", 1, &whole(7));
    assert_eq!(bench.batch.rows(), 5, "another exporter's flows come through");
    // Strangers take the three places that are left; after a minute they have gone.
    (2..6).for_each(|sender| bench.send_from(&format!("192.0.2.{sender}"), 1, &ipfix(0, &[])));
    bench.send_from("192.0.2.9", 1, &whole(7));
    assert_eq!((bench.batch.rows(), bench.ledger().control_dropped), (5, 97));
    bench.now += 61_000;
    (0..2).for_each(|_| bench.send_from("192.0.2.9", 1, &whole(7)));
    assert_eq!(bench.batch.rows(), 6);
}

#[test]
fn unknown_versions_reserved_sets_and_lengths_that_cannot_be_are_malformed() {
    let mut bench = Bench::inline();
    bench.send(&[]);
    bench.send(&[0, 4, 0, 0]);
    bench.send(&ipfix(0, &[set(77, &[1, 2, 3, 4])]));
    bench.send(&ipfix(0, &[ports(), set(256, &[0, 1, 0, 2]), vec![1, 0, 0, 99]]));
    bench.send(&ipfix(0, &[set(256, &[0, 1])]));
    let ledger = bench.ledger();
    assert_eq!((ledger.datagrams_malformed, ledger.datagrams_decoded), (3, 2));
    assert_eq!((ledger.sets_malformed, bench.source_ports()), (3, vec![1]));
}

#[test]
fn every_prefix_of_a_datagram_gives_fewer_flows_and_a_balanced_ledger() {
    let options = [set(3, &options_template(257, &[(149, 4), (34, 4)])), set(257, &[0, 0, 0, 7, 0, 0, 0, 9])];
    let flows = [ports(), set(256, &[0, 1, 0, 2, 0, 3, 0, 4])];
    let mut named = template(258, &[(82, 0xffff), (7, 2)]);
    named.extend([0, 0]);
    let variable = [set(2, &named), set(258, &[3, 1, 2, 3, 0, 9, 0, 0, 8])];
    let sets = [options, flows, variable].concat();
    let styles = [
        set(1, &[1, 1, 0, 4, 0, 4, 0, 2, 0, 2, 0, 34, 0, 4]),
        set(0, &template(256, &[(7, 2), (11, 2)])),
        set(256, &[0, 1, 0, 2, 0, 3, 0, 4]),
    ];
    for whole in [ipfix(0, &sets), netflow9(0, &styles)] {
        for length in 0..=whole.len() {
            let mut bench = Bench::inline();
            bench.send(&whole[..length]);
            assert!(bench.batch.rows() <= 4);
            bench.ledger();
            // The same with a header that agrees.
            let mut bench = Bench::inline();
            let mut cut = whole[..length].to_vec();
            if cut.len() >= 16 && cut[1] == 10 {
                cut[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            bench.send(&cut);
            bench.decoder.finish(&mut bench.exporters);
            assert_eq!(bench.ledger().sets_waiting, 0);
        }
    }
}

proptest! {
    #[test]
    fn any_octets_are_decoded_without_panic_and_the_ledger_balances(
        datagrams in prop::collection::vec((prop::sample::select(vec![1u8, 5, 7, 9, 10, 0]), prop::collection::vec(any::<u8>(), 0..200)), 1..8),
        sets in prop::collection::vec((0u16..260, prop::collection::vec(0u8..8, 0..60)), 0..8),
    ) {
        let mut bench = Bench::inline();
        let sets: Vec<_> = sets.into_iter().map(|(id, body)| set(if id < 200 { id % 4 } else { id + 56 - 200 + 200 }, &body)).collect();
        bench.send(&ipfix(0, &sets));
        bench.send(&netflow9(0, &sets));
        for (version, octets) in datagrams {
            bench.send(&[[0, version].as_slice(), &octets].concat());
        }
        bench.decoder.finish(&mut bench.exporters);
        bench.ledger();
    }
}

/// The captures of the corpus, where it lies beside the project, decode without a panic and with a balanced ledger.
#[test]
fn every_capture_of_the_corpus_balances() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/captures");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no corpus in {}", folder.display());
        return;
    };
    let mut datagrams = 0;
    for file in files {
        let path = file.unwrap().path();
        for wait in [false, true] {
            let mut bench = Bench::new(&Config { wait, ..Config::default() }, Templates::Inline);
            let mut capture = crate::receive::capture::Capture::open(&path).unwrap();
            let mut reassembler = crate::receive::reassembly::Reassembler::default();
            while let Some(packet) = capture.next_packet().unwrap() {
                bench.now = packet.arrival().0;
                if let Some(udp) = packet.link().and_then(|link| reassembler.take(link, packet.octets)) {
                    let (exporter, payload) = (udp.source.to_string(), udp.payload.to_vec());
                    bench.send_from(&exporter, udp.source_port, &payload);
                    datagrams += 1;
                }
            }
            bench.decoder.finish(&mut bench.exporters);
            bench.ledger();
        }
    }
    assert!(datagrams > 0);
}
