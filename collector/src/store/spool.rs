//! Blocks on disk while the engine is slow or away: a folder of segments, each a file that is only appended to.
//!
//! What was written outlives a crash of the program; what the engine has acknowledged is marked where it lies, and a segment goes
//! when all its records have gone. A record that is sent once more, since its mark was lost, is known to the engine by its id.

pub mod record;
pub mod segment;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use self::record::Head;
use self::segment::Found;
use super::account::Charges;
use super::config::{Fsync, Spool as Config};
use super::recovered::Recovered;

/// A segment that is as long is appended to no more.
const SEGMENT_OCTETS_MAX: u64 = 64 << 20;
/// After a disk has failed, how long it is let alone.
const PAUSE: Duration = Duration::from_secs(1);
/// Corrupt segments that are kept for a look at them.
const CORRUPT_SEGMENTS_MAX: usize = 8;
/// Blocks refused by the engine that are kept for a look at them.
const REFUSED_BLOCKS_MAX: usize = 16;

/// Why a block is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// `octets_max` is 0, or the folder cannot be made.
    #[error("there is no spool")]
    None,
    /// At the bound on blocks.
    #[error("the spool holds {0} blocks, and no more are allowed")]
    BlocksMax(u64),
    /// At the bound on octets.
    #[error("the spool holds as many octets as are allowed: {0}")]
    OctetsMax(u64),
    /// The disk has no room.
    #[error("the disk is full")]
    DiskFull,
    /// The disk is read-only, or the folder not ours to write.
    #[error("the disk cannot be written: {0}")]
    ReadOnly(io::Error),
    /// The disk fails otherwise.
    #[error("the disk fails: {0}")]
    Io(io::Error),
    /// The disk has failed a moment ago.
    #[error("the disk has failed a moment ago")]
    Paused,
    /// The block is longer than a record can be.
    #[error(transparent)]
    TooLong(#[from] record::TooLong),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly(error),
            _ => Self::Io(error),
        }
    }
}

impl SpoolError {
    /// The condition's name, as a metric has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BlocksMax(_) => "blocks_max",
            Self::OctetsMax(_) => "octets_max",
            Self::DiskFull => "disk_full",
            Self::ReadOnly(_) => "read_only",
            Self::Io(_) => "io",
            Self::Paused => "paused",
            Self::TooLong(_) => "too_long",
        }
    }
}

/// A block that waits on disk.
#[derive(Clone, Debug)]
pub struct Entry {
    segment: u64,
    found: Found,
    /// Whose its records are.
    pub charges: Charges,
}

impl Entry {
    /// The block's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.found.head.id
    }
}

#[derive(Debug)]
struct Segment {
    octets: u64,
    rows: u64,
    /// Records that the engine has not acknowledged.
    waiting: usize,
    is_corrupt: bool,
}

/// The spool.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    config: Config,
    segments: BTreeMap<u64, Segment>,
    /// The blocks that wait, by their sequence: the oldest goes first, wherever it lies.
    blocks: BTreeMap<u64, Entry>,
    /// The segment that is appended to.
    tail: Option<(u64, File)>,
    /// What was written and not yet made to survive a loss of power, and since when.
    unsynced_since: Option<Instant>,
    paused_until: Option<Instant>,
}

/// What was found on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Blocks that wait.
    pub blocks: u64,
    /// Their rows.
    pub rows: u64,
    /// Segments that were not as they were written.
    pub segments_corrupt: u64,
    /// Rows that could not be read back, as far as is known.
    pub rows_corrupt: u64,
    /// Segments that cannot be read at all.
    pub segments_unreadable: u64,
}

impl Spool {
    /// A spool in `folder`, with what is there from before.
    ///
    /// Files that cannot be read stay where they are.
    #[must_use]
    pub fn open(folder: &Path, config: &Config, recovered: &Recovered) -> (Self, Opened) {
        let mut spool = Self {
            folder: folder.to_path_buf(),
            config: config.clone(),
            segments: BTreeMap::new(),
            blocks: BTreeMap::new(),
            tail: None,
            unsynced_since: None,
            paused_until: None,
        };
        let mut opened = Opened::default();
        for number in numbers(folder) {
            match File::open(spool.path(number)).and_then(|file| segment::scan(&file)) {
                Ok(scan) => spool.take_up(number, scan, recovered, &mut opened),
                Err(_) => opened.segments_unreadable += 1,
            }
        }
        (spool, opened)
    }

    fn take_up(&mut self, number: u64, scan: segment::Scan, recovered: &Recovered, opened: &mut Opened) {
        let mut segment = Segment { octets: scan.octets, rows: 0, waiting: 0, is_corrupt: scan.is_corrupt() };
        opened.segments_corrupt += u64::from(scan.is_corrupt());
        opened.rows_corrupt += scan.rows_lost;
        recovered.corrupt(&[], scan.rows_lost);
        if let Some(torn) = &scan.torn {
            recovered.corrupt(&torn.head.exporters, torn.head.rows());
            opened.rows_corrupt += torn.head.rows();
        }
        for found in scan.records {
            segment.rows = found.head.rows_before.wrapping_add(found.head.rows());
            if found.head.is_done {
                continue;
            }
            segment.waiting += 1;
            opened.blocks += 1;
            opened.rows += found.head.rows();
            let charges = recovered.charges(&found.head.exporters);
            let mut sequence = found.head.sequence;
            while self.blocks.contains_key(&sequence) {
                sequence += 1;
            }
            self.blocks.insert(sequence, Entry { segment: number, found, charges });
        }
        self.segments.insert(number, segment);
        // What cannot be removed now is swept later on.
        drop(self.remove_if_done(number));
    }

    /// The sequence of the oldest block.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.blocks.keys().next().copied()
    }

    /// The sequence of the newest block.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.blocks.keys().next_back().copied()
    }

    /// A block's entry.
    #[must_use]
    pub fn entry(&self, sequence: u64) -> Option<&Entry> {
        self.blocks.get(&sequence)
    }

    /// Blocks that wait.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Octets on disk.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.segments.values().map(|segment| segment.octets).sum()
    }

    /// Segments on disk.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments.len() as u64
    }

    /// Writes a block.
    ///
    /// # Errors
    ///
    /// What keeps it from the disk; then nothing of it is there.
    pub fn append(&mut self, sequence: u64, id: Uuid, charges: &Charges, block: &[u8]) -> Result<(), SpoolError> {
        self.check_bounds()?;
        let exporters = charges.exporters.iter().map(|charge| (charge.account.exporter(), charge.records)).collect();
        let (head, record) = record::record(id, sequence, exporters, block)?;
        if self.octets().saturating_add(record.len() as u64) > self.config.octets_max {
            return Err(SpoolError::OctetsMax(self.config.octets_max));
        }
        if let Err(error) = self.write(sequence, head, record, charges) {
            self.paused_until = Some(Instant::now() + PAUSE);
            return Err(error.into());
        }
        self.paused_until = None;
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), SpoolError> {
        if self.config.octets_max == 0 {
            return Err(SpoolError::None);
        }
        if self.blocks() >= self.config.blocks_max {
            return Err(SpoolError::BlocksMax(self.config.blocks_max));
        }
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return Err(SpoolError::Paused);
        }
        Ok(())
    }

    fn write(&mut self, sequence: u64, mut head: Head, mut record: Vec<u8>, charges: &Charges) -> io::Result<()> {
        let is_full = |(number, _): &(u64, File)| self.segments.get(number).is_none_or(|segment| segment.octets >= SEGMENT_OCTETS_MAX);
        if self.tail.as_ref().is_none_or(is_full) {
            self.begin_segment()?;
        }
        let Some((number, file)) = &self.tail else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let number = *number;
        let Some(segment) = self.segments.get_mut(&number) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        head.rows_before = segment.rows;
        record::seal(&head, &mut record);
        let is_safe = |file: &File| if self.config.fsync == Fsync::Block { file.sync_data() } else { Ok(()) };
        if let Err(error) = file.write_all_at(&record, segment.octets).and_then(|()| is_safe(file)) {
            // What was written of it is cut off, or else overwritten by the next.
            drop(file.set_len(segment.octets));
            return Err(error);
        }
        let found = Found { offset: segment.octets, head };
        segment.octets += record.len() as u64;
        segment.rows += found.head.rows();
        segment.waiting += 1;
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.blocks.insert(sequence, Entry { segment: number, found, charges: charges.clone() });
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        if self.config.fsync != Fsync::Never
            && let Some((_, file)) = &self.tail
        {
            file.sync_data()?;
        }
        fs::create_dir_all(&self.folder)?;
        let number =
            self.segments.keys().next_back().map_or(0, |last| last + 1).max(numbers(&self.folder).last().map_or(0, |last| last + 1));
        let path = self.path(number);
        let file = File::options().write(true).create_new(true).open(&path)?;
        if let Err(error) = file.write_all_at(&segment::HEADER, 0) {
            drop(fs::remove_file(&path));
            return Err(error);
        }
        if self.config.fsync != Fsync::Never {
            File::open(&self.folder)?.sync_all()?;
        }
        let octets = segment::HEADER.len() as u64;
        self.tail = Some((number, file));
        self.segments.insert(number, Segment { octets, rows: 0, waiting: 0, is_corrupt: false });
        Ok(())
    }

    /// Makes what was written survive a loss of power, if it is time to.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn sync_if_due(&mut self) -> Result<(), SpoolError> {
        let is_due =
            self.config.fsync == Fsync::Second && self.unsynced_since.is_some_and(|since| since.elapsed() >= Duration::from_secs(1));
        if is_due { self.sync() } else { Ok(()) }
    }

    /// Makes what was written survive a loss of power, unless nobody wants that.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        self.unsynced_since = None;
        match &self.tail {
            Some((_, file)) if self.config.fsync != Fsync::Never => Ok(file.sync_data()?),
            _ => Ok(()),
        }
    }

    /// The block of an entry; `None` if it is not as it was written.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn read(&mut self, entry: &Entry) -> Result<Option<Vec<u8>>, SpoolError> {
        let file = File::open(self.path(entry.segment))?;
        let block = segment::read(&file, &entry.found)?;
        if block.is_none()
            && let Some(segment) = self.segments.get_mut(&entry.segment)
        {
            segment.is_corrupt = true;
        }
        Ok(block)
    }

    /// Forgets a block that has found its end, and removes its segment if that was its last.
    ///
    /// # Errors
    ///
    /// If the mark cannot be written: after a restart the block is sent once more, and the engine knows it by its id.
    pub fn remove(&mut self, sequence: u64) -> Result<(), SpoolError> {
        let Some(entry) = self.blocks.remove(&sequence) else {
            return Ok(());
        };
        let path = self.path(entry.segment);
        let is_last = self.segments.get_mut(&entry.segment).is_some_and(|segment| {
            segment.waiting = segment.waiting.saturating_sub(1);
            segment.waiting == 0
        });
        if is_last {
            return Ok(self.remove_if_done(entry.segment)?);
        }
        Ok(File::options().write(true).open(path)?.write_all_at(&record::DONE, entry.found.offset + record::STATE_AT)?)
    }

    /// Removes a segment in which nothing waits, or sets it aside if it is corrupt.
    fn remove_if_done(&mut self, number: u64) -> io::Result<()> {
        let Some(segment) = self.segments.get(&number).filter(|segment| segment.waiting == 0) else {
            return Ok(());
        };
        self.tail.take_if(|(tail, _)| *tail == number);
        let path = self.path(number);
        if segment.is_corrupt {
            self.set_aside("corrupt", CORRUPT_SEGMENTS_MAX, |to| fs::rename(&path, to.join(name(number))));
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.segments.remove(&number),
        };
        Ok(())
    }

    /// Removes what could not be removed when its time came.
    pub fn sweep(&mut self) {
        let done: Vec<u64> = self.segments.iter().filter(|(_, segment)| segment.waiting == 0).map(|(number, _)| *number).collect();
        // It was told the first time.
        done.into_iter().for_each(|number| drop(self.remove_if_done(number)));
    }

    /// Keeps a block that the engine wants not, for a look at it; at most so many.
    pub fn keep_refused(&self, id: Uuid, block: &[u8]) {
        self.set_aside("refused", REFUSED_BLOCKS_MAX, |to| fs::write(to.join(format!("{id}.native")), block));
    }

    /// Does something in a folder beside the segments, unless it holds `files_max` or cannot be written.
    fn set_aside(&self, folder: &str, files_max: usize, act: impl FnOnce(&Path) -> io::Result<()>) {
        let folder = self.folder.join(folder);
        if fs::create_dir_all(&folder).is_ok() && fs::read_dir(&folder).is_ok_and(|entries| entries.count() < files_max) {
            // It has been counted: what is kept is for the curious.
            drop(act(&folder));
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(name(number))
    }
}

fn name(number: u64) -> String {
    format!("{number:012}.segment")
}

/// The segments in a folder, ascending.
fn numbers(folder: &Path) -> Vec<u64> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut numbers: Vec<u64> = names.filter_map(|name| name.to_str()?.strip_suffix(".segment")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests;
