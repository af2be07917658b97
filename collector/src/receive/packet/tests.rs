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

/// Sources of the loopback interface; `None` without the right to read packets.
fn loopback(shards: usize) -> Option<Vec<crate::receive::Sources>> {
    let config = Config { netflow: Vec::new(), ipfix: Vec::new(), sflow: Vec::new(), mirror: vec!["lo".into()], ..Config::default() };
    match open(&config, shards) {
        Err(ReceiveError::Mirror(MirrorError::Refused { source, .. })) if source.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("skipped: no right to read packets");
            None
        }
        sources => Some(sources.unwrap()),
    }
}

/// Lengths on the wire and link-layer octets of the packets between two ports that the shards see, until there are `count` or two seconds are over.
fn seen(shards: &mut [crate::receive::Sources], ports: impl Fn(u16, u16) -> bool, count: usize) -> Vec<Vec<(u64, u16)>> {
    let mut found = vec![Vec::new(); shards.len()];
    let start = std::time::Instant::now();
    while found.iter().map(Vec::len).sum::<usize>() < count && start.elapsed() < Duration::from_secs(2) {
        for (shard, found) in shards.iter_mut().zip(&mut found) {
            let (mut batch, mut ledger) = (FlowBatch::with_capacity(1 << 10), Ledger::default());
            shard.wait(Duration::from_millis(5)).unwrap();
            shard
                .round(|arrival, burst| {
                    let Burst::Frames(interface, ring) = burst else { panic!("no port is listened on") };
                    assert!(ring.messages().all(|message| message.octets.len() <= SNAP_OCTETS as usize));
                    decode(ring.messages().map(|message| Frame::of(&message, arrival)), interface, &mut ledger, &mut batch);
                })
                .unwrap();
            // Other tests use the same interface.
            let own = (0..batch.rows()).filter(|&row| ports(batch.source_port[row], batch.destination_port[row]));
            found.extend(own.map(|row| (batch.octet_delta_count[row], batch.link_layer_octets[row])));
        }
    }
    found
}

#[test]
fn packets_of_an_interface_are_read_with_their_length_on_the_wire() {
    let Some(mut shards) = loopback(1) else { return };
    let (receiver, sender) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let ports = (sender.local_addr().unwrap().port(), receiver.local_addr().unwrap().port());
    sender.send_to(&[7; 1_000], receiver.local_addr().unwrap()).unwrap();
    let found = seen(&mut shards, |source, destination| (source, destination) == ports, 1);
    // 14 of Ethernet, 20 of IPv4, 8 of UDP; seen once, though loopback sends and receives it.
    assert_eq!(found, [[(1_042, 14)]]);
}

#[test]
fn several_shards_see_each_packet_once() {
    let Some(mut shards) = loopback(2) else { return };
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    for _ in 0..64 {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[7; 100], receiver.local_addr().unwrap()).unwrap();
    }
    let found = seen(&mut shards, |_, destination| destination == port, 64);
    assert_eq!(found.iter().map(Vec::len).sum::<usize>(), 64);
    assert!(found.iter().all(|shard| !shard.is_empty()), "{found:?}");
}
