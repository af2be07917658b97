//! The runs of IPv4: an index over the top bits of the address, and the low 16 bits of each start.

use super::super::run::Runs;
use super::{Span, rank};

/// Bits of the address that the index is over: what is left must fit the 16 bits of a start.
const INDEX_BITS: u32 = 18;
/// Cells of the index.
const CELLS: usize = 1 << INDEX_BITS;

/// The runs of IPv4.
#[derive(Clone, Debug)]
pub(super) struct Narrow {
    /// How many starts lie before each cell of the address space; one more at the end.
    before: Box<[u32]>,
    /// The low 16 bits of each start.
    starts: Box<[u16]>,
    values: Box<[u32]>,
}

impl Default for Narrow {
    fn default() -> Self {
        // So small that nobody minds it where no table is configured.
        Self { before: Box::default(), starts: Box::default(), values: Box::from([0]) }
    }
}

impl Narrow {
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are wanted; there are at most 2^32 starts, and none is at 2^32")]
    pub(super) fn new(runs: Runs<u32>) -> Self {
        if runs.is_empty() {
            return Self::default();
        }
        let (starts, values) = runs.into_parts();
        let mut before = vec![0u32; CELLS + 1];
        for start in &starts {
            if let Some(count) = before.get_mut((start >> (32 - INDEX_BITS)) as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for count in &mut before {
            sum += *count;
            *count = sum;
        }
        Self { before: before.into(), starts: starts.iter().map(|start| *start as u16).collect(), values: values.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    pub(super) fn runs(&self) -> usize {
        self.values.len()
    }

    pub(super) fn memory_octets(&self) -> usize {
        size_of_val(&*self.before) + size_of_val(&*self.starts) + size_of_val(&*self.values)
    }

    #[inline]
    pub(super) fn span(&self, address: u32) -> Span {
        let cell = (address >> (32 - INDEX_BITS)) as usize;
        match self.before.get(cell..cell + 2) {
            Some([first, end]) => Span { first: *first, count: end - first },
            _ => Span::default(),
        }
    }

    fn within(&self, span: Span) -> &[u16] {
        self.starts.get(span.first as usize..(span.first + span.count) as usize).unwrap_or_default()
    }

    /// Loads the start that a search of the span begins with, and returns it, for it has no other use.
    #[inline]
    pub(super) fn touch(&self, span: Span) -> u32 {
        self.starts.get((span.first + span.count / 2) as usize).copied().map_or(0, u32::from)
    }

    /// Which run holds the address: the last one that does not begin behind it.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are wanted; a span is shorter than 2^32")]
    pub(super) fn position(&self, address: u32, span: Span) -> u32 {
        // What is left of the address behind the index: starts of one cell are in order by it.
        (span.first + rank(self.within(span), address as u16) as u32).saturating_sub(1)
    }

    #[inline]
    pub(super) fn value(&self, position: u32) -> u32 {
        self.values.get(position as usize).copied().unwrap_or(0)
    }
}
