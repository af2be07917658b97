//! Frames by own encoders, cut at every octet, and any octets at all.

use super::*;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// 192.0.2.1 → 203.0.113.9 with the time to live 61 and the number 7.
fn ipv4(protocol: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + body.len()).unwrap();
    let mut packet = vec![0x45, 0xb8];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([61, protocol, 0, 0, 192, 0, 2, 1, 203, 0, 113, 9]);
    packet.extend(body);
    packet
}

/// 2001:db8::1 → 2001:db8::2 with the flow label 0xabcde and the class 0x2e.
fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x62, 0xea, 0xbc, 0xde];
    packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    packet.extend([next, 62, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(body);
    packet
}

fn udp(source: u16, destination: u16, body: &[u8]) -> Vec<u8> {
    let mut datagram = source.to_be_bytes().to_vec();
    datagram.extend(destination.to_be_bytes());
    datagram.extend(u16::try_from(8 + body.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(body);
    datagram
}

/// TCP 1234 → 443 with the flags NS, SYN and ECE.
fn tcp() -> Vec<u8> {
    vec![4, 210, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x51, 0x42, 0, 0, 0, 0, 0, 0]
}

fn ethernet(kind: &[u8], body: &[u8]) -> Vec<u8> {
    [&MACS, kind, body].concat()
}

#[test]
fn ipv4_behind_two_tags_shows_its_addresses_ports_and_flags() {
    let frame = ethernet(&[0x88, 0xa8, 0x20, 100, 0x81, 0, 0, 42, 8, 0], &ipv4(6, 0, &tcp()));
    let headers = dissect(Link::Ethernet, &frame).unwrap();
    assert_eq!((headers.source_address.to_string(), headers.destination_address.to_string()), ("192.0.2.1".into(), "203.0.113.9".into()));
    assert_eq!((headers.source_port, headers.destination_port, headers.tcp_control_bits), (1_234, 443, 0x142));
    assert_eq!((headers.protocol_identifier, headers.ip_ttl, headers.ip_class_of_service, headers.identification), (6, 61, 0xb8, 7));
    assert_eq!((headers.vlan_id, headers.inner_vlan_id), (100, 42));
    assert_eq!((headers.destination_mac_address, headers.source_mac_address), (0x0200_0000_0001, 0x0200_0000_0002));
    // 12 of addresses, 4 a tag, 2 of type; then 20 of IPv4.
    assert_eq!((headers.network_offset, headers.transport_offset, headers.ip_octets), (22, 42, 40));
}

#[test]
fn every_link_layer_leads_to_the_same_packet() {
    let packet = ipv4(17, 0, &udp(53, 4_000, b"x"));
    let at_ip = dissect(Link::Ip, &packet).unwrap();
    let cases: &[(Link, &[u8])] = &[
        (Link::Null, &[2, 0, 0, 0]),
        (Link::Ppp, &[0xff, 3, 0, 0x21]),
        (Link::Ppp, &[0, 0x21]),
        (Link::Ppp, &[0x21]),
        (Link::PppoeSession, &[0x11, 0, 0, 9, 0, 40, 0, 0x21]),
        (Link::Hdlc, &[0x0f, 0, 8, 0]),
        (Link::Mpls, &[0, 1, 0x00, 60, 0, 2, 0x01, 60]),
        (Link::Cooked, &[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0]),
        (Link::Cooked2, &[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]),
    ];
    for (link, front) in cases {
        let headers = dissect(*link, &[front, &packet[..]].concat()).unwrap();
        let offset = u16::try_from(front.len()).unwrap();
        let expected = Headers { network_offset: offset, transport_offset: offset + 20, mpls_labels: headers.mpls_labels, ..at_ip };
        assert_eq!(headers, expected, "{link:?}");
    }
    let labelled = dissect(Link::Mpls, &[&[0, 1, 0x00, 60, 0, 2, 0x01, 60], &packet[..]].concat()).unwrap();
    assert_eq!(labelled.mpls_labels, [0x100, 0x201, 0]);
}

#[test]
fn pppoe_snap_and_pseudowires_are_walked() {
    let packet = ipv4(17, 0, &udp(53, 4_000, b"x"));
    let inner = ethernet(&[8, 0], &packet);
    let cases = [
        ethernet(&[0x88, 0x64, 0x11, 0, 0, 9, 0, 40, 0, 0x21], &packet),
        ethernet(&[0, 48, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &packet),
        ethernet(&[0x88, 0x47, 0, 1, 0x01, 60, 0, 0, 0, 0], &inner),
        ethernet(&[0x88, 0xe7, 0, 0, 0, 1], &inner),
    ];
    for frame in cases {
        assert_eq!(dissect(Link::Ethernet, &frame).unwrap().source_port, 53, "{frame:02x?}");
    }
}

#[test]
fn ipv6_extension_headers_lead_to_the_upper_layer() {
    // Hop-by-hop of 8 octets, destination options of 16, authentication of 12, then UDP.
    let chain = [&[60, 0, 0, 0, 0, 0, 0, 0][..], &[51, 1], &[0; 14], &[17, 1], &[0; 10], &udp(53, 4_000, b"x")].concat();
    let headers = dissect(Link::Ip, &ipv6(0, &chain)).unwrap();
    assert_eq!((headers.protocol_identifier, headers.source_port, headers.destination_port), (17, 53, 4_000));
    assert_eq!((headers.transport_offset, headers.ip_octets), (40 + 8 + 16 + 12, 40 + 36 + 9));
    assert_eq!((headers.flow_label, headers.ip_class_of_service, headers.ip_ttl), (0xabcde, 0x2e, 62));
    assert_eq!(headers.destination_address.to_string(), "2001:db8::2");
}

#[test]
fn fragments_are_marked_and_only_the_first_has_ports() {
    let first = dissect(Link::Ip, &ipv4(17, 0x2000, &udp(53, 4_000, b"x"))).unwrap();
    assert_eq!((first.fragment, first.source_port, first.more_fragments), (fragment::FRAGMENT, 53, true));
    let later = dissect(Link::Ip, &ipv4(17, 185, &udp(53, 4_000, b"x"))).unwrap();
    assert_eq!((later.fragment, later.source_port, later.fragment_offset), (fragment::FRAGMENT | fragment::LATER, 0, 1_480));
    // Number 9, offset 1,448 octets, the last one.
    let part = [&[17, 0, 5, 0xa8, 0, 0, 0, 9][..], &udp(53, 4_000, b"x")].concat();
    let later = dissect(Link::Ip, &ipv6(44, &part)).unwrap();
    assert_eq!((later.fragment, later.source_port, later.fragment_offset, later.identification), (3, 0, 1_448, 9));
    assert_eq!((later.protocol_identifier, later.transport_offset), (17, 48));
}

#[test]
fn icmp_has_a_type_and_code_and_no_ports() {
    let headers = dissect(Link::Ip, &ipv4(1, 0, &[3, 4, 0, 0])).unwrap();
    assert_eq!((headers.icmp_type_code, headers.source_port), (3 * 256 + 4, 0));
    let headers = dissect(Link::Ip, &ipv6(58, &[135, 0, 0, 0])).unwrap();
    assert_eq!(headers.icmp_type_code, 135 * 256);
}

#[test]
fn a_frame_without_ip_still_has_its_link_layer() {
    let headers = dissect(Link::Ethernet, &ethernet(&[0x81, 0, 0, 5, 8, 6], &[0; 28])).unwrap();
    assert_eq!((headers.vlan_id, headers.is_ip(), headers.link_layer_octets(64)), (5, false, 0));
    assert_eq!(headers.source_mac_address, 0x0200_0000_0002);
}

#[test]
fn the_link_layer_is_what_the_packet_does_not_fill_but_never_hides_volume() {
    let headers = dissect(Link::Ethernet, &ethernet(&[8, 0], &ipv4(6, 0, &tcp()))).unwrap();
    // 60 octets with 6 of padding, 64 with a check sequence as well.
    assert_eq!([54, 60, 64].map(|octets| headers.link_layer_octets(octets)), [14, 20, 24]);
    // A packet of 40 octets in a frame of 1,514 has a forged length.
    assert_eq!(headers.link_layer_octets(1_514), 14);
    // A frame shorter than its packet: the length of segmentation in the network card.
    assert_eq!(headers.link_layer_octets(50), 14);
}

#[test]
fn tunnels_show_the_packet_inside() {
    let inside = ipv4(17, 0, &udp(53, 4_000, b"x"));
    let frame = ethernet(&[8, 0], &inside);
    let teredo = [&[0, 1, 0, 0][..], &[0; 9], &[0, 0, 1, 2, 3, 4, 5, 6], &ipv6(17, &udp(53, 4_000, b"x"))].concat();
    let cases = [
        ipv4(4, 0, &inside),
        ipv4(41, 0, &ipv6(17, &udp(53, 4_000, b"x"))),
        // GRE with key and sequence.
        ipv4(47, 0, &[&[0x30, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &inside].concat()),
        ipv4(47, 0, &[&[0, 0, 0x65, 0x58][..], &frame].concat()),
        // PPTP with sequence and acknowledgement.
        ipv4(47, 0, &[&[0x30, 0x81, 0x88, 0x0b, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x21][..], &inside].concat()),
        ipv4(17, 0, &udp(9_999, 4_789, &[&[8, 0, 0, 0, 0, 0, 42, 0][..], &frame].concat())),
        ipv4(17, 0, &udp(9_999, 6_081, &[&[1, 0, 0x65, 0x58, 0, 0, 42, 0, 0, 0, 0, 0][..], &frame].concat())),
        ipv4(17, 0, &udp(2_152, 2_152, &[&[0x34, 255, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0][..], &inside].concat())),
        ipv4(17, 0, &udp(9_999, 3_544, &teredo)),
    ];
    for packet in cases {
        let outer = dissect(Link::Ip, &packet).unwrap();
        let inner = tunnelled(&outer, &packet).unwrap_or_else(|| panic!("{packet:02x?}"));
        assert_eq!((inner.source_port, inner.destination_port), (53, 4_000));
        assert_eq!(packet[usize::from(inner.transport_offset)..][..4], [0, 53, 15, 160]);
    }
    let plain = ipv4(17, 0, &udp(9_999, 9_998, &inside));
    assert_eq!(tunnelled(&dissect(Link::Ip, &plain).unwrap(), &plain), None);
}

#[test]
fn a_frame_cut_anywhere_shows_what_it_has() {
    let whole = ethernet(&[0x81, 0, 0, 42, 8, 0], &ipv4(6, 0, &tcp()));
    for length in 0..=whole.len() {
        let headers = dissect(Link::Ethernet, &whole[..length]);
        assert_eq!(headers.is_some(), length >= 14);
        let headers = headers.unwrap_or_default();
        assert_eq!((headers.vlan_id != 0, headers.is_ip()), (length >= 18, length >= 38), "{length}");
        assert_eq!((headers.destination_port != 0, headers.tcp_control_bits != 0), (length >= 42, length >= 52), "{length}");
    }
}

#[test]
fn tags_and_labels_without_end_are_given_up() {
    let tags: Vec<u8> = [0x81, 0, 0, 1].repeat(400);
    assert!(!dissect(Link::Ethernet, &ethernet(&tags, &[])).unwrap().is_ip());
    assert!(!dissect(Link::Mpls, &[0, 1, 0, 0].repeat(400)).unwrap().is_ip());
    let chain: Vec<u8> = [60, 0, 0, 0, 0, 0, 0, 0].repeat(400);
    assert_eq!(dissect(Link::Ip, &ipv6(60, &chain)).unwrap().source_port, 0);
}

proptest::proptest! {
    #[test]
    fn any_octets_are_dissected(
        mut octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        protocol in proptest::sample::select(vec![4u8, 6, 17, 41, 43, 44, 47, 51, 60]),
    ) {
        for link in [Link::Ethernet, Link::Cooked, Link::Cooked2, Link::Ip, Link::Null, Link::Ppp, Link::PppoeSession, Link::Hdlc, Link::Mpls] {
            for first in [None, Some(0x45), Some(0x60)] {
                if let (Some(first), Some(place)) = (first, octets.first_mut()) {
                    *place = first;
                }
                if let (Some(_), Some(place)) = (first, octets.get_mut(if first == Some(0x45) { 9 } else { 6 })) {
                    *place = protocol;
                }
                if let Some(headers) = dissect(link, &octets) {
                    let _ = tunnelled(&headers, &octets);
                    let _ = headers.link_layer_octets(100);
                    proptest::prop_assert!(usize::from(headers.network_offset) <= octets.len());
                }
            }
        }
    }
}
