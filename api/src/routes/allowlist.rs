//! `/api/v1/allowlist`: addresses and prefixes that no rule of ours may ever touch.

use axum::routing::MethodFilter;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::{Access, Role};
use crate::error::ApiError;
use crate::input;
use crate::server::{Answer, Call, Route, listed};
use crate::state::allowlist::{self, Entry};
use crate::state::{audit, nodes};

const PATH: &str = "/api/v1/allowlist";
const LABEL_CHARACTERS_MAX: usize = 100;

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: PATH,
        access: Access::Least(Role::Readonly),
        parameters: &["limit", "offset", "node"],
        handler: |call| Box::pin(list(call)),
    },
    Route {
        method: MethodFilter::POST,
        path: PATH,
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(add(call)),
    },
    Route {
        method: MethodFilter::DELETE,
        path: "/api/v1/allowlist/{id}",
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(delete(call)),
    },
];

async fn list(mut call: Call) -> Result<Answer, ApiError> {
    let page = call.query.page(50, 100);
    let node = call.query.take("node", |text| text.parse::<Uuid>().map_err(|_| "not a uuid".to_owned()));
    call.query.finish()?;
    let workspace = call.caller()?.workspace;
    let found = call.app.state.read(move |connection| allowlist::list(connection, workspace, node, page)).await.map_err(ApiError::from)?;
    Ok(listed("allowlist", found.entries.iter().map(shown).collect(), found.total, page))
}

async fn add(mut call: Call) -> Result<Answer, ApiError> {
    let mut form = call.form()?;
    let prefix = form.need("ip_address", input::prefix);
    let label = form.take("label", input::text(LABEL_CHARACTERS_MAX));
    let scope = form.take("scope", input::one_of(&["workspace", "node"])).unwrap_or("workspace");
    let node = form.take("node", input::uuid);
    if scope == "node" && form.is_blank("node") {
        form.fault("node", "this field is required when scope is node");
    }
    if scope == "workspace" && node.is_some() {
        form.fault("node", "only with scope node");
    }
    form.finish()?;
    let Some(prefix) = prefix else {
        return Err(ApiError::validation("ip_address", "this field is required"));
    };
    let caller = call.caller()?.clone();
    let (entry, now) = (Entry { uuid: Uuid::new_v4(), prefix, label, node, created_at: call.now }, call.now);
    let stored = entry.clone();
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        if let Some(node) = stored.node {
            nodes::get(transaction, caller.workspace, node)?.ok_or_else(|| ApiError::validation("node", "no such node"))?;
        }
        if allowlist::exists(transaction, caller.workspace, stored.prefix, stored.node)? {
            return Err(ApiError::Duplicate(format!("{} is on the allowlist already", stored.prefix)));
        }
        allowlist::insert(transaction, caller.workspace, &stored)?;
        let id = stored.uuid.to_string();
        let line = audit::Entry { action: "create", resource: "allowlist", id, before: None, after: Some(shown(&stored)) };
        Ok(audit::add(transaction, now, &caller.actor(), &line)?)
    };
    call.app.state.write(work).await?;
    protect(&call).await?;
    Ok(Answer::created(json!({ "entry": shown(&entry) })))
}

async fn delete(call: Call) -> Result<Answer, ApiError> {
    let (caller, uuid, now) = (call.caller()?.clone(), call.uuid("allowlist entry")?, call.now);
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let entry = allowlist::get(transaction, caller.workspace, uuid)?.ok_or(ApiError::NotFound("allowlist entry"))?;
        allowlist::delete(transaction, uuid)?;
        let id = uuid.to_string();
        let line = audit::Entry { action: "delete", resource: "allowlist", id, before: Some(shown(&entry)), after: None };
        Ok::<_, ApiError>(audit::add(transaction, now, &caller.actor(), &line)?)
    };
    call.app.state.write(work).await?;
    protect(&call).await?;
    Ok(Answer::Nothing)
}

/// Tells the guard what it protects from now on.
async fn protect(call: &Call) -> Result<(), ApiError> {
    let prefixes = call.app.state.read(allowlist::prefixes).await.map_err(ApiError::from)?;
    call.app.mitigation.set_allowlist(prefixes).await.map_err(super::rules::ended)
}

fn shown(entry: &Entry) -> Value {
    let scope = if entry.node.is_some() { "node" } else { "workspace" };
    json!({
        "id": entry.uuid, "ip_address": entry.prefix, "label": entry.label, "scope": scope, "node": entry.node,
        "created_at": entry.created_at,
    })
}
