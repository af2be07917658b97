//! NetFlow version 5: a header of 24 octets, then up to 30 records of 48.

use schemas::net::Address;
use schemas::time::Timestamp;

use super::draft::{Draft, Open};
use super::exporter::autonomous_system;
use super::{Flow, Layout};

/// Most records of a datagram, by the protocol; they fill 1,464 octets.
pub(super) const RECORDS_MAX: usize = 30;

/// A datagram of at most [`RECORDS_MAX`] IPv4 flows; the sequence counts flows.
pub(super) fn draft(layout: &Layout, now: Timestamp, flows: &[Flow]) -> Draft {
    let mut draft = Draft::new();
    draft.put_u16(5);
    draft.put_u16(u16::try_from(flows.len()).unwrap_or(0));
    draft.leave(Open::Uptime);
    draft.leave(Open::Seconds);
    draft.leave(Open::Nanoseconds);
    draft.leave(Open::Sequence);
    let [.., engine_type, engine_id] = layout.observation_domain_id.to_be_bytes();
    draft.put_octets(&[engine_type, engine_id]);
    // Mode 1 (deterministic) in the high two bits, the interval in the low 14; 0 = not sampled.
    let interval = u16::try_from(layout.sampling_interval).unwrap_or(u16::MAX).min(0x3fff);
    draft.put_u16(if interval > 1 { 0x4000 | interval } else { 0 });
    for flow in flows {
        record(&mut draft, now, flow);
    }
    draft.advance = draft.flows();
    draft
}

fn record(draft: &mut Draft, now: Timestamp, flow: &Flow) {
    let age = |moment: Timestamp| Open::UptimeBefore(u32::try_from(now.since(moment)).unwrap_or(u32::MAX));
    draft.put(flow.source.0, 4);
    draft.put(flow.destination.0, 4);
    draft.put(Address::from_v4(0x0a00_0001).0, 4);
    draft.put(u128::from(flow.ingress_interface), 2);
    draft.put(u128::from(flow.egress_interface), 2);
    draft.put(u128::from(flow.packets.min(u64::from(u32::MAX))), 4);
    draft.put(u128::from(flow.octets.min(u64::from(u32::MAX))), 4);
    draft.leave(age(flow.start));
    draft.leave(age(flow.end));
    draft.put_u16(flow.source_port);
    draft.put_u16(flow.destination_port);
    draft.put_octets(&[0, flow.tcp_control_bits, flow.protocol, 0]);
    draft.put(u128::from(autonomous_system(flow.source)), 2);
    draft.put(u128::from(autonomous_system(flow.destination)), 2);
    draft.put_octets(&[24, 24, 0, 0]);
    draft.flow();
}
