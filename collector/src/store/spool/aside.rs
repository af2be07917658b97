//! What was taken out of the spool and stays on disk beside it: blocks that the engine wants not, or not now, and corrupt segments.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::record::{self, Head};
use super::segment;
use crate::store::folder::make_private;

/// Corrupt segments that are kept for a look at them.
const CORRUPT_SEGMENTS_MAX: usize = 8;
/// Blocks refused for good that are kept for a look at them.
const REFUSED_BLOCKS_MAX: usize = 16;

/// The folders beside the segments.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    folder: PathBuf,
}

impl Aside {
    /// Those of the spool in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// Keeps a block that the engine refuses for good, for a look at it, as the engine reads it; at most so many.
    pub(super) fn keep_refused(&self, id: Uuid, block: &[u8]) {
        self.keep("refused", REFUSED_BLOCKS_MAX, |to| fs::write(to.join(format!("{id}.native")), block));
    }

    /// Keeps a corrupt segment, for a look at it; at most so many.
    pub(super) fn keep_corrupt(&self, segment: &Path) {
        self.keep("corrupt", CORRUPT_SEGMENTS_MAX, |to| fs::rename(segment, to.join(segment.file_name().unwrap_or_default())));
    }

    fn keep(&self, name: &str, files_max: usize, act: impl FnOnce(&Path) -> io::Result<()>) {
        let folder = self.folder.join(name);
        if make_private(&folder).is_ok() && fs::read_dir(&folder).is_ok_and(|entries| entries.count() < files_max) {
            // It has been counted: what is kept is for the curious.
            drop(act(&folder));
        }
    }

    /// Writes a block into a segment of its own that waits for the next start.
    ///
    /// # Errors
    ///
    /// What the disk says, or that the folder would hold more than `octets_max`.
    pub(super) fn put(&self, head: &Head, mut record: Vec<u8>, octets_max: u64, is_synced: bool) -> io::Result<()> {
        let folder = self.waiting();
        make_private(&folder)?;
        let held: u64 = fs::read_dir(&folder)?.flatten().filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum();
        if held + record.len() as u64 > octets_max {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        record::seal(head, &mut record);
        // Under its name it is there in full, or not at all.
        let new = folder.join(format!("{}.new", head.id));
        let mut file = File::create(&new)?;
        file.write_all(&segment::HEADER)?;
        file.write_all(&record)?;
        if is_synced {
            file.sync_all()?;
        }
        fs::rename(&new, new.with_extension("segment"))
    }

    /// Moves what waits for a start among the segments, from `number` on.
    pub(super) fn take_back(&self, number: u64) {
        let files = fs::read_dir(self.waiting()).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut free = number;
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                // What cannot be moved waits for another start.
                Some("segment") if fs::rename(&file, self.folder.join(super::name(free))).is_ok() => free += 1,
                // A crash came in the middle: the block is still where it was.
                Some("new") => drop(fs::remove_file(&file)),
                _ => {}
            }
        }
    }

    fn waiting(&self) -> PathBuf {
        self.folder.join("set_aside")
    }
}
