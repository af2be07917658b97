//! Whether the sources of an attack are real or made up, and the numbers that say so.

use schemas::counter::{Detail, Volume};
use schemas::incident::Indicators;
use schemas::net::{Address, Prefix};

use super::family::Kind;

const SYN: u16 = 0x02;
const PSH: u16 = 0x08;
const ACK: u16 = 0x10;

/// Sources that are needed before their number says anything.
const SOURCES_MIN: u64 = 1_000;
/// Packets that were truly seen before anything is said.
const SAMPLES_MIN: f64 = 200.0;
/// Packets of each source, every one seen, below which sources are made up: a machine that attacks sends more than one packet, and an address that
/// is drawn from 2³² comes up once.
const PACKETS_PER_SOURCE: f64 = 1.5;
/// The same for what was sampled: so many machines at once no known botnet had (Mirai: 600,000 in all, Antonakakis and others, 2017).
const MACHINES_MAX: f64 = 250_000.0;
/// Two standard errors of the estimate of different sources.
const DISTINCT_ERROR: f64 = 0.092;
/// Part of the listed sources that nobody can have.
const UNROUTABLE_SHARE: f64 = 0.05;
/// Times to live that many machines all over the world do not share: initial values of 64, 128 and 255 less 5 to 25 hops.
const LIFETIMES_MAX: usize = 2;
/// Part of the packets that have one of these.
const LIFETIMES_SHARE: f64 = 0.98;

/// What nobody on the public Internet sends from (RFC 6890, RFC 1112 §4, RFC 3849, RFC 4193, RFC 4291 §2.5 and §2.7).
const UNROUTABLE: [&str; 18] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/16",
    "100::/64",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// Whether incoming traffic has made-up sources: `None` where the evidence says neither.
///
/// Real ones are those who finish handshakes, and reflectors, who answer. Made-up ones are addresses that nobody can have, a new address with
/// each packet, and a thousand sources whose packets have all come the same number of hops.
#[must_use]
pub fn is_spoofed(kind: &Kind, volume: &Volume, detail: &Detail) -> Option<bool> {
    if kind.subtype.as_deref().is_some_and(|subtype| subtype.ends_with("_amplification")) || handshakes(detail) {
        return Some(false);
    }
    if volume.samples < SAMPLES_MIN {
        return None;
    }
    if unroutable_share(detail) >= UNROUTABLE_SHARE {
        return Some(true);
    }
    if detail.peer_count < SOURCES_MIN {
        return None;
    }
    if are_drawn(volume, detail.peer_count) || are_near(detail) { Some(true) } else { None }
}

/// Flows that held a handshake and data: SYN, ACK and PSH together, in most of the TCP packets.
fn handshakes(detail: &Detail) -> bool {
    let whole: u64 = detail.tcp_flags.iter().map(|(_, packets, _)| packets).sum();
    let complete = |flags: u16| flags & (SYN | ACK | PSH) == SYN | ACK | PSH;
    let packets: u64 = detail.tcp_flags.iter().filter(|(flags, ..)| complete(*flags)).map(|(_, packets, _)| packets).sum();
    whole > 0 && packets * 2 > whole
}

/// Part of the listed sources that lie in address space that nobody has; by number, since each is a draw.
fn unroutable_share(detail: &Detail) -> f64 {
    // One or two leaked packets of somebody's private network are in all traffic.
    const LEAST: usize = 3;
    let unroutable = detail.peers.iter().filter(|(address, ..)| is_unroutable(*address)).count();
    if unroutable < LEAST { 0.0 } else { unroutable as f64 / detail.peers.len() as f64 }
}

fn is_unroutable(address: Address) -> bool {
    static PREFIXES: std::sync::LazyLock<Vec<Prefix>> =
        std::sync::LazyLock::new(|| UNROUTABLE.iter().filter_map(|text| text.parse().ok()).collect());
    PREFIXES.iter().any(|prefix| prefix.is_v4() == address.is_v4() && prefix.contains(address))
}

/// Whether there are so many sources for so few packets that they were drawn at random.
fn are_drawn(volume: &Volume, peer_count: u64) -> bool {
    let (sources, seen) = (peer_count as f64, volume.samples);
    if volume.samples >= volume.packets * 0.99 {
        return seen / sources < PACKETS_PER_SOURCE;
    }
    // Of N sources alike, s samples show N (1 − e^(−s/N)), about s − s²/2N: so many there are at least.
    let repeated = (seen - sources * (1.0 - DISTINCT_ERROR)).max(1.0);
    seen * seen / (2.0 * repeated) > MACHINES_MAX
}

/// Whether nearly all packets have come the same way.
fn are_near(detail: &Detail) -> bool {
    let whole: u64 = detail.ttls.iter().map(|(_, packets, _)| packets).sum();
    let near: u64 = detail.ttls.iter().take(LIFETIMES_MAX).map(|(_, packets, _)| packets).sum();
    // Exporters that do not tell it leave the ranking empty, or tell it of some packets only.
    whole * 2 > detail.packets && near as f64 >= whole as f64 * LIFETIMES_SHARE
}

/// The numbers that describe what an attack is made of.
#[must_use]
pub fn indicators(volume: &Volume, detail: &Detail) -> Indicators {
    let part = |value: f64, whole: f64| (whole > 0.0).then(|| (value / whole).clamp(0.0, 1.0));
    let per = |value: f64, count: f64| (count > 0.0).then(|| value / count);
    Indicators {
        source_entropy_bits: entropy(detail),
        packets_per_source: per(volume.packets, detail.peer_count as f64),
        ttl_count: u64::try_from(detail.ttls.len()).ok().filter(|count| *count > 0),
        mean_packet_octets: per(volume.octets, volume.packets),
        syn_share: part(volume.syn_packets, volume.tcp_packets),
        fragment_share: part(volume.fragment_packets, volume.packets),
        amplification_share: part(volume.amplification_packets, volume.udp_packets),
    }
}

/// Entropy of the sources by packets, in bits: that of the listed ones, and of the rest as if they all sent the same.
///
/// So it is an upper bound; n sources alike have log₂ n.
fn entropy(detail: &Detail) -> Option<f64> {
    let whole = detail.packets as f64;
    if whole <= 0.0 || detail.peer_count == 0 {
        return None;
    }
    let term = |share: f64| if share > 0.0 { -share * share.log2() } else { 0.0 };
    let listed: Vec<f64> = detail.peers.iter().map(|(_, packets, _)| (*packets as f64 / whole).min(1.0)).collect();
    let rest = (1.0 - listed.iter().sum::<f64>()).max(0.0);
    let others = (detail.peer_count as f64 - listed.len() as f64).max(1.0);
    Some(listed.into_iter().map(term).sum::<f64>() + others * term(rest / others))
}

#[cfg(test)]
mod tests {
    use schemas::incident::Family;

    use super::*;

    fn kind(subtype: &str) -> Kind {
        Kind { family: Family::SynFlood, subtype: Some(subtype.to_owned()) }
    }

    /// `peers` of equal weight, `peer_count` in all.
    fn detail(peers: &[&str], peer_count: u64, ttls: &[(u8, u64)]) -> Detail {
        Detail {
            packets: 100_000,
            peers: peers.iter().map(|text| (text.parse().unwrap(), 10, 600)).collect(),
            peer_count,
            ttls: ttls.iter().map(|(ttl, packets)| (*ttl, *packets, 0)).collect(),
            ..Detail::default()
        }
    }

    fn volume(packets: f64, samples: f64) -> Volume {
        Volume { packets, samples, ..Volume::default() }
    }

    const WIDE: &[(u8, u64)] = &[(52, 30_000), (113, 20_000), (48, 20_000), (238, 10_000)];

    #[test]
    fn a_new_source_with_each_packet_is_made_up() {
        let detail = detail(&["8.8.8.8"], 95_000, WIDE);
        assert_eq!(is_spoofed(&kind("syn"), &volume(100_000.0, 100_000.0), &detail), Some(true));
        // Twenty packets of each may be machines.
        assert_eq!(is_spoofed(&kind("syn"), &volume(2e6, 2e6), &detail), None);
        // Sampled 1 in 1,000, 600 different sources of 600 samples may be ten thousand bots.
        let sampled = Detail { peer_count: 1_100, ..detail };
        assert_eq!(is_spoofed(&kind("syn"), &volume(1.1e6, 1_100.0), &sampled), None);
        // 100,000 samples with 100,000 sources are at least half a million: s²/2(s − d) of 10¹⁰ and 9,200.
        let many = Detail { peer_count: 100_000, ..sampled };
        assert_eq!(is_spoofed(&kind("syn"), &volume(1e8, 100_000.0), &many), Some(true));
    }

    #[test]
    fn addresses_that_nobody_has_are_made_up() {
        let peers = ["10.1.2.3", "240.1.2.3", "127.9.9.9", "8.8.8.8", "9.9.9.9"];
        assert_eq!(is_spoofed(&kind("syn"), &volume(1e6, 1_000.0), &detail(&peers, 900, WIDE)), Some(true));
        // Two are a leak.
        assert_eq!(is_spoofed(&kind("syn"), &volume(1e6, 1_000.0), &detail(&peers[1..3], 900, WIDE)), None);
        // ::ffff:0:0/96 is IPv4's, not that of ::/16.
        assert!(!is_unroutable("8.8.8.8".parse().unwrap()));
        assert!(is_unroutable("::1".parse().unwrap()) && !is_unroutable("2001:4860::1".parse().unwrap()));
    }

    #[test]
    fn a_thousand_sources_at_one_distance_are_one_machine() {
        let one = detail(&["8.8.8.8"], 5_000, &[(57, 99_500), (58, 400)]);
        let seen = volume(6e7, 60_000.0);
        assert_eq!(is_spoofed(&kind("syn"), &seen, &one), Some(true));
        assert_eq!(is_spoofed(&kind("syn"), &seen, &detail(&["8.8.8.8"], 5_000, WIDE)), None);
        // The exporter tells the time to live of hardly any packet.
        assert_eq!(is_spoofed(&kind("syn"), &seen, &detail(&["8.8.8.8"], 5_000, &[(57, 500)])), None);
    }

    #[test]
    fn reflectors_and_whoever_finishes_a_handshake_are_real() {
        let private = detail(&["10.1.2.3", "10.1.2.4", "10.1.2.5"], 5_000, WIDE);
        assert_eq!(is_spoofed(&kind("ntp_amplification"), &volume(1e6, 1e6), &private), Some(false));
        let complete = Detail { tcp_flags: vec![(SYN | ACK | PSH, 90, 0), (SYN, 10, 0)], ..private };
        assert_eq!(is_spoofed(&kind("syn"), &volume(1e6, 1e6), &complete), Some(false));
    }

    #[test]
    fn entropy_is_that_of_sources_alike() {
        let four = Detail { packets: 40, ..detail(&["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"], 4, &[]) };
        assert!((entropy(&four).unwrap() - 2.0).abs() < 1e-9);
        // Half of the packets from one, half from 1,024 others: 1/2 + 1/2 + 1/2 × 10 bits.
        let mixed = Detail { packets: 20, ..detail(&["1.1.1.1"], 1_025, &[]) };
        assert!((entropy(&mixed).unwrap() - 6.0).abs() < 1e-9);
        assert_eq!(entropy(&Detail::default()), None);
    }
}
