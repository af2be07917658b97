//! Where within a prefix its traffic lies: exact sums of its parts, so that the analysts can name the smallest prefix that an attack covers.

use schemas::counter::Spread;
use schemas::net::{Address, Prefix};

/// Parts by eight bits.
const PARTS: usize = 256;
/// No prefix of IPv6 is told apart below this length: a customer's smallest block.
const FINEST_V6: u32 = 64;

/// Sums of one prefix's parts since they were last told.
#[derive(Debug)]
pub(super) struct Parts {
    /// How far an address is shifted to have the number of its part as the lowest eight bits.
    shift: u32,
    parts: Box<[[f32; 2]]>,
    /// The same by the eight bits behind; empty where there are none to tell apart.
    finer: Box<[[f32; 2]]>,
}

impl Parts {
    /// Parts of `prefix`: 2 KiB, and as much again for IPv6.
    pub(super) fn of(prefix: Prefix) -> Self {
        let bits = u32::from(prefix.length()) + if prefix.is_v4() { 96 } else { 0 };
        let sums = |count: usize| vec![[0.0; 2]; count].into_boxed_slice();
        let own = 128_u32.saturating_sub(bits).min(8);
        let has_finer = !prefix.is_v4() && bits + 16 <= FINEST_V6;
        Self { shift: 128_u32.saturating_sub(bits + own), parts: sums(1 << own), finer: sums(if has_finer { PARTS } else { 0 }) }
    }

    /// Counts packets and octets of one of the prefix's addresses.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are meant, and single precision is enough for a share")]
    pub(super) fn add(&mut self, address: Address, packets: f64, octets: f64) {
        let number = address.0.checked_shr(self.shift).unwrap_or(0) as usize & (self.parts.len() - 1);
        let finer = (address.0 >> self.shift.saturating_sub(8)) as usize & (PARTS - 1);
        for sums in self.parts.get_mut(number).into_iter().chain(self.finer.get_mut(finer)) {
            sums[0] += packets as f32;
            sums[1] += octets as f32;
        }
    }

    /// Tells the sums and begins anew.
    pub(super) fn take(&mut self) -> Spread {
        let spread = Spread { parts: self.parts.to_vec(), finer: self.finer.to_vec() };
        self.parts.fill([0.0; 2]);
        self.finer.fill([0.0; 2]);
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(prefix: &str, addresses: &[&str]) -> Spread {
        let mut parts = Parts::of(prefix.parse().unwrap());
        addresses.iter().for_each(|address| parts.add(address.parse().unwrap(), 2.0, 100.0));
        parts.take()
    }

    fn numbers(sums: &[[f32; 2]]) -> Vec<(usize, f32)> {
        sums.iter().enumerate().filter(|(_, sums)| sums[0] > 0.0).map(|(number, sums)| (number, sums[1])).collect()
    }

    #[test]
    fn addresses_fall_into_the_parts_of_their_prefix() {
        let spread = counted("203.0.113.0/24", &["203.0.113.7", "203.0.113.7", "203.0.113.255"]);
        assert_eq!((numbers(&spread.parts), spread.finer.len()), (vec![(7, 200.0), (255, 100.0)], 0));
        // A /22 has parts of four addresses, a /28 one for each address, a host one.
        assert_eq!(numbers(&counted("203.0.112.0/22", &["203.0.113.7"]).parts), [(65, 100.0)]);
        let small = counted("203.0.113.16/28", &["203.0.113.19"]);
        assert_eq!((numbers(&small.parts), small.parts.len()), (vec![(3, 100.0)], 16));
        assert_eq!(counted("203.0.113.16/32", &["203.0.113.16"]).parts.len(), 1);
    }

    #[test]
    fn ipv6_is_told_apart_down_to_64_bits() {
        let spread = counted("2001:db8::/48", &["2001:db8:0:1234::1"]);
        assert_eq!((numbers(&spread.parts), numbers(&spread.finer)), (vec![(0x12, 100.0)], vec![(0x34, 100.0)]));
        assert!(counted("2001:db8::/56", &["2001:db8::1"]).finer.is_empty());
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut parts = Parts::of("203.0.113.0/24".parse().unwrap());
        parts.add("203.0.113.7".parse().unwrap(), 1.0, 1.0);
        parts.take();
        assert!(numbers(&parts.take().parts).is_empty());
    }
}
