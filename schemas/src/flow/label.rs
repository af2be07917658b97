//! Labels: what the tables of the enrichment say of the rows of a batch, as numbers.

use std::ops::Range;
use std::sync::Arc;

use crate::place::Places;

/// What the tables of the enrichment say of the rows of a batch: all zero until somebody has written them.
///
/// A place is an index into the [`Places`] that are in force while the row is decoded; 0 is the place of which nothing is known.
#[derive(Debug)]
pub struct Labels {
    /// Where the source lies.
    pub source_place: Box<[u32]>,
    /// Where the destination lies.
    pub destination_place: Box<[u32]>,
    /// 1 for a record of traffic that is counted where it crosses another interface; else 0.
    pub is_repeat: Box<[u8]>,
    /// What the places' numbers mean.
    places: Arc<Places>,
    are_written: bool,
}

impl Labels {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            source_place: vec![0; rows].into_boxed_slice(),
            destination_place: vec![0; rows].into_boxed_slice(),
            is_repeat: vec![0; rows].into_boxed_slice(),
            places: Arc::default(),
            are_written: false,
        }
    }

    /// What the places' numbers mean.
    #[must_use]
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// Whether anybody has written labels: if not, all of them are 0.
    #[must_use]
    pub fn are_written(&self) -> bool {
        self.are_written
    }

    /// Says that labels are being written, and what the places' numbers mean.
    pub fn mark_written(&mut self, places: &Arc<Places>) {
        if !Arc::ptr_eq(&self.places, places) {
            self.places = Arc::clone(places);
        }
        self.are_written = true;
    }

    pub(super) fn append(&mut self, from: usize, other: &Self, rows: Range<usize>) {
        if !other.are_written {
            return;
        }
        debug_assert!(from == 0 || !self.are_written || Arc::ptr_eq(&self.places, &other.places), "a batch holds the numbers of one table");
        self.mark_written(&other.places);
        copy(&mut self.source_place, from, &other.source_place, rows.clone());
        copy(&mut self.destination_place, from, &other.destination_place, rows.clone());
        copy(&mut self.is_repeat, from, &other.is_repeat, rows);
    }

    pub(super) fn clear(&mut self, rows: usize) {
        if self.are_written {
            self.source_place.iter_mut().take(rows).for_each(|place| *place = 0);
            self.destination_place.iter_mut().take(rows).for_each(|place| *place = 0);
            self.is_repeat.iter_mut().take(rows).for_each(|is_repeat| *is_repeat = 0);
            self.are_written = false;
        }
    }
}

fn copy<T: Copy>(into: &mut [T], from: usize, values: &[T], rows: Range<usize>) {
    if let (Some(into), Some(values)) = (into.get_mut(from..from + rows.len()), values.get(rows)) {
        into.copy_from_slice(values);
    }
}
