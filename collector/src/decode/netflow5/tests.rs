//! Versions 1, 5 and 7 against datagrams built here, field by field.

use super::*;

/// A record whose 48 octets are 0, 1, 2 …, so that each field tells its offset.
fn numbered(octets: usize) -> Vec<u8> {
    (0..octets).map(|octet| u8::try_from(octet).unwrap()).collect()
}

fn datagram(version: u16, count: u16, header_octets: usize, record_octets: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(version.to_be_bytes());
    octets.extend(count.to_be_bytes());
    // Uptime 0x18191a1b + 5 s: a record that began at 0x18191a1b began 5 s before the export.
    octets.extend((0x1819_1a1b_u32 + 5_000).to_be_bytes());
    octets.extend(1_700_000_000_u32.to_be_bytes());
    octets.extend(500_000_000_u32.to_be_bytes());
    octets.resize(header_octets, 0);
    if version == 5 {
        octets[16..20].copy_from_slice(&7u32.to_be_bytes());
        octets[20..22].copy_from_slice(&[1, 2]);
        octets[22..24].copy_from_slice(&(1 << 14 | 100_u16).to_be_bytes());
    }
    for _ in 0..count {
        octets.extend(numbered(record_octets));
    }
    octets
}

#[test]
fn every_field_of_version_5_is_read_at_its_offset() {
    let mut batch = FlowBatch::with_capacity(64);
    let header = netflow5(&datagram(5, 2, 24, 48), &mut batch).unwrap();
    assert_eq!((header.count, header.sequence, header.engine, header.sampling_interval), (2, Some(7), 258, Some(100)));
    for row in 0..2 {
        assert_eq!(batch.source_address[row], Address::from_v4(0x0001_0203));
        assert_eq!(batch.destination_address[row], Address::from_v4(0x0405_0607));
        assert_eq!(batch.next_hop[row], Address::from_v4(0x0809_0a0b));
        assert_eq!((batch.ingress_interface[row], batch.egress_interface[row]), (0x0c0d, 0x0e0f));
        assert_eq!((batch.packet_delta_count[row], batch.octet_delta_count[row]), (0x1011_1213, 0x1415_1617));
        assert_eq!(batch.flow_start_milliseconds[row], 1_700_000_000_500 - 5_000);
        // The end is 0x1c1d1e1f on the uptime clock, 0x04040404 ms after the start.
        assert_eq!(batch.flow_end_milliseconds[row], 1_700_000_000_500 - 5_000 + 0x0404_0404);
        assert_eq!((batch.source_port[row], batch.destination_port[row]), (0x2021, 0x2223));
        assert_eq!((batch.tcp_control_bits[row], batch.protocol_identifier[row], batch.ip_class_of_service[row]), (37, 38, 39));
        assert_eq!((batch.bgp_source_as_number[row], batch.bgp_destination_as_number[row]), (0x2829, 0x2a2b));
        assert_eq!((batch.source_prefix_length[row], batch.destination_prefix_length[row]), (44, 45));
    }
}

#[test]
fn version_1_has_records_of_48_or_52_octets_and_version_7_of_52() {
    for record_octets in [48, 52] {
        let mut batch = FlowBatch::with_capacity(64);
        let header = netflow1(&datagram(1, 3, 16, record_octets), &mut batch).unwrap();
        assert_eq!((header.count, header.sequence, header.sampling_interval), (3, None, None));
        assert_eq!((batch.source_address[2], batch.tcp_control_bits[2]), (Address::from_v4(0x0001_0203), 40));
    }
    let mut batch = FlowBatch::with_capacity(64);
    let header = netflow7(&datagram(7, 28, 24, 52), &mut batch).unwrap();
    assert_eq!((header.count, header.engine, header.sampling_interval), (28, 0, None));
    assert_eq!((batch.destination_port[27], batch.tcp_control_bits[27]), (0x2223, 37));
}

#[test]
fn a_router_that_does_not_sample_says_one_in_one() {
    let mut octets = datagram(5, 1, 24, 48);
    octets[22..24].copy_from_slice(&[0, 0]);
    assert_eq!(netflow5(&octets, &mut FlowBatch::with_capacity(64)).unwrap().sampling_interval, Some(1));
}

#[test]
fn counts_of_none_or_more_than_30_are_refused() {
    for count in [0u16, 31, 55_582] {
        let mut octets = datagram(5, 30, 24, 48);
        octets[2..4].copy_from_slice(&count.to_be_bytes());
        assert_eq!(netflow5(&octets, &mut FlowBatch::with_capacity(64)), Err(DecodeError::Count { version: 5, count }));
    }
}

#[test]
fn every_prefix_of_a_datagram_is_truncated() {
    type Decode = fn(&[u8], &mut FlowBatch) -> Result<Header, DecodeError>;
    let decoders: [(Decode, Vec<u8>); 3] =
        [(netflow1, datagram(1, 2, 16, 48)), (netflow5, datagram(5, 2, 24, 48)), (netflow7, datagram(7, 2, 24, 52))];
    for (decode, octets) in decoders {
        for length in 0..octets.len() {
            let result = decode(&octets[..length], &mut FlowBatch::with_capacity(64));
            assert!(matches!(result, Err(DecodeError::Truncated { .. })), "{length} of {} octets: {result:?}", octets.len());
        }
    }
}
