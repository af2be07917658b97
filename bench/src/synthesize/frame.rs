//! The first octets of an Ethernet frame, as a switch samples them.

use super::{Flow, Fragment};

/// Octets of an Ethernet header without tags.
pub(super) const ETHERNET_OCTETS: usize = 14;
/// Octets of the frame check sequence, which sFlow counts in a frame's length and strips from the sample.
pub(super) const CHECK_OCTETS: usize = 4;
/// Least octets of a frame without its check sequence.
const FRAME_OCTETS_MIN: usize = 60;
/// Where a later fragment lies in its packet, in octets; IPv4 counts eights of them, IPv6 has three bits of flags below those.
const LATER_OFFSET: u16 = 1_480;
/// "More fragments follow" in the first octet of IPv4's flags, and in the last of IPv6's offset (RFC 791 §3.1, RFC 8200 §4.5).
const MORE_V4: u8 = 0x20;
const MORE_V6: u8 = 1;
/// The next header that says "fragment".
const FRAGMENT_HEADER: u8 = 44;

/// IP octets of each packet of `flow`, at least what its headers take.
pub(super) fn packet_octets(flow: &Flow) -> usize {
    let mean = usize::try_from(flow.octets / flow.packets.max(1)).unwrap_or(usize::MAX);
    mean.clamp(if flow.source.is_v4() { 40 } else { 60 }, 9_000)
}

/// Octets of the frame on the wire, its check sequence not counted.
#[must_use]
pub fn frame_octets(flow: &Flow) -> usize {
    (ETHERNET_OCTETS + packet_octets(flow)).max(FRAME_OCTETS_MIN)
}

/// The first `length_max` octets of the frame of a packet of `flow`, or all of a shorter one.
#[must_use]
pub fn frame(flow: &Flow, length_max: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length_max.max(FRAME_OCTETS_MIN));
    write(flow, frame_octets(flow).min(length_max), &mut frame);
    frame
}

/// Appends the first `length` octets of a packet of `flow`.
pub(super) fn write(flow: &Flow, length: usize, frame: &mut Vec<u8>) {
    let start = frame.len();
    frame.extend_from_slice(&[0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2]);
    let octets = packet_octets(flow);
    if flow.source.is_v4() {
        frame.extend_from_slice(&[0x08, 0x00]);
        frame.extend_from_slice(&ipv4(flow, octets));
    } else {
        let is_part = flow.fragment != Fragment::Whole;
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend_from_slice(&sixteen(octets - 40));
        frame.extend_from_slice(&[if is_part { FRAGMENT_HEADER } else { flow.protocol }, flow.ttl]);
        frame.extend_from_slice(&flow.source.0.to_be_bytes());
        frame.extend_from_slice(&flow.destination.0.to_be_bytes());
        if is_part {
            let [high, low] = if flow.fragment == Fragment::Later { LATER_OFFSET.to_be_bytes() } else { [0, MORE_V6] };
            frame.extend_from_slice(&[flow.protocol, 0, high, low, 0, 0, 0, 1]);
        }
    }
    if flow.fragment != Fragment::Later {
        transport(frame, flow, octets);
    }
    frame.resize(start + length, 0);
}

/// A header without options; a later fragment is the last of its packet.
fn ipv4(flow: &Flow, octets: usize) -> [u8; 20] {
    let mut header = [0u8; 20];
    let [length_high, length_low] = sixteen(octets);
    let [offset_high, offset_low] = match flow.fragment {
        Fragment::Whole => [0x40, 0],
        Fragment::First => [MORE_V4, 0],
        Fragment::Later => (LATER_OFFSET / 8).to_be_bytes(),
    };
    let [_, _, _, _, _, _, _, _, _, _, _, _, s0, s1, s2, s3] = flow.source.0.to_be_bytes();
    let [_, _, _, _, _, _, _, _, _, _, _, _, d0, d1, d2, d3] = flow.destination.0.to_be_bytes();
    header.copy_from_slice(&[
        0x45,
        0,
        length_high,
        length_low,
        0,
        1,
        offset_high,
        offset_low,
        flow.ttl,
        flow.protocol,
        0,
        0,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ]);
    let checksum = !ones_complement(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn ones_complement(octets: &[u8]) -> u16 {
    let mut sum: u32 = octets.chunks_exact(2).map(|pair| pair.iter().fold(0, |word, &octet| word << 8 | u32::from(octet))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

fn transport(frame: &mut Vec<u8>, flow: &Flow, octets: usize) {
    let [source, destination] = [flow.source_port, flow.destination_port].map(u16::to_be_bytes);
    match flow.protocol {
        6 => {
            frame.extend_from_slice(&source);
            frame.extend_from_slice(&destination);
            frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, flow.tcp_control_bits, 0xff, 0xff, 0, 0, 0, 0]);
        }
        17 => {
            let header = if flow.source.is_v4() { 20 } else { 40 };
            frame.extend_from_slice(&source);
            frame.extend_from_slice(&destination);
            frame.extend_from_slice(&sixteen(octets - header));
            frame.extend_from_slice(&[0, 0]);
        }
        // Type and code are in the port, as in NetFlow.
        1 | 58 => frame.extend_from_slice(&destination),
        47 => frame.extend_from_slice(&[0, 0, 0x08, 0x00]),
        _ => {}
    }
}

fn sixteen(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}
