//! `/api/deploy`: an installer registers its server as a node.

use axum::routing::MethodFilter;
use serde_json::json;

use super::nodes::{self, New};
use crate::auth::Access;
use crate::error::{ApiError, Fault};
use crate::server::{Answer, Call, Route};
use crate::state::workspaces;

pub(super) const ROUTES: &[Route] = &[Route {
    method: MethodFilter::POST,
    path: "/api/deploy",
    access: Access::Deploy,
    parameters: &[],
    handler: |call| Box::pin(register(call)),
}];

async fn register(mut call: Call) -> Result<Answer, ApiError> {
    let mut form = call.form()?;
    let missing: Vec<Fault> =
        ["name", "ip"].into_iter().filter(|field| form.is_blank(field)).map(|field| Fault::new(field, "this field is required")).collect();
    if !missing.is_empty() {
        return Err(ApiError::InvalidRequest { message: "Node name / IP required".to_owned(), details: missing });
    }
    let new = New::of_deploy(&mut form);
    form.finish()?;
    let (workspace, now) = (call.caller()?.workspace, call.now);
    let plan = call.app.state.read(move |connection| workspaces::plan(connection, workspace)).await.map_err(ApiError::from)?;
    if !plan.is_paid(now) {
        return Err(ApiError::SubscriptionRequired);
    }
    let (node, key) = nodes::add(&call, new).await?;
    Ok(Answer::ok(json!({ "node_uuid": node.uuid, "api_key": key.text(), "name": node.name, "ip": node.ip })))
}
