//! sFlow version 5: flow samples with the raw header of a packet, and interface counters.

use super::draft::{Draft, Open};
use super::frame::{self, CHECK_OCTETS};
use super::{Flow, Layout};

/// Octets of a frame that a sample carries at most: what most switches are set to.
const HEADER_OCTETS: usize = 128;
/// Most samples of a datagram: a header of 28 octets and samples of at most 216 stay under 1,472.
pub(super) const SAMPLES_MAX: usize = 6;

fn header(layout: &Layout, samples: usize) -> Draft {
    let mut draft = Draft::new();
    draft.put_u32(5);
    // The agent's address is of type 1, IPv4.
    draft.put_u32(1);
    draft.put(layout.agent.0, 4);
    draft.put_u32(layout.observation_domain_id);
    draft.leave(Open::Sequence);
    draft.leave(Open::Uptime);
    draft.put_u32(u32::try_from(samples).unwrap_or(0));
    draft.advance = 1;
    draft
}

/// A datagram of at most [`SAMPLES_MAX`] flow samples, one packet each.
pub(super) fn draft(layout: &Layout, flows: &[Flow]) -> Draft {
    let mut draft = header(layout, flows.len());
    for flow in flows {
        sample(&mut draft, layout, flow);
        draft.flow();
    }
    draft
}

/// A datagram with the counters of one interface, zeroes but for its description.
pub(super) fn announcement(layout: &Layout) -> Draft {
    let mut draft = header(layout, 1);
    // Sample format 2: sequence (the datagram's, which ascends as it must), source id, one record; record format 1 of 88 octets.
    [2, 108].into_iter().for_each(|word| draft.put_u32(word));
    draft.leave(Open::Sequence);
    [10, 1, 1, 88].into_iter().for_each(|word| draft.put_u32(word));
    // Interface 10, Ethernet, 10 Gbit/s, full duplex, up.
    [10, 6].into_iter().for_each(|word| draft.put_u32(word));
    draft.put(10_000_000_000, 8);
    [1, 3].into_iter().for_each(|word| draft.put_u32(word));
    // The rest are counters: octets in and out of 64 bits, eleven of 32 bits, then the promiscuous mode.
    draft.put_octets(&[0; 64]);
    draft
}

fn sample(draft: &mut Draft, layout: &Layout, flow: &Flow) {
    let frame_octets = frame::frame_octets(flow);
    let header_octets = frame_octets.min(HEADER_OCTETS);
    let padded = header_octets.next_multiple_of(4);
    draft.put_u32(1);
    // 32 octets of sample header; 8 + 16 around the frame's header; 8 + 16 of switch data.
    draft.put_u32(u32::try_from(32 + 24 + padded + 24).unwrap_or(0));
    // Sequence, source id (one for the whole switch), rate, pool, drops, in, out, number of records.
    draft.leave(Open::Sample);
    draft.put_u32(1);
    draft.put_u32(layout.sampling_interval);
    [0, 0, flow.ingress_interface, flow.egress_interface, 2].into_iter().for_each(|word| draft.put_u32(word));
    // Raw packet header: Ethernet, the frame's length with its check sequence, which is stripped.
    let [frame_octets, header_words] = [frame_octets + CHECK_OCTETS, header_octets].map(|octets| u32::try_from(octets).unwrap_or(0));
    [1, u32::try_from(16 + padded).unwrap_or(0), 1, frame_octets, 4, header_words].into_iter().for_each(|word| draft.put_u32(word));
    draft.put_with(|octets| frame::write(flow, header_octets, octets));
    draft.pad(4);
    // Extended switch data: VLAN 100 and priority 0 on both sides.
    [1_001, 16, 100, 0, 100, 0].into_iter().for_each(|word| draft.put_u32(word));
}
