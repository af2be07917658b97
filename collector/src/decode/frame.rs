//! The headers of a frame, link layer to transport layer: sampled headers, IE 315 sections, mirrored packets.
//!
//! Total: any octets give an answer, loops are bounded, nothing is allocated.

use schemas::flow::fragment;
use schemas::net::Address;

/// Tags, labels and encapsulations that are walked before an IP header must come.
const LAYERS_MAX: usize = 16;
/// IPv6 extension headers that are walked before a transport header must come.
const EXTENSIONS_MAX: usize = 16;

/// What the first octets of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Ethernet, from the destination address on.
    Ethernet,
    /// Linux "cooked" capture, version 1.
    Cooked,
    /// Linux "cooked" capture, version 2.
    Cooked2,
    /// An IPv4 or IPv6 header.
    Ip,
    /// Four octets of address family in the capturing host's order, then IP (BSD null and loop).
    Null,
    /// PPP, with or without its HDLC framing octets (RFC 1661, RFC 1662).
    Ppp,
    /// PPP over Ethernet, from the session header on (RFC 2516).
    PppoeSession,
    /// Cisco HDLC: address, control, EtherType.
    Hdlc,
    /// An MPLS label stack (RFC 3032).
    Mpls,
}

impl Link {
    /// The link layer of a capture file's LINKTYPE number (tcpdump.org/linktypes.html); `None` if Weir cannot read it.
    #[must_use]
    pub fn of_capture(number: u32) -> Option<Self> {
        Some(match number {
            0 | 108 => Self::Null,
            1 => Self::Ethernet,
            9 | 50 => Self::Ppp,
            51 => Self::PppoeSession,
            12 | 14 | 101 | 228 | 229 => Self::Ip,
            104 => Self::Hdlc,
            113 => Self::Cooked,
            219 => Self::Mpls,
            276 => Self::Cooked2,
            _ => return None,
        })
    }

    /// The link layer of an sFlow `header_protocol` (sFlow version 5, "enum header_protocol"); `None` if Weir cannot read it.
    #[must_use]
    pub fn of_sflow(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Ethernet,
            7 | 14 => Self::Ppp,
            11 | 12 => Self::Ip,
            13 => Self::Mpls,
            _ => return None,
        })
    }
}

/// What the headers of one frame say; a number that its headers do not have is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Source of the outermost IP header.
    pub source_address: Address,
    /// Destination of the outermost IP header.
    pub destination_address: Address,
    /// Ethernet source, 48 bits.
    pub source_mac_address: u64,
    /// Ethernet destination, 48 bits.
    pub destination_mac_address: u64,
    /// The first three MPLS labels, each label, class and bottom-of-stack bit: 24 bits.
    pub mpls_labels: [u32; 3],
    /// IPv6 flow label.
    pub flow_label: u32,
    /// Length of the IP packet by its own header, in octets.
    pub ip_octets: u32,
    /// IPv4 identification, or that of the IPv6 fragment header.
    pub identification: u32,
    /// Octets in front of the outermost IP header.
    pub network_offset: u16,
    /// Octets in front of what the last IP header carries.
    pub transport_offset: u16,
    /// Place of this fragment in the whole packet, in octets.
    pub fragment_offset: u16,
    /// Outermost VLAN.
    pub vlan_id: u16,
    /// Second VLAN.
    pub inner_vlan_id: u16,
    /// Source port of TCP, UDP, SCTP, DCCP or UDP-Lite.
    pub source_port: u16,
    /// Destination port of the same.
    pub destination_port: u16,
    /// TCP flags, 12 bits with the three reserved ones.
    pub tcp_control_bits: u16,
    /// ICMP or ICMPv6 type × 256 + code.
    pub icmp_type_code: u16,
    /// 4, 6, or 0 if no whole IP header was found.
    pub ip_version: u8,
    /// IPv4 protocol, or the next header behind the last IPv6 extension header.
    pub protocol_identifier: u8,
    /// IPv4 type of service or IPv6 traffic class.
    pub ip_class_of_service: u8,
    /// Time to live or hop limit.
    pub ip_ttl: u8,
    /// Bits of [`fragment`](mod@fragment).
    pub fragment: u8,
    /// Whether more fragments follow.
    pub more_fragments: bool,
}

impl Headers {
    /// Whether the frame carries IP.
    #[must_use]
    pub fn is_ip(&self) -> bool {
        self.ip_version != 0
    }

    /// Octets of a frame of `frame_octets` that are not of its IP packet: the link layer in front, padding and check sequence behind.
    ///
    /// Octets behind the packet that are more than a short frame's padding and check sequence are taken for the packet's,
    /// so that a forged length hides no volume.
    #[must_use]
    pub fn link_layer_octets(&self, frame_octets: u32) -> u16 {
        // 46 octets of padding for a frame of 60 octets, and a check sequence of four.
        const TRAILER_MAX: u32 = 50;
        if !self.is_ip() {
            return 0;
        }
        let in_front = u32::from(self.network_offset);
        match frame_octets.checked_sub(in_front + self.ip_octets) {
            Some(behind) if behind <= TRAILER_MAX && self.ip_octets != 0 => u16::try_from(in_front + behind).unwrap_or(u16::MAX),
            _ => self.network_offset.min(u16::try_from(frame_octets).unwrap_or(u16::MAX)),
        }
    }
}

/// Reads the headers of a frame, as far as its octets go; addresses and ports are those of the outermost IP header.
///
/// `None` if not even the link layer's header is whole; [`Headers::is_ip`] tells whether an IP header was found.
#[must_use]
#[inline]
pub fn dissect(link: Link, octets: &[u8]) -> Option<Headers> {
    let mut headers = Headers::default();
    dissect_into(&mut headers, link, octets)?;
    Some(headers)
}

/// The same into headers that are still all 0, which saves the hot loop of sFlow a copy.
#[inline]
pub(crate) fn dissect_into(headers: &mut Headers, link: Link, octets: &[u8]) -> Option<()> {
    // A cut below the link layer leaves what was read above it.
    let _ = match link {
        Link::Ethernet => ethernet(headers, octets, 0, chunk(octets, 0)?),
        Link::Cooked => carried(headers, octets, 16, number(octets, 14)?),
        Link::Cooked2 => {
            chunk::<20>(octets, 0)?;
            carried(headers, octets, 20, number(octets, 0)?)
        }
        Link::Ip => {
            chunk::<1>(octets, 0)?;
            internet(headers, octets, 0)
        }
        Link::Null => {
            chunk::<4>(octets, 0)?;
            internet(headers, octets, 4)
        }
        Link::Ppp => {
            chunk::<1>(octets, 0)?;
            ppp(headers, octets, 0)
        }
        Link::PppoeSession => {
            chunk::<6>(octets, 0)?;
            ppp(headers, octets, 6)
        }
        Link::Hdlc => carried(headers, octets, 4, number(octets, 2)?),
        Link::Mpls => {
            chunk::<4>(octets, 0)?;
            mpls(headers, octets, 0)
        }
    };
    Some(())
}

/// The headers of the packet inside a tunnel whose outer headers are `outer`: IP in IP, 6in4, GRE, VXLAN, Geneve, GTP-U, Teredo.
///
/// Offsets of the answer count from the start of `octets`, as those of `outer`. `None` if it is no tunnel that Weir knows.
#[must_use]
pub fn tunnelled(outer: &Headers, octets: &[u8]) -> Option<Headers> {
    if !outer.is_ip() || outer.fragment & fragment::LATER != 0 {
        return None;
    }
    let at = usize::from(outer.transport_offset);
    let mut headers = Headers::default();
    let _ = match (outer.protocol_identifier, outer.source_port, outer.destination_port) {
        (4 | 41, ..) => internet(&mut headers, octets, at),
        (47, ..) => generic_routing(&mut headers, octets, at),
        (17, _, 4789 | 8472) => ethernet_at(&mut headers, octets, at + 16),
        (17, _, 6081) => {
            let [first, _, kind @ ..] = chunk::<4>(octets, at + 8)?;
            carried(&mut headers, octets, at + 16 + usize::from(first & 0x3f) * 4, u16::from_be_bytes(*kind))
        }
        (17, _, 2152) => user_plane(&mut headers, octets, at + 8),
        (17, 3544, _) | (17, _, 3544) => teredo(&mut headers, octets, at + 8),
        _ => None,
    };
    headers.is_ip().then_some(headers)
}

#[inline]
fn chunk<const N: usize>(octets: &[u8], at: usize) -> Option<&[u8; N]> {
    octets.get(at..)?.first_chunk()
}

#[inline]
fn number(octets: &[u8], at: usize) -> Option<u16> {
    chunk(octets, at).map(|octets| u16::from_be_bytes(*octets))
}

fn ethernet_at(headers: &mut Headers, octets: &[u8], at: usize) -> Option<()> {
    ethernet(headers, octets, at, chunk(octets, at)?)
}

#[inline]
fn ethernet(headers: &mut Headers, octets: &[u8], at: usize, header: &[u8; 14]) -> Option<()> {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, k0, k1] = *header;
    headers.destination_mac_address = u64::from_be_bytes([0, 0, d0, d1, d2, d3, d4, d5]);
    headers.source_mac_address = u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]);
    carried(headers, octets, at + 14, u16::from_be_bytes([k0, k1]))
}

/// What an EtherType announces, behind tags.
#[inline]
fn carried(headers: &mut Headers, octets: &[u8], mut at: usize, mut kind: u16) -> Option<()> {
    let mut tags = 0;
    for _ in 0..LAYERS_MAX {
        match kind {
            0x0800 | 0x86dd => return internet(headers, octets, at),
            // 802.1Q, 802.1ad and the older numbers for an outer tag.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => {
                let [t0, t1, k0, k1] = *chunk(octets, at)?;
                let vlan_id = u16::from_be_bytes([t0, t1]) & 0x0fff;
                match tags {
                    0 => headers.vlan_id = vlan_id,
                    1 => headers.inner_vlan_id = vlan_id,
                    _ => {}
                }
                tags += 1;
                kind = u16::from_be_bytes([k0, k1]);
                at += 4;
            }
            0x8847 | 0x8848 => return mpls(headers, octets, at),
            0x8864 => return ppp(headers, octets, at + 6),
            0x880b => return ppp(headers, octets, at),
            // 802.1BR tag, VN-Tag: the next EtherType stands at their end.
            0x893f => (kind, at) = (number(octets, at + 6)?, at + 8),
            0x8926 => (kind, at) = (number(octets, at + 4)?, at + 6),
            // Transparent bridging, and a provider backbone's service tag of four octets: a whole frame follows.
            0x6558 => (kind, at) = (number(octets, at + 12)?, at + 14),
            0x88e7 => (kind, at) = (number(octets, at + 16)?, at + 18),
            // 802.3: a length, then LLC; behind a SNAP header is an EtherType.
            0..=1500 => {
                let [0xaa, 0xaa, 3, _, _, _, k0, k1] = *chunk(octets, at)? else {
                    return None;
                };
                kind = u16::from_be_bytes([k0, k1]);
                at += 8;
            }
            _ => return None,
        }
    }
    None
}

/// A label stack, and the packet that its bottom carries by the first four bits (RFC 4928).
fn mpls(headers: &mut Headers, octets: &[u8], mut at: usize) -> Option<()> {
    for depth in 0..LAYERS_MAX {
        let [l0, l1, l2, _] = *chunk(octets, at)?;
        if let Some(label) = headers.mpls_labels.get_mut(depth) {
            *label = u32::from_be_bytes([0, l0, l1, l2]);
        }
        at += 4;
        if l2 & 1 == 1 {
            return match octets.get(at)? >> 4 {
                4 | 6 => internet(headers, octets, at),
                // The control word of a pseudowire; Ethernet is what providers carry so.
                0 => ethernet_behind_labels(headers, octets, at + 4),
                _ => None,
            };
        }
    }
    None
}

fn ethernet_behind_labels(headers: &mut Headers, octets: &[u8], at: usize) -> Option<()> {
    let kind = number(octets, at + 12)?;
    carried(headers, octets, at + 14, kind)
}

/// PPP (RFC 1661), whose HDLC octets and first protocol octet may be compressed away.
fn ppp(headers: &mut Headers, octets: &[u8], mut at: usize) -> Option<()> {
    if let Some([0xff, 3]) = chunk(octets, at) {
        at += 2;
    }
    let first = *octets.get(at)?;
    // An odd first octet is a whole protocol number.
    let (protocol, at) = if first & 1 == 1 { (u16::from(first), at + 1) } else { (number(octets, at)?, at + 2) };
    match protocol {
        0x0021 | 0x0057 => internet(headers, octets, at),
        0x0281 | 0x0283 => mpls(headers, octets, at),
        0x0031 => ethernet_at(headers, octets, at + 2),
        _ => None,
    }
}

#[inline]
fn internet(headers: &mut Headers, octets: &[u8], at: usize) -> Option<()> {
    let packet = octets.get(at..)?;
    let offset = u16::try_from(at).ok()?;
    match packet.first()? >> 4 {
        4 => ipv4(headers, packet, offset),
        6 => ipv6(headers, packet, offset),
        _ => None,
    }
}

#[inline]
fn ipv4(headers: &mut Headers, packet: &[u8], offset: u16) -> Option<()> {
    let [first, service, l0, l1, i0, i1, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *packet.first_chunk::<20>()?;
    let header_octets = u16::from(first & 0x0f) * 4;
    if header_octets < 20 {
        return None;
    }
    headers.network_offset = offset;
    headers.ip_version = 4;
    headers.ip_class_of_service = service;
    headers.ip_octets = u32::from(u16::from_be_bytes([l0, l1]));
    headers.identification = u32::from(u16::from_be_bytes([i0, i1]));
    headers.ip_ttl = ttl;
    headers.protocol_identifier = protocol;
    headers.source_address = Address::from_v4(u32::from_be_bytes([s0, s1, s2, s3]));
    headers.destination_address = Address::from_v4(u32::from_be_bytes([d0, d1, d2, d3]));
    place(headers, (u16::from_be_bytes([f0, f1]) & 0x1fff) << 3, f0 & 0x20 != 0);
    headers.transport_offset = offset.checked_add(header_octets)?;
    transport(headers, packet.get(usize::from(header_octets)..)?)
}

fn ipv6(headers: &mut Headers, packet: &[u8], offset: u16) -> Option<()> {
    let (header, mut rest) = packet.split_first_chunk::<40>()?;
    let (numbers, addresses) = header.split_first_chunk::<8>()?;
    let (source, destination) = addresses.split_first_chunk::<16>()?;
    let [v0, v1, v2, v3, l0, l1, mut next, limit] = *numbers;
    headers.network_offset = offset;
    headers.ip_version = 6;
    headers.ip_class_of_service = v0 << 4 | v1 >> 4;
    headers.flow_label = u32::from_be_bytes([0, v1 & 0x0f, v2, v3]);
    headers.ip_octets = 40 + u32::from(u16::from_be_bytes([l0, l1]));
    headers.ip_ttl = limit;
    headers.source_address = Address(u128::from_be_bytes(*source));
    headers.destination_address = Address(u128::from_be_bytes(*destination.first_chunk()?));
    headers.protocol_identifier = next;
    let mut transport_offset = offset.checked_add(40)?;
    for _ in 0..EXTENSIONS_MAX {
        headers.transport_offset = transport_offset;
        let octets = match next {
            // Hop-by-hop, routing, destination options, mobility, HIP, Shim6 (RFC 7045).
            0 | 43 | 60 | 135 | 139 | 140 => (u16::from(*rest.get(1)?) + 1) * 8,
            44 => 8,
            // Authentication: its length counts words of four octets, less two.
            51 => (u16::from(*rest.get(1)?) + 2) * 4,
            _ => return transport(headers, rest),
        };
        if next == 44 {
            let [_, _, f0, f1, i0, i1, i2, i3] = *rest.first_chunk::<8>()?;
            headers.identification = u32::from_be_bytes([i0, i1, i2, i3]);
            place(headers, u16::from_be_bytes([f0, f1]) & 0xfff8, f1 & 1 != 0);
        }
        next = *rest.first()?;
        headers.protocol_identifier = next;
        rest = rest.get(usize::from(octets)..)?;
        transport_offset = transport_offset.checked_add(octets)?;
        if headers.fragment & fragment::LATER != 0 {
            // What follows is the middle of something.
            headers.transport_offset = transport_offset;
            return None;
        }
    }
    None
}

#[inline]
fn place(headers: &mut Headers, offset: u16, more: bool) {
    headers.fragment_offset = offset;
    headers.more_fragments = more;
    headers.fragment = match (offset, more) {
        (0, false) => 0,
        (0, true) => fragment::FRAGMENT,
        _ => fragment::FRAGMENT | fragment::LATER,
    };
}

#[inline]
fn transport(headers: &mut Headers, segment: &[u8]) -> Option<()> {
    if headers.fragment & fragment::LATER != 0 {
        return None;
    }
    match headers.protocol_identifier {
        6 | 17 | 33 | 132 | 136 => {
            let [s0, s1, d0, d1] = *segment.first_chunk()?;
            headers.source_port = u16::from_be_bytes([s0, s1]);
            headers.destination_port = u16::from_be_bytes([d0, d1]);
            if headers.protocol_identifier == 6 {
                headers.tcp_control_bits = number(segment, 12)? & 0x0fff;
            }
        }
        1 | 58 => headers.icmp_type_code = number(segment, 0)?,
        _ => {}
    }
    Some(())
}

/// GRE (RFC 2784, RFC 2890) and its version 1 (RFC 2637), whose flags tell how long the header is.
fn generic_routing(headers: &mut Headers, octets: &[u8], at: usize) -> Option<()> {
    let [flags, version, k0, k1] = *chunk(octets, at)?;
    let words = |bits: u8| bits.count_ones() as usize;
    match version & 7 {
        // Checksum (or routing), key and sequence take four octets each.
        0 => carried(headers, octets, at + 4 * (1 + words(flags & 0x30) + usize::from(flags & 0xc0 != 0)), u16::from_be_bytes([k0, k1])),
        1 => ppp(headers, octets, at + 4 * (2 + words(flags & 0x10) + words(version & 0x80))),
        _ => None,
    }
}

/// GTP-U (3GPP TS 29.281 §5): optional fields, then IP.
fn user_plane(headers: &mut Headers, octets: &[u8], at: usize) -> Option<()> {
    let [flags, 255] = *chunk(octets, at)? else {
        return None;
    };
    let mut at = at + 8;
    if flags & 7 != 0 {
        at += 4;
        let mut next = if flags & 4 != 0 { *octets.get(at - 1)? } else { 0 };
        for _ in 0..EXTENSIONS_MAX {
            if next == 0 {
                break;
            }
            at += 4 * usize::from((*octets.get(at)?).max(1));
            next = *octets.get(at - 1)?;
        }
    }
    internet(headers, octets, at)
}

/// Teredo (RFC 4380 §5.1.1): an authentication and an origin indication may precede the IPv6 header.
fn teredo(headers: &mut Headers, octets: &[u8], mut at: usize) -> Option<()> {
    if let Some([0, 1, client, value]) = chunk(octets, at) {
        at += 13 + usize::from(*client) + usize::from(*value);
    }
    if let Some([0, 0]) = chunk(octets, at) {
        at += 8;
    }
    internet(headers, octets, at)
}

#[cfg(test)]
mod tests;
