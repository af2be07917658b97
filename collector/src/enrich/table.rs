//! The longest-prefix table that is asked for every flow: from an address to a number, for both families, in batches.
//!
//! Prefixes are flattened into runs, so that a look-up is "which run holds the address": an index over the top bits leaves a few
//! run starts, which are compared all at once: a search that halves them is mispredicted at every other step, and took twice as long.
//! Six octets a run of IPv4 and 24 of IPv6, whatever the lengths: a million prefixes fit into the processor's cache, where a table
//! with a cell for each /24 would be 64 MiB and a miss for every look-up.

mod narrow;
mod wide;

use std::hint::black_box;

use schemas::net::{Address, Prefix};

use super::run::{Block, Runs};
use narrow::Narrow;
use wide::Wide;

/// Addresses that are looked up side by side, so that their loads from memory overlap.
const GROUP: usize = 64;
/// Run starts that are compared at once.
const LANES: usize = 16;

/// From an address to a number; 0 where no prefix holds it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    narrow: Narrow,
    wide: Wide,
}

/// The part of a family's runs that may hold an address: from `first` on, `count` starts.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    first: u32,
    count: u32,
    /// Whether the starts are those of a page's cell; IPv6 alone has pages.
    is_paged: bool,
}

impl Table {
    /// A table over the runs of each family.
    #[must_use]
    pub fn new(v4: Runs<u32>, v6: Runs<u128>) -> Self {
        Self { narrow: Narrow::new(v4), wide: Wide::new(v6) }
    }

    /// Flattens prefixes; of two equal ones the later holds. A prefix of IPv6 never holds an address of IPv4.
    #[must_use]
    pub fn of_prefixes(prefixes: impl IntoIterator<Item = (Prefix, u32)>) -> Self {
        let (v4, v6) = runs_of_prefixes(prefixes);
        Self::new(v4, v6)
    }

    /// Whether no prefix is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.narrow.is_empty() && self.wide.is_empty()
    }

    /// Runs of IPv4 and of IPv6.
    #[must_use]
    pub fn runs(&self) -> (usize, usize) {
        (self.narrow.runs(), self.wide.runs())
    }

    /// What it takes in memory.
    #[must_use]
    pub fn memory_octets(&self) -> usize {
        self.narrow.memory_octets() + self.wide.memory_octets()
    }

    /// The number of one address.
    #[must_use]
    pub fn get(&self, address: Address) -> u32 {
        self.value(address, self.span(address))
    }

    /// The numbers of many addresses, in their order.
    pub fn fill(&self, addresses: &[Address], numbers: &mut [u32]) {
        for (addresses, numbers) in addresses.chunks(GROUP).zip(numbers.chunks_mut(GROUP)) {
            self.fill_group(addresses, numbers);
        }
    }

    /// One step for all, then the next: none of the loads of a step waits for another one.
    ///
    /// What only loads is by itself, a few instructions an address: with more between them fewer loads are under way at once.
    fn fill_group(&self, addresses: &[Address], numbers: &mut [u32]) {
        let count_v4 = addresses.iter().map(|address| usize::from(address.is_v4())).sum::<usize>();
        let (has_v4, has_v6) = (count_v4 > 0, count_v4 < addresses.len());
        let mut touched = 0;
        if has_v4 {
            // The low bits of an address of the other family are as good as any: a load too many now and then costs less than a branch.
            touched ^= addresses.iter().fold(0, |touched, address| touched ^ self.narrow.touch_index(low(*address)));
        }
        if has_v6 {
            touched ^= addresses.iter().fold(0, |touched, address| touched ^ self.wide.touch_index(address.0));
        }
        black_box(touched);
        let mut spans = [Span::default(); GROUP];
        for (span, address) in spans.iter_mut().zip(addresses) {
            *span = self.span(*address);
        }
        let spans = spans.get(..addresses.len()).unwrap_or_default();
        touched = 0;
        if has_v4 {
            touched ^= spans.iter().fold(0, |touched, span| touched ^ self.narrow.touch(*span));
        }
        if has_v6 {
            touched ^= spans.iter().fold(0, |touched, span| touched ^ self.wide.touch(*span));
        }
        black_box(touched);
        for ((number, span), address) in numbers.iter_mut().zip(spans).zip(addresses) {
            *number = self.value(*address, *span);
        }
    }

    #[inline]
    fn span(&self, address: Address) -> Span {
        if address.is_v4() { self.narrow.span(low(address)) } else { self.wide.span(address.0) }
    }

    #[inline]
    fn value(&self, address: Address, span: Span) -> u32 {
        if address.is_v4() { self.narrow.value(low(address), span) } else { self.wide.value(address.0, span) }
    }
}

/// Prefixes as runs of each family.
#[must_use]
pub fn runs_of_prefixes(prefixes: impl IntoIterator<Item = (Prefix, u32)>) -> (Runs<u32>, Runs<u128>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (prefix, value) in prefixes {
        if prefix.is_v4() {
            v4.push(Block { first: low(prefix.first()), last: low(prefix.last()), value });
        } else {
            v6.push(Block { first: prefix.first().0, last: prefix.last().0, value });
        }
    }
    (Runs::of_blocks(v4), Runs::of_blocks(v6))
}

/// The 32 bits of an address of IPv4.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the IPv4 address")]
pub(super) fn low(address: Address) -> u32 {
    address.0 as u32
}

/// How many of the sorted `starts` are not behind `key`.
///
/// Halved by arithmetic and not by a branch: the branch would be mispredicted every other time.
#[inline]
fn rank<T: Copy + Ord>(starts: &[T], key: T) -> usize {
    let (mut base, mut count) = (0, starts.len());
    while count > 0 {
        let half = count.div_ceil(2);
        let is_not_behind = starts.get(base + half - 1).is_some_and(|start| *start <= key);
        base += if is_not_behind { half } else { 0 };
        count -= half;
    }
    base
}

/// The same for so few that they are all compared at once; of `starts` the first `count` count.
#[inline]
fn rank_of_few<T: Copy + Ord>(starts: &[T; LANES], count: usize, key: T) -> usize {
    // As wide as the narrowest starts: wider lanes would be halved into them again.
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let mut rank = 0u16;
    for (lane, start) in (0u16..).zip(starts) {
        rank += u16::from(lane < count) & u16::from(*start <= key);
    }
    usize::from(rank)
}

#[cfg(test)]
mod tests;
