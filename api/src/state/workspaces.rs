//! Workspaces: one in this version, with what its plan allows.

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use schemas::time::Timestamp;

use super::{StateError, in_transaction, milliseconds, moment};

/// What a workspace's plan allows.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Whether it is suspended.
    pub suspended: bool,
    /// Until when it is paid for; `None` = without end.
    pub paid_until: Option<Timestamp>,
    /// Nodes at most; `None` = as configured.
    pub nodes_max: Option<u64>,
}

impl Plan {
    /// Whether nodes may be registered now.
    #[must_use]
    pub fn is_paid(&self, now: Timestamp) -> bool {
        !self.suspended && self.paid_until.is_none_or(|until| now < until)
    }
}

/// The uuid of the default workspace, made at the first start.
///
/// # Errors
///
/// SQLite's.
pub fn ensure_default(connection: &mut Connection, now: Timestamp) -> Result<Uuid, StateError> {
    in_transaction(connection, |transaction| {
        let found: Option<String> =
            transaction.query_row("SELECT uuid FROM workspaces ORDER BY created_at LIMIT 1", [], |row| row.get(0)).optional()?;
        if let Some(uuid) = found.and_then(|text| text.parse().ok()) {
            return Ok(uuid);
        }
        let uuid = Uuid::new_v4();
        transaction.execute(
            "INSERT INTO workspaces (uuid, name, created_at) VALUES (?1, 'default', ?2)",
            params![uuid.to_string(), milliseconds(now)],
        )?;
        Ok(uuid)
    })
}

/// What the workspace's plan allows.
///
/// # Errors
///
/// SQLite's.
pub fn plan(connection: &Connection, workspace: Uuid) -> Result<Plan, StateError> {
    let read = |row: &rusqlite::Row<'_>| {
        let paid_until: Option<i64> = row.get(1)?;
        let nodes_max: Option<i64> = row.get(2)?;
        Ok(Plan {
            suspended: row.get(0)?,
            paid_until: paid_until.map(moment),
            nodes_max: nodes_max.map(|count| u64::try_from(count).unwrap_or(0)),
        })
    };
    Ok(connection.query_row("SELECT suspended, paid_until, nodes_max FROM workspaces WHERE uuid = ?1", [workspace.to_string()], read)?)
}
