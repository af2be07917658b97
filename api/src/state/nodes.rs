//! Nodes: the servers and services that a workspace names; deleted ones stay, out of sight.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use schemas::incident::NodeReference;
use schemas::net::Address;
use schemas::time::Timestamp;

use super::{Listed, Page, StateError, address_column, milliseconds, moment, octets, uuid_column};
use crate::auth::Secret;

/// A node as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name for good.
    pub uuid: Uuid,
    /// The workspace that it belongs to.
    pub workspace: Uuid,
    /// Display name, one of its kind in the workspace.
    pub name: String,
    /// Its address.
    pub ip: Address,
    /// Region or datacenter.
    pub location: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Network interface that an agent watches.
    pub interface: String,
    /// production, staging, development, normal or high.
    pub priority: String,
    /// A limit of its own, packets a second.
    pub threshold_pps: Option<u64>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Node {
    /// What an incident says of its node.
    #[must_use]
    pub fn reference(&self) -> NodeReference {
        NodeReference { uuid: self.uuid, name: self.name.clone(), ip: self.ip }
    }
}

const COLUMNS: &str = "uuid, workspace_uuid, name, ip, location, os, interface, priority, threshold_pps, created_at";

/// Adds a node with the hash of its agent's key.
///
/// # Errors
///
/// SQLite's; a name that is taken is its constraint violation.
pub fn insert(connection: &Connection, node: &Node, key: &Secret) -> Result<(), StateError> {
    connection.execute(
        "INSERT INTO nodes (uuid, workspace_uuid, name, ip, location, os, interface, priority, threshold_pps, created_at, key_hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            node.uuid.to_string(),
            node.workspace.to_string(),
            node.name,
            octets(node.ip),
            node.location,
            node.os,
            node.interface,
            node.priority,
            node.threshold_pps.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
            milliseconds(node.created_at),
            key.hash(),
        ],
    )?;
    Ok(())
}

/// Writes what may change of a node.
///
/// # Errors
///
/// SQLite's.
pub fn update(connection: &Connection, node: &Node) -> Result<(), StateError> {
    connection.execute(
        "UPDATE nodes SET name = ?2, ip = ?3, location = ?4, os = ?5, interface = ?6, priority = ?7, threshold_pps = ?8 WHERE uuid = ?1",
        params![
            node.uuid.to_string(),
            node.name,
            octets(node.ip),
            node.location,
            node.os,
            node.interface,
            node.priority,
            node.threshold_pps.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        ],
    )?;
    Ok(())
}

/// Puts a node out of sight; its allowlist entries go with it.
///
/// # Errors
///
/// SQLite's.
pub fn delete(connection: &Connection, uuid: Uuid, now: Timestamp) -> Result<(), StateError> {
    connection.execute("UPDATE nodes SET deleted_at = ?2 WHERE uuid = ?1", params![uuid.to_string(), milliseconds(now)])?;
    connection.execute("DELETE FROM allowlist WHERE node_uuid = ?1", [uuid.to_string()])?;
    Ok(())
}

/// One node.
///
/// # Errors
///
/// SQLite's.
pub fn get(connection: &Connection, workspace: Uuid, uuid: Uuid) -> Result<Option<Node>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM nodes WHERE workspace_uuid = ?1 AND uuid = ?2 AND deleted_at IS NULL");
    Ok(connection.query_row(&sql, params![workspace.to_string(), uuid.to_string()], read).optional()?)
}

/// The nodes of a workspace, newest first.
///
/// # Errors
///
/// SQLite's.
pub fn list(connection: &Connection, workspace: Uuid, page: Page) -> Result<Listed<Node>, StateError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM nodes WHERE workspace_uuid = ?1 AND deleted_at IS NULL ORDER BY created_at DESC, rowid DESC LIMIT ?2 OFFSET ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let entries = statement.query_map(params![workspace.to_string(), page.limit, page.offset], read)?.collect::<Result<_, _>>()?;
    Ok(Listed { entries, total: count(connection, workspace)? })
}

/// Every node, of every workspace, newest first.
///
/// # Errors
///
/// SQLite's.
pub fn all(connection: &Connection) -> Result<Vec<Node>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM nodes WHERE deleted_at IS NULL ORDER BY created_at DESC, rowid DESC");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// How many nodes a workspace has.
///
/// # Errors
///
/// SQLite's.
pub fn count(connection: &Connection, workspace: Uuid) -> Result<u64, StateError> {
    let sql = "SELECT count(*) FROM nodes WHERE workspace_uuid = ?1 AND deleted_at IS NULL";
    let count: i64 = connection.query_row(sql, [workspace.to_string()], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Whether another node of the workspace has this name.
///
/// # Errors
///
/// SQLite's.
pub fn is_name_taken(connection: &Connection, workspace: Uuid, name: &str, but: Option<Uuid>) -> Result<bool, StateError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM nodes WHERE workspace_uuid = ?1 AND name = ?2 AND deleted_at IS NULL AND uuid <> ?3)";
    let but = but.unwrap_or_default().to_string();
    Ok(connection.query_row(sql, params![workspace.to_string(), name, but], |row| row.get(0))?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Node> {
    let threshold_pps: Option<i64> = row.get(8)?;
    Ok(Node {
        uuid: uuid_column(row, 0)?,
        workspace: uuid_column(row, 1)?,
        name: row.get(2)?,
        ip: address_column(row, 3)?,
        location: row.get(4)?,
        os: row.get(5)?,
        interface: row.get(6)?,
        priority: row.get(7)?,
        threshold_pps: threshold_pps.map(|limit| u64::try_from(limit).unwrap_or(0)),
        created_at: moment(row.get(9)?),
    })
}
