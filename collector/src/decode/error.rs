//! Why a datagram is not decoded.

/// A condition of a whole datagram; each is counted as `datagrams_malformed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The datagram ends within its header or its records.
    #[error("datagram ends at octet {offset}, {needed} more needed")]
    Truncated {
        /// Length of the datagram.
        offset: usize,
        /// Octets that are missing.
        needed: usize,
    },
    /// The version is none that Weir speaks.
    #[error("unknown export version {version}")]
    Version {
        /// The first 16 bits.
        version: u16,
    },
    /// The header promises a number of records that its protocol does not allow.
    #[error("a version {version} datagram cannot hold {count} records")]
    Count {
        /// The export version.
        version: u16,
        /// The count of the header.
        count: u16,
    },
    /// A set's length is below its header's 4 octets or over what the datagram has left.
    #[error("set at octet {offset} has a length of {length} octets")]
    SetLength {
        /// Where the set begins.
        offset: usize,
        /// The length that it claims.
        length: u16,
    },
    /// The length in an IPFIX header does not fit the datagram.
    #[error("message of {length} octets in a datagram of {octets}")]
    MessageLength {
        /// The length that the header claims.
        length: u16,
        /// Length of the datagram.
        octets: usize,
    },
}
