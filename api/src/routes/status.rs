//! `/api/v1/status`: everything at a glance, for status pages and wall screens.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::health;
use super::nodes::View;
use crate::auth::{Access, Role};
use crate::error::ApiError;
use crate::server::{Answer, Call, Route};
use crate::state::{Page, nodes};

pub(super) const ROUTES: &[Route] = &[Route {
    method: MethodFilter::GET,
    path: "/api/v1/status",
    access: Access::Least(Role::Readonly),
    parameters: &[],
    handler: |call| Box::pin(get(call)),
}];

async fn get(call: Call) -> Result<Answer, ApiError> {
    let workspace = call.caller()?.workspace;
    let everything = Page { limit: u32::MAX, offset: 0 };
    let found = call.app.state.read(move |connection| nodes::list(connection, workspace, everything)).await.map_err(ApiError::from)?;
    let view = View::of(&call.app, call.now).await?;
    let (mut online, mut attacked) = (0_u64, 0_u64);
    let mut entries: Vec<Value> = Vec::with_capacity(found.entries.len());
    for node in &found.entries {
        let status = view.status(node);
        online += u64::from(status != "offline");
        attacked += u64::from(status == "attack");
        entries.push(json!({
            "uuid": node.uuid, "name": node.name, "status": status, "pps": view.packets_per_second(node),
            "active_incidents": view.active_incidents(node),
        }));
    }
    let alarms = call.app.live.alarms();
    let is_whole = alarms.is_empty() && online == found.total && health::failing(&call.app, call.now).await.is_empty();
    let overall = if !view.active.is_empty() {
        "under_attack"
    } else if is_whole {
        "operational"
    } else {
        "degraded"
    };
    Ok(Answer::ok(json!({
        "overall": overall, "nodes_total": found.total, "nodes_online": online, "under_attack": attacked, "nodes": entries,
        "alarms": &alarms[..],
    })))
}
