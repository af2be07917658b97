//! What an attack is made of: an incident's breakdowns and rankings, from the counters' volume and the shards' sketches.

use std::collections::BTreeMap;

use schemas::counter::{Detail, Direction, Ranking, Volume};
use schemas::incident::{Incident, Share};

/// Entries of each ranking that are told.
const TOP: usize = 10;
const FLAG_NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// The shards' details as one; `None` if no shard has any.
#[must_use]
pub fn merged(details: &[(usize, Box<Detail>)]) -> Option<Detail> {
    let ((_, first), rest) = details.split_first()?;
    let mut sum = Detail::clone(first);
    for (_, other) in rest {
        sum.packets += other.packets;
        sum.octets += other.octets;
        // Shards share sources: the largest count is what is sure.
        sum.peer_count = sum.peer_count.max(other.peer_count);
        sum.peer_sample.extend(&other.peer_sample);
        add(&mut sum.peers, &other.peers);
        add(&mut sum.source_ports, &other.source_ports);
        add(&mut sum.destination_ports, &other.destination_ports);
        add(&mut sum.protocols, &other.protocols);
        add(&mut sum.tcp_flags, &other.tcp_flags);
        add(&mut sum.packet_lengths, &other.packet_lengths);
        add(&mut sum.ttls, &other.ttls);
        add(&mut sum.exporters, &other.exporters);
    }
    sum.peer_sample.sort_unstable();
    sum.peer_sample.dedup();
    Some(sum)
}

fn add<T: Copy + PartialEq>(sum: &mut Ranking<T>, other: &Ranking<T>) {
    for (value, packets, octets) in other {
        match sum.iter_mut().find(|(own, ..)| own == value) {
            Some((_, own_packets, own_octets)) => {
                *own_packets += packets;
                *own_octets += octets;
            }
            None => sum.push((*value, *packets, *octets)),
        }
    }
    sum.sort_by_key(|(_, packets, _)| std::cmp::Reverse(*packets));
}

/// Fills an incident's breakdowns; what is not known stays as it is.
pub fn fill(incident: &mut Incident, volume: &Volume, detail: Option<&Detail>) {
    incident.protocol_breakdown = protocols(volume);
    let Some(detail) = detail else { return };
    // The sketches see a part of a large attack only, and forget: their shares hold, and the counters tell of how much.
    let scale = if detail.packets > 0 { volume.packets / detail.packets as f64 } else { 0.0 };
    incident.tcp_flag_breakdown = parts(&detail.tcp_flags, |flags| flag_names(*flags)).or(incident.tcp_flag_breakdown.take());
    incident.packet_length_histogram =
        parts(&detail.packet_lengths, |from| format!("{from}-{}", from.saturating_add(63))).or(incident.packet_length_histogram.take());
    // The peers of outgoing traffic are its destinations; its source is the target.
    if incident.direction == Direction::Incoming {
        // The sketch forgets: how many there were is the largest count, not the last.
        incident.source_ip_count = incident.source_ip_count.max(Some(detail.peer_count).filter(|count| *count > 0));
        incident.top_src_ips = shares(&detail.peers, detail.packets, scale, |address| *address);
    }
    incident.top_src_ports = shares(&detail.source_ports, detail.packets, scale, |(_, port)| *port);
    incident.top_dst_ports = shares(&detail.destination_ports, detail.packets, scale, |(_, port)| *port);
    for (exporter, ..) in detail.exporters.iter().take(64) {
        if !incident.exporters.contains(exporter) {
            incident.exporters.push(*exporter);
        }
    }
}

fn protocols(volume: &Volume) -> BTreeMap<String, f64> {
    let known = [("tcp", volume.tcp_packets), ("udp", volume.udp_packets), ("icmp", volume.icmp_packets)];
    let other = volume.packets - known.iter().map(|(_, packets)| packets).sum::<f64>();
    let part = |packets: f64| if volume.packets > 0.0 { round((packets / volume.packets).clamp(0.0, 1.0)) } else { 0.0 };
    known.into_iter().chain([("other", other)]).map(|(name, packets)| (name.to_owned(), part(packets))).collect()
}

fn parts<T>(ranking: &Ranking<T>, name: impl Fn(&T) -> String) -> Option<BTreeMap<String, f64>> {
    let whole: u64 = ranking.iter().map(|(_, packets, _)| packets).sum();
    if whole == 0 {
        return None;
    }
    let mut parts = BTreeMap::new();
    for (value, packets, _) in ranking.iter().take(32) {
        *parts.entry(name(value)).or_insert(0.0) += *packets as f64 / whole as f64;
    }
    parts.values_mut().for_each(|part| *part = round(*part));
    Some(parts)
}

/// Values of one name (a port of two protocols) are one entry.
fn shares<T, U: PartialEq>(ranking: &Ranking<T>, whole: u64, scale: f64, value: impl Fn(&T) -> U) -> Vec<Share<U>> {
    let mut shares: Vec<Share<U>> = Vec::new();
    for (own, packets, octets) in ranking {
        let own = value(own);
        match shares.iter_mut().find(|share| share.value == own) {
            Some(share) => {
                share.packets += packets;
                share.octets += octets;
            }
            None => shares.push(Share { value: own, packets: *packets, octets: *octets, share: 0.0 }),
        }
    }
    shares.sort_by_key(|share| std::cmp::Reverse(share.packets));
    shares.truncate(TOP);
    for share in &mut shares {
        share.share = if whole > 0 { round((share.packets as f64 / whole as f64).min(1.0)) } else { 0.0 };
        share.packets = super::whole(share.packets as f64 * scale);
        share.octets = super::whole(share.octets as f64 * scale);
    }
    shares
}

/// Shares are told to a ten-thousandth.
fn round(part: f64) -> f64 {
    (part * 10_000.0).round() / 10_000.0
}

fn flag_names(flags: u16) -> String {
    let set: Vec<&str> = FLAG_NAMES.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, name)| *name).collect();
    if set.is_empty() { "none".to_owned() } else { set.join("|") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_in_the_order_of_their_bits() {
        assert_eq!([0x02, 0x12, 0x29, 0].map(flag_names), ["SYN", "SYN|ACK", "FIN|PSH|URG", "none"]);
    }

    /// What comes behind the attack has few sources; the attack had a thousand.
    #[test]
    fn the_count_of_sources_is_the_largest_that_was_seen() {
        let (metric, source) = (schemas::incident::Metric::PacketsPerSecond, schemas::incident::LimitSource::Static);
        let threshold = schemas::incident::Threshold { metric, value: 1.0, source };
        let (target, now) = ("203.0.113.7".parse().unwrap(), Default::default());
        let mut incident = Incident::of(uuid::Uuid::nil(), target, Direction::Incoming, threshold, now, now);
        for peer_count in [1_000, 12] {
            fill(&mut incident, &Volume::default(), Some(&Detail { packets: 1, peer_count, ..Detail::default() }));
        }
        assert_eq!(incident.source_ip_count, Some(1_000));
    }

    #[test]
    fn two_shards_are_one_picture() {
        let detail = |port, packets| Detail {
            packets,
            source_ports: vec![((17, port), packets, packets * 100)],
            peer_count: packets,
            ..Detail::default()
        };
        let mut both = detail(53, 10);
        both.source_ports.push(((17, 123), 5, 500));
        both.packets = 15;
        let sum = merged(&[(0, Box::new(both)), (1, Box::new(detail(123, 20)))]).unwrap();
        assert_eq!(sum.source_ports, [((17, 123), 25, 2_500), ((17, 53), 10, 1_000)]);
        assert_eq!((sum.packets, sum.peer_count), (35, 20));
    }

    #[test]
    fn a_port_of_two_protocols_is_one_entry() {
        let both: Ranking<(u8, u16)> = vec![((17, 53), 60, 6_000), ((6, 53), 20, 2_000)];
        let shares = shares(&both, 100, 2.0, |(_, port)| *port);
        // The counters saw twice what the sketches did.
        assert_eq!(shares, [Share { value: 53, packets: 160, octets: 16_000, share: 0.8 }]);
    }
}
