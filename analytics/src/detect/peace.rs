//! Whether what is over a limit is an attack at all: what is answered as only conversations are is taken out, and the rest is held against
//! the limits again.
//!
//! So a download is no incident, and the flood beside it is one, at its own size. Nothing is excused as a whole: each class of traffic of
//! each large peer is, and of many small peers what their answers speak for (`exchange` and `crowd` have the rules and their figures;
//! `docs/detection.md` has them in plain words).

mod crowd;
mod exchange;
pub mod withheld;

use std::borrow::Cow;

use schemas::counter::{Detail, Direction, Target, Volume};

pub use crowd::{crowd, reaction};
pub use exchange::{Given, Sides, converse};

use super::answer::Gain;
use super::window::{Crossing, Look, Scan, Scanner};
use crate::incident::picture;
use crate::merge::{Ring, SLOTS_PER_SECOND, Track};

/// Slots before a window in which answers may lie: what the host said a second before still speaks for the conversation.
const BEFORE_SLOTS: u64 = 20;
/// Slots of a span up to which traffic is where the target's is; that of a longer record is spread evenly, as it was counted.
const PROMPT_SLOTS: u64 = 10;
/// Seconds by which records are late where flow records of some length are exported: what answers them may come a little later.
const LATE_MILLISECONDS: u64 = 2_000;
/// How long it is waited for.
const WAIT_MILLISECONDS: u64 = 1_000;
/// What one packet weighs beside its octets, when a gain is laid over the slots of its span.
const PACKET_OCTETS: f64 = 1_250.0;

/// Why traffic over a limit is none of an attack's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A download, an upload or a backup: established TCP in large packets, acknowledged by the other side.
    BulkTransfer,
    /// The same by UDP, as QUIC does it.
    QuicTransfer,
    /// Both sides speak alike: calls, replication, tunnels.
    Conversation,
    /// What a host must send to whoever knocks: RST, SYN-ACK and ICMP, no more than what came; the attack is on it, not by it.
    Reaction,
    /// Many sources that open few connections each and get large answers, or a server that gives them.
    Crowd,
    /// The shape of a download, where no answer can be seen.
    Shape,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::BulkTransfer, Self::QuicTransfer, Self::Conversation, Self::Reaction, Self::Crowd, Self::Shape];

    /// What is told of it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::BulkTransfer => "bulk transfer by TCP that the other side acknowledges",
            Self::QuicTransfer => "bulk transfer by UDP that the other side acknowledges",
            Self::Conversation => "conversation in which both sides speak alike",
            Self::Reaction => "resets, handshakes and errors that answer what comes",
            Self::Crowd => "many clients with few connections each and large answers to them",
            Self::Shape => "transfer by its shape: few peers, large packets, few ports; no answer can be seen",
        }
    }
}

/// What part of each class of traffic is explained, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// TCP of established connections: neither SYN, SYN-ACK, RST nor odd flags.
    pub established: f64,
    /// SYN packets.
    pub syn: f64,
    /// UDP that comes from no amplifier's port.
    pub udp: f64,
    /// Protocols besides TCP, UDP and ICMP.
    pub other: f64,
    /// RST, SYN-ACK and ICMP.
    pub reaction: f64,
}

impl Parts {
    /// The part of `volume` that is explained.
    #[must_use]
    pub fn of(&self, volume: &Volume) -> Volume {
        let (established, syn) = (Class::Established.of(volume), volume.syn_packets * self.syn);
        let (udp, other) = (Class::Udp.of(volume), Class::Other.of(volume));
        let [reset, syn_ack, icmp_packets] =
            [volume.reset_packets, volume.syn_ack_packets, volume.icmp_packets].map(|packets| packets * self.reaction);
        let control = syn + reset + syn_ack;
        let tcp_packets = established.packets * self.established + control;
        let tcp_octets = established.octets * self.established + control * exchange::CONTROL_OCTETS;
        let icmp_octets = volume.icmp_octets * self.reaction;
        let (udp_packets, udp_octets) = (udp.packets * self.udp, udp.octets * self.udp);
        let packets = tcp_packets + udp_packets + icmp_packets + other.packets * self.other;
        let octets = tcp_octets + udp_octets + icmp_octets + other.octets * self.other;
        let share = if volume.packets > 0.0 { (packets / volume.packets).min(1.0) } else { 0.0 };
        Volume {
            packets,
            octets,
            flows: volume.flows * share,
            tcp_packets,
            tcp_octets,
            udp_packets,
            udp_octets,
            syn_packets: syn,
            reset_packets: reset,
            syn_ack_packets: syn_ack,
            icmp_packets,
            icmp_octets,
            samples: volume.samples * share,
            ..Volume::default()
        }
    }
}

/// Packets and octets of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Amount {
    pub(crate) packets: f64,
    pub(crate) octets: f64,
    /// Samples that the packets were reconstructed from.
    pub(crate) samples: f64,
}

impl Amount {
    /// Octets of a packet, 0 if there is none.
    pub(crate) fn mean(&self) -> f64 {
        if self.packets > 0.0 { self.octets / self.packets } else { 0.0 }
    }
}

/// A class of traffic that can be a conversation's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Established,
    Udp,
    Other,
}

impl Class {
    pub(crate) fn of(self, volume: &Volume) -> Amount {
        let (packets, octets) = match self {
            Self::Established => {
                let control = volume.syn_packets + volume.syn_ack_packets + volume.reset_packets + volume.odd_packets;
                (volume.tcp_packets - control, volume.tcp_octets - control * exchange::CONTROL_OCTETS)
            }
            Self::Udp => (volume.udp_packets - volume.amplification_packets, volume.udp_octets - volume.amplification_octets),
            Self::Other => (
                volume.packets - volume.tcp_packets - volume.udp_packets - volume.icmp_packets,
                volume.octets - volume.tcp_octets - volume.udp_octets - volume.icmp_octets,
            ),
        };
        let packets = packets.max(0.0);
        // What single precision leaves of nothing is nothing.
        if packets < volume.packets * 1e-4 {
            return Amount::default();
        }
        Amount { packets, octets: octets.max(0.0), samples: volume.samples * (packets / volume.packets).min(1.0) }
    }
}

/// What is asked of a target that is over its limit.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whose traffic.
    pub target: Target,
    /// How it was scanned.
    pub look: Look<'a>,
    /// What is known of it.
    pub track: &'a Track,
    /// What is known of its other direction.
    pub answer: Option<&'a Track>,
    /// Whether anything is seen of the other direction of the target or its neighbours.
    pub is_seen: bool,
    /// Milliseconds since it was first over its limit.
    pub waited_milliseconds: u64,
}

/// What of a target's traffic is explained.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The rest, by the slot.
    pub rest: Ring,
    /// What crosses the limits in it: nothing, if there is peace.
    pub scan: Scan,
    /// What was taken out of the widest window that crossed a limit, by its reason, the largest first.
    pub explained: Vec<(Reason, Volume)>,
    /// How long that window is.
    pub seconds: f64,
}

/// Takes what is no attack's out of the traffic of a target, and holds the rest against its limit; `scan` is that of all of it.
#[must_use]
pub fn judge(question: &Question<'_>, scan: &Scan, scanner: &mut Scanner) -> Option<Verdict> {
    let widest = scan.crossings.iter().max_by_key(|crossing| crossing.slots).copied();
    let newest = question.track.ring.newest();
    let (first, last) = widest.map_or((newest.saturating_sub(300), newest), |crossing| (crossing.first(), crossing.last));
    let seconds = (last + 1).saturating_sub(first) as f64 / SLOTS_PER_SECOND as f64;
    // Most of what is judged is an attack, of which nothing is taken out: nothing is copied for it.
    let mut draft = Draft { rest: Cow::Borrowed(&question.track.ring), explained: Vec::new() };
    let (own, back) = (told(question.track), question.answer.and_then(told));
    peers(question, own.as_deref(), (first, last), &mut draft);
    let again = |rest: &Ring, scanner: &mut Scanner| scanner.scan(&Look { ring: rest, ..question.look });
    let mut left = if draft.explained.is_empty() { None } else { Some(again(&draft.rest, scanner)) };
    if let Some(worst) = left.as_ref().unwrap_or(scan).worst().copied()
        && many(question, (own.as_deref(), back.as_deref()), &worst, (first, last), &mut draft)
    {
        left = Some(again(&draft.rest, scanner));
    }
    let Draft { rest, mut explained } = draft;
    explained.sort_by(|(_, one), (_, other)| other.octets.total_cmp(&one.octets));
    left.map(|scan| Verdict { rest: rest.into_owned(), scan, explained, seconds })
}

/// A verdict in the making.
struct Draft<'a> {
    rest: Cow<'a, Ring>,
    explained: Vec<(Reason, Volume)>,
}

/// The details of a track as one.
fn told(track: &Track) -> Option<Cow<'_, Detail>> {
    match track.details.as_slice() {
        [(_, only)] => Some(Cow::Borrowed(only)),
        details => picture::merged(details).map(Cow::Owned),
    }
}

/// Takes out what the largest peers exchange with the target.
fn peers(question: &Question<'_>, detail: Option<&Detail>, window: (u64, u64), draft: &mut Draft<'_>) {
    let (first, last) = (window.0.saturating_sub(BEFORE_SLOTS), window.1.saturating_add(BEFORE_SLOTS));
    let late = question.track.lateness.milliseconds() > LATE_MILLISECONDS && question.waited_milliseconds < WAIT_MILLISECONDS;
    let given = Given { is_seen: question.is_seen, may_come: late, is_shaped: detail.is_some_and(exchange::is_shaped) };
    for (peer, gains) in question.track.talks.iter() {
        let own = question.track.talks.sum(peer, first, last);
        let back = question.answer.map_or(Volume::default(), |answer| answer.talks.sum(peer, first, last));
        for (reason, parts) in converse(&Sides { own, back }, given) {
            for gain in gains {
                let explained = parts.of(&gain.volume());
                if explained.packets <= 0.0 {
                    continue;
                }
                lay(draft.rest.to_mut(), gain, &explained);
                note(&mut draft.explained, reason, &explained.scaled(overlap(gain.slots, window)));
            }
        }
    }
}

/// Takes out what many small peers exchange with the target, if that is a crowd's, and what the target must answer; whether there is such.
fn many(
    question: &Question<'_>,
    (own, back): (Option<&Detail>, Option<&Detail>),
    worst: &Crossing,
    window: (u64, u64),
    draft: &mut Draft<'_>,
) -> bool {
    let (Some(own), Some(back), Some(answer)) = (own, back, question.answer) else { return false };
    // Of a tenth of a second alone nobody knows what was answered.
    let first = worst.first().min((worst.last + 1).saturating_sub(SLOTS_PER_SECOND));
    let sides = Sides { own: draft.rest.sum(first, worst.last), back: answer.ring.sum(first, worst.last) };
    let is_incoming = question.target.direction == Direction::Incoming;
    let crowd = crowd(&sides, own, back, is_incoming).map(|parts| (Reason::Crowd, parts));
    let reaction = (!is_incoming).then(|| reaction(&sides)).flatten().map(|parts| (Reason::Reaction, parts));
    let mut is_found = false;
    for (reason, parts) in crowd.into_iter().chain(reaction) {
        let mut sum = Volume::default();
        for slot in window.0.min(question.look.changed.0.saturating_sub(300))..=draft.rest.newest() {
            let explained = draft.rest.slot(slot).map(|(volume, part)| parts.of(&volume.scaled(part)));
            if let Some(explained) = explained.filter(|explained| explained.packets > 0.0) {
                draft.rest.to_mut().lessen(slot, &explained);
                if (window.0..=window.1).contains(&slot) {
                    sum += &explained;
                }
            }
        }
        note(&mut draft.explained, reason, &sum);
        is_found = true;
    }
    is_found
}

fn note(explained: &mut Vec<(Reason, Volume)>, reason: Reason, volume: &Volume) {
    match explained.iter_mut().find(|(own, _)| *own == reason) {
        Some((_, own)) => *own += volume,
        None => explained.push((reason, *volume)),
    }
}

/// The part of `slots` that lies within `window`.
fn overlap(slots: (u64, u64), window: (u64, u64)) -> f64 {
    let within = (slots.1.min(window.1) + 1).saturating_sub(slots.0.max(window.0));
    within as f64 / (slots.1 - slots.0 + 1) as f64
}

/// Takes what is explained of a gain out of the slots that it was counted in.
fn lay(rest: &mut Ring, gain: &Gain, explained: &Volume) {
    let (first, last) = gain.slots;
    let count = last - first + 1;
    let weight = |rest: &Ring, slot| rest.slot(slot).map_or(0.0, |(volume, part)| (volume.octets + volume.packets * PACKET_OCTETS) * part);
    let whole: f64 = if count <= PROMPT_SLOTS { (first..=last).map(|slot| weight(rest, slot)).sum() } else { 0.0 };
    for slot in first..=last {
        let part = if whole > 0.0 { weight(rest, slot) / whole } else { 1.0 / count as f64 };
        rest.lessen(slot, &explained.scaled(part));
    }
}

/// The track as it is without what is explained: for an incident, which is told of the rest alone.
#[must_use]
pub fn remaining(track: &Track, rest: Ring) -> Track {
    let part = |slot: u64| {
        let packets = |ring: &Ring| ring.slot(slot).map_or(0.0, |(volume, part)| volume.packets * part);
        let whole = packets(&track.ring);
        if whole > 0.0 { packets(&rest) / whole } else { 1.0 }
    };
    let gains = track.gains.iter().map(|(slot, packets, octets)| (*slot, packets * part(*slot), octets * part(*slot))).collect();
    Track { ring: rest, gains, ..track.clone() }
}
