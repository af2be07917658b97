//! What is synthesized, read back by decoders that are not ours: netflow_parser and flowparser-sflow.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use bench::synthesize::{Attack, Exporter, Flow, Hosts, Layout, PAYLOAD_OCTETS_MAX, Pool, Popularity, Protocol, Router, Traffic, Vector};
use flowparser_sflow::flow_records::FlowRecord;
use flowparser_sflow::{SflowParser, SflowSample};
use netflow_parser::variable_versions::field_value::{DataNumber, FieldValue};
use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{NetflowPacket, NetflowParser};
use schemas::net::Address;
use schemas::time::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn hosts() -> Hosts {
    Hosts { v4: "10.0.0.0/8".parse().unwrap(), v6: Some("2001:db8::/32".parse().unwrap()), count: 1_000, popularity: Popularity::Skewed }
}

fn exporter(protocol: Protocol, sampling_interval: u32) -> Exporter {
    Exporter::new(Layout::new(protocol, sampling_interval), Timestamp(NOW.0 - 3_600_000))
}

/// Exports 1,000 flows and gives them back with the datagrams.
fn export(protocol: Protocol) -> (Vec<Flow>, Vec<Vec<u8>>) {
    let mut traffic = Traffic::new(11, hosts(), 60_000);
    let flows: Vec<Flow> = (0..1_000).map(|_| traffic.flow(NOW)).collect();
    let mut datagrams = Vec::new();
    let sent = exporter(protocol, 100).export(NOW, &flows, &mut |draft| datagrams.push(draft.octets().to_vec()));
    // The protocols send the families apart, each in the order of the flows.
    let (v4, v6): (Vec<Flow>, Vec<Flow>) = flows.into_iter().partition(|flow| flow.source.is_v4());
    let expected = if protocol == Protocol::Netflow5 { v4 } else { [v4, v6].concat() };
    assert_eq!(sent, expected.len() as u64);
    assert!(datagrams.iter().all(|datagram| datagram.len() <= PAYLOAD_OCTETS_MAX));
    (expected, datagrams)
}

/// Source, destination, ports, protocol, packets, octets, milliseconds from start to end, sampler.
type Read = (IpAddr, IpAddr, u16, u16, u8, u64, u64, u64);

fn wanted(flow: &Flow) -> Read {
    (
        flow.source.ip(),
        flow.destination.ip(),
        flow.source_port,
        flow.destination_port,
        flow.protocol,
        flow.packets,
        flow.octets,
        flow.end.since(flow.start),
    )
}

fn number(value: &FieldValue) -> u64 {
    match value {
        FieldValue::DataNumber(DataNumber::U8(number)) => u64::from(*number),
        FieldValue::DataNumber(DataNumber::U16(number)) => u64::from(*number),
        FieldValue::DataNumber(DataNumber::U32(number)) => u64::from(*number),
        FieldValue::DataNumber(DataNumber::U64(number)) => *number,
        FieldValue::ProtocolType(protocol) => u64::from(u8::from(*protocol)),
        FieldValue::Duration(duration) => u64::try_from(duration.as_duration().as_millis()).unwrap(),
        FieldValue::Vec(octets) => octets.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)),
        other => panic!("not a number: {other:?}"),
    }
}

fn record<'a>(pairs: impl Iterator<Item = (String, &'a FieldValue)>) -> Read {
    let mut read: Read = (IpAddr::from([0; 4]), IpAddr::from([0; 4]), 0, 0, 0, 0, 0, 0);
    let mut start = 0;
    for (name, value) in pairs {
        let name = name.trim_start_matches("IANA(").trim_end_matches(')');
        match name {
            "Ipv4SrcAddr" | "SourceIpv4address" | "Ipv6SrcAddr" | "SourceIpv6address" => read.0 = value.try_into().unwrap(),
            "Ipv4DstAddr" | "DestinationIpv4address" | "Ipv6DstAddr" | "DestinationIpv6address" => read.1 = value.try_into().unwrap(),
            "L4SrcPort" | "SourceTransportPort" => read.2 = u16::try_from(number(value)).unwrap(),
            "L4DstPort" | "DestinationTransportPort" => read.3 = u16::try_from(number(value)).unwrap(),
            "Protocol" | "ProtocolIdentifier" => read.4 = u8::try_from(number(value)).unwrap(),
            "InPkts" | "PacketDeltaCount" => read.5 = number(value),
            "InBytes" | "OctetDeltaCount" => read.6 = number(value),
            "FirstSwitched" | "FlowStartMilliseconds" => start = number(value),
            "LastSwitched" | "FlowEndMilliseconds" => read.7 = number(value),
            _ => {}
        }
    }
    read.7 -= start;
    read
}

/// All flow records, and the options records as text.
fn read_netflow(datagrams: &[Vec<u8>]) -> (Vec<Read>, Vec<String>, Vec<u32>) {
    let mut parser = NetflowParser::default();
    let (mut records, mut options, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
    for datagram in datagrams {
        let result = parser.parse_bytes(datagram);
        assert!(result.error.is_none(), "{:?}", result.error);
        for packet in result.packets {
            match packet {
                NetflowPacket::V5(v5) => {
                    sequences.push(v5.header.flow_sequence);
                    records.extend(v5.flowsets.iter().map(|set| {
                        let protocol = set.protocol_number;
                        let lasted = u64::from(set.last - set.first);
                        let volume = (u64::from(set.d_pkts), u64::from(set.d_octets));
                        (set.src_addr.into(), set.dst_addr.into(), set.src_port, set.dst_port, protocol, volume.0, volume.1, lasted)
                    }));
                }
                NetflowPacket::V9(v9) => {
                    sequences.push(v9.header.sequence_number);
                    for set in v9.flowsets {
                        match set.body {
                            v9::FlowSetBody::Data(data) => {
                                records.extend(data.fields.iter().map(|fields| record(fields.iter().map(|(k, v)| (format!("{k:?}"), v)))));
                            }
                            v9::FlowSetBody::OptionsData(data) => options.push(format!("{data:?}")),
                            v9::FlowSetBody::NoTemplate(set) => panic!("no template: {set:?}"),
                            _ => {}
                        }
                    }
                }
                NetflowPacket::IPFix(message) => {
                    sequences.push(message.header.sequence_number);
                    for set in message.flowsets {
                        match set.body {
                            ipfix::FlowSetBody::Data(data) => {
                                records.extend(data.fields.iter().map(|fields| record(fields.iter().map(|(k, v)| (format!("{k:?}"), v)))));
                            }
                            ipfix::FlowSetBody::OptionsData(data) => options.push(format!("{data:?}")),
                            ipfix::FlowSetBody::NoTemplate(set) => panic!("no template: {set:?}"),
                            _ => {}
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    (records, options, sequences)
}

#[test]
fn netflow_parser_reads_what_was_put_in() {
    for protocol in [Protocol::Netflow5, Protocol::Netflow9, Protocol::Ipfix] {
        let (flows, datagrams) = export(protocol);
        let (records, options, sequences) = read_netflow(&datagrams);
        assert_eq!(records, flows.iter().map(wanted).collect::<Vec<_>>(), "{protocol:?}");
        assert_eq!(options.len(), usize::from(protocol != Protocol::Netflow5), "{protocol:?}");
        // v5: flows sent before; v9: datagrams; IPFIX: data records before, of which the first message has one (the options).
        let steps = if protocol == Protocol::Netflow5 { [0, 30] } else { [0, 1] };
        assert_eq!(sequences[..2], steps, "{protocol:?}");
        if protocol == Protocol::Ipfix {
            // (1472 − 16 − 4 − 3) / 76 = 19 records.
            assert_eq!(sequences[2], 20);
        }
    }
}

#[test]
fn a_full_version_9_datagram_holds_26_records_of_20_fields() {
    // (1472 − 20 − 4 − 3) / 55 = 26.3.
    assert_eq!(exporter(Protocol::Netflow9, 1).records_max(true), 26);
    assert_eq!(exporter(Protocol::Netflow5, 1).records_max(true), 30);
}

#[test]
fn the_lengths_of_a_variable_message_add_up() {
    // netflow_parser ends a set at an empty variable field, so the walk is done by hand: name, 76 or 112 octets, name.
    let (flows, datagrams) = export(Protocol::IpfixVariable);
    let mut records = 0;
    for message in datagrams.iter().skip(1) {
        let word = |at: usize| usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
        assert_eq!((word(0), word(2), word(18)), (10, message.len(), message.len() - 16));
        let fixed = if word(16) == 256 { 76 } else { 112 };
        let mut at = 20;
        while message.len() - at > 3 {
            at += 1 + usize::from(message[at]);
            at += fixed;
            at += 1 + usize::from(message[at]);
            records += 1;
        }
        assert!(at <= message.len() && message[at..].iter().all(|octet| *octet == 0));
    }
    assert_eq!(records, flows.len());
}

#[test]
fn flowparser_sflow_reads_what_was_put_in() {
    let (flows, datagrams) = export(Protocol::Sflow5);
    let (mut samples, mut counters) = (Vec::new(), 0);
    for datagram in &datagrams {
        let result = SflowParser::default().parse_bytes(datagram);
        assert!(result.error.is_none(), "{:?}", result.error);
        for sample in result.datagrams.into_iter().flat_map(|datagram| datagram.samples) {
            match sample {
                SflowSample::Flow(sample) => samples.push(sample),
                SflowSample::Counter(_) => counters += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((samples.len(), counters), (flows.len(), 1));
    for (index, (sample, flow)) in samples.iter().zip(&flows).enumerate() {
        let nth = u32::try_from(index + 1).unwrap();
        assert_eq!((sample.sequence_number, sample.sampling_rate, sample.sample_pool), (nth, 100, nth * 100));
        let FlowRecord::RawPacketHeader(raw) = &sample.records[0] else { panic!("{:?}", sample.records) };
        // Ethernet and check sequence are 18 octets; frames are at least 64 long.
        let octets = u32::try_from(flow.octets / flow.packets).unwrap().max(if flow.source.is_v4() { 40 } else { 60 });
        assert_eq!(raw.frame_length, (octets + 18).max(64));
        let ip = &raw.header[14..];
        let (source, transport) = if flow.source.is_v4() { (&ip[12..16], &ip[20..]) } else { (&ip[8..24], &ip[40..]) };
        assert!(flow.source.0.to_be_bytes().ends_with(source));
        if matches!(flow.protocol, 6 | 17) {
            assert_eq!(transport[..4], [flow.source_port.to_be_bytes(), flow.destination_port.to_be_bytes()].concat());
        }
    }
}

#[test]
fn a_seed_gives_the_same_octets_every_time_and_another_seed_others() {
    let run = |seed: u64| {
        let mut datagrams = Vec::new();
        for protocol in Protocol::ALL {
            let mut router = Router::new(Layout::new(protocol, 1_000), Traffic::new(seed, hosts(), 60_000), 500, NOW);
            let target: Address = "10.0.0.7".parse().unwrap();
            router.add(Attack::new(seed, Vector::NtpAmplification, target.host(), 1_000_000, NOW.plus(500), NOW.plus(1_500)));
            let mut flows = 0;
            for step in 1..=20 {
                flows += router.advance(NOW.plus(step * 100), &mut |octets| datagrams.push(octets.to_vec())).flows;
            }
            // 500 flows/s × 2 s, and 1,000,000 packets/s × 1 s / 1,000 sampled ones of the attack; version 5 leaves the IPv6 part out.
            let expected = if protocol == Protocol::Netflow5 { 1_700..1_800 } else { 2_000..2_001 };
            assert!(expected.contains(&flows), "{protocol:?}: {flows}");
        }
        datagrams
    };
    assert!(run(5) == run(5));
    assert!(run(5) != run(6));
}

#[test]
fn a_pool_repeats_its_datagrams_with_new_numbers_and_times() {
    for protocol in [Protocol::Netflow5, Protocol::Netflow9, Protocol::Ipfix] {
        let mut pool = Pool::new(exporter(protocol, 1), &mut Traffic::new(1, Hosts { v6: None, ..hosts() }, 60_000), 3, NOW);
        let mut datagrams: Vec<Vec<u8>> = pool.announcement(NOW).iter().map(|draft| draft.octets().to_vec()).collect();
        assert!(pool.announcement(NOW).is_none());
        for step in 0..4 {
            // Bursts of 2 and 1: the ring of three ends in between.
            datagrams.extend(pool.burst(NOW.plus(step * 1_000), 2).iter().map(|draft| draft.octets().to_vec()));
        }
        let (records, _, sequences) = read_netflow(&datagrams);
        assert_eq!(records[..records.len() / 2], records[records.len() / 2..], "{protocol:?}");
        assert!(sequences.is_sorted() && sequences.first() != sequences.last());
        assert_eq!(records.len() as f64, 6.0 * pool.flows_per_datagram());
    }
}
