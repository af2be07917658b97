//! Addresses and prefixes: one 128-bit form for both families, and a longest-prefix table over it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const V4_MAPPED: u128 = 0xffff_0000_0000;

/// An IP address as one number: IPv4 is v4-mapped, `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2); 0 is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Address(pub u128);

impl Address {
    /// The address of four octets in network order, read as one number.
    #[must_use]
    pub const fn from_v4(bits: u32) -> Self {
        Self(V4_MAPPED | bits as u128)
    }

    /// Whether this is an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == V4_MAPPED >> 32
    }

    /// Whether no address was given: the number 0, which is also IPv6's unspecified address.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The address in 32 bits: one for one for IPv4, so that a set of IPv4 addresses keeps its size; IPv6 addresses may share one.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the halves are folded")]
    pub const fn folded(self) -> u32 {
        let half = self.0 as u64 ^ (self.0 >> 64) as u64;
        half as u32 ^ (half >> 32) as u32
    }

    /// The standard library's form.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the IPv4 address")]
    pub fn ip(self) -> IpAddr {
        if self.is_v4() { IpAddr::V4(Ipv4Addr::from_bits(self.0 as u32)) } else { IpAddr::V6(Ipv6Addr::from_bits(self.0)) }
    }

    /// The prefix of this address alone: /32 or /128.
    #[must_use]
    pub fn host(self) -> Prefix {
        Prefix { first: self, bits: 128 }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::from_v4(v4.to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(formatter)
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(Self::from)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IpAddr::deserialize(deserializer).map(Self::from)
    }
}

/// An address block in the same 128-bit space: an IPv4 prefix of length n has n + 96 bits here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    first: Address,
    bits: u8,
}

/// Why a text is no prefix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PrefixError {
    /// Neither an address nor `address/length`.
    #[error("not an address or prefix: {0}")]
    Syntax(String),
    /// Bits are set behind the length, so that two readings are possible.
    #[error("{0} has bits set behind its length, did you mean {1}")]
    HostBits(String, String),
}

impl Prefix {
    /// The block of `length` bits, counted in the address's own family, that `address` lies in.
    ///
    /// A length over the family's 32 or 128 is taken as that.
    #[must_use]
    pub fn of(address: Address, length: u8) -> Self {
        let bits = if address.is_v4() { 96 + length.min(32) } else { length.min(128) };
        Self { first: Address(address.0 & mask(bits)), bits }
    }

    /// The first address of the block.
    #[must_use]
    pub fn first(self) -> Address {
        self.first
    }

    /// The last address of the block.
    #[must_use]
    pub fn last(self) -> Address {
        Address(self.first.0 | !mask(self.bits))
    }

    /// The prefix length in its own family, 0 to 32 or 0 to 128.
    #[must_use]
    pub fn length(self) -> u8 {
        if self.is_v4() { self.bits - 96 } else { self.bits }
    }

    /// Whether the block holds IPv4 addresses.
    #[must_use]
    pub fn is_v4(self) -> bool {
        self.bits >= 96 && self.first.is_v4()
    }

    /// Whether the block is one address.
    #[must_use]
    pub fn is_host(self) -> bool {
        self.bits == 128
    }

    /// Whether `address` lies in the block.
    #[must_use]
    pub fn contains(self, address: Address) -> bool {
        (address.0 ^ self.first.0) & mask(self.bits) == 0
    }

    /// Whether every address of `other` lies in the block.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.first)
    }
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

/// An address, and `/length` behind it unless it is a host: `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/32`.
impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { self.first.fmt(formatter) } else { write!(formatter, "{}/{}", self.first, self.length()) }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<Address>() {
            return Ok(address.host());
        }
        let net: IpNet = text.parse().map_err(|_| PrefixError::Syntax(text.to_owned()))?;
        let address = Address::from(net.addr());
        // An IPv4 address may be written as IPv6 (::ffff:0:0/96): the length counts in the family of the text.
        let bits = if net.addr().is_ipv4() { 96 + net.prefix_len() } else { net.prefix_len() };
        let prefix = Self { first: Address(address.0 & mask(bits)), bits };
        if prefix.first != address {
            return Err(PrefixError::HostBits(text.to_owned(), prefix.to_string()));
        }
        Ok(prefix)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An immutable longest-prefix table: built once, looked up per flow.
///
/// The prefixes are flattened into disjoint ranges, so that a look-up is one binary search over range starts.
#[derive(Clone, Debug)]
pub struct PrefixTable<T> {
    starts: Vec<u128>,
    /// The entry that holds from the start of the same index up to the next one.
    owners: Vec<Option<usize>>,
    entries: Vec<(Prefix, T)>,
}

impl<T> Default for PrefixTable<T> {
    fn default() -> Self {
        Self { starts: Vec::new(), owners: Vec::new(), entries: Vec::new() }
    }
}

impl<T> PrefixTable<T> {
    /// Builds the table; of two equal prefixes the later one holds.
    #[must_use]
    pub fn new(entries: Vec<(Prefix, T)>) -> Self {
        let mut edges: Vec<u128> = vec![0];
        for (prefix, _) in &entries {
            edges.push(prefix.first.0);
            edges.extend(prefix.last().0.checked_add(1));
        }
        edges.sort_unstable();
        edges.dedup();
        let mut by_width: Vec<usize> = (0..entries.len()).collect();
        by_width.sort_by_key(|&index| entries.get(index).map(|(prefix, _)| prefix.bits));
        let mut owners = vec![None; edges.len()];
        for index in by_width {
            let Some((prefix, _)) = entries.get(index) else {
                continue;
            };
            let from = edges.partition_point(|&edge| edge < prefix.first.0);
            let to = edges.partition_point(|&edge| edge <= prefix.last().0);
            owners.iter_mut().take(to).skip(from).for_each(|owner| *owner = Some(index));
        }
        Self { starts: edges, owners, entries }
    }

    /// Whether the table holds no prefix.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The longest prefix that holds `address`, and its value.
    #[must_use]
    pub fn get(&self, address: Address) -> Option<(Prefix, &T)> {
        let above = self.starts.partition_point(|&start| start <= address.0);
        let owner = (*self.owners.get(above.checked_sub(1)?)?)?;
        self.entries.get(owner).map(|(prefix, value)| (*prefix, value))
    }

    /// Whether any prefix of the table holds all of `prefix`.
    #[must_use]
    pub fn covers(&self, prefix: Prefix) -> bool {
        self.entries.iter().any(|(own, _)| own.covers(prefix))
    }

    /// Whether any prefix of the table shares an address with `prefix`.
    #[must_use]
    pub fn overlaps(&self, prefix: Prefix) -> bool {
        self.entries.iter().any(|(own, _)| own.covers(prefix) || prefix.covers(*own))
    }

    /// The entries in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &(Prefix, T)> {
        self.entries.iter()
    }
}

/// A set of prefixes.
pub type PrefixSet = PrefixTable<()>;

impl FromIterator<Prefix> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        Self::new(prefixes.into_iter().map(|prefix| (prefix, ())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn ipv4_written_as_ipv6_is_ipv4() {
        for (mapped, plain) in
            [("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("::ffff:203.0.113.7", "203.0.113.7"), ("::ffff:0:0/96", "0.0.0.0/0")]
        {
            assert_eq!(mapped.parse::<Prefix>(), plain.parse());
        }
        // Wider than the mapped addresses it is IPv6's; what has bits behind its length is told by the length that was meant.
        assert!(!"::/64".parse::<Prefix>().unwrap().is_v4());
        assert!(matches!("::ffff:10.1.0.0/104".parse::<Prefix>(), Err(PrefixError::HostBits(_, meant)) if meant == "10.0.0.0/8"));
    }

    #[test]
    fn texts_are_canonical() {
        for text in ["203.0.113.7", "203.0.113.0/24", "2001:db8::/32", "2001:db8::1", "0.0.0.0/0", "::/0"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("2001:DB8:0::/32").to_string(), "2001:db8::/32");
    }

    #[test]
    fn a_prefix_with_host_bits_names_the_one_that_was_meant() {
        let error = "203.0.113.7/24".parse::<Prefix>().unwrap_err();
        assert_eq!(error, PrefixError::HostBits("203.0.113.7/24".into(), "203.0.113.0/24".into()));
        assert!(matches!("203.0.113.0/33".parse::<Prefix>(), Err(PrefixError::Syntax(_))));
    }

    #[test]
    fn all_of_ipv4_is_not_all_of_ipv6() {
        assert!(!prefix("0.0.0.0/0").contains("2001:db8::1".parse().unwrap()));
        assert!(prefix("0.0.0.0/0").contains("192.0.2.1".parse().unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn the_flattened_table_finds_what_a_scan_finds(
            seeds in proptest::collection::vec((0u32..=0xffff, 16u8..=32), 0..40),
            probes in proptest::collection::vec(0u32..=0xffff, 50),
        ) {
            let entries: Vec<(Prefix, usize)> = seeds.iter().enumerate()
                .map(|(index, (bits, length))| (Prefix::of(Address::from_v4(*bits), *length), index)).collect();
            let table = PrefixTable::new(entries.clone());
            for probe in probes {
                let address = Address::from_v4(probe);
                let scanned = entries.iter().filter(|(own, _)| own.contains(address)).max_by_key(|(own, index)| (own.length(), *index));
                proptest::prop_assert_eq!(table.get(address).map(|(_, value)| *value), scanned.map(|(_, value)| *value));
            }
        }
    }
}
