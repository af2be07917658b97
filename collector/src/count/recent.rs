//! A log of the last records of the shard, chained by entry: what a new suspect had before it became one.
//!
//! The bounds say that a target may be over its share, not in which slot its traffic lies. The log does: each entry knows its
//! last record, each record the entry's one before. A chain ends where the log has been overwritten.

use schemas::counter::Direction;

use super::clock::Span;
use super::traffic::Amount;

/// What one record does for the four entries that it may count in.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    start: u64,
    amount: Amount,
    duration_milliseconds: u32,
    /// Both ends, each folded to 32 bits, in one: who knows the one knows the other.
    ends: u32,
    /// The entry's record before, for each [`Role`]; 0 for none.
    previous: [u32; 4],
}

impl Record {
    fn span(&self) -> Span {
        Span { start: self.start, end: self.start + u64::from(self.duration_milliseconds), corrected: false }
    }
}

/// In which of its roles an entry counts a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Role {
    DestinationHost,
    DestinationPrefix,
    SourceHost,
    SourcePrefix,
}

const _: () = assert!(size_of::<Record>() == 56);

impl Role {
    /// The role of a host's or prefix's entry of this direction.
    #[inline]
    pub(super) fn of(direction: Direction, is_host: bool) -> Self {
        match (direction, is_host) {
            (Direction::Incoming, true) => Self::DestinationHost,
            (Direction::Incoming, false) => Self::DestinationPrefix,
            (Direction::Outgoing, true) => Self::SourceHost,
            (Direction::Outgoing, false) => Self::SourcePrefix,
        }
    }
}

/// The log: a ring of records, numbered from 1.
#[derive(Debug)]
pub(super) struct Recent {
    records: Box<[Record]>,
    next: u32,
}

impl Recent {
    /// A log of `records_max` records, rounded up to a power of two.
    pub(super) fn new(records_max: usize) -> Self {
        Self { records: vec![Record::default(); records_max.clamp(1_024, 1 << 24).next_power_of_two()].into_boxed_slice(), next: 1 }
    }

    /// Writes a record and returns its number.
    #[inline]
    pub(super) fn push(&mut self, span: Span, amount: Amount, ends: u32) -> u32 {
        let number = self.next;
        self.next = number.checked_add(1).unwrap_or(1);
        let duration_milliseconds = u32::try_from(span.end - span.start).unwrap_or(u32::MAX);
        if let Some(record) = self.at(number) {
            let start = span.end - u64::from(duration_milliseconds);
            *record = Record { start, amount, duration_milliseconds, ends, previous: [0; 4] };
        }
        number
    }

    /// A record that has just been written.
    pub(super) fn record(&self, number: u32) -> (Span, Amount) {
        let record = self.records.get(number as usize & (self.records.len() - 1)).copied().unwrap_or_default();
        (record.span(), record.amount)
    }

    /// Makes record `number` the last of the chain that ended in `head`, and returns the new head.
    #[inline]
    pub(super) fn link(&mut self, number: u32, role: Role, head: u32) -> u32 {
        if let Some(previous) = self.at(number).and_then(|record| record.previous.get_mut(role as usize)) {
            *previous = head;
        }
        number
    }

    /// The chain that ends in `head`, the latest record first, as far as the log reaches; with each both ends, folded.
    pub(super) fn chain(&self, mut head: u32, role: Role) -> impl Iterator<Item = (Span, Amount, u32)> {
        std::iter::from_fn(move || {
            let age = self.next.wrapping_sub(head);
            if head == 0 || age as usize > self.records.len() {
                return None;
            }
            let record = self.records.get(head as usize & (self.records.len() - 1))?;
            head = record.previous.get(role as usize).copied().unwrap_or(0);
            Some((record.span(), record.amount, record.ends))
        })
    }

    #[inline]
    fn at(&mut self, number: u32) -> Option<&mut Record> {
        let mask = self.records.len() - 1;
        self.records.get_mut(number as usize & mask)
    }
}
