//! `/api/v1/maintenance`: planned events, whose traffic opens no incident.

use axum::routing::MethodFilter;
use serde_json::{Value, json};
use uuid::Uuid;

use schemas::time::Timestamp;

use crate::analysis::Control;
use crate::app::App;
use crate::auth::{Access, Role};
use crate::error::ApiError;
use crate::input;
use crate::server::{Answer, Call, Route, listed};
use crate::state::maintenance::{self, Entry, Subject};
use crate::state::{audit, nodes};

const PATH: &str = "/api/v1/maintenance";
const ONE: &str = "/api/v1/maintenance/{id}";
const REASON_CHARACTERS_MAX: usize = 200;
/// One that is forgotten must not blind for ever.
const DAYS_MAX: u64 = 31;
/// Windows that are not over; each is asked for every finding.
const WINDOWS_MAX: u64 = 1_000;

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: PATH,
        access: Access::Least(Role::Readonly),
        parameters: &["limit", "offset"],
        handler: |call| Box::pin(list(call)),
    },
    Route {
        method: MethodFilter::POST,
        path: PATH,
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(plan(call)),
    },
    Route {
        method: MethodFilter::GET,
        path: ONE,
        access: Access::Least(Role::Readonly),
        parameters: &[],
        handler: |call| Box::pin(get(call)),
    },
    Route {
        method: MethodFilter::PATCH,
        path: ONE,
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(change(call)),
    },
    Route {
        method: MethodFilter::DELETE,
        path: ONE,
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(delete(call)),
    },
];

async fn list(mut call: Call) -> Result<Answer, ApiError> {
    let page = call.query.page(50, 100);
    call.query.finish()?;
    let (workspace, now) = (call.caller()?.workspace, call.now);
    let found = call.app.state.read(move |connection| maintenance::list(connection, workspace, page)).await.map_err(ApiError::from)?;
    Ok(listed("maintenance", found.entries.iter().map(|entry| shown(entry, now)).collect(), found.total, page))
}

async fn get(call: Call) -> Result<Answer, ApiError> {
    let (workspace, uuid) = (call.caller()?.workspace, call.uuid("maintenance window")?);
    let entry = call.app.state.read(move |connection| maintenance::get(connection, workspace, uuid)).await.map_err(ApiError::from)?;
    let entry = entry.ok_or(ApiError::NotFound("maintenance window"))?;
    Ok(Answer::ok(json!({ "window": shown(&entry, call.now) })))
}

async fn plan(mut call: Call) -> Result<Answer, ApiError> {
    let mut form = call.form()?;
    let target = form.take("target", input::prefix);
    let node = form.take("node", input::uuid);
    if form.is_blank("target") && form.is_blank("node") {
        form.fault("target", "this field is required where no node is named");
    } else if target.is_some() && node.is_some() {
        form.fault("node", "only without a target");
    }
    let from = form.take("from", input::moment).unwrap_or(call.now);
    let to = form.need("to", input::moment);
    if let Some(fault) = to.and_then(|to| fault_of(from, to)) {
        form.fault("to", fault);
    }
    let reason = form.need("reason", input::text(REASON_CHARACTERS_MAX));
    let resolve_open = form.take("resolve_open", input::boolean).unwrap_or(false);
    form.finish()?;
    let subject = target.map(Subject::Prefix).or(node.map(Subject::Node));
    let (Some(subject), Some(to), Some(reason)) = (subject, to, reason) else {
        return Err(ApiError::validation("", "target or node, to and reason are required"));
    };
    let (caller, now) = (call.caller()?.clone(), call.now);
    let entry = Entry { uuid: Uuid::new_v4(), subject, from, to, reason, resolve_open, created_at: now };
    let stored = entry.clone();
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        if let Subject::Node(node) = stored.subject {
            nodes::get(transaction, caller.workspace, node)?.ok_or_else(|| ApiError::validation("node", "no such node"))?;
        }
        if maintenance::count(transaction, now)? >= WINDOWS_MAX {
            return Err(ApiError::validation("target", format!("{WINDOWS_MAX} windows are planned already")));
        }
        maintenance::insert(transaction, caller.workspace, &stored)?;
        let id = stored.uuid.to_string();
        let line = audit::Entry { action: "create", resource: "maintenance", id, before: None, after: Some(record(&stored)) };
        Ok(audit::add(transaction, now, &caller.actor(), &line)?)
    };
    call.app.state.write(work).await?;
    tell(&call.app, now).await?;
    Ok(Answer::created(json!({ "window": shown(&entry, now) })))
}

async fn change(mut call: Call) -> Result<Answer, ApiError> {
    let (caller, uuid, now) = (call.caller()?.clone(), call.uuid("maintenance window")?, call.now);
    let mut form = call.form()?;
    let from = form.replace("from", input::moment);
    let to = form.replace("to", input::moment);
    let reason = form.replace("reason", input::text(REASON_CHARACTERS_MAX));
    let resolve_open = form.replace("resolve_open", input::boolean);
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let before = maintenance::get(transaction, caller.workspace, uuid)?.ok_or(ApiError::NotFound("maintenance window"))?;
        let mut entry = before.clone();
        entry.from = from.unwrap_or(entry.from);
        entry.to = to.unwrap_or(entry.to);
        entry.reason = reason.unwrap_or(entry.reason);
        entry.resolve_open = resolve_open.unwrap_or(entry.resolve_open);
        if let Some(fault) = fault_of(entry.from, entry.to) {
            form.fault("to", fault);
        }
        form.finish()?;
        if entry != before {
            maintenance::update(transaction, &entry)?;
            let (id, before, after) = (uuid.to_string(), Some(record(&before)), Some(record(&entry)));
            let line = audit::Entry { action: "change", resource: "maintenance", id, before, after };
            audit::add(transaction, now, &caller.actor(), &line)?;
        }
        Ok::<_, ApiError>(entry)
    };
    let entry = call.app.state.write(work).await?;
    tell(&call.app, now).await?;
    Ok(Answer::ok(json!({ "window": shown(&entry, now) })))
}

async fn delete(call: Call) -> Result<Answer, ApiError> {
    let (caller, uuid, now) = (call.caller()?.clone(), call.uuid("maintenance window")?, call.now);
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let entry = maintenance::get(transaction, caller.workspace, uuid)?.ok_or(ApiError::NotFound("maintenance window"))?;
        maintenance::delete(transaction, uuid)?;
        let id = uuid.to_string();
        let line = audit::Entry { action: "delete", resource: "maintenance", id, before: Some(record(&entry)), after: None };
        Ok::<_, ApiError>(audit::add(transaction, now, &caller.actor(), &line)?)
    };
    call.app.state.write(work).await?;
    tell(&call.app, now).await?;
    Ok(Answer::Nothing)
}

/// Tells the analysts what is planned from now on; also where the address of a node has changed.
pub(super) async fn tell(app: &App, now: Timestamp) -> Result<(), ApiError> {
    let windows = app.state.read(move |connection| maintenance::windows(connection, now)).await.map_err(ApiError::from)?;
    app.analysis.tell(Control::Maintenance(windows));
    Ok(())
}

fn fault_of(from: Timestamp, to: Timestamp) -> Option<String> {
    if to <= from {
        Some("must be later than from".to_owned())
    } else if to.since(from) > DAYS_MAX * 86_400_000 {
        Some(format!("at most {DAYS_MAX} days after from"))
    } else {
        None
    }
}

/// A window as the audit log keeps it.
fn record(entry: &Entry) -> Value {
    let (target, node) = match entry.subject {
        Subject::Prefix(prefix) => (Some(prefix), None),
        Subject::Node(node) => (None, Some(node)),
    };
    json!({
        "id": entry.uuid, "target": target, "node": node, "from": entry.from, "to": entry.to, "reason": entry.reason,
        "resolve_open": entry.resolve_open, "created_at": entry.created_at,
    })
}

fn shown(entry: &Entry, now: Timestamp) -> Value {
    let status = if now < entry.from {
        "planned"
    } else if now < entry.to {
        "active"
    } else {
        "over"
    };
    let mut shown = record(entry);
    if let Value::Object(fields) = &mut shown {
        fields.insert("status".to_owned(), json!(status));
    }
    shown
}
