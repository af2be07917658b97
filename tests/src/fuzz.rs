//! What is fed with hostile octets: a function for each decoder, shared by the fuzzer and by the replay in the tests.
//!
//! Each takes any octets, never panics, and asserts what must hold whatever they are.

mod datagram;
pub mod mutation;
mod oracle;
pub mod seed;
mod segment;

use std::io::Cursor;

use api::query::compile::{Column, Statement};
use api::query::{Bounds, parser};
use collector::decode::frame::{Link, dissect, tunnelled};
use collector::receive::capture::Capture;
use collector::receive::reassembly::Reassembler;

/// A decoder with its name, which is also that of its folder of seeds and of its fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// `netflow9`, `frame`.
    pub name: &'static str,
    /// Feeds it.
    pub feed: fn(&[u8]),
}

/// Every decoder that reads what comes from outside, or back from a disk.
pub const TARGETS: &[Target] = &[
    Target { name: "netflow1", feed: netflow1 },
    Target { name: "netflow5", feed: netflow5 },
    Target { name: "netflow7", feed: netflow7 },
    Target { name: "netflow9", feed: netflow9 },
    Target { name: "ipfix", feed: ipfix },
    Target { name: "sflow5", feed: sflow5 },
    Target { name: "plan_against_oracle", feed: plan_against_oracle },
    Target { name: "frame", feed: frame },
    Target { name: "capture", feed: capture },
    Target { name: "config", feed: config },
    Target { name: "filter", feed: filter },
    Target { name: "spool", feed: spool },
];

/// Datagrams of NetFlow version 1.
pub fn netflow1(input: &[u8]) {
    datagram::feed(input, Some(1));
}

/// Datagrams of NetFlow version 5.
pub fn netflow5(input: &[u8]) {
    datagram::feed(input, Some(5));
}

/// Datagrams of NetFlow version 7.
pub fn netflow7(input: &[u8]) {
    datagram::feed(input, Some(7));
}

/// Datagrams of NetFlow version 9.
pub fn netflow9(input: &[u8]) {
    datagram::feed(input, Some(9));
}

/// Messages of IPFIX.
pub fn ipfix(input: &[u8]) {
    datagram::feed(input, Some(10));
}

/// Datagrams of sFlow, or of whatever version they say.
pub fn sflow5(input: &[u8]) {
    datagram::feed(input, None);
}

/// A template and its data: the compiled plan against netflow_parser.
pub fn plan_against_oracle(input: &[u8]) {
    oracle::feed(input);
}

/// A configuration file.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    drop(api::config::check::read(text));
}

/// A filter of a query: an error lies within the text, and nothing of what is read reaches the SQL but by a bound value.
pub fn filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match parser::parse(text, &Bounds::default()) {
        Ok(None) => assert!(text.trim().is_empty(), "only nothing is no filter"),
        Ok(Some(filter)) => {
            let mut statement = Statement::default();
            statement.filter(&filter, &|field| Column { name: field.column(), length: "length" });
            let is_ours = |letter: char| letter.is_ascii_alphanumeric() || " _(){}:,=<>".contains(letter);
            assert!(statement.sql.chars().all(is_ours), "{}", statement.sql);
            assert_eq!(statement.sql.matches("{p").count(), statement.values.len(), "every value is bound once");
        }
        Err(error) => assert!(error.offset <= text.len() && text.is_char_boundary(error.offset), "{error}"),
    }
}

/// A segment of the spool behind one octet, by which its checksums may be made right: then what they hold back comes through.
pub fn spool(input: &[u8]) {
    let Some((first, octets)) = input.split_first() else { return };
    let mut octets = octets.to_vec();
    if first % 2 == 1 {
        segment::seal(&mut octets);
    }
    segment::check(&octets);
}

/// A frame behind one octet that picks its link layer.
pub fn frame(input: &[u8]) {
    const LINKS: [Link; 9] =
        [Link::Ethernet, Link::Cooked, Link::Cooked2, Link::Ip, Link::Null, Link::Ppp, Link::PppoeSession, Link::Hdlc, Link::Mpls];
    let Some((first, octets)) = input.split_first() else { return };
    let link = LINKS[usize::from(*first) % LINKS.len()];
    let mut outer = dissect(link, octets);
    // A tunnel in a tunnel in a tunnel: each step reads further into the frame, or ends.
    for _ in 0..8 {
        let Some(headers) = outer else { return };
        assert!(usize::from(headers.network_offset) <= octets.len(), "an IP header begins within the frame");
        outer = tunnelled(&headers, octets);
    }
}

/// A capture file, and the datagrams in it.
pub fn capture(input: &[u8]) {
    let Ok(mut capture) = Capture::read_from(Cursor::new(input.to_vec())) else { return };
    let mut reassembler = Reassembler::default();
    while let Ok(Some(packet)) = capture.next_packet() {
        if let Some(link) = packet.link()
            && let Some(datagram) = reassembler.take(link, packet.octets)
        {
            assert!(datagram.payload.len() <= 65_535, "a datagram is no longer than its length field can say");
        }
    }
}
