//! Rows of packets, and the loopback interface read as a mirror port.

use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::receive::{Burst, Config, ReceiveError, open};

/// Ethernet, IPv4 from 192.0.2.1:53 to 203.0.113.9:4000, 28 octets of IP.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 28, 0, 1, 0, 0, 61, 17, 0, 0, 192, 0, 2, 1, 203, 0, 113, 9]);
    frame.extend([0, 53, 15, 160, 0, 8, 0, 0]);
    frame
}

#[test]
fn a_packet_is_a_row_of_its_own_and_every_frame_is_counted() {
    let (whole, arp) = (frame(), [&frame()[..12], &[8, 6], &[0; 28]].concat());
    let frame = |octets, original_octets, arrival| Frame { link: Some(Link::Ethernet), octets, original_octets, arrival, vlan_id: 0 };
    let frames = [frame(&whole[..], 60, Timestamp(5)), frame(&arp[..], 42, Timestamp(6)), frame(&[1, 2, 3][..], 3, Timestamp(7))];
    let (mut batch, mut ledger) = (FlowBatch::with_capacity(8), Ledger::default());
    decode(frames.into_iter(), 3, &mut ledger, &mut batch);
    assert_eq!((batch.rows(), batch.source_port[0], batch.destination_address[0].to_string()), (1, 53, "203.0.113.9".into()));
    // 60 octets: 14 of Ethernet, 28 of IP, 18 of padding.
    assert_eq!((batch.octet_delta_count[0], batch.link_layer_octets[0], batch.sampling_interval[0]), (60, 32, 1));
    assert_eq!((batch.flow_start_milliseconds[0], batch.flow_end_milliseconds[0], batch.ingress_interface[0]), (5, 5, 3));
    assert_eq!((ledger.datagrams_received, ledger.datagrams_malformed, ledger.sets_of_unknown_kind), (3, 1, 1));
    ledger.records_counted = 1;
    assert!(ledger.imbalance().iter().all(|(_, difference)| *difference == 0));
}

#[test]
fn packets_of_an_interface_are_read_with_their_length_on_the_wire() {
    let config = Config { netflow: Vec::new(), ipfix: Vec::new(), sflow: Vec::new(), mirror: vec!["lo".into()], ..Config::default() };
    let mut sources = match open(&config, 1) {
        Err(ReceiveError::Mirror(MirrorError::Refused { source, .. })) if source.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("skipped: no right to read packets");
            return;
        }
        sources => sources.unwrap(),
    };
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ports = (sender.local_addr().unwrap().port(), receiver.local_addr().unwrap().port());
    sender.send_to(&[7; 1_000], receiver.local_addr().unwrap()).unwrap();
    let (mut batch, mut ledger) = (FlowBatch::with_capacity(1 << 16), Ledger::default());
    let start = std::time::Instant::now();
    let mut found = Vec::new();
    while found.is_empty() && start.elapsed() < Duration::from_secs(2) {
        sources[0].wait(Duration::from_millis(20)).unwrap();
        sources[0]
            .round(|arrival, burst| {
                let Burst::Frames(interface, ring) = burst else { panic!("no port is listened on") };
                assert!(ring.messages().all(|message| message.octets.len() <= SNAP_OCTETS as usize));
                decode(ring.messages().map(|message| Frame::of(&message, arrival)), interface, &mut ledger, &mut batch);
            })
            .unwrap();
        // Other tests use the same interface.
        found = (0..batch.rows()).filter(|&row| (batch.source_port[row], batch.destination_port[row]) == ports).collect();
    }
    // 14 of Ethernet, 20 of IPv4, 8 of UDP; seen once, though loopback sends and receives it.
    let lengths: Vec<_> = found.iter().map(|&row| (batch.octet_delta_count[row], batch.link_layer_octets[row])).collect();
    assert_eq!(lengths, [(1_042, 14)]);
}
