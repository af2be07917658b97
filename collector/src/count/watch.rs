//! Which addresses are ours to count, answered twice for every flow.

use schemas::net::{Address, PrefixSet};

/// What a /16 of IPv4 holds of the monitored networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Nothing,
    Part,
    All,
}

/// The monitored networks, with a first look-up that settles most IPv4 addresses in one load.
#[derive(Debug)]
pub(crate) struct Watch {
    networks: PrefixSet,
    /// One entry for each /16 of IPv4.
    blocks: Box<[Block]>,
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
        Self { networks, blocks }
    }

    /// Whether no network is configured: then every destination is watched, and no source.
    pub(crate) fn is_open(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether `address` lies in a monitored network; never, while none is configured.
    #[inline]
    pub(crate) fn holds(&self, address: Address) -> bool {
        if address.is_v4() {
            let block = self.blocks.get(high_half(address)).copied().unwrap_or(Block::Nothing);
            // Which of two ends is ours nobody foresees: this is no branch, unless the block is shared.
            if block != Block::Part {
                return block == Block::All;
            }
        }
        self.is_in_network(address)
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
        assert!(!watch.is_open() && Watch::new(PrefixSet::default()).is_open());
    }
}
