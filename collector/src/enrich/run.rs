//! The address space cut into runs of one value: what prefixes, files and their overlays are flattened to.

/// A number that addresses of one family are.
pub trait Key: Copy + Ord + Default {
    /// The next one; `None` behind the last.
    fn successor(self) -> Option<Self>;
}

impl Key for u32 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Key for u128 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Addresses from the first to the last, both inclusive, and what holds for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<K> {
    /// The first address.
    pub first: K,
    /// The last address.
    pub last: K,
    /// What holds for them.
    pub value: u32,
}

/// Disjoint runs that cover all addresses of a family, in order; neighbours have different values, and 0 is "nothing".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs<K> {
    /// Where each run begins; the first one at 0.
    starts: Vec<K>,
    /// What holds from the start of the same index up to the next one.
    values: Vec<u32>,
}

impl<K: Key> Default for Runs<K> {
    fn default() -> Self {
        Self { starts: vec![K::default()], values: vec![0] }
    }
}

impl<K: Key> Runs<K> {
    /// Flattens blocks that are nested or disjoint, as prefixes are: the inner one holds, and of two equal ones the later.
    #[must_use]
    pub fn of_blocks(mut blocks: Vec<Block<K>>) -> Self {
        blocks.sort_by(|left, right| left.first.cmp(&right.first).then(right.last.cmp(&left.last)));
        let mut runs = Self::default();
        let mut open: Vec<(K, u32)> = Vec::new();
        for block in blocks {
            while let Some((last, _)) = open.pop_if(|(last, _)| *last < block.first) {
                runs.close(last, &open);
            }
            runs.begin(block.first, block.value);
            open.push((block.last, block.value));
        }
        while let Some((last, _)) = open.pop() {
            runs.close(last, &open);
        }
        runs
    }

    /// Behind the end of a block holds what is around it.
    fn close(&mut self, last: K, around: &[(K, u32)]) {
        if let Some(next) = last.successor() {
            self.begin(next, around.last().map_or(0, |(_, value)| *value));
        }
    }

    /// Adds a block that lies behind all others.
    pub fn append(&mut self, block: Block<K>) {
        self.begin(block.first, block.value);
        self.close(block.last, &[]);
    }

    /// From `start` on `value` holds; `start` is the last one so far or lies behind it.
    fn begin(&mut self, start: K, value: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    /// Lays layers over each other: `combine` is given the value of each and answers the one of all.
    pub fn overlay(layers: &[&Self], mut combine: impl FnMut(&[u32]) -> u32) -> Self {
        let mut sum = Self::default();
        let mut values = vec![0; layers.len()];
        let mut rests: Vec<_> = layers.iter().map(|layer| layer.iter().peekable()).collect();
        while let Some(start) = rests.iter_mut().filter_map(|rest| rest.peek().map(|(start, _)| *start)).min() {
            for (rest, value) in rests.iter_mut().zip(&mut values) {
                if let Some((_, next)) = rest.next_if(|(next, _)| *next == start) {
                    *value = next;
                }
            }
            sum.begin(start, combine(&values));
        }
        sum.starts.shrink_to_fit();
        sum.values.shrink_to_fit();
        sum
    }

    /// The runs in order: where each begins and what holds from there.
    pub fn iter(&self) -> impl Iterator<Item = (K, u32)> {
        self.starts.iter().copied().zip(self.values.iter().copied())
    }

    /// The number of runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether nothing holds anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.as_slice() == [0]
    }

    /// Starts and values by themselves.
    #[must_use]
    pub fn into_parts(self) -> (Vec<K>, Vec<u32>) {
        (self.starts, self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: u32, last: u32, value: u32) -> Block<u32> {
        Block { first, last, value }
    }

    fn parts(runs: &Runs<u32>) -> Vec<(u32, u32)> {
        runs.iter().collect()
    }

    #[test]
    fn the_inner_block_holds_and_of_equal_ones_the_later() {
        let runs = Runs::of_blocks(vec![block(0, 99, 1), block(10, 19, 2), block(10, 19, 3), block(90, 99, 4)]);
        assert_eq!(parts(&runs), [(0, 1), (10, 3), (20, 1), (90, 4), (100, 0)]);
    }

    #[test]
    fn neighbours_of_one_value_are_one_run() {
        let runs = Runs::of_blocks(vec![block(0, 9, 1), block(10, 19, 1), block(12, 15, 1), block(u32::MAX - 1, u32::MAX, 2)]);
        assert_eq!(parts(&runs), [(0, 1), (20, 0), (u32::MAX - 1, 2)]);
        let mut appended = Runs::default();
        appended.append(block(0, 9, 1));
        appended.append(block(10, 19, 1));
        appended.append(block(u32::MAX - 1, u32::MAX, 2));
        assert_eq!(appended, runs);
        assert!(Runs::<u32>::of_blocks(Vec::new()).is_empty());
    }

    #[test]
    fn layers_are_combined_wherever_one_of_them_changes() {
        let (one, two) = (Runs::of_blocks(vec![block(0, 19, 1)]), Runs::of_blocks(vec![block(10, 29, 2)]));
        assert_eq!(parts(&Runs::overlay(&[&one, &two], |values| values.iter().sum())), [(0, 1), (10, 3), (20, 2), (30, 0)]);
        assert!(Runs::<u32>::overlay(&[], |_| 7).is_empty());
    }
}
