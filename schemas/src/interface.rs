//! Interfaces of exporters: on which side of the network they are, and what they count themselves.

use serde::{Deserialize, Serialize};

use crate::net::Address;
use crate::time::Timestamp;

/// On which side of the network an interface is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Boundary {
    /// Nobody has said.
    #[default]
    Undefined = 0,
    /// Towards other networks: transits, peers, exchanges.
    External = 1,
    /// Towards routers and customers of ours.
    Internal = 2,
}

impl Boundary {
    /// The word of the config, the API and the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::External => "external",
            Self::Internal => "internal",
        }
    }
}

/// A value of a counter that only grows, of 32 or 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counter {
    /// The device does not count this.
    #[default]
    Unknown,
    /// It begins anew behind 2^32 - 1.
    Bits32(u32),
    /// It is taken never to wrap.
    Bits64(u64),
}

impl Counter {
    /// A counter of sFlow, which says by its largest value that it is none (sFlow Version 5, §5.4).
    #[must_use]
    pub fn of_sflow(value: u32) -> Self {
        if value == u32::MAX { Self::Unknown } else { Self::Bits32(value) }
    }

    /// What was counted since `earlier`; `None` if that cannot be said, as when the counter was reset.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<u64> {
        match (self, earlier) {
            (Self::Bits32(value), Self::Bits32(earlier)) => Some(u64::from(value.wrapping_sub(earlier))),
            (Self::Bits64(value), Self::Bits64(earlier)) => value.checked_sub(earlier),
            _ => None,
        }
    }
}

/// The counters of one interface at one moment, by the device's own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterSample {
    /// Who counts: the sFlow agent, or the device that was asked.
    pub agent: Address,
    /// `ifIndex`.
    pub interface: u32,
    /// When it was told, by our clock.
    pub at: Timestamp,
    /// How long the device has been up, in milliseconds.
    pub uptime_milliseconds: u64,
    /// Where that clock begins anew.
    pub uptime_wraps_at: u64,
    /// The uptime at which the device last lost count (`ifCounterDiscontinuityTime`); 0 = never, or not told.
    pub discontinuity: u64,
    /// `ifSpeed`, in bits a second; 0 = not known.
    pub speed_bits: u64,
    /// `ifOperStatus`.
    pub is_up: bool,
    /// Octets in, layer 2 included.
    pub octets_in: Counter,
    /// Octets out, layer 2 included.
    pub octets_out: Counter,
    /// Packets in: unicast, multicast, broadcast.
    pub packets_in: [Counter; 3],
    /// Packets out: unicast, multicast, broadcast.
    pub packets_out: [Counter; 3],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_of_32_bits_wraps_and_one_of_64_was_reset() {
        assert_eq!(Counter::Bits32(4).since(Counter::Bits32(u32::MAX - 5)), Some(10));
        assert_eq!(Counter::Bits64(4).since(Counter::Bits64(9)), None);
        assert_eq!(Counter::Bits64(9).since(Counter::Bits64(4)), Some(5));
        assert_eq!(Counter::of_sflow(u32::MAX).since(Counter::Bits32(4)), None);
    }
}
