//! Export datagrams and frames into columns.

pub mod frame;
pub mod sflow5;

use schemas::net::Address;
use schemas::time::Timestamp;

/// One datagram as the socket or a capture hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The sender.
    pub exporter: Address,
    /// Its UDP port.
    pub source_port: u16,
    /// When it arrived.
    pub arrival: Timestamp,
    /// What it carries.
    pub payload: &'a [u8],
}
