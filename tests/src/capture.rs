//! Writes capture files (pcap, microseconds, Ethernet).

use std::fs;
use std::path::Path;

/// A packet with its moment.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Unix microseconds.
    pub microseconds: u64,
    /// From the Ethernet header on.
    pub octets: Vec<u8>,
}

/// Writes packets as a pcap file of link type Ethernet.
///
/// # Panics
///
/// If the file cannot be written.
pub fn write(path: &Path, packets: &[Packet]) {
    fs::write(path, encode(packets)).unwrap();
}

/// The octets of a pcap file of link type Ethernet.
///
/// # Panics
///
/// If a packet is longer than 4 GiB or later than 2106.
#[must_use]
pub fn encode(packets: &[Packet]) -> Vec<u8> {
    let mut file = Vec::new();
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    // Magic, version 2.4, zone, accuracy, snapshot length, Ethernet.
    for value in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1] {
        word(&mut file, value);
    }
    for packet in packets {
        let length = u32::try_from(packet.octets.len()).unwrap();
        word(&mut file, u32::try_from(packet.microseconds / 1_000_000).unwrap());
        word(&mut file, u32::try_from(packet.microseconds % 1_000_000).unwrap());
        word(&mut file, length);
        word(&mut file, length);
        file.extend(&packet.octets);
    }
    file
}
