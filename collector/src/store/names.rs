//! The names that a stored flow carries beside its numbers, asked for while blocks are made.

use schemas::net::Address;

/// Who knows the names; whoever asks keeps what it was told for the length of a block.
pub trait Names {
    /// The name of an exporter's interface, empty if unknown, and the place of its boundary in [`BOUNDARIES`].
    fn interface(&self, exporter: Address, index: u32) -> (&str, u8) {
        let _ = (exporter, index);
        ("", 0)
    }

    /// The application that a protocol and its ports belong to, empty if unknown; asked for every row.
    fn application(&self, protocol: u8, source_port: u16, destination_port: u16) -> &str {
        let _ = (protocol, source_port, destination_port);
        ""
    }
}

/// What lies behind an interface, as the columns `ingress_boundary` and `egress_boundary` name it.
pub const BOUNDARIES: &[&str] = &["undefined", "external", "internal"];

/// Nobody knows any name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nameless;

impl Names for Nameless {}
