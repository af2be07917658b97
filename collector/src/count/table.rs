//! The table of compact entries: open addressing with linear probing, a fixed capacity and a keyed hash.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use schemas::counter::{Direction, Target, Volume};
use schemas::net::{Address, Prefix};

use super::bound::Bound;
use super::clock::Clock;
use super::traffic::Shares;

/// Steps in which the whole table is swept: one a slot of 100 ms, a turn in ten seconds.
pub(super) const SWEEP_STEPS: u64 = 100;
/// How far from its home an entry may lie; farther, the table counts as full.
const PROBES_MAX: usize = 128;
/// Seconds after which an entry that weighs next to nothing makes room when the table is nearly full.
const LIGHT_SECONDS: u64 = 10;
/// What weighs next to nothing: a 64th of what makes a suspect.
const LIGHT_UNITS: u16 = super::bound::SUSPICION / 64;

/// What an entry counts: an address block of 128 bits or fewer, and a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    address: Address,
    /// Twice the prefix's bits of 128, plus 1 for outgoing traffic; 0 for no key.
    shape: u16,
}

impl Key {
    /// The key of a host.
    #[inline]
    pub(super) fn host(address: Address, direction: Direction) -> Self {
        Self::new(address.0, 128, direction)
    }

    /// The key of the IPv4 /24 or IPv6 /48 that an address lies in.
    #[inline]
    pub(super) fn prefix(address: Address, direction: Direction) -> Self {
        let (mask, bits) = if address.is_v4() { (!0xff, 120) } else { (!0 << 80, 48) };
        Self::new(address.0 & mask, bits, direction)
    }

    /// The key of the sum over a configured prefix.
    pub(super) fn sum(prefix: Prefix, direction: Direction) -> Self {
        let bits = u16::from(prefix.length()) + if prefix.is_v4() { 96 } else { 0 };
        Self::new(prefix.first().0, bits, direction)
    }

    #[inline]
    fn new(address: u128, bits: u16, direction: Direction) -> Self {
        Self { address: Address(address), shape: bits << 1 | u16::from(direction == Direction::Outgoing) }
    }

    fn bits(self) -> u8 {
        u8::try_from(self.shape >> 1).unwrap_or(128)
    }

    pub(super) fn direction(self) -> Direction {
        if self.shape & 1 == 1 { Direction::Outgoing } else { Direction::Incoming }
    }

    /// The same host or prefix in the other direction.
    pub(super) fn other(self) -> Self {
        Self { shape: self.shape ^ 1, ..self }
    }

    /// 0 for incoming traffic, 1 for outgoing.
    pub(super) fn side(self) -> usize {
        usize::from(self.shape & 1)
    }

    /// The address, if the key is one's.
    pub(super) fn single(self) -> Option<Address> {
        (self.bits() == 128).then_some(self.address)
    }

    /// Whether the key is a host's: an address, or an IPv6 /64 that stands for its hosts.
    pub(super) fn is_host(self) -> bool {
        self.bits() == 128 || self.bits() == 64
    }

    /// Whether the key is that of a configured sum: neither a host nor one of the prefixes that are always summed.
    pub(super) fn is_sum(self) -> bool {
        !self.is_host() && self.bits() != 120 && self.bits() != 48
    }

    /// Whether the key is an IPv6 address's.
    pub(super) fn folds(self) -> bool {
        self.bits() == 128 && !self.address.is_v4()
    }

    /// The key of the /64 that the IPv6 address lies in.
    pub(super) fn folded(self) -> Self {
        Self::new(self.address.0 & !0 << 64, 64, self.direction())
    }

    pub(super) fn target(self) -> Target {
        let length = if self.address.is_v4() { self.bits().saturating_sub(96) } else { self.bits() };
        Target { prefix: Prefix::of(self.address, length), direction: self.direction() }
    }
}

/// Secret numbers that the hash depends on, so that nobody can choose addresses that collide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds([u64; 4]);

impl Seeds {
    /// The seeds of this process: the same for all shards.
    pub(super) fn of_process() -> Self {
        static SEEDS: OnceLock<[u64; 4]> = OnceLock::new();
        Self(*SEEDS.get_or_init(|| {
            let state = RandomState::new();
            [1u8, 2, 3, 4].map(|number| state.hash_one(number) | 1)
        }))
    }

    /// Two rounds of a folded multiplication over the address and the shape.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves are taken apart")]
    pub(super) fn hash(&self, key: Key) -> u64 {
        let [first, second, third, fourth] = self.0;
        let (low, high) = (key.address.0 as u64, (key.address.0 >> 64) as u64);
        let mixed = fold(low ^ first, high ^ second.wrapping_add(u64::from(key.shape) << 48));
        fold(mixed ^ low ^ third, fourth ^ u64::from(key.shape))
    }

    /// One of the numbers.
    pub(super) fn secret(&self) -> u64 {
        let [first, ..] = self.0;
        first
    }

    /// A well mixed hash of an address alone.
    pub(super) fn hash_address(&self, address: Address) -> u64 {
        self.hash(Key { address, shape: 0 })
    }
}

/// Has a cache line come from memory; elsewhere than on x86-64 it comes when it is asked for.
#[inline]
fn fetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "a hint to the processor has no safe form; counting a record of 65,536 hosts takes a third less")]
    // SAFETY: a prefetch reads and writes nothing that the program sees, and never faults, wherever it points.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _is_no_hint = place;
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of the product are folded")]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

/// Where an entry stands with the suspects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Suspicion(u16);

impl Suspicion {
    const REFUSED: u16 = u16::MAX;
    /// There was no room among the suspects.
    pub(super) fn refused() -> Self {
        Self(Self::REFUSED)
    }

    pub(super) fn of(index: u16) -> Self {
        Self(index + 1)
    }

    pub(super) fn is_refused(self) -> bool {
        self.0 == Self::REFUSED
    }

    /// Whether there is a suspect.
    #[inline]
    pub(super) fn is_exact(self) -> bool {
        self.index().is_some()
    }

    /// The suspect's number.
    #[inline]
    pub(super) fn index(self) -> Option<u16> {
        if self.is_refused() { None } else { self.0.checked_sub(1) }
    }
}

/// What is known of every host or prefix and direction: 128 octets, two cache lines.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Entry {
    /// The key's parts: a [`Key`] in one piece would be padded.
    address: Address,
    shape: u16,
    pub(super) suspicion: Suspicion,
    /// Number of the limit that holds.
    pub(super) scale: u16,
    /// Low bits of the second of the last update.
    stamp: u16,
    /// Last record of this entry in the log of recent ones; 0 for none.
    pub(super) head: u32,
    pub(super) bound: Bound,
    totals: Totals,
}

const _: () = assert!(size_of::<Entry>() == 128);

/// Counts since the last report, whole records by their arrival.
///
/// In single precision: 24 bits are enough for a baseline, and a suspect has exact slots.
#[derive(Clone, Copy, Debug, Default)]
struct Totals(Shares);

impl Totals {
    #[inline]
    fn add(&mut self, shares: &Shares) {
        self.0.kinds.iter_mut().zip(shares.kinds).for_each(|(sum, count)| *sum += count);
        self.0.all.iter_mut().zip(shares.all).for_each(|(sum, count)| *sum += count);
    }

    fn volume(&self) -> Volume {
        let Shares { kinds, all } = self.0;
        let [packets, octets, flows] = all.map(f64::from);
        let kinds = kinds.map(f64::from);
        let [tcp_packets, udp_packets, icmp_packets, syn_packets, fragment_packets, amplification_packets, tcp_octets, udp_octets] = kinds;
        Volume {
            packets,
            octets,
            flows,
            tcp_packets,
            udp_packets,
            icmp_packets,
            syn_packets,
            fragment_packets,
            amplification_packets,
            tcp_octets,
            udp_octets,
            ..Volume::default()
        }
    }
}

impl Entry {
    fn is_vacant(&self) -> bool {
        self.shape == 0
    }

    fn is(&self, key: Key) -> bool {
        self.address == key.address && self.shape == key.shape
    }

    pub(super) fn key(&self) -> Key {
        Key { address: self.address, shape: self.shape }
    }

    /// Seconds since the last update.
    fn age_seconds(&self, clock: &Clock) -> u64 {
        // An entry is reclaimed long before 16 bits of seconds wrap.
        u64::from(clock.stamp.wrapping_sub(self.stamp))
    }

    /// Brings the entry to now and adds to its totals.
    #[inline(always)]
    pub(super) fn update(&mut self, shares: &Shares, clock: &Clock) {
        if clock.stamp != self.stamp {
            self.bound.roll(clock.second - self.age_seconds(clock).min(clock.second), clock);
            self.stamp = clock.stamp;
        }
        self.totals.add(shares);
    }

    /// Ends the suspicion: what comes from now on is bounded anew, the rest was handed over exactly.
    pub(super) fn clear_suspicion(&mut self) {
        (self.suspicion, self.bound, self.head) = (Suspicion::default(), Bound::default(), 0);
    }
}

/// Where a key is, or would be.
enum Place {
    Held(usize),
    Vacant(usize),
    Full,
}

/// Entries by key.
#[derive(Debug)]
pub(super) struct Table {
    entries: Box<[Entry]>,
    seeds: Seeds,
    held: usize,
    held_max: usize,
    /// From how many entries on new IPv6 hosts are counted by their /64: three quarters of the room.
    crowded: usize,
    swept: u64,
}

impl Table {
    /// A table for at most `held_max` entries, and a quarter more cells: 160 octets an entry.
    pub(super) fn new(held_max: usize, seeds: Seeds) -> Self {
        let cells = (held_max.max(PROBES_MAX) * 5).div_ceil(4);
        let entries = vec![Entry::default(); cells].into_boxed_slice();
        Self { entries, seeds, held: 0, held_max, crowded: held_max / 4 * 3, swept: 0 }
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether new IPv6 hosts are counted by their /64.
    pub(super) fn is_crowded(&self) -> bool {
        self.held >= self.crowded
    }

    /// Where the key of this hash is looked for first: the hash as a fraction of all cells, whatever their number (Lemire 2019).
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the high half is less than the number of cells")]
    pub(super) fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.entries.len() as u128) >> 64) as usize
    }

    /// The cell behind one, the first behind the last.
    #[inline]
    fn after(&self, index: usize) -> usize {
        if index + 1 == self.entries.len() { 0 } else { index + 1 }
    }

    /// Cells from one on until another, around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.entries.len() - from }
    }

    /// Where a key is looked for first.
    pub(super) fn home_of(&self, key: Key) -> usize {
        self.home(self.seeds.hash(key))
    }

    /// Has a cell, both of its cache lines, and the key of the next one come from memory, and waits for none of them.
    ///
    /// That is what makes updates cheap: many are under way at once. A third of the keys are not at home in a table that is half full (two thirds in one with four fifths),
    /// and most of these are next door.
    #[inline]
    pub(super) fn fetch(&self, home: usize) {
        if let Some(entry) = self.entries.get(home) {
            fetch(&raw const *entry);
            fetch(&raw const entry.totals);
        }
        if let Some(next) = self.entries.get(home + 1) {
            fetch(&raw const *next);
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a home, and what is behind a cell, is less than the number of cells")]
    fn place(&self, key: Key, home: usize) -> Place {
        let mut index = home;
        for _ in 0..PROBES_MAX {
            let entry = &self.entries[index];
            if entry.is(key) {
                return Place::Held(index);
            }
            if entry.is_vacant() {
                return Place::Vacant(index);
            }
            index = self.after(index);
        }
        Place::Full
    }

    /// The entry of a key that is held.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Entry> {
        match self.place(key, self.home_of(key)) {
            Place::Held(index) => self.entries.get_mut(index),
            _ => None,
        }
    }

    /// The entry of a key, made if there is room, with the limit that `scale_of` tells; `None` at the bound.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a home is less than the number of cells")]
    pub(super) fn entry(&mut self, key: Key, home: usize, clock: &Clock, scale_of: impl FnOnce(Key) -> u16) -> Option<&mut Entry> {
        // Most keys are at home.
        if self.entries[home].is(key) { self.entries.get_mut(home) } else { self.entry_from_home(key, home, clock, scale_of) }
    }

    #[inline(never)]
    fn entry_from_home(&mut self, key: Key, home: usize, clock: &Clock, scale_of: impl FnOnce(Key) -> u16) -> Option<&mut Entry> {
        match self.place(key, home) {
            Place::Held(index) => self.entries.get_mut(index),
            Place::Vacant(index) if self.held < self.held_max => {
                self.held += 1;
                let entry = self.entries.get_mut(index)?;
                let scale = scale_of(key);
                *entry = Entry { address: key.address, shape: key.shape, scale, stamp: clock.stamp, ..Entry::default() };
                Some(entry)
            }
            _ => None,
        }
    }

    /// Gives every entry the number of its limit anew. What its bound holds stays in units of the limit before, until it is forgotten.
    pub(super) fn rescale(&mut self, mut scale_of: impl FnMut(Key) -> u16) {
        self.entries.iter_mut().filter(|entry| !entry.is_vacant()).for_each(|entry| entry.scale = scale_of(entry.key()));
    }

    /// Whether a key is held.
    pub(super) fn holds(&self, key: Key, home: usize) -> bool {
        matches!(self.place(key, home), Place::Held(_))
    }

    /// Sweeps the steps up to that of now: reports each entry with traffic, and frees those that have been idle for long.
    ///
    /// An entry goes when its bound has forgotten everything; when the table is nearly full also after ten seconds if it
    /// weighs next to nothing: whoever scans a network fills the table with such entries, and loses them again.
    pub(super) fn sweep(&mut self, clock: &Clock, mut report: impl FnMut(Key, Volume)) {
        let now = clock.now / schemas::counter::SLOT_MILLISECONDS;
        let from = self.swept.max(now.saturating_sub(SWEEP_STEPS)) + 1;
        for step in from..=now {
            let phase = step % SWEEP_STEPS;
            let cells = self.entries.len() as u64;
            let (mut index, end) = ((cells * phase / SWEEP_STEPS) as usize, (cells * (phase + 1) / SWEEP_STEPS) as usize);
            while index < end {
                // A freed cell may have been filled from behind: it is looked at again.
                if !self.sweep_cell(index, clock, &mut report) {
                    index += 1;
                }
            }
        }
        self.swept = now;
    }

    /// Returns whether the cell was freed.
    fn sweep_cell(&mut self, index: usize, clock: &Clock, report: &mut impl FnMut(Key, Volume)) -> bool {
        let nearly_full = self.held >= self.held_max / 8 * 7;
        let Some(entry) = self.entries.get_mut(index).filter(|entry| !entry.is_vacant()) else {
            return false;
        };
        let volume = entry.totals.volume();
        if volume.flows > 0.0 {
            report(entry.key(), volume);
            entry.totals = Totals::default();
        }
        if entry.suspicion.is_refused() {
            entry.suspicion = Suspicion::default();
        }
        let age = entry.age_seconds(clock);
        let is_light = nearly_full && age >= LIGHT_SECONDS && entry.bound.largest() < LIGHT_UNITS;
        let goes = entry.suspicion.index().is_none() && (is_light || age > clock.memory_seconds());
        if goes {
            self.remove(index);
        }
        goes
    }

    /// Frees a cell and closes the gap, so that every key is still found from its home.
    #[expect(clippy::indexing_slicing, reason = "what is behind a cell is less than the number of cells")]
    fn remove(&mut self, mut gap: usize) {
        let mut next = gap;
        loop {
            next = self.after(next);
            let entry = self.entries[next];
            if entry.is_vacant() {
                break;
            }
            let home = self.home_of(entry.key());
            // It may move back unless its home lies behind the gap.
            if self.distance(home, next) >= self.distance(gap, next) {
                self.entries[gap] = entry;
                gap = next;
            }
        }
        self.entries[gap] = Entry::default();
        self.held -= 1;
    }
}
