//! Capture files by own encoders, cut at every octet, and the corpus where it is present.

use super::*;

/// A pcap file with one packet of the octets `AB CD` at 1 s and 2 fractions.
fn pcap(magic: u32, big_endian: bool, link_type: u32) -> Vec<u8> {
    let long = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let short = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut file = Vec::new();
    file.extend(long(magic));
    file.extend(short(2));
    file.extend(short(4));
    [0, 0, 65_535, link_type].iter().for_each(|&value| file.extend(long(value)));
    [1, 2, 2, 60].iter().for_each(|&value| file.extend(long(value)));
    file.extend([0xab, 0xcd]);
    file
}

/// A pcapng block: type, length, body padded to four octets, length.
fn block(kind: u32, body: &[u8], big_endian: bool) -> Vec<u8> {
    let long = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let length = 12 + body.len().next_multiple_of(4);
    let mut block = Vec::new();
    block.extend(long(kind));
    block.extend(long(u32::try_from(length).unwrap()));
    block.extend(body);
    block.resize(length - 4, 0);
    block.extend(long(u32::try_from(length).unwrap()));
    block
}

/// A pcapng file of two interfaces: Ethernet in microseconds, raw IP in units of 2⁻¹⁰ s from 100 s on; a packet of each.
fn pcapng(big_endian: bool) -> Vec<u8> {
    let long = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let short = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut header = Vec::new();
    header.extend(long(0x1a2b_3c4d));
    header.extend(short(1));
    header.extend(short(0));
    header.extend([0xff; 8]);
    let mut file = block(0x0a0d_0d0a, &header, big_endian);
    let mut interface = Vec::new();
    interface.extend(short(1));
    interface.extend(short(0));
    interface.extend(long(0));
    file.extend(block(1, &interface, big_endian));
    let mut interface = Vec::new();
    interface.extend(short(101));
    interface.extend(short(0));
    interface.extend(long(0));
    interface.extend(short(9));
    interface.extend(short(1));
    interface.extend([0x80 | 10, 0, 0, 0]);
    interface.extend(short(14));
    interface.extend(short(8));
    interface.extend(if big_endian { 100i64.to_be_bytes() } else { 100i64.to_le_bytes() });
    interface.extend([0; 4]);
    file.extend(block(1, &interface, big_endian));
    for (interface, ticks) in [(0u32, 1_500_000u32), (1, 512)] {
        let mut packet = Vec::new();
        [interface, 0, ticks, 3, 90].iter().for_each(|&value| packet.extend(long(value)));
        packet.extend([7, 8, 9, 0]);
        file.extend(block(6, &packet, big_endian));
    }
    file
}

/// Nanoseconds, link type, octets, original length.
type Kept = (u64, u32, Vec<u8>, u32);

fn read(file: Vec<u8>) -> (Vec<Kept>, Option<CaptureError>) {
    let mut packets = Vec::new();
    let mut capture = match Capture::read_from(io::Cursor::new(file)) {
        Ok(capture) => capture,
        Err(error) => return (packets, Some(error)),
    };
    loop {
        match capture.next_packet() {
            Ok(Some(packet)) => packets.push((packet.nanoseconds, packet.link_type, packet.octets.to_vec(), packet.original_octets)),
            Ok(None) => return (packets, None),
            Err(error) => return (packets, Some(error)),
        }
    }
}

#[test]
fn pcap_is_read_in_either_order_and_resolution() {
    for (magic, fraction) in [(0xa1b2_c3d4, 2_000), (0xa1b2_3c4d, 2)] {
        for big_endian in [false, true] {
            let (packets, error) = read(pcap(magic, big_endian, 276));
            assert!(error.is_none());
            assert_eq!(packets, [(1_000_000_000 + fraction, 276, vec![0xab, 0xcd], 60)]);
        }
    }
}

#[test]
fn each_interface_of_a_pcapng_has_its_own_link_layer_and_clock() {
    for big_endian in [false, true] {
        let (packets, error) = read(pcapng(big_endian));
        assert!(error.is_none(), "{error:?}");
        // 1,500,000 µs; 100 s and 512 of 1,024 parts of a second.
        assert_eq!(packets, [(1_500_000_000, 1, vec![7, 8, 9], 90), (100_500_000_000, 101, vec![7, 8, 9], 90)]);
    }
}

#[test]
fn a_file_cut_anywhere_gives_what_is_whole_and_then_an_error() {
    for file in [pcap(0xa1b2_c3d4, false, 1), pcapng(false), pcapng(true)] {
        let whole = read(file.clone()).0.len();
        for length in 0..file.len() {
            let (packets, error) = read(file[..length].to_vec());
            assert!(packets.len() < whole);
            // A cut between two records cannot be seen.
            assert!(error.is_some() || length >= 24);
        }
    }
}

#[test]
fn a_record_that_announces_gigabytes_is_corrupt_and_not_waited_for() {
    let mut file = pcap(0xa1b2_c3d4, false, 1);
    file.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]);
    file.extend(vec![0; 1 << 25]);
    let (packets, error) = read(file);
    assert_eq!(packets.len(), 1);
    assert!(matches!(error, Some(CaptureError::Corrupt { offset: 42 })), "{error:?}");
}

#[test]
fn a_packet_larger_than_the_buffer_is_read() {
    let mut file = pcap(0xa1b2_c3d4, false, 1);
    let octets = 3 * BUFFER_OCTETS;
    [0, 0, u32::try_from(octets).unwrap(), u32::try_from(octets).unwrap()].iter().for_each(|value| file.extend(value.to_le_bytes()));
    file.extend(vec![5; octets]);
    let (packets, error) = read(file);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(packets.iter().map(|packet| packet.2.len()).collect::<Vec<_>>(), [2, octets]);
}

#[test]
fn other_files_are_no_captures() {
    for file in [Vec::new(), vec![0], b"#!/bin/sh\n".repeat(10)] {
        assert!(matches!(read(file).1, Some(CaptureError::Format)));
    }
}

proptest::proptest! {
    #[test]
    fn no_octets_make_the_reader_panic(noise in proptest::collection::vec(proptest::prelude::any::<(u16, u8)>(), 0..20)) {
        for mut file in [pcap(0xa1b2_c3d4, false, 1), pcapng(false), pcapng(true)] {
            for (place, value) in &noise {
                let place = usize::from(*place) % file.len();
                file[place] = *value;
            }
            let _ = read(file);
        }
    }
}

/// The manifest's rows as (file, number in the named column), or nothing where the corpus is absent.
fn corpus(folder: &str, column: &str) -> Vec<(std::path::PathBuf, u64)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus").join(folder);
    let Ok(manifest) = std::fs::read_to_string(root.join("manifest.tsv")) else {
        eprintln!("skipped: no corpus at {}", root.display());
        return Vec::new();
    };
    let mut lines = manifest.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let place = head.iter().position(|name| *name == column).unwrap();
    let row = |cells: Vec<&str>| (root.join("captures").join(cells[1]), cells[place].parse().unwrap());
    lines.map(row).collect()
}

#[test]
fn the_corpus_has_as_many_datagrams_and_packets_as_its_manifest_says() {
    let (mut differ, mut files) = (Vec::new(), 0);
    for (folder, column) in [("", "datagrams"), ("attacks", "packets")] {
        for (path, expected) in corpus(folder, column) {
            let mut capture = Capture::open(&path).unwrap();
            let mut reassembler = crate::receive::reassembly::Reassembler::default();
            let mut found = 0;
            let end = loop {
                match capture.next_packet() {
                    Ok(Some(packet)) if column == "datagrams" => {
                        let link = packet.link().unwrap();
                        found += u64::from(reassembler.take(link, packet.octets).is_some());
                    }
                    Ok(Some(packet)) => {
                        assert!(packet.link().is_some());
                        found += 1;
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            files += 1;
            if found != expected || end.is_some() {
                differ.push(format!("{}: {found} of {expected}, {end:?}", path.display()));
            }
        }
    }
    assert!(differ.is_empty(), "{} of {files} differ: {differ:#?}", differ.len());
}

#[test]
fn a_directory_is_told_as_such() {
    let error = Capture::open(std::path::Path::new("/")).err().unwrap();
    assert_eq!(error.to_string(), "cannot read the capture: is a directory");
    assert!(std::error::Error::source(&error).is_none(), "it would be said twice");
}
