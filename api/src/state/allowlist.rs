//! The allowlist: addresses and prefixes that no rule of ours may ever touch.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use schemas::net::Prefix;
use schemas::time::Timestamp;

use super::{Listed, Page, StateError, milliseconds, moment, uuid_column};

/// An entry of the allowlist.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name for good.
    pub uuid: Uuid,
    /// What is never touched.
    pub prefix: Prefix,
    /// Friendly label.
    pub label: Option<String>,
    /// The node that it belongs to; `None` = the whole workspace.
    pub node: Option<Uuid>,
    /// When it was added.
    pub created_at: Timestamp,
}

const COLUMNS: &str = "uuid, prefix, label, node_uuid, created_at";

/// Adds an entry.
///
/// # Errors
///
/// SQLite's.
pub fn insert(connection: &Connection, workspace: Uuid, entry: &Entry) -> Result<(), StateError> {
    connection.execute(
        "INSERT INTO allowlist (uuid, workspace_uuid, prefix, label, node_uuid, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            entry.uuid.to_string(),
            workspace.to_string(),
            entry.prefix.to_string(),
            entry.label,
            entry.node.map(|uuid| uuid.to_string()),
            milliseconds(entry.created_at),
        ],
    )?;
    Ok(())
}

/// Whether the same prefix has an entry of the same scope.
///
/// # Errors
///
/// SQLite's.
pub fn exists(connection: &Connection, workspace: Uuid, prefix: Prefix, node: Option<Uuid>) -> Result<bool, StateError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM allowlist WHERE workspace_uuid = ?1 AND prefix = ?2 AND coalesce(node_uuid, '') = ?3)";
    let node = node.map_or_else(String::new, |uuid| uuid.to_string());
    Ok(connection.query_row(sql, params![workspace.to_string(), prefix.to_string(), node], |row| row.get(0))?)
}

/// One entry.
///
/// # Errors
///
/// SQLite's.
pub fn get(connection: &Connection, workspace: Uuid, uuid: Uuid) -> Result<Option<Entry>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM allowlist WHERE workspace_uuid = ?1 AND uuid = ?2");
    Ok(connection.query_row(&sql, params![workspace.to_string(), uuid.to_string()], read).optional()?)
}

/// Removes an entry.
///
/// # Errors
///
/// SQLite's.
pub fn delete(connection: &Connection, uuid: Uuid) -> Result<(), StateError> {
    connection.execute("DELETE FROM allowlist WHERE uuid = ?1", [uuid.to_string()])?;
    Ok(())
}

/// The entries, newest first; with a node, those of the whole workspace and of that node.
///
/// # Errors
///
/// SQLite's.
pub fn list(connection: &Connection, workspace: Uuid, node: Option<Uuid>, page: Page) -> Result<Listed<Entry>, StateError> {
    let clause = "workspace_uuid = ?1 AND (?2 IS NULL OR node_uuid IS NULL OR node_uuid = ?2)";
    let node = node.map(|uuid| uuid.to_string());
    let sql = format!("SELECT count(*) FROM allowlist WHERE {clause}");
    let total: i64 = connection.query_row(&sql, params![workspace.to_string(), node], |row| row.get(0))?;
    let sql = format!("SELECT {COLUMNS} FROM allowlist WHERE {clause} ORDER BY created_at DESC, rowid DESC LIMIT ?3 OFFSET ?4");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![workspace.to_string(), node, page.limit, page.offset], read)?;
    Ok(Listed { entries: rows.collect::<Result<_, _>>()?, total: u64::try_from(total).unwrap_or(0) })
}

/// Every prefix that no rule may touch, whatever its scope.
///
/// # Errors
///
/// SQLite's.
pub fn prefixes(connection: &Connection) -> Result<Vec<Prefix>, StateError> {
    let mut statement = connection.prepare_cached("SELECT uuid, prefix, label, node_uuid, created_at FROM allowlist")?;
    let rows = statement.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().map(|entry| entry.prefix).collect())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let prefix: String = row.get(1)?;
    let node: Option<String> = row.get(3)?;
    let unreadable =
        |error: schemas::net::PrefixError| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error));
    Ok(Entry {
        uuid: uuid_column(row, 0)?,
        prefix: prefix.parse().map_err(unreadable)?,
        label: row.get(2)?,
        node: node.and_then(|text| text.parse().ok()),
        created_at: moment(row.get(4)?),
    })
}
