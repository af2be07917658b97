//! The frame of NetFlow v9 and IPFIX: headers, and the chain of sets with every length checked.

use super::cursor::{u16_at, u32_at};
use super::error::DecodeError;

/// Length of a version 9 header (RFC 3954 §5.1).
pub(crate) const NETFLOW9_HEADER_OCTETS: usize = 20;
/// Length of an IPFIX message header (RFC 7011 §3.1).
pub(crate) const IPFIX_HEADER_OCTETS: usize = 16;
const SET_HEADER_OCTETS: usize = 4;

/// What the headers of NetFlow v9 and IPFIX say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Export time, unix milliseconds by the exporter's clock.
    pub(crate) export_milliseconds: u64,
    /// Milliseconds since the exporter's start; IPFIX has none.
    pub(crate) uptime_milliseconds: Option<u32>,
    /// v9: datagrams before this one; IPFIX: records before this message.
    pub(crate) sequence: u32,
    /// Source id or observation domain.
    pub(crate) domain: u32,
}

/// Reads a version 9 header and returns it with the octets of the sets.
///
/// The header's count is not used: some exporters count sets, others records (RFC 3954 §5.1 counts records).
///
/// # Errors
///
/// [`DecodeError::Truncated`] if the header is cut.
pub(crate) fn netflow9(payload: &[u8]) -> Result<(Header, &[u8]), DecodeError> {
    let cut = DecodeError::Truncated { offset: payload.len(), needed: NETFLOW9_HEADER_OCTETS.saturating_sub(payload.len()) };
    let sets = payload.get(NETFLOW9_HEADER_OCTETS..).ok_or(cut)?;
    let field = |offset| u32_at(payload, offset).ok_or(cut);
    let header = Header {
        export_milliseconds: u64::from(field(8)?) * 1_000,
        uptime_milliseconds: Some(field(4)?),
        sequence: field(12)?,
        domain: field(16)?,
    };
    Ok((header, sets))
}

/// Reads an IPFIX header and returns it with the octets of the sets; what follows the message in the datagram is not read.
///
/// # Errors
///
/// [`DecodeError::Truncated`] if the header is cut, [`DecodeError::MessageLength`] if the message is shorter than its header
/// or longer than the datagram.
pub(crate) fn ipfix(payload: &[u8]) -> Result<(Header, &[u8]), DecodeError> {
    let cut = DecodeError::Truncated { offset: payload.len(), needed: IPFIX_HEADER_OCTETS.saturating_sub(payload.len()) };
    let length = u16_at(payload, 2).ok_or(cut)?;
    let field = |offset| u32_at(payload, offset).ok_or(cut);
    let header =
        Header { export_milliseconds: u64::from(field(4)?) * 1_000, uptime_milliseconds: None, sequence: field(8)?, domain: field(12)? };
    let sets = payload.get(IPFIX_HEADER_OCTETS..usize::from(length)).ok_or(DecodeError::MessageLength { length, octets: payload.len() })?;
    Ok((header, sets))
}

/// One set of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set<'a> {
    /// Set id: 0 to 3 templates, 256 and more data.
    pub(crate) id: u16,
    /// The octets behind the set's header.
    pub(crate) body: &'a [u8],
}

/// The sets of a datagram in order; ends at the first length that cannot be, with its error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sets<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Sets<'a> {
    /// Walks `octets`, which begin behind the datagram's header.
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { octets, offset: 0 }
    }

    /// Whether nothing but zeros follows: exporters that fill a datagram up to a fixed size leave a chain of empty headers.
    fn is_padding(rest: &[u8]) -> bool {
        rest.len() < SET_HEADER_OCTETS || rest.iter().all(|&octet| octet == 0)
    }
}

impl<'a> Iterator for Sets<'a> {
    type Item = Result<Set<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.octets.get(self.offset..).unwrap_or_default();
        let (id, length) = (u16_at(rest, 0)?, u16_at(rest, 2)?);
        match rest.get(SET_HEADER_OCTETS..usize::from(length)) {
            Some(body) => {
                self.offset += usize::from(length);
                Some(Ok(Set { id, body }))
            }
            None if Self::is_padding(rest) => {
                self.offset = self.octets.len();
                None
            }
            None => {
                let error = DecodeError::SetLength { offset: self.offset, length };
                self.offset = self.octets.len();
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_before_a_broken_length_are_seen_and_the_break_is_told_once() {
        let octets = [1, 0, 0, 6, 9, 9, 1, 1, 0, 3, 7, 7];
        let sets: Vec<_> = Sets::new(&octets).collect();
        assert_eq!(sets, [Ok(Set { id: 256, body: &[9, 9] }), Err(DecodeError::SetLength { offset: 6, length: 3 })]);
    }

    #[test]
    fn a_tail_of_zeros_is_padding() {
        assert_eq!(Sets::new(&[0; 64]).count(), 0);
        assert_eq!(Sets::new(&[1, 0, 0, 4, 0, 0, 0]).count(), 1);
    }

    #[test]
    fn a_message_longer_than_its_datagram_is_refused_and_one_that_is_shorter_is_read_to_its_end() {
        let mut message = vec![0, 10, 0, 20, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 0, 0, 4, 99];
        assert_eq!(ipfix(&message).unwrap().1, [1, 0, 0, 4]);
        message[3] = 22;
        assert_eq!(ipfix(&message), Err(DecodeError::MessageLength { length: 22, octets: 21 }));
        message[3] = 15;
        assert!(matches!(ipfix(&message), Err(DecodeError::MessageLength { length: 15, .. })));
    }
}
