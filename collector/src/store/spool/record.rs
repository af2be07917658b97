//! A block on disk: a head with its counts, each of both parts with its checksum.
//!
//! All numbers are little-endian. The head: magic (8 octets), state (4; `DONE`, or the shards of the cluster that it was first sent to, 0
//! before that; not in the checksum, so that it can be overwritten where it lies), CRC-32 of the rest of the head (4), id (16), sequence (8), rows before it in the segment (8), rows (4), exporters (4), octets
//! of the block (4), octets of it compressed (4), CRC-32 of those (4); then 20 octets an exporter: address (16), rows (4). The block,
//! compressed (LZ4), follows.

use schemas::net::Address;
use uuid::Uuid;

use crate::store::queue::Block;

/// How every record begins.
pub const MAGIC: [u8; 8] = *b"WeirBlk1";
/// Octets of a head without its exporters.
pub const FIXED_OCTETS: usize = 68;
/// Octets of an exporter in a head.
pub const EXPORTER_OCTETS: usize = 20;
/// Where the state lies in a head.
pub const STATE_AT: u64 = 8;
/// The state of a record that the engine has acknowledged.
pub const DONE: [u8; 4] = *b"DONE";

/// More exporters than that are in no block: each has at least a row.
const EXPORTERS_MAX: u32 = 1 << 22;
/// A cluster has no more shards.
const SHARDS_MAX: u32 = 1 << 16;
/// No block is longer.
const OCTETS_MAX: u32 = 1 << 30;

/// What is told of a block before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The block's id.
    pub id: Uuid,
    /// Its place among all blocks.
    pub sequence: u64,
    /// Rows of the records before it in the same segment: by this, what cannot be read is counted.
    pub rows_before: u64,
    /// Its rows by exporter.
    pub exporters: Vec<(Address, u32)>,
    /// Octets of the block.
    pub octets: u32,
    /// Octets of it as they lie on disk.
    pub payload_octets: u32,
    /// CRC-32 of these.
    pub payload_crc: u32,
    /// Whether the engine has acknowledged it.
    pub is_done: bool,
    /// The shards of the cluster when it was first sent there; 0 before that, and where there is no cluster.
    pub shards: u32,
}

/// A record cannot be made of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block of {0} octets is too long for the spool")]
pub struct TooLong(pub usize);

impl Head {
    /// Rows of all exporters.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.exporters.iter().map(|(_, rows)| u64::from(*rows)).sum()
    }

    /// Octets of the head.
    #[must_use]
    pub fn head_octets(&self) -> u64 {
        (FIXED_OCTETS + self.exporters.len() * EXPORTER_OCTETS) as u64
    }

    /// Octets of the record.
    #[must_use]
    pub fn record_octets(&self) -> u64 {
        self.head_octets() + u64::from(self.payload_octets)
    }
}

/// The record of a block of the queue, and its head.
///
/// # Errors
///
/// [`TooLong`] for more than a gigaoctet.
pub fn of(block: &Block) -> Result<(Head, Vec<u8>), TooLong> {
    let exporters =
        block.charges.0.iter().flat_map(|share| &share.exporters).map(|charge| (charge.account.exporter(), charge.records)).collect();
    let (head, record) = record(block.id, block.sequence, exporters, &block.octets)?;
    Ok((Head { shards: block.past.shards, ..head }, record))
}

/// A record, and its head.
///
/// # Errors
///
/// [`TooLong`] for more than a gigaoctet.
pub fn record(id: Uuid, sequence: u64, exporters: Vec<(Address, u32)>, block: &[u8]) -> Result<(Head, Vec<u8>), TooLong> {
    let octets = u32::try_from(block.len()).ok().filter(|octets| *octets <= OCTETS_MAX).ok_or(TooLong(block.len()))?;
    let head_octets = FIXED_OCTETS + exporters.len() * EXPORTER_OCTETS;
    let mut record = vec![0; head_octets + lz4_flex::block::get_maximum_output_size(block.len())];
    let payload = record.get_mut(head_octets..).unwrap_or_default();
    // An output of the greatest size that there can be is never too short.
    let payload_octets = lz4_flex::block::compress_into(block, payload).map_err(|_| TooLong(block.len()))?;
    let payload_crc = crc32fast::hash(payload.get(..payload_octets).unwrap_or_default());
    record.truncate(head_octets + payload_octets);
    let payload_octets = u32::try_from(payload_octets).map_err(|_| TooLong(block.len()))?;
    let head = Head { id, sequence, rows_before: 0, exporters, octets, payload_octets, payload_crc, is_done: false, shards: 0 };
    Ok((head, record))
}

/// Writes a head before its block, now that its place in a segment is known.
pub fn seal(head: &Head, record: &mut [u8]) {
    let mut octets = Vec::with_capacity(FIXED_OCTETS + head.exporters.len() * EXPORTER_OCTETS);
    octets.extend_from_slice(&MAGIC);
    octets.extend_from_slice(&head.shards.to_le_bytes());
    octets.extend_from_slice(&[0; 4]);
    octets.extend_from_slice(head.id.as_bytes());
    octets.extend_from_slice(&head.sequence.to_le_bytes());
    octets.extend_from_slice(&head.rows_before.to_le_bytes());
    let rows = u32::try_from(head.rows()).unwrap_or(u32::MAX);
    let exporters = u32::try_from(head.exporters.len()).unwrap_or(u32::MAX);
    for number in [rows, exporters, head.octets, head.payload_octets, head.payload_crc] {
        octets.extend_from_slice(&number.to_le_bytes());
    }
    for (exporter, rows) in &head.exporters {
        octets.extend_from_slice(&exporter.0.to_le_bytes());
        octets.extend_from_slice(&rows.to_le_bytes());
    }
    let crc = crc32fast::hash(octets.get(16..).unwrap_or_default());
    if let Some(place) = octets.get_mut(12..16) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    if let Some(place) = record.get_mut(..octets.len()) {
        place.copy_from_slice(&octets);
    }
}

/// Octets that a head takes whose first octets are these; `None` if they are no head's.
#[must_use]
pub fn head_octets(fixed: &[u8]) -> Option<usize> {
    if fixed.get(..8)? != MAGIC {
        return None;
    }
    let exporters = number(fixed, 52)?;
    (exporters <= EXPORTERS_MAX).then_some(FIXED_OCTETS + usize::try_from(exporters).ok()? * EXPORTER_OCTETS)
}

/// Reads a head; `None` if its checksum or counts are wrong.
#[must_use]
pub fn head(octets: &[u8]) -> Option<Head> {
    let octets = octets.get(..head_octets(octets)?)?;
    if crc32fast::hash(octets.get(16..)?) != number(octets, 12)? {
        return None;
    }
    let exporter = |octets: &[u8]| Some((Address(u128::from_le_bytes(octets.get(..16)?.try_into().ok()?)), number(octets, 16)?));
    let exporters: Vec<_> = octets.get(FIXED_OCTETS..)?.chunks_exact(EXPORTER_OCTETS).filter_map(exporter).collect();
    let head = Head {
        id: Uuid::from_slice(octets.get(16..32)?).ok()?,
        sequence: u64::from_le_bytes(octets.get(32..40)?.try_into().ok()?),
        rows_before: u64::from_le_bytes(octets.get(40..48)?.try_into().ok()?),
        exporters,
        octets: number(octets, 56)?,
        payload_octets: number(octets, 60)?,
        payload_crc: number(octets, 64)?,
        is_done: octets.get(8..12)? == DONE,
        shards: number(octets, 8).filter(|shards| *shards <= SHARDS_MAX).unwrap_or(0),
    };
    // LZ4 makes no more than 255 octets of one.
    let octets_max = u64::from(head.payload_octets) * 255 + 255;
    let is_sound = head.rows() == u64::from(number(octets, 48)?) && u64::from(head.octets) <= octets_max && head.octets <= OCTETS_MAX;
    is_sound.then_some(head)
}

/// The block of a record; `None` if it is not as it was written.
#[must_use]
pub fn block(head: &Head, payload: &[u8]) -> Option<Vec<u8>> {
    if crc32fast::hash(payload) != head.payload_crc {
        return None;
    }
    let octets = usize::try_from(head.octets).ok()?;
    lz4_flex::block::decompress(payload, octets).ok().filter(|block| block.len() == octets)
}

fn number(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}
