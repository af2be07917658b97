//! Captures on a virtual clock: an own one, and the corpus where it is present.

use std::io::Cursor;
use std::path::PathBuf;

use schemas::net::PrefixSet;

use super::*;
use crate::config::Config;
use crate::decode::Templates;
use crate::shard::tests::{limits, netflow5};

/// A pcap file of raw IP packets at the given milliseconds.
fn pcap(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 101].iter().for_each(|word| file.extend(word.to_le_bytes()));
    for (milliseconds, packet) in packets {
        let length = u32::try_from(packet.len()).unwrap();
        let (seconds, rest) = (u32::try_from(milliseconds / 1_000).unwrap(), u32::try_from(milliseconds % 1_000).unwrap());
        [seconds, rest * 1_000, length, length].iter().for_each(|word| file.extend(word.to_le_bytes()));
        file.extend(packet);
    }
    file
}

/// An IPv4 packet from 198.51.100.1:9000 to 198.51.100.2:2055 that carries `payload`.
fn packet(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(28 + payload.len()).unwrap().to_be_bytes());
    packet.extend([0, 1, 0, 0, 61, 17, 0, 0, 198, 51, 100, 1, 198, 51, 100, 2, 0x23, 0x28, 8, 7]);
    packet.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn pipe() -> Pipe {
    Pipe::new(0, &Config::default(), Templates::Inline, PrefixSet::default(), limits())
}

#[test]
fn exports_are_replayed_on_the_clock_of_the_capture() {
    let file = pcap(&[(1_000_000, packet(&netflow5(0, 1_000))), (1_000_250, packet(&netflow5(1, 1_000)))]);
    let mut capture = Capture::read_from(Cursor::new(file.clone())).unwrap();
    let mut moments = Vec::new();
    let ledger = run(&mut capture, Content::Exports, &[], &mut pipe(), 200, |snapshot| moments.push(snapshot.taken_at.0)).unwrap();
    assert_eq!((ledger.datagrams_received, ledger.records_counted), (2, 2));
    // Slots close until 200 ms after the last packet, where the last snapshot is taken.
    assert_eq!(moments, [1_000_100, 1_000_200, 1_000_300, 1_000_400, 1_000_450]);
    let mut capture = Capture::read_from(Cursor::new(file)).unwrap();
    let ledger = run(&mut capture, Content::Exports, &[4_739], &mut pipe(), 0, |_| ()).unwrap();
    assert_eq!(ledger.datagrams_received, 0);
}

#[test]
fn packets_are_replayed_as_records_and_a_long_silence_is_passed_over() {
    let file = pcap(&[(1_000_000, packet(b"a")), (1_000_000 + 86_400_000, packet(b"b"))]);
    let mut capture = Capture::read_from(Cursor::new(file)).unwrap();
    let mut snapshots = 0;
    let ledger = run(&mut capture, Content::Packets, &[], &mut pipe(), 0, |_| snapshots += 1).unwrap();
    assert_eq!((ledger.datagrams_received, ledger.records_counted, ledger.lost_by_sequence), (2, 2, 0));
    // 180 s in slots of 100 ms, and the last one.
    assert_eq!(snapshots, 1_801);
}

#[test]
fn a_capture_that_breaks_off_is_counted_up_to_the_break() {
    let mut file = pcap(&[(1_000_000, packet(b"a")), (1_000_001, packet(b"b"))]);
    file.truncate(file.len() - 1);
    let mut capture = Capture::read_from(Cursor::new(file)).unwrap();
    let mut pipe = pipe();
    let error = run(&mut capture, Content::Packets, &[], &mut pipe, 0, |_| ()).unwrap_err();
    assert!(matches!(error, CaptureError::Truncated { .. }));
    assert_eq!(pipe.ledger().records_counted, 1);
}

#[test]
fn the_corpus_of_exports_is_told_from_the_corpus_of_packets_and_every_ledger_balances() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    for (folder, expected) in [("captures", Content::Exports), ("attacks/captures", Content::Packets)] {
        let Ok(files) = std::fs::read_dir(root.join(folder)) else {
            eprintln!("skipped: no corpus at {}", root.display());
            return;
        };
        for file in files {
            let path = file.unwrap().path();
            let mut capture = Capture::open(&path).unwrap();
            let ledger = run(&mut capture, expected, &[], &mut pipe(), 1_000, |_| ()).unwrap();
            assert!(ledger.imbalance().iter().all(|(_, difference)| *difference == 0), "{}: {ledger:?}", path.display());
            // What is malformed throughout looks like anything.
            if ledger.datagrams_malformed == 0 {
                assert_eq!(content(&path).unwrap(), expected, "{}", path.display());
            }
        }
    }
}
