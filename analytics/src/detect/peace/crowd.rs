//! What many small peers and a target exchange: a crowd of clients, or a flood that looks like one.
//!
//! Of none of them is known what was answered to it; of all of them it is. A crowd asks little and gets much, from connections that are few
//! for each client; a flood gets nothing, resets, or answers as small as its packets, or opens connections by the hundred.

use schemas::counter::Detail;

use super::{Amount, Class, Parts, Sides};

/// Peers from which on they are many: fewer are large ones when they are over a limit, and are judged one by one.
const PEERS_MIN: f64 = 64.0;
/// How many times more peers may be seen on the side that is judged: the two are not told in the same moment.
const PEERS_UNANSWERED: u64 = 3;
/// Octets of a mean answer: a page's segments, with what opens, acknowledges and closes between them.
const ANSWER_OCTETS: f64 = 400.0;
/// Octets of a mean request, acknowledgements included: 40 to 52 of these, some hundreds of a request.
const REQUEST_OCTETS: f64 = 400.0;
/// How many times the octets of the requests the answers are: of a page of 20 kB and its acknowledgements it is twenty. A refusal has as
/// many octets as what it refuses.
const ANSWERED: f64 = 3.0;
/// Packets of clients for each one of the server: at most one acknowledgement each, some requests, what opens and closes.
const CLIENT_PACKETS_MAX: f64 = 1.2;
/// Packets of a server for each of its clients' at least as many of these come back.
const SERVED_PACKETS_MAX: f64 = 16.0;
/// Octets of a mean packet up to which a server only refuses or acknowledges, and how many of them one packet may bring.
const REFUSAL_OCTETS: f64 = 150.0;
const REFUSALS_MAX: f64 = 1.5;
/// Part of the TCP packets that are RST: clients reset what they no longer want, servers reset nothing.
const RESETS_MAX: f64 = 0.1;
const CLIENT_RESETS_MAX: f64 = 0.25;
/// Part of the TCP packets that open a connection: a complete one has five packets at least.
const SYN_MAX: f64 = 0.34;
/// Part of what a server sends that opens connections: a server opens none.
const SERVER_SYN_MAX: f64 = 0.05;
/// Connections for each source: what a browser opens for a page (six a name), and one a second beside.
const CONNECTIONS: f64 = 8.0;
const CONNECTIONS_PER_SECOND: f64 = 1.0;
/// Samples of either side that say something of a mix.
const SAMPLES_MIN: f64 = 10.0;
/// Part of the records that are of different peers from which on one cannot tell how many peers there are; the estimate of different ones
/// errs by 4.6 %, and twice that is granted.
const DIFFERENT_MAX: f64 = 0.95;
const DIFFERENT_ERROR: f64 = 1.1;

/// Which parts of a target's traffic are a crowd's; `None` if it is none. `own` and `back` are the details of the two sides.
///
/// Incoming traffic is a crowd of clients if there are 64 and more of them; the target's packets within the class have 400 octets and more,
/// three times their octets in sum, and a third as many peers at least; it resets less than a tenth; of the clients' packets at most a third
/// open connections, eight for each client and one more a second. So much is explained as answers speak for: 1.2 packets for each of
/// theirs, and a SYN for each three.
///
/// Outgoing traffic is a server's if the same holds with the sides exchanged: clients send a packet for each sixteen at least, reset less
/// than a quarter of theirs, and the server opens nothing; or if it only answers: packets below 150 octets, at most 1.5 for each that comes.
#[must_use]
pub fn crowd(sides: &Sides, own: &Detail, back: &Detail, is_incoming: bool) -> Option<Parts> {
    let is_many = population(own).is_none_or(|peers| peers >= PEERS_MIN) && back.peer_count * PEERS_UNANSWERED >= own.peer_count;
    if !is_many || sides.own.samples < SAMPLES_MIN || sides.back.samples < SAMPLES_MIN {
        return None;
    }
    let part = if is_incoming { clients } else { served };
    let has_sound_flags = if is_incoming { asks(sides, own) } else { serves(sides) };
    let [tcp, udp] = [Class::Established, Class::Udp].map(|class| part(class.of(&sides.own), class.of(&sides.back)));
    let tcp = tcp.filter(|_| has_sound_flags);
    if tcp.is_none() && udp.is_none() {
        return None;
    }
    let established = Class::Established.of(&sides.own).packets * tcp.unwrap_or(0.0);
    let syn = if sides.own.syn_packets > 0.0 { (established / 3.0 / sides.own.syn_packets).min(1.0) } else { 0.0 };
    Some(Parts { established: tcp.unwrap_or(0.0), syn, udp: udp.unwrap_or(0.0), ..Parts::default() })
}

/// The part of a host's resets, handshakes and errors that what comes to it speaks for: 1.2 for each packet.
#[must_use]
pub fn reaction(sides: &Sides) -> Option<Parts> {
    let own = sides.own.reset_packets + sides.own.syn_ack_packets + sides.own.icmp_packets;
    let fits = own > 0.0 && sides.own.samples >= SAMPLES_MIN && sides.back.samples >= SAMPLES_MIN;
    fits.then(|| Parts { reaction: (sides.back.packets * CLIENT_PACKETS_MAX / own).min(1.0), ..Parts::default() })
}

/// The part of the clients' packets that the answers speak for.
fn clients(own: Amount, back: Amount) -> Option<f64> {
    let fits = own.packets > 0.0 && own.mean() <= REQUEST_OCTETS && back.mean() >= ANSWER_OCTETS && back.octets >= own.octets * ANSWERED;
    fits.then(|| (back.packets * CLIENT_PACKETS_MAX / own.packets).min(1.0))
}

/// The part of a server's packets that the clients speak for: all or none.
fn served(own: Amount, back: Amount) -> Option<f64> {
    let serves = own.mean() >= ANSWER_OCTETS && back.packets * SERVED_PACKETS_MAX >= own.packets;
    // Refusals and acknowledgements of a flood: the attack is on the server.
    let answers = own.mean() < REFUSAL_OCTETS && own.packets <= back.packets * REFUSALS_MAX;
    (own.packets > 0.0 && (serves || answers)).then_some(1.0)
}

/// Whether the flags, and the connections of each source, are those of clients.
fn asks(sides: &Sides, own: &Detail) -> bool {
    let seconds = own.peer_milliseconds as f64 / 1_000.0;
    let most = CONNECTIONS + CONNECTIONS_PER_SECOND * seconds;
    sides.own.syn_packets <= sides.own.tcp_packets * SYN_MAX
        && sides.back.reset_packets <= sides.back.tcp_packets * RESETS_MAX
        && population(own).is_none_or(|peers| own.connections as f64 <= peers * most)
}

fn serves(sides: &Sides) -> bool {
    sides.own.syn_packets <= sides.own.tcp_packets * SERVER_SYN_MAX
        && sides.back.reset_packets <= sides.back.tcp_packets * CLIENT_RESETS_MAX
}

/// How many peers there are, seen or not; `None` if nearly each record is of another one, so that there may be any number.
///
/// Of N peers alike, n records show d = N (1 − e^(−n/N)) different ones: where few are sampled, most are not seen.
fn population(detail: &Detail) -> Option<f64> {
    let (records, different) = (detail.peer_records.max(1) as f64, detail.peer_count as f64);
    let share = different * DIFFERENT_ERROR / records;
    if share > DIFFERENT_MAX {
        return None;
    }
    // (1 − e^(−x)) / x falls with x = n/N: halved in turns.
    let (mut low, mut high) = (1e-3, 1e6);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if (1.0 - (-middle).exp()) / middle > share { low = middle } else { high = middle }
    }
    Some(records / low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::counter::Volume;

    /// Ten thousand clients, each with one connection of eight packets, answered by ten of 1,212 octets.
    fn sides() -> Sides {
        let own = Volume { tcp_octets: 6_640_000.0, octets: 6_640_000.0, syn_packets: 10_000.0, ..packets(80_000.0) };
        let back = Volume { tcp_octets: 121_200_000.0, octets: 121_200_000.0, syn_ack_packets: 10_000.0, ..packets(100_000.0) };
        Sides { own, back }
    }

    fn packets(packets: f64) -> Volume {
        Volume { packets, tcp_packets: packets, samples: packets, ..Volume::default() }
    }

    fn detail(peer_count: u64, connections: u64) -> Detail {
        Detail { peer_count, peer_records: 80_000, connections, peer_milliseconds: 1_000, ..Detail::default() }
    }

    #[test]
    fn a_crowd_is_explained_with_its_handshakes() {
        let parts = crowd(&sides(), &detail(10_000, 10_000), &detail(10_000, 0), true).unwrap();
        assert_eq!((parts.established, parts.syn), (1.0, 1.0));
        // Of five times as many packets, 1.2 for each answer, and a SYN for each three.
        let more = Volume { syn_packets: 60_000.0, tcp_octets: 15e6, octets: 15e6, ..packets(400_000.0) };
        let parts = crowd(&Sides { own: more, ..sides() }, &detail(10_000, 60_000), &detail(10_000, 0), true).unwrap();
        // 90,000 packets of the server are no handshakes: they speak for 108,000 of 340,000.
        assert!((parts.established - 108.0 / 340.0).abs() < 1e-3 && (parts.syn - 36.0 / 60.0).abs() < 1e-3, "{parts:?}");
    }

    #[test]
    fn a_flood_in_the_clothes_of_a_crowd_is_none() {
        let is_crowd = |sides: Sides, own: Detail| crowd(&sides, &own, &detail(10_000, 0), true).is_some();
        assert!(is_crowd(sides(), detail(10_000, 10_000)));
        assert!(!is_crowd(sides(), detail(10_000, 200_000)), "twenty connections a source and second");
        assert!(!is_crowd(sides(), detail(40, 40)), "forty sources");
        assert!(!is_crowd(sides(), detail(60_000, 60_000)), "most sources get no answer");
        let small = Volume { tcp_octets: 6e6, octets: 6e6, ..sides().back };
        assert!(!is_crowd(Sides { back: small, ..sides() }, detail(10_000, 10_000)), "refusals");
        let resets = Volume { reset_packets: 20_000.0, ..sides().back };
        assert!(!is_crowd(Sides { back: resets, ..sides() }, detail(10_000, 10_000)), "resets");
        let syns = Volume { syn_packets: 40_000.0, ..sides().own };
        assert!(!is_crowd(Sides { own: syns, ..sides() }, detail(10_000, 10_000)), "handshakes that nobody finishes");
    }

    #[test]
    fn a_server_is_told_from_a_host_that_floods() {
        let exchanged = Sides { own: sides().back, back: sides().own };
        assert!(crowd(&exchanged, &detail(10_000, 0), &detail(10_000, 0), false).is_some());
        let opening = Volume { syn_packets: 50_000.0, ..exchanged.own };
        assert!(crowd(&Sides { own: opening, ..exchanged }, &detail(10_000, 0), &detail(10_000, 0), false).is_none());
        let silent = Volume { reset_packets: 40_000.0, ..exchanged.back };
        assert!(crowd(&Sides { back: silent, ..exchanged }, &detail(10_000, 0), &detail(10_000, 0), false).is_none());
    }

    /// 1,000 peers, of whom 1,000 records show 632; by the error that is granted, up to 1,240.
    #[test]
    fn peers_that_were_not_sampled_are_estimated() {
        let detail = Detail { peer_count: 632, peer_records: 1_000, ..Detail::default() };
        assert!(population(&detail).is_some_and(|peers| (1_000.0..1_400.0).contains(&peers)), "{:?}", population(&detail));
        assert_eq!(population(&Detail { peer_count: 990, peer_records: 1_000, ..Detail::default() }), None);
    }
}
