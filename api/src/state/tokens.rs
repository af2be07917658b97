//! Tokens: a role in a workspace, known by the SHA-256 of 64 hex digits.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use schemas::time::Timestamp;

use super::{Listed, Page, StateError, milliseconds, moment};
use crate::auth::{Role, Secret};

/// A token as it is kept.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its name for good.
    pub uuid: Uuid,
    /// The workspace that it opens.
    pub workspace: Uuid,
    /// Display name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None` = never.
    pub expires_at: Option<Timestamp>,
    /// When it was last seen, to the minute.
    pub last_used_at: Option<Timestamp>,
}

const COLUMNS: &str = "uuid, workspace_uuid, name, role, created_at, expires_at, last_used_at";

/// Adds a token with the hash of its secret.
///
/// # Errors
///
/// SQLite's.
pub fn insert(connection: &Connection, token: &Token, secret: &Secret, preset: bool) -> Result<(), StateError> {
    let hash = secret.hash();
    connection.execute(
        "INSERT INTO tokens (uuid, workspace_uuid, name, role, hash, hash_start, preset, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            token.uuid.to_string(),
            token.workspace.to_string(),
            token.name,
            token.role.name(),
            hash,
            hash_start(&hash),
            preset,
            milliseconds(token.created_at),
            token.expires_at.map(milliseconds),
        ],
    )?;
    Ok(())
}

/// The token of a secret and its workspace's own rate limit, expired or not; `None` if there is no such token.
///
/// # Errors
///
/// SQLite's.
pub fn find(connection: &Connection, secret: &Secret) -> Result<Option<(Token, Option<u64>)>, StateError> {
    let hash = secret.hash();
    let mut statement = connection.prepare_cached(
        "SELECT t.uuid, t.workspace_uuid, t.name, t.role, t.created_at, t.expires_at, t.last_used_at, t.hash, w.rate_limit
         FROM tokens t JOIN workspaces w ON w.uuid = t.workspace_uuid WHERE t.hash_start = ?1",
    )?;
    let mut rows = statement.query([hash_start(&hash)])?;
    while let Some(row) = rows.next()? {
        let stored: Vec<u8> = row.get(7)?;
        if bool::from(stored.as_slice().ct_eq(hash.as_slice())) {
            let rate_limit: Option<i64> = row.get(8)?;
            return Ok(Some((read(row)?, rate_limit.map(|limit| u64::try_from(limit).unwrap_or(0)))));
        }
    }
    Ok(None)
}

/// The tokens of a workspace, newest first.
///
/// # Errors
///
/// SQLite's.
pub fn list(connection: &Connection, workspace: Uuid, page: Page) -> Result<Listed<Token>, StateError> {
    let total: i64 =
        connection.query_row("SELECT count(*) FROM tokens WHERE workspace_uuid = ?1", [workspace.to_string()], |row| row.get(0))?;
    let sql = format!("SELECT {COLUMNS} FROM tokens WHERE workspace_uuid = ?1 ORDER BY created_at DESC, rowid DESC LIMIT ?2 OFFSET ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let entries = statement.query_map(params![workspace.to_string(), page.limit, page.offset], read)?.collect::<Result<_, _>>()?;
    Ok(Listed { entries, total: u64::try_from(total).unwrap_or(0) })
}

/// One token.
///
/// # Errors
///
/// SQLite's.
pub fn get(connection: &Connection, workspace: Uuid, uuid: Uuid) -> Result<Option<Token>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM tokens WHERE workspace_uuid = ?1 AND uuid = ?2");
    Ok(connection.query_row(&sql, params![workspace.to_string(), uuid.to_string()], read).optional()?)
}

/// Removes a token: from now on it is unknown.
///
/// # Errors
///
/// SQLite's.
pub fn delete(connection: &Connection, uuid: Uuid) -> Result<bool, StateError> {
    connection.execute("DELETE FROM idempotency WHERE token_uuid = ?1", [uuid.to_string()])?;
    Ok(connection.execute("DELETE FROM tokens WHERE uuid = ?1", [uuid.to_string()])? > 0)
}

/// Notes that the token was used.
///
/// # Errors
///
/// SQLite's.
pub fn touch(connection: &Connection, uuid: Uuid, now: Timestamp) -> Result<(), StateError> {
    connection.execute("UPDATE tokens SET last_used_at = ?2 WHERE uuid = ?1", params![uuid.to_string(), milliseconds(now)])?;
    Ok(())
}

/// How many tokens a workspace has.
///
/// # Errors
///
/// SQLite's.
pub fn count(connection: &Connection, workspace: Uuid) -> Result<i64, StateError> {
    Ok(connection.query_row("SELECT count(*) FROM tokens WHERE workspace_uuid = ?1", [workspace.to_string()], |row| row.get(0))?)
}

/// Makes `secret` the one preset owner token: an older preset is removed, the same one kept.
///
/// # Errors
///
/// SQLite's.
pub fn preset_owner(connection: &Connection, workspace: Uuid, secret: &Secret, now: Timestamp) -> Result<(), StateError> {
    let hash = secret.hash();
    connection.execute("DELETE FROM tokens WHERE preset = 1 AND hash <> ?1", [&hash])?;
    if find(connection, secret)?.is_some() {
        connection.execute("UPDATE tokens SET role = 'owner', expires_at = NULL, preset = 1 WHERE hash = ?1", [&hash])?;
        return Ok(());
    }
    let name = "owner (WEIR_OWNER_TOKEN)".to_owned();
    let token = Token { uuid: Uuid::new_v4(), workspace, name, role: Role::Owner, created_at: now, expires_at: None, last_used_at: None };
    insert(connection, &token, secret, true)
}

fn hash_start(hash: &[u8; 32]) -> i64 {
    hash.first_chunk::<8>().map_or(0, |start| i64::from_be_bytes(*start))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Token> {
    let role: String = row.get(3)?;
    let expires_at: Option<i64> = row.get(5)?;
    let last_used_at: Option<i64> = row.get(6)?;
    Ok(Token {
        uuid: super::uuid_column(row, 0)?,
        workspace: super::uuid_column(row, 1)?,
        name: row.get(2)?,
        // A role that this version does not know may do the least.
        role: role.parse().unwrap_or(Role::Readonly),
        created_at: moment(row.get(4)?),
        expires_at: expires_at.map(moment),
        last_used_at: last_used_at.map(moment),
    })
}
