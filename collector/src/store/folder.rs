//! Folders that are ours alone: flows tell who speaks with whom.

use std::fs::{DirBuilder, Permissions, metadata, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

/// What the owner may do, and nobody else.
const PRIVATE: u32 = 0o700;

/// Makes a folder that only its owner may read, with those above it; one of before that others may read is closed to them.
///
/// # Errors
///
/// What the system says to a folder that cannot be made; one that cannot be closed is told in the log.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE).create(folder)?;
    let mode = metadata(folder)?.permissions().mode() & 0o777;
    if mode & !PRIVATE != 0
        && let Err(error) = set_permissions(folder, Permissions::from_mode(mode & PRIVATE))
    {
        tracing::warn!(%error, folder = %folder.display(), mode = format!("{mode:o}"), "others may read what is stored here");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_for_its_owner_and_one_of_before_is_closed_to_others() {
        let folder = std::env::temp_dir().join(format!("weir-folder-{}", uuid::Uuid::new_v4()));
        let mode = |folder: &Path| metadata(folder).unwrap().permissions().mode() & 0o777;
        let inner = folder.join("inner");
        make_private(&inner).unwrap();
        assert_eq!((mode(&folder), mode(&inner)), (0o700, 0o700));
        set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
        make_private(&inner).unwrap();
        assert_eq!(mode(&inner), 0o700);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
