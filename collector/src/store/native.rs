//! Blocks in ClickHouse's Native format, one behind the other: of each its columns in turn, with name, type and the values of all rows.
//!
//! Numbers are written low octet first, addresses in network order. <https://clickhouse.com/docs/interfaces/formats/Native>

use std::collections::HashMap;
use std::ops::BitOr;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use schemas::net::Address;

/// Values that are turned into octets at a time.
const GROUP: usize = 64;
/// Octets of a row to begin with, those of NetFlow from a router; the room grows to what is needed and stays.
const ROW_OCTETS: usize = 96;
/// Rooms of former blocks that are kept for the next: fresh memory costs more than the encoding.
const ROOMS_MAX: usize = 2;
/// Where the number of columns stands: two octets, whatever it is, since it is known last.
const COLUMNS_OCTETS: usize = 2;

/// Blocks in the making; the room of those that nobody holds any more is used again.
#[derive(Debug)]
pub(super) struct Native {
    octets: Vec<u8>,
    /// Where the block begins that is written.
    start: usize,
    columns: usize,
    rooms: Receiver<Vec<u8>>,
    leave: Arc<Sender<Vec<u8>>>,
}

impl Default for Native {
    fn default() -> Self {
        let (leave, rooms) = bounded(ROOMS_MAX);
        Self { octets: Vec::new(), start: 0, columns: 0, rooms, leave: Arc::new(leave) }
    }
}

/// The room of blocks that are on their way; comes back when the last holder lets it go.
struct Lent {
    octets: Vec<u8>,
    home: Arc<Sender<Vec<u8>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Where enough are kept already, or nobody makes blocks any more, it is given back to the system.
        let _is_kept = self.home.try_send(std::mem::take(&mut self.octets));
    }
}

/// A number of a column.
pub(super) trait Number: Copy + Default + BitOr<Output = Self> + Into<u64> {}

impl Number for u8 {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for u64 {}

impl Native {
    /// Begins a block of `rows` rows, behind those that are there.
    pub(super) fn begin(&mut self, rows: usize) {
        if self.octets.is_empty() {
            self.octets = self.rooms.try_recv().unwrap_or_default();
            self.octets.clear();
        }
        self.octets.reserve(rows * ROW_OCTETS);
        (self.start, self.columns) = (self.octets.len(), 0);
        self.octets.extend_from_slice(&[0; COLUMNS_OCTETS]);
        self.variable(rows);
    }

    /// Ends the block; how many octets it has.
    pub(super) fn end(&mut self) -> usize {
        let (low, high) = (self.columns & 0x7f | 0x80, self.columns >> 7);
        for (octet, part) in self.octets.iter_mut().skip(self.start).zip([low, high]) {
            *octet = u8::try_from(part).unwrap_or(0);
        }
        self.octets.len() - self.start
    }

    /// All blocks since the last call.
    pub(super) fn take(&mut self) -> Bytes {
        Bytes::from_owner(Lent { octets: std::mem::take(&mut self.octets), home: Arc::clone(&self.leave) })
    }

    /// Begins a column: the values of all its rows follow.
    pub(super) fn column(&mut self, name: &str, kind: &str) {
        self.columns += 1;
        self.text(name.as_bytes());
        self.text(kind.as_bytes());
    }

    /// One value for some rows in turn, each of `N` octets.
    pub(super) fn repeat<const N: usize>(&mut self, value: [u8; N], rows: usize) {
        let group = [value; GROUP];
        for _ in 0..rows / GROUP {
            self.octets.extend_from_slice(group.as_flattened());
        }
        self.octets.extend_from_slice(group.as_flattened().get(..rows % GROUP * N).unwrap_or_default());
    }

    /// A value for each row, turned into octets by `octets`.
    #[inline]
    pub(super) fn values<T: Copy, const N: usize>(&mut self, values: &[T], octets: impl Fn(T) -> [u8; N]) {
        let (groups, rest) = values.as_chunks::<GROUP>();
        for group in groups {
            self.octets.extend_from_slice(group.map(&octets).as_flattened());
        }
        for &value in rest {
            self.octets.extend_from_slice(&octets(value));
        }
    }

    /// A column of numbers in the narrowest type that holds them all, unless all are zero: the engine makes of it what the table has.
    ///
    /// Octets that are zero in every row cost more to compress and to send than to put back.
    pub(super) fn numbers<T: Number>(&mut self, name: &str, values: &[T]) {
        let all: u64 = values.iter().fold(T::default(), |all, &value| all | value).into();
        match all {
            0 => {}
            1..=0xff => {
                self.column(name, "UInt8");
                self.values(values, low::<T, 1>);
            }
            0x100..=0xffff => {
                self.column(name, "UInt16");
                self.values(values, low::<T, 2>);
            }
            0x1_0000..=0xffff_ffff => {
                self.column(name, "UInt32");
                self.values(values, low::<T, 4>);
            }
            _ => {
                self.column(name, "UInt64");
                self.values(values, low::<T, 8>);
            }
        }
    }

    /// A column of addresses, unless all are none: as IPv4 if all are of IPv4, which the engine maps into IPv6 as we do (RFC 4291 §2.5.5.2).
    pub(super) fn addresses(&mut self, name: &str, values: &[Address]) {
        let (mut all, mut differences) = (0, 0);
        for address in values {
            all |= address.0;
            differences |= address.0 >> 32 ^ 0xffff;
        }
        if all == 0 {
        } else if differences == 0 {
            self.column(name, "IPv4");
            self.values(values, |address| {
                let [low @ .., _, _, _, _, _, _, _, _, _, _, _, _] = address.0.to_le_bytes();
                low
            });
        } else {
            self.column(name, "IPv6");
            self.values(values, |address| address.0.to_be_bytes());
        }
    }

    /// A column of few different texts: `keys`, and for each row the number of its key.
    pub(super) fn low_cardinality(&mut self, name: &str, keys: &Keys, numbers: &[u32]) {
        /// The keys come with the block, and they are all that it needs.
        const ADDITIONAL_KEYS: u64 = 1 << 9;
        const NEW_DICTIONARY: u64 = 1 << 10;
        /// Keys are numbered anew in every block.
        const VERSION: u64 = 1;
        self.column(name, "LowCardinality(String)");
        let width = match keys.count() {
            0..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        };
        for word in [VERSION, width | ADDITIONAL_KEYS | NEW_DICTIONARY, u64::from(keys.count())] {
            self.octets.extend_from_slice(&word.to_le_bytes());
        }
        self.octets.extend_from_slice(&keys.octets);
        self.octets.extend_from_slice(&(numbers.len() as u64).to_le_bytes());
        match width {
            0 => self.values(numbers, |number| {
                let [low, ..] = number.to_le_bytes();
                [low]
            }),
            1 => self.values(numbers, |number| {
                let [low, high, ..] = number.to_le_bytes();
                [low, high]
            }),
            _ => self.values(numbers, u32::to_le_bytes),
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.variable(text.len());
        self.octets.extend_from_slice(text);
    }

    fn variable(&mut self, number: usize) {
        variable(&mut self.octets, number);
    }
}

/// The low octets of a number, the lowest first.
#[inline]
fn low<T: Number, const N: usize>(value: T) -> [u8; N] {
    value.into().to_le_bytes().first_chunk().copied().unwrap_or([0; N])
}

/// Writes a number seven bits an octet, low bits first.
fn variable(octets: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        octets.extend_from_slice(&[u8::try_from(number & 0x7f).unwrap_or(0) | 0x80]);
        number >>= 7;
    }
    octets.extend_from_slice(&[u8::try_from(number).unwrap_or(0)]);
}

/// The different texts of a column, numbered; the empty one is 0.
#[derive(Debug)]
pub(super) struct Keys {
    octets: Vec<u8>,
    numbers: HashMap<Box<str>, u32>,
    /// Texts that were asked for by where they lie, since the same ones are asked for again and again.
    recent: Box<[Recent; RECENT]>,
}

const RECENT: usize = 256;

#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    start: usize,
    length: usize,
    number: u32,
}

impl Default for Keys {
    fn default() -> Self {
        let mut keys = Self { octets: Vec::new(), numbers: HashMap::new(), recent: Box::new([Recent::default(); RECENT]) };
        keys.clear();
        keys
    }
}

impl Keys {
    /// Forgets all texts but the empty one.
    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.octets.extend_from_slice(&[0]);
        self.numbers.clear();
        self.numbers.insert(Box::default(), 0);
        *self.recent = [Recent::default(); RECENT];
    }

    /// How many texts there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.numbers.len()).unwrap_or(u32::MAX)
    }

    /// The number of a text that stays where it lies until the keys are cleared.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "taken modulo the length")]
    pub(super) fn number_of(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let (start, length) = (text.as_ptr().addr(), text.len());
        let place = (start ^ start >> 8 ^ length) % RECENT;
        let recent = self.recent[place];
        if (recent.start, recent.length) == (start, length) {
            return recent.number;
        }
        let number = self.number(text);
        self.recent[place] = Recent { start, length, number };
        number
    }

    /// The number of a text.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.count();
        variable(&mut self.octets, text.len());
        self.octets.extend_from_slice(text.as_bytes());
        self.numbers.insert(text.into(), number);
        number
    }
}
