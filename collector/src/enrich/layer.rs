//! What one source tells of addresses, and all of them laid over each other: one table, each different place once.

use std::collections::HashMap;
use std::sync::Arc;

use schemas::place::{Place, Places};

use super::Tables;
use super::run::Runs;
use super::table::Table;

/// Octets of a name; what is longer is cut.
const NAME_OCTETS_MAX: usize = 128;

/// What one source tells: runs of both families whose values are numbers of its places.
#[derive(Debug, Default)]
pub struct Layer {
    /// What holds for addresses of IPv4.
    pub v4: Runs<u32>,
    /// What holds for addresses of IPv6.
    pub v6: Runs<u128>,
    /// The places, with names by this layer's own numbers.
    pub places: Interned,
    /// Names of autonomous systems.
    pub autonomous_systems: HashMap<u32, Box<str>>,
    /// Prefixes that were read.
    pub prefixes: usize,
}

/// Places and names, each different one once; of both the first is the one of which nothing is known.
#[derive(Debug)]
pub struct Interned {
    places: Vec<Place>,
    numbers: HashMap<Place, u32>,
    names: Vec<Box<str>>,
    name_numbers: HashMap<Box<str>, u32>,
    places_max: usize,
}

impl Default for Interned {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Interned {
    /// Nothing but the first place and the first name; and room for `places_max` places.
    #[must_use]
    pub fn new(places_max: usize) -> Self {
        Self {
            places: vec![Place::default()],
            numbers: HashMap::from([(Place::default(), 0)]),
            names: vec![Box::default()],
            name_numbers: HashMap::from([(Box::default(), 0)]),
            places_max,
        }
    }

    /// The number of a place; `None` if it is new and there is no room.
    pub fn number(&mut self, place: &Place) -> Option<u32> {
        if let Some(number) = self.numbers.get(place) {
            return Some(*number);
        }
        if self.places.len() > self.places_max {
            return None;
        }
        let number = u32::try_from(self.places.len()).ok()?;
        self.places.push(place.clone());
        self.numbers.insert(place.clone(), number);
        Some(number)
    }

    /// The number of a name, which is cut if it is overlong.
    pub fn name(&mut self, name: &str) -> u32 {
        let name = cut(name);
        if let Some(number) = self.name_numbers.get(name) {
            return *number;
        }
        // There is no room for as many names as numbers: 0 is "no name".
        let number = u32::try_from(self.names.len()).unwrap_or(0);
        self.names.push(name.into());
        self.name_numbers.insert(name.into(), number);
        number
    }
}

impl Layer {
    /// Lets go of what only new places need.
    pub(super) fn settle(&mut self) {
        (self.places.numbers, self.places.name_numbers) = (HashMap::new(), HashMap::new());
        self.places.places.shrink_to_fit();
    }
}

/// As much of a name as may be.
pub(super) fn cut(name: &str) -> &str {
    (0..=name.len().min(NAME_OCTETS_MAX)).rev().find_map(|end| name.get(..end)).unwrap_or_default()
}

/// Lays the layers over each other: what a later one tells holds over what earlier ones tell. Answers the tables, and how many runs
/// are of a place for which there was no room.
#[must_use]
pub fn merge(layers: &[&Layer], places_max: usize) -> (Tables, u64) {
    let (Layer { v4, v6, places, autonomous_systems, .. }, refused) = overlay(layers, places_max);
    let Interned { mut places, names, .. } = places;
    places.shrink_to_fit();
    let mut autonomous_systems: Vec<_> = autonomous_systems.into_iter().collect();
    autonomous_systems.sort_unstable();
    let places = Arc::new(Places { places, names });
    (Tables { table: Table::new(v4, v6), places, names: autonomous_systems }, refused)
}

/// The same as a layer.
pub(super) fn overlay(layers: &[&Layer], places_max: usize) -> (Layer, u64) {
    let mut places = Interned::new(places_max);
    let mut names: Vec<Vec<u32>> = Vec::new();
    for layer in layers {
        names.push(layer.places.names.iter().map(|name| places.name(name)).collect());
    }
    let mut refused = 0;
    let mut combine = |values: &[u32]| {
        let mut place = Place::default();
        for ((layer, names), value) in layers.iter().zip(&names).zip(values) {
            if *value != 0
                && let Some(told) = layer.places.places.get(*value as usize)
            {
                tell(&mut place, told, names);
            }
        }
        places.number(&place).unwrap_or_else(|| {
            refused += 1;
            0
        })
    };
    let v4 = Runs::overlay(&layers.iter().map(|layer| &layer.v4).collect::<Vec<_>>(), &mut combine);
    let v6 = Runs::overlay(&layers.iter().map(|layer| &layer.v6).collect::<Vec<_>>(), &mut combine);
    let mut autonomous_systems = HashMap::new();
    for layer in layers {
        autonomous_systems.extend(layer.autonomous_systems.iter().map(|(number, name)| (*number, name.clone())));
    }
    let prefixes = layers.iter().map(|layer| layer.prefixes).sum();
    (Layer { v4, v6, places, autonomous_systems, prefixes }, refused)
}

/// Takes over what is told of a place.
fn tell(place: &mut Place, told: &Place, names: &[u32]) {
    if told.autonomous_system != 0 {
        place.autonomous_system = told.autonomous_system;
    }
    if told.country != [0; 2] {
        place.country = told.country;
    }
    for (own, name) in [(&mut place.city, told.city), (&mut place.customer, told.customer), (&mut place.site, told.site)] {
        if name != 0 {
            *own = names.get(name as usize).copied().unwrap_or(0);
        }
    }
    // All of them hold the address: the longest is the one that it is routed or assigned by.
    place.prefix_length = place.prefix_length.max(told.prefix_length);
}
