//! A filter's text as words, texts and signs, each with its place.

use std::ops::Range;

use super::fault::{FilterError, FilterFault, Shown};

/// What stands at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Letters, digits and `_ . : / + -`: a word, a number, an address, a prefix.
    Word(String),
    /// A text that stood in quotes.
    Quoted(String),
    /// `= != < <= > >=`.
    Sign(&'static str),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `..`
    Dots,
}

/// A token and the octets that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What.
    pub token: Token,
    /// Where.
    pub span: Range<usize>,
}

/// The tokens of a text, in order.
///
/// # Errors
///
/// [`FilterFault::Character`], [`FilterFault::Unclosed`].
pub fn tokens(text: &str) -> Result<Vec<Placed>, FilterError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, octets) = if matches!(first, '"' | '\'') { quoted(text, at, first)? } else { plain(text, at, rest, first)? };
        found.push(Placed { token, span: at..at + octets });
        at += octets;
    }
    Ok(found)
}

fn plain(text: &str, at: usize, rest: &str, first: char) -> Result<(Token, usize), FilterError> {
    // The longer ones go first.
    for sign in ["!=", "<=", ">=", "=", "<", ">"] {
        if rest.starts_with(sign) {
            return Ok((Token::Sign(sign), sign.len()));
        }
    }
    for (sign, token) in [("..", Token::Dots), ("(", Token::Open), (")", Token::Close), (",", Token::Comma)] {
        if rest.starts_with(sign) {
            return Ok((token, sign.len()));
        }
    }
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | ':' | '/' | '+' | '-');
    let end = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
    let word = rest.get(..end).unwrap_or(rest);
    let word = word.find("..").and_then(|dots| word.get(..dots)).unwrap_or(word);
    if word.is_empty() {
        return Err(FilterError::new(text, at..at + first.len_utf8(), FilterFault::Character(Shown(first))));
    }
    Ok((Token::Word(word.to_owned()), word.len()))
}

/// A text in quotes; a backslash takes the character behind it as it is.
fn quoted(text: &str, at: usize, quote: char) -> Result<(Token, usize), FilterError> {
    let mut value = String::new();
    let mut is_escaped = false;
    for (offset, character) in text.get(at..).unwrap_or("").char_indices().skip(1) {
        if is_escaped {
            value.push(character);
            is_escaped = false;
        } else if character == '\\' {
            is_escaped = true;
        } else if character == quote {
            return Ok((Token::Quoted(value), offset + quote.len_utf8()));
        } else {
            value.push(character);
        }
    }
    Err(FilterError::new(text, at..text.len(), FilterFault::Unclosed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_ranges_addresses_and_texts_are_told_apart() {
        let word = |text: &str| Token::Word(text.to_owned());
        let read: Vec<Token> =
            tokens("src_port in 1024..2048, 2001:db8::/32<='a\\'b'").unwrap().into_iter().map(|placed| placed.token).collect();
        let expected = [
            word("src_port"),
            word("in"),
            word("1024"),
            Token::Dots,
            word("2048"),
            Token::Comma,
            word("2001:db8::/32"),
            Token::Sign("<="),
            Token::Quoted("a'b".to_owned()),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn what_means_nothing_is_named_with_its_place() {
        assert_eq!(tokens("a = ; drop").unwrap_err().column, 5);
        assert_eq!(tokens("a = 'open").unwrap_err().fault.as_ref(), &FilterFault::Unclosed);
        assert_eq!(tokens("ä").unwrap_err().fault.as_ref(), &FilterFault::Character(Shown('ä')));
    }
}
