//! The kind of an attack, by the mix of its packets: the rules of the API's contract, in the order in which they are tried.

use schemas::amplification;
use schemas::counter::{Detail, Volume};
use schemas::incident::{Family, Metric, Unit};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const FIN: u16 = 0x01;
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const PSH: u16 = 0x08;
const ACK: u16 = 0x10;
const URG: u16 = 0x20;
const FLAGS: u16 = 0x3f;

/// An attack's kind, and its finer kind where one is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The family.
    pub family: Family,
    /// The subtype.
    pub subtype: Option<String>,
}

impl Kind {
    fn of(family: Family) -> Self {
        Self { family, subtype: None }
    }

    fn with(family: Family, subtype: impl Into<String>) -> Self {
        Self { family, subtype: Some(subtype.into()) }
    }
}

/// Parts of the whole, 0 to 1, by the metric that was crossed where the counters have it.
struct Mix {
    tcp: f64,
    udp: f64,
    icmp: f64,
    other: f64,
    amplification: f64,
    fragments: f64,
    /// SYN without ACK, as a part of TCP.
    syn_of_tcp: f64,
}

/// Classifies the traffic of the windows that crossed a limit.
///
/// Octets weigh where the limit was one of bits: 10 % of the packets of a large answer are what fills the link.
#[must_use]
pub fn classify(volume: &Volume, detail: Option<&Detail>, metric: Metric) -> Kind {
    let mix = mix(volume, metric);
    if let Some(kind) = by_flags(&mix, detail, metric) {
        return kind;
    }
    let vectors = vectors(&mix, detail, metric);
    if let [(_, one), (_, two), ..] = vectors.as_slice()
        && *one > 0.35
        && *two > 0.35
    {
        return Kind::of(Family::MultiVector);
    }
    if let Some(kind) = by_protocol(&mix, detail, metric) {
        return kind;
    }
    // Later fragments of an amplifier's answers have no port: what its first fragments tell counts more.
    if mix.fragments > 0.6 && mix.amplification < 0.25 {
        return if mix.udp > 0.5 { Kind::with(Family::FragmentFlood, "udp_fragment") } else { Kind::of(Family::FragmentFlood) };
    }
    let largest =
        [(mix.tcp, TCP), (mix.udp, UDP), (mix.icmp, ICMP), (mix.other, 0)].into_iter().max_by(|one, other| one.0.total_cmp(&other.0));
    match largest {
        Some((share, TCP)) if share > 0.5 => tcp(&mix, detail),
        Some((share, UDP)) if share > 0.5 => udp(&mix, detail, metric),
        Some((share, ICMP)) if share > 0.5 => icmp(detail),
        Some((share, _)) if share > 0.5 => other(detail),
        _ => Kind::of(Family::Unknown),
    }
}

/// What was crossed is the limit of TCP packets with certain flags: these are the attack, however many others there are.
fn by_flags(mix: &Mix, detail: Option<&Detail>, metric: Metric) -> Option<Kind> {
    match metric {
        Metric::SynPacketsPerSecond => Some(Kind::with(Family::SynFlood, "syn")),
        Metric::SynAckPacketsPerSecond => Some(Kind::with(Family::TcpFlood, "syn_ack")),
        Metric::ResetPacketsPerSecond => Some(Kind::with(Family::TcpFlood, "rst")),
        Metric::OddPacketsPerSecond => {
            // The flags that stand out may be those of what is no attack.
            let subtype = tcp(mix, detail).subtype.filter(|name| ["null", "xmas", "fin"].contains(&name.as_str()));
            Some(Kind { family: Family::TcpFlood, subtype })
        }
        _ => None,
    }
}

/// What was crossed is the limit of one protocol, or of fragments.
fn by_protocol(mix: &Mix, detail: Option<&Detail>, metric: Metric) -> Option<Kind> {
    match metric {
        Metric::TcpPacketsPerSecond | Metric::TcpBitsPerSecond => Some(tcp(mix, detail)),
        Metric::UdpPacketsPerSecond | Metric::UdpBitsPerSecond => Some(udp(mix, detail, metric)),
        Metric::IcmpPacketsPerSecond | Metric::IcmpBitsPerSecond => Some(icmp(detail)),
        Metric::FragmentPacketsPerSecond if mix.udp > 0.5 => Some(Kind::with(Family::FragmentFlood, "udp_fragment")),
        Metric::FragmentPacketsPerSecond => Some(Kind::of(Family::FragmentFlood)),
        _ => None,
    }
}

fn mix(volume: &Volume, metric: Metric) -> Mix {
    let part = |value: f64, whole: f64| if whole > 0.0 { (value / whole).clamp(0.0, 1.0) } else { 0.0 };
    let packets = volume.packets;
    let (tcp, udp, icmp, amplification) = match metric {
        metric if metric.unit() == Unit::Bits && volume.octets > 0.0 => (
            part(volume.tcp_octets, volume.octets),
            part(volume.udp_octets, volume.octets),
            part(volume.icmp_octets, volume.octets),
            part(volume.amplification_octets, volume.octets),
        ),
        _ => (
            part(volume.tcp_packets, packets),
            part(volume.udp_packets, packets),
            part(volume.icmp_packets, packets),
            part(volume.amplification_packets, packets),
        ),
    };
    let rest = (1.0 - tcp - udp).max(0.0);
    let icmp = icmp.min(rest);
    let fragments = part(volume.fragment_packets, packets);
    Mix { tcp, udp, icmp, other: rest - icmp, amplification, fragments, syn_of_tcp: part(volume.syn_packets, volume.tcp_packets) }
}

/// The separate vectors, largest first: each amplifier's port, the rest of UDP, TCP, ICMP, other protocols.
fn vectors(mix: &Mix, detail: Option<&Detail>, metric: Metric) -> Vec<(String, f64)> {
    let mut vectors: Vec<(String, f64)> =
        amplifiers(detail, metric).into_iter().map(|(name, share)| (name.to_owned(), share * mix.udp)).collect();
    let named: f64 = vectors.iter().map(|(_, share)| share).sum();
    // The later fragments of answers have no port: they are no vector of their own.
    let portless = (from_port(detail, UDP, 0, metric) * mix.udp).min(mix.fragments).min((mix.udp - named).max(0.0));
    let largest = vectors.iter_mut().max_by(|one, other| one.1.total_cmp(&other.1));
    let named = named + largest.map_or(0.0, |(_, share)| (*share += portless, portless).1);
    vectors.push(("udp".to_owned(), (mix.udp - named).max(0.0)));
    vectors.extend([("tcp".to_owned(), mix.tcp), ("icmp".to_owned(), mix.icmp), ("other".to_owned(), mix.other)]);
    vectors.sort_by(|one, other| other.1.total_cmp(&one.1));
    vectors
}

/// The amplifiers among the source ports, each with its part of UDP.
fn amplifiers(detail: Option<&Detail>, metric: Metric) -> Vec<(&'static str, f64)> {
    let Some(detail) = detail else { return Vec::new() };
    let weight = |packets: u64, octets: u64| if metric.unit() == Unit::Bits { octets as f64 } else { packets as f64 };
    let udp: f64 = protocol_weight(detail, UDP, &weight);
    if udp <= 0.0 {
        return Vec::new();
    }
    let of_udp = detail.source_ports.iter().filter(|((protocol, _), ..)| *protocol == UDP);
    of_udp
        .filter_map(|((_, port), packets, octets)| {
            Some((amplification::service_of(*port)?.name, (weight(*packets, *octets) / udp).min(1.0)))
        })
        .collect()
}

/// Part of a protocol that comes from `port`.
fn from_port(detail: Option<&Detail>, protocol: u8, port: u16, metric: Metric) -> f64 {
    let Some(detail) = detail else { return 0.0 };
    let weight = |packets: u64, octets: u64| if metric.unit() == Unit::Bits { octets as f64 } else { packets as f64 };
    let whole = protocol_weight(detail, protocol, &weight);
    let own = detail.source_ports.iter().find(|(source, ..)| *source == (protocol, port));
    own.filter(|_| whole > 0.0).map_or(0.0, |(_, packets, octets)| (weight(*packets, *octets) / whole).min(1.0))
}

fn protocol_weight(detail: &Detail, protocol: u8, weight: &impl Fn(u64, u64) -> f64) -> f64 {
    let of_protocol = detail.protocols.iter().find(|(own, ..)| *own == protocol);
    of_protocol.map_or_else(|| weight(detail.packets, detail.octets), |(_, packets, octets)| weight(*packets, *octets))
}

/// Part of a protocol's packets that go to `ports`.
fn to_ports(detail: Option<&Detail>, protocol: u8, ports: &[u16]) -> f64 {
    let Some(detail) = detail else { return 0.0 };
    let whole = protocol_weight(detail, protocol, &|packets, _| packets as f64);
    let hit: u64 = detail
        .destination_ports
        .iter()
        .filter(|((own, port), ..)| *own == protocol && ports.contains(port))
        .map(|(_, packets, _)| packets)
        .sum();
    if whole > 0.0 { hit as f64 / whole } else { 0.0 }
}

fn udp(mix: &Mix, detail: Option<&Detail>, metric: Metric) -> Kind {
    if to_ports(detail, UDP, &[53]) > 0.5 {
        return Kind::of(Family::DnsFlood);
    }
    let largest = amplifiers(detail, metric).into_iter().max_by(|one, other| one.1.total_cmp(&other.1));
    if let Some((name, share)) = largest
        && (mix.amplification > mix.udp / 2.0 || share > 0.5 || (mix.fragments > 0.6 && mix.amplification >= 0.25))
    {
        return Kind::with(Family::UdpFlood, format!("{name}_amplification"));
    }
    if to_ports(detail, UDP, &[443]) > 0.5 {
        return Kind::with(Family::UdpFlood, "quic_flood");
    }
    Kind::of(Family::UdpFlood)
}

fn tcp(mix: &Mix, detail: Option<&Detail>) -> Kind {
    if mix.syn_of_tcp > 0.5 {
        return Kind::with(Family::SynFlood, "syn");
    }
    let Some(detail) = detail else { return Kind::of(Family::TcpFlood) };
    let whole: u64 = detail.tcp_flags.iter().map(|(_, packets, _)| packets).sum();
    let packets = |holds: &dyn Fn(u16) -> bool| -> u64 {
        detail.tcp_flags.iter().filter(|(flags, ..)| holds(flags & FLAGS)).map(|(_, packets, _)| packets).sum()
    };
    let over_half = |holds: &dyn Fn(u16) -> bool| packets(holds) * 2 > whole;
    // A flow record's flags are all of its packets' together: SYN, ACK and PSH tell of a handshake and a request.
    let requests = |flags: u16| flags & (SYN | ACK | PSH) == SYN | ACK | PSH;
    // Where each packet tells its own, one in twenty at least opens a connection, and half as many at least carry a request.
    let (opening, asking) = (packets(&|flags| flags == SYN), packets(&|flags| flags == PSH | ACK));
    let connections = opening * 20 >= whole && asking * 2 >= opening && opening > 0;
    if (over_half(&requests) || connections) && to_ports(Some(detail), TCP, &[80, 443, 8_080]) > 0.5 {
        return Kind::of(Family::HttpFlood);
    }
    let kinds: [(&str, &dyn Fn(u16) -> bool); 7] = [
        ("null", &|flags| flags == 0),
        ("xmas", &|flags| flags & (FIN | PSH | URG) == FIN | PSH | URG),
        ("syn_ack", &|flags| flags == SYN | ACK),
        ("rst", &|flags| flags & RST != 0),
        ("psh_ack", &|flags| flags == PSH | ACK),
        ("ack", &|flags| flags == ACK),
        ("fin", &|flags| flags & FIN != 0 && flags & SYN == 0),
    ];
    // One large transfer is ACKs too: a flood is named by them only if it is no single conversation.
    let is_most = |packets: Option<u64>| packets.is_some_and(|packets| packets * 2 > whole);
    let ports = detail.source_ports.iter().filter(|((protocol, _), ..)| *protocol == TCP);
    let conversation =
        is_most(detail.peers.iter().map(|(_, packets, _)| *packets).max()) && is_most(ports.map(|(_, packets, _)| *packets).max());
    match kinds.into_iter().find(|(_, holds)| over_half(holds)) {
        Some((name, _)) if !(conversation && ["ack", "psh_ack"].contains(&name)) => Kind::with(Family::TcpFlood, name),
        _ => Kind::of(Family::TcpFlood),
    }
}

/// NetFlow puts type × 256 + code of ICMP into the destination port: 8 × 256 and 128 × 256 are echo requests.
fn icmp(detail: Option<&Detail>) -> Kind {
    if to_ports(detail, ICMP, &[0x0800]) > 0.5 || to_ports(detail, ICMPV6, &[0x8000]) > 0.5 {
        return Kind::with(Family::IcmpFlood, "ping");
    }
    Kind::of(Family::IcmpFlood)
}

fn other(detail: Option<&Detail>) -> Kind {
    let rest = |protocol: u8| ![ICMP, TCP, UDP, ICMPV6].contains(&protocol);
    let largest =
        detail.and_then(|detail| detail.protocols.iter().filter(|(protocol, ..)| rest(*protocol)).max_by_key(|(_, packets, _)| *packets));
    match largest.map(|(protocol, ..)| protocol) {
        Some(47) => Kind::with(Family::ProtocolFlood, "gre"),
        Some(50) => Kind::with(Family::ProtocolFlood, "esp"),
        Some(4) => Kind::with(Family::ProtocolFlood, "ipip"),
        _ => Kind::of(Family::ProtocolFlood),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(tcp: f64, udp: f64, icmp: f64, other: f64) -> Volume {
        let packets = tcp + udp + icmp + other;
        Volume {
            packets,
            octets: packets * 500.0,
            tcp_packets: tcp,
            udp_packets: udp,
            icmp_packets: icmp,
            tcp_octets: tcp * 500.0,
            udp_octets: udp * 500.0,
            ..Volume::default()
        }
    }

    fn detail(protocol: u8, source: u16, destination: u16) -> Detail {
        Detail {
            packets: 100,
            octets: 50_000,
            protocols: vec![(protocol, 100, 50_000)],
            source_ports: vec![((protocol, source), 90, 45_000)],
            destination_ports: vec![((protocol, destination), 90, 45_000)],
            ..Detail::default()
        }
    }

    fn kind(volume: Volume, detail: Option<Detail>) -> (&'static str, Option<String>) {
        let kind = classify(&volume, detail.as_ref(), Metric::PacketsPerSecond);
        (kind.family.name(), kind.subtype)
    }

    fn flags(flags: u16, destination: u16) -> Option<Detail> {
        Some(Detail { tcp_flags: vec![(flags, 90, 45_000), (0x3f, 10, 5_000)], ..detail(TCP, 40_000, destination) })
    }

    #[test]
    fn protocols_make_families() {
        assert_eq!(kind(volume(0.0, 100.0, 0.0, 0.0), None), ("udp_flood", None));
        assert_eq!(kind(volume(0.0, 0.0, 90.0, 10.0), None), ("icmp_flood", None));
        assert_eq!(kind(volume(0.0, 0.0, 0.0, 90.0), Some(detail(47, 0, 0))), ("protocol_flood", Some("gre".into())));
        assert_eq!(kind(volume(0.0, 0.0, 0.0, 90.0), Some(detail(50, 0, 0))), ("protocol_flood", Some("esp".into())));
        assert_eq!(kind(volume(0.0, 0.0, 0.0, 90.0), Some(detail(4, 0, 0))), ("protocol_flood", Some("ipip".into())));
        assert_eq!(kind(volume(0.0, 0.0, 90.0, 0.0), Some(detail(ICMP, 0, 0x800))), ("icmp_flood", Some("ping".into())));
        assert_eq!(kind(volume(30.0, 30.0, 20.0, 20.0), None), ("unknown", None));
    }

    #[test]
    fn syn_without_ack_over_half_of_tcp_is_a_syn_flood() {
        assert_eq!(kind(Volume { syn_packets: 51.0, ..volume(100.0, 0.0, 0.0, 0.0) }, None), ("syn_flood", Some("syn".into())));
        assert_eq!(kind(Volume { syn_packets: 50.0, ..volume(100.0, 0.0, 0.0, 0.0) }, None), ("tcp_flood", None));
    }

    #[test]
    fn flags_name_the_tcp_flood() {
        for (bits, name) in [
            (SYN | ACK, "syn_ack"),
            (ACK, "ack"),
            (RST, "rst"),
            (RST | ACK, "rst"),
            (FIN | ACK, "fin"),
            (PSH | ACK, "psh_ack"),
            (FIN | PSH | URG, "xmas"),
            (0, "null"),
        ] {
            assert_eq!(kind(volume(100.0, 0.0, 0.0, 0.0), flags(bits, 9_999)), ("tcp_flood", Some(name.into())), "{bits:#x}");
        }
    }

    #[test]
    fn one_large_transfer_names_no_subtype() {
        let one_peer = |bits| flags(bits, 9_999).map(|detail| Detail { peers: vec![(schemas::net::Address(1), 80, 40_000)], ..detail });
        assert_eq!(kind(volume(100.0, 0.0, 0.0, 0.0), one_peer(ACK)), ("tcp_flood", None));
        assert_eq!(kind(volume(100.0, 0.0, 0.0, 0.0), one_peer(RST)), ("tcp_flood", Some("rst".into())));
    }

    #[test]
    fn connections_with_requests_to_web_ports_are_an_http_flood() {
        assert_eq!(kind(volume(100.0, 0.0, 0.0, 0.0), flags(SYN | ACK | PSH | FIN, 443)), ("http_flood", None));
        assert_eq!(kind(volume(100.0, 0.0, 0.0, 0.0), flags(SYN | ACK | PSH | FIN, 22)).0, "tcp_flood");
        // The same by its packets: SYN, ACK, request, and two ACKs of the answer.
        let packets = |asking| Detail { tcp_flags: vec![(SYN, 20, 800), (ACK, 60, 2_400), (asking, 20, 8_000)], ..detail(TCP, 40_000, 80) };
        assert_eq!(kind(volume(100.0, 0.0, 0.0, 0.0), Some(packets(PSH | ACK))), ("http_flood", None));
        assert_eq!(kind(volume(100.0, 0.0, 0.0, 0.0), Some(packets(ACK))), ("tcp_flood", Some("ack".into())));
    }

    #[test]
    fn every_port_of_the_registry_names_its_amplification() {
        for (port, name) in
            [(53, "dns"), (123, "ntp"), (389, "cldap"), (1_900, "ssdp"), (11_211, "memcached"), (19, "chargen"), (4_500, "isakmp")]
        {
            let found = kind(Volume { amplification_packets: 95.0, ..volume(0.0, 100.0, 0.0, 0.0) }, Some(detail(UDP, port, 40_000)));
            assert_eq!(found, ("udp_flood", Some(format!("{name}_amplification"))));
        }
    }

    #[test]
    fn queries_are_told_from_answers() {
        assert_eq!(kind(volume(0.0, 100.0, 0.0, 0.0), Some(detail(UDP, 40_000, 53))), ("dns_flood", None));
        assert_eq!(kind(volume(0.0, 100.0, 0.0, 0.0), Some(detail(UDP, 40_000, 443))), ("udp_flood", Some("quic_flood".into())));
    }

    #[test]
    fn fragments_over_three_fifths_are_a_fragment_flood_unless_an_amplifier_sent_them() {
        let fragments = Volume { fragment_packets: 61.0, ..volume(0.0, 100.0, 0.0, 0.0) };
        assert_eq!(kind(fragments, None), ("fragment_flood", Some("udp_fragment".into())));
        let answers = Volume { amplification_packets: 30.0, ..fragments };
        let mut seen = detail(UDP, 53, 40_000);
        seen.source_ports = vec![((UDP, 0), 70, 35_000), ((UDP, 53), 30, 15_000)];
        assert_eq!(kind(answers, Some(seen)), ("udp_flood", Some("dns_amplification".into())));
        assert_eq!(kind(Volume { fragment_packets: 60.0, ..volume(0.0, 100.0, 0.0, 0.0) }, None), ("udp_flood", None));
    }

    /// An answer of 2,800 octets comes in two fragments, of which only the first tells its port.
    #[test]
    fn answers_in_two_fragments_are_one_vector() {
        let answers = Volume { amplification_packets: 50.0, fragment_packets: 100.0, ..volume(0.0, 100.0, 0.0, 0.0) };
        let mut seen = detail(UDP, 53, 40_000);
        seen.source_ports = vec![((UDP, 0), 50, 25_000), ((UDP, 53), 50, 25_000)];
        assert_eq!(kind(answers, Some(seen.clone())), ("udp_flood", Some("dns_amplification".into())));
        // Whole datagrams from port 0 are another thing.
        let whole = Volume { amplification_packets: 50.0, ..volume(0.0, 100.0, 0.0, 0.0) };
        assert_eq!(kind(whole, Some(seen)).0, "multi_vector");
    }

    #[test]
    fn two_vectors_over_35_percent_are_multi_vector() {
        assert_eq!(kind(volume(50.0, 50.0, 0.0, 0.0), None), ("multi_vector", None));
        assert_eq!(kind(volume(65.0, 35.0, 0.0, 0.0), None).0, "tcp_flood");
        let mut two = detail(UDP, 53, 40_000);
        two.source_ports = vec![((UDP, 53), 50, 25_000), ((UDP, 123), 50, 25_000)];
        assert_eq!(kind(Volume { amplification_packets: 100.0, ..volume(0.0, 100.0, 0.0, 0.0) }, Some(two)).0, "multi_vector");
    }

    /// 10 packets of 1,400 octets against 90 of 40: the octets are 80 % UDP.
    #[test]
    fn octets_decide_where_bits_crossed_the_limit() {
        let mixed = Volume {
            octets: 17_600.0,
            udp_octets: 14_000.0,
            tcp_octets: 3_600.0,
            udp_packets: 10.0,
            tcp_packets: 90.0,
            packets: 100.0,
            ..Volume::default()
        };
        assert_eq!(classify(&mixed, None, Metric::BitsPerSecond).family, Family::UdpFlood);
        assert_eq!(classify(&mixed, None, Metric::PacketsPerSecond).family, Family::TcpFlood);
    }
}
