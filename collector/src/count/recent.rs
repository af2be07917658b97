//! A log of the last records of the shard, chained by entry: what a new suspect had before it became one.
//!
//! The bounds say that a target may be over its share, not in which slot its traffic lies. The log does: each entry knows its
//! last record, each record the entry's one before. A chain ends where the log has been overwritten.

use super::clock::Span;
use super::traffic::{Amount, Traffic};

/// What one record does for the four entries that it may count in.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    start: u64,
    duration_milliseconds: u32,
    amount: Amount,
    /// The entry's record before, for each [`Role`]; 0 for none.
    previous: [u32; 4],
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

impl Role {
    pub(super) fn is_host(self) -> bool {
        matches!(self, Role::DestinationHost | Role::SourceHost)
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
    pub(super) fn push(&mut self, traffic: &Traffic) -> u32 {
        let number = self.next;
        self.next = self.next.checked_add(1).unwrap_or(1);
        let Span { start, end, .. } = traffic.span;
        let duration_milliseconds = u32::try_from(end - start).unwrap_or(u32::MAX);
        if let Some(record) = self.at(number) {
            *record =
                Record { start: end - u64::from(duration_milliseconds), duration_milliseconds, amount: traffic.amount, previous: [0; 4] };
        }
        number
    }

    /// Makes record `number` the last of the chain that ended in `head`, and returns the new head.
    pub(super) fn link(&mut self, number: u32, role: Role, head: u32) -> u32 {
        if let Some(previous) = self.at(number).and_then(|record| record.previous.get_mut(role as usize)) {
            *previous = head;
        }
        number
    }

    /// The chain that ends in `head`, the latest record first, as far as the log reaches.
    pub(super) fn chain(&self, mut head: u32, role: Role) -> impl Iterator<Item = (Span, Amount)> {
        std::iter::from_fn(move || {
            let age = self.next.wrapping_sub(head);
            if head == 0 || age as usize > self.records.len() {
                return None;
            }
            let record = self.records.get(head as usize & (self.records.len() - 1))?;
            head = record.previous.get(role as usize).copied().unwrap_or(0);
            let end = record.start + u64::from(record.duration_milliseconds);
            Some((Span { start: record.start, end, corrected: false }, record.amount))
        })
    }

    fn at(&mut self, number: u32) -> Option<&mut Record> {
        let mask = self.records.len() - 1;
        self.records.get_mut(number as usize & mask)
    }
}
