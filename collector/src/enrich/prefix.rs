//! Customers and sites by prefix: out of the config, and out of a CSV file that another system writes.

use csv::{ReaderBuilder, StringRecord, Trim};
use schemas::net::Prefix;
use schemas::place::Place;

use super::config::Assignment;
use super::layer::Layer;
use super::load::LoadError;
use super::table::runs_of_prefixes;

/// Who has prefixes in a config's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A customer.
    Customer,
    /// A site.
    Site,
}

/// What a file's lines tell, and which of them are passed over: number and reason.
#[derive(Debug)]
pub struct Lines {
    /// What the others tell.
    pub layer: Layer,
    /// Number and reason of those that tell nothing.
    pub refused: Vec<(u64, String)>,
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

/// What a CSV file tells: a header that names `prefix`, `customer` and `site` in any order, further columns aside; one of the last two
/// may be missing. A prefix without a customer or a site has that of the prefix around it.
///
/// # Errors
///
/// If the header has no such columns, or more than `prefixes_max` lines follow. A bad line is passed over and told.
pub fn of_csv(octets: &[u8], prefixes_max: usize) -> Result<Lines, LoadError> {
    // A byte order mark is no part of the first column's name.
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    let mut reader = ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).flexible(true).from_reader(octets);
    let header = reader.headers().map_err(|error| LoadError::Csv(error.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|field| field.eq_ignore_ascii_case(name));
    let (Some(prefix), customer, site) = (column("prefix"), column("customer"), column("site")) else {
        return Err(LoadError::Column("prefix"));
    };
    if customer.is_none() && site.is_none() {
        return Err(LoadError::Column("customer or site"));
    }
    let (mut customers, mut sites, mut refused) = (Layer::default(), Layer::default(), Vec::new());
    let (mut of_customers, mut of_sites) = (Vec::new(), Vec::new());
    let mut record = StringRecord::new();
    let (mut lines, mut prefixes) = (0, 0);
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let line = error.position().map_or(0, |position| line_of(octets, position));
                refused.push((line, error.to_string()));
                // What cannot be split into fields ends a file only when it is no text at all; the reader goes on behind it.
                if matches!(error.kind(), csv::ErrorKind::Io(_)) {
                    break;
                }
                continue;
            }
        }
        lines += 1;
        if lines > prefixes_max {
            return Err(LoadError::TooManyPrefixes { prefixes_max });
        }
        let line = record.position().map_or(0, |position| line_of(octets, position));
        let field = |column: Option<usize>| column.and_then(|column| record.get(column)).unwrap_or_default();
        let prefix: Prefix = match field(Some(prefix)).parse() {
            Ok(prefix) => prefix,
            Err(error) => {
                refused.push((line, format!("{error}")));
                continue;
            }
        };
        let (customer, site) = (field(customer), field(site));
        if customer.is_empty() && site.is_empty() {
            refused.push((line, format!("{prefix} has neither a customer nor a site")));
            continue;
        }
        prefixes += 1;
        let prefix_length = prefix.length();
        if !customer.is_empty() {
            let place = Place { customer: customers.places.name(customer), prefix_length, ..Place::default() };
            of_customers.push((prefix, customers.places.number(&place).unwrap_or(0)));
        }
        if !site.is_empty() {
            let place = Place { site: sites.places.name(site), prefix_length, ..Place::default() };
            of_sites.push((prefix, sites.places.number(&place).unwrap_or(0)));
        }
    }
    (customers.v4, customers.v6) = runs_of_prefixes(of_customers);
    (sites.v4, sites.v6) = runs_of_prefixes(of_sites);
    let (mut layer, _) = super::layer::overlay(&[&customers, &sites], usize::MAX);
    layer.prefixes = prefixes;
    Ok(Lines { layer, refused })
}

/// The line of a record: the reader's position is where the record before it ends, in front of empty lines and remarks.
fn line_of(octets: &[u8], position: &csv::Position) -> u64 {
    let rest = usize::try_from(position.byte()).ok().and_then(|offset| octets.get(offset..)).unwrap_or_default();
    let is_passed_over = |line: &&[u8]| line.starts_with(b"#") || matches!(line, [] | [b'\r']);
    let passed_over = rest.split(|octet| *octet == b'\n').take_while(is_passed_over).count();
    position.line() + passed_over as u64
}
