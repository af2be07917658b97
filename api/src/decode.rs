//! `weir decode`: every flow record of a capture as a line of JSON, for people who debug an exporter.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use collector::decode::{Config, Datagram, Decoder, ROWS_PER_DATAGRAM_MAX, Templates};
use collector::exporter::Exporters;
use collector::receive::capture::Capture;
use collector::receive::reassembly::Reassembler;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::net::{Address, PrefixSet};
use schemas::time::Timestamp;

/// The keys that every line has, in order; `null` where the record has no such field.
const ALWAYS: [Column; 15] = [
    Column::SourceAddress,
    Column::DestinationAddress,
    Column::SourcePort,
    Column::DestinationPort,
    Column::ProtocolIdentifier,
    Column::OctetDeltaCount,
    Column::PacketDeltaCount,
    Column::TcpControlBits,
    Column::IngressInterface,
    Column::EgressInterface,
    Column::BgpSourceAsNumber,
    Column::BgpDestinationAsNumber,
    Column::SamplingInterval,
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
];

/// Senders that are told apart; the datagrams of further ones are counted and not looked at.
const EXPORTERS_MAX: usize = 65_536;

/// Prints the flows of a capture, from the named UDP ports or from any, and their totals.
///
/// `wait` lets data wait for a template that comes later in the capture; without, it is counted as undecoded.
///
/// # Errors
///
/// If the capture cannot be read, or not to its end: what could be read is printed all the same. A reader that goes away is no
/// error.
pub fn run(file: &Path, ports: &[u16], wait: bool) -> anyhow::Result<()> {
    let mut capture = Capture::open(file).with_context(|| file.display().to_string())?;
    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match print(&mut capture, ports, wait, &mut output).and_then(|outcome| output.flush().map(|()| outcome)) {
        Ok(outcome) => outcome.with_context(|| file.display().to_string()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error).context("cannot write"),
    }
}

/// The inner result is the capture's, the outer one the output's.
fn print(capture: &mut Capture, ports: &[u16], wait: bool, output: &mut impl Write) -> io::Result<anyhow::Result<()>> {
    let config = Config { wait, waiting_seconds_max: u64::MAX / 1_000, ..Config::default() };
    let mut decoder = Decoder::new(&config, Templates::Inline);
    let mut exporters = Exporters::new(PrefixSet::default(), EXPORTERS_MAX);
    let mut batch = FlowBatch::with_capacity(2 * ROWS_PER_DATAGRAM_MAX);
    let mut reassembler = Reassembler::default();
    let mut line = Vec::with_capacity(2_048);
    let outcome = loop {
        let packet = match capture.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        };
        let arrival = packet.arrival();
        let Some(udp) = packet.link().and_then(|link| reassembler.take(link, packet.octets)) else {
            continue;
        };
        if !ports.is_empty() && !ports.contains(&udp.destination_port) {
            continue;
        }
        let datagram = Datagram { exporter: udp.source, source_port: udp.source_port, arrival, payload: udp.payload };
        decoder.decode(&datagram, &mut exporters, &mut batch);
        release(&mut decoder, arrival, &mut exporters, &mut batch, &mut line, output)?;
    };
    decoder.finish(&mut exporters);
    let total = exporters.total();
    write!(output, r#"{{"type":"totals","datagrams":{},"flows":{}"#, total.datagrams_received, total.records_decoded)?;
    write!(output, r#","options":{},"counters":{}"#, total.options_decoded, total.counters_decoded)?;
    write!(output, r#","templates":{},"undecoded_sets":{}"#, total.templates_learned, total.sets_without_template)?;
    writeln!(output, r#","malformed":{},"lost_by_sequence":{}}}"#, total.datagrams_malformed, total.lost_by_sequence)?;
    Ok(outcome)
}

/// Prints what a datagram has brought, and what has waited for it.
fn release(
    decoder: &mut Decoder,
    arrival: Timestamp,
    exporters: &mut Exporters,
    batch: &mut FlowBatch,
    line: &mut Vec<u8>,
    output: &mut impl Write,
) -> io::Result<()> {
    loop {
        flows(batch, line, output)?;
        batch.clear();
        decoder.release(arrival, exporters, batch);
        if batch.rows() == 0 {
            return Ok(());
        }
    }
}

fn flows(batch: &FlowBatch, line: &mut Vec<u8>, output: &mut impl Write) -> io::Result<()> {
    for segment in batch.segments() {
        for row in segment.first..segment.first + segment.rows {
            line.clear();
            flow(batch, row, &segment.origin, line)?;
            output.write_all(line)?;
        }
    }
    Ok(())
}

/// Writes one line: what the record exports, and apart from it what its packet section tells.
fn flow(batch: &FlowBatch, row: usize, origin: &Origin, line: &mut Vec<u8>) -> io::Result<()> {
    let exported = origin.present.minus(origin.derived);
    write!(line, r#"{{"type":"flow","exporter":"{}","version":"{}""#, origin.exporter, version(origin.version))?;
    write!(line, r#","observation_domain_id":{},"template_id":"#, origin.observation_domain_id)?;
    match origin.template_id {
        0 => line.write_all(b"null")?,
        id => write!(line, "{id}")?,
    }
    for column in ALWAYS {
        key(line, b",", column)?;
        if exported.has(column) { value(batch, row, column, line)? } else { line.write_all(b"null")? }
    }
    let rest = exported.minus(ColumnSet::of(&ALWAYS));
    for &column in Column::ALL.iter().filter(|&&column| rest.has(column)) {
        key(line, b",", column)?;
        value(batch, row, column, line)?;
    }
    if origin.derived != ColumnSet::default() {
        line.write_all(if origin.version == Version::Sflow5 { br#","extended_gateway":"# } else { br#","packet_section":"# })?;
        let mut separator: &[u8] = b"{";
        for &column in Column::ALL.iter().filter(|&&column| origin.derived.has(column)) {
            key(line, separator, column)?;
            value(batch, row, column, line)?;
            separator = b",";
        }
        line.write_all(b"}")?;
    }
    line.write_all(b"}\n")
}

fn key(line: &mut Vec<u8>, separator: &[u8], column: Column) -> io::Result<()> {
    line.write_all(separator)?;
    write!(line, r#""{}":"#, column.name())
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Netflow1 => "netflow1",
        Version::Netflow5 => "netflow5",
        Version::Netflow7 => "netflow7",
        Version::Netflow9 => "netflow9",
        Version::Ipfix => "ipfix",
        Version::Sflow5 => "sflow5",
        Version::Packet => "packet",
    }
}

macro_rules! values {
    (addresses { $($address:ident $address_name:ident)* } octets { $($mac:ident $mac_name:ident)* } numbers { $($number:ident $name:ident)* }) => {
        /// Writes the value of a column.
        fn value(batch: &FlowBatch, row: usize, column: Column, line: &mut Vec<u8>) -> io::Result<()> {
            match column {
                $(Column::$address => address(batch.$address_name.get(row).copied().unwrap_or_default(), line),)*
                $(Column::$mac => mac_address(batch.$mac_name.get(row).copied().unwrap_or_default(), line),)*
                Column::Communities => communities(batch.community_list(batch.communities.get(row).copied().unwrap_or_default()), line),
                // A rate that is not known.
                Column::SamplingInterval if batch.sampling_interval.get(row) == Some(&0) => line.write_all(b"null"),
                $(Column::$number => write!(line, "{}", batch.$name.get(row).copied().unwrap_or_default()),)*
            }
        }
    };
}

values! {
    addresses {
        SourceAddress source_address DestinationAddress destination_address NextHop next_hop BgpNextHop bgp_next_hop
        PostNatSourceAddress post_nat_source_address PostNatDestinationAddress post_nat_destination_address
    }
    octets { SourceMacAddress source_mac_address DestinationMacAddress destination_mac_address }
    numbers {
        SourcePort source_port DestinationPort destination_port ProtocolIdentifier protocol_identifier TcpControlBits tcp_control_bits
        OctetDeltaCount octet_delta_count PacketDeltaCount packet_delta_count LinkLayerOctets link_layer_octets
        SamplingInterval sampling_interval FlowStartMilliseconds flow_start_milliseconds FlowEndMilliseconds flow_end_milliseconds
        IngressInterface ingress_interface EgressInterface egress_interface BgpSourceAsNumber bgp_source_as_number
        BgpDestinationAsNumber bgp_destination_as_number Fragment fragment IcmpTypeCode icmp_type_code
        IpClassOfService ip_class_of_service IpTtl ip_ttl FlowLabel flow_label SourcePrefixLength source_prefix_length
        DestinationPrefixLength destination_prefix_length FlowDirection flow_direction ForwardingStatus forwarding_status
        FlowEndReason flow_end_reason SelectorId selector_id OctetTotalCount octet_total_count PacketTotalCount packet_total_count
        InitiatorOctets initiator_octets ResponderOctets responder_octets InitiatorPackets initiator_packets
        ResponderPackets responder_packets ReverseOctetDeltaCount reverse_octet_delta_count
        ReversePacketDeltaCount reverse_packet_delta_count PostOctetDeltaCount post_octet_delta_count
        PostPacketDeltaCount post_packet_delta_count VlanId vlan_id PostVlanId post_vlan_id MplsTopLabel mpls_top_label
        MplsLabel2 mpls_label_2 MplsLabel3 mpls_label_3 IngressVrfId ingress_vrf_id EgressVrfId egress_vrf_id
        FirewallEvent firewall_event NatEvent nat_event PostNaptSourcePort post_napt_source_port
        PostNaptDestinationPort post_napt_destination_port ApplicationId application_id
    }
}

/// An address, `null` for none.
fn address(address: Address, line: &mut Vec<u8>) -> io::Result<()> {
    if address.is_none() { line.write_all(b"null") } else { write!(line, r#""{address}""#) }
}

/// BGP communities as they are written: the two halves of each.
fn communities(list: &[u32], line: &mut Vec<u8>) -> io::Result<()> {
    let mut separator = "[";
    for community in list {
        write!(line, r#"{separator}"{}:{}""#, community >> 16, community & 0xffff)?;
        separator = ",";
    }
    line.write_all(if list.is_empty() { b"[]" } else { b"]" })
}

fn mac_address(bits: u64, line: &mut Vec<u8>) -> io::Result<()> {
    let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
    write!(line, r#""{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}""#)
}
