//! A sample of different addresses by which two sets of sources are compared: the smallest of their hashes (Bar-Yossef and others, 2002).

/// Hashes that are kept.
const SIZE: usize = 64;

/// The smallest hashes of this span and of the one before.
#[derive(Debug, Default)]
pub(super) struct Sample {
    generations: [Vec<u64>; 2],
}

impl Sample {
    /// Takes a well mixed hash of a value; the same on all shards.
    #[inline]
    pub(super) fn add(&mut self, hash: u64) {
        let [current, _] = &mut self.generations;
        if current.len() >= SIZE && current.last().is_some_and(|largest| hash >= *largest) {
            return;
        }
        if let Err(place) = current.binary_search(&hash) {
            current.truncate(SIZE - 1);
            current.insert(place, hash);
        }
    }

    /// Begins a new span; what came before the last one is forgotten.
    pub(super) fn fade(&mut self) {
        let [current, last] = &mut self.generations;
        std::mem::swap(current, last);
        current.clear();
    }

    pub(super) fn clear(&mut self) {
        self.generations.iter_mut().for_each(Vec::clear);
    }

    /// The smallest hashes of both spans, ascending.
    pub(super) fn hashes(&self) -> Vec<u64> {
        let mut hashes = self.generations.concat();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(SIZE);
        hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_are_kept_each_once_and_for_two_spans() {
        let mut sample = Sample::default();
        (0..1_000).rev().chain(0..1_000).for_each(|hash| sample.add(hash));
        assert_eq!(sample.hashes(), (0..64).collect::<Vec<u64>>());
        sample.fade();
        sample.add(7);
        sample.add(500);
        assert_eq!(sample.hashes(), (0..64).collect::<Vec<u64>>());
        sample.fade();
        assert_eq!(sample.hashes(), [7, 500]);
    }
}
