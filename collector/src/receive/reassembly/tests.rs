//! Datagrams in one piece and in many, by own encoders.

use super::*;

/// An IPv4 packet from 192.0.2.1 to 192.0.2.2 with the number 7.
fn ipv4(offset: usize, more: bool, body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + body.len()).unwrap();
    let place = u16::try_from(offset / 8).unwrap() | if more { 0x2000 } else { 0 };
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(place.to_be_bytes());
    packet.extend([64, UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend(body);
    packet
}

/// A UDP datagram from port 50,000 to 2,055.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc3, 0x50, 0x08, 0x07];
    datagram.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

#[test]
fn padding_behind_the_datagram_is_not_of_it() {
    let mut packet = ipv4(0, false, &udp(b"abc"));
    packet.extend([0; 15]);
    let mut reassembler = Reassembler::default();
    let datagram = reassembler.take(Link::Ip, &packet).unwrap();
    assert_eq!((datagram.payload, datagram.source_port, datagram.destination_port), (&b"abc"[..], 50_000, 2_055));
    assert_eq!((datagram.source.to_string(), datagram.destination.to_string()), ("192.0.2.1".into(), "192.0.2.2".into()));
}

#[test]
fn fragments_in_any_order_and_repeated_make_the_datagram() {
    let payload: Vec<u8> = (0..40u8).collect();
    let whole = udp(&payload);
    let parts = [ipv4(0, true, &whole[..16]), ipv4(16, true, &whole[16..32]), ipv4(32, false, &whole[32..])];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut reassembler = Reassembler::default();
        assert!(reassembler.take(Link::Ip, &parts[order[0]]).is_none());
        assert!(reassembler.take(Link::Ip, &parts[order[0]]).is_none());
        assert!(reassembler.take(Link::Ip, &parts[order[1]]).is_none());
        assert_eq!(reassembler.take(Link::Ip, &parts[order[2]]).unwrap().payload, payload);
        assert_eq!((reassembler.waiting.len(), reassembler.given_up), (0, 0));
    }
}

#[test]
fn fragments_of_ipv6_make_the_datagram() {
    let payload: Vec<u8> = (0..40u8).collect();
    let whole = udp(&payload);
    let part = |offset: u16, more: u16, body: &[u8]| {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(8 + body.len()).unwrap().to_be_bytes());
        packet.extend([44, 64]);
        packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        packet.extend([UDP, 0]);
        packet.extend((offset | more).to_be_bytes());
        packet.extend([0, 0, 0, 9]);
        packet.extend(body);
        packet
    };
    let mut reassembler = Reassembler::default();
    assert!(reassembler.take(Link::Ip, &part(24, 0, &whole[24..])).is_none());
    let datagram = part(0, 1, &whole[..24]);
    let datagram = reassembler.take(Link::Ip, &datagram).unwrap();
    assert_eq!((datagram.payload, datagram.source.to_string()), (&payload[..], "2001:db8::1".into()));
}

#[test]
fn parts_that_overlap_are_given_up() {
    let whole = udp(&[1; 40]);
    let mut reassembler = Reassembler::default();
    assert!(reassembler.take(Link::Ip, &ipv4(0, true, &whole[..24])).is_none());
    assert!(reassembler.take(Link::Ip, &ipv4(16, false, &whole[16..])).is_none());
    assert_eq!(reassembler.given_up, 1);
}

#[test]
fn a_flood_of_first_parts_keeps_within_the_bound() {
    let mut reassembler = Reassembler::default();
    for number in 0..1_000u16 {
        let mut packet = ipv4(0, true, &udp(&[1; 16]));
        packet[4..6].copy_from_slice(&number.to_be_bytes());
        assert!(reassembler.take(Link::Ip, &packet).is_none());
    }
    assert_eq!((reassembler.waiting.len(), reassembler.given_up), (WAITING_MAX, 1_000 - 64));
}

#[test]
fn a_last_part_shorter_than_what_came_before_is_a_contradiction() {
    let mut reassembler = Reassembler::default();
    assert!(reassembler.take(Link::Ip, &ipv4(64, true, &[0; 64])).is_none());
    assert!(reassembler.take(Link::Ip, &ipv4(8, false, &[0; 16])).is_none());
    assert_eq!(reassembler.given_up, 1);
}

proptest::proptest! {
    #[test]
    fn any_octets_are_taken(frames in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), 0..20)) {
        let mut reassembler = Reassembler::default();
        for mut frame in frames {
            for link in [Link::Ethernet, Link::Ip, Link::Cooked, Link::Cooked2, Link::Null, Link::Ppp, Link::Mpls] {
                if let (Link::Ip, Some(first)) = (link, frame.first_mut()) {
                    *first = 0x45;
                }
                let _ = reassembler.take(link, &frame);
            }
        }
    }
}

#[test]
fn a_frame_without_lengths_gives_no_more_than_a_datagram_can_hold() {
    let mut packet = ipv4(0, false, &udp(&[]));
    // Neither IPv4 nor UDP tells a length, as behind segmentation in the network card.
    (packet[2], packet[3], packet[24], packet[25]) = (0, 0, 0, 0);
    packet.resize(1 << 20, 7);
    assert_eq!(Reassembler::default().take(Link::Ip, &packet).unwrap().payload.len(), 65_527);
}
