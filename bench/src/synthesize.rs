//! Exporters, hosts, traffic and attacks from a seed: the datagrams of real protocols, bytes out, given `now`.
//!
//! Everything here is pure: the same seed and the same moments give the same octets. A [`Router`] is the whole thing
//! (traffic, attacks, an exporter); [`Exporter`] turns any flows into datagrams; a [`Pool`] keeps ready datagrams
//! that need only sequence numbers and times, for rates at which making them would be the bottleneck.

mod attack;
mod demo;
mod draft;
mod exporter;
mod frame;
pub mod mmdb;
mod netflow5;
mod pool;
mod random;
mod router;
mod routes;
mod sflow5;
mod template;
mod traffic;

pub use attack::{Attack, Vector};
pub use demo::demo;
pub use draft::Draft;
pub use exporter::{Exporter, Layout};
pub use frame::{frame, frame_octets};
pub use pool::Pool;
pub use random::Random;
pub use router::{Router, Sent};
pub use routes::{Route, routes};
pub use traffic::{Hosts, Popularity, Traffic};

use schemas::net::Address;
use schemas::time::Timestamp;

/// The largest UDP payload of an Ethernet packet of 1,500 octets: 20 octets of IPv4 and 8 of UDP are taken off.
pub const PAYLOAD_OCTETS_MAX: usize = 1472;

/// An export protocol that can be synthesized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// NetFlow version 5; IPv4 only, flows of IPv6 are left out.
    Netflow5,
    /// NetFlow version 9 (RFC 3954).
    Netflow9,
    /// IPFIX (RFC 7011), records of fixed length.
    Ipfix,
    /// IPFIX with two fields of variable length in each record.
    IpfixVariable,
    /// sFlow version 5; a flow is one sampled packet.
    Sflow5,
}

impl Protocol {
    /// All of them, in the order in which reports list them.
    pub const ALL: [Self; 5] = [Self::Netflow5, Self::Netflow9, Self::Ipfix, Self::IpfixVariable, Self::Sflow5];

    /// The word for it on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Netflow5 => "v5",
            Self::Netflow9 => "v9",
            Self::Ipfix => "ipfix",
            Self::IpfixVariable => "ipfix-variable",
            Self::Sflow5 => "sflow",
        }
    }

    /// The port that collectors expect it at.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Netflow5 | Self::Netflow9 => 2055,
            Self::Ipfix | Self::IpfixVariable => 4739,
            Self::Sflow5 => 6343,
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|protocol| protocol.name() == text).ok_or_else(|| format!("not one of {}", names()))
    }
}

/// Whether packets are whole, or which part of a larger one they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// Not a part.
    #[default]
    Whole,
    /// The first part, which carries the ports.
    First,
    /// A later one, which carries none.
    Later,
}

/// One flow as a router sees it, before it is put into a protocol's record; counts are those that the exporter
/// sampled, so the traffic on the wire is `packets` × the sampling interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The sender.
    pub source: Address,
    /// The receiver, of the same family.
    pub destination: Address,
    /// Port of the sender, 0 where the protocol has none.
    pub source_port: u16,
    /// Port of the receiver, for ICMP type × 256 + code.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// All TCP flags seen.
    pub tcp_control_bits: u8,
    /// Whether its packets are parts of larger ones.
    pub fragment: Fragment,
    /// Sampled packets.
    pub packets: u64,
    /// Sampled IP octets.
    pub octets: u64,
    /// First packet.
    pub start: Timestamp,
    /// Last packet.
    pub end: Timestamp,
    /// Interface it came in by.
    pub ingress_interface: u32,
    /// Interface it left by.
    pub egress_interface: u32,
    /// Time to live of its packets.
    pub ttl: u8,
}
