//! Which addresses are ours to count, answered twice for every flow.

use schemas::net::{Address, PrefixSet};

/// What a /16 of IPv4 holds of the monitored networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Nothing,
    Part,
    All,
}

/// The monitored networks, with a first look-up that settles most IPv4 addresses in two loads.
///
/// The other end of a flow lies anywhere: a block for each /16 in one piece is 64 KiB, of which every line is asked for now and then and
/// few are still in the cache. As pages there are two for all that is nobody's or ours, and one for each /8 that is shared.
#[derive(Debug)]
pub(crate) struct Watch {
    networks: PrefixSet,
    /// The page of each /8 of IPv4.
    page_of: Box<[u16; 256]>,
    /// One entry for each /16 of a /8; equal pages are one.
    pages: Vec<[Block; 256]>,
}

impl Watch {
    pub(crate) fn new(networks: PrefixSet) -> Self {
        let mut blocks = vec![Block::Nothing; 1 << 16].into_boxed_slice();
        for (prefix, ()) in networks.iter() {
            // An IPv6 prefix so short that it holds the mapped addresses leaves the answer to the table.
            let (from, to, block) = if prefix.is_v4() {
                let block = if prefix.length() <= 16 { Block::All } else { Block::Part };
                (high_half(prefix.first()), high_half(prefix.last()), block)
            } else if prefix.contains(Address::from_v4(0)) {
                (0, usize::from(u16::MAX), Block::Part)
            } else {
                continue;
            };
            let held = blocks.iter_mut().take(to + 1).skip(from).filter(|held| **held != Block::All);
            held.for_each(|held| *held = block);
        }
        let (mut page_of, mut pages) = (Box::new([0; 256]), Vec::new());
        for (number, page) in page_of.iter_mut().zip(blocks.as_chunks::<256>().0) {
            let place = pages.iter().position(|known| known == page).unwrap_or_else(|| {
                pages.push(*page);
                pages.len() - 1
            });
            *number = u16::try_from(place).unwrap_or(0);
        }
        Self { networks, page_of, pages }
    }

    /// Whether no network is configured: then every destination is watched, and no source.
    pub(crate) fn is_open(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether `address` lies in a monitored network; never, while none is configured.
    #[inline]
    pub(crate) fn holds(&self, address: Address) -> bool {
        if address.is_v4() {
            let block = self.block(high_half(address));
            // Which of two ends is ours nobody foresees: this is no branch, unless the block is shared.
            if block != Block::Part {
                return block == Block::All;
            }
        }
        self.is_in_network(address)
    }

    #[inline]
    fn block(&self, high_half: usize) -> Block {
        let page = self.page_of.get(high_half >> 8).and_then(|page| self.pages.get(usize::from(*page)));
        page.and_then(|page| page.get(high_half & 0xff)).copied().unwrap_or(Block::Nothing)
    }

    #[inline(never)]
    fn is_in_network(&self, address: Address) -> bool {
        self.networks.get(address).is_some()
    }
}

/// The first 16 bits of an IPv4 address.
fn high_half(address: Address) -> usize {
    (address.0 >> 16) as usize & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_narrow_and_ipv6_networks_hold_their_addresses_and_no_others() {
        let networks = ["10.0.0.0/8", "203.0.113.0/24", "203.0.114.7", "2001:db8::/32"];
        let watch = Watch::new(networks.iter().map(|text| text.parse().unwrap()).collect());
        let holds = |text: &str| watch.holds(text.parse().unwrap());
        for text in ["10.0.0.0", "10.255.255.255", "203.0.113.200", "203.0.114.7", "2001:db8:ffff::1"] {
            assert!(holds(text), "{text}");
        }
        for text in ["9.255.255.255", "11.0.0.0", "203.0.112.255", "203.0.114.8", "2001:db9::", "::1"] {
            assert!(!holds(text), "{text}");
        }
        // Nobody's, ours, and that of 203.0.0.0/8.
        assert_eq!(watch.pages.len(), 3);
        assert!(!watch.is_open() && Watch::new(PrefixSet::default()).is_open());
    }
}
