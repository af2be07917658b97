//! Big-endian reads from octets of unknown length: every read may fail, none panics.

/// The octet at `offset`.
#[inline]
pub(crate) fn u8_at(octets: &[u8], offset: usize) -> Option<u8> {
    octets.get(offset).copied()
}

/// The 16-bit number at `offset`, network order.
#[inline]
pub(crate) fn u16_at(octets: &[u8], offset: usize) -> Option<u16> {
    octets.get(offset..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// The 32-bit number at `offset`, network order.
#[inline]
pub(crate) fn u32_at(octets: &[u8], offset: usize) -> Option<u32> {
    octets.get(offset..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// A number of any length in network order; one that needs more than 64 bits is `u64::MAX`.
#[inline]
pub(crate) fn number(octets: &[u8]) -> u64 {
    let mut value = 0u64;
    for &octet in octets {
        if value >> 56 != 0 {
            return u64::MAX;
        }
        value = value << 8 | u64::from(octet);
    }
    value
}

/// Octets read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        let (value, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u16::from_be_bytes(*value))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (value, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_behind_the_end_are_none() {
        assert_eq!((u16_at(&[1, 2], 0), u16_at(&[1, 2], 1), u32_at(&[0; 4], 1)), (Some(258), None, None));
        let mut cursor = Cursor::new(&[0, 1, 2]);
        assert_eq!((cursor.u16(), cursor.u16(), cursor.rest()), (Some(1), None, [2].as_slice()));
    }

    #[test]
    fn a_number_over_64_bits_is_the_largest() {
        assert_eq!(number(&[1, 0, 0]), 65_536);
        assert_eq!(number(&[0, 0, 0, 0, 0, 0, 0, 0, 7]), 7);
        assert_eq!(number(&[1, 0, 0, 0, 0, 0, 0, 0, 0]), u64::MAX);
    }
}
