//! Maintenance windows: spans of time in which traffic of a target is planned.

use analytics::planned::Window;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use schemas::net::Prefix;
use schemas::time::Timestamp;

use super::{Listed, Page, StateError, milliseconds, moment, uuid_column};

/// How long one that is over is kept, to be looked up.
const KEPT_MILLISECONDS: u64 = 90 * 86_400_000;

/// Whose traffic is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A host, or every host and prefix within.
    Prefix(Prefix),
    /// A node, at the address that it has at the time.
    Node(Uuid),
}

/// A window as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name for good.
    pub uuid: Uuid,
    /// Whose traffic.
    pub subject: Subject,
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment behind it.
    pub to: Timestamp,
    /// Why.
    pub reason: String,
    /// Whether open incidents end by it.
    pub resolve_open: bool,
    /// When it was planned.
    pub created_at: Timestamp,
}

const COLUMNS: &str = "uuid, prefix, node_uuid, starts_at, ends_at, reason, resolve_open, created_at";

/// Adds a window; those that have been over for long go.
///
/// # Errors
///
/// SQLite's.
pub fn insert(connection: &Connection, workspace: Uuid, entry: &Entry) -> Result<(), StateError> {
    let oldest = Timestamp(entry.created_at.milliseconds().saturating_sub(KEPT_MILLISECONDS));
    connection.execute("DELETE FROM maintenance WHERE ends_at < ?1", [milliseconds(oldest)])?;
    let (prefix, node) = match entry.subject {
        Subject::Prefix(prefix) => (Some(prefix.to_string()), None),
        Subject::Node(node) => (None, Some(node.to_string())),
    };
    connection.execute(
        "INSERT INTO maintenance (uuid, workspace_uuid, prefix, node_uuid, starts_at, ends_at, reason, resolve_open, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            entry.uuid.to_string(),
            workspace.to_string(),
            prefix,
            node,
            milliseconds(entry.from),
            milliseconds(entry.to),
            entry.reason,
            entry.resolve_open,
            milliseconds(entry.created_at),
        ],
    )?;
    Ok(())
}

/// Writes everything of a window that may change.
///
/// # Errors
///
/// SQLite's.
pub fn update(connection: &Connection, entry: &Entry) -> Result<(), StateError> {
    connection.execute(
        "UPDATE maintenance SET starts_at = ?2, ends_at = ?3, reason = ?4, resolve_open = ?5 WHERE uuid = ?1",
        params![entry.uuid.to_string(), milliseconds(entry.from), milliseconds(entry.to), entry.reason, entry.resolve_open],
    )?;
    Ok(())
}

/// One window.
///
/// # Errors
///
/// SQLite's.
pub fn get(connection: &Connection, workspace: Uuid, uuid: Uuid) -> Result<Option<Entry>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM maintenance WHERE workspace_uuid = ?1 AND uuid = ?2");
    Ok(connection.query_row(&sql, params![workspace.to_string(), uuid.to_string()], read).optional()?)
}

/// Removes a window.
///
/// # Errors
///
/// SQLite's.
pub fn delete(connection: &Connection, uuid: Uuid) -> Result<(), StateError> {
    connection.execute("DELETE FROM maintenance WHERE uuid = ?1", [uuid.to_string()])?;
    Ok(())
}

/// The windows, newest first.
///
/// # Errors
///
/// SQLite's.
pub fn list(connection: &Connection, workspace: Uuid, page: Page) -> Result<Listed<Entry>, StateError> {
    let workspace = workspace.to_string();
    let total: i64 = connection.query_row("SELECT count(*) FROM maintenance WHERE workspace_uuid = ?1", [&workspace], |row| row.get(0))?;
    let sql =
        format!("SELECT {COLUMNS} FROM maintenance WHERE workspace_uuid = ?1 ORDER BY created_at DESC, rowid DESC LIMIT ?2 OFFSET ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![workspace, page.limit, page.offset], read)?;
    Ok(Listed { entries: rows.collect::<Result<_, _>>()?, total: u64::try_from(total).unwrap_or(0) })
}

/// How many windows are not over.
///
/// # Errors
///
/// SQLite's.
pub fn count(connection: &Connection, now: Timestamp) -> Result<u64, StateError> {
    let sql = "SELECT count(*) FROM maintenance WHERE ends_at > ?1";
    let count: i64 = connection.query_row(sql, [milliseconds(now)], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The windows that are not over, of nodes with the address that these have now, for the analysts.
///
/// # Errors
///
/// SQLite's.
pub fn windows(connection: &Connection, now: Timestamp) -> Result<Vec<Window>, StateError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM maintenance WHERE ends_at > ?1"))?;
    let entries = statement.query_map([milliseconds(now)], read)?.collect::<Result<Vec<_>, _>>()?;
    let nodes = super::nodes::all(connection)?;
    let window = |entry: Entry| {
        let prefix = match entry.subject {
            Subject::Prefix(prefix) => prefix,
            // Of a node that is deleted nothing is planned any more.
            Subject::Node(uuid) => nodes.iter().find(|node| node.uuid == uuid)?.ip.host(),
        };
        let Entry { uuid, from, to, reason, resolve_open, .. } = entry;
        Some(Window { uuid, prefix, from, to, reason, resolve_open })
    };
    Ok(entries.into_iter().filter_map(window).collect())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let unreadable = |column: usize, error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
    };
    let subject = match row.get::<_, Option<String>>(1)? {
        Some(text) => Subject::Prefix(text.parse().map_err(|error: schemas::net::PrefixError| unreadable(1, Box::new(error)))?),
        None => Subject::Node(uuid_column(row, 2)?),
    };
    Ok(Entry {
        uuid: uuid_column(row, 0)?,
        subject,
        from: moment(row.get(3)?),
        to: moment(row.get(4)?),
        reason: row.get(5)?,
        resolve_open: row.get(6)?,
        created_at: moment(row.get(7)?),
    })
}
