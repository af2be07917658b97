//! What a target exchanges with its largest peers, and whether its other direction is seen at all.

use std::collections::BTreeMap;

use schemas::counter::{Snapshot, Talk, Target, Volume};
use schemas::net::Prefix;
use schemas::time::Timestamp;

use super::limit::Limits;
use crate::merge::{RING_SECONDS, SLOTS_PER_SECOND};

/// Peers of one target that are kept.
const PEERS_MAX: usize = 16;
/// Gains of one peer that are kept, a hundred octets each; older ones are put together.
const GAINS_MAX: usize = 24;
/// Slots that gains of different ticks may have when they are put together.
const TOGETHER_SLOTS: u64 = 50;
/// Prefixes whose traffic is remembered; what is over it is taken for unseen.
const PREFIXES_MAX: usize = 65_536;
/// How long traffic of a prefix is remembered: three of its reports.
const SEEN_MILLISECONDS: u64 = 30_000;

/// What came from or went to one peer in a span of slots.
#[derive(Clone, Copy, Debug)]
pub struct Gain {
    /// First and last slot.
    pub slots: (u64, u64),
    counts: [f32; Volume::COUNTS],
}

impl Gain {
    /// What it was.
    #[must_use]
    pub fn volume(&self) -> Volume {
        Volume::from_array(self.counts.map(f64::from))
    }

    fn with(&self, other: &Self) -> Self {
        let mut counts = self.counts;
        counts.iter_mut().zip(other.counts).for_each(|(own, other)| *own += other);
        Self { slots: (self.slots.0.min(other.slots.0), self.slots.1.max(other.slots.1)), counts }
    }
}

/// What the largest peers of a target exchanged with it in its direction, in the order in which it came.
#[derive(Clone, Debug, Default)]
pub struct Talks(Vec<(u32, Vec<Gain>)>);

impl Talks {
    /// Takes in what a shard tells of one peer.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits of a count are enough to tell whose it is")]
    pub fn learn(&mut self, talk: &Talk) {
        let place = self.0.iter().position(|(peer, _)| *peer == talk.peer).unwrap_or_else(|| {
            if self.0.len() >= PEERS_MAX {
                // The one that has been silent longest.
                let last = |gains: &Vec<Gain>| gains.iter().map(|gain| gain.slots.1).max();
                let oldest = self.0.iter().enumerate().min_by_key(|(_, (_, gains))| last(gains)).map(|(place, _)| place);
                oldest.into_iter().for_each(|place| drop(self.0.swap_remove(place)));
            }
            self.0.push((talk.peer, Vec::new()));
            self.0.len() - 1
        });
        let Some((_, gains)) = self.0.get_mut(place) else { return };
        gains.push(Gain { slots: talk.slots, counts: talk.volume.to_array().map(|count| count as f32) });
        if gains.len() > GAINS_MAX {
            shorten(gains);
        }
    }

    /// Forgets what lies before `oldest`.
    pub fn age(&mut self, oldest: u64) {
        self.0.iter_mut().for_each(|(_, gains)| gains.retain(|gain| gain.slots.1 >= oldest));
        self.0.retain(|(_, gains)| !gains.is_empty());
    }

    /// Every peer with what it gained.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[Gain])> {
        self.0.iter().map(|(peer, gains)| (*peer, gains.as_slice()))
    }

    /// What `peer` gained in records that lie at least partly within `[first, last]`.
    #[must_use]
    pub fn sum(&self, peer: u32, first: u64, last: u64) -> Volume {
        let mut sum = Volume::default();
        let own = self.0.iter().filter(|(own, _)| *own == peer).flat_map(|(_, gains)| gains);
        own.filter(|gain| gain.slots.0 <= last && gain.slots.1 >= first).for_each(|gain| sum += &gain.volume());
        sum
    }
}

/// Puts neighbours among the older two thirds together, and gives up the first if that does not help.
fn shorten(gains: &mut Vec<Gain>) {
    let young = gains.split_off(GAINS_MAX * 2 / 3);
    let old = std::mem::take(gains);
    let mut left = old.into_iter().peekable();
    while let Some(gain) = left.next() {
        let together = left.peek().map(|next| gain.with(next)).filter(|both| both.slots.1 - both.slots.0 < TOGETHER_SLOTS);
        gains.push(together.unwrap_or(gain));
        if together.is_some() {
            left.next();
        }
    }
    gains.extend(young);
    if gains.len() > GAINS_MAX {
        gains.remove(0);
    }
}

/// When traffic of a prefix in one direction was last seen: what tells a host that answers nothing from exporters that see one direction only.
#[derive(Debug, Default)]
pub struct Sight(BTreeMap<Target, Timestamp>);

impl Sight {
    /// Takes in which prefixes had traffic.
    pub fn learn(&mut self, snapshot: &Snapshot) {
        let suspects = snapshot.targets.iter().chain(&snapshot.answers).map(|update| update.target);
        // A host's prefix reports too.
        let prefixes = snapshot.hosts.iter().map(|report| report.target).filter(|target| !Limits::is_host(target.prefix));
        for target in prefixes.chain(suspects) {
            let around = Target { prefix: around(target.prefix), ..target };
            if self.0.len() < PREFIXES_MAX || self.0.contains_key(&around) {
                self.0.insert(around, snapshot.taken_at);
            }
        }
    }

    /// Whether anything of a target's /24 or /48 has lately been seen in the target's direction.
    #[must_use]
    pub fn holds(&self, target: Target, now: Timestamp) -> bool {
        let around = Target { prefix: around(target.prefix), ..target };
        self.0.get(&around).is_some_and(|seen| now.since(*seen) < SEEN_MILLISECONDS)
    }

    /// Forgets what was seen long ago.
    pub fn age(&mut self, now: Timestamp) {
        self.0.retain(|_, seen| now.since(*seen) < SEEN_MILLISECONDS);
    }
}

fn around(prefix: Prefix) -> Prefix {
    let length = if prefix.is_v4() { 24 } else { 48 };
    if prefix.length() > length { Prefix::of(prefix.first(), length) } else { prefix }
}

/// The oldest slot that a look at `now` may ask for.
#[must_use]
pub fn oldest(now: u64) -> u64 {
    now.saturating_sub(RING_SECONDS * SLOTS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use schemas::counter::Direction;

    use super::*;

    const HOST: &str = "203.0.113.7";

    fn target(text: &str, direction: Direction) -> Target {
        Target { prefix: text.parse().unwrap(), direction }
    }

    fn talk(peer: u32, slot: u64) -> Talk {
        let volume = Volume { packets: 10.0, octets: 15_000.0, ..Volume::default() };
        Talk { target: target(HOST, Direction::Incoming), peer, slots: (slot, slot), volume }
    }

    #[test]
    fn what_a_peer_gained_in_half_a_minute_is_kept_whole_and_in_few_pieces() {
        let mut talks = Talks::default();
        (0..300).for_each(|slot| talks.learn(&talk(1, slot)));
        assert!((talks.sum(1, 0, 299).packets - 3_000.0).abs() < 1e-3);
        let (_, gains) = talks.iter().next().unwrap();
        assert!(gains.len() <= GAINS_MAX && gains.iter().all(|gain| gain.slots.1 - gain.slots.0 < TOGETHER_SLOTS));
        // The last second is told by the slot.
        assert!((talks.sum(1, 293, 299).packets - 70.0).abs() < 1e-3);
    }

    #[test]
    fn peers_and_what_they_gained_are_bounded_and_age() {
        let mut talks = Talks::default();
        (0..1_000).for_each(|number| talks.learn(&talk(number, u64::from(number))));
        assert_eq!(talks.iter().count(), PEERS_MAX);
        talks.age(995);
        assert_eq!(talks.iter().map(|(peer, _)| peer).min(), Some(995));
        // A record of a minute in each of a thousand minutes.
        (0..1_000).for_each(|minute| talks.learn(&Talk { slots: (minute * 600, minute * 600 + 599), ..talk(7, 0) }));
        assert!(talks.iter().all(|(_, gains)| gains.len() <= GAINS_MAX));
    }

    #[test]
    fn a_host_whose_prefix_sends_is_seen_and_one_of_another_prefix_is_not() {
        let mut sight = Sight::default();
        let hosts = vec![schemas::counter::HostReport { target: target("203.0.113.0/24", Direction::Outgoing), volume: Volume::default() }];
        sight.learn(&Snapshot { hosts, taken_at: Timestamp(1_000), ..Snapshot::default() });
        let holds = |text, direction, now| sight.holds(target(text, direction), Timestamp(now));
        assert!(holds(HOST, Direction::Outgoing, 2_000) && holds("203.0.113.0/24", Direction::Outgoing, 2_000));
        assert!(!holds(HOST, Direction::Incoming, 2_000) && !holds("203.0.114.7", Direction::Outgoing, 2_000));
        assert!(!holds(HOST, Direction::Outgoing, 40_000));
    }
}
