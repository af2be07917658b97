//! MMDB files of countries, cities and autonomous systems as a layer of the table: MaxMind's, DB-IP's and IPinfo's layouts.
//!
//! All of them are a binary tree of addresses over a section of records (MaxMind DB file format 2.0). MaxMind's GeoLite2 and GeoIP2
//! and DB-IP's files nest their fields (`country.iso_code`, `city.names.en`, `autonomous_system_number`), IPinfo's are flat
//! (`country` or `country_code`, `city`, `asn` as "AS64496", `as_name`). Which fields a file has is seen by its records, so that a
//! file of all of them, or of a layout mixed from them, is read as well.
//!
//! The blocks of a tree are what is left of prefixes around those within them: a /16 with one foreign /24 is eight blocks. So a file
//! tells no length of a routed prefix, and neighbouring blocks of the same place are one run.

use std::collections::{BTreeMap, HashMap};

use maxminddb::{Reader, WithinOptions};
use schemas::net::{Address, Prefix};
use schemas::place::Place;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::layer::Layer;
use super::load::LoadError;
use super::run::Block;
use super::table::low;

/// Length of the block of IPv6 in which a file has IPv4.
const V4_LENGTH: u8 = 96;

/// A record, whatever its layout; fields of another kind than ours are as good as none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record {
    country: Option<Word>,
    registered_country: Option<Word>,
    country_code: Option<Word>,
    city: Option<Word>,
    autonomous_system_number: Option<Numeral>,
    autonomous_system_organization: Option<Word>,
    asn: Option<Numeral>,
    as_name: Option<Word>,
    name: Option<Word>,
}

/// A name or code, by itself or nested.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Nested(Nested),
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Nested {
    #[serde(default)]
    iso_code: Option<String>,
    #[serde(default)]
    names: BTreeMap<String, String>,
}

/// A number, by itself or in a text: `64496`, `"AS64496"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Numeral {
    Plain(u32),
    Text(String),
    Other(IgnoredAny),
}

impl Word {
    /// ISO 3166-1 alpha-2 in upper case, if it is that.
    fn country(&self) -> Option<[u8; 2]> {
        let text = match self {
            Self::Text(text) => text,
            Self::Nested(nested) => nested.iso_code.as_ref()?,
            Self::Other(_) => return None,
        };
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| code.map(|letter| letter.to_ascii_uppercase()))
    }

    fn name(&self) -> Option<&str> {
        let name = match self {
            Self::Text(text) => text,
            Self::Nested(nested) => nested.names.get("en").or_else(|| nested.names.values().next())?,
            Self::Other(_) => return None,
        };
        Some(name.as_str()).filter(|name| !name.is_empty())
    }
}

impl Numeral {
    fn value(&self) -> Option<u32> {
        match self {
            Self::Plain(number) => Some(*number),
            Self::Text(text) => text.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).parse().ok(),
            Self::Other(_) => None,
        }
    }
}

impl Record {
    fn country(&self) -> Option<[u8; 2]> {
        // IPinfo's newer files have the name in `country` and the code beside it.
        [&self.country_code, &self.country, &self.registered_country].into_iter().flatten().find_map(Word::country)
    }

    fn autonomous_system(&self) -> Option<u32> {
        [&self.autonomous_system_number, &self.asn].into_iter().flatten().find_map(Numeral::value)
    }

    fn autonomous_system_name(&self) -> Option<&str> {
        [&self.autonomous_system_organization, &self.as_name, &self.name].into_iter().flatten().find_map(Word::name)
    }
}

/// What the octets of an MMDB file tell; at most `prefixes_max` networks.
///
/// # Errors
///
/// If it is no MMDB file or a broken one, holds more networks, or tells nothing of ours.
pub fn read(octets: &[u8], prefixes_max: usize) -> Result<Layer, LoadError> {
    let broken = |error: maxminddb::MaxMindDbError| LoadError::Mmdb(error.to_string());
    let reader = Reader::from_source(octets).map_err(broken)?;
    let mut layer = Layer::default();
    // Many networks share a record: each is decoded once.
    let mut places: HashMap<usize, Place> = HashMap::new();
    for network in reader.networks(WithinOptions::default()).map_err(broken)? {
        let network = network.map_err(broken)?;
        layer.prefixes += 1;
        if layer.prefixes > prefixes_max {
            return Err(LoadError::TooManyPrefixes { prefixes_max });
        }
        let Some(offset) = network.offset() else {
            continue;
        };
        let (ip, length) = network.network().map(|network| (network.ip(), network.prefix())).map_err(broken)?;
        let address = Address::from(ip);
        // IPv4 has its own subtree: what is also told of ::ffff:0:0/96 is the same again.
        if ip.is_ipv6() && address.is_v4() {
            continue;
        }
        let place = match places.get(&offset) {
            Some(place) => place,
            None => {
                let record = network.decode::<Record>().map_err(broken)?.unwrap_or_default();
                let place = layer.take(&record);
                places.entry(offset).or_insert(place)
            }
        };
        if *place != Place::default() {
            layer.add(address, length, place);
        }
    }
    if layer.v4.is_empty() && layer.v6.is_empty() {
        return Err(LoadError::Mmdb("no network has a country, a city or an autonomous system".to_owned()));
    }
    Ok(layer)
}

impl Layer {
    /// What a record tells, and its names.
    fn take(&mut self, record: &Record) -> Place {
        let autonomous_system = record.autonomous_system().unwrap_or(0);
        if let (1.., Some(name)) = (autonomous_system, record.autonomous_system_name()) {
            self.autonomous_systems.entry(autonomous_system).or_insert_with(|| super::layer::cut(name).into());
        }
        let city = record.city.as_ref().and_then(Word::name).map_or(0, |name| self.places.name(name));
        Place { autonomous_system, country: record.country().unwrap_or_default(), city, ..Place::default() }
    }

    /// Adds a network that lies behind all others of its family, as a tree that is walked from the left gives them.
    fn add(&mut self, first: Address, length: u8, place: &Place) {
        // IPv4 lies in ::/96: where the tree ends in front of it, what is told of a wider block is told of all of IPv4.
        let holds_v4 = first.0 == 0 && length <= V4_LENGTH;
        if holds_v4 {
            self.add_prefix(Prefix::of(Address::from_v4(0), 0), place);
        }
        if !holds_v4 || length < V4_LENGTH {
            self.add_prefix(Prefix::of(first, length), place);
        }
    }

    fn add_prefix(&mut self, prefix: Prefix, place: &Place) {
        let value = self.places.number(place).unwrap_or(0);
        if prefix.is_v4() {
            self.v4.append(Block { first: low(prefix.first()), last: low(prefix.last()), value });
        } else {
            self.v6.append(Block { first: prefix.first().0, last: prefix.last().0, value });
        }
    }
}
