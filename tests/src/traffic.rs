//! Traffic whose packets and octets are known, for exporters to meter.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::capture::{self, Packet};
use crate::packet::{self, ETHERNET_OCTETS};

/// Packets and octets, each in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many packets.
    pub packets: u64,
    /// Their octets, at the layer that is told.
    pub octets: u64,
}

impl Sums {
    /// The same packets with `octets` more of each: the sums one layer further down.
    #[must_use]
    pub fn with_layer(self, octets: u64) -> Self {
        Self { packets: self.packets, octets: self.octets + self.packets * octets }
    }

    /// Both added up.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, octets: self.octets + other.octets }
    }
}

/// A capture and what is in it.
#[derive(Debug)]
pub struct Traffic {
    /// By time.
    pub packets: Vec<Packet>,
    /// IPv4 packets with their IP octets.
    pub v4: Sums,
    /// IPv6 packets with their IP octets.
    pub v6: Sums,
}

/// When the made captures begin: 2026-11-20T12:00:00Z.
pub const START_MICROSECONDS: u64 = 1_795_176_000_000_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

impl Traffic {
    /// Conversations over `seconds`: TCP, UDP, ping and fragmented UDP over IPv4, TCP, UDP and ping over IPv6, 12 of each kind,
    /// lengths mixed, packets of all of them interleaved.
    #[must_use]
    pub fn conversations(seconds: u64) -> Self {
        let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
        for number in 0..12_u16 {
            let low = u8::try_from(number).unwrap() + 1;
            let v4 = |net: u8, port: u16| SocketAddr::new(IpAddr::from([198, 51, 100, net * 16 + low]), port);
            let home = |port: u16| SocketAddr::new(IpAddr::from([203, 0, 113, low]), port);
            let v6 = |port: u16| SocketAddr::new(IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(low)]), port);
            let home6 = |port: u16| SocketAddr::new(IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(low)]), port);
            let count = 40 + u64::from(number) * 7;
            for index in 0..count {
                let at = index * seconds * 1_000_000 / count + u64::from(number) * 531;
                let size = usize::try_from((index * 37 + u64::from(number) * 101) % 1200).unwrap();
                let flags = if index == 0 {
                    SYN
                } else if index == count - 1 {
                    FIN | ACK
                } else {
                    ACK
                };
                frames.push((at, packet::tcp(v4(0, 40_000 + number), home(443), flags, size)));
                frames.push((at + 11, packet::udp(v4(2, 5_000 + number), home(53), &vec![1; size])));
                frames.push((at + 23, packet::tcp(v6(41_000 + number), home6(80), flags, size)));
                frames.push((at + 37, packet::udp(v6(6_000 + number), home6(123), &vec![2; size])));
                if index % 4 == 0 {
                    frames.push((at + 41, packet::ping(v4(4, 0).ip(), home(0).ip(), size)));
                    frames.push((at + 43, packet::ping(v6(0).ip(), home6(0).ip(), size)));
                    let identification = u16::try_from(index).unwrap() * 16 + number;
                    let pieces = packet::udp_fragments(v4(6, 7_000 + number), home(9_000), &vec![3; 3_000 + size], 1_480, identification);
                    frames.extend(pieces.into_iter().map(|piece| (at + 47, piece)));
                }
            }
        }
        frames.sort_by_key(|(at, _)| *at);
        Self::of(frames)
    }

    /// The traffic of the given packets and moments (microseconds from the start).
    #[must_use]
    pub fn of(frames: Vec<(u64, Vec<u8>)>) -> Self {
        let mut traffic = Self { packets: Vec::new(), v4: Sums::default(), v6: Sums::default() };
        for (at, octets) in frames {
            let sums = if octets[12..14] == [0x08, 0] { &mut traffic.v4 } else { &mut traffic.v6 };
            sums.packets += 1;
            sums.octets += u64::try_from(octets.len() - ETHERNET_OCTETS).unwrap();
            traffic.packets.push(Packet { microseconds: START_MICROSECONDS + at, octets });
        }
        traffic
    }

    /// IPv4 and IPv6 together.
    #[must_use]
    pub fn all(&self) -> Sums {
        self.v4.and(self.v6)
    }

    /// Writes the packets as a capture file.
    pub fn write(&self, path: &Path) {
        capture::write(path, &self.packets);
    }
}
