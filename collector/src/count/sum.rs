//! Which configured sums an address belongs to: prefixes besides the /24 and /48 that are always summed.

use schemas::counter::Direction;
use schemas::limit;
use schemas::net::{Address, Prefix, PrefixTable};

use super::table::Key;

/// Sums of one address at most; they lie in each other, and of more the widest are left out.
const DEPTH_MAX: usize = 8;

/// The configured sums by address.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// The sums that hold the longest one's addresses, the longest first.
    nested: PrefixTable<Vec<Prefix>>,
}

impl Sums {
    /// The sums of `prefixes`; hosts, and what is summed anyway, are left out.
    pub(super) fn new(prefixes: &[Prefix]) -> Self {
        let mut own: Vec<Prefix> =
            prefixes.iter().copied().filter(|prefix| !limit::is_host(*prefix) && !limit::is_block(*prefix)).collect();
        own.sort_unstable();
        own.dedup();
        let nested = own.iter().map(|inner| {
            let mut holders: Vec<Prefix> = own.iter().copied().filter(|outer| outer.covers(*inner)).collect();
            holders.sort_by_key(|outer| std::cmp::Reverse(outer.length()));
            holders.truncate(DEPTH_MAX);
            (*inner, holders)
        });
        Self { nested: PrefixTable::new(nested.collect()) }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.nested.is_empty()
    }

    /// The keys of the sums that an address counts in.
    pub(super) fn of(&self, address: Address, direction: Direction) -> impl Iterator<Item = Key> {
        let sums = self.nested.get(address).map_or(&[][..], |(_, sums)| sums);
        sums.iter().map(move |prefix| Key::sum(*prefix, direction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_in_every_sum_that_holds_it_and_hosts_and_blocks_are_none() {
        let prefixes =
            ["10.0.0.0/8", "10.1.0.0/22", "10.1.0.0/24", "10.1.0.0/26", "10.1.0.9", "2001:db8::/32", "2001:db8::/48", "2001:db8::/64"];
        let sums = Sums::new(&prefixes.map(|text| text.parse().unwrap()));
        let of = |text: &str| -> Vec<String> {
            let keys = sums.of(text.parse().unwrap(), Direction::Outgoing).inspect(|key| assert!(key.is_sum() && !key.is_host()));
            keys.map(|key| key.target().prefix.to_string()).collect()
        };
        assert_eq!(of("10.1.0.9"), ["10.1.0.0/26", "10.1.0.0/22", "10.0.0.0/8"]);
        assert_eq!(
            (of("10.1.1.0"), of("10.200.0.0")),
            (vec!["10.1.0.0/22".to_owned(), "10.0.0.0/8".to_owned()], vec!["10.0.0.0/8".to_owned()])
        );
        assert_eq!((of("2001:db8::1"), of("192.0.2.1")), (vec!["2001:db8::/32".to_owned()], vec![]));
        assert!(Sums::new(&[]).is_empty());
    }
}
