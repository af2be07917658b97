//! Capture files, pcap and pcapng: a stream of packets with their time and link layer.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pcap_parser::pcapng::{Block, InterfaceDescriptionBlock};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{PcapBlockOwned, PcapError, create_reader};
use schemas::time::Timestamp;

use crate::decode::frame::Link;

const BUFFER_OCTETS: usize = 1 << 18;
/// The largest record that is read; a file that announces a larger one is corrupt.
const RECORD_OCTETS_MAX: usize = 1 << 24;
/// Interfaces of a pcapng section that are remembered.
const INTERFACES_MAX: usize = 1 << 16;
const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// One packet of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When it was captured, in nanoseconds since the unix epoch.
    pub nanoseconds: u64,
    /// The LINKTYPE number of its interface.
    pub link_type: u32,
    /// Its octets, as many as were kept.
    pub octets: &'a [u8],
    /// How many octets it had on the wire.
    pub original_octets: u32,
}

impl Packet<'_> {
    /// When it was captured, in milliseconds.
    #[must_use]
    pub fn arrival(&self) -> Timestamp {
        Timestamp(self.nanoseconds / 1_000_000)
    }

    /// Its link layer, if Weir can read it.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        Link::of_capture(self.link_type)
    }
}

/// Why a capture cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system does not let the file be read.
    #[error("cannot read the capture: {0}")]
    Read(io::Error),
    /// The first octets are no header of either format.
    #[error("neither a pcap nor a pcapng file")]
    Format,
    /// The file ends inside a record.
    #[error("the capture ends inside the record at octet {offset}")]
    Truncated {
        /// Where that record begins.
        offset: usize,
    },
    /// A record contradicts itself or its file.
    #[error("the capture is corrupt from octet {offset} on")]
    Corrupt {
        /// Where that record begins.
        offset: usize,
    },
}

// Not by `#[from]`, which would make it the source as well: it is in the message already, and whoever prints both says it twice.
impl From<io::Error> for CaptureError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// A capture file that is being read; packets come in the order of the file.
pub struct Capture {
    reader: Box<dyn PcapReaderIterator + Send>,
    capacity: usize,
    interfaces: Vec<Interface>,
    nanoseconds: u64,
    link_type: u32,
    original_octets: u32,
    octets: Vec<u8>,
}

/// What a pcapng section says of an interface; a pcap file has one for all.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u32,
    /// Ticks of its clock in a second.
    resolution: u64,
    offset_seconds: i64,
}

/// What a record of the file was.
enum Record {
    Packet,
    Other,
    Bad,
}

impl Capture {
    /// Opens a capture file of either format.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is no capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = File::open(path)?;
        // The library tells no more of a read that fails than that it did.
        if file.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        }
        Self::read_from(file)
    }

    /// Reads a capture of either format from any source.
    ///
    /// # Errors
    ///
    /// If the source cannot be read or does not begin as a capture.
    pub fn read_from(source: impl Read + Send + 'static) -> Result<Self, CaptureError> {
        let source = Whole { source, failure: None };
        let reader = create_reader(BUFFER_OCTETS, source).map_err(|error| match error {
            PcapError::ReadError => CaptureError::Read(io::ErrorKind::Other.into()),
            _ => CaptureError::Format,
        })?;
        Ok(Self {
            reader,
            capacity: BUFFER_OCTETS,
            interfaces: Vec::new(),
            nanoseconds: 0,
            link_type: 0,
            original_octets: 0,
            octets: Vec::new(),
        })
    }

    /// The next packet; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// If the rest of the file cannot be read; the packets in front of the fault have been given out, and nothing follows.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        loop {
            let offset = self.reader.consumed();
            let (step, record) = match self.reader.next() {
                Ok((step, block)) => {
                    let mut sink = Sink {
                        interfaces: &mut self.interfaces,
                        nanoseconds: &mut self.nanoseconds,
                        link_type: &mut self.link_type,
                        original_octets: &mut self.original_octets,
                        octets: &mut self.octets,
                    };
                    (step, sink.take(&block))
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) => {
                    self.more(offset)?;
                    continue;
                }
                Err(PcapError::UnexpectedEof) => {
                    return if self.reader.data().is_empty() { Ok(None) } else { Err(CaptureError::Truncated { offset }) };
                }
                Err(_) => return Err(CaptureError::Corrupt { offset }),
            };
            match record {
                Record::Bad => return Err(CaptureError::Corrupt { offset }),
                Record::Other => self.reader.consume(step),
                Record::Packet => {
                    self.reader.consume(step);
                    return Ok(Some(Packet {
                        nanoseconds: self.nanoseconds,
                        link_type: self.link_type,
                        octets: &self.octets,
                        original_octets: self.original_octets,
                    }));
                }
            }
        }
    }

    /// Reads on, with a larger buffer if the record at `offset` has filled it.
    fn more(&mut self, offset: usize) -> Result<(), CaptureError> {
        let before = self.reader.data().len();
        self.reader.refill().map_err(|_| CaptureError::Read(io::ErrorKind::Other.into()))?;
        if self.reader.data().len() == before && !self.reader.reader_exhausted() {
            self.capacity *= 2;
            if self.capacity > RECORD_OCTETS_MAX || !self.reader.grow(self.capacity) {
                return Err(CaptureError::Corrupt { offset });
            }
        }
        Ok(())
    }
}

/// The parts of a [`Capture`] that a record writes to, while the reader lends the record out.
struct Sink<'a> {
    interfaces: &'a mut Vec<Interface>,
    nanoseconds: &'a mut u64,
    link_type: &'a mut u32,
    original_octets: &'a mut u32,
    octets: &'a mut Vec<u8>,
}

impl Sink<'_> {
    fn take(&mut self, block: &PcapBlockOwned<'_>) -> Record {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let resolution = if header.is_nanosecond_precision() { NANOSECONDS_PER_SECOND } else { 1_000_000 };
                // The upper bits may hold the length of a frame check sequence.
                let link_type = header.network.0.cast_unsigned() & 0xffff;
                *self.interfaces = vec![Interface { link_type, resolution, offset_seconds: 0 }];
                Record::Other
            }
            PcapBlockOwned::Legacy(packet) => {
                let Some(interface) = self.interfaces.first().copied() else {
                    return Record::Bad;
                };
                let fraction = u64::from(packet.ts_usec) * (NANOSECONDS_PER_SECOND / interface.resolution);
                *self.nanoseconds = u64::from(packet.ts_sec) * NANOSECONDS_PER_SECOND + fraction;
                self.put(interface, packet.data, packet.origlen)
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.interfaces.clear();
                Record::Other
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                if self.interfaces.len() >= INTERFACES_MAX {
                    return Record::Bad;
                }
                self.interfaces.push(Interface::of(description));
                Record::Other
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let Some(interface) = usize::try_from(packet.if_id).ok().and_then(|index| self.interfaces.get(index)).copied() else {
                    return Record::Bad;
                };
                *self.nanoseconds = interface.nanoseconds(u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low));
                self.put(interface, packet.packet_data(), packet.origlen)
            }
            // A simple packet has no time: it keeps that of the packet in front.
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => match self.interfaces.first().copied() {
                Some(interface) => self.put(interface, packet.packet_data(), packet.origlen),
                None => Record::Bad,
            },
            PcapBlockOwned::NG(_) => Record::Other,
        }
    }

    fn put(&mut self, interface: Interface, octets: &[u8], original_octets: u32) -> Record {
        *self.link_type = interface.link_type;
        *self.original_octets = original_octets;
        self.octets.clear();
        self.octets.extend_from_slice(octets);
        Record::Packet
    }
}

impl Interface {
    fn of(description: &InterfaceDescriptionBlock<'_>) -> Self {
        let exponent = description.if_tsresol & 0x7f;
        let base: u64 = if description.if_tsresol & 0x80 == 0 { 10 } else { 2 };
        // The library reads the offset as little-endian whatever the section is.
        let big_endian = description.block_type != pcap_parser::IDB_MAGIC;
        let offset_seconds = if big_endian { description.if_tsoffset.swap_bytes() } else { description.if_tsoffset };
        Self {
            link_type: description.linktype.0.cast_unsigned() & 0xffff,
            resolution: base.checked_pow(u32::from(exponent)).unwrap_or(1_000_000),
            offset_seconds,
        }
    }

    /// Nanoseconds since the epoch, of a reading of the interface's clock; a moment outside the range is its end.
    fn nanoseconds(self, ticks: u64) -> u64 {
        let resolution = u128::from(self.resolution.max(1));
        let since_offset = u128::from(ticks) * u128::from(NANOSECONDS_PER_SECOND) / resolution;
        let offset = i128::from(self.offset_seconds) * i128::from(NANOSECONDS_PER_SECOND);
        let moment = i128::try_from(since_offset).unwrap_or(i128::MAX).saturating_add(offset);
        u64::try_from(moment.max(0)).unwrap_or(u64::MAX)
    }
}

/// A source that fills the whole of what it is asked for, unless it ends: the library wants a file's header in one read.
struct Whole<R> {
    source: R,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) => break,
                Ok(octets) => filled += octets,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if filled == 0 => return Err(error),
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests;
