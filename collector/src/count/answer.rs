//! Which sources are suspects, while no networks are configured: then sources are not counted, but what a suspect answers is.

use std::collections::HashSet;

use schemas::net::Address;

/// Bits of the filter: 8 KiB, of which a thousand suspects set a 64th.
const BITS: usize = 1 << 16;

/// The addresses of suspects whose answers are counted: a filter of bits that is asked for every record, before the set itself.
#[derive(Debug)]
pub(super) struct Answering {
    bits: Box<[u64; BITS / 64]>,
    addresses: HashSet<Address>,
    /// Odd and secret, so that nobody finds addresses that pass the filter.
    multiplier: u64,
}

impl Answering {
    pub(super) fn new(secret: u64) -> Self {
        Self { bits: Box::new([0; BITS / 64]), addresses: HashSet::new(), multiplier: secret | 1 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    #[inline]
    pub(super) fn holds(&self, address: Address) -> bool {
        let (word, bit) = self.place(address);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0) && self.holds_surely(address)
    }

    #[inline(never)]
    fn holds_surely(&self, address: Address) -> bool {
        self.addresses.contains(&address)
    }

    pub(super) fn insert(&mut self, address: Address) {
        self.addresses.insert(address);
        self.set(address);
    }

    /// Takes an address out; others may have the same bit, so that all are set anew.
    pub(super) fn remove(&mut self, address: Address) {
        if self.addresses.remove(&address) {
            self.bits.fill(0);
            let addresses: Vec<Address> = self.addresses.iter().copied().collect();
            addresses.into_iter().for_each(|address| self.set(address));
        }
    }

    fn set(&mut self, address: Address) {
        let (word, bit) = self.place(address);
        self.bits.iter_mut().skip(word).take(1).for_each(|bits| *bits |= bit);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves are folded, and the shift leaves 16 bits")]
    fn place(&self, address: Address) -> (usize, u64) {
        let half = address.0 as u64 ^ ((address.0 >> 64) as u64).rotate_left(29);
        let number = (half.wrapping_mul(self.multiplier) >> 48) as usize;
        (number / 64, 1 << (number % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_put_in_and_not_taken_out_is_held() {
        let mut answering = Answering::new(0x9e37_79b9_7f4a_7c15);
        let addresses = || (0..2_000u32).map(|host| Address::from_v4(0xcb00_7100 + host));
        addresses().for_each(|address| answering.insert(address));
        assert!(addresses().all(|address| answering.holds(address)));
        assert!((0..100_000u32).all(|host| !answering.holds(Address::from_v4(0x0a00_0000 + host))));
        addresses().skip(1).for_each(|address| answering.remove(address));
        assert_eq!(addresses().filter(|address| answering.holds(*address)).count(), 1);
        assert!(!answering.is_empty());
    }
}
