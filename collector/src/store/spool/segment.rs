//! A file of records, and what can be read of it whatever has become of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::record::{self, FIXED_OCTETS, Head, MAGIC};

/// How every segment begins: a magic and the version of the format.
pub const HEADER: [u8; 16] = *b"WeirSpool\0\0\0\x01\0\0\0";
/// Octets that are searched at once for the next record.
const WINDOW_OCTETS: usize = 1 << 16;

/// Where octets are read from.
pub trait Source {
    /// Fills `buffer` from `offset` on as far as there is anything; the octets that were there.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Octets in all.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn octets(&self) -> io::Result<u64>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(octets) => filled += octets,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Source for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let octets = rest.len().min(buffer.len());
        if let (Some(into), Some(from)) = (buffer.get_mut(..octets), rest.get(..octets)) {
            into.copy_from_slice(from);
        }
        Ok(octets)
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// A record with a sound head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its head begins.
    pub offset: u64,
    /// Its head.
    pub head: Head,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub struct Scan {
    /// Records whose head is sound and that are there in full.
    pub records: Vec<Found>,
    /// Where the last whole record ends.
    pub octets: u64,
    /// The record that the segment ends in the middle of, where its head can be read.
    pub torn: Option<Found>,
    /// Runs of octets that are no records.
    pub gaps: u64,
    /// Rows of the records that lay in them, as far as the heads behind tell.
    pub rows_lost: u64,
}

impl Scan {
    /// Whether the segment is not as it was written; to end in the middle of a record is what a crash leaves.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.gaps > 0
    }
}

/// Finds the records of a segment.
///
/// # Errors
///
/// What the system says.
pub fn scan(source: &(impl Source + ?Sized)) -> io::Result<Scan> {
    let end = source.octets()?;
    let mut scan = Scan::default();
    let mut header = [0; HEADER.len()];
    let read = source.read_at(&mut header, 0)?;
    if read < header.len() && HEADER.starts_with(header.get(..read).unwrap_or_default()) {
        return Ok(scan);
    }
    let is_ours = header == HEADER;
    let mut position = if is_ours { HEADER.len() as u64 } else { 0 };
    scan.octets = position;
    let mut rows = 0;
    // A gap at the very start is one where the header is not ours.
    let mut in_gap = !is_ours && end > 0;
    scan.gaps = u64::from(in_gap);
    while position < end {
        let Some(head) = head_at(source, position, end)? else {
            // Less than a head at the end, or one that nothing sound follows, is what a crash in the middle of a write leaves.
            match next_magic(source, position + 1, end)? {
                Some(next) => position = next,
                None => break,
            }
            if !in_gap {
                (in_gap, scan.gaps) = (true, scan.gaps + 1);
            }
            continue;
        };
        in_gap = false;
        let found = Found { offset: position, head };
        scan.rows_lost += found.head.rows_before.saturating_sub(rows);
        rows = found.head.rows_before.saturating_add(found.head.rows());
        let ends = position + found.head.record_octets();
        if ends > end {
            // Records may lie in what seems to be its block, where the file was cut in its middle and not at its end.
            scan.torn = Some(found);
            break;
        }
        scan.records.push(found);
        scan.octets = ends;
        position = ends;
    }
    Ok(scan)
}

/// The head at an offset, if there is a sound one.
fn head_at(source: &(impl Source + ?Sized), offset: u64, end: u64) -> io::Result<Option<Head>> {
    let mut fixed = [0; FIXED_OCTETS];
    let read = source.read_at(&mut fixed, offset)?;
    let Some(octets) = record::head_octets(&fixed).filter(|octets| read == FIXED_OCTETS && offset + *octets as u64 <= end) else {
        return Ok(None);
    };
    let mut head = vec![0; octets];
    source.read_at(&mut head, offset)?;
    Ok(record::head(&head))
}

/// Where the next record may begin.
fn next_magic(source: &(impl Source + ?Sized), from: u64, end: u64) -> io::Result<Option<u64>> {
    let mut window = vec![0; WINDOW_OCTETS];
    let mut position = from;
    while position < end {
        let read = source.read_at(&mut window, position)?;
        let octets = window.get(..read).unwrap_or_default();
        if let Some(place) = octets.windows(MAGIC.len()).position(|octets| octets == MAGIC) {
            return Ok(Some(position + place as u64));
        }
        if read < WINDOW_OCTETS {
            break;
        }
        // The last octets may be a magic's first.
        position += (WINDOW_OCTETS - MAGIC.len() + 1) as u64;
    }
    Ok(None)
}

/// The record that begins at an offset, if there is a sound head; without its block if that is not as it was written.
///
/// # Errors
///
/// What the system says.
pub fn read(source: &(impl Source + ?Sized), offset: u64) -> io::Result<Option<(Head, Option<Vec<u8>>)>> {
    let end = source.octets()?;
    let Some(head) = head_at(source, offset, end)? else {
        return Ok(None);
    };
    if offset + head.record_octets() > end {
        return Ok(Some((head, None)));
    }
    let mut payload = vec![0; usize::try_from(head.payload_octets).unwrap_or(usize::MAX)];
    let read = source.read_at(&mut payload, offset + head.head_octets())?;
    let block = if read == payload.len() { record::block(&head, &payload) } else { None };
    Ok(Some((head, block)))
}
