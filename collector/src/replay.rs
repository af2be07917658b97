//! The pipe on a virtual clock, and a capture through it: what would have been seen, had we been there.

use std::path::Path;

use schemas::counter::{SLOT_MILLISECONDS, Snapshot};
use schemas::ledger::Ledger;
use schemas::time::Timestamp;

use crate::decode::Datagram;
use crate::receive::capture::{Capture, CaptureError};
use crate::receive::packet::Frame;
use crate::receive::reassembly::Reassembler;
use crate::shard::Pipe;

/// Packets that are looked at to tell exports from other traffic.
const LOOK_PACKETS: usize = 1_000;
/// How long a silence in the capture is lived through slot by slot; longer ones are passed over.
const SILENCE_MILLISECONDS_MAX: u64 = 180_000;

/// What a capture is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Datagrams of exporters.
    Exports,
    /// Packets, each a record of its own.
    Packets,
}

/// What a capture is of, by its first packets: of exports if half of the UDP datagrams at the least look like one.
///
/// # Errors
///
/// If the file is no capture. One that breaks off among its first packets is judged by what there is.
pub fn content(path: &Path) -> Result<Content, CaptureError> {
    let mut capture = Capture::open(path)?;
    let mut reassembler = Reassembler::default();
    let (mut datagrams, mut exports) = (0usize, 0usize);
    for _ in 0..LOOK_PACKETS {
        let Ok(Some(packet)) = capture.next_packet() else {
            break;
        };
        if let Some(datagram) = packet.link().and_then(|link| reassembler.take(link, packet.octets)) {
            datagrams += 1;
            exports += usize::from(looks_like_an_export(datagram.payload));
        }
    }
    Ok(if exports * 2 >= datagrams && exports > 0 { Content::Exports } else { Content::Packets })
}

/// Whether a datagram's first octets are those of an export protocol whose lengths agree with the datagram's.
fn looks_like_an_export(payload: &[u8]) -> bool {
    let number = |offset: usize| payload.get(offset..)?.first_chunk().copied().map(u16::from_be_bytes).map(usize::from);
    let records = |header: usize, record: usize| number(2).is_some_and(|count| count > 0 && header + count * record <= payload.len());
    match (number(0), number(2)) {
        // sFlow: the rest of the version, then an address of IPv4 or IPv6.
        (Some(0), Some(5)) => matches!((number(4), number(6)), (Some(0), Some(1 | 2))),
        (Some(1), _) => records(16, 48),
        (Some(5), _) => records(24, 48),
        (Some(7), _) => records(24, 52),
        (Some(9), Some(count)) => count > 0 && number(22).is_some_and(|length| length >= 4 && 20 + length <= payload.len()),
        (Some(10), Some(length)) => length >= 16 && length <= payload.len(),
        _ => false,
    }
}

/// Runs a capture through `pipe` on the clock of its packets, and the clock on for `tail_milliseconds`; gives every snapshot to `take`.
///
/// With `Content::Exports` UDP datagrams to any port are taken, or to `ports` where some are named. Answers the sum of the ledgers.
///
/// # Errors
///
/// If the capture cannot be read to its end; all packets in front of the fault have been counted, and the clock has run on.
pub fn run(
    capture: &mut Capture,
    content: Content,
    ports: &[u16],
    pipe: &mut Pipe,
    tail_milliseconds: u64,
    take: impl FnMut(Snapshot),
) -> Result<Ledger, CaptureError> {
    let mut reassembler = Reassembler::default();
    let mut course = Course::new(pipe, take);
    let end = loop {
        let packet = match capture.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        // Packets of several interfaces may be slightly out of order.
        let arrival = course.reach(packet.arrival());
        match content {
            Content::Exports => {
                let datagram = packet.link().and_then(|link| reassembler.take(link, packet.octets));
                if let Some(datagram) = datagram.filter(|datagram| ports.is_empty() || ports.contains(&datagram.destination_port)) {
                    let (exporter, source_port) = (datagram.source, datagram.source_port);
                    course.pipe.datagram(&Datagram { exporter, source_port, arrival, payload: datagram.payload });
                }
            }
            Content::Packets => {
                let (link, octets, original_octets) = (packet.link(), packet.octets, packet.original_octets);
                course.pipe.frames(std::iter::once(Frame { link, octets, original_octets, arrival, vlan_id: 0 }), 0, arrival);
            }
        }
    };
    let ledger = course.finish(tail_milliseconds);
    end.map(|()| ledger)
}

/// A pipe on a virtual clock, which goes by what arrives and never back; every snapshot goes to `take`.
pub struct Course<'a, T> {
    /// The pipe, which takes what has just arrived.
    pub pipe: &'a mut Pipe,
    now: Option<Timestamp>,
    take: T,
}

impl<'a, T: FnMut(Snapshot)> Course<'a, T> {
    /// A clock that starts with the first arrival.
    pub fn new(pipe: &'a mut Pipe, take: T) -> Self {
        Self { pipe, now: None, take }
    }

    /// Lets the clock go to the moment of an arrival, slot by slot; answers what time it is then.
    pub fn reach(&mut self, arrival: Timestamp) -> Timestamp {
        let now = self.now.map_or(arrival, |now| now.max(arrival));
        if let Some(before) = self.now {
            self.live(before, now);
        }
        self.now = Some(now);
        now
    }

    /// Lets the clock run on, and ends the pipe; answers the sum of its ledgers.
    pub fn finish(mut self, tail_milliseconds: u64) -> Ledger {
        if let Some(now) = self.now {
            let end = now.plus(tail_milliseconds);
            self.live(now, end);
            (self.take)(self.pipe.finish(end));
        }
        self.pipe.ledger()
    }

    fn live(&mut self, now: Timestamp, then: Timestamp) {
        let mut moment = now;
        let mut lived = 0;
        while moment < then && lived < SILENCE_MILLISECONDS_MAX {
            let closes = Timestamp((moment.milliseconds() / SLOT_MILLISECONDS + 1) * SLOT_MILLISECONDS);
            if closes > then {
                return;
            }
            lived += closes.since(moment);
            moment = closes;
            if let Some(snapshot) = self.pipe.tick(moment) {
                (self.take)(snapshot);
            }
        }
    }
}

#[cfg(test)]
mod tests;
