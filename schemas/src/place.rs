//! Where an address lies: autonomous system, country, city, routed prefix, customer and site, as numbers and names.

/// What is known of every address of one prefix; 0 or an empty text where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The autonomous system, 0 if unknown.
    pub autonomous_system: u32,
    /// ISO 3166-1 alpha-2 in upper case, two zeroes if unknown.
    pub country: [u8; 2],
    /// Length of the prefix that is routed or assigned, in the address's own family; 0 if unknown.
    pub prefix_length: u8,
    /// Index of the city's name in [`Places::names`].
    pub city: u32,
    /// Index of the customer's name in [`Places::names`].
    pub customer: u32,
    /// Index of the site's name in [`Places::names`].
    pub site: u32,
}

/// Every place of one generation of the tables: immutable, swapped as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The places by their number; the first is the one of which nothing is known.
    pub places: Vec<Place>,
    /// The names by their number; the first is empty.
    pub names: Vec<Box<str>>,
}

impl Default for Places {
    fn default() -> Self {
        Self { places: vec![Place::default()], names: vec![Box::default()] }
    }
}

impl Places {
    /// The place with a number; of a number that is none of ours, the place of which nothing is known.
    #[must_use]
    pub fn place(&self, number: u32) -> &Place {
        static NOWHERE: Place = Place { autonomous_system: 0, country: [0; 2], prefix_length: 0, city: 0, customer: 0, site: 0 };
        usize::try_from(number).ok().and_then(|index| self.places.get(index)).unwrap_or(&NOWHERE)
    }

    /// The name with a number, empty if there is none.
    #[must_use]
    pub fn name(&self, number: u32) -> &str {
        usize::try_from(number).ok().and_then(|index| self.names.get(index)).map_or("", |name| name)
    }
}
