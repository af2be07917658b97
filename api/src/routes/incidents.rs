//! `/api/v1/incidents`: what was and is attacked, and what people make of it.

use axum::routing::MethodFilter;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use schemas::incident::{Family, Incident, IncidentStatus, TimelineEntry, TimelineKind};
use schemas::net::Prefix;
use schemas::time::Timestamp;

use crate::analysis::Control;
use crate::auth::{Access, Role};
use crate::error::ApiError;
use crate::input;
use crate::server::{Answer, Call, Route, listed};
use crate::state::audit::{self, Entry};
use crate::state::incidents::{self, Filter};
use crate::state::rules;

const NOTE_CHARACTERS_MAX: usize = 2_000;

/// The fields of a list's entry; the rest comes with the single incident.
const SUMMARY: &[&str] = &[
    "uuid",
    "node",
    "target",
    "direction",
    "family",
    "subtype",
    "severity",
    "status",
    "confidence",
    "started_at",
    "detected_at",
    "mitigated_at",
    "ended_at",
    "duration_sec",
    "peak_pps",
    "peak_bps",
    "total_packets",
    "total_octets",
    "threshold",
    "rules",
    "summary",
    "note",
];

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/incidents",
        access: Access::Least(Role::Readonly),
        parameters: &["limit", "offset", "status", "severity", "node", "target", "family", "since", "until"],
        handler: |call| Box::pin(list(call)),
    },
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/incidents/{uuid}",
        access: Access::Least(Role::Readonly),
        parameters: &[],
        handler: |call| Box::pin(get(call)),
    },
    Route {
        method: MethodFilter::PATCH,
        path: "/api/v1/incidents/{uuid}",
        access: Access::Least(Role::Analyst),
        parameters: &[],
        handler: |call| Box::pin(change(call)),
    },
];

async fn list(mut call: Call) -> Result<Answer, ApiError> {
    let page = call.query.page(50, 100);
    let moment = |text: &str| text.parse::<Timestamp>().map_err(|_| "not an ISO 8601 time like 2026-11-20T12:00:00Z".to_owned());
    let filter = Filter {
        status: call.query.take("status", word),
        severity: call.query.take("severity", word),
        family: call.query.take("family", family),
        node: call.query.take("node", |text| text.parse::<Uuid>().map_err(|_| "not a uuid".to_owned())),
        target: call.query.take("target", |text| text.parse::<Prefix>().map_err(|error| error.to_string())),
        since: call.query.take("since", moment),
        until: call.query.take("until", moment),
    };
    call.query.finish()?;
    let workspace = call.caller()?.workspace;
    let found = call.app.state.read(move |connection| incidents::list(connection, workspace, &filter, page)).await;
    let found = found.map_err(ApiError::from)?;
    Ok(listed("incidents", found.entries.iter().map(summary).collect(), found.total, page))
}

async fn get(call: Call) -> Result<Answer, ApiError> {
    let (workspace, uuid) = (call.caller()?.workspace, call.uuid("incident")?);
    let found = call.app.state.read(move |connection| incidents::get(connection, workspace, uuid)).await.map_err(ApiError::from)?;
    let incident = found.ok_or(ApiError::NotFound("incident"))?;
    Ok(Answer::ok(json!({ "incident": incident })))
}

async fn change(mut call: Call) -> Result<Answer, ApiError> {
    let (caller, uuid, now) = (call.caller()?.clone(), call.uuid("incident")?, call.now);
    let mut form = call.form()?;
    let status = form.replace("status", |value| match value.as_str().ok_or("must be a text")? {
        "resolved" => Ok(IncidentStatus::Resolved),
        "false_positive" => Ok(IncidentStatus::FalsePositive),
        _ => Err("must be one of resolved, false_positive".to_owned()),
    });
    let note = form.change("note", input::text(NOTE_CHARACTERS_MAX));
    let decides = caller.role >= Role::Operator;
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let before = incidents::get(transaction, caller.workspace, uuid)?.ok_or(ApiError::NotFound("incident"))?;
        form.finish()?;
        let mut after = before.clone();
        after.status = status.unwrap_or(after.status);
        note.apply(&mut after.note);
        if (after.status, &after.note) == (before.status, &before.note) {
            return Ok::<_, ApiError>(before);
        }
        if after.status != before.status {
            // An analyst only labels: what goes on goes on.
            if after.ended_at.is_none() && decides {
                after.ended_at = Some(now);
                after.duration_sec = now.since(after.started_at) / 1_000;
            }
            let text = format!("{} set it to {}", caller.name, after.status.name());
            after.timeline.push(TimelineEntry { at: now, kind: TimelineKind::Edited, text });
        }
        incidents::save(transaction, caller.workspace, &after)?;
        incidents::edit(transaction, uuid, status, after.note.as_deref())?;
        let label = |incident: &Incident| Some(json!({ "status": incident.status, "note": incident.note }));
        let entry = Entry { action: "change", resource: "incident", id: uuid.to_string(), before: label(&before), after: label(&after) };
        audit::add(transaction, now, &caller.actor(), &entry)?;
        Ok(after)
    };
    let incident = call.app.state.write(work).await?;
    // Whether it is still going on or not, and by whomever.
    if status == Some(IncidentStatus::FalsePositive) {
        call.app.live.baselines().teach(&incident, now);
    }
    if let Some(status) = status.filter(|_| decides) {
        call.app.analysis.tell(Control::Resolve { uuid, status, note: incident.note.clone() });
        // The analysts' end withdraws automatic rules; of an incident that has ended for them already, what is left goes here.
        let left = call.app.state.read(move |connection| rules::of_incident(connection, uuid)).await.map_err(ApiError::from)?;
        for rule in left {
            call.app.mitigation.withdraw(rule.uuid).await.map_err(super::rules::ended)?;
        }
    }
    Ok(Answer::ok(json!({ "incident": incident })))
}

fn word<T: std::str::FromStr<Err = schemas::incident::UnknownWord>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: schemas::incident::UnknownWord| format!("must be one of {}", error.known))
}

/// A family by its word or an alias that agents use.
fn family(text: &str) -> Result<Family, String> {
    match text {
        "tcp_syn" => Ok(Family::SynFlood),
        "tcp_ack" | "tcp_rst" => Ok(Family::TcpFlood),
        "ip_fragmentation" => Ok(Family::FragmentFlood),
        "gre_flood" => Ok(Family::ProtocolFlood),
        _ => word(text),
    }
}

fn summary(incident: &Incident) -> Value {
    match serde_json::to_value(incident) {
        Ok(Value::Object(fields)) => {
            Value::Object(fields.into_iter().filter(|(key, _)| SUMMARY.contains(&key.as_str())).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}
