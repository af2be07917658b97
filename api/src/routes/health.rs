//! `/api/health`: whether a part that loses data is down.

use axum::http::StatusCode;
use axum::routing::MethodFilter;
use serde_json::json;

use crate::auth::Access;
use crate::error::ApiError;
use crate::server::{Answer, Call, Route};
use crate::state::StateError;

pub(super) const ROUTES: &[Route] = &[Route {
    method: MethodFilter::GET,
    path: "/api/health",
    access: Access::Public,
    parameters: &[],
    handler: |call| Box::pin(get(call)),
}];

/// Without the envelope, as monitoring tools expect it: `{"status":"ok"}`, or 503 with the parts that are down.
async fn get(call: Call) -> Result<Answer, ApiError> {
    let failing = failing(&call.app, call.now).await;
    let answer = if failing.is_empty() {
        (StatusCode::OK, json!({ "status": "ok" }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "degraded", "failing": failing }))
    };
    Ok(Answer::Raw(answer.0, answer.1.to_string()))
}

/// The names of the parts that are down, by the pipe's news and a look at the state.
pub(super) async fn failing(app: &crate::app::App, now: schemas::time::Timestamp) -> Vec<String> {
    let mut failing: Vec<String> = app.live.failing(now).into_keys().collect();
    let state = app.state.write(|transaction| Ok::<i64, StateError>(transaction.query_row("SELECT 1", [], |row| row.get(0))?)).await;
    if let Err(error) = state {
        tracing::error!(%error, "the state cannot be written");
        failing.push("state".to_owned());
    }
    failing
}
