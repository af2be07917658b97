//! A filter's text as a typed tree: `and`, `or`, `not`, parentheses, and comparisons, each checked for type where it stands.

use std::ops::Range;

use super::Bounds;
use super::dimension::{EITHER, Field, either_end, nearest};
use super::fault::{FilterError, FilterFault, shown};
use super::filter::Filter;
use super::lexer::{Placed, Token, tokens};
use super::value::{self, Item, Operator};

/// Deeper than this no configuration lets a filter be: the parser calls itself.
const DEPTH_MAX: usize = 200;

/// Reads a filter; of a text without any word, `None`.
///
/// # Errors
///
/// The first [`FilterError`], with its place.
pub fn parse(text: &str, bounds: &Bounds) -> Result<Option<Filter>, FilterError> {
    if text.len() > bounds.filter_octets_max {
        return Err(FilterError::new(text, bounds.filter_octets_max..text.len(), FilterFault::TooLong(bounds.filter_octets_max)));
    }
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser { text, tokens, at: 0, depth: 0, terms: 0, values: 0, bounds };
    let filter = parser.any()?;
    match parser.peek() {
        None => Ok(Some(filter)),
        Some(_) => Err(parser.expected("and, or or the end of the filter")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
    terms: usize,
    values: usize,
    bounds: &'a Bounds,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|placed| &placed.token)
    }

    /// Where the next token stands; behind the last one, the end of the text.
    fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).map_or(self.text.len()..self.text.len(), |placed| placed.span.clone())
    }

    fn error(&self, span: Range<usize>, fault: FilterFault) -> FilterError {
        FilterError::new(self.text, span, fault)
    }

    fn expected(&self, expected: &'static str) -> FilterError {
        let found = self.tokens.get(self.at).map_or("the end", |placed| self.text.get(placed.span.clone()).unwrap_or(""));
        self.error(self.span(), FilterFault::Expected { expected, found: shown(found) })
    }

    /// Takes the next token if it is this one.
    fn takes(&mut self, token: &Token) -> bool {
        let is_it = self.peek() == Some(token);
        self.at += usize::from(is_it);
        is_it
    }

    /// Takes the next token if it is this word.
    fn takes_word(&mut self, word: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Word(own)) if own.eq_ignore_ascii_case(word));
        self.at += usize::from(is_it);
        is_it
    }

    /// Parts between `or`.
    fn any(&mut self) -> Result<Filter, FilterError> {
        let mut parts = vec![self.all()?];
        while self.takes_word("or") {
            parts.push(self.all()?);
        }
        Ok(joined(parts, Filter::Any))
    }

    /// Parts between `and`, which binds more tightly than `or`.
    fn all(&mut self) -> Result<Filter, FilterError> {
        let mut parts = vec![self.part()?];
        while self.takes_word("and") {
            parts.push(self.part()?);
        }
        Ok(joined(parts, Filter::All))
    }

    /// `not …`, `( … )`, or a comparison.
    fn part(&mut self) -> Result<Filter, FilterError> {
        let span = self.span();
        let is_not = self.takes_word("not");
        if !is_not && !self.takes(&Token::Open) {
            return self.comparison();
        }
        self.depth += 1;
        let max = self.bounds.filter_depth_max.min(DEPTH_MAX);
        if self.depth > max {
            return Err(self.error(span, FilterFault::TooDeep(max)));
        }
        let filter = if is_not { Filter::Not(Box::new(self.part()?)) } else { self.any()? };
        if !is_not && !self.takes(&Token::Close) {
            return Err(self.expected("and, or or a closing parenthesis"));
        }
        self.depth -= 1;
        Ok(filter)
    }

    fn comparison(&mut self) -> Result<Filter, FilterError> {
        let span = self.span();
        let fields = self.fields()?;
        self.terms += fields.len();
        if self.terms > self.bounds.filter_terms_max {
            return Err(self.error(span, FilterFault::TooManyTerms(self.bounds.filter_terms_max)));
        }
        let operator_span = self.span();
        let (operator, negation) = self.operator()?;
        let items = self.items(operator)?;
        let mut tests = Vec::new();
        for field in fields {
            let set = value::set(field, operator, &items).map_err(|(place, fault)| {
                let span = place.unwrap_or_else(|| operator_span.clone());
                self.error(span, fault)
            })?;
            let test = Filter::Test(field, set);
            tests.push(if negation == Negation::Each { Filter::Not(Box::new(test)) } else { test });
        }
        let filter = joined(tests, Filter::Any);
        Ok(if negation == Negation::Whole { Filter::Not(Box::new(filter)) } else { filter })
    }

    /// The field that a word names, or both that it stands for.
    fn fields(&mut self) -> Result<Vec<Field>, FilterError> {
        let Some(Token::Word(word)) = self.peek() else {
            return Err(self.expected("a word like src_address, or not, or a parenthesis"));
        };
        let found = match (Field::of(word), either_end(word)) {
            (Some(field), _) => vec![field],
            (None, Some((source, destination))) => vec![source, destination],
            (None, None) => {
                let words = || Field::ALL.iter().map(|field| field.word()).chain(EITHER.iter().map(|(word, _, _)| *word));
                let fault = FilterFault::Word {
                    word: shown(word),
                    nearest: nearest(word, words()).map(str::to_owned),
                    known: words().collect::<Vec<_>>().join(", "),
                };
                return Err(self.error(self.span(), fault));
            }
        };
        self.at += 1;
        Ok(found)
    }

    /// The operator, and of what it is the opposite.
    fn operator(&mut self) -> Result<(Operator, Negation), FilterError> {
        if let Some(Token::Sign(sign)) = self.peek() {
            let sign = *sign;
            self.at += 1;
            return Ok(match sign {
                "!=" => (Operator::Equal, Negation::Whole),
                "<" => (Operator::Less, Negation::None),
                "<=" => (Operator::More, Negation::Each),
                ">" => (Operator::More, Negation::None),
                ">=" => (Operator::Less, Negation::Each),
                _ => (Operator::Equal, Negation::None),
            });
        }
        let negation = if self.takes_word("not") { Negation::Whole } else { Negation::None };
        if self.takes_word("in") {
            Ok((Operator::In, negation))
        } else if self.takes_word("has") {
            Ok((Operator::Has, negation))
        } else {
            Err(self.expected(if negation == Negation::Whole { "in or has" } else { "one of = != < <= > >= in, not in, has, not has" }))
        }
    }

    /// What is compared with: one value, or for `in` a list or range.
    fn items(&mut self, operator: Operator) -> Result<Vec<Item>, FilterError> {
        if operator != Operator::In || !self.takes(&Token::Open) {
            return Ok(vec![self.item(operator == Operator::In)?]);
        }
        let mut items = vec![self.item(true)?];
        while self.takes(&Token::Comma) {
            items.push(self.item(true)?);
        }
        if self.takes(&Token::Close) { Ok(items) } else { Err(self.expected("a comma or a closing parenthesis")) }
    }

    fn item(&mut self, may_be_range: bool) -> Result<Item, FilterError> {
        self.values += 1;
        if self.values > self.bounds.filter_values_max {
            return Err(self.error(self.span(), FilterFault::TooManyValues(self.bounds.filter_values_max)));
        }
        let start = self.span();
        let (text, is_quoted) = self.value()?;
        let mut item = Item { text, is_quoted, last: None, span: start };
        if self.peek() == Some(&Token::Dots) {
            if !may_be_range {
                return Err(self.expected("the end of the comparison; a range stands behind `in`"));
            }
            self.at += 1;
            item.span.end = self.span().end;
            item.last = Some(self.value()?.0);
        }
        Ok(item)
    }

    fn value(&mut self) -> Result<(String, bool), FilterError> {
        let read = match self.peek() {
            Some(Token::Word(text)) => (text.clone(), false),
            Some(Token::Quoted(text)) => (text.clone(), true),
            _ => return Err(self.expected("a value")),
        };
        self.at += 1;
        Ok(read)
    }
}

/// What an operator is the opposite of, for a word that stands for either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Negation {
    None,
    /// Of the test of each end: `port >= 1024` is one of them not below it.
    Each,
    /// Of the whole: `port != 53` is neither of them 53.
    Whole,
}

/// One part as it is, several under one roof.
fn joined(mut parts: Vec<Filter>, join: fn(Vec<Filter>) -> Filter) -> Filter {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            parts.extend(last);
            join(parts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::Set;
    use super::*;

    fn read(text: &str) -> Filter {
        parse(text, &Bounds::default()).unwrap_or_else(|error| panic!("{text}: {error}")).unwrap()
    }

    fn fault(text: &str) -> FilterError {
        parse(text, &Bounds::default()).expect_err(text)
    }

    fn numbers(field: Field, ranges: &[(u64, u64)]) -> Filter {
        Filter::Test(field, Set::Numbers(ranges.to_vec()))
    }

    #[test]
    fn the_example_of_the_contract_is_read() {
        let prefix: schemas::net::Prefix = "203.0.113.0/24".parse().unwrap();
        let expected = Filter::All(vec![
            Filter::Test(Field::DestinationAddress, Set::Addresses(vec![(prefix.first(), prefix.last())])),
            numbers(Field::Protocol, &[(17, 17)]),
            numbers(Field::SourcePort, &[(53, 53), (123, 123)]),
        ]);
        assert_eq!(read("dst_address in 203.0.113.0/24 and protocol = udp and src_port in (53, 123)"), expected);
    }

    #[test]
    fn and_binds_more_tightly_than_or_and_not_more_than_both() {
        let (a, b, c) = (numbers(Field::SourceAs, &[(1, 1)]), numbers(Field::SourceAs, &[(2, 2)]), numbers(Field::SourceAs, &[(3, 3)]));
        let not = |filter: &Filter| Filter::Not(Box::new(filter.clone()));
        assert_eq!(
            read("src_as = 1 or src_as = AS2 and NOT src_as = as3"),
            Filter::Any(vec![a.clone(), Filter::All(vec![b.clone(), not(&c)])])
        );
        assert_eq!(read("not (src_as = 1 or src_as = 2)"), not(&Filter::Any(vec![a, b])));
        assert_eq!(read("src_as != 3"), not(&c));
    }

    #[test]
    fn comparisons_are_ranges_and_either_end_is_both() {
        assert_eq!(read("dst_port < 1024"), numbers(Field::DestinationPort, &[(0, 1_023)]));
        assert_eq!(read("dst_port >= 1024"), Filter::Not(Box::new(numbers(Field::DestinationPort, &[(0, 1_023)]))));
        assert_eq!(read("dst_port > 65535"), numbers(Field::DestinationPort, &[]));
        assert_eq!(read("octets > 10k"), numbers(Field::Octets, &[(10_001, u64::MAX)]));
        let both = Filter::Any(vec![numbers(Field::SourcePort, &[(1_024, 2_048)]), numbers(Field::DestinationPort, &[(1_024, 2_048)])]);
        assert_eq!(read("port in 1024..2048"), both);
        assert_eq!(read("port not in 1024..2048"), Filter::Not(Box::new(both)));
    }

    #[test]
    fn texts_flags_and_countries_are_read() {
        let texts = |field, texts: &[&str]| Filter::Test(field, Set::Texts(texts.iter().map(|text| (*text).to_owned()).collect()));
        assert_eq!(read("src_customer = 'O\\'Neill; DROP'"), texts(Field::SourceCustomer, &["O'Neill; DROP"]));
        assert_eq!(read("src_country in (de, FR)"), texts(Field::SourceCountry, &["DE", "FR"]));
        assert_eq!(read("tcp_flags = syn+ack"), numbers(Field::TcpFlags, &[(0x12, 0x12)]));
        assert_eq!(read("tcp_flags not has syn"), Filter::Not(Box::new(Filter::Test(Field::TcpFlags, Set::Bits(2)))));
        assert_eq!(parse(" \n", &Bounds::default()), Ok(None));
    }

    #[test]
    fn a_fault_says_where_it_is_and_what_was_meant() {
        let error = fault("protocol = udp and scr_port = 53");
        assert_eq!((error.offset, error.column), (19, 20));
        assert!(
            error
                .to_string()
                .starts_with("line 1, column 20: there is no word scr_port, did you mean src_port?; the words are src_address,")
        );
        assert_eq!(error.picture, "protocol = udp and scr_port = 53\n                   ^^^^^^^^");
        assert_eq!(
            fault("protocol = upd").to_string().split(": ").nth(1),
            Some("protocol is a protocol's name or its number to 255, which upd is not, did you mean udp?")
        );
        assert_eq!(fault("src_address < 10.0.0.1").column, 13);
        assert_eq!(fault("src_address = 10.0.0.0/8").column, 15);
        assert_eq!(fault("src_port = 65536").column, 12);
        assert_eq!(*fault("src_port in 20..10").fault, FilterFault::Backwards);
        assert_eq!(fault("src_port = 1..2").column, 13);
        assert_eq!(fault("src_address in 10.0.0.1/8").column, 16);
        assert_eq!(fault("(src_port = 1").offset, 13);
        assert_eq!(fault("src_port = 1 src_port = 2").column, 14);
        assert_eq!(fault("src_port = 1\nand").line, 2);
    }

    #[test]
    fn every_bound_is_held_and_names_its_key() {
        let small = Bounds { filter_octets_max: 40, filter_depth_max: 2, filter_terms_max: 2, filter_values_max: 3 };
        let fault = |text: &str| *parse(text, &small).unwrap_err().fault;
        assert_eq!(fault(&"x".repeat(41)), FilterFault::TooLong(40));
        assert_eq!(fault("(((src_as=1)))"), FilterFault::TooDeep(2));
        assert_eq!(fault("src_as=1 or src_as=2 or src_as=3"), FilterFault::TooManyTerms(2));
        assert_eq!(fault("src_as in (1, 2, 3, 4)"), FilterFault::TooManyValues(3));
        assert!(parse("((src_as in (1, 2, 3)))", &small).is_ok());
    }

    #[test]
    fn bombs_end_at_a_bound() {
        let wide = Bounds { filter_octets_max: 10_000_000, filter_depth_max: usize::MAX, filter_terms_max: 100, filter_values_max: 100 };
        let fault = |text: &str| *parse(text, &wide).unwrap_err().fault;
        assert_eq!(fault(&"(".repeat(1_000_000)), FilterFault::TooDeep(DEPTH_MAX));
        assert_eq!(fault(&"not ".repeat(1_000_000)), FilterFault::TooDeep(DEPTH_MAX));
        assert_eq!(fault(&format!("src_port in ({})", "1,".repeat(100_000))), FilterFault::TooManyValues(100));
        assert_eq!(fault(&"port = 1 or ".repeat(10_000)), FilterFault::TooManyTerms(100));
    }
}
