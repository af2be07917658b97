//! The runs of IPv6: an index over the top 16 bits, pages over the next 16 where many runs lie, and the starts.

use super::super::run::Runs;
use super::{Span, rank};

/// Cells of the index and of a page: 16 bits each.
const CELLS: usize = 1 << 16;
/// Starts in a cell from which on it gets a page of its own.
const DENSE_STARTS: u32 = 512;
/// Pages of 256 KiB; the densest cells have them. What is assigned by 2026 lies in some seventy cells.
const PAGES_MAX: usize = 128;

/// The runs of IPv6.
#[derive(Clone, Debug)]
pub(super) struct Wide {
    /// How many starts lie before each cell of the address space; one more at the end.
    before: Box<[u32]>,
    /// The number of each cell's page, from 1; 0 for none.
    pages: Box<[u16]>,
    /// The same as `before`, for each page.
    before_in_page: Box<[u32]>,
    starts: Box<[u128]>,
    values: Box<[u32]>,
}

impl Default for Wide {
    fn default() -> Self {
        let values = Box::from([0]);
        Self { before: Box::default(), pages: Box::default(), before_in_page: Box::default(), starts: Box::default(), values }
    }
}

/// The 16 bits of an address that its first or second cell is found by.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "16 bits are wanted")]
fn cell(address: u128, level: u32) -> usize {
    usize::from((address >> (112 - 16 * level)) as u16)
}

/// How many of the sorted starts lie before each cell.
fn index(starts: &[u128], first: u32, level: u32) -> Vec<u32> {
    let mut before = vec![0u32; CELLS + 1];
    for start in starts {
        if let Some(count) = before.get_mut(cell(*start, level) + 1) {
            *count += 1;
        }
    }
    let mut sum = first;
    for count in &mut before {
        sum += *count;
        *count = sum;
    }
    before
}

fn span_of(before: &[u32], cell: usize) -> Span {
    match before.get(cell..cell + 2) {
        Some([first, end]) => Span { first: *first, count: end - first },
        _ => Span::default(),
    }
}

impl Wide {
    pub(super) fn new(runs: Runs<u128>) -> Self {
        if runs.is_empty() {
            return Self::default();
        }
        let (starts, values) = runs.into_parts();
        let before = index(&starts, 0, 0);
        let spans = (0..CELLS).map(|cell| (span_of(&before, cell), cell));
        let mut dense: Vec<(Span, usize)> = spans.filter(|(span, _)| span.count >= DENSE_STARTS).collect();
        dense.sort_by_key(|(span, _)| std::cmp::Reverse(span.count));
        dense.truncate(PAGES_MAX);
        let mut pages = vec![0u16; CELLS];
        let mut before_in_page = Vec::with_capacity(dense.len() * (CELLS + 1));
        for (number, (span, cell)) in (1u16..).zip(&dense) {
            if let Some(page) = pages.get_mut(*cell) {
                *page = number;
            }
            let starts = starts.get(span.first as usize..(span.first + span.count) as usize).unwrap_or_default();
            before_in_page.extend(index(starts, span.first, 1));
        }
        Self {
            before: before.into(),
            pages: pages.into(),
            before_in_page: before_in_page.into(),
            starts: starts.into(),
            values: values.into(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    pub(super) fn runs(&self) -> usize {
        self.values.len()
    }

    pub(super) fn memory_octets(&self) -> usize {
        size_of_val(&*self.before)
            + size_of_val(&*self.pages)
            + size_of_val(&*self.before_in_page)
            + size_of_val(&*self.starts)
            + size_of_val(&*self.values)
    }

    #[inline]
    pub(super) fn span(&self, address: u128) -> Span {
        let first_cell = cell(address, 0);
        let page = self.pages.get(first_cell).copied().unwrap_or(0);
        match usize::from(page).checked_sub(1) {
            None => span_of(&self.before, first_cell),
            Some(page) => span_of(&self.before_in_page, page * (CELLS + 1) + cell(address, 1)),
        }
    }

    fn within(&self, span: Span) -> &[u128] {
        self.starts.get(span.first as usize..(span.first + span.count) as usize).unwrap_or_default()
    }

    /// Loads the start that a search of the span begins with, and returns some of it, for it has no other use.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    pub(super) fn touch(&self, span: Span) -> u32 {
        self.starts.get((span.first + span.count / 2) as usize).map_or(0, |start| *start as u32)
    }

    /// Which run holds the address: the last one that does not begin behind it.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a span is shorter than 2^32")]
    pub(super) fn position(&self, address: u128, span: Span) -> u32 {
        (span.first + rank(self.within(span), address) as u32).saturating_sub(1)
    }

    #[inline]
    pub(super) fn value(&self, position: u32) -> u32 {
        self.values.get(position as usize).copied().unwrap_or(0)
    }
}
