//! Incidents: the document as the API shows it, and the columns that lists are filtered by.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use uuid::Uuid;

use schemas::incident::{Family, Incident, IncidentStatus, Severity, TimelineKind};
use schemas::net::Prefix;
use schemas::time::Timestamp;

use super::{Listed, Page, StateError, milliseconds, octets};

/// What a list of incidents is narrowed to.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Where it stands.
    pub status: Option<IncidentStatus>,
    /// How bad.
    pub severity: Option<Severity>,
    /// The kind.
    pub family: Option<Family>,
    /// The node.
    pub node: Option<Uuid>,
    /// Targets that share an address with this prefix.
    pub target: Option<Prefix>,
    /// Started then or later.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
}

impl Filter {
    fn clause(&self, workspace: Uuid) -> (String, Vec<Sql>) {
        let mut clause = "workspace_uuid = ?".to_owned();
        let mut values = vec![Sql::Text(workspace.to_string())];
        let mut narrow = |condition: &str, value: Sql| {
            clause.push_str(" AND ");
            clause.push_str(condition);
            values.push(value);
        };
        if let Some(status) = self.status {
            narrow("status = ?", Sql::Text(status.name().to_owned()));
        }
        if let Some(severity) = self.severity {
            narrow("severity = ?", Sql::Text(severity.name().to_owned()));
        }
        if let Some(family) = self.family {
            narrow("family = ?", Sql::Text(family.name().to_owned()));
        }
        if let Some(node) = self.node {
            narrow("node_uuid = ?", Sql::Text(node.to_string()));
        }
        if let Some(target) = self.target {
            narrow("target_first <= ?", Sql::Blob(octets(target.last()).to_vec()));
            narrow("target_last >= ?", Sql::Blob(octets(target.first()).to_vec()));
        }
        if let Some(since) = self.since {
            narrow("started_at >= ?", Sql::Integer(milliseconds(since)));
        }
        if let Some(until) = self.until {
            narrow("started_at < ?", Sql::Integer(milliseconds(until)));
        }
        (clause, values)
    }
}

/// Writes an incident as the detector sees it; what a person made of it stays.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`] if the incident cannot be written as JSON.
pub fn save(connection: &Connection, workspace: Uuid, incident: &Incident) -> Result<(), StateError> {
    let mut incident = incident.clone();
    keep_edits(connection, &mut incident)?;
    let document = serde_json::to_string(&incident).map_err(|error| unreadable(incident.uuid, &error))?;
    connection.execute(
        "INSERT INTO incidents (uuid, workspace_uuid, node_uuid, status, severity, family, target_first, target_last, started_at, document)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (uuid) DO UPDATE SET node_uuid = ?3, status = coalesce(edited_status, ?4), severity = ?5, family = ?6,
             target_first = ?7, target_last = ?8, started_at = ?9, document = ?10",
        params![
            incident.uuid.to_string(),
            workspace.to_string(),
            incident.node.as_ref().map(|node| node.uuid.to_string()),
            incident.status.name(),
            incident.severity.name(),
            incident.family.name(),
            octets(incident.target.first()),
            octets(incident.target.last()),
            milliseconds(incident.started_at),
            document,
        ],
    )?;
    Ok(())
}

/// The detector does not know what people did: their steps are taken over from what was saved before.
fn keep_edits(connection: &Connection, incident: &mut Incident) -> Result<(), StateError> {
    let sql = "SELECT document, status, note FROM incidents WHERE uuid = ?1";
    let Some(saved) = connection.query_row(sql, [incident.uuid.to_string()], columns).optional()? else {
        return Ok(());
    };
    let edited = read(saved)?.timeline.into_iter().filter(|entry| entry.kind == TimelineKind::Edited);
    for entry in edited.collect::<Vec<_>>() {
        if !incident.timeline.contains(&entry) {
            let place = incident.timeline.partition_point(|other| other.at <= entry.at);
            incident.timeline.insert(place, entry);
        }
    }
    Ok(())
}

/// Writes what a person made of an incident.
///
/// # Errors
///
/// SQLite's.
pub fn edit(connection: &Connection, uuid: Uuid, status: Option<IncidentStatus>, note: Option<&str>) -> Result<(), StateError> {
    connection.execute(
        "UPDATE incidents SET edited_status = coalesce(?2, edited_status), status = coalesce(?2, status), note = ?3 WHERE uuid = ?1",
        params![uuid.to_string(), status.map(IncidentStatus::name), note],
    )?;
    Ok(())
}

/// One incident.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`].
pub fn get(connection: &Connection, workspace: Uuid, uuid: Uuid) -> Result<Option<Incident>, StateError> {
    let sql = "SELECT document, status, note FROM incidents WHERE workspace_uuid = ?1 AND uuid = ?2";
    let found = connection.query_row(sql, params![workspace.to_string(), uuid.to_string()], columns).optional()?;
    found.map(read).transpose()
}

/// The incidents that match, newest first.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`].
pub fn list(connection: &Connection, workspace: Uuid, filter: &Filter, page: Page) -> Result<Listed<Incident>, StateError> {
    let (clause, mut values) = filter.clause(workspace);
    let total: i64 =
        connection.query_row(&format!("SELECT count(*) FROM incidents WHERE {clause}"), params_from_iter(&values), |row| row.get(0))?;
    let sql = format!("SELECT document, status, note FROM incidents WHERE {clause} ORDER BY started_at DESC, rowid DESC LIMIT ? OFFSET ?");
    values.extend([Sql::Integer(page.limit.into()), Sql::Integer(page.offset.into())]);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(&values), columns)?.collect::<Result<Vec<_>, _>>()?;
    Ok(Listed { entries: rows.into_iter().map(read).collect::<Result<_, _>>()?, total: u64::try_from(total).unwrap_or(0) })
}

/// Every incident that is going on, of every workspace.
///
/// # Errors
///
/// SQLite's, [`StateError::Document`].
pub fn active(connection: &Connection) -> Result<Vec<Incident>, StateError> {
    let mut statement = connection.prepare_cached("SELECT document, status, note FROM incidents WHERE status = 'active'")?;
    let rows = statement.query_map([], columns)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(read).collect()
}

type Columns = (String, String, Option<String>);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn read((document, status, note): Columns) -> Result<Incident, StateError> {
    let mut incident: Incident = serde_json::from_str(&document)
        .map_err(|error| StateError::Document { what: "an incident".to_owned(), error: error.to_string() })?;
    if let Ok(status) = status.parse() {
        incident.status = status;
    }
    incident.note = note;
    Ok(incident)
}

fn unreadable(uuid: Uuid, error: &serde_json::Error) -> StateError {
    StateError::Document { what: format!("incident {uuid}"), error: error.to_string() }
}
