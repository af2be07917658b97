//! The columns that tell where an address lies, read out of the places that the rows are labelled with.

use schemas::flow::{Column, FlowBatch};
use schemas::net::{Address, PrefixSet};
use schemas::place::Places;

use super::super::native::{Keys, Native};

/// Lengths of the prefixes that an address is summed up in when nobody tells any, of IPv4 and of IPv6.
///
/// Ours are looked at closely. Of the rest of the world there are so many that sums by such narrow ones would be as large as the flows.
const OWN_PREFIX_LENGTHS: [u8; 2] = [24, 48];
const FOREIGN_PREFIX_LENGTHS: [u8; 2] = [16, 32];
/// Bits in front of an IPv4 address among 128.
const V4_BITS: u8 = 96;

/// The texts of a column by the numbers that the places have for them.
#[derive(Debug, Default)]
struct Words {
    keys: Keys,
    /// One more than the key of each number, 0 for those that have not been asked for.
    by_number: Vec<u32>,
    asked: Vec<u32>,
    rows: Vec<u32>,
}

impl Words {
    fn clear(&mut self) {
        self.keys.clear();
        self.rows.clear();
        for number in self.asked.drain(..) {
            if let Some(key) = usize::try_from(number).ok().and_then(|number| self.by_number.get_mut(number)) {
                *key = 0;
            }
        }
    }

    /// The next row has the text with this number.
    #[inline]
    fn push<'a>(&mut self, number: u32, text: impl FnOnce() -> &'a str) {
        let known = usize::try_from(number).ok().and_then(|number| self.by_number.get(number));
        let key = match known {
            Some(&key) if key > 0 => key - 1,
            _ if number == 0 => 0,
            _ => self.ask(number, text()),
        };
        self.rows.push(key);
    }

    fn ask(&mut self, number: u32, text: &str) -> u32 {
        let key = self.keys.number(text);
        let index = usize::try_from(number).unwrap_or(0);
        if self.by_number.len() <= index {
            self.by_number.resize(index + 1, 0);
        }
        if let Some(place) = self.by_number.get_mut(index) {
            *place = key + 1;
            self.asked.push(number);
        }
        key
    }

    fn write(&self, native: &mut Native, name: &str) {
        if self.keys.count() > 1 {
            native.low_cardinality(name, &self.keys, &self.rows);
        }
    }
}

/// What is known of one end of every row.
#[derive(Debug, Default)]
pub(super) struct Side {
    autonomous_systems: Vec<u32>,
    prefix_lengths: Vec<u8>,
    prefix_bits: Vec<u8>,
    countries: Words,
    cities: Words,
    customers: Words,
    sites: Words,
}

impl Side {
    fn clear(&mut self) {
        self.autonomous_systems.clear();
        self.prefix_lengths.clear();
        for words in [&mut self.countries, &mut self.cities, &mut self.customers, &mut self.sites] {
            words.clear();
        }
    }

    fn look_up(&mut self, places: &Places, numbers: &[u32]) {
        // Tables of systems and countries alone name nothing: three columns need not be looked at.
        let has_names = places.names.len() > 1;
        for &number in numbers {
            let place = places.place(number);
            self.autonomous_systems.push(place.autonomous_system);
            self.prefix_lengths.push(place.prefix_length);
            let [first, second] = place.country;
            self.countries.push(u32::from(first) << 8 | u32::from(second), || std::str::from_utf8(&place.country).unwrap_or_default());
            if has_names {
                self.cities.push(place.city, || places.name(place.city));
                self.customers.push(place.customer, || places.name(place.customer));
                self.sites.push(place.site, || places.name(place.site));
            }
        }
    }

    /// Prefix lengths as the records tell them, or the places, or nobody.
    fn complete(&mut self, told: Option<&[u8]>, addresses: &[Address], networks: &PrefixSet) {
        self.prefix_lengths.resize(addresses.len(), 0);
        for ((length, &told), address) in self.prefix_lengths.iter_mut().zip(told.unwrap_or_default()).zip(addresses) {
            // A length that no address of the family has is as good as none.
            let length_max = if address.is_v4() { 32 } else { 128 };
            if (1..=length_max).contains(&told) {
                *length = told;
            }
        }
        self.prefix_bits.clear();
        for (length, &address) in self.prefix_lengths.iter_mut().zip(addresses) {
            let is_v4 = address.is_v4();
            if *length == 0 {
                let is_ours = networks.is_empty() || networks.get(address).is_some();
                let [v4, v6] = if is_ours { OWN_PREFIX_LENGTHS } else { FOREIGN_PREFIX_LENGTHS };
                *length = if is_v4 { v4 } else { v6 };
            }
            self.prefix_bits.push(length.saturating_add(if is_v4 { V4_BITS } else { 0 }));
        }
    }

    fn write(&self, native: &mut Native, names: &[&str; 7]) {
        let [autonomous_system, prefix_length, prefix_bits, country, city, customer, site] = names;
        native.numbers(autonomous_system, &self.autonomous_systems);
        native.numbers(prefix_length, &self.prefix_lengths);
        native.numbers(prefix_bits, &self.prefix_bits);
        self.countries.write(native, country);
        self.cities.write(native, city);
        self.customers.write(native, customer);
        self.sites.write(native, site);
    }
}

/// Writes what the labels of a batch say, and the lengths of its prefixes.
pub(super) fn write(native: &mut Native, batch: &FlowBatch, networks: &PrefixSet, source: &mut Side, destination: &mut Side) {
    let rows = batch.rows();
    let labels = &batch.labels;
    for (side, numbers, column, told, addresses, names) in [
        (
            source,
            &labels.source_place,
            Column::SourcePrefixLength,
            &batch.source_prefix_length,
            &batch.source_address,
            &[
                "source_place_as",
                "source_prefix_length",
                "source_prefix_bits",
                "source_country",
                "source_city",
                "source_customer",
                "source_site",
            ],
        ),
        (
            destination,
            &labels.destination_place,
            Column::DestinationPrefixLength,
            &batch.destination_prefix_length,
            &batch.destination_address,
            &[
                "destination_place_as",
                "destination_prefix_length",
                "destination_prefix_bits",
                "destination_country",
                "destination_city",
                "destination_customer",
                "destination_site",
            ],
        ),
    ] {
        side.clear();
        if labels.are_written() {
            side.look_up(labels.places(), numbers.get(..rows).unwrap_or_default());
        }
        let told = batch.written().has(column).then(|| told.get(..rows).unwrap_or_default());
        side.complete(told, addresses.get(..rows).unwrap_or_default(), networks);
        side.write(native, names);
    }
    let is_repeat = labels.is_repeat.get(..rows).unwrap_or_default();
    if labels.are_written() && is_repeat.iter().any(|is_repeat| *is_repeat != 0) {
        native.column("is_repeat", "Bool");
        native.values(is_repeat, u8::to_le_bytes);
    }
}
