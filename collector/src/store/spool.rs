//! Blocks on disk while the engine is slow or away: a folder of segments, each a file that is only appended to.
//!
//! What was written outlives a crash of the program; what the engine has acknowledged is marked where it lies, and a segment goes
//! when all its records have gone. A record that is sent once more, since its mark was lost, is known to the engine by its id.

mod aside;
mod error;
mod owner;
pub mod record;
pub mod segment;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use self::aside::Aside;
pub use self::error::SpoolError;
use self::owner::{Owners, Portion};
use self::record::Head;
use super::account::Charges;
use super::config::{Fsync, Spool as Config};
use super::folder::make_private;
use super::queue::{Block, Past};
use super::recovered::Recovered;

/// A segment that is as long is appended to no more.
const SEGMENT_OCTETS_MAX: u64 = 64 << 20;
/// After a disk has failed, how long it is let alone.
const PAUSE: Duration = Duration::from_secs(1);
/// The part of the spool's octets that blocks set aside may have besides.
const ASIDE_PART: u64 = 4;

/// A block that waits on disk: where it lies, and as much of it as must be known when it can be read no more.
#[derive(Debug)]
struct Entry {
    segment: u64,
    offset: u64,
    id: Uuid,
    portions: Box<[Portion]>,
    past: Past,
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
    owners: Owners,
    aside: Aside,
    /// The segment that is appended to.
    tail: Option<(u64, File)>,
    /// What was written and not yet made to survive a loss of power, and since when.
    unsynced_since: Option<Instant>,
    paused_until: Option<Instant>,
    /// So many octets were there when a block found no room: until one of its segments goes there is none for the next either.
    full_at: Option<u64>,
}

/// Where a block lies; it can be read without the spool, as long as nobody removes it.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    offset: u64,
    id: Uuid,
}

impl Place {
    /// The head and the block; without what is not as it was written.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn read(&self) -> io::Result<Option<(Head, Option<Vec<u8>>)>> {
        Ok(segment::read(&File::open(&self.path)?, self.offset)?.filter(|(head, _)| head.id == self.id))
    }
}

/// A block that cannot be read back.
#[derive(Debug)]
pub struct Lost {
    /// Its id.
    pub id: Uuid,
    /// Whose its records were, as far as that can be told.
    pub charges: Charges,
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
            owners: Owners::default(),
            aside: Aside::new(folder),
            tail: None,
            unsynced_since: None,
            paused_until: None,
            full_at: None,
        };
        let mut opened = Opened::default();
        if folder.is_dir() {
            // One that cannot be closed to others is told there.
            drop(make_private(folder));
        }
        spool.aside.take_back(numbers(folder).last().map_or(0, |last| last + 1));
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
            let mut sequence = found.head.sequence;
            while self.blocks.contains_key(&sequence) {
                sequence += 1;
            }
            let portions = self.owners.learn(sequence, &recovered.charges(&found.head.exporters));
            // Whether it was sent before nobody knows any more.
            let past = Past { shards: found.head.shards, is_in_doubt: true };
            let id = found.head.id;
            self.blocks.insert(sequence, Entry { segment: number, offset: found.offset, id, portions, past });
        }
        self.segments.insert(number, segment);
        // What cannot be removed now is swept later on.
        drop(self.remove_if_done(number));
    }

    /// The sequence of the oldest block from `sequence` on.
    #[must_use]
    pub fn first_from(&self, sequence: u64) -> Option<u64> {
        self.blocks.range(sequence..).next().map(|(first, _)| *first)
    }

    /// The sequence of the newest block.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.blocks.keys().next_back().copied()
    }

    /// Whether a block waits here.
    #[must_use]
    pub fn holds(&self, sequence: u64) -> bool {
        self.blocks.contains_key(&sequence)
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

    /// Whether there is room for a block, as far as can be told before its record is made.
    ///
    /// # Errors
    ///
    /// What keeps any block from the disk.
    pub fn admits(&self) -> Result<(), SpoolError> {
        if self.config.octets_max == 0 {
            return Err(SpoolError::None);
        }
        if self.blocks() >= self.config.blocks_max {
            return Err(SpoolError::BlocksMax(self.config.blocks_max));
        }
        if self.full_at.is_some_and(|octets| self.octets() >= octets) {
            return Err(SpoolError::OctetsMax(self.config.octets_max));
        }
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return Err(SpoolError::Paused);
        }
        Ok(())
    }

    /// Writes the record of a block ([`record::of`]).
    ///
    /// # Errors
    ///
    /// What keeps it from the disk; then nothing of it is there.
    pub fn append(&mut self, block: &Block, (head, record): (Head, Vec<u8>)) -> Result<(), SpoolError> {
        self.admits()?;
        if self.octets().saturating_add(record.len() as u64) > self.config.octets_max {
            self.full_at = Some(self.octets());
            return Err(SpoolError::OctetsMax(self.config.octets_max));
        }
        self.full_at = None;
        if let Err(error) = self.write(block, head, record) {
            self.paused_until = Some(Instant::now() + PAUSE);
            return Err(error.into());
        }
        self.paused_until = None;
        Ok(())
    }

    fn write(&mut self, block: &Block, mut head: Head, mut record: Vec<u8>) -> io::Result<()> {
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
        let offset = segment.octets;
        segment.octets += record.len() as u64;
        segment.rows += head.rows();
        segment.waiting += 1;
        self.unsynced_since.get_or_insert_with(Instant::now);
        let portions = self.owners.learn(block.sequence, &block.charges);
        let (id, past) = (block.id, block.past);
        self.blocks.insert(block.sequence, Entry { segment: number, offset, id, portions, past });
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        if self.config.fsync != Fsync::Never
            && let Some((_, file)) = &self.tail
        {
            file.sync_data()?;
        }
        make_private(&self.folder)?;
        let number =
            self.segments.keys().next_back().map_or(0, |last| last + 1).max(numbers(&self.folder).last().map_or(0, |last| last + 1));
        let path = self.path(number);
        let file = File::options().write(true).create_new(true).open(&path)?;
        let sync_folder = || if self.config.fsync == Fsync::Never { Ok(()) } else { File::open(&self.folder)?.sync_all() };
        if let Err(error) = file.write_all_at(&segment::HEADER, 0).and_then(|()| sync_folder()) {
            drop(fs::remove_file(&path));
            return Err(error);
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

    /// Where a block lies that waits here.
    #[must_use]
    pub fn place(&self, sequence: u64) -> Option<Place> {
        let entry = self.blocks.get(&sequence)?;
        Some(Place { path: self.path(entry.segment), offset: entry.offset, id: entry.id })
    }

    /// The block of what was read at its place ([`Place::read`]); [`Lost`] if it is not as it was written.
    pub fn resolve(&mut self, sequence: u64, found: Option<(Head, Option<Vec<u8>>)>) -> Option<Result<Block, Lost>> {
        let entry = self.blocks.get(&sequence)?;
        let (id, past) = (entry.id, entry.past);
        let (charges, octets) = match found {
            Some((head, octets)) => (self.owners.charges(sequence, &entry.portions, &head.exporters), octets),
            None => (self.owners.unknown(&entry.portions), None),
        };
        if let Some(octets) = octets {
            return Some(Ok(Block { id, sequence, octets: octets.into(), charges, past }));
        }
        if let Some(segment) = self.segments.get_mut(&entry.segment) {
            segment.is_corrupt = true;
        }
        Some(Err(Lost { id, charges }))
    }

    /// A block that the disk does not give.
    pub fn give_up(&mut self, sequence: u64) -> Option<Lost> {
        let entry = self.blocks.get(&sequence)?;
        Some(Lost { id: entry.id, charges: self.owners.unknown(&entry.portions) })
    }

    /// Remembers what was tried with a block; to how many shards it was first sent, beyond the end of the program.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn tried(&mut self, sequence: u64, past: Past) -> Result<(), SpoolError> {
        let Some(entry) = self.blocks.get_mut(&sequence) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut entry.past, past);
        if before.shards == past.shards {
            return Ok(());
        }
        let (segment, at) = (entry.segment, entry.offset + record::STATE_AT);
        let file = File::options().write(true).open(self.path(segment))?;
        file.write_all_at(&past.shards.to_le_bytes(), at)?;
        if self.config.fsync == Fsync::Block {
            file.sync_data()?;
        }
        Ok(())
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
        if self.blocks.is_empty() {
            self.owners.settle();
        }
        let path = self.path(entry.segment);
        let is_last = self.segments.get_mut(&entry.segment).is_some_and(|segment| {
            segment.waiting = segment.waiting.saturating_sub(1);
            segment.waiting == 0
        });
        if is_last {
            return Ok(self.remove_if_done(entry.segment)?);
        }
        Ok(File::options().write(true).open(path)?.write_all_at(&record::DONE, entry.offset + record::STATE_AT)?)
    }

    /// Removes a segment in which nothing waits, or sets it aside if it is corrupt.
    fn remove_if_done(&mut self, number: u64) -> io::Result<()> {
        let Some(segment) = self.segments.get(&number).filter(|segment| segment.waiting == 0) else {
            return Ok(());
        };
        self.tail.take_if(|(tail, _)| *tail == number);
        let path = self.path(number);
        if segment.is_corrupt {
            self.aside.keep_corrupt(&path);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.segments.remove(&number),
        };
        self.full_at = None;
        Ok(())
    }

    /// Removes what could not be removed when its time came.
    pub fn sweep(&mut self) {
        let done: Vec<u64> = self.segments.iter().filter(|(_, segment)| segment.waiting == 0).map(|(number, _)| *number).collect();
        // It was told the first time.
        done.into_iter().for_each(|number| drop(self.remove_if_done(number)));
    }

    /// Keeps a block that the engine refuses for good, for a look at it; at most so many.
    pub fn keep_refused(&self, block: &Block) {
        self.aside.keep_refused(block.id, &block.octets);
    }

    /// Sets a block aside until the next start, when it is taken up like any other.
    ///
    /// # Errors
    ///
    /// What keeps it from the disk.
    pub fn set_aside(&self, block: &Block) -> Result<(), SpoolError> {
        let octets_max = self.config.octets_max / ASIDE_PART;
        let (head, record) = record::of(block)?;
        Ok(self.aside.put(&head, record, octets_max, self.config.fsync != Fsync::Never)?)
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
