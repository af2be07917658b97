//! Mitigation rules: what should be announced, and what became of it. A rule is here before it is anywhere else.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use schemas::rule::Rule;

use super::{Listed, Page, StateError, milliseconds};

const IN_FORCE: &str = "withdrawn_at IS NULL AND state NOT IN ('withdrawn', 'refused')";

/// Writes a rule, new or changed.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`].
pub fn save(connection: &Connection, workspace: Uuid, rule: &Rule) -> Result<(), StateError> {
    let document = serde_json::to_string(rule)
        .map_err(|error| StateError::Document { what: format!("rule {}", rule.uuid), error: error.to_string() })?;
    connection.execute(
        "INSERT INTO rules (uuid, workspace_uuid, incident_uuid, adapter_id, state, created_at, withdrawn_at, document)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (uuid) DO UPDATE SET state = ?5, withdrawn_at = ?7, document = ?8",
        params![
            rule.uuid.to_string(),
            workspace.to_string(),
            rule.incident_uuid.map(|uuid| uuid.to_string()),
            rule.adapter_id,
            rule.state.name(),
            milliseconds(rule.created_at),
            rule.withdrawn_at.map(milliseconds),
            document,
        ],
    )?;
    Ok(())
}

/// One rule.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`].
pub fn get(connection: &Connection, workspace: Uuid, uuid: Uuid) -> Result<Option<Rule>, StateError> {
    let sql = "SELECT document FROM rules WHERE workspace_uuid = ?1 AND uuid = ?2";
    let found = connection.query_row(sql, params![workspace.to_string(), uuid.to_string()], document).optional()?;
    found.map(|text| read(&text)).transpose()
}

/// The rules that are wanted, shown, announced or not yet gone, newest first; or all there ever were.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`].
pub fn list(connection: &Connection, workspace: Uuid, history: bool, page: Page) -> Result<Listed<Rule>, StateError> {
    let clause = if history { "workspace_uuid = ?1".to_owned() } else { format!("workspace_uuid = ?1 AND {IN_FORCE}") };
    let sql = format!("SELECT count(*) FROM rules WHERE {clause}");
    let total: i64 = connection.query_row(&sql, [workspace.to_string()], |row| row.get(0))?;
    let sql = format!("SELECT document FROM rules WHERE {clause} ORDER BY created_at DESC, rowid DESC LIMIT ?2 OFFSET ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![workspace.to_string(), page.limit, page.offset], document)?.collect::<Result<Vec<_>, _>>()?;
    Ok(Listed { entries: rows.iter().map(|text| read(text)).collect::<Result<_, _>>()?, total: u64::try_from(total).unwrap_or(0) })
}

/// Every rule in force, of every workspace, oldest first.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`].
pub fn in_force(connection: &Connection) -> Result<Vec<Rule>, StateError> {
    let sql = format!("SELECT document FROM rules WHERE {IN_FORCE} ORDER BY created_at, rowid");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([], document)?.collect::<Result<Vec<_>, _>>()?;
    rows.iter().map(|text| read(text)).collect()
}

/// The rules in force that answer an incident.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`].
pub fn of_incident(connection: &Connection, incident: Uuid) -> Result<Vec<Rule>, StateError> {
    Ok(in_force(connection)?.into_iter().filter(|rule| rule.incident_uuid == Some(incident)).collect())
}

fn document(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

fn read(text: &str) -> Result<Rule, StateError> {
    serde_json::from_str(text).map_err(|error| StateError::Document { what: "a rule".to_owned(), error: error.to_string() })
}
