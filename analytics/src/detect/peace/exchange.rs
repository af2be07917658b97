//! What one large peer and a target exchange: which of it is a conversation.
//!
//! The peer's own packets can be forged, what the target sends to it cannot: so it is the answers that speak, and only what a stack sends
//! within a connection counts as one. A SYN-ACK is sent to whoever asks, a RST and an ICMP error to whoever knocks at a closed door.

use schemas::counter::{Detail, Volume};

use super::{Class, Parts, Reason};

/// Octets of a TCP packet without data: 20 of IPv4, 20 of TCP and the options of a SYN; an estimate where only the sum is known.
pub(super) const CONTROL_OCTETS: f64 = 52.0;
/// Octets of a mean packet from which on data are moved: floods of a pipe's worth of packets are of 40 to 200, a transfer's segments of
/// 1,200 to 1,500, with requests and closing ones between them.
const BULK_OCTETS: f64 = 600.0;
/// Data packets that one acknowledgement may stand for. RFC 9293 §3.8.6.3 wants one for two; receivers that join segments (LRO, GRO) send
/// one for 64 KiB, 44 segments.
const DATA_PACKETS_MAX: f64 = 64.0;
/// Acknowledgements that one data packet may bring: one each, and those of windows that open.
const ACKNOWLEDGEMENTS_MAX: f64 = 1.5;
/// Octets of a mean packet, both ways, from which on two speak alike: voice by RTP has 200; ACKs and queries are below.
const SPOKEN_OCTETS: f64 = 150.0;
/// How many times more packets one side may send where both speak alike.
const ALIKE: f64 = 4.0;
/// Octets of a mean packet that has the shape of a transfer where no answer can be seen.
const SHAPED_OCTETS: f64 = 1_000.0;
/// Samples of answers that say that there are some: one alone may be a stray.
const ANSWERS_MIN: f64 = 2.0;
/// Answers that would have been seen on average, were they as few as they may be, so that none means that there are none: e⁻³ is 5 %.
const EXPECTED_MIN: f64 = 3.0;
/// Resets, handshakes and errors for each packet that asks for one.
pub(super) const REACTIONS_MAX: f64 = 1.2;
/// Part of its packets that a conversation has as fragments at most.
const FRAGMENTS_MAX: f64 = 0.1;

/// What one peer and the target sent each other in the same span.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sides {
    /// In the direction that is judged.
    pub own: Volume,
    /// In the other one.
    pub back: Volume,
}

/// What is known besides.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// Whether the exporters show the other direction at all.
    pub is_seen: bool,
    /// Whether answers may still come: flow records of a minute are told one after the other.
    pub may_come: bool,
    /// Whether the whole traffic of the target has the shape of a few transfers: see `is_shaped`.
    pub is_shaped: bool,
}

/// Which parts of what a peer sends are a conversation's, and why.
#[must_use]
pub fn converse(sides: &Sides, given: Given) -> Vec<(Reason, Parts)> {
    if sides.own.fragment_packets > sides.own.packets * FRAGMENTS_MAX {
        return Vec::new();
    }
    let mut found = Vec::new();
    if let Some((reason, established)) = class(sides, Class::Established, given) {
        found.push((reason, Parts { established, ..Parts::default() }));
    }
    if let Some((reason, udp)) = class(sides, Class::Udp, given) {
        found.push((reason, Parts { udp, ..Parts::default() }));
    }
    if let Some((reason, other)) = class(sides, Class::Other, given) {
        found.push((reason, Parts { other, ..Parts::default() }));
    }
    found.extend(reaction(sides).map(|parts| (Reason::Reaction, parts)));
    found
}

/// The rules, in the order in which they are tried:
///
/// 1. *Transfer to the target*: packets of 600 octets and more on average, and an answer within the class for each 64 at least.
/// 2. *Acknowledgements of what the target sends*: its packets have 600 octets and more, and at most 1.5 come back for each.
/// 3. *Alike*: both sides send packets of 150 octets and more, neither four times as many as the other.
/// 4. *Shape*: TCP packets of 1,000 octets and more in few connections, where answers cannot be told: they are not exported, not sampled
///    often enough that three should have been seen, or may still come.
///
/// Small packets that are answered by small ones are none of these, however complete the connection: nobody needs a hundred thousand a
/// second.
fn class(sides: &Sides, class: Class, given: Given) -> Option<(Reason, f64)> {
    let (own, back) = (class.of(&sides.own), class.of(&sides.back));
    if own.packets <= 0.0 {
        return None;
    }
    let bulk = if class == Class::Established { Reason::BulkTransfer } else { Reason::QuicTransfer };
    let bulk = if class == Class::Other { Reason::Conversation } else { bulk };
    let is_answered = back.samples >= ANSWERS_MIN;
    if is_answered && own.mean() >= BULK_OCTETS && back.packets * DATA_PACKETS_MAX >= own.packets {
        return Some((bulk, 1.0));
    }
    if is_answered && back.mean() >= BULK_OCTETS {
        return Some((bulk, (back.packets * ACKNOWLEDGEMENTS_MAX / own.packets).min(1.0)));
    }
    let (fewer, more) = (own.packets.min(back.packets), own.packets.max(back.packets));
    if is_answered && own.mean() >= SPOKEN_OCTETS && back.mean() >= SPOKEN_OCTETS && fewer * ALIKE >= more {
        return Some((Reason::Conversation, 1.0));
    }
    let is_untold = !given.is_seen || given.may_come || own.samples / DATA_PACKETS_MAX < EXPECTED_MIN;
    let is_shaped = class == Class::Established && given.is_shaped && own.mean() >= SHAPED_OCTETS;
    (is_shaped && is_untold && !is_answered).then_some((Reason::Shape, 1.0))
}

/// What a host must send to whoever knocks, as much as the peer's packets speak for: resets, handshakes and ICMP. The peer's own resets and handshakes speak for nothing.
fn reaction(sides: &Sides) -> Option<Parts> {
    let control = |volume: &Volume| volume.reset_packets + volume.syn_ack_packets + volume.icmp_packets;
    let (own, knocks) = (control(&sides.own), sides.back.packets - control(&sides.back));
    let fits = own > 0.0 && sides.back.samples >= ANSWERS_MIN;
    fits.then(|| Parts { reaction: (knocks * REACTIONS_MAX / own).min(1.0), ..Parts::default() }).filter(|parts| parts.reaction > 0.0)
}

/// Whether traffic has the shape of a few transfers: at most 16 peers, nine tenths of it from four ports and to sixteen, or the other way
/// round, at most four times to live for nine tenths, and ACK in nineteen of twenty TCP packets.
///
/// Tools that flood from one address change a port with each packet; what comes by many ways is no single path's.
#[must_use]
pub(super) fn is_shaped(detail: &Detail) -> bool {
    let (packets, most) = (detail.packets as f64, 0.9);
    let held = |counts: Vec<u64>, places: usize| counts.iter().take(places).sum::<u64>() as f64;
    let from = || detail.source_ports.iter().map(|(_, packets, _)| *packets).collect::<Vec<_>>();
    let to = || detail.destination_ports.iter().map(|(_, packets, _)| *packets).collect::<Vec<_>>();
    let ports = |one: Vec<u64>, other: Vec<u64>| held(one, 4) >= packets * most && held(other, 16) >= packets * most;
    let ttls: Vec<u64> = detail.ttls.iter().map(|(_, packets, _)| *packets).collect();
    let known = ttls.iter().sum::<u64>() as f64;
    let tcp: u64 = detail.tcp_flags.iter().map(|(_, packets, _)| packets).sum();
    let acknowledging: u64 = detail.tcp_flags.iter().filter(|(flags, ..)| flags & 0x10 != 0).map(|(_, packets, _)| packets).sum();
    packets > 0.0
        && detail.peer_count <= 16
        && (ports(from(), to()) || ports(to(), from()))
        && held(ttls, 4) >= known * most
        && acknowledging as f64 >= tcp as f64 * 0.95
        && tcp > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Given = Given { is_seen: true, may_come: false, is_shaped: true };

    fn tcp(packets: f64, mean: f64) -> Volume {
        let octets = packets * mean;
        Volume { packets, octets, tcp_packets: packets, tcp_octets: octets, samples: packets / 1_000.0, ..Volume::default() }
    }

    fn resets(packets: f64) -> Volume {
        Volume { reset_packets: packets, ..tcp(packets, 40.0) }
    }

    fn udp(packets: f64, mean: f64) -> Volume {
        let octets = packets * mean;
        Volume { packets, octets, udp_packets: packets, udp_octets: octets, samples: packets / 1_000.0, ..Volume::default() }
    }

    fn reasons(own: Volume, back: Volume, given: Given) -> Vec<Reason> {
        converse(&Sides { own, back }, given).into_iter().map(|(reason, _)| reason).collect()
    }

    #[test]
    fn a_transfer_is_one_with_an_answer_for_each_64_packets_and_not_with_fewer() {
        let data = tcp(200_000.0, 1_500.0);
        assert_eq!(reasons(data, tcp(3_125.0, 52.0), SEEN), [Reason::BulkTransfer]);
        assert_eq!(reasons(data, tcp(3_000.0, 52.0), SEEN), []);
        // Resets and handshakes are no answers, and one sample of an answer is none.
        assert_eq!(reasons(data, resets(200_000.0), SEEN), []);
        assert_eq!(reasons(tcp(640_000.0, 1_500.0), Volume { samples: 1.0, ..tcp(100_000.0, 52.0) }, SEEN), []);
        assert_eq!(reasons(udp(200_000.0, 1_250.0), udp(20_000.0, 60.0), SEEN), [Reason::QuicTransfer]);
        assert_eq!(reasons(udp(200_000.0, 1_250.0), tcp(20_000.0, 60.0), SEEN), [], "another protocol answers something else");
    }

    #[test]
    fn small_packets_are_explained_by_large_ones_that_they_acknowledge_and_by_no_others() {
        let sides = Sides { own: tcp(300_000.0, 52.0), back: tcp(100_000.0, 1_500.0) };
        let [(Reason::BulkTransfer, parts)] = converse(&sides, SEEN)[..] else { panic!("acknowledgements") };
        // 1.5 for each of 100,000 are half of 300,000.
        assert!((parts.established - 0.5).abs() < 1e-9);
        assert_eq!(reasons(tcp(300_000.0, 60.0), tcp(150_000.0, 52.0), SEEN), []);
        assert_eq!(reasons(tcp(300_000.0, 300.0), tcp(150_000.0, 300.0), SEEN), [Reason::Conversation]);
        assert_eq!(reasons(tcp(300_000.0, 300.0), tcp(50_000.0, 300.0), SEEN), []);
    }

    #[test]
    fn amplifiers_fragments_and_syns_are_no_part_of_a_conversation() {
        let answers = Volume { amplification_packets: 200_000.0, amplification_octets: 3e8, ..udp(200_000.0, 1_500.0) };
        assert_eq!(reasons(answers, udp(50_000.0, 80.0), SEEN), []);
        let fragments = Volume { fragment_packets: 50_000.0, ..udp(200_000.0, 1_500.0) };
        assert_eq!(reasons(fragments, udp(50_000.0, 80.0), SEEN), []);
        let syns = Volume { syn_packets: 50_000.0, ..tcp(250_000.0, 1_200.0) };
        let [(Reason::BulkTransfer, parts)] = converse(&Sides { own: syns, back: tcp(50_000.0, 52.0) }, SEEN)[..] else { panic!("data") };
        let explained = parts.of(&syns);
        assert!((explained.packets - 200_000.0).abs() < 1.0 && explained.syn_packets == 0.0, "{explained:?}");
    }

    #[test]
    fn shape_decides_only_where_answers_cannot_be_told() {
        let data = tcp(200_000.0, 1_500.0);
        assert_eq!(reasons(data, Volume::default(), SEEN), []);
        for given in [Given { is_seen: false, ..SEEN }, Given { may_come: true, ..SEEN }] {
            assert_eq!(reasons(data, Volume::default(), given), [Reason::Shape]);
            assert_eq!(reasons(data, Volume::default(), Given { is_shaped: false, ..given }), []);
            assert_eq!(reasons(tcp(200_000.0, 700.0), Volume::default(), given), []);
            assert_eq!(reasons(udp(200_000.0, 1_500.0), Volume::default(), given), []);
        }
        // Of 191 samples, fewer than three answers are to be expected at one for 64.
        let few = |samples| Volume { samples, ..data };
        assert_eq!(
            (reasons(few(191.0), Volume::default(), SEEN), reasons(few(192.0), Volume::default(), SEEN)),
            (vec![Reason::Shape], vec![])
        );
    }

    #[test]
    fn the_shape_is_that_of_few_connections() {
        let ports = |count: u16| (0..count).map(|port| ((6, 50_000 + port), 1_000 / u64::from(count), 0)).collect::<Vec<_>>();
        let detail = |from, to, flags| Detail {
            packets: 1_000,
            peer_count: 2,
            source_ports: ports(from),
            destination_ports: ports(to),
            tcp_flags: vec![(flags, 1_000, 0)],
            ..Detail::default()
        };
        assert!(is_shaped(&detail(1, 8, 0x10)) && is_shaped(&detail(8, 1, 0x18)));
        assert!(!is_shaped(&detail(16, 8, 0x10)) && !is_shaped(&detail(1, 1, 0x02)));
        assert!(!is_shaped(&Detail { peer_count: 300, ..detail(1, 1, 0x10) }));
        let ways: Vec<(u8, u64, u64)> = (40..60).map(|ttl| (ttl, 50, 0)).collect();
        assert!(!is_shaped(&Detail { ttls: ways, ..detail(1, 1, 0x10) }));
    }

    #[test]
    fn what_a_host_must_send_is_explained_by_what_came() {
        let flood = tcp(400_000.0, 60.0);
        let [(Reason::Reaction, parts)] = converse(&Sides { own: resets(400_000.0), back: flood }, SEEN)[..] else { panic!("resets") };
        assert!((parts.reaction - 1.0).abs() < 1e-9);
        // A flood of resets is not excused by the resets that answer other things.
        assert_eq!(reasons(resets(400_000.0), resets(400_000.0), SEEN), []);
    }
}
