//! What is synthesized, read back by the collector: every flow once, with its counts, times and sampling rate.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use bench::synthesize::{Exporter, Flow, Fragment, Hosts, Layout, Popularity, Protocol, Traffic, frame};
use collector::decode::frame::{Link, dissect};
use collector::decode::{Config, Datagram, Decoder, ROWS_PER_DATAGRAM_MAX, Templates};
use collector::exporter::Exporters;
use schemas::flow::{FlowBatch, fragment};
use schemas::net::{Address, PrefixSet};
use schemas::time::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const INTERVAL: u32 = 100;

/// Source, destination, ports, protocol, packets, octets, start, end, interfaces.
type Row = (Address, Address, u16, u16, u8, u64, u64, u64, u64, u32, u32);

fn row(batch: &FlowBatch, index: usize) -> Row {
    (
        batch.source_address[index],
        batch.destination_address[index],
        batch.source_port[index],
        batch.destination_port[index],
        batch.protocol_identifier[index],
        batch.packet_delta_count[index],
        batch.octet_delta_count[index] - u64::from(batch.link_layer_octets[index]) * batch.packet_delta_count[index],
        batch.flow_start_milliseconds[index],
        batch.flow_end_milliseconds[index],
        batch.ingress_interface[index],
        batch.egress_interface[index],
    )
}

/// What a row must say of a flow: an sFlow sample is one packet, without a time of its own.
fn wanted(protocol: Protocol, flow: &Flow, read: &Row) -> Row {
    let ports = if protocol == Protocol::Sflow5 && !matches!(flow.protocol, 6 | 17) {
        // ICMP has its type and code there in NetFlow; a sampled header has no ports then.
        (read.2, read.3)
    } else {
        (flow.source_port, flow.destination_port)
    };
    let (packets, octets, start, end) = if protocol == Protocol::Sflow5 {
        let least = if flow.source.is_v4() { 40 } else { 60 };
        (1, (flow.octets / flow.packets).max(least), read.7, read.8)
    } else {
        (flow.packets, flow.octets, flow.start.0, flow.end.0)
    };
    let interfaces = (flow.ingress_interface, flow.egress_interface);
    (flow.source, flow.destination, ports.0, ports.1, flow.protocol, packets, octets, start, end, interfaces.0, interfaces.1)
}

#[test]
fn the_collector_reads_what_was_put_in_and_misses_nothing() {
    let v6 = Some("2001:db8::/32".parse().unwrap());
    let hosts = Hosts { v4: "10.0.0.0/8".parse().unwrap(), v6, count: 1_000, popularity: Popularity::Even };
    for protocol in Protocol::ALL {
        let mut traffic = Traffic::new(5, hosts, 60_000);
        let flows: Vec<Flow> = (0..2_000).map(|_| traffic.flow(NOW)).collect();
        let (v4, v6): (Vec<Flow>, Vec<Flow>) = flows.iter().partition(|flow| flow.source.is_v4());
        let expected = if protocol == Protocol::Netflow5 { v4 } else { [v4, v6].concat() };
        let mut decoder = Decoder::new(&Config::default(), Templates::Inline);
        let mut exporters = Exporters::new(PrefixSet::default(), 4);
        let mut batch = FlowBatch::with_capacity(2_000 + ROWS_PER_DATAGRAM_MAX);
        let mut exporter = Exporter::new(Layout::new(protocol, INTERVAL), Timestamp(NOW.0 - 3_600_000));
        exporter.export(NOW, &flows, &mut |draft| {
            let datagram = Datagram { exporter: Address::from_v4(9), source_port: 7, arrival: NOW, payload: draft.octets() };
            decoder.decode(&datagram, &mut exporters, &mut batch);
        });
        decoder.finish(&mut exporters);
        let ledger = exporters.total();
        assert_eq!(ledger.records_decoded, expected.len() as u64, "{protocol:?}: {ledger:?}");
        let amiss = [ledger.datagrams_malformed, ledger.sets_malformed, ledger.sets_without_template, ledger.lost_by_sequence];
        assert_eq!(amiss, [0; 4], "{protocol:?}: {ledger:?}");
        assert_eq!((ledger.reordered, ledger.restarts, ledger.records_sampling_unknown), (0, 0, 0), "{protocol:?}");
        for (index, flow) in expected.iter().enumerate() {
            let read = row(&batch, index);
            // Frames shorter than 64 octets are padded on the wire: their IP octets cannot be told from the padding.
            let padded = protocol == Protocol::Sflow5 && flow.octets / flow.packets < 46;
            if !padded {
                assert_eq!(read, wanted(protocol, flow, &read), "{protocol:?}, flow {index}");
            }
            assert_eq!(batch.sampling_interval[index], INTERVAL, "{protocol:?}");
        }
    }
}

/// First fragments have ports, later ones none; both are known as fragments, and whole packets are not.
#[test]
fn fragments_of_both_families_are_read_as_what_they_are() {
    for (source, destination) in [("192.0.2.1", "203.0.113.7"), ("2001:db8::1", "2001:db8:1::7")] {
        let flow = Flow {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: 53,
            destination_port: 4_444,
            protocol: 17,
            tcp_control_bits: 0,
            fragment: Fragment::Whole,
            packets: 1,
            octets: 1_400,
            start: NOW,
            end: NOW,
            ingress_interface: 1,
            egress_interface: 2,
            ttl: 60,
        };
        let read = |part| {
            let headers = dissect(Link::Ethernet, &frame(&Flow { fragment: part, ..flow }, 128)).unwrap();
            assert_eq!((headers.destination_address, headers.protocol_identifier), (flow.destination, 17), "{part:?} {source}");
            (headers.source_port, headers.fragment & fragment::FRAGMENT != 0)
        };
        assert_eq!([Fragment::Whole, Fragment::First, Fragment::Later].map(read), [(53, false), (53, true), (0, true)], "{source}");
    }
}
