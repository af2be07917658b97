//! What is wrong with a filter, and where: line, column, and a caret under the place.

use std::fmt;
use std::ops::Range;

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct FilterError {
    /// The octet at which the fault begins.
    pub offset: usize,
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub fault: Box<FilterFault>,
    /// The line, and below it a caret for every character at fault.
    pub picture: String,
}

/// What can be wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterFault {
    /// The text is too long.
    #[error("a filter has at most {0} octets (api.query.filter_octets_max)")]
    TooLong(usize),
    /// Parentheses and `not` within each other.
    #[error("a filter is at most {0} deep (api.query.filter_depth_max)")]
    TooDeep(usize),
    /// Too many comparisons.
    #[error("a filter has at most {0} comparisons (api.query.filter_terms_max)")]
    TooManyTerms(usize),
    /// Too many values.
    #[error("a filter has at most {0} values in its lists (api.query.filter_values_max)")]
    TooManyValues(usize),
    /// A character outside of quotes that means nothing.
    #[error("the character {0} means nothing here; texts stand in quotes")]
    Character(Shown),
    /// A quote that is not closed.
    #[error("the quote is not closed")]
    Unclosed,
    /// Something else was expected.
    #[error("{expected} is expected here, not {found}")]
    Expected {
        /// What could stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A word that is none of ours.
    #[error("there is no word {word}{}; the words are {known}", suggestion(.nearest.as_deref()))]
    Word {
        /// The word.
        word: String,
        /// The one that was meant, perhaps.
        nearest: Option<String>,
        /// All words.
        known: String,
    },
    /// An operator that the field does not know.
    #[error("{field} cannot be compared by {operator}: it knows {known}")]
    Operator {
        /// The field's word.
        field: &'static str,
        /// The operator.
        operator: &'static str,
        /// Those that it knows.
        known: &'static str,
    },
    /// A value of another type.
    #[error("{field} is {expected}, which {found} is not{}", suggestion(.nearest.as_deref()))]
    Value {
        /// The field's word.
        field: &'static str,
        /// What it holds.
        expected: String,
        /// What was written.
        found: String,
        /// What was meant, perhaps.
        nearest: Option<String>,
    },
    /// A range that ends before it begins.
    #[error("the range ends before it begins")]
    Backwards,
}

/// A character as it can be shown in a message of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown(pub char);

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_control() { write!(formatter, "U+{:04X}", u32::from(self.0)) } else { write!(formatter, "{}", self.0) }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|word| format!(", did you mean {word}?")).unwrap_or_default()
}

/// A text as it can be shown within a message: of one line, not longer than 40 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(|character| if character.is_control() { ' ' } else { character }).collect();
    if short.chars().count() < text.chars().count() {
        short.push('…');
    }
    if short.is_empty() { "an empty text".to_owned() } else { short }
}

/// Characters of a line that a picture shows before the fault.
const PICTURE_BEFORE: usize = 60;

impl FilterError {
    /// A fault at these octets of `text`.
    #[must_use]
    pub fn new(text: &str, span: Range<usize>, fault: FilterFault) -> Self {
        let offset = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let (before, after) = text.split_at(offset);
        let line = before.matches('\n').count() + 1;
        let head = before.rsplit('\n').next().unwrap_or("");
        let column = head.chars().count() + 1;
        let clean = |character: char| if character.is_control() { ' ' } else { character };
        let left: String = head.chars().skip(column.saturating_sub(PICTURE_BEFORE + 1)).map(clean).collect();
        let right: String = after.split('\n').next().unwrap_or("").chars().take(20).map(clean).collect();
        let width = text.get(offset..span.end.max(offset)).map_or(1, |part| part.chars().count()).clamp(1, right.chars().count().max(1));
        let picture = format!("{left}{right}\n{}{}", " ".repeat(left.chars().count()), "^".repeat(width));
        Self { offset, line, column, fault: Box::new(fault), picture }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_shown_at_its_place() {
        let error = FilterError::new("protocol = udp\nand ört_port = 1", 19..28, FilterFault::Backwards);
        assert_eq!((error.line, error.column, error.offset), (2, 5, 19));
        assert_eq!(error.picture, "and ört_port = 1\n    ^^^^^^^^");
    }
}
