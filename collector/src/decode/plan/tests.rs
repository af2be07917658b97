//! Plans: golden records, and every template that proptest thinks of against netflow_parser.

use netflow_parser::variable_versions::field_value::{DataNumber, FieldValue};
use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{NetflowPacket, NetflowParser};
use proptest::prelude::*;
use schemas::flow::Version;
use schemas::net::Address;

use super::super::template::{Field, Style};
use super::*;

const MOMENT: Moment = Moment { export_milliseconds: 1_700_000_000_000, uptime_milliseconds: Some(1_000_000) };

fn plan(style: Style, fields: &[(u16, u16)]) -> Plan {
    let fields = fields.iter().map(|&(element, length)| Field { enterprise: 0, element, length }).collect();
    Plan::compile(Definition { id: 256, style, scope_fields: None, fields })
}

fn run(plan: &Plan, body: &[u8]) -> (Rows, FlowBatch) {
    let (mut batch, mut spans) = (FlowBatch::with_capacity(64), Vec::new());
    let rows = plan.records(body, &mut spans).unwrap();
    (plan.run(body, rows, &spans, &MOMENT, &mut batch), batch)
}

#[test]
fn a_record_is_read_field_by_field_and_padding_is_not() {
    let plan = plan(Style::Ipfix, &[(8, 4), (27, 16), (7, 2), (1, 3), (2, 8), (10, 2), (999, 5), (61, 1)]);
    let mut body = vec![192, 0, 2, 1];
    body.extend([0; 16]);
    body.extend([0, 53, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 7, 1, 2, 3, 4, 5, 1]);
    let length = body.len();
    body.extend([0, 0, 0]);
    let (rows, batch) = run(&plan, &body);
    assert_eq!((length, rows.rows), (41, 1));
    // Both addresses are in the template, and only one says anything.
    assert_eq!(batch.source_address[0], "192.0.2.1".parse().unwrap());
    assert_eq!((batch.source_port[0], batch.octet_delta_count[0], batch.packet_delta_count[0]), (53, 65_536, 9));
    assert_eq!((batch.ingress_interface[0], batch.flow_direction[0]), (7, 1));
    assert!(rows.present.has(Column::SourceAddress) && !rows.present.has(Column::EgressInterface));
}

#[test]
fn of_two_kinds_of_addresses_the_one_that_says_something_is_taken_whichever_comes_first() {
    let v6 = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[1]].concat();
    let (v4, none4, none6) = (vec![192, 0, 2, 1], vec![0; 4], vec![0; 16]);
    let first = |fields: &[(u16, u16)], body: &[u8]| run(&plan(Style::Ipfix, fields), body).1.source_address[0].to_string();
    let (one, other) = ([(8, 4), (27, 16)], [(27, 16), (8, 4)]);
    assert_eq!(first(&one, &[none4.clone(), v6.clone()].concat()), "2001:db8::1");
    assert_eq!(first(&other, &[v6, none4.clone()].concat()), "2001:db8::1");
    assert_eq!(first(&one, &[v4.clone(), none6.clone()].concat()), "192.0.2.1");
    assert_eq!(first(&other, &[none6.clone(), v4].concat()), "192.0.2.1");
    // Who has no address yet sends from 0.0.0.0.
    assert_eq!(first(&one, &[none4, none6].concat()), "0.0.0.0");
}

#[test]
fn of_a_repeated_field_the_first_is_taken() {
    let plan = plan(Style::Ipfix, &[(7, 2), (7, 2), (1, 4), (1, 4)]);
    let (_, batch) = run(&plan, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!((batch.source_port[0], batch.octet_delta_count[0]), (1, 0));
}

#[test]
fn a_number_too_large_for_its_column_is_the_largest() {
    let (_, batch) = run(&plan(Style::Ipfix, &[(7, 4)]), &[0, 1, 0, 0]);
    assert_eq!(batch.source_port[0], u16::MAX);
}

#[test]
fn fields_of_variable_length_are_stepped_over_and_may_be_empty() {
    let plan = plan(Style::Ipfix, &[(7, 2), (82, VARIABLE), (11, 2), (95, VARIABLE), (4, 1)]);
    let mut body = vec![0, 1, 3, b'e', b't', b'h', 0, 2, 4, 13, 0, 0, 80, 6];
    body.extend([0, 3, 0, 0, 4, 0, 17]);
    // A length of three octets: 255, then 300.
    body.extend([0, 5, 255, 1, 44]);
    body.extend([b'x'; 300]);
    body.extend([0, 6, 0, 1]);
    let (rows, batch) = run(&plan, &body);
    assert_eq!(rows.rows, 3);
    assert_eq!(batch.source_port[..3], [1, 3, 5]);
    assert_eq!(batch.destination_port[..3], [2, 4, 6]);
    assert_eq!(batch.application_id[..3], [0x0d00_0050, 0, 0]);
    assert_eq!(batch.protocol_identifier[..3], [6, 17, 1]);
}

#[test]
fn every_prefix_of_a_set_gives_fewer_rows() {
    let plan = plan(Style::Ipfix, &[(7, 2), (82, VARIABLE), (11, 2)]);
    // 8 octets, then 6.
    let body = [0, 1, 3, 1, 2, 3, 0, 2, 0, 3, 1, 9, 0, 4];
    let mut spans = Vec::new();
    for length in 0..=body.len() {
        let expected = [Some(0), None, Some(1), Some(2)][usize::from(length > 0) + usize::from(length >= 8) + usize::from(length >= 14)];
        assert_eq!(plan.records(&body[..length], &mut spans), expected, "{length} octets");
    }
}

#[test]
fn time_is_told_in_eight_ways() {
    let start = |element: u16, length: u16, value: u64| {
        let octets = value.to_be_bytes();
        let (rows, batch) = run(&plan(Style::Ipfix, &[(element, length)]), &octets[8 - usize::from(length)..]);
        assert!(rows.present.has(Column::FlowStartMilliseconds));
        batch.flow_start_milliseconds[0]
    };
    let export = MOMENT.export_milliseconds;
    assert_eq!(start(22, 4, 999_000), export - 1_000);
    assert_eq!(start(150, 4, 1_700_000_000), export);
    assert_eq!(start(152, 8, export), export);
    // 3,908,988,800 s after 1900 are 1,700,000,000 s after 1970.
    assert_eq!(start(154, 8, (3_908_988_800 << 32) | 1 << 31), export + 500);
    assert_eq!(start(156, 8, 3_908_988_800 << 32), export);
    assert_eq!(start(158, 4, 2_000_000), export - 2_000);
    assert_eq!(start(323, 8, export), export);
}

#[test]
fn ends_in_whole_seconds_are_told_as_such() {
    let resolution = |fields: &[(u16, u16)], uptime_milliseconds: Option<u32>| {
        let (plan, mut batch) = (plan(Style::Ipfix, fields), FlowBatch::with_capacity(4));
        let moment = Moment { uptime_milliseconds, ..MOMENT };
        plan.run(&[0; 32], 1, &[], &moment, &mut batch).time_resolution_milliseconds
    };
    let known = Some(1_000);
    assert_eq!(resolution(&[(150, 4), (151, 4)], known), 1_000);
    assert_eq!(resolution(&[(322, 4)], known), 1_000);
    assert_eq!(resolution(&[(150, 4), (161, 4)], known), 1_000, "a duration counts from a start");
    for exact in [[(152, 8), (153, 8)], [(22, 4), (21, 4)], [(154, 8), (155, 8)], [(150, 4), (153, 8)], [(7, 2), (11, 2)]] {
        assert_eq!(resolution(&exact, known), 1, "{exact:?}");
    }
    // The first that says something holds; what counts on an unknown clock says nothing.
    assert_eq!((resolution(&[(21, 4), (151, 4)], known), resolution(&[(21, 4), (151, 4)], None)), (1, 1_000));
}

#[test]
fn the_start_of_the_exporter_in_the_record_gives_its_uptime_a_meaning() {
    let plan = plan(Style::Ipfix, &[(160, 8), (22, 4), (21, 4)]);
    let mut body = 1_699_999_000_000u64.to_be_bytes().to_vec();
    body.extend([0, 0, 0, 100, 0, 0, 1, 0]);
    let mut batch = FlowBatch::with_capacity(4);
    let moment = Moment { uptime_milliseconds: None, ..MOMENT };
    let rows = plan.run(&body, 1, &[], &moment, &mut batch);
    assert_eq!((batch.flow_start_milliseconds[0], batch.flow_end_milliseconds[0]), (1_699_999_000_100, 1_699_999_000_256));
    assert!(rows.present.has(Column::FlowEndMilliseconds));
}

#[test]
fn without_the_start_of_the_exporter_its_uptime_tells_nothing() {
    let mut batch = FlowBatch::with_capacity(4);
    let moment = Moment { uptime_milliseconds: None, ..MOMENT };
    let rows = plan(Style::Ipfix, &[(22, 4), (7, 2)]).run(&[0, 0, 0, 1, 0, 53], 1, &[], &moment, &mut batch);
    assert_eq!(batch.flow_start_milliseconds[0], 0);
    assert!(!rows.present.has(Column::FlowStartMilliseconds) && rows.present.has(Column::SourcePort));
}

#[test]
fn a_frame_section_tells_what_the_record_does_not() {
    let plan = plan(Style::Ipfix, &[(10, 4), (312, 2), (315, VARIABLE)]);
    // Ethernet, IPv4 of 100 octets, UDP 53 to 4,096; the frame had 118 octets with its check sequence.
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 100, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1]);
    frame.extend([0, 53, 16, 0, 0, 80, 0, 0]);
    let mut body = vec![0, 0, 0, 7, 0, 118, u8::try_from(frame.len()).unwrap()];
    body.extend(frame);
    let (rows, batch) = run(&plan, &body);
    assert_eq!(batch.source_address[0], "192.0.2.1".parse().unwrap());
    assert_eq!((batch.source_port[0], batch.destination_port[0], batch.protocol_identifier[0]), (53, 4_096, 17));
    // 14 octets of Ethernet in front and 4 behind are not of the packet.
    assert_eq!((batch.packet_delta_count[0], batch.octet_delta_count[0], batch.link_layer_octets[0]), (1, 118, 18));
    assert!(rows.derived.has(Column::SourceAddress) && !rows.derived.has(Column::IngressInterface));
}

/// Elements whose values both sides give as numbers or addresses, with the lengths that they may have.
fn field() -> impl Strategy<Value = (u16, u16)> {
    let number =
        (prop::sample::select(vec![1u16, 2, 10, 14, 16, 17, 23, 24, 85, 86, 58, 34]), prop::sample::select(vec![1u16, 2, 3, 4, 8]));
    let port = (prop::sample::select(vec![7u16, 11]), Just(2u16));
    let v4 = (prop::sample::select(vec![8u16, 12, 15]), Just(4u16));
    let v6 = (prop::sample::select(vec![27u16, 28, 62]), Just(16u16));
    let unknown = (prop::sample::select(vec![400u16, 20_000]), 1u16..20);
    prop_oneof![4 => number, 1 => port, 2 => v4, 1 => v6, 1 => unknown]
}

fn message(version: Version, set: &[u8]) -> Vec<u8> {
    let mut octets = if version == Version::Netflow9 { vec![0, 9, 0, 1] } else { vec![0, 10] };
    if version == Version::Ipfix {
        octets.extend(u16::try_from(16 + set.len()).unwrap().to_be_bytes());
    }
    octets.resize(if version == Version::Netflow9 { 20 } else { 16 }, 0);
    octets.extend(set);
    octets
}

/// What netflow_parser reads: for each record its fields' values.
fn oracle(version: Version, template: &[u8], data: &[u8]) -> Vec<Vec<FieldValue>> {
    let mut parser = NetflowParser::default();
    let _template = parser.parse_bytes(&message(version, template));
    let values = match parser.parse_bytes(&message(version, data)).packets.into_iter().next() {
        Some(NetflowPacket::V9(packet)) => packet.flowsets.into_iter().find_map(|set| match set.body {
            v9::FlowSetBody::Data(data) => {
                Some(data.fields.into_iter().map(|record| record.into_iter().map(|(_, value)| value).collect()).collect())
            }
            _ => None,
        }),
        Some(NetflowPacket::IPFix(packet)) => packet.flowsets.into_iter().find_map(|set| match set.body {
            ipfix::FlowSetBody::Data(data) => {
                Some(data.fields.into_iter().map(|record| record.into_iter().map(|(_, value)| value).collect()).collect())
            }
            _ => None,
        }),
        _ => None,
    };
    values.unwrap_or_default()
}

/// The value of an element in a row, as a number; addresses as theirs.
fn ours(batch: &FlowBatch, row: usize, element: u16) -> Option<u128> {
    Some(match element {
        1 => batch.octet_delta_count[row].into(),
        2 => batch.packet_delta_count[row].into(),
        7 => batch.source_port[row].into(),
        8 | 27 => batch.source_address[row].0,
        10 => batch.ingress_interface[row].into(),
        11 => batch.destination_port[row].into(),
        12 | 28 => batch.destination_address[row].0,
        14 => batch.egress_interface[row].into(),
        15 | 62 => batch.next_hop[row].0,
        16 => batch.bgp_source_as_number[row].into(),
        17 => batch.bgp_destination_as_number[row].into(),
        23 => batch.post_octet_delta_count[row].into(),
        24 => batch.post_packet_delta_count[row].into(),
        34 => batch.sampling_interval[row].into(),
        58 => batch.vlan_id[row].into(),
        85 => batch.octet_total_count[row].into(),
        86 => batch.packet_total_count[row].into(),
        _ => return None,
    })
}

fn largest(element: u16) -> u128 {
    match element {
        7 | 11 | 58 => u16::MAX.into(),
        10 | 14 | 16 | 17 | 34 => u32::MAX.into(),
        _ => u64::MAX.into(),
    }
}

fn theirs(value: &FieldValue, element: u16) -> u128 {
    let number = match value {
        FieldValue::Ip4Addr(address) => return Address::from(std::net::IpAddr::V4(*address)).0,
        FieldValue::Ip6Addr(address) => return address.to_bits(),
        FieldValue::DataNumber(DataNumber::Vec(octets)) | FieldValue::Vec(octets) => super::super::cursor::number(octets).into(),
        value => value.as_u64().unwrap().into(),
    };
    u128::min(number, largest(element))
}

proptest! {
    #[test]
    fn plans_read_what_netflow_parser_reads(
        is_ipfix in any::<bool>(),
        fields in prop::collection::vec(field(), 1..20),
        variable in prop::option::of((0usize..20, 1usize..30)),
        rows in 1usize..12,
        seed in any::<u64>(),
    ) {
        let (style, version) = if is_ipfix { (Style::Ipfix, Version::Ipfix) } else { (Style::Netflow9, Version::Netflow9) };
        let mut fields = fields;
        let variable = variable.filter(|_| is_ipfix);
        if let Some((place, _)) = variable {
            fields.insert(place.min(fields.len()), (82, VARIABLE));
        }
        let plan = plan(style, &fields);
        let mut state = seed | 1;
        let mut octet = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; state.to_be_bytes()[3] };
        let mut body = Vec::new();
        for row in 0..rows {
            for &(_, length) in &fields {
                let length = if length == VARIABLE {
                    let length = 1 + (row * 7 + variable.unwrap().1) % 30;
                    body.push(u8::try_from(length).unwrap());
                    length
                } else { usize::from(length) };
                body.extend((0..length).map(|_| octet()));
            }
        }
        let mut data = 256u16.to_be_bytes().to_vec();
        data.extend(u16::try_from(4 + body.len()).unwrap().to_be_bytes());
        data.extend(&body);
        let expected = oracle(version, &plan.definition().to_set(), &data);
        let (written, batch) = run(&plan, &body);
        prop_assert_eq!(written.rows, rows);
        prop_assert_eq!(expected.len(), rows);
        for (row, values) in expected.iter().enumerate() {
            for (index, (&(element, _), value)) in fields.iter().zip(values).enumerate() {
                let column = |element: u16| meaning(0, element).map(|meaning| match meaning {
                    Meaning::Number(column) | Meaning::Address4(column) | Meaning::Address6(column) => column,
                    _ => Column::SamplingInterval,
                });
                // Where several fields share a column, the first that says something holds.
                let shares = fields.iter().take(index).any(|&(earlier, _)| column(earlier).is_some() && column(earlier) == column(element));
                if let (Some(ours), false) = (ours(&batch, row, element), shares) {
                    let later = fields.iter().skip(index + 1).any(|&(later, _)| later != element && column(later) == column(element));
                    let theirs = theirs(value, element);
                    prop_assert!(ours == theirs || theirs == 0 && later, "element {} of row {}: {} and {}", element, row, ours, theirs);
                }
            }
        }
    }

    #[test]
    fn no_octets_make_a_plan_panic(
        fields in prop::collection::vec((0u16..420, prop_oneof![1u16..40, Just(VARIABLE)]), 1..30),
        body in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let plan = plan(Style::Ipfix, &fields);
        let (mut batch, mut spans) = (FlowBatch::with_capacity(700), Vec::new());
        if let Some(rows) = plan.records(&body, &mut spans) {
            prop_assert!(rows <= body.len());
            let written = plan.run(&body, rows, &spans, &MOMENT, &mut batch);
            prop_assert_eq!(plan.split(&body, &spans).take(rows).count(), rows);
            prop_assert_eq!(written.rows, rows);
        }
    }
}
