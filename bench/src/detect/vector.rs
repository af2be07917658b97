//! What attacks are made of: the packets of each kind as they are on the wire, and what a detector should call them.

use bench::synthesize::{Flow, Fragment, Random};
use schemas::counter::Direction;
use schemas::net::{Address, Prefix};
use serde::{Deserialize, Serialize};

use super::wire::{EPOCH, Shape, unit};

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// A kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Vector {
    /// UDP to random ports, from bots.
    Udp,
    /// Answers of name servers, most of them in two fragments.
    DnsAmplification,
    /// Answers of time servers.
    NtpAmplification,
    /// Answers of memcached.
    MemcachedAmplification,
    /// Answers of directory servers, in two fragments.
    CldapAmplification,
    /// Answers of things that speak SSDP.
    SsdpAmplification,
    /// Initial packets of QUIC, from bots.
    Quic,
    /// SYNs from made-up sources.
    Syn,
    /// SYN-ACKs of servers that got SYNs from a made-up source.
    SynAck,
    /// ACKs from made-up sources.
    Ack,
    /// RSTs from made-up sources.
    Rst,
    /// FIN, PSH and URG at once.
    Xmas,
    /// No flag at all.
    Null,
    /// Echo requests.
    Ping,
    /// Queries to a name server, from bots.
    DnsFlood,
    /// Whole connections to a web server, from bots.
    HttpFlood,
    /// Later fragments of UDP packets that are never whole.
    Fragment,
    /// GRE.
    Gre,
    /// ESP.
    Esp,
    /// SYNs and answers of name servers at once.
    Multi,
}

impl Vector {
    /// All of them.
    pub(super) const ALL: [Self; 20] = [
        Self::Udp,
        Self::DnsAmplification,
        Self::NtpAmplification,
        Self::MemcachedAmplification,
        Self::CldapAmplification,
        Self::SsdpAmplification,
        Self::Quic,
        Self::Syn,
        Self::SynAck,
        Self::Ack,
        Self::Rst,
        Self::Xmas,
        Self::Null,
        Self::Ping,
        Self::DnsFlood,
        Self::HttpFlood,
        Self::Fragment,
        Self::Gre,
        Self::Esp,
        Self::Multi,
    ];

    /// Its word in reports: what a detector should call it, family and subtype, by the API's registry.
    pub(super) fn kind(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Udp => ("udp_flood", None),
            Self::DnsAmplification => ("udp_flood", Some("dns_amplification")),
            Self::NtpAmplification => ("udp_flood", Some("ntp_amplification")),
            Self::MemcachedAmplification => ("udp_flood", Some("memcached_amplification")),
            Self::CldapAmplification => ("udp_flood", Some("cldap_amplification")),
            Self::SsdpAmplification => ("udp_flood", Some("ssdp_amplification")),
            Self::Quic => ("udp_flood", Some("quic_flood")),
            Self::Syn => ("syn_flood", Some("syn")),
            Self::SynAck => ("tcp_flood", Some("syn_ack")),
            Self::Ack => ("tcp_flood", Some("ack")),
            Self::Rst => ("tcp_flood", Some("rst")),
            Self::Xmas => ("tcp_flood", Some("xmas")),
            Self::Null => ("tcp_flood", Some("null")),
            Self::Ping => ("icmp_flood", Some("ping")),
            Self::DnsFlood => ("dns_flood", None),
            Self::HttpFlood => ("http_flood", None),
            Self::Fragment => ("fragment_flood", Some("udp_fragment")),
            Self::Gre => ("protocol_flood", Some("gre")),
            Self::Esp => ("protocol_flood", Some("esp")),
            Self::Multi => ("multi_vector", None),
        }
    }

    /// The word for it in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Multi => "multi_vector",
            _ => self.kind().1.unwrap_or(self.kind().0),
        }
    }

    /// Number of senders; 0 where each packet names another.
    fn sources(self) -> u32 {
        match self {
            Self::Syn | Self::Ack | Self::Rst => 0,
            Self::MemcachedAmplification => 300,
            Self::NtpAmplification | Self::CldapAmplification => 1_500,
            Self::DnsFlood | Self::SsdpAmplification => 5_000,
            _ => 2_500,
        }
    }

    /// Mean IP octets of a packet; drawn from its packets, so that it is theirs.
    pub(super) fn mean_octets(self, target: Prefix) -> f64 {
        let (mut random, mut shape) = (Random::new(1), Assault::new(self, 1, target, Direction::Incoming));
        (0..4_096).map(|_| shape.packet(&mut random).octets as f64).sum::<f64>() / 4_096.0
    }

    /// What the victim answers to a packet, and how many of its limit in packets such answers are at most.
    pub(super) fn answer(self) -> Option<(Answer, f64, f64)> {
        match self {
            Self::Syn | Self::Multi => Some((Answer::SynAck, 0.5, 0.4)),
            Self::Ack | Self::Xmas | Self::Null => Some((Answer::Reset, 0.3, 0.1)),
            Self::Ping => Some((Answer::EchoReply, 1.0, 0.2)),
            Self::DnsFlood => Some((Answer::Name, 0.5, 0.3)),
            Self::HttpFlood => Some((Answer::Page, 0.8, 0.4)),
            Self::Udp => Some((Answer::Unreachable, 0.1, 0.01)),
            _ => None,
        }
    }
}

/// What a victim answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To a SYN.
    SynAck,
    /// To what belongs to no connection.
    Reset,
    /// To an echo request.
    EchoReply,
    /// To a query.
    Name,
    /// To requests of web pages.
    Page,
    /// To a port that nobody listens at.
    Unreachable,
}

/// An address that is not ours: of 20.0.0.0 to 99.255.255.255, or of 2400::/12; the same number gives the same address.
pub(super) fn stranger(number: u64, v4: bool) -> Address {
    let mut own = Random::new(number);
    if v4 {
        Address::from_v4(own.within(0x1400_0000, 0x63ff_ffff))
    } else {
        Address(0x240_u128 << 116 | u128::from(own.below(1 << 20)) << 80 | u128::from(own.number()))
    }
}

/// The packets of an attack, to a host or evenly to the hosts of a prefix; or from a host of ours to one elsewhere.
pub(super) struct Assault {
    vector: Vector,
    seed: u64,
    target: Prefix,
    direction: Direction,
}

impl Assault {
    /// The packets of `vector` at `target`, or from it.
    pub(super) fn new(vector: Vector, seed: u64, target: Prefix, direction: Direction) -> Self {
        Self { vector, seed, target, direction }
    }

    /// Source and destination of a packet.
    fn ends(&self, vector: Vector, random: &mut Random) -> (Address, Address) {
        let own = within(self.target, random);
        if self.direction == Direction::Outgoing {
            // A bot of ours with its own address, and one victim elsewhere.
            return (own, stranger(self.seed, self.target.is_v4()));
        }
        let number = match vector.sources() {
            0 => random.number(),
            sources => u64::from(random.below(sources)),
        };
        (stranger(self.seed ^ number << 8, self.target.is_v4()), own)
    }

    fn packet_of(&self, vector: Vector, random: &mut Random) -> Flow {
        let (source, destination) = self.ends(vector, random);
        let any = |random: &mut Random| random.port(1_024, 65_535);
        let whole = |protocol, ports: (u16, u16), octets: u32, flags| {
            flow((source, destination), ports, protocol, flags, octets.max(if source.is_v4() { 40 } else { 60 }))
        };
        // What a header of IPv6 has more.
        let more = if source.is_v4() { 0 } else { 20 };
        match vector {
            Vector::Udp => {
                let (octets, ports) = (random.within(200, 1_400), (any(random), any(random)));
                whole(UDP, ports, octets, 0)
            }
            Vector::DnsAmplification | Vector::Multi => {
                let port = any(random);
                if random.chance(35) {
                    let octets = random.within(1_100, 1_472);
                    return whole(UDP, (53, port), octets, 0);
                }
                in_two(whole(UDP, (53, port), 1_500, 0), random.within(900, 1_500))
            }
            Vector::CldapAmplification => {
                let port = any(random);
                in_two(whole(UDP, (389, port), 1_500, 0), random.within(1_200, 1_500))
            }
            Vector::NtpAmplification => whole(UDP, (123, 80), 468 + more, 0),
            Vector::MemcachedAmplification => whole(UDP, (11_211, 80), 1_428 + more, 0),
            Vector::SsdpAmplification => {
                let (octets, port) = (random.within(280, 420), any(random));
                whole(UDP, (1_900, port), octets, 0)
            }
            Vector::Quic => {
                let (octets, port) = (random.within(1_228, 1_380), any(random));
                whole(UDP, (port, 443), octets, 0)
            }
            Vector::Syn => {
                let (octets, port) = (random.within(44, 60) + more, any(random));
                whole(TCP, (port, 443), octets, SYN)
            }
            Vector::SynAck => {
                let ports = (if random.chance(50) { 443 } else { 80 }, any(random));
                whole(TCP, ports, 44 + more, SYN | ACK)
            }
            Vector::Ack | Vector::Rst | Vector::Xmas | Vector::Null => {
                let flags = match vector {
                    Vector::Ack => ACK,
                    Vector::Rst => RST,
                    Vector::Xmas => FIN | PSH | URG,
                    _ => 0,
                };
                let ports = (any(random), any(random));
                whole(TCP, ports, 40 + more, flags)
            }
            Vector::Ping => whole(if source.is_v4() { 1 } else { 58 }, (0, if source.is_v4() { 0x0800 } else { 0x8000 }), 84 + more, 0),
            Vector::DnsFlood => {
                let (octets, port) = (random.within(56, 84) + more, any(random));
                whole(UDP, (port, 53), octets, 0)
            }
            Vector::HttpFlood => {
                // A connection: SYN, ACK, the request, two ACKs of the answer, FIN; few at a time from each bot.
                let (port, step) = (40_000 + random.port(0, 7), random.below(6));
                let (flags, octets) = match step {
                    0 => (SYN, 60),
                    2 => (PSH | ACK, random.within(300, 700)),
                    5 => (FIN | ACK, 52),
                    _ => (ACK, 52),
                };
                whole(TCP, (port, 443), octets + more, flags)
            }
            Vector::Fragment => Flow { fragment: Fragment::Later, ..whole(UDP, (0, 0), 1_500, 0) },
            Vector::Gre => {
                let octets = random.within(300, 700);
                whole(47, (0, 0), octets, 0)
            }
            Vector::Esp => {
                let octets = random.within(300, 900);
                whole(50, (0, 0), octets, 0)
            }
        }
    }
}

/// One of the two fragments of an answer, the second `octets` long: of packets in any order each is as likely.
fn in_two(first: Flow, octets: u32) -> Flow {
    if octets.is_multiple_of(2) {
        return Flow { source_port: 0, destination_port: 0, fragment: Fragment::Later, octets: u64::from(octets), ..first };
    }
    Flow { fragment: Fragment::First, ..first }
}

impl Shape for Assault {
    fn packet(&mut self, random: &mut Random) -> Flow {
        match self.vector {
            Vector::Multi => {
                let one = if random.chance(50) { Vector::Syn } else { Vector::DnsAmplification };
                self.packet_of(one, random)
            }
            vector => self.packet_of(vector, random),
        }
    }
}

/// What a victim sends back to those who flood it.
pub(super) struct Reply {
    /// What.
    pub(super) answer: Answer,
    /// Who.
    pub(super) victim: Prefix,
}

impl Shape for Reply {
    fn packet(&mut self, random: &mut Random) -> Flow {
        let own = within(self.victim, random);
        let ends = (own, stranger(random.number(), own.is_v4()));
        let client = random.port(1_024, 65_535);
        let v4 = own.is_v4();
        let more = if v4 { 0 } else { 20 };
        let icmp = if v4 { 1 } else { 58 };
        let (protocol, ports, flags, octets) = match self.answer {
            Answer::SynAck => (TCP, (443, client), SYN | ACK, 44),
            Answer::Reset => (TCP, (client, 443), RST, 40),
            Answer::EchoReply => (icmp, (0, if v4 { 0 } else { 0x8100 }), 0, 84),
            Answer::Unreachable => (icmp, (0, if v4 { 0x0303 } else { 0x0104 }), 0, 96),
            Answer::Name => (UDP, (53, client), 0, random.within(90, 400)),
            Answer::Page => (TCP, (443, client), PSH | ACK, random.within(60, 1_500)),
        };
        flow(ends, ports, protocol, flags, octets + more)
    }
}

/// An address of a prefix, each alike.
///
/// Nobody has all addresses of a wide one of IPv6: of a /64 or a part of it the first 65,536 are meant, of a wider one a host in each of 512 /64s
/// that are spread over it evenly, or in all of them where there are fewer.
pub(super) fn within(prefix: Prefix, random: &mut Random) -> Address {
    let first = prefix.first().0;
    let below = |bound: u128, random: &mut Random| u128::from(random.below(u32::try_from(bound).unwrap_or(u32::MAX)));
    let offset = if prefix.is_v4() || prefix.length() >= 64 {
        let width = prefix.last().0 - first;
        below((width + 1).min(1 << 16), random)
    } else {
        let networks = 1u128 << (64 - prefix.length());
        let used = networks.min(512);
        (below(used, random) * (networks / used)) << 64 | 0x10
    };
    Address(first + offset)
}

/// A packet without a moment.
pub(super) fn flow(
    (source, destination): (Address, Address),
    (source_port, destination_port): (u16, u16),
    protocol: u8,
    tcp_control_bits: u8,
    octets: u32,
) -> Flow {
    // Systems begin with 64, 128 or 255, and a path has 5 to 25 hops; the same sender has always the same.
    let path = source.0 ^ source.0 >> 17;
    let hops = u8::try_from(path % 21).unwrap_or(0) + 5;
    let first: u8 = if unit(&mut Random::new(u64::try_from(path & 0xffff_ffff).unwrap_or(0))) < 0.7 { 64 } else { 128 };
    Flow {
        source,
        destination,
        source_port,
        destination_port,
        protocol,
        tcp_control_bits,
        fragment: Fragment::Whole,
        packets: 1,
        octets: u64::from(octets),
        start: EPOCH,
        end: EPOCH,
        ingress_interface: 10 + u32::from(hops % 4),
        egress_interface: 100,
        ttl: first - hops,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_prefix_is_hit_all_over() {
        let mut random = Random::new(1);
        for (prefix, shift, networks) in [("10.0.0.0/28", 0, 16), ("2001:db8:1::/56", 64, 256), ("2001:db8:1::/48", 64, 512)] {
            let prefix: Prefix = prefix.parse().unwrap();
            let hit: BTreeSet<u128> = (0..20_000).map(|_| within(prefix, &mut random)).map(|address| address.0 >> shift).collect();
            assert_eq!(hit.len(), networks, "{prefix}");
            assert!(hit.iter().all(|own| prefix.contains(Address(own << shift))), "{prefix}");
        }
    }

    /// Spoofed sources are all different, those of a reflection are few.
    #[test]
    fn sources_are_as_many_as_there_are_senders() {
        for (vector, least, most) in
            [(Vector::Syn, 3_900, 4_000), (Vector::MemcachedAmplification, 290, 300), (Vector::Multi, 2_600, 4_000)]
        {
            let mut shape = Assault::new(vector, 7, "2001:db8::7".parse().unwrap(), Direction::Incoming);
            let mut random = Random::new(1);
            let sources: BTreeSet<Address> = (0..4_000).map(|_| shape.packet(&mut random).source).collect();
            assert!((least..=most).contains(&sources.len()), "{vector:?}: {}", sources.len());
        }
    }
}
