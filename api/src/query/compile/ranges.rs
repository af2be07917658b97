//! Conditions of many ranges: few are compared one by one, of more the engine looks up the last bound below a value, whatever their number.
//!
//! Hundreds of comparisons cost seconds of the engine's analysis before a row is read, and each its time for every row. Of disjoint ranges in
//! order, the bounds are where one begins and where one is over; a value lies within if the last bound below it begins one.

use schemas::net::Address;

use super::{Bound, Statement, text};

/// So many ranges are compared one by one.
const PLAIN_MAX: usize = 16;

impl Statement {
    /// Writes whether `column`, a number, lies in one of the ranges.
    pub(super) fn number_ranges(&mut self, column: &str, ranges: &[(u64, u64)]) {
        let ranges = merged(ranges, |last| last.checked_add(1));
        if ranges.len() <= PLAIN_MAX {
            self.join(&ranges, " OR ", "0", |own, (first, last)| {
                own.number_range(column, *first, *last);
            });
        } else {
            self.push("(");
            self.look_up(&format!("toUInt64({column})"), &ranges);
            self.push(")");
        }
    }

    /// Writes whether `column`, an address, lies in one of the ranges, each of which is of one family.
    pub(super) fn address_ranges(&mut self, column: &str, ranges: &[(Address, Address)], is_key: bool) {
        let (v4, v6): (Vec<_>, Vec<_>) = ranges.iter().copied().partition(|(first, _)| first.is_v4());
        let next = |last: Address| last.0.checked_add(1).map(Address);
        let (v4, v6) = (merged(&v4, next), merged(&v6, next));
        let parts: Vec<&[(Address, Address)]> = [v4.as_slice(), v6.as_slice()].into_iter().filter(|part| !part.is_empty()).collect();
        self.join(&parts, " OR ", "0", |own, part| match (part.first(), part.last()) {
            (Some((first, _)), Some((_, last))) if part.len() > PLAIN_MAX => {
                own.push("(").address_range(column, *first, *last, is_key);
                own.push(" AND ");
                own.address_look_up(&format!("toUInt128({column})"), part);
                own.push(")");
            }
            _ => own.join(part, " OR ", "0", |own, (first, last)| own.address_range(column, *first, *last, is_key)),
        });
    }

    fn number_range(&mut self, column: &str, first: u64, last: u64) {
        self.push(column).push(" BETWEEN ").bind("UInt64", Bound::Number(first)).push(" AND ").bind("UInt64", Bound::Number(last));
    }

    /// The engine compares numbers of 128 bits ten times as fast as addresses, but finds in the key of a table addresses alone.
    fn address_range(&mut self, column: &str, first: Address, last: Address, is_key: bool) {
        let (open, close) = if is_key { ("", "") } else { ("toUInt128(", ")") };
        self.push(&format!("{open}{column}{close} BETWEEN {open}")).bind("IPv6", text(first));
        self.push(&format!("{close} AND {open}")).bind("IPv6", text(last)).push(close);
    }

    /// IPv4 by its 32 bits, IPv6 by its upper 64 bits if nothing is told apart by the lower ones.
    fn address_look_up(&mut self, number: &str, ranges: &[(Address, Address)]) {
        let halves = |address: Address| (low(address.0 >> 64), low(address.0));
        if ranges.iter().all(|(first, _)| first.is_v4()) {
            let ranges: Vec<(u64, u64)> = ranges.iter().map(|(first, last)| (halves(*first).1, halves(*last).1)).collect();
            // The upper half of the number is nothing, and what is cut off here none of the range that was asked for already.
            self.look_up(&format!("toUInt64({number})"), &ranges);
        } else if ranges.iter().all(|(first, last)| halves(*first).1 == 0 && halves(*last).1 == u64::MAX) {
            let ranges: Vec<(u64, u64)> = ranges.iter().map(|(first, last)| (halves(*first).0, halves(*last).0)).collect();
            self.look_up(&format!("toUInt64(bitShiftRight({number}, 64))"), &ranges);
        } else {
            self.search(number, ranges);
        }
    }

    /// `roundDown` searches for the last bound; below the first it answers with that, so that the whole extent is asked for as well.
    fn look_up(&mut self, number: &str, ranges: &[(u64, u64)]) {
        let (Some((first, _)), Some((_, last))) = (ranges.first(), ranges.last()) else { return };
        self.number_range(number, *first, *last);
        let bounds = ranges.iter().flat_map(|(first, last)| [Some(*first), last.checked_add(1)]).flatten().collect();
        self.push(&format!(" AND roundDown({number}, ")).bind("Array(UInt64)", Bound::Numbers(bounds));
        self.push(") IN ").bind("Array(UInt64)", Bound::Numbers(ranges.iter().map(|(first, _)| *first).collect()));
    }

    /// A binary search in steps of falling powers of two: how many bounds are not above the number, odd within a range.
    fn search(&mut self, number: &str, ranges: &[(Address, Address)]) {
        let ends = ranges.iter().flat_map(|(first, last)| [Some(first.0), last.0.checked_add(1)]).flatten();
        let bounds: Vec<String> = ends.map(|bound| super::mapped(Address(bound))).collect();
        let count = bounds.len();
        let steps: Vec<String> = (0..=count.checked_ilog2().unwrap_or(0)).rev().map(|power| (1_u64 << power).to_string()).collect();
        self.push(&format!(
            "arrayFold((found, step) -> if(found + step <= {count} AND {number} >= arrayElement(arrayMap(bound -> toUInt128(bound), "
        ));
        self.bind("Array(IPv6)", Bound::Texts(bounds));
        self.push(&format!("), found + step), found + step, found), [{}], toInt64(0)) % 2 = 1", steps.join(", ")));
    }
}

/// The ranges in order, with those as one that overlap or touch; `next` is what follows a value.
fn merged<T: Copy + Ord>(ranges: &[(T, T)], next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// The lower 64 bits.
fn low(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).unwrap_or(u64::MAX)
}
