//! Forward-only migrations: the files of `schemas/sqlite` in order, each once, counted in `user_version`.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StateError;

/// The migrations in order; a file that has been released is never changed.
const MIGRATIONS: &[&str] =
    &[include_str!("../../../schemas/sqlite/0001_state.sql"), include_str!("../../../schemas/sqlite/0002_maintenance.sql")];

/// Brings the database up to the last migration.
///
/// # Errors
///
/// [`StateError::Newer`] if a later version wrote it, else SQLite's.
pub fn apply(connection: &mut Connection, path: &Path) -> Result<(), StateError> {
    // Immediate, so that of two processes that start at once the second one waits and finds the work done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StateError::Newer { path: path.to_owned(), found: done, known: MIGRATIONS.len() });
    }
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_later_version_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection, Path::new("a")).unwrap();
        apply(&mut connection, Path::new("a")).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = apply(&mut connection, Path::new("a")).unwrap_err();
        assert!(matches!(error, StateError::Newer { found: 99, .. }), "{error}");
    }

    #[test]
    fn every_migration_file_is_applied() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/sqlite");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let texts: Vec<String> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, MIGRATIONS);
    }
}
