//! A filter as a typed tree: every comparison says which values of a field are let through.

use schemas::net::{Address, Prefix};

use super::dimension::Field;

/// A filter, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All of these hold.
    All(Vec<Filter>),
    /// Any of these holds.
    Any(Vec<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
    /// The field's value is in the set.
    Test(Field, Set),
}

/// Values of a field; ranges include both of their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// Numbers, and what is kept as one.
    Numbers(Vec<(u64, u64)>),
    /// Addresses.
    Addresses(Vec<(Address, Address)>),
    /// These prefixes and no others.
    Prefixes(Vec<Prefix>),
    /// Prefixes that lie within these, or are these.
    Within(Vec<Prefix>),
    /// Texts.
    Texts(Vec<String>),
    /// Numbers in which all of these bits are set.
    Bits(u64),
}

impl Filter {
    /// Calls `see` with every field that is compared.
    pub fn fields(&self, see: &mut impl FnMut(Field)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.fields(see)),
            Self::Not(part) => part.fields(see),
            Self::Test(field, _) => see(*field),
        }
    }

    /// The parts that everything has to pass, each by itself.
    pub fn parts<'a>(&'a self, found: &mut Vec<&'a Self>) {
        match self {
            Self::All(parts) => parts.iter().for_each(|part| part.parts(found)),
            other => found.push(other),
        }
    }
}
