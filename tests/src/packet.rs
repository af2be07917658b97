//! Packets built from their headers: Ethernet, IPv4 with fragments, IPv6, TCP, UDP, ICMP, with right checksums.

use std::net::{IpAddr, SocketAddr};

/// Length of an Ethernet header without a tag.
pub const ETHERNET_OCTETS: usize = 14;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A UDP packet with `payload` behind its header.
#[must_use]
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    frame(source.ip(), destination.ip(), UDP, udp_datagram(source, destination, payload))
}

/// A TCP packet with the given flags and `payload` octets behind a header of 20.
#[must_use]
pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8, payload: usize) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20 + payload);
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.resize(20 + payload, 0xa5);
    let sum = checksum(&segment, pseudo_header(source.ip(), destination.ip(), TCP, segment.len()));
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    frame(source.ip(), destination.ip(), TCP, segment)
}

/// An echo request (ICMP, or ICMPv6 for IPv6) with `payload` octets behind a header of 8.
#[must_use]
pub fn ping(source: IpAddr, destination: IpAddr, payload: usize) -> Vec<u8> {
    let (protocol, kind) = if source.is_ipv4() { (1, 8) } else { (58, 128) };
    let mut message = vec![kind, 0, 0, 0, 0, 7, 0, 1];
    message.resize(8 + payload, 0x5a);
    let start = if source.is_ipv4() { 0 } else { pseudo_header(source, destination, protocol, message.len()) };
    let sum = checksum(&message, start);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame(source, destination, protocol, message)
}

/// A UDP packet over IPv4 cut into fragments whose data is at most `fragment_octets` long, a multiple of 8.
///
/// # Panics
///
/// If an address is IPv6 or `fragment_octets` no multiple of 8.
#[must_use]
pub fn udp_fragments(
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
    fragment_octets: usize,
    identification: u16,
) -> Vec<Vec<u8>> {
    assert!(fragment_octets.is_multiple_of(8), "a fragment's data is a multiple of 8 octets");
    let whole = udp_datagram(source, destination, payload);
    let pieces = whole.chunks(fragment_octets).enumerate();
    let frames = pieces.map(|(index, piece)| {
        let last = (index + 1) * fragment_octets >= whole.len();
        let offset = u16::try_from(index * fragment_octets / 8).unwrap();
        let field = offset | if last { 0 } else { 0x2000 };
        let (IpAddr::V4(from), IpAddr::V4(to)) = (source.ip(), destination.ip()) else { panic!("IPv4 only") };
        ethernet(0x0800, &ipv4(from.octets(), to.octets(), UDP, identification, field, piece))
    });
    frames.collect()
}

fn udp_datagram(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = checksum(&datagram, pseudo_header(source.ip(), destination.ip(), UDP, datagram.len()));
    // A sum of zero is sent as all ones: zero says that there is none (RFC 768).
    datagram[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    datagram
}

fn frame(source: IpAddr, destination: IpAddr, protocol: u8, transport: Vec<u8>) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet(0x0800, &ipv4(from.octets(), to.octets(), protocol, 1, 0x4000, &transport)),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend(u16::try_from(transport.len()).unwrap().to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(transport);
            ethernet(0x86dd, &packet)
        }
        _ => panic!("both ends are of one family"),
    }
}

fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, identification: u16, fragment: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(20 + data.len()).unwrap().to_be_bytes());
    packet.extend(identification.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    let sum = checksum(&packet, 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(data);
    packet
}

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

/// The Internet checksum (RFC 1071) of `octets`, begun with the sum `start`.
fn checksum(octets: &[u8], start: u32) -> u16 {
    let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u32 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let addresses = [octets(source), octets(destination)].concat();
    let words = addresses.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    words.sum::<u32>() + u32::from(protocol) + u32::try_from(length).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_zero() {
        let packet = udp("192.0.2.1:1000".parse().unwrap(), "192.0.2.2:2000".parse().unwrap(), &[1, 2, 3]);
        // 14 Ethernet + 20 IPv4 + 8 UDP + 3 payload.
        assert_eq!(packet.len(), 45);
        assert_eq!(checksum(&packet[14..34], 0), 0);
        let length = packet.len() - 34;
        let start = pseudo_header("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), UDP, length);
        assert_eq!(checksum(&packet[34..], start), 0);
    }

    #[test]
    fn fragments_carry_the_whole_datagram_between_them() {
        let pieces = udp_fragments("192.0.2.1:1000".parse().unwrap(), "192.0.2.2:2000".parse().unwrap(), &[0; 3000], 1480, 9);
        // 8 + 3,000 octets of UDP in pieces of 1,480, 1,480 and 48, each behind 14 + 20 octets.
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1514, 1514, 82]);
    }
}
