//! Why a block is not on disk.

use std::io;

use super::record::TooLong;

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
    TooLong(#[from] TooLong),
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
