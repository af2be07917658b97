//! A set of columns, as bits.

use super::Column;

/// A set of columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnSet(pub u64);

const _: () = assert!(Column::ALL.len() <= 64);

impl ColumnSet {
    /// The set of `columns`.
    #[must_use]
    pub const fn of(columns: &[Column]) -> Self {
        let mut bits = 0;
        let mut rest = columns;
        while let [column, tail @ ..] = rest {
            bits |= 1 << *column as u8;
            rest = tail;
        }
        Self(bits)
    }

    /// Whether `column` is in the set.
    #[must_use]
    pub const fn has(self, column: Column) -> bool {
        self.0 >> column as u8 & 1 == 1
    }

    /// The set with `column` in it.
    #[must_use]
    pub const fn with(self, column: Column) -> Self {
        Self(self.0 | 1 << column as u8)
    }

    /// The set without `column`.
    #[must_use]
    pub const fn without(self, column: Column) -> Self {
        Self(self.0 & !(1 << column as u8))
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any column is in both sets.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
