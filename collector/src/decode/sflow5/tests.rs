//! sFlow datagrams by own encoders, cut at every octet, against flowparser-sflow, and the corpus where it is present.

use flowparser_sflow::{FlowRecord, SflowParser, SflowSample};
use schemas::net::PrefixSet;
use schemas::time::Timestamp;

use super::*;

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A datagram of agent 198.51.100.7, sub-agent 3, with the samples given.
fn datagram(sequence: u32, uptime: u32, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = words(&[5, 1, 0xc633_6407, 3, sequence, uptime, u32::try_from(samples.len()).unwrap()]);
    samples.iter().for_each(|sample| octets.extend(sample));
    octets
}

/// A kind, the length of what follows, and that.
fn counted(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut octets = words(&[kind, u32::try_from(body.len()).unwrap()]);
    octets.extend(body);
    octets
}

/// A compact flow sample: 1 in 1,024, in by interface 11, out by interface 12.
fn flow_sample(records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = words(&[1, 11, 1_024, 5_000, 0, 11, 12, u32::try_from(records.len()).unwrap()]);
    records.iter().for_each(|record| body.extend(record));
    counted(1, &body)
}

/// A frame of VLAN 42: TCP SYN from 192.0.2.1:1234 to 203.0.113.9:443, 40 octets of IP.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 42, 8, 0];
    frame.extend([0x45, 0xb8, 0, 40, 0, 1, 0, 0, 61, 6, 0, 0, 192, 0, 2, 1, 203, 0, 113, 9]);
    frame.extend([4, 210, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    frame
}

/// A raw header record of `frame`, whose length on the wire was 64 octets.
fn raw_header(frame: &[u8]) -> Vec<u8> {
    let mut body = words(&[1, 64, 4, u32::try_from(frame.len()).unwrap()]);
    body.extend(frame);
    body.resize(body.len().next_multiple_of(4), 0);
    counted(1, &body)
}

struct Decoded {
    batch: FlowBatch,
    agents: Agents,
    ledger: Ledger,
}

const EXPORTER: Address = Address::from_v4(0xc000_0201);

fn decode_all<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoded = Decoded { batch: FlowBatch::with_capacity(4_096), agents: Agents::default(), ledger: Ledger::default() };
    for payload in payloads {
        let datagram = Datagram { exporter: EXPORTER, source_port: 9, arrival: Timestamp(77), payload };
        decoded.ledger.datagrams_received += 1;
        decode(&datagram, None, &mut decoded.agents, &mut decoded.ledger, &mut decoded.batch);
    }
    // Counting comes later in the pipe.
    decoded.ledger.records_counted = decoded.ledger.records_decoded;
    assert!(decoded.ledger.imbalance().iter().all(|(_, difference)| *difference == 0), "{:?}", decoded.ledger);
    assert_eq!(decoded.ledger.records_decoded, decoded.batch.rows() as u64);
    decoded
}

#[test]
fn a_flow_sample_is_a_row_with_the_headers_of_its_frame() {
    let switch = counted(1001, &words(&[42, 0, 99, 0]));
    let router = counted(1002, &words(&[1, 0xc000_02fe, 24, 22]));
    let decoded = decode_all([&datagram(1, 1, &[flow_sample(&[raw_header(&frame()), switch, router])])[..]]);
    let batch = &decoded.batch;
    assert_eq!((batch.source_address[0].to_string(), batch.source_port[0]), ("192.0.2.1".into(), 1_234));
    assert_eq!((batch.destination_address[0].to_string(), batch.destination_port[0]), ("203.0.113.9".into(), 443));
    assert_eq!((batch.protocol_identifier[0], batch.tcp_control_bits[0], batch.ip_ttl[0]), (6, 2, 61));
    // 64 octets on the wire: 14 of Ethernet, 4 of the tag, 40 of IP, 6 of padding and check sequence.
    assert_eq!((batch.octet_delta_count[0], batch.link_layer_octets[0], batch.packet_delta_count[0]), (64, 24, 1));
    assert_eq!((batch.sampling_interval[0], batch.ingress_interface[0], batch.egress_interface[0]), (1_024, 11, 12));
    assert_eq!((batch.vlan_id[0], batch.post_vlan_id[0], batch.ip_class_of_service[0]), (42, 99, 0xb8));
    assert_eq!((batch.source_mac_address[0], batch.destination_mac_address[0]), (0x0200_0000_0002, 0x0200_0000_0001));
    assert_eq!(
        (batch.next_hop[0].to_string(), batch.source_prefix_length[0], batch.destination_prefix_length[0]),
        ("192.0.2.254".into(), 24, 22)
    );
    let origin = batch.segments()[0].origin;
    assert_eq!((origin.observation_domain_id, origin.version, origin.arrival_milliseconds), (3, Version::Sflow5, 77));
    let domains = decoded.agents.domains(EXPORTER);
    assert_eq!((domains[0].records, domains[0].sampling_interval, &domains[0].interfaces[..]), (1, Some(1_024), &[11, 12][..]));
}

/// RFC 1997 writes a community as two halves of 16 bits.
#[test]
fn a_gateway_tells_both_autonomous_systems_and_the_communities_of_the_route() {
    // Next hop; own, source's and peer's AS; a path of a sequence of two and a set of one; two communities; local preference.
    let gateway = |length: usize| {
        counted(
            1003,
            &words(&[1, 0xc000_02fe, 64_500, 64_501, 64_502, 2, 2, 2, 64_503, 64_504, 1, 1, 64_505, 2, 0xfdf4_0064, 7, 100][..length]),
        )
    };
    let samples = [17, 2].map(|length| flow_sample(&[raw_header(&frame()), gateway(length)]));
    let batch = decode_all([&datagram(1, 1, &samples)[..]]).batch;
    assert_eq!((batch.bgp_source_as_number[0], batch.bgp_destination_as_number[0]), (64_501, 64_505));
    assert_eq!(batch.community_list(batch.communities[0]), [0xfdf4_0064, 7]);
    // A record that ends behind the next hop is one without a route.
    assert_eq!((batch.bgp_next_hop[1].to_string(), batch.bgp_source_as_number[1], batch.communities[1]), ("192.0.2.254".into(), 0, 0));
}

#[test]
fn an_expanded_sample_has_interfaces_of_32_bits_and_a_compact_one_splits_its_format_off() {
    let mut body = words(&[1, 0, 70_000, 512, 9_000, 0, 0, 70_000, 0, 0xfff0_0000, 1]);
    body.extend(raw_header(&frame()));
    let mut compact = words(&[1, 11, 1, 1, 0, 0x3fff_ffff, 0x8000_000a, 1]);
    compact.extend(raw_header(&frame()));
    let batch = decode_all([&datagram(1, 1, &[counted(3, &body), counted(1, &compact)])[..]]).batch;
    assert_eq!((batch.ingress_interface[0], batch.egress_interface[0], batch.sampling_interval[0]), (70_000, 0xfff0_0000, 512));
    assert_eq!((batch.ingress_interface[1], batch.egress_interface[1]), (0x3fff_ffff, 10));
}

#[test]
fn a_sample_taken_where_the_packet_leaves_is_an_egress_one() {
    let taken_at = |source: u32| {
        let mut body = words(&[1, source, 1_024, 5_000, 0, 11, 12, 1]);
        body.extend(raw_header(&frame()));
        counted(1, &body)
    };
    let mut expanded = words(&[1, 0, 12, 512, 9_000, 0, 0, 11, 0, 12, 1]);
    expanded.extend(raw_header(&frame()));
    // The sources: the ingress, the egress, another, and a source that is no interface but has the egress's number.
    let samples = [taken_at(11), taken_at(12), taken_at(13), taken_at(0x0100_000c), counted(3, &expanded)];
    let batch = decode_all([&datagram(1, 1, &samples)[..]]).batch;
    assert_eq!(batch.flow_direction[..5], [0, 1, 0, 0, 1]);
}

#[test]
fn headers_that_the_agent_read_itself_make_the_row_where_no_raw_header_does() {
    let v4 = counted(3, &words(&[1_500, 17, 0xc000_0201, 0xcb00_7109, 53, 4_000, 0, 0x20]));
    let mut v6 = words(&[1_400, 6]);
    v6.extend(Address::from(std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])).0.to_be_bytes());
    v6.extend(Address::from(std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2])).0.to_be_bytes());
    v6.extend(words(&[80, 5_000, 0x12, 0]));
    let batch = decode_all([&datagram(1, 1, &[flow_sample(&[v4]), flow_sample(&[counted(4, &v6)])])[..]]).batch;
    assert_eq!((batch.source_address[0].to_string(), batch.source_port[0], batch.octet_delta_count[0]), ("192.0.2.1".into(), 53, 1_500));
    // The length is that of IP: nothing is to be taken off.
    assert_eq!((batch.link_layer_octets[0], batch.ip_class_of_service[0], batch.protocol_identifier[0]), (0, 0x20, 17));
    assert_eq!((batch.destination_address[1].to_string(), batch.tcp_control_bits[1]), ("2001:db8::2".into(), 0x12));
}

#[test]
fn octets_behind_the_records_of_a_sample_are_skipped_by_its_length() {
    let mut body = words(&[1, 11, 1_024, 5_000, 0, 11, 12, 1]);
    body.extend(raw_header(&frame()));
    body.extend([0xee; 20]);
    let decoded = decode_all([&datagram(1, 1, &[counted(1, &body), flow_sample(&[raw_header(&frame())])])[..]]);
    assert_eq!((decoded.batch.rows(), decoded.ledger.datagrams_decoded), (2, 1));
}

#[test]
fn a_record_over_the_end_of_its_sample_is_read_if_the_datagram_has_it() {
    let mut body = words(&[1, 11, 1_024, 5_000, 0, 11, 12, 1]);
    body.extend(counted(1002, &words(&[1, 0xc000_02fe, 24, 22])));
    let mut sample = counted(1, &body);
    // The length leaves the last word out.
    sample[7] -= 4;
    let decoded = decode_all([&datagram(1, 1, std::slice::from_ref(&sample))[..]]);
    assert_eq!((decoded.batch.rows(), decoded.batch.destination_prefix_length[0]), (1, 22));
    sample.truncate(sample.len() - 4);
    let decoded = decode_all([&datagram(1, 1, &[sample])[..]]);
    assert_eq!((decoded.batch.rows(), decoded.ledger.sets_malformed, decoded.ledger.datagrams_decoded), (0, 1, 1));
}

#[test]
fn counts_and_lengths_that_lie_cost_their_sample_or_the_rest_of_the_datagram() {
    let good = flow_sample(&[raw_header(&frame())]);
    let mut many_records = good.clone();
    many_records[8 + 28] = 0xff;
    let decoded = decode_all([&datagram(1, 1, &[many_records, good.clone()])[..]]);
    assert_eq!((decoded.batch.rows(), decoded.ledger.sets_malformed, decoded.ledger.datagrams_decoded), (1, 1, 1));
    let mut long = good.clone();
    long[4] = 0xff;
    let decoded = decode_all([&datagram(1, 1, &[good.clone(), long, good.clone()])[..]]);
    assert_eq!((decoded.batch.rows(), decoded.ledger.sets_malformed, decoded.ledger.datagrams_malformed), (1, 1, 1));
    let mut many_samples = datagram(1, 1, &[good]);
    many_samples[24] = 0xff;
    let decoded = decode_all([&many_samples[..]]);
    assert_eq!((decoded.batch.rows(), decoded.ledger.sets_malformed, decoded.ledger.datagrams_malformed), (1, 0, 1));
}

#[test]
fn counters_are_counted_and_unknown_kinds_skipped() {
    let mut counters = words(&[1, 11, 2]);
    counters.extend(counted(1, &[0; 88]));
    counters.extend(counted(2, &[0; 52]));
    let decoded = decode_all([&datagram(1, 1, &[counted(2, &counters), counted(5, &[0; 44]), counted(0x0012_3001, &[1; 8])])[..]]);
    assert_eq!((decoded.ledger.counters_decoded, decoded.ledger.sets_of_unknown_kind, decoded.ledger.sets_decoded), (2, 2, 3));
}

#[test]
fn a_rate_of_zero_is_unknown() {
    let mut sample = flow_sample(&[raw_header(&frame())]);
    sample[8 + 8..8 + 12].fill(0);
    let decoded = decode_all([&datagram(1, 1, &[sample])[..]]);
    assert_eq!((decoded.ledger.records_sampling_unknown, decoded.batch.sampling_interval[0]), (1, 0));
}

#[test]
fn the_operators_rate_holds_against_that_of_the_samples() {
    let payload = datagram(1, 1, &[flow_sample(&[raw_header(&frame())])]);
    let mut decoded = decode_all([]);
    let datagram = Datagram { exporter: EXPORTER, source_port: 9, arrival: Timestamp(77), payload: &payload };
    decode(&datagram, Some(500), &mut decoded.agents, &mut decoded.ledger, &mut decoded.batch);
    let domain = &decoded.agents.domains(EXPORTER)[0];
    assert_eq!((decoded.batch.sampling_interval[0], domain.sampling_interval), (500, Some(500)));
    assert_eq!(domain.sampling_source, schemas::counter::SamplingSource::Config);
}

#[test]
fn gaps_late_datagrams_wraps_and_restarts_are_told_apart() {
    let ledger = |numbers: &[(u32, u32)]| {
        let (mut agents, mut exporters) = (Agents::default(), crate::exporter::Exporters::new(PrefixSet::default(), 1));
        let mut batch = FlowBatch::with_capacity(1);
        for &(sequence, uptime) in numbers {
            let payload = datagram(sequence, uptime, &[]);
            let datagram = Datagram { exporter: EXPORTER, source_port: 9, arrival: Timestamp(77), payload: &payload };
            let exporter = exporters.admit(EXPORTER, Timestamp(77)).unwrap();
            decode(&datagram, None, &mut agents, &mut exporter.ledger, &mut batch);
        }
        agents.finish(&mut exporters);
        let ledger = exporters.total();
        assert_eq!(agents.domains(EXPORTER)[0].lost_by_sequence, ledger.lost_by_sequence);
        (ledger.lost_by_sequence, ledger.reordered, ledger.restarts)
    };
    assert_eq!(ledger(&[(1, 0), (2, 1), (3, 2)]), (0, 0, 0));
    assert_eq!(ledger(&[(1, 0), (5, 1)]), (3, 0, 0));
    // Number 3 comes after number 4: nothing is missing in the end.
    assert_eq!(ledger(&[(1, 0), (2, 1), (4, 2), (3, 2), (5, 3)]), (0, 1, 0));
    assert_eq!(ledger(&[(u32::MAX, u32::MAX), (0, 100), (1, 200)]), (0, 0, 0));
    // The agent starts anew after ten minutes: the numbers are near, the uptime is not.
    assert_eq!(ledger(&[(20, 600_000), (1, 500), (2, 700)]), (0, 0, 1));
    assert_eq!(ledger(&[(500_000_000, 600_000), (1, 600_500)]), (0, 0, 1));
}

#[test]
fn a_datagram_cut_anywhere_gives_no_more_than_its_whole_samples() {
    let samples = [flow_sample(&[raw_header(&frame())]), flow_sample(&[counted(1002, &words(&[1, 1, 24, 22])), raw_header(&frame())])];
    let whole = datagram(1, 1, &samples);
    for length in 0..whole.len() {
        let decoded = decode_all([&whole[..length]]);
        assert!(decoded.batch.rows() < 2);
        assert_eq!(decoded.ledger.datagrams_malformed, 1);
    }
}

#[test]
fn one_exporter_cannot_invent_sub_agents_without_end() {
    let datagrams: Vec<_> = (0..1_000u32).map(|sub_agent| words(&[5, 1, 7, sub_agent, 1, 1, 0])).collect();
    let decoded = decode_all(datagrams.iter().map(Vec::as_slice));
    assert_eq!((decoded.agents.domains(EXPORTER).len(), decoded.ledger.datagrams_decoded), (256, 1_000));
}

/// What the library finds in the flow samples of a datagram: rate, interfaces, frame length and header.
fn oracle(payload: &[u8]) -> Vec<(u32, u32, u32, u32)> {
    let result = SflowParser::default().parse_bytes(payload);
    let samples = result.datagrams.into_iter().take(1).flat_map(|datagram| datagram.samples);
    let length = |records: &[FlowRecord]| {
        let raw =
            records.iter().find_map(|record| if let FlowRecord::RawPacketHeader(raw) = record { Some(raw.frame_length) } else { None });
        raw.unwrap_or(0)
    };
    samples
        .filter_map(|sample| match sample {
            SflowSample::Flow(flow) => Some((flow.sampling_rate, flow.input, flow.output & INTERFACE_VALUE, length(&flow.records))),
            SflowSample::ExpandedFlow(flow) => Some((flow.sampling_rate, flow.input_value, flow.output_value, length(&flow.records))),
            _ => None,
        })
        .collect()
}

fn rows(batch: &FlowBatch) -> Vec<(u32, u32, u32, u32)> {
    let row = |row: usize| {
        let octets = u32::try_from(batch.octet_delta_count[row]).unwrap();
        (batch.sampling_interval[row], batch.ingress_interface[row], batch.egress_interface[row], octets)
    };
    (0..batch.rows()).map(row).collect()
}

#[test]
fn the_corpus_decodes_as_the_library_does_it() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/captures");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no corpus at {}", folder.display());
        return;
    };
    let mut compared = 0;
    for file in files {
        let mut capture = crate::receive::capture::Capture::open(&file.unwrap().path()).unwrap();
        let mut reassembler = crate::receive::reassembly::Reassembler::default();
        while let Some(packet) = capture.next_packet().unwrap() {
            let Some(datagram) = reassembler.take(packet.link().unwrap(), packet.octets) else { continue };
            if !datagram.payload.starts_with(&[0, 0, 0, 5]) {
                continue;
            }
            let decoded = decode_all([datagram.payload]);
            // The library gives a datagram up at its first fault.
            if SflowParser::default().parse_bytes(datagram.payload).error.is_none() {
                assert_eq!(rows(&decoded.batch), oracle(datagram.payload));
                compared += decoded.batch.rows();
            }
        }
    }
    // 13 of the IPv6 agent, 7 of the counters capture's neighbours, 6, 1 and 7 of others, at the least.
    assert!(compared >= 27, "{compared}");
}

/// A row, or an expected flow, as one line; what is absent, null or 0 is 0.
fn line(columns: [String; 9]) -> String {
    columns.map(|column| if matches!(column.as_str(), "null" | "::" | "0.0.0.0") { "0".to_owned() } else { column }).join(" ")
}

fn expected(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let flows = rows.filter(|row| row["type"] == "flow" && row.get("agent").is_some());
    let keys = ["src_addr", "dst_addr", "src_port", "dst_port", "proto", "bytes", "tcp_flags", "in_if", "out_if"];
    flows.map(|row| line(keys.map(|key| row[key].as_str().map_or_else(|| row[key].to_string(), str::to_owned)))).collect()
}

#[test]
fn the_corpus_decodes_to_the_expected_flows() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let Ok(manifest) = std::fs::read_to_string(root.join("manifest.tsv")) else {
        eprintln!("skipped: no corpus at {}", root.display());
        return;
    };
    for id in manifest.lines().map(|row| row.split('\t').next().unwrap()).filter(|id| id.contains("sflow")) {
        let mut capture = crate::receive::capture::Capture::open(&root.join(format!("captures/{id}.pcap"))).unwrap();
        let mut reassembler = crate::receive::reassembly::Reassembler::default();
        let mut found = Vec::new();
        while let Some(packet) = capture.next_packet().unwrap() {
            let Some(datagram) = reassembler.take(packet.link().unwrap(), packet.octets) else { continue };
            if !datagram.payload.starts_with(&[0, 0, 0, 5]) {
                continue;
            }
            let batch = decode_all([datagram.payload]).batch;
            found.extend((0..batch.rows()).map(|row| {
                line([
                    batch.source_address[row].to_string(),
                    batch.destination_address[row].to_string(),
                    batch.source_port[row].to_string(),
                    batch.destination_port[row].to_string(),
                    batch.protocol_identifier[row].to_string(),
                    batch.octet_delta_count[row].to_string(),
                    batch.tcp_control_bits[row].to_string(),
                    batch.ingress_interface[row].to_string(),
                    batch.egress_interface[row].to_string(),
                ])
            }));
        }
        assert_eq!(found, expected(&root.join(format!("expected/{id}.ndjson"))), "{id}");
    }
}

proptest::proptest! {
    #[test]
    fn any_octets_are_decoded_or_counted(
        noise in proptest::collection::vec(proptest::prelude::any::<(u16, u8)>(), 0..12),
        length in 0usize..400,
    ) {
        let mut payload = datagram(1, 1, &[
            flow_sample(&[counted(1001, &words(&[42, 0, 99, 0])), raw_header(&frame())]),
            counted(2, &words(&[1, 11, 1, 1, 4, 7])),
            flow_sample(&[raw_header(&frame())]),
        ]);
        for (place, value) in noise {
            let place = usize::from(place) % payload.len();
            payload[place] = value;
        }
        payload.truncate(length);
        let _ = decode_all([&payload[..]]);
    }

    #[test]
    fn sound_samples_decode_as_the_library_does_it(
        samples in proptest::collection::vec((1u32..1_000_000, 0u32..0x4000_0000, 0u32..0x4000_0000, 0u32..10_000), 0..20),
    ) {
        let encoded: Vec<_> = samples.iter().map(|&(rate, input, output, octets)| {
            let mut raw = words(&[1, octets, 4, 58]);
            raw.extend(frame());
            raw.resize(raw.len().next_multiple_of(4), 0);
            let mut body = words(&[1, 11, rate, 5_000, 0, input, output, 1]);
            body.extend(counted(1, &raw));
            counted(1, &body)
        }).collect();
        let payload = datagram(1, 1, &encoded);
        let decoded = decode_all([&payload[..]]);
        proptest::prop_assert_eq!(rows(&decoded.batch), oracle(&payload));
        proptest::prop_assert_eq!(rows(&decoded.batch), samples);
    }
}
