//! Customers and sites by prefix: out of the config, and out of a CSV file that another system writes.

use csv::{ReaderBuilder, StringRecord, Trim};
use schemas::net::{Prefix, PrefixError};
use schemas::place::Place;

use super::config::Assignment;
use super::layer::{Layer, overlay};
use super::load::LoadError;
use super::table::runs_of_prefixes;

/// Lines that tell nothing and are told with their reasons; all of them are counted.
const REFUSED_TOLD_MAX: usize = 100;

/// Who has prefixes in a config's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A customer.
    Customer,
    /// A site.
    Site,
}

/// What a file's lines tell, and which of them are passed over.
#[derive(Debug, Default)]
pub struct Lines {
    /// What the others tell.
    pub layer: Layer,
    /// Number and reason of the first of those that tell nothing.
    pub refused: Vec<(u64, String)>,
    /// How many there are of them.
    pub refused_count: u64,
}

impl Lines {
    fn refuse(&mut self, line: u64, reason: String) {
        self.refused_count += 1;
        if self.refused.len() < REFUSED_TOLD_MAX {
            self.refused.push((line, reason));
        }
    }
}

/// A column of a file that tells something of prefixes, each by itself: who is a prefix's customer and not its site has the site of
/// the prefix around it.
#[derive(Debug)]
struct Column {
    name: &'static str,
    index: usize,
    layer: Layer,
    prefixes: Vec<(Prefix, u32)>,
}

impl Column {
    /// Takes a field that is not empty.
    fn take(&mut self, prefix: Prefix, field: &str) -> Result<(), String> {
        let mut place = Place { prefix_length: prefix.length(), ..Place::default() };
        match self.name {
            "customer" => place.customer = self.layer.places.name(field),
            "site" => place.site = self.layer.places.name(field),
            _ => {
                let digits = field.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
                place.autonomous_system = digits.parse().map_err(|_| format!("{field} is no number of an autonomous system"))?;
            }
        }
        self.prefixes.push((prefix, self.layer.places.number(&place).unwrap_or(0)));
        Ok(())
    }
}

/// The layer of a list of the config.
#[must_use]
pub fn of_config(owner: Owner, assignments: &[Assignment]) -> Layer {
    let mut layer = Layer::default();
    let mut prefixes = Vec::new();
    for Assignment { name, prefixes: own } in assignments {
        let name = layer.places.name(name);
        for prefix in own {
            let mut place = Place { prefix_length: prefix.length(), ..Place::default() };
            match owner {
                Owner::Customer => place.customer = name,
                Owner::Site => place.site = name,
            }
            prefixes.push((*prefix, layer.places.number(&place).unwrap_or(0)));
        }
    }
    layer.prefixes = prefixes.len();
    (layer.v4, layer.v6) = runs_of_prefixes(prefixes);
    layer
}

/// What a CSV file tells: a header that names `prefix` and one or more of `customer`, `site` and `as` in any order, further columns
/// aside. The prefixes of autonomous systems are the routed ones.
///
/// # Errors
///
/// If the header has no such columns, more than `prefixes_max` lines follow, or lines follow and all of them are bad. Otherwise a bad
/// line is passed over and told.
pub fn of_csv(octets: &[u8], prefixes_max: usize) -> Result<Lines, LoadError> {
    // A byte order mark is no part of the first column's name.
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    let mut reader = ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).flexible(true).from_reader(octets);
    let header = reader.headers().map_err(|error| LoadError::Csv(error.to_string()))?.clone();
    let index = |name: &str| header.iter().position(|field| field.eq_ignore_ascii_case(name));
    let of_prefix = index("prefix").ok_or(LoadError::Column("prefix"))?;
    let column = |name| index(name).map(|index| Column { name, index, layer: Layer::default(), prefixes: Vec::new() });
    let mut columns: Vec<Column> = ["as", "customer", "site"].into_iter().filter_map(column).collect();
    if columns.is_empty() {
        return Err(LoadError::Column("customer, site or as"));
    }
    let mut lines = Lines::default();
    let (mut record, mut read, mut taken) = (StringRecord::new(), 0, 0);
    loop {
        let outcome = reader.read_record(&mut record);
        if matches!(outcome, Ok(false)) {
            break;
        }
        read += 1;
        if read > prefixes_max {
            return Err(LoadError::TooManyPrefixes { prefixes_max });
        }
        let told = match &outcome {
            Ok(_) => take_line(&record, of_prefix, &mut columns),
            Err(error) => Err(error.to_string()),
        };
        match told {
            Ok(()) => taken += 1,
            Err(reason) => {
                let position = outcome.as_ref().map_or_else(csv::Error::position, |_| record.position());
                lines.refuse(position.map_or(0, |position| line_of(octets, position)), reason);
            }
        }
    }
    // What is not one of ours at all, but for its header, must not take the place of what is known.
    if let (0, Some((line, reason))) = (taken, lines.refused.first()) {
        return Err(LoadError::NoLine { line: *line, reason: reason.clone() });
    }
    for column in &mut columns {
        (column.layer.v4, column.layer.v6) = runs_of_prefixes(std::mem::take(&mut column.prefixes));
    }
    let layers: Vec<&Layer> = columns.iter().map(|column| &column.layer).collect();
    lines.layer = overlay(&layers, usize::MAX).0;
    lines.layer.prefixes = taken;
    Ok(lines)
}

/// Takes what a line tells of its prefix.
fn take_line(record: &StringRecord, of_prefix: usize, columns: &mut [Column]) -> Result<(), String> {
    let prefix: Prefix = record.get(of_prefix).unwrap_or_default().parse().map_err(|error: PrefixError| error.to_string())?;
    let mut tells = false;
    for column in columns {
        let field = record.get(column.index).unwrap_or_default();
        if !field.is_empty() {
            column.take(prefix, field)?;
            tells = true;
        }
    }
    if tells { Ok(()) } else { Err(format!("nothing is told of {prefix}")) }
}

/// The line of a record: the reader's position is where the record before it ends, in front of empty lines and remarks.
fn line_of(octets: &[u8], position: &csv::Position) -> u64 {
    let rest = usize::try_from(position.byte()).ok().and_then(|offset| octets.get(offset..)).unwrap_or_default();
    let is_passed_over = |line: &&[u8]| line.starts_with(b"#") || matches!(line, [] | [b'\r']);
    let passed_over = rest.split(|octet| *octet == b'\n').take_while(is_passed_over).count();
    position.line() + passed_over as u64
}
