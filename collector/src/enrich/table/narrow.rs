//! The runs of IPv4: an index over the top bits of the address, and behind it the runs of each cell in one piece.

use super::super::run::Runs;
use super::{LANES, Span, rank, rank_of_few};

/// Bits of the address that the index is over: what is left must fit the 16 bits of a start.
const INDEX_BITS: u32 = 18;
/// Cells of the index.
const CELLS: u32 = 1 << INDEX_BITS;
/// Halves of 16 bits that a run takes: its start, and the two of its value.
const RUN_HALVES: usize = 3;

/// The runs of IPv4.
#[derive(Clone, Debug, Default)]
pub(super) struct Narrow {
    /// How many runs lie before each cell of the address space; one more at the end.
    before: Box<[u32]>,
    /// Of each cell the low bits of its runs' starts, then their values: mostly one line of the cache. Every cell begins with a run.
    cells: Box<[u16]>,
    runs: usize,
}

impl Narrow {
    pub(super) fn new(runs: Runs<u32>) -> Self {
        if runs.is_empty() {
            return Self::default();
        }
        let mut rest = runs.iter().peekable();
        let (mut before, mut cells) = (Vec::with_capacity(CELLS as usize + 1), Vec::new());
        let (mut count, mut value) = (0, 0);
        let (mut starts, mut values) = (Vec::new(), Vec::new());
        for cell in 0..CELLS {
            before.push(count);
            if rest.peek().is_none_or(|(start, _)| *start != cell << (32 - INDEX_BITS)) {
                starts.push(0);
                values.extend(halves(value));
            }
            while let Some((start, next)) = rest.next_if(|(start, _)| start >> (32 - INDEX_BITS) == cell) {
                value = next;
                starts.push(low_bits(start));
                values.extend(halves(value));
            }
            count += u32::try_from(starts.len()).unwrap_or(0);
            cells.append(&mut starts);
            cells.append(&mut values);
        }
        before.push(count);
        // So that as many as are looked at side by side are there behind the last cell, too.
        cells.extend([0; LANES]);
        Self { before: before.into(), cells: cells.into(), runs: runs.len() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    pub(super) fn runs(&self) -> usize {
        self.runs
    }

    pub(super) fn memory_octets(&self) -> usize {
        size_of_val(&*self.before) + size_of_val(&*self.cells)
    }

    #[inline]
    pub(super) fn span(&self, address: u32) -> Span {
        let cell = (address >> (32 - INDEX_BITS)) as usize;
        match self.before.get(cell..cell + 2) {
            Some([first, end]) => Span { first: *first, count: end - first, is_paged: false },
            _ => Span::default(),
        }
    }

    /// Loads what the span of an address is told by, and returns it, for it has no other use.
    #[inline]
    pub(super) fn touch_index(&self, address: u32) -> u32 {
        self.before.get((address >> (32 - INDEX_BITS)) as usize).copied().unwrap_or(0)
    }

    /// Loads the begin and the end of the cell, which may be another line of the cache.
    #[inline]
    pub(super) fn touch(&self, span: Span) -> u32 {
        let first = span.first as usize * RUN_HALVES;
        let (begin, end) = (self.cells.get(first), self.cells.get(first + span.count as usize * RUN_HALVES));
        u32::from(begin.copied().unwrap_or(0) ^ end.copied().unwrap_or(0))
    }

    /// What holds for the address: by the last run of its cell that does not begin behind it.
    #[inline]
    pub(super) fn value(&self, address: u32, span: Span) -> u32 {
        let (first, count) = (span.first as usize * RUN_HALVES, span.count as usize);
        let key = low_bits(address);
        let few = self.cells.get(first..first + LANES).and_then(|lanes| lanes.first_chunk()).filter(|_| count <= LANES);
        let rank = match few {
            Some(lanes) => rank_of_few(lanes, count, key),
            None => rank(self.cells.get(first..first + count).unwrap_or_default(), key),
        };
        let at = first + count + 2 * rank.saturating_sub(1);
        match self.cells.get(at..at + 2) {
            Some([high, low]) => u32::from(*high) << 16 | u32::from(*low),
            _ => 0,
        }
    }
}

/// What is left of an address behind the index; the bits above are the same for all of a cell, and do not change their order.
#[inline]
fn low_bits(address: u32) -> u16 {
    (address & ((1 << (32 - INDEX_BITS)) - 1)) as u16
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are taken apart")]
fn halves(value: u32) -> [u16; 2] {
    [(value >> 16) as u16, value as u16]
}
