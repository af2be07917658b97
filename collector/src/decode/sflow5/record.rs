//! The records of one flow sample, and the row that they make.

use schemas::flow::{ColumnSet, FlowBatch};
use schemas::net::Address;

use crate::decode::frame::{Headers, Link, dissect_into};

/// Kinds of flow records: enterprise 0, then the format.
mod kind {
    pub(super) const RAW_HEADER: u32 = 1;
    pub(super) const ETHERNET: u32 = 2;
    pub(super) const IPV4: u32 = 3;
    pub(super) const IPV6: u32 = 4;
    pub(super) const SWITCH: u32 = 1001;
    pub(super) const ROUTER: u32 = 1002;
    pub(super) const GATEWAY: u32 = 1003;
}

/// One flow sample, as far as it has a place in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample<'a> {
    pub(super) sampling_interval: u32,
    pub(super) ingress_interface: u32,
    pub(super) egress_interface: u32,
    /// Whether it was taken as the packet left.
    is_egress: bool,
    headers: Headers,
    octets: u32,
    link_layer_octets: u16,
    has_raw_header: bool,
    has_switch: bool,
    has_router: bool,
    switch_vlan_id: u16,
    post_vlan_id: u16,
    next_hop: Address,
    bgp_next_hop: Address,
    source_prefix_length: u8,
    destination_prefix_length: u8,
    route: Option<Route<'a>>,
}

/// What a gateway knows of the ways to both ends.
#[derive(Clone, Copy, Debug)]
struct Route<'a> {
    source_as: u32,
    /// The last of the path; 0 where the path is empty, for the gateway's own.
    destination_as: u32,
    /// Words of a community each.
    communities: &'a [[u8; 4]],
}

impl<'a> Route<'a> {
    /// Reads what stands behind the next hop: the gateway's own AS, the source's and its peer's, the path to the destination by segments,
    /// communities, local preference. sFlow version 5, `extended_gateway`.
    fn of(body: &'a [u8]) -> Option<Self> {
        let (_own, rest) = long(body)?;
        let (source_as, rest) = long(rest)?;
        let (_peer, rest) = long(rest)?;
        let (segments, mut rest) = long(rest)?;
        let mut destination_as = 0;
        for _ in 0..segments {
            let (_kind, behind) = long(rest)?;
            let (path, behind) = words(behind)?;
            destination_as = path.last().map_or(destination_as, |last| u32::from_be_bytes(*last));
            rest = behind;
        }
        let (communities, _) = words(rest)?;
        Some(Self { source_as, destination_as, communities })
    }
}

impl<'a> Sample<'a> {
    /// A sample by its own header, without records yet.
    pub(super) fn new(sampling_interval: u32, ingress_interface: u32, egress_interface: u32) -> Self {
        Self { sampling_interval, ingress_interface, egress_interface, ..Self::default() }
    }

    /// The same, taken at the interface `source`: where that is the one by which the packet leaves, the flow is an egress one.
    pub(super) fn seen_at(self, source: u32) -> Self {
        let is_egress = source != 0 && source == self.egress_interface && source != self.ingress_interface;
        Self { is_egress, ..self }
    }

    /// Reads `count` records; `None` if there are fewer or one does not hold what its kind must.
    ///
    /// The last record may run over the sample's end, if the datagram has its octets (`beyond` begins where `rest` does):
    /// agents exist that forget a part of the record in the sample's length.
    #[inline]
    pub(super) fn records(&mut self, count: u32, mut rest: &'a [u8], beyond: &'a [u8]) -> Option<()> {
        if usize::try_from(count).ok()? > rest.len() / 8 {
            return None;
        }
        let whole = rest.len();
        for index in 0..count {
            let ([k0, k1, k2, k3, l0, l1, l2, l3], behind) = rest.split_first_chunk::<8>()?;
            let kind = u32::from_be_bytes([*k0, *k1, *k2, *k3]);
            let length = usize::try_from(u32::from_be_bytes([*l0, *l1, *l2, *l3])).ok()?;
            let (body, next) = match behind.split_at_checked(length) {
                Some(parts) => parts,
                None if index + 1 == count => (beyond.get(whole - behind.len()..)?.get(..length)?, &[][..]),
                None => return None,
            };
            self.record(kind, body)?;
            rest = next;
        }
        Some(())
    }

    #[inline]
    fn record(&mut self, kind: u32, body: &'a [u8]) -> Option<()> {
        match kind {
            kind::RAW_HEADER => self.raw_header(body),
            kind::ETHERNET => self.ethernet(body),
            kind::IPV4 => self.ipv4(body),
            kind::IPV6 => self.ipv6(body),
            kind::SWITCH => {
                // VLAN, priority; the same behind the switch. A number over 12 bits is "unknown".
                let vlan = |offset| long_at(body, offset).map(|vlan| if vlan < 4_096 { low_16(vlan) } else { 0 });
                self.has_switch = true;
                self.switch_vlan_id = vlan(0)?;
                self.post_vlan_id = vlan(8)?;
                Some(())
            }
            kind::ROUTER => {
                let (next_hop, rest) = address(body)?;
                self.has_router = true;
                self.next_hop = next_hop;
                self.source_prefix_length = low_8(long_at(rest, 0)?);
                self.destination_prefix_length = low_8(long_at(rest, 4)?);
                Some(())
            }
            // Agents exist that end the record behind the next hop.
            kind::GATEWAY => {
                let (next_hop, rest) = address(body)?;
                self.has_router = true;
                self.bgp_next_hop = next_hop;
                self.route = Route::of(rest);
                Some(())
            }
            _ => Some(()),
        }
    }

    /// Protocol, length of the frame, octets stripped from it, length of the header, header.
    #[inline]
    fn raw_header(&mut self, body: &[u8]) -> Option<()> {
        let ([p0, p1, p2, p3, f0, f1, f2, f3, _, _, _, _, h0, h1, h2, h3], rest) = body.split_first_chunk::<16>()?;
        if self.has_raw_header {
            return Some(());
        }
        let octets = u32::from_be_bytes([*f0, *f1, *f2, *f3]);
        let header = usize::try_from(u32::from_be_bytes([*h0, *h1, *h2, *h3])).ok()?;
        self.has_raw_header = true;
        self.octets = octets;
        let link = Link::of_sflow(u32::from_be_bytes([*p0, *p1, *p2, *p3]));
        if let Some(link) = link {
            self.headers = Headers::default();
            // A header that is cut shows what it has.
            let _ = dissect_into(&mut self.headers, link, rest.get(..header).unwrap_or(rest));
            self.link_layer_octets = self.headers.link_layer_octets(octets);
        }
        Some(())
    }

    /// Length, source, destination (eight octets each, two of padding), EtherType. The length counts no packet that
    /// has addresses, and only some agents fill it: the row shows none.
    fn ethernet(&mut self, body: &[u8]) -> Option<()> {
        let (_length, rest) = long(body)?;
        let (source, rest) = rest.split_first_chunk::<8>()?;
        let (destination, rest) = rest.split_first_chunk::<8>()?;
        long(rest)?;
        if !self.has_raw_header {
            self.headers.source_mac_address = u64::from_be_bytes(*source) >> 16;
            self.headers.destination_mac_address = u64::from_be_bytes(*destination) >> 16;
        }
        Some(())
    }

    /// Length of the IP packet, protocol, addresses, ports, TCP flags, type of service.
    fn ipv4(&mut self, body: &[u8]) -> Option<()> {
        let at = |offset| long_at(body, offset);
        let (source, destination) = (Address::from_v4(at(8)?), Address::from_v4(at(12)?));
        self.packet(4, at(0)?, at(4)?, source, destination, [at(16)?, at(20)?, at(24)?, at(28)?]);
        Some(())
    }

    /// The same as for IPv4, with the traffic class.
    fn ipv6(&mut self, body: &[u8]) -> Option<()> {
        let (addresses, rest) = body.get(8..)?.split_first_chunk::<32>()?;
        let source = Address(u128::from_be_bytes(*addresses.first_chunk()?));
        let destination = Address(u128::from_be_bytes(*addresses.last_chunk()?));
        let at = |offset| long_at(rest, offset);
        self.packet(6, long_at(body, 0)?, long_at(body, 4)?, source, destination, [at(0)?, at(4)?, at(8)?, at(12)?]);
        Some(())
    }

    /// A packet whose header the agent has read itself; the raw header, if it is there too, says more.
    fn packet(&mut self, version: u8, octets: u32, protocol: u32, source: Address, destination: Address, rest: [u32; 4]) {
        if self.has_raw_header {
            return;
        }
        let [source_port, destination_port, flags, class] = rest;
        self.octets = octets;
        self.headers.ip_version = version;
        self.headers.protocol_identifier = low_8(protocol);
        self.headers.source_address = source;
        self.headers.destination_address = destination;
        self.headers.source_port = low_16(source_port);
        self.headers.destination_port = low_16(destination_port);
        self.headers.tcp_control_bits = low_16(flags);
        self.headers.ip_class_of_service = low_8(class);
    }

    /// Writes the row and says which of the rare columns it has.
    #[inline]
    pub(super) fn write(&self, batch: &mut FlowBatch, row: usize) -> ColumnSet {
        macro_rules! put {
            ($($column:ident = $value:expr),* $(,)?) => {
                $(if let Some(place) = batch.$column.get_mut(row) { *place = $value; })*
            };
        }
        let headers = &self.headers;
        put!(
            source_address = headers.source_address,
            destination_address = headers.destination_address,
            source_port = headers.source_port,
            destination_port = headers.destination_port,
            protocol_identifier = headers.protocol_identifier,
            tcp_control_bits = headers.tcp_control_bits,
            octet_delta_count = u64::from(self.octets),
            packet_delta_count = 1,
            link_layer_octets = self.link_layer_octets,
            sampling_interval = self.sampling_interval,
            ingress_interface = self.ingress_interface,
            egress_interface = self.egress_interface,
            fragment = headers.fragment,
            icmp_type_code = headers.icmp_type_code,
            ip_class_of_service = headers.ip_class_of_service,
            ip_ttl = headers.ip_ttl,
            vlan_id = if headers.vlan_id != 0 { headers.vlan_id } else { self.switch_vlan_id },
            source_mac_address = headers.source_mac_address,
            destination_mac_address = headers.destination_mac_address,
        );
        let mut present = ColumnSet::default();
        if self.is_egress {
            put!(flow_direction = 1);
            present = present.union(super::EGRESS);
        }
        if headers.flow_label != 0 {
            put!(flow_label = headers.flow_label);
            present = present.union(super::FLOW_LABEL);
        }
        if headers.mpls_labels != [0; 3] {
            let [top, second, third] = headers.mpls_labels;
            put!(mpls_top_label = top, mpls_label_2 = second, mpls_label_3 = third);
            present = present.union(super::LABELS);
        }
        if self.has_switch {
            put!(post_vlan_id = self.post_vlan_id);
            present = present.union(super::SWITCH);
        }
        if self.has_router {
            put!(
                next_hop = self.next_hop,
                bgp_next_hop = self.bgp_next_hop,
                source_prefix_length = self.source_prefix_length,
                destination_prefix_length = self.destination_prefix_length,
            );
            present = present.union(super::ROUTER);
        }
        if let Some(route) = self.route {
            let communities = batch.push_communities(route.communities.iter().map(|word| u32::from_be_bytes(*word)));
            put!(bgp_source_as_number = route.source_as, bgp_destination_as_number = route.destination_as, communities = communities,);
            present = present.union(super::GATEWAY);
        }
        present
    }
}

/// The low half of a number whose field is 16 bits in a word of 32 (XDR).
#[expect(clippy::cast_possible_truncation, reason = "the field has 16 bits")]
fn low_16(value: u32) -> u16 {
    value as u16
}

#[expect(clippy::cast_possible_truncation, reason = "the field has 8 bits")]
fn low_8(value: u32) -> u8 {
    value as u8
}

/// A word and what follows it.
#[inline]
pub(super) fn long(octets: &[u8]) -> Option<(u32, &[u8])> {
    octets.split_first_chunk().map(|(word, rest)| (u32::from_be_bytes(*word), rest))
}

/// As many words as the first one says, and what follows them.
fn words(octets: &[u8]) -> Option<(&[[u8; 4]], &[u8])> {
    let (count, rest) = long(octets)?;
    let (words, rest) = rest.split_at_checked(usize::try_from(count).ok()?.checked_mul(4)?)?;
    Some((words.as_chunks().0, rest))
}

/// The word at `offset`.
#[inline]
pub(super) fn long_at(octets: &[u8], offset: usize) -> Option<u32> {
    octets.get(offset..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// An address by its type, none (0), IPv4 (1) or IPv6 (2), and what follows it.
#[inline]
pub(super) fn address(octets: &[u8]) -> Option<(Address, &[u8])> {
    let (kind, rest) = long(octets)?;
    match kind {
        0 => Some((Address::default(), rest)),
        1 => long(rest).map(|(bits, rest)| (Address::from_v4(bits), rest)),
        2 => rest.split_first_chunk().map(|(bits, rest)| (Address(u128::from_be_bytes(*bits)), rest)),
        _ => None,
    }
}
