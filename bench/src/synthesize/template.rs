//! NetFlow version 9 and IPFIX: the layouts of an access router, their templates, and data sets by them.

use schemas::time::Timestamp;

use super::draft::{Draft, Open};
use super::exporter::autonomous_system;
use super::{Flow, Layout, PAYLOAD_OCTETS_MAX, Protocol};

/// The length in a template that says "each record tells" (RFC 7011 §7).
const VARIABLE: u16 = 65_535;
/// The one sampler of an exporter.
const SAMPLER_ID: u32 = 1;

/// Template of flows of IPv4.
const V4: u16 = 256;
/// Template of flows of IPv6.
const V6: u16 = 257;
/// Template of the options that tell the sampling rate.
const SAMPLING: u16 = 258;

/// An information element, by its number in both protocols' common registry, and its length.
type Element = (u16, u16);

/// 20 fields, 55 octets: what IOS and Junos send for IPv4 in version 9.
const NETFLOW9_V4: [Element; 20] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (61, 1),
    (48, 1),
];

/// 21 fields, 94 octets.
const NETFLOW9_V6: [Element; 21] = [
    (27, 16),
    (28, 16),
    (62, 16),
    (10, 4),
    (14, 4),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (29, 1),
    (30, 1),
    (61, 1),
    (48, 1),
    (31, 3),
];

/// 21 fields, 76 octets: counters of 64 bits and times in milliseconds.
const IPFIX_V4: [Element; 21] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 8),
    (1, 8),
    (152, 8),
    (153, 8),
    (7, 2),
    (11, 2),
    (6, 2),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (136, 1),
    (192, 1),
    (302, 4),
];

/// 21 fields, 112 octets.
const IPFIX_V6: [Element; 21] = [
    (27, 16),
    (28, 16),
    (62, 16),
    (10, 4),
    (14, 4),
    (2, 8),
    (1, 8),
    (152, 8),
    (153, 8),
    (7, 2),
    (11, 2),
    (6, 2),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (29, 1),
    (30, 1),
    (136, 1),
    (192, 1),
    (302, 4),
];

/// What the variable layouts add: `applicationName(96)` in front and `interfaceName(82)` behind.
const VARIABLE_FIRST: Element = (96, VARIABLE);
const VARIABLE_LAST: Element = (82, VARIABLE);
/// Names that appear there, one of them empty.
const NAMES: [&str; 4] = ["https", "", "xe-0/0/1.100", "TenGigE0/1/0/3"];

fn is_netflow9(layout: &Layout) -> bool {
    layout.protocol == Protocol::Netflow9
}

/// The elements of a layout in the order of the record.
fn elements(protocol: Protocol, v4: bool) -> Vec<Element> {
    let fixed: &[Element] = match (protocol, v4) {
        (Protocol::Netflow9, true) => &NETFLOW9_V4,
        (Protocol::Netflow9, false) => &NETFLOW9_V6,
        (_, true) => &IPFIX_V4,
        (_, false) => &IPFIX_V6,
    };
    if protocol == Protocol::IpfixVariable { [&[VARIABLE_FIRST], fixed, &[VARIABLE_LAST]].concat() } else { fixed.to_vec() }
}

/// Most flows of one family that are sure to fit into a datagram.
pub(super) fn records_max(protocol: Protocol, v4: bool) -> usize {
    let octets: usize = elements(protocol, v4)
        .iter()
        // A variable field takes its length octet and at most the longest name.
        .map(|&(_, length)| if length == VARIABLE { 15 } else { usize::from(length) })
        .sum();
    let header = if protocol == Protocol::Netflow9 { 20 } else { 16 };
    // 4 octets of set header, and up to 3 of padding.
    (PAYLOAD_OCTETS_MAX - header - 4 - 3) / octets
}

/// The header; version 9 counts records in it, IPFIX has the length of the message there.
fn header(layout: &Layout) -> Draft {
    let mut draft = Draft::new();
    draft.put_u16(if is_netflow9(layout) { 9 } else { 10 });
    draft.put_u16(0);
    if is_netflow9(layout) {
        draft.leave(Open::Uptime);
    }
    draft.leave(Open::Seconds);
    draft.leave(Open::Sequence);
    draft.put_u32(layout.observation_domain_id);
    draft
}

fn set(draft: &mut Draft, id: u16, write: impl FnOnce(&mut Draft)) {
    let start = draft.length();
    draft.put_u16(id);
    draft.put_u16(0);
    write(draft);
    draft.pad(4);
    draft.set_u16(start + 2, draft.length() - start);
}

/// Closes the header; version 9 sequences count datagrams, IPFIX sequences data records.
fn finish(layout: &Layout, mut draft: Draft, records: usize, data_records: u32) -> Draft {
    let count = if is_netflow9(layout) { records } else { draft.length() };
    draft.set_u16(2, count);
    draft.advance = if is_netflow9(layout) { 1 } else { data_records };
    draft
}

/// A datagram with both templates, the options template and the sampler's options record.
pub(super) fn announcement(layout: &Layout) -> Draft {
    let mut draft = header(layout);
    let netflow9 = is_netflow9(layout);
    set(&mut draft, if netflow9 { 0 } else { 2 }, |draft| {
        for (id, v4) in [(V4, true), (V6, false)] {
            let elements = elements(layout.protocol, v4);
            draft.put_u16(id);
            draft.put_u16(u16::try_from(elements.len()).unwrap_or(0));
            for (element, length) in elements {
                draft.put_u16(element);
                draft.put_u16(length);
            }
        }
    });
    if netflow9 {
        // Scope "system" (1) of 4 octets; samplerId(48), samplerMode(49), samplerRandomInterval(50). Lengths in octets.
        set(&mut draft, 1, |draft| [SAMPLING, 4, 12, 1, 4, 48, 1, 49, 1, 50, 4].into_iter().for_each(|word| draft.put_u16(word)));
        set(&mut draft, SAMPLING, |draft| {
            draft.put_u32(0);
            draft.put(u128::from(SAMPLER_ID), 1);
            draft.put(2, 1);
            draft.put_u32(layout.sampling_interval);
        });
    } else {
        // Scope selectorId(302); selectorAlgorithm(304) 1 = count-based, samplingPacketInterval(305) 1 and …Space(306) n − 1.
        set(&mut draft, 3, |draft| [SAMPLING, 4, 1, 302, 4, 304, 2, 305, 4, 306, 4].into_iter().for_each(|word| draft.put_u16(word)));
        set(&mut draft, SAMPLING, |draft| {
            draft.put_u32(SAMPLER_ID);
            draft.put_u16(1);
            draft.put_u32(1);
            draft.put_u32(layout.sampling_interval.saturating_sub(1));
        });
    }
    finish(layout, draft, 4, 1)
}

/// A datagram with one data set of flows of one family, at most [`records_max`] of them.
pub(super) fn draft(layout: &Layout, now: Timestamp, flows: &[Flow]) -> Draft {
    let v4 = flows.first().is_none_or(|flow| flow.source.is_v4());
    let elements = elements(layout.protocol, v4);
    let mut draft = header(layout);
    set(&mut draft, if v4 { V4 } else { V6 }, |draft| {
        for flow in flows {
            for &(element, length) in &elements {
                field(draft, now, flow, element, length);
            }
            draft.flow();
        }
    });
    let data_records = draft.flows();
    finish(layout, draft, flows.len(), data_records)
}

fn field(draft: &mut Draft, now: Timestamp, flow: &Flow, element: u16, length: u16) {
    let age = |moment: Timestamp| u32::try_from(now.since(moment)).unwrap_or(u32::MAX);
    let value: u128 = match element {
        1 => flow.octets.into(),
        2 => flow.packets.into(),
        4 => flow.protocol.into(),
        6 => flow.tcp_control_bits.into(),
        7 => flow.source_port.into(),
        8 | 27 => flow.source.0,
        9 | 13 => 24,
        10 => flow.ingress_interface.into(),
        11 => flow.destination_port.into(),
        12 | 28 => flow.destination.0,
        14 => flow.egress_interface.into(),
        15 => 0x0a00_0001,
        16 => autonomous_system(flow.source).into(),
        17 => autonomous_system(flow.destination).into(),
        21 => return draft.leave(Open::UptimeBefore(age(flow.end))),
        22 => return draft.leave(Open::UptimeBefore(age(flow.start))),
        29 | 30 => 48,
        48 | 302 => SAMPLER_ID.into(),
        62 => 0xfe80 << 112 | 1,
        // Ended by the idle timeout.
        136 => 1,
        152 => return draft.leave(Open::MillisecondsBefore(age(flow.start))),
        153 => return draft.leave(Open::MillisecondsBefore(age(flow.end))),
        192 => flow.ttl.into(),
        82 | 96 => {
            let name = NAMES.get(usize::from(flow.source_port) % NAMES.len()).copied().unwrap_or("");
            draft.put(name.len() as u128, 1);
            return draft.put_octets(name.as_bytes());
        }
        _ => 0,
    };
    draft.put(value, usize::from(length));
}
