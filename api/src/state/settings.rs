//! Single values that outlive a restart: the kill switch.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use schemas::time::Timestamp;

use super::StateError;

const FREEZE: &str = "mitigation.freeze";

/// The kill switch of mitigation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Whether every rule is withdrawn and none announced.
    pub frozen: bool,
    /// When it was last turned; `None` = never.
    pub changed_at: Option<Timestamp>,
    /// Name of the token that turned it.
    pub changed_by: Option<String>,
}

/// The kill switch as it stands.
///
/// # Errors
///
/// SQLite's.
pub fn freeze(connection: &Connection) -> Result<Freeze, StateError> {
    let text: Option<String> = connection.query_row("SELECT value FROM settings WHERE key = ?1", [FREEZE], |row| row.get(0)).optional()?;
    // A switch that cannot be read is taken as thrown: announcing nothing is the safe side.
    Ok(text.map_or_else(Freeze::default, |text| {
        serde_json::from_str(&text).unwrap_or(Freeze { frozen: true, changed_at: None, changed_by: None })
    }))
}

/// Turns the kill switch.
///
/// # Errors
///
/// SQLite's.
pub fn set_freeze(connection: &Connection, freeze: &Freeze) -> Result<(), StateError> {
    let text = serde_json::to_string(freeze).map_err(|error| StateError::Document { what: FREEZE.to_owned(), error: error.to_string() })?;
    connection
        .execute("INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2", params![FREEZE, text])?;
    Ok(())
}
