//! The suspects: targets with exact slots and a picture of what their traffic is made of; a bounded number of them.

use schemas::counter::{Detail, Direction, Target, TargetUpdate};
use schemas::net::Address;

use super::bound::{Load, SUSPICION};
use super::clock::{Clock, Span};
use super::heavy::{Distinct, Heavy};
use super::sample::Sample;
use super::spread::Parts;
use super::table::{Key, Seeds};
use super::traffic::{Amount, Traffic};
use super::window::{Frame, Slots};

/// Records of one suspect between two ticks that are all sketched; of what comes above it, one in [`SKETCH_STRIDE`].
const SKETCHED_ALL_MAX: u32 = 32;
const SKETCH_STRIDE: u32 = 16;
/// How often the picture is halved, so that the recent weighs more.
const FADE_MILLISECONDS: u64 = 10_000;
/// How often the picture is told at least, while there is traffic.
const DETAIL_MILLISECONDS: u64 = 1_000;
/// Suspects that may be replaced by stronger ones between two ticks.
const WEAK_MAX: usize = 64;

/// One suspect.
#[derive(Debug)]
struct Suspect {
    key: Key,
    is_active: bool,
    slots: Slots,
    sketch: Sketch,
    /// The last second in which its load was over half of what makes a suspect.
    hot_second: u64,
    /// Its limit's share that came in the current second, by the rates of its records.
    current: f32,
    /// The largest of these shares, fading; at first what its bound says.
    strength: f32,
}

/// What the traffic of a suspect is made of.
#[derive(Debug)]
struct Sketch {
    packets: f64,
    octets: f64,
    /// Packets when the detail was last told.
    told_packets: f64,
    told_at: u64,
    faded_at: u64,
    /// Records since the last tick.
    records: u32,
    peers: Heavy<Address>,
    different_peers: Distinct,
    peer_sample: Sample,
    source_ports: Heavy<(u8, u16)>,
    destination_ports: Heavy<(u8, u16)>,
    protocols: Heavy<u8>,
    tcp_flags: Heavy<u16>,
    packet_lengths: Heavy<u16>,
    ttls: Heavy<u8>,
    exporters: Heavy<Address>,
    /// Of a prefix: where in it the traffic lies.
    parts: Option<Parts>,
}

impl Sketch {
    fn new() -> Self {
        Self {
            packets: 0.0,
            octets: 0.0,
            told_packets: 0.0,
            told_at: 0,
            faded_at: 0,
            records: 0,
            peers: Heavy::new(64),
            different_peers: Distinct::new(),
            peer_sample: Sample::default(),
            source_ports: Heavy::new(32),
            destination_ports: Heavy::new(32),
            protocols: Heavy::new(8),
            tcp_flags: Heavy::new(16),
            packet_lengths: Heavy::new(24),
            ttls: Heavy::new(32),
            exporters: Heavy::new(16),
            parts: None,
        }
    }

    fn begin(&mut self, key: Key, clock: &Clock) {
        self.parts = (!key.is_host()).then(|| Parts::of(key.target().prefix));
        (self.packets, self.octets, self.told_packets, self.records) = (0.0, 0.0, 0.0, 0);
        (self.told_at, self.faded_at) = (0, clock.now);
        self.peers.clear();
        self.different_peers.clear();
        self.peer_sample.clear();
        self.source_ports.clear();
        self.destination_ports.clear();
        self.protocols.clear();
        self.tcp_flags.clear();
        self.packet_lengths.clear();
        self.ttls.clear();
        self.exporters.clear();
    }

    fn add(&mut self, traffic: &Traffic, exporter: Address, direction: Direction, seeds: &Seeds) {
        let (own, peer) = match direction {
            Direction::Incoming => (traffic.destination, traffic.source),
            Direction::Outgoing => (traffic.source, traffic.destination),
        };
        if let Some(parts) = &mut self.parts {
            parts.add(own, traffic.amount.packets, traffic.amount.octets);
        }
        let hash = seeds.hash_address(peer);
        self.different_peers.add(hash);
        self.peer_sample.add(hash);
        self.records += 1;
        if self.records > SKETCHED_ALL_MAX && !self.records.is_multiple_of(SKETCH_STRIDE) {
            return;
        }
        let Amount { packets, octets, .. } = traffic.amount;
        self.packets += packets;
        self.octets += octets;
        self.peers.add(peer, packets, octets);
        self.source_ports.add((traffic.protocol, traffic.source_port), packets, octets);
        self.destination_ports.add((traffic.protocol, traffic.destination_port), packets, octets);
        self.protocols.add(traffic.protocol, packets, octets);
        self.exporters.add(exporter, packets, octets);
        if traffic.protocol == 6 {
            self.tcp_flags.add(traffic.tcp_flags, packets, octets);
        }
        if traffic.ttl != 0 {
            self.ttls.add(traffic.ttl, packets, octets);
        }
        if packets > 0.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean length is not negative, and saturates")]
            let length = (octets / packets) as u16;
            self.packet_lengths.add(length / 64 * 64, packets, octets);
        }
    }

    fn fade(&mut self, clock: &Clock) {
        self.faded_at = clock.now;
        self.packets /= 2.0;
        self.octets /= 2.0;
        self.told_packets /= 2.0;
        self.peers.fade();
        self.different_peers.fade();
        self.peer_sample.fade();
        self.source_ports.fade();
        self.destination_ports.fade();
        self.protocols.fade();
        self.tcp_flags.fade();
        self.packet_lengths.fade();
        self.ttls.fade();
        self.exporters.fade();
    }

    /// The detail, if it is due: each second, and at once when the traffic has doubled since it was last told.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are not negative, and saturate")]
    fn detail(&mut self, clock: &Clock) -> Option<Box<Detail>> {
        if clock.now < self.told_at + DETAIL_MILLISECONDS && self.packets < 2.0 * self.told_packets {
            return None;
        }
        (self.told_at, self.told_packets) = (clock.now, self.packets);
        Some(Box::new(Detail {
            packets: self.packets.round() as u64,
            octets: self.octets.round() as u64,
            peers: self.peers.ranking(32),
            peer_count: self.different_peers.estimate(),
            peer_sample: self.peer_sample.hashes(),
            source_ports: self.source_ports.ranking(16),
            destination_ports: self.destination_ports.ranking(16),
            protocols: self.protocols.ranking(8),
            tcp_flags: self.tcp_flags.ranking(16),
            packet_lengths: self.packet_lengths.ranking(24),
            ttls: self.ttls.ranking(16),
            exporters: self.exporters.ranking(16),
            spread: self.parts.as_mut().map(|parts| Box::new(parts.take())),
        }))
    }
}

/// All suspects of a shard.
#[derive(Debug)]
pub(super) struct Suspects {
    list: Vec<Suspect>,
    free: Vec<u16>,
    suspects_max: usize,
    quiet_seconds: u64,
    frame: Frame,
    seeds: Seeds,
    /// Suspects that a stronger one may replace, the weakest last; made at each tick while there is no room.
    weak: Vec<(f32, u16)>,
    updates: Vec<TargetUpdate>,
    released: Vec<Target>,
    /// Targets for which there was no room.
    pub(super) refused: u64,
}

impl Suspects {
    pub(super) fn new(suspects_max: usize, quiet_seconds: u64, seeds: Seeds) -> Self {
        Self {
            list: Vec::new(),
            free: Vec::new(),
            // The number of a suspect has 16 bits, of which two values say something else.
            suspects_max: suspects_max.min(usize::from(u16::MAX) - 2),
            quiet_seconds,
            frame: Frame::default(),
            seeds,
            weak: Vec::new(),
            updates: Vec::new(),
            released: Vec::new(),
            refused: 0,
        }
    }

    /// Makes room for a suspect with this load: its number, and whose place it took; `None` if all others are as strong.
    pub(super) fn begin(&mut self, key: Key, load: Load, clock: &Clock) -> Option<(u16, Option<Key>)> {
        let (index, replaced) = if let Some(index) = self.free.pop() {
            (index, None)
        } else if self.list.len() < self.suspects_max {
            let suspect = Suspect {
                key,
                is_active: false,
                slots: Slots::new(clock),
                sketch: Sketch::new(),
                hot_second: 0,
                current: 0.0,
                strength: 0.0,
            };
            self.list.push(suspect);
            (u16::try_from(self.list.len() - 1).ok()?, None)
        } else {
            let index = self.weakest(load)?;
            (index, Some(self.end(index)?))
        };
        let suspect = self.list.get_mut(usize::from(index))?;
        (suspect.key, suspect.is_active, suspect.hot_second) = (key, true, clock.second);
        (suspect.current, suspect.strength) = (0.0, load.share());
        suspect.slots.clear();
        suspect.sketch.begin(key, clock);
        if !self.released.is_empty() {
            let target = key.target();
            self.released.retain(|released| *released != target);
        }
        Some((index, replaced))
    }

    /// A suspect that is less than half as strong as a newcomer.
    fn weakest(&mut self, load: Load) -> Option<u16> {
        let &(_, index) = self.weak.last()?;
        let suspect = self.list.get(usize::from(index)).filter(|suspect| suspect.strength < load.share() / 2.0)?;
        self.weak.pop();
        suspect.is_active.then_some(index)
    }

    /// Ends a suspicion, hands over what is left and returns whose it was.
    fn end(&mut self, index: u16) -> Option<Key> {
        let suspect = self.list.get_mut(usize::from(index)).filter(|suspect| suspect.is_active)?;
        let target = suspect.key.target();
        let mut slots = Vec::new();
        suspect.slots.hand_over(&self.frame, true, &mut slots);
        if !slots.is_empty() {
            self.updates.push(TargetUpdate { target, slots, detail: None });
        }
        suspect.is_active = false;
        self.released.push(target);
        Some(suspect.key)
    }

    /// Counts a record that came before the suspicion, from the log.
    pub(super) fn seed(&mut self, index: u16, span: Span, amount: &Amount) {
        if let Some(suspect) = self.list.get_mut(usize::from(index)) {
            suspect.slots.add(&self.frame, &amount.volume(), span.start, span.end);
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
        suspect.slots.add(&self.frame, &traffic.amount.volume(), traffic.span.start, traffic.span.end);
        suspect.sketch.add(traffic, exporter, suspect.key.direction(), &self.seeds);
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
                    self.updates.push(TargetUpdate { target: suspect.key.target(), slots, detail });
                }
            }
            if clock.now >= suspect.sketch.faded_at + FADE_MILLISECONDS {
                suspect.sketch.fade(clock);
            }
        }
        if turn {
            self.frame = Frame::new(clock);
        }
    }

    /// Closes a slot: the updates, the released targets, and the keys of the latter that ended by themselves.
    pub(super) fn tick(&mut self, clock: &Clock, mut release: impl FnMut(Key)) -> (Vec<TargetUpdate>, Vec<Target>) {
        let turn = self.frame.is_past(clock);
        self.collect(clock);
        if turn {
            for index in 0..u16::try_from(self.list.len()).unwrap_or(u16::MAX) {
                let Some(suspect) = self.list.get_mut(usize::from(index)).filter(|suspect| suspect.is_active) else {
                    continue;
                };
                suspect.strength = suspect.current.max(suspect.strength * 0.75);
                suspect.current = 0.0;
                if clock.second.saturating_sub(suspect.hot_second) > self.quiet_seconds
                    && let Some(key) = self.end(index)
                {
                    self.free.push(index);
                    release(key);
                }
            }
        }
        self.weak.clear();
        if self.free.is_empty() && self.list.len() >= self.suspects_max {
            let strengths = self.list.iter().zip(0..).map(|(suspect, index)| (suspect.strength, index));
            self.weak.extend(strengths);
            self.weak.sort_unstable_by(|(left, _), (right, _)| right.total_cmp(left));
            self.weak.drain(..self.weak.len().saturating_sub(WEAK_MAX));
        }
        (std::mem::take(&mut self.updates), std::mem::take(&mut self.released))
    }

    /// How many targets are suspects now.
    pub(super) fn active(&self) -> usize {
        self.list.len() - self.free.len()
    }
}
