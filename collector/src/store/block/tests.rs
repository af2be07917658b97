//! Blocks, read back octet by octet, and held against the table that they are for.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::counter::SamplingSource;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::net::Address;
use schemas::place::{Place, Places};
use schemas::time::Timestamp;

use super::Encoder;
use crate::store::names::{Nameless, Names};

const NOW: u64 = 1_800_000_000_000;

fn origin(columns: &[Column]) -> Origin {
    Origin {
        exporter: Address::from_v4(0x0a00_0001),
        source_port: 1,
        version: Version::Ipfix,
        observation_domain_id: 7,
        template_id: 256,
        arrival_milliseconds: NOW,
        export_milliseconds: NOW,
        clock_offset_milliseconds: 0,
        time_resolution_milliseconds: 1,
        sampling_source: SamplingSource::Options,
        present: ColumnSet::of(columns),
        derived: ColumnSet::default(),
    }
}

/// A block as read back: type and octets of every column.
struct Read {
    rows: usize,
    columns: BTreeMap<String, (String, Vec<u8>)>,
}

impl Read {
    /// Reads a block; dictionaries become the texts of their rows, each behind its length.
    fn new(mut octets: &[u8]) -> Self {
        let columns = variable(&mut octets);
        let rows = variable(&mut octets);
        let mut read = Self { rows, columns: BTreeMap::new() };
        for _ in 0..columns {
            let (name, kind) = (text(&mut octets), text(&mut octets));
            let values = match kind.split('(').next().unwrap() {
                "LowCardinality" => dictionary(&mut octets, rows),
                "Array" => {
                    let ends = take(&mut octets, rows * 8);
                    let count = u64::from_le_bytes(*ends.last_chunk().unwrap());
                    [ends, take(&mut octets, usize::try_from(count).unwrap() * 4)].concat()
                }
                "UInt8" | "Enum8" | "Bool" => take(&mut octets, rows),
                "UInt16" => take(&mut octets, rows * 2),
                "UInt32" | "DateTime" | "IPv4" => take(&mut octets, rows * 4),
                "UInt64" | "DateTime64" => take(&mut octets, rows * 8),
                "IPv6" => take(&mut octets, rows * 16),
                other => panic!("no width of {other}"),
            };
            assert!(read.columns.insert(name.clone(), (kind, values)).is_none(), "{name} stands there twice");
        }
        assert!(octets.is_empty(), "{} octets behind the last column", octets.len());
        read
    }

    /// The values of a column of numbers; zeroes if it was not sent.
    fn numbers(&self, name: &str) -> Vec<u64> {
        let Some((_, octets)) = self.columns.get(name) else { return vec![0; self.rows] };
        let values = octets.chunks_exact(octets.len() / self.rows);
        values.map(|value| value.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet))).collect()
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let Some((_, octets)) = self.columns.get(name) else { return vec![String::new(); self.rows] };
        let mut octets = octets.as_slice();
        (0..self.rows).map(|_| text(&mut octets)).collect()
    }
}

fn take(octets: &mut &[u8], count: usize) -> Vec<u8> {
    let (taken, rest) = octets.split_at(count);
    *octets = rest;
    taken.to_vec()
}

fn variable(octets: &mut &[u8]) -> usize {
    let (mut number, mut shift) = (0, 0);
    loop {
        let octet = usize::from(take(octets, 1)[0]);
        number |= (octet & 0x7f) << shift;
        shift += 7;
        if octet < 0x80 {
            return number;
        }
    }
}

fn text(octets: &mut &[u8]) -> String {
    let length = variable(octets);
    String::from_utf8(take(octets, length)).unwrap()
}

fn dictionary(octets: &mut &[u8], rows: usize) -> Vec<u8> {
    let word = |octets: &mut &[u8]| u64::from_le_bytes(take(octets, 8).try_into().unwrap());
    let (version, flags, keys) = (word(octets), word(octets), word(octets));
    assert_eq!((version, flags >> 8), (1, 6), "additional keys and a new dictionary");
    let keys: Vec<String> = (0..keys).map(|_| text(octets)).collect();
    assert_eq!(word(octets), rows as u64);
    let width = 1 << (flags & 0xff);
    let indices = take(octets, rows * width);
    let numbers = indices.chunks_exact(width).map(|index| index.iter().rev().fold(0, |number, octet| number << 8 | usize::from(*octet)));
    numbers.flat_map(|index| std::iter::once(u8::try_from(keys[index].len()).unwrap()).chain(keys[index].bytes())).collect()
}

fn encode(batch: &FlowBatch, names: &impl Names) -> Read {
    Read::new(&Encoder::new(5_000).encode(batch, names, Timestamp(NOW)))
}

#[test]
fn a_row_is_filed_under_its_end_by_our_clock() {
    let mut batch = FlowBatch::with_capacity(8);
    // Ended ten seconds ago; two hours ago; within the tolerance after the arrival; a day after it; at no time that is told.
    for (row, end) in [NOW - 10_000, NOW - 7_200_000, NOW + 4_000, NOW + 86_400_000, 0].into_iter().enumerate() {
        batch.flow_end_milliseconds[row] = end;
    }
    batch.commit(5, origin(&[Column::FlowEndMilliseconds]));
    let now = NOW / 1_000;
    let read = encode(&batch, &Nameless);
    assert_eq!(read.numbers("time"), [now - 10, now - 7_200, now, now, now]);
    assert_eq!(read.numbers("flow_end_milliseconds"), [NOW - 10_000, NOW - 7_200_000, NOW + 4_000, NOW + 86_400_000, 0]);
    assert_eq!(read.numbers("received_at"), [NOW; 5]);

    // An exporter that is a minute behind: its times are moved, and what it does not tell stays so.
    batch.clear();
    batch.flow_end_milliseconds[0] = NOW - 70_000;
    batch.commit(2, Origin { clock_offset_milliseconds: 60_000, ..origin(&[Column::FlowEndMilliseconds]) });
    let read = encode(&batch, &Nameless);
    assert_eq!(read.numbers("time"), [now - 10, now]);
    assert_eq!(read.numbers("flow_end_milliseconds"), [NOW - 10_000, 0]);
}

/// A batch with a row of the first exporter for each of these ends, in unix milliseconds.
fn ending(ends: &[u64]) -> FlowBatch {
    let mut batch = FlowBatch::with_capacity(ends.len());
    batch.flow_end_milliseconds[..ends.len()].copy_from_slice(ends);
    batch.commit(ends.len(), origin(&[Column::FlowEndMilliseconds]));
    batch
}

#[test]
fn a_time_that_cannot_be_makes_no_partition_and_is_counted() {
    let mut encoder = Encoder::new(5_000).reaching_back(7);
    // 1970, the year 2100, and on either side of seven days.
    let week = 7 * 86_400_000;
    let batch = ending(&[1_000, 4_102_444_800_000, NOW - week - 1_000, NOW - week]);
    let now = NOW / 1_000;
    let read = Read::new(&encoder.encode(&batch, &Nameless, Timestamp(NOW)));
    assert_eq!(read.numbers("time"), [now, now, now, now - 7 * 86_400]);
    // What is told of the future was always taken for told at the arrival, and the exporter's ledger says so.
    assert_eq!(encoder.refiled().collect::<Vec<_>>(), [(Address::from_v4(0x0a00_0001), 2)]);
    encoder.encode(&ending(&[NOW]), &Nameless, Timestamp(NOW));
    assert_eq!(encoder.refiled().count(), 0);
}

#[test]
fn a_block_touches_few_partitions_whatever_its_exporters_tell() {
    const HOUR: u64 = 3_600_000;
    let mut encoder = Encoder::new(5_000).reaching_back(7);
    let hours = |read: &Read| read.numbers("time").iter().map(|time| time / 3_600).collect::<std::collections::BTreeSet<_>>();
    // A row in every hour of six days.
    let ends: Vec<u64> = (0..144).map(|hour| NOW - hour * HOUR).collect();
    encoder.append(&ending(&ends), &Nameless, Timestamp(NOW));
    let refiled: u64 = encoder.refiled().map(|(_, records)| records).sum();
    let read = Read::new(&encoder.take());
    // This hour, the one before it, and four that this exporter may have besides.
    assert_eq!((hours(&read).len(), refiled), (6, 144 - 6));
    let last = read.numbers("time")[143];
    assert_eq!(last, NOW / 1_000 - 5 * 3_600, "at the nearest edge behind it");

    // Many exporters together have six, in however many pieces they come; the next block begins anew.
    let mut times = std::collections::BTreeSet::new();
    for exporter in 0..20 {
        let mut batch = FlowBatch::with_capacity(3);
        for row in 0..3 {
            batch.flow_end_milliseconds[row] = NOW - (2 + 3 * u64::from(exporter) + row as u64) * HOUR;
        }
        batch.commit(3, Origin { exporter: Address::from_v4(exporter), ..origin(&[Column::FlowEndMilliseconds]) });
        encoder.append(&batch, &Nameless, Timestamp(NOW));
        times.insert(encoder.refiled().map(|(_, records)| records).sum::<u64>());
    }
    assert_eq!(times.into_iter().collect::<Vec<_>>(), [0, 3]);
    encoder.take();
    let read = Read::new(&encoder.encode(&ending(&[NOW - 100 * HOUR]), &Nameless, Timestamp(NOW)));
    assert_eq!(read.numbers("time"), [NOW / 1_000 - 100 * 3_600]);
}

#[test]
fn the_volume_is_that_of_the_counter_whichever_fields_tell_it() {
    let mut batch = FlowBatch::with_capacity(8);
    // NetFlow; sFlow: a frame of 114 octets, 14 of them in front of the IP header; two-way; since the flow began.
    batch.octet_delta_count[0] = 1_000;
    batch.packet_delta_count[0] = 4;
    batch.commit(1, origin(&[Column::OctetDeltaCount, Column::PacketDeltaCount]));
    batch.octet_delta_count[1] = 114;
    batch.packet_delta_count[1] = 1;
    batch.link_layer_octets[1] = 14;
    batch.commit(1, origin(&[Column::OctetDeltaCount, Column::PacketDeltaCount, Column::LinkLayerOctets]));
    (batch.initiator_octets[2], batch.initiator_packets[2]) = (300, 3);
    (batch.responder_octets[2], batch.responder_packets[2]) = (900, 2);
    let two_way = [Column::InitiatorOctets, Column::InitiatorPackets, Column::ResponderOctets, Column::ResponderPackets];
    batch.commit(1, origin(&two_way));
    (batch.octet_total_count[3], batch.packet_total_count[3]) = (50, 1);
    batch.commit(1, origin(&[Column::OctetTotalCount, Column::PacketTotalCount]));
    let read = encode(&batch, &Nameless);
    assert_eq!(read.numbers("octets"), [1_000, 100, 300, 50]);
    assert_eq!(read.numbers("packets"), [4, 1, 3, 1]);
    assert_eq!(read.numbers("reverse_octets"), [0, 0, 900, 0]);
    assert_eq!(read.numbers("reverse_packets"), [0, 0, 2, 0]);
    assert_eq!(read.numbers("volume"), [0, 0, 1, 2]);
}

/// The views multiply by the interval and add up in 64 bits.
#[test]
fn a_volume_that_no_line_carries_is_cut_and_counted_and_the_others_stay() {
    let mut batch = FlowBatch::with_capacity(8);
    batch.octet_delta_count[..4].copy_from_slice(&[u64::MAX, 1 << 53, 1 << 40, (1 << 40) + 1]);
    batch.packet_delta_count[..4].copy_from_slice(&[7, 1, 1, 1]);
    batch.sampling_interval[..4].copy_from_slice(&[1_000, 0, 4_096, 4_096]);
    batch.commit(4, origin(&[Column::OctetDeltaCount, Column::PacketDeltaCount, Column::SamplingInterval]));
    let two_way = [Column::InitiatorOctets, Column::InitiatorPackets, Column::ResponderOctets, Column::ResponderPackets];
    batch.responder_packets[4] = u64::MAX;
    batch.commit(1, origin(&two_way));
    let mut encoder = Encoder::new(5_000);
    let read = Read::new(&encoder.encode(&batch, &Nameless, Timestamp(NOW)));
    let most = 1_u64 << 52;
    // 2^40 octets of one packet in 4,096 are just as much as can be.
    assert_eq!(read.numbers("octets"), [most / 1_000, most, 1 << 40, 1 << 40, 0]);
    assert_eq!(read.numbers("packets"), [7, 1, 1, 1, 0]);
    assert_eq!((read.numbers("reverse_packets")[4], encoder.volumes_cut()), (most, 4));
    batch.clear();
    batch.octet_delta_count[0] = 1_500;
    batch.commit(1, origin(&[Column::OctetDeltaCount]));
    assert_eq!((encode(&batch, &Nameless).numbers("octets"), encoder.volumes_cut()), (vec![1_500], 4));
}

#[test]
fn where_a_rate_was_learned_is_told_of_rows_that_have_one() {
    let mut batch = FlowBatch::with_capacity(8);
    batch.sampling_interval[0] = 100;
    batch.commit(2, origin(&[Column::SamplingInterval]));
    let read = encode(&batch, &Nameless);
    assert_eq!((read.numbers("sampling_interval"), read.numbers("sampling_source")), (vec![100, 0], vec![3, 0]));
}

#[test]
fn a_prefix_is_as_long_as_the_record_says_or_its_place_or_nobody() {
    let places = Arc::new(Places {
        places: vec![
            Place::default(),
            Place { autonomous_system: 65_001, country: *b"DE", prefix_length: 20, city: 1, customer: 2, site: 0 },
        ],
        names: vec!["".into(), "Köln".into(), "a customer".into()],
    });
    let mut batch = FlowBatch::with_capacity(8);
    for (row, address) in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8::1"].into_iter().enumerate() {
        batch.source_address[row] = address.parse().unwrap();
    }
    batch.source_prefix_length[0] = 28;
    batch.labels.mark_written(&places);
    batch.labels.source_place[..2].fill(1);
    batch.labels.is_repeat[3] = 1;
    batch.commit(4, origin(&[Column::SourceAddress, Column::SourcePrefixLength]));
    let read = encode(&batch, &Nameless);
    assert_eq!(read.numbers("source_prefix_length"), [28, 20, 24, 48]);
    assert_eq!(read.numbers("source_place_as"), [65_001, 65_001, 0, 0]);
    assert_eq!(read.texts("source_country"), ["DE", "DE", "", ""]);
    assert_eq!(read.texts("source_city"), ["Köln", "Köln", "", ""]);
    assert_eq!(read.texts("source_customer"), ["a customer", "a customer", "", ""]);
    assert_eq!(read.numbers("is_repeat"), [0, 0, 0, 1]);
    assert_eq!(read.columns["source_address"].1[10..16], [0xff, 0xff, 192, 0, 2, 1]);
    assert!(!read.columns.contains_key("source_site") && !read.columns.contains_key("destination_place_as"), "nobody told any");
}

struct Book;

impl Names for Book {
    fn interface(&self, exporter: Address, index: u32) -> (&str, u8) {
        match (exporter == Address::from_v4(0x0a00_0001), index) {
            (true, 1) => ("uplink", 1),
            (true, _) => ("", 2),
            (false, _) => ("elsewhere", 0),
        }
    }

    fn application(&self, _: u8, source_port: u16, destination_port: u16) -> &str {
        // 300 different names, so that their numbers take two octets.
        const NAMES: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
        let length = usize::from(source_port % 20) + 1;
        NAMES.get(usize::from(destination_port % 15)..).and_then(|rest| rest.get(..length)).unwrap_or("")
    }
}

#[test]
fn names_are_written_once_a_block_and_told_of_every_row() {
    let mut batch = FlowBatch::with_capacity(1_024);
    for row in 0..300 {
        batch.ingress_interface[row] = u32::from(row % 2 == 0);
        batch.source_port[row] = u16::try_from(row % 20).unwrap();
        batch.destination_port[row] = u16::try_from(row / 20).unwrap();
    }
    let columns = [Column::IngressInterface, Column::SourcePort, Column::DestinationPort];
    batch.commit(300, origin(&columns));
    batch.commit(2, Origin { exporter: Address::from_v4(2), ..origin(&columns) });
    let read = encode(&batch, &Book);
    assert_eq!(read.texts("ingress_interface_name")[298..], ["uplink", "", "elsewhere", "elsewhere"]);
    assert_eq!(read.numbers("ingress_boundary")[298..], [1, 2, 0, 0]);
    assert!(!read.columns.contains_key("egress_interface_name"), "no record told an interface");
    let expected = |row: usize| Book.application(0, batch.source_port[row], batch.destination_port[row]).to_owned();
    assert_eq!(read.texts("application"), (0..302).map(expected).collect::<Vec<_>>());
}

#[test]
fn communities_are_told_one_behind_the_other() {
    let mut batch = FlowBatch::with_capacity(8);
    batch.communities[1] = batch.push_communities([65_001, 7].into_iter());
    batch.communities[2] = batch.push_communities([9].into_iter());
    batch.commit(3, origin(&[Column::Communities]));
    let read = encode(&batch, &Nameless);
    let (_, octets) = &read.columns["communities"];
    let ends: Vec<u8> = [0u64, 2, 3].into_iter().flat_map(u64::to_le_bytes).collect();
    assert_eq!(octets[..24], ends);
    assert_eq!(octets[24..], [65_001u32, 7, 9].into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>());
}

#[test]
fn numbers_and_addresses_are_as_narrow_as_those_of_all_rows_allow() {
    let mut batch = FlowBatch::with_capacity(8);
    let columns = [
        Column::SourceAddress,
        Column::DestinationAddress,
        Column::NextHop,
        Column::OctetDeltaCount,
        Column::PacketDeltaCount,
        Column::PostOctetDeltaCount,
        Column::SourceMacAddress,
        Column::IngressInterface,
    ];
    for row in 0..3 {
        batch.source_address[row] = Address::from_v4(0xc000_0201);
        batch.destination_address[row] = Address::from_v4(0xc000_0202);
        batch.packet_delta_count[row] = 1;
    }
    batch.destination_address[2] = "2001:db8::1".parse().unwrap();
    batch.octet_delta_count[..3].copy_from_slice(&[0, 0xff, 0x100]);
    batch.post_octet_delta_count[..3].copy_from_slice(&[0x1_0000, 0xffff_ffff, 5]);
    batch.source_mac_address[1] = 0x1_0000_0000;
    batch.ingress_interface[2] = 0xff;
    batch.commit(3, origin(&columns));
    let read = encode(&batch, &Nameless);
    let kind = |name: &str| read.columns[name].0.as_str();
    assert_eq!((kind("packets"), kind("octets")), ("UInt8", "UInt16"));
    assert_eq!((kind("post_octet_delta_count"), kind("source_mac_address"), kind("ingress_interface")), ("UInt32", "UInt64", "UInt8"));
    assert_eq!(read.numbers("octets"), [0, 0xff, 0x100]);
    assert_eq!(read.numbers("post_octet_delta_count"), [0x1_0000, 0xffff_ffff, 5]);
    assert_eq!((read.numbers("source_mac_address"), read.numbers("ingress_interface")), (vec![0, 0x1_0000_0000, 0], vec![0, 0, 0xff]));
    // The engine has an address of IPv4 as a number, whose low octet comes first.
    assert_eq!((kind("source_address"), read.numbers("source_address")), ("IPv4", vec![0xc000_0201; 3]));
    assert_eq!((kind("destination_address"), read.columns["destination_address"].1[12..16].to_vec()), ("IPv6", vec![192, 0, 2, 2]));
    assert!(!read.columns.contains_key("next_hop"), "no record told one");
}

/// Every column of the batch is one of the table, with the type that the block says, and none is forgotten in a block.
#[test]
fn batch_block_and_table_agree_field_by_field() {
    const TABLE: &str = include_str!("../../../../schemas/clickhouse/0001_flows.sql");
    let (_, body) = TABLE.split_once("\n(\n").unwrap();
    let (body, _) = body.split_once("\n)\n").unwrap();
    let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--"));
    let table: BTreeMap<&str, &str> = lines.map(|line| line.split_once(' ').unwrap()).collect();

    let mut batch = FlowBatch::with_capacity(8);
    let list = batch.push_communities([1].into_iter());
    batch.labels.mark_written(&Arc::default());
    macro_rules! fill {
        ($($name:ident)*) => { $(batch.$name[0] = !0;)* };
    }
    (batch.flow_start_milliseconds[0], batch.flow_end_milliseconds[0]) = (1, 1);
    // Large numbers, that the block has them as the table has: 2^16, with which volumes are cut to 2^36, and all others as large as can be.
    batch.sampling_interval[0] = 1 << 16;
    fill!(source_port destination_port protocol_identifier tcp_control_bits octet_delta_count packet_delta_count link_layer_octets
        ingress_interface egress_interface bgp_source_as_number
        bgp_destination_as_number fragment icmp_type_code ip_class_of_service ip_ttl flow_label source_prefix_length
        destination_prefix_length flow_direction forwarding_status flow_end_reason selector_id octet_total_count packet_total_count
        initiator_octets responder_octets initiator_packets responder_packets reverse_octet_delta_count reverse_packet_delta_count
        post_octet_delta_count post_packet_delta_count vlan_id post_vlan_id source_mac_address destination_mac_address mpls_top_label
        mpls_label_2 mpls_label_3 ingress_vrf_id egress_vrf_id firewall_event nat_event post_napt_source_port
        post_napt_destination_port application_id);
    batch.communities[0] = list;
    for addresses in [
        &mut batch.source_address,
        &mut batch.destination_address,
        &mut batch.next_hop,
        &mut batch.bgp_next_hop,
        &mut batch.post_nat_source_address,
        &mut batch.post_nat_destination_address,
    ] {
        addresses[0] = Address(1);
    }
    batch.commit(1, origin(Column::ALL));
    let read = encode(&batch, &Book);
    for column in Column::ALL {
        let definition = table.get(column.name()).unwrap_or_else(|| panic!("flows has no column {}", column.name()));
        assert!(read.columns.contains_key(column.name()) || definition.contains(" ALIAS "), "no block has {}", column.name());
    }
    for (name, (kind, _)) in &read.columns {
        let definition = table.get(name.as_str()).unwrap_or_else(|| panic!("flows has no column {name}"));
        assert!(definition.starts_with(&format!("{kind} ")), "{name} is {kind} in a block, and in the table {definition}");
    }
}
