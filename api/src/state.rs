//! What outlives a restart: one SQLite database in WAL mode, a thread that writes it and a thread that reads it.
//!
//! No async task ever touches SQLite: a job is a closure that is handed to one of the two threads by a bounded queue. A write job is one
//! transaction. Tables are in `schemas/sqlite`, one submodule here a table.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use uuid::Uuid;

use schemas::net::Address;
use schemas::time::Timestamp;

pub mod allowlist;
pub mod audit;
pub mod idempotency;
pub mod incidents;
pub mod maintenance;
pub mod migrations;
pub mod nodes;
pub mod rules;
pub mod settings;
pub mod tokens;
pub mod workspaces;

/// Jobs that may wait for a thread; more are refused as [`StateError::Busy`].
const JOBS_MAX: usize = 4_096;

/// How long a statement waits for another process (`weir token create`) that holds the database.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Why the state did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A document in the database is not what this version reads.
    #[error("state: {what} cannot be read: {error}")]
    Document {
        /// The table and row.
        what: String,
        /// What the reader said.
        error: String,
    },
    /// The database was written by a later version.
    #[error("state: {path} has schema {found}, this version knows up to {known}: start the newer Weir, or another data_dir")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// The directory cannot be made.
    #[error("state: {path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Too many jobs wait.
    #[error("state: more than {JOBS_MAX} requests wait for the database")]
    Busy,
    /// The thread has ended.
    #[error("state: the database is closed")]
    Closed,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The state's two threads.
#[derive(Debug)]
pub struct State {
    writes: Option<Sender<Job>>,
    reads: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// The one workspace of this version.
    pub workspace: Uuid,
}

impl State {
    /// Opens `data_dir/state.sqlite`, made and migrated where needed, and starts its threads.
    ///
    /// # Errors
    ///
    /// Any [`StateError`] of the file, its schema or the directory.
    pub fn open(data_dir: &Path, now: Timestamp) -> Result<Self, StateError> {
        let mut writer = connect(data_dir)?;
        let workspace = workspaces::ensure_default(&mut writer, now)?;
        let reader = connect(data_dir)?;
        reader.pragma_update(None, "query_only", true)?;
        let (writes, write_jobs) = bounded(JOBS_MAX);
        let (reads, read_jobs) = bounded(JOBS_MAX);
        let threads = vec![spawn("weir-state-write", writer, write_jobs)?, spawn("weir-state-read", reader, read_jobs)?];
        Ok(Self { writes: Some(writes), reads: Some(reads), threads, workspace })
    }

    /// Runs `job` as one transaction, kept if it succeeds.
    ///
    /// # Errors
    ///
    /// What `job` answers, and [`StateError`] of the queue and the commit.
    pub async fn write<T, E>(&self, job: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StateError> + Send + 'static,
    {
        let (answer, answered) = tokio::sync::oneshot::channel();
        hand_over(self.writes.as_ref(), Box::new(move |connection| drop(answer.send(in_transaction(connection, job)))))?;
        answered.await.unwrap_or_else(|_| Err(StateError::Closed.into()))
    }

    /// Runs `job` on the reading thread.
    ///
    /// # Errors
    ///
    /// What `job` answers, and [`StateError`] of the queue.
    pub async fn read<T, E>(&self, job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StateError> + Send + 'static,
    {
        let (answer, answered) = tokio::sync::oneshot::channel();
        hand_over(self.reads.as_ref(), Box::new(move |connection| drop(answer.send(job(connection)))))?;
        answered.await.unwrap_or_else(|_| Err(StateError::Closed.into()))
    }

    /// [`State::write`] for a thread that may wait; never call it from an async task.
    ///
    /// # Errors
    ///
    /// As [`State::write`].
    pub fn write_blocking<T, E>(&self, job: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StateError> + Send + 'static,
    {
        let (answer, answered) = bounded(1);
        hand_over(self.writes.as_ref(), Box::new(move |connection| drop(answer.send(in_transaction(connection, job)))))?;
        answered.recv().unwrap_or_else(|_| Err(StateError::Closed.into()))
    }

    /// [`State::write`] without waiting: `done` hears of the outcome on the writing thread.
    ///
    /// # Errors
    ///
    /// [`StateError`] of the queue; `done` is not called then.
    pub fn write_later(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> Result<(), StateError> + Send + 'static,
        done: impl FnOnce(Result<(), StateError>) + Send + 'static,
    ) -> Result<(), StateError> {
        hand_over(self.writes.as_ref(), Box::new(move |connection| done(in_transaction(connection, job))))
    }

    /// [`State::read`] for a thread that may wait; never call it from an async task.
    ///
    /// # Errors
    ///
    /// As [`State::read`].
    pub fn read_blocking<T, E>(&self, job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StateError> + Send + 'static,
    {
        let (answer, answered) = bounded(1);
        hand_over(self.reads.as_ref(), Box::new(move |connection| drop(answer.send(job(connection)))))?;
        answered.recv().unwrap_or_else(|_| Err(StateError::Closed.into()))
    }
}

/// Finishes the jobs that wait, then closes the database.
impl Drop for State {
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// A migrated connection to `data_dir/state.sqlite`.
///
/// # Errors
///
/// Any [`StateError`] of the file, its schema or the directory.
pub fn connect(data_dir: &Path) -> Result<Connection, StateError> {
    make_private_directory(data_dir).map_err(|error| StateError::Directory { path: data_dir.to_owned(), error })?;
    let path = data_dir.join("state.sqlite");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags)?;
    close_to_others(&path);
    connection.busy_timeout(LOCK_WAIT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode NORMAL loses at most the last commits to a power cut, never the database; rules are reconciled at every start.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    migrations::apply(&mut connection, &path)?;
    Ok(connection)
}

/// Closes the database to all but its owner, whoever may look into the directory: hashes of tokens are in it. SQLite gives the files beside
/// it the same rights when it makes them.
fn close_to_others(database: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for ending in ["", "-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(ending);
        let Ok(rights) = std::fs::metadata(&name).map(|data| data.permissions().mode() & 0o777) else { continue };
        // Never by opening the file: to close it again would let go of SQLite's locks.
        if rights & 0o077 != 0
            && let Err(error) = std::fs::set_permissions(&name, std::fs::Permissions::from_mode(rights & 0o700))
        {
            tracing::warn!(%error, file = %name.display(), rights = format!("{rights:o}"), "others may read the state");
        }
    }
}

/// Makes the directory, readable by its owner only, since hashes and captures live in it; one that exists is left as it is.
fn make_private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn spawn(name: &str, mut connection: Connection, jobs: Receiver<Job>) -> Result<JoinHandle<()>, StateError> {
    let work = move || {
        for job in jobs {
            job(&mut connection);
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| StateError::Directory { path: PathBuf::from(name), error })
}

fn hand_over(queue: Option<&Sender<Job>>, job: Job) -> Result<(), StateError> {
    match queue.ok_or(StateError::Closed)?.try_send(job) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(_)) => Err(StateError::Busy),
        Err(TrySendError::Disconnected(_)) => Err(StateError::Closed),
    }
}

/// Runs `job` between BEGIN IMMEDIATE and COMMIT; an error rolls back.
///
/// # Errors
///
/// What `job` answers, and SQLite's own.
pub fn in_transaction<T, E: From<StateError>>(
    connection: &mut Connection,
    job: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StateError::from)?;
    let value = job(&transaction)?;
    transaction.commit().map_err(StateError::from)?;
    Ok(value)
}

/// The 16 octets of an address, in network order.
#[must_use]
pub fn octets(address: Address) -> [u8; 16] {
    address.0.to_be_bytes()
}

/// A moment as SQLite keeps it.
#[must_use]
pub fn milliseconds(moment: Timestamp) -> i64 {
    i64::try_from(moment.milliseconds()).unwrap_or(i64::MAX)
}

/// A moment as SQLite kept it.
#[must_use]
pub fn moment(milliseconds: i64) -> Timestamp {
    Timestamp(u64::try_from(milliseconds).unwrap_or(0))
}

/// A page of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Entries at most.
    pub limit: u32,
    /// Entries passed over.
    pub offset: u32,
}

/// The entries of a page and how many there are in all.
#[derive(Debug)]
pub struct Listed<T> {
    /// The page.
    pub entries: Vec<T>,
    /// All that match.
    pub total: u64,
}

/// A uuid that is kept as text.
///
/// # Errors
///
/// SQLite's, and a conversion error for a text that is none.
pub(crate) fn uuid_column(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|error: uuid::Error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}

/// An address that is kept as 16 octets.
///
/// # Errors
///
/// SQLite's.
pub(crate) fn address_column(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Address> {
    let octets: [u8; 16] = row.get(column)?;
    Ok(Address(u128::from_be_bytes(octets)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn others_read_nothing_of_the_state_though_the_directory_is_open_to_them_and_an_earlier_start_left_it_so() {
        let folder = std::env::temp_dir().join(format!("weir-state-{}", Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let rights = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        for _ in 0..2 {
            let state = State::open(&folder, Timestamp(0)).unwrap();
            assert_eq!(["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"].map(rights), [0o600; 3]);
            drop(state);
            fs::set_permissions(folder.join("state.sqlite"), Permissions::from_mode(0o644)).unwrap();
        }
        assert_eq!(rights(""), 0o755, "the directory is its maker's");
        fs::remove_dir_all(folder).unwrap();
    }
}
