//! The suspects: targets with exact slots and a picture of what their traffic is made of; a bounded number of them.
//!
//! Whether much traffic is an attack is told by what is answered: so the other direction of a suspect is counted in the same way, as its
//! *companion*. A companion takes no suspect's place, ends with the suspicion that it is there for, and becomes a suspect of its own when it
//! passes what makes one.

use schemas::counter::{Direction, Snapshot, Target, TargetUpdate};
use schemas::net::Address;

use super::bound::{Load, SUSPICION};
use super::clock::{Clock, Span};
use super::sketch::Sketch;
use super::table::{Key, Seeds};
use super::talk::Talks;
use super::traffic::{Amount, Traffic};
use super::window::{Frame, Slots};

/// How often the picture is halved, so that the recent weighs more.
const FADE_MILLISECONDS: u64 = 10_000;
/// Suspects that may be replaced by stronger ones between two ticks.
const WEAK_MAX: usize = 64;

/// One suspect.
#[derive(Debug)]
struct Suspect {
    key: Key,
    is_active: bool,
    /// Whether it is over its share itself: else it is the companion of one that is.
    is_own: bool,
    /// The number of its pair.
    pair: u16,
    slots: Slots,
    sketch: Sketch,
    /// The last second in which its load was over half of what makes a suspect.
    hot_second: u64,
    /// Its limit's share that came in the current second, by the rates of its records.
    current: f32,
    /// The largest of these shares, fading; at first what its bound says.
    strength: f32,
}

/// A suspect and its companion: the two directions of a host or prefix.
#[derive(Debug, Default)]
struct Pair {
    /// The numbers of the incoming and the outgoing one.
    members: [Option<u16>; 2],
    talks: Talks,
}

/// All suspects of a shard.
#[derive(Debug)]
pub(super) struct Suspects {
    list: Vec<Suspect>,
    free: Vec<u16>,
    pairs: Vec<Pair>,
    free_pairs: Vec<u16>,
    /// How many are suspects themselves, and how many may be.
    own: usize,
    suspects_max: usize,
    quiet_seconds: u64,
    frame: Frame,
    seeds: Seeds,
    /// Suspects that a stronger one may replace, the weakest last; made at each tick while there is no room.
    weak: Vec<(f32, u16)>,
    updates: Vec<TargetUpdate>,
    answers: Vec<TargetUpdate>,
    released: Vec<Target>,
    /// Targets for which there was no room.
    pub(super) refused: u64,
    /// Suspects whose other direction found no room.
    pub(super) answers_refused: u64,
}

/// Whose exact counts have ended: a suspect's and its companion's.
pub(super) type Ended = [Option<Key>; 2];

impl Suspects {
    pub(super) fn new(suspects_max: usize, quiet_seconds: u64, seeds: Seeds) -> Self {
        Self {
            list: Vec::new(),
            free: Vec::new(),
            pairs: Vec::new(),
            free_pairs: Vec::new(),
            own: 0,
            suspects_max: suspects_max.min(super::SUSPECTS_MAX),
            quiet_seconds,
            frame: Frame::default(),
            seeds,
            weak: Vec::new(),
            updates: Vec::new(),
            answers: Vec::new(),
            released: Vec::new(),
            refused: 0,
            answers_refused: 0,
        }
    }

    /// Makes room for a suspect with this load: its number, and whose place it took; `None` if all others are as strong.
    pub(super) fn begin(&mut self, key: Key, load: Load, clock: &Clock) -> Option<(u16, Ended)> {
        let ended = if self.own < self.suspects_max { Ended::default() } else { self.weakest(load).map(|index| self.end(index))? };
        let index = self.occupy(key, clock)?;
        let suspect = self.list.get_mut(usize::from(index))?;
        (suspect.is_own, suspect.strength) = (true, load.share());
        self.own += 1;
        if !self.released.is_empty() {
            let target = key.target();
            self.released.retain(|released| *released != target);
        }
        Some((index, ended))
    }

    /// Makes a suspect of a companion that has passed what makes one: whose place it took; `None` if all others are as strong.
    #[inline(never)]
    pub(super) fn promote(&mut self, index: u16, load: Load, clock: &Clock) -> Option<Ended> {
        let is_full = self.own >= self.suspects_max;
        let weakest = if is_full { Some(self.weakest(load)?) } else { None };
        let suspect = self.list.get_mut(usize::from(index))?;
        (suspect.is_own, suspect.strength, suspect.hot_second) = (true, load.share(), clock.second);
        self.own += 1;
        Some(weakest.map_or(Ended::default(), |weakest| self.end(weakest)))
    }

    /// Begins to count the other direction of suspect `of`, whose key is `key`; its number.
    pub(super) fn accompany(&mut self, of: u16, key: Key, clock: &Clock) -> Option<u16> {
        let pair = self.list.get(usize::from(of))?.pair;
        let index = self.occupy(key, clock)?;
        self.pair(index, pair);
        Some(index)
    }

    /// Makes a pair of a new suspect and of its other direction, which is counted already.
    pub(super) fn join(&mut self, index: u16, other: u16) {
        if let Some(pair) = self.list.get(usize::from(other)).map(|other| other.pair) {
            self.pair(index, pair);
        }
    }

    /// Moves a target from the pair of its own, where it is alone, into another one.
    fn pair(&mut self, index: u16, number: u16) {
        let Some(suspect) = self.list.get_mut(usize::from(index)) else { return };
        let (side, alone) = (suspect.key.side(), std::mem::replace(&mut suspect.pair, number));
        if let Some(pair) = self.pairs.get_mut(usize::from(alone)) {
            pair.members = [None; 2];
            self.free_pairs.push(alone);
        }
        if let Some(member) = self.pairs.get_mut(usize::from(number)).and_then(|pair| pair.members.get_mut(side)) {
            *member = Some(index);
        }
    }

    /// A number for a target, with empty slots, and a pair of which it is the only one.
    fn occupy(&mut self, key: Key, clock: &Clock) -> Option<u16> {
        let index = if let Some(index) = self.free.pop() {
            index
        } else {
            let suspect = Suspect {
                key,
                is_active: false,
                is_own: false,
                pair: 0,
                slots: Slots::new(clock),
                sketch: Sketch::new(),
                hot_second: 0,
                current: 0.0,
                strength: 0.0,
            };
            self.list.push(suspect);
            u16::try_from(self.list.len() - 1).ok()?
        };
        let pair = if let Some(pair) = self.free_pairs.pop() {
            pair
        } else {
            self.pairs.push(Pair::default());
            u16::try_from(self.pairs.len() - 1).ok()?
        };
        let held = self.pairs.get_mut(usize::from(pair))?;
        held.talks.clear();
        *held.members.get_mut(key.side())? = Some(index);
        let suspect = self.list.get_mut(usize::from(index))?;
        (suspect.key, suspect.is_active, suspect.is_own, suspect.pair) = (key, true, false, pair);
        (suspect.hot_second, suspect.current, suspect.strength) = (clock.second, 0.0, 0.0);
        suspect.slots.clear();
        suspect.sketch.begin(key, clock);
        Some(index)
    }

    /// A suspect that is less than half as strong as a newcomer.
    fn weakest(&mut self, load: Load) -> Option<u16> {
        let &(_, index) = self.weak.last()?;
        let suspect = self.list.get(usize::from(index)).filter(|suspect| suspect.strength < load.share() / 2.0)?;
        self.weak.pop();
        (suspect.is_active && suspect.is_own).then_some(index)
    }

    /// The other direction's number.
    fn partner(&self, index: u16) -> Option<u16> {
        let suspect = self.list.get(usize::from(index))?;
        *self.pairs.get(usize::from(suspect.pair))?.members.get(1 - suspect.key.side())?
    }

    /// Ends a suspicion: the suspect becomes the companion of its other direction if that is one too, else both go; returns whose they were.
    fn end(&mut self, index: u16) -> Ended {
        let Some(suspect) = self.list.get_mut(usize::from(index)).filter(|suspect| suspect.is_active && suspect.is_own) else {
            return Ended::default();
        };
        suspect.is_own = false;
        self.own -= 1;
        self.released.push(suspect.key.target());
        let partner = self.partner(index);
        if partner.is_some_and(|partner| self.is_own(partner)) {
            return Ended::default();
        }
        [self.vacate(index, true), partner.and_then(|partner| self.vacate(partner, false))]
    }

    /// Frees a target's number, hands over what is left and returns whose it was.
    fn vacate(&mut self, index: u16, was_own: bool) -> Option<Key> {
        let suspect = self.list.get_mut(usize::from(index)).filter(|suspect| suspect.is_active)?;
        let (key, mut slots) = (suspect.key, Vec::new());
        suspect.slots.hand_over(&self.frame, true, &mut slots);
        if !slots.is_empty() {
            let updates = if was_own { &mut self.updates } else { &mut self.answers };
            updates.push(TargetUpdate { target: key.target(), slots, detail: None });
        }
        suspect.is_active = false;
        self.free.push(index);
        let pair = self.pairs.get_mut(usize::from(suspect.pair))?;
        *pair.members.get_mut(key.side())? = None;
        if pair.members == [None; 2] {
            self.free_pairs.push(suspect.pair);
        }
        Some(key)
    }

    /// Whether a number is that of a suspect, not of a companion.
    #[inline]
    pub(super) fn is_own(&self, index: u16) -> bool {
        self.list.get(usize::from(index)).is_some_and(|suspect| suspect.is_active && suspect.is_own)
    }

    /// Counts a record that came before the suspicion, from the log; `ends` are both of its ends, folded.
    pub(super) fn seed(&mut self, index: u16, span: Span, amount: &Amount, ends: u32) {
        let Some(suspect) = self.list.get_mut(usize::from(index)) else { return };
        let volume = amount.volume();
        suspect.slots.add(&self.frame, &volume, span.start, span.end);
        // What one host's records have in common is the host: the rest is the peer. Of a prefix's nobody knows.
        if let (Some(own), Some(pair)) = (suspect.key.single(), self.pairs.get_mut(usize::from(suspect.pair))) {
            pair.talks.add(suspect.key.direction(), ends ^ own.folded(), &volume, span);
        }
    }

    /// Counts a record exactly.
    ///
    /// `share` is what the record is of its limit in a window of a second.
    pub(super) fn add(&mut self, index: u16, traffic: &Traffic, load: Load, share: f32, exporter: Address, clock: &Clock) {
        let Some(suspect) = self.list.get_mut(usize::from(index)) else {
            return;
        };
        if load.here >= SUSPICION / 2 {
            suspect.hot_second = clock.second;
        }
        suspect.current += share;
        let (volume, span, direction) = (traffic.amount.volume(), traffic.span, suspect.key.direction());
        suspect.slots.add(&self.frame, &volume, span.start, span.end);
        let (own, peer) = match direction {
            Direction::Incoming => (traffic.destination, traffic.source),
            Direction::Outgoing => (traffic.source, traffic.destination),
        };
        suspect.sketch.add(traffic, [own, peer], exporter, &self.seeds);
        if let Some(pair) = self.pairs.get_mut(usize::from(suspect.pair)) {
            pair.talks.add(direction, peer.folded(), &volume, span);
        }
    }

    /// Integrates the slots early if no tick has come for so long that the frame ends.
    pub(super) fn keep_frame(&mut self, clock: &Clock) {
        if self.frame.is_outrun(clock) {
            self.collect(clock);
        }
    }

    /// Moves what all suspects have gained to the updates; at the turn of a second lays a new frame.
    fn collect(&mut self, clock: &Clock) {
        let turn = self.frame.is_past(clock);
        for suspect in self.list.iter_mut().filter(|suspect| suspect.is_active) {
            suspect.sketch.records = 0;
            if !suspect.slots.is_empty() {
                let mut slots = Vec::new();
                suspect.slots.hand_over(&self.frame, turn, &mut slots);
                if !slots.is_empty() {
                    let detail = suspect.sketch.detail(clock);
                    let updates = if suspect.is_own { &mut self.updates } else { &mut self.answers };
                    updates.push(TargetUpdate { target: suspect.key.target(), slots, detail });
                }
            }
            if clock.now >= suspect.sketch.faded_at + FADE_MILLISECONDS {
                suspect.sketch.fade(clock);
                self.pairs.get_mut(usize::from(suspect.pair)).into_iter().for_each(|pair| pair.talks.fade());
            }
        }
        if turn {
            self.frame = Frame::new(clock);
        }
    }

    /// Closes a slot: what it tells of the suspects, and the keys of those that ended by themselves.
    pub(super) fn tick(&mut self, clock: &Clock, mut release: impl FnMut(Key)) -> Snapshot {
        let turn = self.frame.is_past(clock);
        self.collect(clock);
        let mut talks = Vec::new();
        for pair in &mut self.pairs {
            let member = pair.members.iter().flatten().next().and_then(|index| self.list.get(usize::from(*index)));
            member.into_iter().for_each(|suspect| pair.talks.hand_over(suspect.key.target().prefix, &mut talks));
        }
        if turn {
            for index in 0..u16::try_from(self.list.len()).unwrap_or(u16::MAX) {
                let Some(suspect) = self.list.get_mut(usize::from(index)).filter(|suspect| suspect.is_active) else {
                    continue;
                };
                suspect.strength = suspect.current.max(suspect.strength * 0.75);
                suspect.current = 0.0;
                if suspect.is_own && clock.second.saturating_sub(suspect.hot_second) > self.quiet_seconds {
                    self.end(index).into_iter().flatten().for_each(&mut release);
                }
            }
        }
        self.weak.clear();
        if self.own >= self.suspects_max {
            let own = self.list.iter().zip(0..).filter(|(suspect, _)| suspect.is_active && suspect.is_own);
            self.weak.extend(own.map(|(suspect, index)| (suspect.strength, index)));
            self.weak.sort_unstable_by(|(left, _), (right, _)| right.total_cmp(left));
            self.weak.drain(..self.weak.len().saturating_sub(WEAK_MAX));
        }
        Snapshot {
            targets: std::mem::take(&mut self.updates),
            answers: std::mem::take(&mut self.answers),
            talks,
            released: std::mem::take(&mut self.released),
            suspects_refused: self.refused,
            answers_refused: self.answers_refused,
            ..Snapshot::default()
        }
    }

    /// How many targets are suspects now.
    pub(super) fn active(&self) -> usize {
        self.own
    }
}
