//! Compiled plans against netflow_parser: the same template and data through both give the same values.

use std::net::IpAddr;

use collector::decode::{Config, Datagram, Decoder, Templates};
use collector::exporter::Exporters;
use netflow_parser::variable_versions::field_value::FieldValue;
use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{NetflowPacket, NetflowParser};
use schemas::flow::FlowBatch;
use schemas::net::{Address, PrefixSet};

use super::datagram::with_batch;
use super::seed::{self, MOMENT};

const TEMPLATE_ID: u16 = 400;
const FIELDS_MAX: usize = 16;
const RECORDS_MAX: usize = 32;

/// The elements that templates are drawn from, each with the lengths that both sides take (RFC 7011 §6.2 lets numbers be shorter).
const ELEMENTS: [(u16, &[u16]); 16] = [
    (1, &[1, 2, 4, 8]),
    (2, &[1, 2, 4, 8]),
    (4, &[1]),
    (7, &[2]),
    (8, &[4]),
    (10, &[2, 4]),
    (11, &[2]),
    (12, &[4]),
    (14, &[2, 4]),
    (16, &[2, 4]),
    (17, &[2, 4]),
    (5, &[1]),
    (23, &[4, 8]),
    (24, &[4, 8]),
    (85, &[4, 8]),
    (86, &[4, 8]),
];

/// Feeds a template and its records: one octet for the version, one for the number of fields, one for each field (the element by
/// the low four bits, the length by the high ones), then data.
///
/// Asserts that both sides find the same records with the same values.
pub(super) fn feed(input: &[u8]) {
    let [version, count, rest @ ..] = input else { return };
    let version = if version & 1 == 0 { 9 } else { 10 };
    let picks = rest.get(..usize::from(*count) % FIELDS_MAX + 1).unwrap_or_default();
    let data = rest.get(picks.len()..).unwrap_or_default();
    // An address of four octets leads, so that no record is as short as padding.
    let mut fields: Vec<(u16, u16)> = vec![(8, 4)];
    for pick in picks {
        let (element, lengths) = ELEMENTS[usize::from(pick & 15)];
        if fields.iter().all(|(known, _)| *known != element) {
            fields.push((element, lengths[usize::from(pick >> 4) % lengths.len()]));
        }
    }
    let record = usize::from(fields.iter().map(|(_, length)| length).sum::<u16>());
    let records = (data.len() / record).min(RECORDS_MAX);
    if records == 0 {
        return;
    }
    let (template, data) = messages(version, &fields, &data[..records * record]);
    let expected = parsed(&template, &data);
    let found = decoded(&template, &data, &fields);
    assert_eq!(found, expected, "fields {fields:?}");
}

fn messages(version: u16, fields: &[(u16, u16)], data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let set = if version == 9 { 0 } else { 2 };
    let length = u16::try_from(8 + fields.len() * 4).unwrap();
    let mut template = vec![set, length, TEMPLATE_ID, u16::try_from(fields.len()).unwrap()];
    template.extend(fields.iter().flat_map(|(element, length)| [*element, *length]));
    let template: Vec<u8> = template.into_iter().flat_map(u16::to_be_bytes).collect();
    let length = u16::try_from(4 + data.len()).unwrap();
    let data = [&TEMPLATE_ID.to_be_bytes()[..], &length.to_be_bytes(), data].concat();
    (seed::message(version, &template), seed::message(version, &data))
}

/// The values of each record by netflow_parser, in the order of the template.
fn parsed(template: &[u8], data: &[u8]) -> Vec<Vec<u128>> {
    let mut parser = NetflowParser::default();
    let learned = parser.parse_bytes(template);
    assert!(learned.error.is_none(), "{:?}", learned.error);
    let packets = parser.parse_bytes(data).packets;
    let mut records = Vec::new();
    for packet in packets {
        match packet {
            NetflowPacket::V9(packet) => {
                for set in packet.flowsets {
                    let v9::FlowSetBody::Data(data) = set.body else { continue };
                    records.extend(data.fields.iter().map(|record| record.iter().map(|(_, value)| number(value)).collect()));
                }
            }
            NetflowPacket::IPFix(packet) => {
                for set in packet.flowsets {
                    let ipfix::FlowSetBody::Data(data) = set.body else { continue };
                    records.extend(data.fields.iter().map(|record| record.iter().map(|(_, value)| number(value)).collect()));
                }
            }
            _ => {}
        }
    }
    records
}

fn number(value: &FieldValue) -> u128 {
    let mut octets = Vec::new();
    value.write_be_bytes(&mut octets).unwrap();
    octets.iter().fold(0, |sum, octet| sum << 8 | u128::from(*octet))
}

/// The values of each record by the compiled plan, in the order of the template.
fn decoded(template: &[u8], data: &[u8], fields: &[(u16, u16)]) -> Vec<Vec<u128>> {
    let mut decoder = Decoder::new(&Config::default(), Templates::Inline);
    let mut exporters = Exporters::new(PrefixSet::default(), 1);
    let exporter = Address::from_v4(0x0a00_0001);
    with_batch(|batch| {
        for payload in [template, data] {
            decoder.decode(&Datagram { exporter, source_port: 9, arrival: MOMENT, payload }, &mut exporters, batch);
        }
        (0..batch.rows()).map(|row| fields.iter().map(|(element, _)| column(batch, row, *element)).collect()).collect()
    })
}

fn column(batch: &FlowBatch, row: usize, element: u16) -> u128 {
    let address = |address: Address| match address.ip() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    match element {
        1 => batch.octet_delta_count[row].into(),
        2 => batch.packet_delta_count[row].into(),
        4 => batch.protocol_identifier[row].into(),
        5 => batch.ip_class_of_service[row].into(),
        7 => batch.source_port[row].into(),
        8 => address(batch.source_address[row]),
        10 => batch.ingress_interface[row].into(),
        11 => batch.destination_port[row].into(),
        12 => address(batch.destination_address[row]),
        14 => batch.egress_interface[row].into(),
        16 => batch.bgp_source_as_number[row].into(),
        17 => batch.bgp_destination_as_number[row].into(),
        23 => batch.post_octet_delta_count[row].into(),
        24 => batch.post_packet_delta_count[row].into(),
        85 => batch.octet_total_count[row].into(),
        86 => batch.packet_total_count[row].into(),
        _ => unreachable!("every element of the table has its column"),
    }
}
