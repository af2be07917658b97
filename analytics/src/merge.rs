//! The last two minutes of every suspect, summed over the shards: rings of slots that late records revise.

use std::collections::BTreeMap;

use schemas::counter::{Detail, Direction, SLOT_MILLISECONDS, Snapshot, Target, TargetUpdate, Volume};
use schemas::time::Timestamp;

use crate::detect::answer::{self, Talks};
use crate::metrics::Metrics;

/// Slots in a second.
pub const SLOTS_PER_SECOND: u64 = 1_000 / SLOT_MILLISECONDS;
/// Seconds for which single slots are kept.
pub const EXACT_SECONDS: u64 = 30;
/// Seconds that a ring reaches back; older slots are kept as sums of a second.
pub const RING_SECONDS: u64 = 120;
/// Seconds by which a slot may lie ahead of our clock: what the counters let a record's clock run ahead, and the second that it ends in.
const AHEAD_SECONDS: u64 = 6;
// The reach, the second that is being filled, and those ahead.
const PAGES: usize = 128;

/// The slot that holds `moment`.
#[must_use]
pub fn slot_of(moment: Timestamp) -> u64 {
    moment.milliseconds() / SLOT_MILLISECONDS
}

/// The start of a slot.
#[must_use]
pub fn start_of(slot: u64) -> Timestamp {
    Timestamp(slot.saturating_mul(SLOT_MILLISECONDS))
}

/// What became of a slot's gain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the ring.
    Kept,
    /// It is older than the ring reaches back.
    TooLate,
    /// It is further ahead of the clock than a record may be.
    InFuture,
}

/// One second of one target: its sum, and its slots while they are young.
#[derive(Clone, Debug, Default)]
struct Page {
    second: u64,
    sum: Volume,
    slots: Option<Box<[Volume; 10]>>,
}

/// The last [`RING_SECONDS`] of one target; slots of the last [`EXACT_SECONDS`] one by one.
#[derive(Clone, Debug)]
pub struct Ring {
    pages: Vec<Page>,
    newest: u64,
}

impl Default for Ring {
    fn default() -> Self {
        Self { pages: vec![Page::default(); PAGES], newest: 0 }
    }
}

impl Ring {
    /// Adds what `slot` gained, seen at `now`.
    pub fn add(&mut self, slot: u64, volume: &Volume, now: Timestamp) -> Added {
        let (second, current) = (slot / SLOTS_PER_SECOND, slot_of(now) / SLOTS_PER_SECOND);
        if second > current + AHEAD_SECONDS {
            return Added::InFuture;
        }
        if second + RING_SECONDS < current {
            return Added::TooLate;
        }
        let Some(page) = self.pages.get_mut(page_index(second)) else {
            return Added::TooLate;
        };
        if page.second != second {
            *page = Page { second, ..Page::default() };
        }
        page.sum += volume;
        // A page that holds no slots and is old stays a sum: an even spread over its second.
        if page.slots.is_some() || second + EXACT_SECONDS >= current {
            let slots = page.slots.get_or_insert_default();
            if let Some(own) = usize::try_from(slot % SLOTS_PER_SECOND).ok().and_then(|index| slots.get_mut(index)) {
                *own += volume;
            }
        }
        self.newest = self.newest.max(slot);
        Added::Kept
    }

    /// The newest slot that has gained anything, 0 if none has.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// What is known of `slot`: itself, or its second of which it is a tenth; `None` if nothing came.
    #[must_use]
    pub fn slot(&self, slot: u64) -> Option<(&Volume, f64)> {
        let second = slot / SLOTS_PER_SECOND;
        let page = self.pages.get(page_index(second)).filter(|page| page.second == second)?;
        match &page.slots {
            Some(slots) => usize::try_from(slot % SLOTS_PER_SECOND).ok().and_then(|index| slots.get(index)).map(|volume| (volume, 1.0)),
            None => Some((&page.sum, 0.1)),
        }
    }

    /// The sum over `[first, last]`.
    #[must_use]
    pub fn sum(&self, first: u64, last: u64) -> Volume {
        let mut sum = Volume::default();
        // A ring holds no more, however long the span.
        let first = first.max(self.newest.saturating_sub((RING_SECONDS + 1) * SLOTS_PER_SECOND));
        for (volume, part) in (first..=last.min(self.newest)).filter_map(|slot| self.slot(slot)) {
            if part < 1.0 {
                sum += &volume.scaled(part);
            } else {
                sum += volume;
            }
        }
        sum
    }

    /// Takes `volume` out of `slot`, and of no count more than it has.
    pub fn lessen(&mut self, slot: u64, volume: &Volume) {
        let second = slot / SLOTS_PER_SECOND;
        let Some(page) = self.pages.get_mut(page_index(second)).filter(|page| page.second == second) else { return };
        match &mut page.slots {
            Some(slots) => {
                let own = usize::try_from(slot % SLOTS_PER_SECOND).ok().and_then(|index| slots.get_mut(index));
                own.into_iter().for_each(|own| *own = own.without(volume));
            }
            None => page.sum = page.sum.without(volume),
        }
    }

    /// Gives up the single slots of seconds that have grown old.
    pub fn age(&mut self, now: Timestamp) {
        let current = slot_of(now) / SLOTS_PER_SECOND;
        for page in &mut self.pages {
            if page.second + EXACT_SECONDS < current {
                page.slots = None;
            }
        }
    }
}

fn page_index(second: u64) -> usize {
    usize::try_from(second % PAGES as u64).unwrap_or(0)
}

/// What is known of one target.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// Its slots.
    pub ring: Ring,
    /// First and last slot that gained since they were last looked at.
    pub changed: Option<(u64, u64)>,
    /// What was gained since it was last looked at, by slot; for totals of an open incident.
    pub gains: Vec<(u64, f64, f64)>,
    /// By how much the target's records are known to be late.
    pub lateness: Lateness,
    /// When anything was last gained, by our clock.
    pub heard_at: Timestamp,
    /// The last detail of each shard.
    pub details: Vec<(usize, Box<Detail>)>,
    /// What the largest peers exchanged with it.
    pub talks: Talks,
}

impl Track {
    fn gain(&mut self, update: &TargetUpdate, now: Timestamp, metrics: &Metrics) {
        let mut kept = 0.0;
        for (slot, volume) in &update.slots {
            match self.ring.add(*slot, volume, now) {
                Added::TooLate => metrics.slot_too_late(),
                Added::InFuture => metrics.slot_in_future(),
                Added::Kept => {
                    kept += volume.octets;
                    let (first, last) = self.changed.unwrap_or((*slot, *slot));
                    self.changed = Some((first.min(*slot), last.max(*slot)));
                    self.gains.push((*slot, volume.packets, volume.octets));
                }
            }
        }
        if kept > 0.0 {
            self.lateness.learn(&update.slots, now);
            self.heard_at = now;
        }
    }

    fn learn(&mut self, shard: usize, detail: Option<Box<Detail>>) {
        if let Some(detail) = detail.filter(|detail| detail.packets > 0) {
            self.details.retain(|(own, _)| *own != shard);
            self.details.push((shard, detail));
        }
    }
}

/// How old a target's traffic is when its records arrive: octets by age, halved every minute.
///
/// An exporter tells of a flow that goes on once in its active timeout, often 60 s; between two records silence is no peace.
#[derive(Clone, Debug, Default)]
pub struct Lateness {
    octets: [f64; AGES.len()],
    learned_at: Timestamp,
}

/// Upper ends of the classes of age, in seconds.
const AGES: [u64; 12] = [1, 2, 5, 10, 15, 20, 30, 45, 60, 75, 90, RING_SECONDS];

impl Lateness {
    fn learn(&mut self, slots: &[(u64, Volume)], now: Timestamp) {
        let factor = 0.5_f64.powf(now.since(self.learned_at) as f64 / 60_000.0);
        self.octets.iter_mut().for_each(|octets| *octets *= factor);
        self.learned_at = now;
        for (slot, volume) in slots {
            let age = now.since(start_of(*slot + 1)) / 1_000;
            if let Some(own) = AGES.iter().position(|&end| age < end).and_then(|class| self.octets.get_mut(class)) {
                *own += volume.octets;
            }
        }
    }

    /// The age, rounded up to its class, that 99 % of the recent octets had not reached; 0 if nothing is known.
    #[must_use]
    pub fn milliseconds(&self) -> u64 {
        let mut left = self.octets.iter().sum::<f64>() * 0.99;
        for (end, octets) in AGES.iter().zip(self.octets) {
            left -= octets;
            if left <= 0.0 && octets > 0.0 {
                return end * 1_000;
            }
        }
        0
    }
}

/// Every suspect of every shard.
#[derive(Debug)]
pub struct Merger {
    tracks: BTreeMap<Target, Track>,
    /// The other direction of suspects, where that is none itself.
    answers: BTreeMap<Target, Track>,
    targets_max: usize,
    aged_at: Timestamp,
    metrics: Metrics,
}

impl Merger {
    /// A merger for at most `targets_max` targets.
    #[must_use]
    pub fn new(targets_max: usize, metrics: Metrics) -> Self {
        Self { tracks: BTreeMap::new(), answers: BTreeMap::new(), targets_max, aged_at: Timestamp::default(), metrics }
    }

    /// Adds a shard's snapshot.
    pub fn merge(&mut self, snapshot: Snapshot) {
        self.metrics.snapshot();
        let now = snapshot.taken_at;
        for mut update in snapshot.targets {
            if !self.tracks.contains_key(&update.target) && self.tracks.len() >= self.targets_max && !self.evict(now) {
                self.metrics.target_refused(update.target.prefix);
                continue;
            }
            // What was only asked so far is judged from now on, with what is known of it.
            let known = self.answers.remove(&update.target);
            let track = self.tracks.entry(update.target).or_insert_with(|| known.unwrap_or_default());
            track.gain(&update, now, &self.metrics);
            track.learn(snapshot.shard, update.detail.take());
        }
        self.merge_answers(snapshot.shard, snapshot.answers, now);
        for talk in snapshot.talks {
            let track = self.tracks.get_mut(&talk.target).or_else(|| self.answers.get_mut(&talk.target));
            track.into_iter().for_each(|track| track.talks.learn(&talk));
        }
    }

    fn merge_answers(&mut self, shard: usize, updates: Vec<TargetUpdate>, now: Timestamp) {
        for mut update in updates {
            if let Some(track) = self.tracks.get_mut(&update.target) {
                // It is a suspect of another shard, or was one.
                track.gain(&update, now, &self.metrics);
                track.learn(shard, update.detail.take());
                continue;
            }
            if !self.answers.contains_key(&update.target) && self.answers.len() >= self.targets_max {
                self.metrics.target_refused(update.target.prefix);
                continue;
            }
            let track = self.answers.entry(update.target).or_default();
            track.gain(&update, now, &self.metrics);
            track.learn(shard, update.detail.take());
            (track.changed, track.gains) = (None, Vec::new());
        }
    }

    /// The target that has been silent longest makes room, if that is 10 s.
    fn evict(&mut self, now: Timestamp) -> bool {
        let oldest = self.tracks.iter().min_by_key(|(_, track)| track.heard_at).map(|(target, track)| (*target, track.heard_at));
        match oldest {
            Some((target, heard_at)) if now.since(heard_at) >= 10_000 => self.tracks.remove(&target).is_some(),
            _ => false,
        }
    }

    /// Once a second: old slots become sums, targets that nobody has heard of for the ring's length go.
    pub fn age(&mut self, now: Timestamp) {
        if now.since(self.aged_at) < 1_000 {
            return;
        }
        self.aged_at = now;
        for tracks in [&mut self.tracks, &mut self.answers] {
            tracks.retain(|_, track| now.since(track.heard_at) <= RING_SECONDS * 1_000);
            for track in tracks.values_mut() {
                track.ring.age(now);
                track.talks.age(answer::oldest(slot_of(now)));
            }
        }
    }

    /// What is known of `target`.
    #[must_use]
    pub fn get(&self, target: &Target) -> Option<&Track> {
        self.tracks.get(target)
    }

    /// What is known of the other direction of `target`, whether that is judged itself or not.
    #[must_use]
    pub fn answer(&self, target: &Target) -> Option<&Track> {
        let other = other(*target);
        self.tracks.get(&other).or_else(|| self.answers.get(&other))
    }

    /// The targets that have changed since the last call, with their first and last slot that did.
    pub fn take_changed(&mut self) -> Vec<(Target, (u64, u64))> {
        self.tracks.iter_mut().filter_map(|(target, track)| Some((*target, track.changed.take()?))).collect()
    }

    /// Forgets what a target gained: it was looked at.
    pub fn clear_gains(&mut self, target: &Target) {
        self.tracks.get_mut(target).into_iter().for_each(|track| track.gains.clear());
    }

    /// Every target, in the order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&Target, &Track)> {
        self.tracks.iter()
    }

    /// The targets that lie within `outer`, itself included, in its direction.
    pub fn within(&self, outer: Target) -> impl Iterator<Item = (&Target, &Track)> {
        // Prefixes are ordered by first address, then by length: what lies within follows the prefix itself.
        self.tracks
            .range(Target { direction: Direction::Incoming, ..outer }..)
            .take_while(move |(target, _)| target.prefix.first() <= outer.prefix.last())
            .filter(move |(target, _)| target.direction == outer.direction && outer.prefix.covers(target.prefix))
    }
}

/// The same host or prefix in the other direction.
#[must_use]
pub fn other(target: Target) -> Target {
    let direction = if target.direction == Direction::Incoming { Direction::Outgoing } else { Direction::Incoming };
    Target { direction, ..target }
}
