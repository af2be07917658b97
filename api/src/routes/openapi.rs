//! `/api/openapi.json`: the committed description of what is served.

use axum::http::StatusCode;
use axum::routing::MethodFilter;

use crate::auth::Access;
use crate::error::ApiError;
use crate::server::{Answer, Call, Route};

pub(super) const ROUTES: &[Route] = &[Route {
    method: MethodFilter::GET,
    path: "/api/openapi.json",
    access: Access::Public,
    parameters: &[],
    handler: |call| Box::pin(get(call)),
}];

async fn get(_call: Call) -> Result<Answer, ApiError> {
    Ok(Answer::Raw(StatusCode::OK, include_str!("../../../schemas/openapi.json").to_owned()))
}
