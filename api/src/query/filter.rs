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

    /// Whether a part that everything has to pass is such.
    fn in_all(&self, is_such: &impl Fn(&Self) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().any(|part| part.in_all(is_such)),
            other => is_such(other),
        }
    }

    /// Whether it lets through the traffic of one interface of one exporter only.
    #[must_use]
    pub fn is_one_interface(&self) -> bool {
        let is_one = |wanted: &[Field]| {
            let fixes = |part: &Self| match part {
                Self::Test(field, Set::Numbers(ranges)) => {
                    wanted.contains(field) && matches!(ranges.as_slice(), [(first, last)] if first == last)
                }
                Self::Test(field, Set::Addresses(ranges)) => {
                    wanted.contains(field) && matches!(ranges.as_slice(), [(first, last)] if first == last)
                }
                _ => false,
            };
            self.in_all(&fixes)
        };
        is_one(&[Field::Exporter]) && is_one(&[Field::IngressInterface, Field::EgressInterface])
    }
}
