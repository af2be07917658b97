//! UDP datagrams out of captured packets, put together again where exporters' large ones were fragmented.

use schemas::flow::fragment;
use schemas::net::Address;

use crate::decode::frame::{Headers, Link, dissect};

const UDP: u8 = 17;
/// Datagrams that are put together at one time; the oldest gives way.
const WAITING_MAX: usize = 64;
/// The largest payload whose length a UDP header can tell.
const PAYLOAD_OCTETS_MAX: usize = 0xffff - 8;
/// Fragments of one datagram: 65,535 octets in parts of no less than 512.
const PARTS_MAX: usize = 128;

/// A UDP datagram of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpDatagram<'a> {
    /// Who sent it.
    pub source: Address,
    /// To whom.
    pub destination: Address,
    /// From which port.
    pub source_port: u16,
    /// To which port.
    pub destination_port: u16,
    /// What it carries; less than was sent if the capture kept less.
    pub payload: &'a [u8],
}

/// Finds the UDP datagrams of a capture; holds at most 64 that are not yet whole.
#[derive(Debug, Default)]
pub struct Reassembler {
    waiting: Vec<Partial>,
    whole: Vec<u8>,
    /// Datagrams given up: pushed out by later ones, or with parts that contradict each other.
    pub given_up: u64,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Key {
    source: Address,
    destination: Address,
    identification: u32,
}

#[derive(Debug)]
struct Partial {
    key: Key,
    octets: Vec<u8>,
    parts: Vec<(usize, usize)>,
    /// Length of the whole, known from the last fragment.
    total: Option<usize>,
}

impl Reassembler {
    /// The datagram that this frame carries or completes.
    pub fn take<'a>(&'a mut self, link: Link, frame: &'a [u8]) -> Option<UdpDatagram<'a>> {
        let headers = dissect(link, frame)?;
        if headers.protocol_identifier != UDP || !headers.is_ip() {
            return None;
        }
        let end = match headers.ip_octets {
            // Segmentation in the network card leaves the length 0.
            0 => frame.len(),
            octets => frame.len().min(usize::from(headers.network_offset) + usize::try_from(octets).ok()?),
        };
        let body = frame.get(usize::from(headers.transport_offset)..end)?;
        if headers.fragment & fragment::FRAGMENT == 0 {
            return datagram(&headers, body);
        }
        let key = Key { source: headers.source_address, destination: headers.destination_address, identification: headers.identification };
        self.put(key, usize::from(headers.fragment_offset), body, headers.more_fragments);
        let index = self.waiting.iter().position(|partial| partial.key == key && partial.is_whole())?;
        self.whole = self.waiting.remove(index).octets;
        datagram(&headers, &self.whole)
    }

    fn put(&mut self, key: Key, offset: usize, body: &[u8], more: bool) {
        let index = match self.waiting.iter().position(|partial| partial.key == key) {
            Some(index) => index,
            None => {
                if self.waiting.len() >= WAITING_MAX {
                    self.waiting.remove(0);
                    self.given_up += 1;
                }
                self.waiting.push(Partial::new(key));
                self.waiting.len() - 1
            }
        };
        let Some(partial) = self.waiting.get_mut(index) else {
            return;
        };
        if !partial.put(offset, body, more) {
            // RFC 5722 §4: parts that overlap discard the whole; a number used anew starts anew.
            self.given_up += 1;
            *partial = Partial::new(key);
            if !partial.put(offset, body, more) {
                self.waiting.remove(index);
            }
        }
    }
}

impl Partial {
    fn new(key: Key) -> Self {
        Self { key, octets: Vec::new(), parts: Vec::new(), total: None }
    }

    /// Takes a fragment; `false` if it contradicts what is there.
    fn put(&mut self, offset: usize, body: &[u8], more: bool) -> bool {
        let end = offset + body.len();
        if self.parts.contains(&(offset, end)) {
            return true;
        }
        let overlaps = self.parts.iter().any(|&(from, to)| offset < to && from < end);
        let beyond = self.total.is_some_and(|total| end > total || !more);
        if overlaps || beyond || body.is_empty() || end > 0xffff || self.parts.len() >= PARTS_MAX {
            return false;
        }
        if !more {
            if self.octets.len() > end {
                return false;
            }
            self.total = Some(end);
        }
        if self.octets.len() < end {
            self.octets.resize(end, 0);
        }
        let Some(place) = self.octets.get_mut(offset..end) else {
            return false;
        };
        place.copy_from_slice(body);
        self.parts.push((offset, end));
        true
    }

    fn is_whole(&self) -> bool {
        self.total == Some(self.parts.iter().map(|(from, to)| to - from).sum())
    }
}

fn datagram<'a>(headers: &Headers, segment: &'a [u8]) -> Option<UdpDatagram<'a>> {
    let ([s0, s1, d0, d1, l0, l1, _, _], carried) = segment.split_first_chunk::<8>()?;
    // A length of 0 is a jumbogram (RFC 2675) or left out by segmentation in the network card.
    let announced = match u16::from_be_bytes([*l0, *l1]) {
        0 => carried.len(),
        octets => usize::from(octets).checked_sub(8)?,
    };
    let payload = carried.get(..announced).unwrap_or(carried);
    Some(UdpDatagram {
        source: headers.source_address,
        destination: headers.destination_address,
        source_port: u16::from_be_bytes([*s0, *s1]),
        destination_port: u16::from_be_bytes([*d0, *d1]),
        // A frame without lengths may be of any size; a decoder is given no more than a datagram can hold.
        payload: payload.get(..PAYLOAD_OCTETS_MAX).unwrap_or(payload),
    })
}

#[cfg(test)]
mod tests;
