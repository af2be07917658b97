//! The audit log: who wrote what from where, before and after, in the transaction of the write itself.

use rusqlite::{Connection, params};
use serde_json::Value;
use uuid::Uuid;

use schemas::time::Timestamp;

use super::{StateError, milliseconds};

/// Who writes.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The workspace that is written in.
    pub workspace: Uuid,
    /// The token, if it is one.
    pub token: Option<Uuid>,
    /// The token's name, or the part of Weir that acts by itself.
    pub name: String,
    /// From where.
    pub address: Option<String>,
}

/// One write.
#[derive(Debug)]
pub struct Entry<'a> {
    /// `create`, `change`, `delete`, or a verb of the resource.
    pub action: &'a str,
    /// The kind of the resource, singular.
    pub resource: &'a str,
    /// Its name for good.
    pub id: String,
    /// What it was.
    pub before: Option<Value>,
    /// What it is.
    pub after: Option<Value>,
}

/// Adds an entry to the log.
///
/// # Errors
///
/// SQLite's.
pub fn add(connection: &Connection, now: Timestamp, actor: &Actor, entry: &Entry<'_>) -> Result<(), StateError> {
    connection.execute(
        "INSERT INTO audit (at, workspace_uuid, token_uuid, actor, address, action, resource, resource_id, before, after)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            milliseconds(now),
            actor.workspace.to_string(),
            actor.token.map(|uuid| uuid.to_string()),
            actor.name,
            actor.address,
            entry.action,
            entry.resource,
            entry.id,
            entry.before.as_ref().map(Value::to_string),
            entry.after.as_ref().map(Value::to_string),
        ],
    )?;
    Ok(())
}
