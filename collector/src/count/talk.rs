//! Whose the traffic of a suspect is: what it exchanges with its largest peers in both directions, told at each tick.
//!
//! The slots say how much came and when, the sketches what it is made of; neither says how much of a window is one peer's. This does, in
//! the exact counts of the slots, so that a download can be told from the flood that begins beside it, and can be held against what the
//! host answered to that very peer.

use schemas::counter::{Direction, SLOT_MILLISECONDS, Talk, Target, Volume};
use schemas::net::Prefix;

use super::clock::Span;

/// Peers that are followed for each suspect.
const PEERS_MAX: usize = 16;
/// Of the records of other peers, one in so many takes the place of the lightest that is followed: a flood of a million sources does not
/// look for one at each packet, and a peer that weighs something is soon there.
const STRIDE: u32 = 8;
/// A peer with less than this part of a tick's traffic is not told of yet.
const TOLD_PART: f64 = 1.0 / 64.0;
/// How many octets of a limit one packet is worth: 1 Gbit/s by 100,000 packets/s, the default limits.
const PACKET_OCTETS: f64 = 1_250.0;

/// The largest peers of a suspect.
#[derive(Debug, Default)]
pub(super) struct Talks {
    /// Folded addresses, apart from the rest: they are asked for each record.
    peers: [u32; PEERS_MAX],
    talking: Vec<Talking>,
    strangers: u32,
    /// What came and went since the last tick.
    weights: [f64; 2],
}

/// One peer.
#[derive(Clone, Copy, Debug, Default)]
struct Talking {
    /// What it has sent and got lately, by the part of a limit that it is; fading.
    strength: f64,
    /// What came and went and was not told.
    gains: [Gain; 2],
}

/// What there was of traffic, and when, in unix milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Gain {
    volume: Volume,
    start: u64,
    end: u64,
}

impl Talks {
    /// Counts a record that came from `peer`, or went to it.
    pub(super) fn add(&mut self, direction: Direction, peer: u32, volume: &Volume, span: Span) {
        let (weight, side) = (weight_of(volume), side_of(direction));
        self.weights.iter_mut().skip(side).take(1).for_each(|sum| *sum += weight);
        let followed = self.talking.len();
        let place = self.peers.iter().position(|known| *known == peer).filter(|place| *place < followed);
        let Some(talking) = place.or_else(|| self.place_of(peer, weight)).and_then(|place| self.talking.get_mut(place)) else {
            return;
        };
        talking.strength += weight;
        let Some(gain) = talking.gains.get_mut(side) else { return };
        let (start, end) = if gain.volume.flows == 0.0 { (span.start, span.end) } else { (gain.start, gain.end) };
        (gain.start, gain.end) = (start.min(span.start), end.max(span.end));
        gain.volume += volume;
    }

    /// Takes in a stranger, in the place of the lightest if there is no other (space-saving, as in `heavy`).
    fn place_of(&mut self, peer: u32, weight: f64) -> Option<usize> {
        let place = if self.talking.len() < PEERS_MAX {
            self.talking.push(Talking::default());
            self.talking.len() - 1
        } else {
            // By chance, or peers that take turns would be asked always or never (the generator of Numerical Recipes).
            self.strangers = self.strangers.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if self.strangers > u32::MAX / STRIDE {
                return None;
            }
            let strengths = self.talking.iter().map(|talking| talking.strength).enumerate();
            let (place, strength) = strengths.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
            // It stands for the strangers that were not asked, too.
            let strength = strength + weight * f64::from(STRIDE - 1);
            *self.talking.get_mut(place)? = Talking { strength, ..Talking::default() };
            place
        };
        *self.peers.get_mut(place)? = peer;
        Some(place)
    }

    /// Tells what came and went, of those who have a part worth telling of in either; `prefix` is the suspect's.
    pub(super) fn hand_over(&mut self, prefix: Prefix, told: &mut Vec<Talk>) {
        let weights = std::mem::take(&mut self.weights);
        if weights == [0.0; 2] {
            return;
        }
        let least = weights.map(|weight| weight * TOLD_PART);
        for (peer, talking) in self.peers.iter().zip(&mut self.talking) {
            let is_told = |(gain, least): (&Gain, f64)| gain.volume.flows > 0.0 && weight_of(&gain.volume) >= least;
            if !talking.gains.iter().zip(least).any(is_told) {
                continue;
            }
            for (gain, direction) in talking.gains.iter_mut().zip([Direction::Incoming, Direction::Outgoing]) {
                let Gain { volume, start, end } = std::mem::take(gain);
                if volume.flows > 0.0 {
                    let slots = (start / SLOT_MILLISECONDS, end / SLOT_MILLISECONDS);
                    told.push(Talk { target: Target { prefix, direction }, peer: *peer, slots, volume });
                }
            }
        }
    }

    /// Halves what peers weigh, so that new ones may take the place of those that are silent.
    pub(super) fn fade(&mut self) {
        self.talking.iter_mut().for_each(|talking| talking.strength /= 2.0);
    }

    pub(super) fn clear(&mut self) {
        self.talking.clear();
        self.weights = [0.0; 2];
    }
}

fn weight_of(volume: &Volume) -> f64 {
    volume.octets + volume.packets * PACKET_OCTETS
}

fn side_of(direction: Direction) -> usize {
    usize::from(direction == Direction::Outgoing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Incoming, Outgoing};

    fn told(talks: &mut Talks) -> Vec<(u32, Direction, f64, (u64, u64))> {
        let mut told = Vec::new();
        talks.hand_over("203.0.113.7".parse().unwrap(), &mut told);
        told.iter().map(|talk| (talk.peer, talk.target.direction, talk.volume.packets, talk.slots)).collect()
    }

    fn packet(octets: f64) -> Volume {
        Volume { packets: 1.0, octets, flows: 1.0, ..Volume::default() }
    }

    fn at(start: u64) -> Span {
        Span { start, end: start, corrected: false }
    }

    #[test]
    fn a_large_peer_is_told_of_among_a_thousand_small_ones_that_came_first() {
        let mut talks = Talks::default();
        (1..=1_000).for_each(|peer| talks.add(Incoming, peer, &packet(60.0), at(1_000)));
        for packet_number in 0..4_000u64 {
            talks.add(Incoming, 7_777, &packet(1_500.0), at(1_000 + packet_number / 40));
            talks.add(Incoming, 10_000 + u32::try_from(packet_number).unwrap(), &packet(60.0), at(1_050));
        }
        let [(peer, Incoming, packets, slots)] = told(&mut talks)[..] else { panic!("one peer has more than a 64th") };
        assert_eq!((peer, slots), (7_777, (10, 10)));
        // Until it was followed a few were lost.
        assert!((3_900.0..=4_000.0).contains(&packets), "{packets}");
        assert!(told(&mut talks).is_empty(), "what was told is not told again");
    }

    #[test]
    fn what_is_too_little_to_tell_is_told_with_what_follows() {
        let mut talks = Talks::default();
        (0..100).for_each(|_| talks.add(Incoming, 1, &packet(1_500.0), at(100)));
        talks.add(Incoming, 2, &packet(60.0), at(100));
        assert_eq!(told(&mut talks), [(1, Incoming, 100.0, (1, 1))]);
        talks.add(Incoming, 2, &packet(60.0), at(250));
        assert_eq!(told(&mut talks), [(2, Incoming, 2.0, (1, 2))]);
    }

    /// What a host acknowledges to one peer is little beside what it sends to a thousand others.
    #[test]
    fn the_answers_to_a_large_peer_are_told_however_little_they_are() {
        let mut talks = Talks::default();
        for round in 0..1_000 {
            talks.add(Incoming, 1, &packet(1_500.0), at(100));
            (0..4).for_each(|other| talks.add(Outgoing, 100 + round * 4 + other, &packet(1_500.0), at(100)));
        }
        (0..10).for_each(|_| talks.add(Outgoing, 1, &packet(40.0), at(100)));
        assert_eq!(told(&mut talks), [(1, Incoming, 1_000.0, (1, 1)), (1, Outgoing, 10.0, (1, 1))]);
    }
}
