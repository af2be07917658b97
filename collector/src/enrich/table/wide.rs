//! The runs of IPv6: an index over the top 16 bits, pages over the next 16 where many runs lie, and the starts.

use super::super::run::Runs;
use super::{LANES, Span, rank, rank_of_few};

/// Cells of the index and of a page: 16 bits each.
const CELLS: usize = 1 << 16;
/// Starts in a cell from which on it gets a page of its own.
const DENSE_STARTS: u32 = 512;
/// Pages of 256 KiB; the densest cells have them. What is assigned by 2026 lies in some seventy cells.
const PAGES_MAX: usize = 128;

/// The runs of IPv6.
#[derive(Clone, Debug, Default)]
pub(super) struct Wide {
    /// How many starts lie before each cell of the address space; one more at the end.
    before: Box<[u32]>,
    /// The number of each cell's page, from 1; 0 for none.
    pages: Box<[u16]>,
    /// The same as `before`, for each page.
    before_in_page: Box<[u32]>,
    starts: Box<[u128]>,
    /// Of each start the 32 bits behind those that a page is found by: what tells the starts of a page's cell apart.
    middles: Box<[u32]>,
    values: Box<[u32]>,
    /// Whether any start has bits behind these: then two starts may have the same.
    is_deep: bool,
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

/// The 32 bits of an address behind those that a page is found by.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "32 bits are wanted")]
fn middle(address: u128) -> u32 {
    (address >> 64) as u32
}

fn span_of(before: &[u32], cell: usize, is_paged: bool) -> Span {
    match before.get(cell..cell + 2) {
        Some([first, end]) => Span { first: *first, count: end - first, is_paged },
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
        let spans = (0..CELLS).map(|cell| (span_of(&before, cell, false), cell));
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
        let middles = starts.iter().copied().map(middle).chain([0; LANES]).collect();
        let is_deep = starts.iter().any(|start| start << 64 != 0);
        Self {
            before: before.into(),
            pages: pages.into(),
            before_in_page: before_in_page.into(),
            starts: starts.into(),
            middles,
            values: values.into(),
            is_deep,
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
            + size_of_val(&*self.middles)
            + size_of_val(&*self.values)
    }

    #[inline]
    pub(super) fn span(&self, address: u128) -> Span {
        let first_cell = cell(address, 0);
        let page = self.pages.get(first_cell).copied().unwrap_or(0);
        match usize::from(page).checked_sub(1) {
            None => span_of(&self.before, first_cell, false),
            Some(page) => span_of(&self.before_in_page, page * (CELLS + 1) + cell(address, 1), true),
        }
    }

    /// Loads what the span of an address is told by, and returns it, for it has no other use.
    #[inline]
    pub(super) fn touch_index(&self, address: u128) -> u32 {
        let first_cell = cell(address, 0);
        let page = self.pages.get(first_cell).copied().unwrap_or(0);
        match usize::from(page).checked_sub(1) {
            None => self.before.get(first_cell).copied().unwrap_or(0),
            Some(page) => self.before_in_page.get(page * (CELLS + 1) + cell(address, 1)).copied().unwrap_or(0),
        }
    }

    /// Loads what a search of the span begins with, and returns some of it, for it has no other use.
    #[inline]
    pub(super) fn touch(&self, span: Span) -> u32 {
        let (middle, value) = (self.middles.get(span.first as usize), self.values.get(span.first as usize));
        middle.copied().unwrap_or(0) ^ value.copied().unwrap_or(0)
    }

    /// What holds for the address: by the last run that does not begin behind it.
    #[inline]
    pub(super) fn value(&self, address: u128, span: Span) -> u32 {
        let (first, count) = (span.first as usize, span.count as usize);
        let rank = if span.is_paged {
            let key = middle(address);
            let few = self.middles.get(first..first + LANES).and_then(|lanes| lanes.first_chunk()).filter(|_| count <= LANES);
            match few {
                Some(lanes) => rank_of_few(lanes, count, key),
                None => rank(self.middles.get(first..first + count).unwrap_or_default(), key),
            }
        } else {
            rank(self.starts.get(first..first + count).unwrap_or_default(), address)
        };
        // None of the span: the run that began before it goes on.
        let mut position = (first + rank).saturating_sub(1);
        while self.is_deep && self.starts.get(position).is_some_and(|start| *start > address) {
            position -= 1;
        }
        self.values.get(position).copied().unwrap_or(0)
    }
}
