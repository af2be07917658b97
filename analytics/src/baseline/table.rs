//! What is known of every host: open addressing with linear probing in stripes that are locked one by one, of a fixed capacity.
//!
//! A row is a host's key and a cell for each direction: 56 octets for IPv4, 68 for IPv6, and an eighth of the cells stay empty, so that a
//! host costs 64 or 78. Rows are plain words: a table that is not used yet is memory that the system has not given out yet.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use schemas::counter::{Direction, Target};
use schemas::net::{Address, Prefix};

use super::cell::{Cell, UNITS_A_MINUTE, UNITS_AN_HOUR, WORDS};

/// Words of an IPv4 host's row: 32 bits of key, two cells.
pub(super) const V4_WORDS: usize = 2 + 2 * WORDS;
/// Words of an IPv6 host's row.
pub(super) const V6_WORDS: usize = 8 + 2 * WORDS;

/// Parts of a table with a lock of their own.
const STRIPES: usize = 64;
/// How far from its home a row may lie.
const PROBES_MAX: usize = 1_024;
/// Rows among which the one that has been silent longest makes room.
const RIVALS: usize = 64;
/// How long a host must have been silent before it makes room, in units of the cells' clock: an hour.
const SILENCE: u16 = UNITS_AN_HOUR;
/// The same for one of which too little was learned to tell anything: whoever scans a network leaves such behind.
const SILENCE_YOUNG: u16 = 2 * UNITS_A_MINUTE;

/// Rows by key, in stripes.
#[derive(Debug)]
pub(super) struct Table<const ROW: usize> {
    stripes: Box<[Mutex<Stripe<ROW>>]>,
    hashes: RandomState,
}

#[derive(Debug)]
struct Stripe<const ROW: usize> {
    rows: Box<[[u16; ROW]]>,
    held: usize,
    held_max: usize,
}

/// A host's key: its address turned over, so that no host's is 0, which is an empty row's.
///
/// A /64 that stands for its hosts has the key of its last address, which no host has (RFC 2526 keeps the top 128 for anycast).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    words: [u16; 8],
    is_v4: bool,
}

impl Key {
    /// The key of a host or folded host; `None` for any other prefix and for the broadcast address.
    #[expect(clippy::cast_possible_truncation, reason = "the words are taken apart")]
    pub(super) fn of(prefix: Prefix) -> Option<Self> {
        if !(prefix.is_host() || (!prefix.is_v4() && prefix.length() == 64)) {
            return None;
        }
        let is_v4 = prefix.is_v4();
        let turned = if is_v4 { u128::from(!(prefix.last().0 as u32)) } else { !prefix.last().0 };
        let words = std::array::from_fn(|index| (turned >> (16 * index)) as u16);
        (turned != 0).then_some(Self { words, is_v4 })
    }

    pub(super) fn is_v4(self) -> bool {
        self.is_v4
    }

    /// The host of a row's key words.
    fn host(words: &[u16]) -> Prefix {
        let turned = words.iter().rev().fold(0_u128, |sum, word| sum << 16 | u128::from(*word));
        if words.len() < 8 {
            return Address::from_v4(!u32::try_from(turned).unwrap_or(0)).host();
        }
        let last = Address(!turned);
        if last.0 & u128::from(u64::MAX) == u128::from(u64::MAX) { Prefix::of(last, 64) } else { last.host() }
    }
}

/// The place of a direction's cell in a row.
fn place(direction: Direction) -> usize {
    if direction == Direction::Incoming { 0 } else { WORDS }
}

impl<const ROW: usize> Table<ROW> {
    const KEY: usize = ROW - 2 * WORDS;

    /// A table of at most `rows_max` hosts, and an eighth of the cells empty at that.
    pub(super) fn new(rows_max: usize) -> Self {
        let held_max = rows_max.div_ceil(STRIPES).max(1);
        let stripe = || Stripe { rows: vec![[0; ROW]; (held_max * 8).div_ceil(7)].into_boxed_slice(), held: 0, held_max };
        Self { stripes: (0..STRIPES).map(|_| Mutex::new(stripe())).collect(), hashes: RandomState::new() }
    }

    /// Octets that the table may take, and the hosts that are in it.
    pub(super) fn size(&self) -> (usize, usize) {
        let stripes = self.stripes.iter().map(|stripe| {
            let stripe = lock(stripe);
            (stripe.rows.len() * ROW * 2, stripe.held)
        });
        stripes.fold((0, 0), |(octets, held), (own, rows)| (octets + own, held + rows))
    }

    fn hash(&self, key: &[u16]) -> u64 {
        self.hashes.hash_one(key)
    }

    fn stripe(&self, hash: u64) -> Option<MutexGuard<'_, Stripe<ROW>>> {
        self.stripes.get(usize::try_from(hash >> 58).unwrap_or(0)).map(lock)
    }

    /// The cell of a host and direction; `None` if the host is not known.
    pub(super) fn get(&self, key: Key, direction: Direction) -> Option<Cell> {
        let key = key.words.get(..Self::KEY)?;
        let hash = self.hash(key);
        let stripe = self.stripe(hash)?;
        let row = stripe.rows.get(stripe.find(key, hash).ok()?)?;
        Some(cell(row, Self::KEY + place(direction)))
    }

    /// Changes the cell of a host and direction, made if there is room; `None` if there is none.
    ///
    /// Of its neighbours the host that has been silent for longest makes room, if that is an hour; `is_young` tells whether a cell has learned so little that two minutes are
    /// enough.
    pub(super) fn change<R>(
        &self,
        key: Key,
        direction: Direction,
        now: u64,
        is_young: impl Fn(&Cell) -> bool,
        work: impl FnOnce(&mut Cell) -> R,
    ) -> Option<R> {
        let key = key.words.get(..Self::KEY)?;
        let hash = self.hash(key);
        let mut stripe = self.stripe(hash)?;
        let index = match stripe.find(key, hash) {
            Ok(index) => index,
            Err(vacant) => {
                let vacant = vacant.filter(|_| stripe.held < stripe.held_max);
                let index = match vacant {
                    Some(index) => index,
                    None => {
                        let victim = stripe.silent(hash, now, is_young)?;
                        stripe.remove(victim, |key| self.hash(key));
                        stripe.find(key, hash).err().flatten()?
                    }
                };
                stripe.held += 1;
                let row = stripe.rows.get_mut(index)?;
                *row = [0; ROW];
                row.iter_mut().zip(key).for_each(|(word, key)| *word = *key);
                index
            }
        };
        let row = stripe.rows.get_mut(index)?;
        let from = Self::KEY + place(direction);
        let mut cell = cell(row, from);
        let result = work(&mut cell);
        row.iter_mut().skip(from).zip(cell.to_words()).for_each(|(word, new)| *word = new);
        Some(result)
    }

    /// Tells every cell of which anything was learned, a stripe at a time.
    pub(super) fn each(&self, mut tell: impl FnMut(Target, Cell)) {
        for stripe in &self.stripes {
            let rows: Vec<[u16; ROW]> = lock(stripe).rows.iter().filter(|row| !is_vacant(*row)).copied().collect();
            for row in rows {
                let prefix = Key::host(row.get(..Self::KEY).unwrap_or_default());
                for direction in [Direction::Incoming, Direction::Outgoing] {
                    tell(Target { prefix, direction }, cell(&row, Self::KEY + place(direction)));
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_vacant(row: &[u16]) -> bool {
    // The key stands in front, and the cells of a row that is in use were reported.
    row.iter().all(|word| *word == 0)
}

fn cell(row: &[u16], from: usize) -> Cell {
    Cell::from_words(row.get(from..).and_then(|words| words.first_chunk()).copied().unwrap_or_default())
}

impl<const ROW: usize> Stripe<ROW> {
    const KEY: usize = ROW - 2 * WORDS;

    /// Where a key of this hash is looked for first: the hash as a fraction of all rows.
    fn home(&self, hash: u64) -> usize {
        // The top bits have chosen the stripe.
        usize::try_from((u128::from(hash << 6) * self.rows.len() as u128) >> 64).unwrap_or(0)
    }

    fn key(&self, index: usize) -> &[u16] {
        self.rows.get(index).and_then(|row| row.get(..Self::KEY)).unwrap_or_default()
    }

    fn is_vacant(&self, index: usize) -> bool {
        self.key(index).iter().all(|word| *word == 0)
    }

    /// Where a key is; or where it would be, if that is not too far from its home.
    fn find(&self, key: &[u16], hash: u64) -> Result<usize, Option<usize>> {
        let mut index = self.home(hash);
        for _ in 0..PROBES_MAX.min(self.rows.len()) {
            if self.key(index) == key {
                return Ok(index);
            }
            if self.is_vacant(index) {
                return Err(Some(index));
            }
            index = self.next(index);
        }
        Err(None)
    }

    fn next(&self, index: usize) -> usize {
        if index + 1 == self.rows.len() { 0 } else { index + 1 }
    }

    /// Rows from `from` on until `to`, around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.rows.len() - from }
    }

    /// The row near a hash's home that has been silent for longest, if that is long enough.
    fn silent(&self, hash: u64, now: u64, is_young: impl Fn(&Cell) -> bool) -> Option<usize> {
        let (mut index, mut found) = (self.home(hash), None);
        for _ in 0..RIVALS.min(self.rows.len()) {
            if let Some(row) = self.rows.get(index).filter(|row| !is_vacant(row.as_slice())) {
                let cells = [0, WORDS].map(|place| cell(row, Self::KEY + place));
                let silence = cells.iter().map(|cell| cell.silence(now)).min().unwrap_or(0);
                let enough = if cells.iter().all(&is_young) { SILENCE_YOUNG } else { SILENCE };
                // By how many times it has been silent for longer than it had to.
                let rank = u32::from(silence) * 64 / u32::from(enough);
                if silence >= enough && found.is_none_or(|(_, best)| rank > best) {
                    found = Some((index, rank));
                }
            }
            index = self.next(index);
        }
        found.map(|(index, _)| index)
    }

    /// Empties a row and closes the gap, so that every key is still found from its home.
    fn remove(&mut self, mut gap: usize, hash: impl Fn(&[u16]) -> u64) {
        let mut index = gap;
        for _ in 0..self.rows.len() {
            index = self.next(index);
            if index == gap || self.is_vacant(index) {
                break;
            }
            let home = self.home(hash(self.key(index)));
            // It may move back unless its home lies behind the gap.
            if self.distance(home, index) >= self.distance(gap, index) {
                self.rows.copy_within(index..=index, gap);
                gap = index;
            }
        }
        if let Some(row) = self.rows.get_mut(gap) {
            *row = [0; ROW];
        }
        self.held -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::of(text.parse().unwrap()).unwrap()
    }

    fn report(table: &Table<V4_WORDS>, host: u32, now: u64) -> bool {
        let key = Key::of(Address::from_v4(host).host()).unwrap();
        table.change(key, Direction::Incoming, now, |_| false, |cell| cell.report([f64::from(host), 1.0], now)).is_some()
    }

    #[test]
    fn a_row_is_small_and_an_eighth_of_the_table_is_empty() {
        assert_eq!((2 * V4_WORDS, 2 * V6_WORDS), (56, 68));
        let (octets, held) = Table::<V4_WORDS>::new(1_000_000).size();
        assert!((64_000_000..64_010_000).contains(&octets) && held == 0, "{octets}");
        let (octets, _) = Table::<V6_WORDS>::new(1_000_000).size();
        assert!((77_700_000..77_730_000).contains(&octets), "{octets}");
    }

    #[test]
    fn a_key_tells_its_host_and_other_prefixes_have_none() {
        for text in ["203.0.113.7", "2001:db8::7", "2001:db8:0:1::/64", "0.0.0.0"] {
            let words = key(text).words;
            let length = if key(text).is_v4() { 2 } else { 8 };
            assert_eq!(Key::host(&words[..length]).to_string(), text);
        }
        for text in ["203.0.113.0/24", "2001:db8::/48", "255.255.255.255"] {
            assert_eq!(Key::of(text.parse().unwrap()), None);
        }
    }

    /// 20,000 hosts come one after the other, each in its own minute, to a table for 6,400: those silent for an hour make room, and all that is left is found.
    #[test]
    fn old_silent_hosts_make_room_and_no_other_is_lost() {
        let table = Table::<V4_WORDS>::new(6_400);
        let now = |host: u32| u64::from(host) * 15 + 1_000_000;
        for host in 1..20_000 {
            assert!(report(&table, host, now(host)), "{host}");
        }
        let (_, held) = table.size();
        assert!(held <= 6_400, "{held}");
        let mut told = 0;
        table.each(|target, cell| {
            if target.direction == Direction::Incoming {
                let found = table.get(Key::of(target.prefix).unwrap(), Direction::Incoming).unwrap();
                assert_eq!(found, cell);
                told += 1;
            }
        });
        assert_eq!(told, held);
        // Whoever was heard within the hour is there.
        for host in 19_941..20_000_u32 {
            let cell = table.get(Key::of(Address::from_v4(host).host()).unwrap(), Direction::Incoming);
            assert_eq!(cell.map(|cell| (cell.live(now(host))[0] / f64::from(host)).round()), Some(1.0), "{host}");
        }
    }

    #[test]
    fn nobody_makes_room_who_was_just_heard() {
        let table = Table::<V4_WORDS>::new(64);
        let held = (1..1_000).filter(|host| report(&table, *host, 1_000_000)).count();
        assert_eq!(table.size().1, held);
        assert!(held <= 64, "{held}");
    }
}
