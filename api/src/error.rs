//! What a request can end with but success: one variant a condition, each with its code, status and envelope.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::query::ask::AskError;
use crate::state::StateError;

/// Seconds after which a client may try again when a part is away.
const RETRY_SECONDS: u64 = 5;

/// One field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The field's name; empty for the whole body.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Fault {
    /// A fault of `field`.
    #[must_use]
    pub fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No token, or none that is known.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The token's time is over.
    #[error("the token has expired")]
    TokenExpired,
    /// The body cannot be read.
    #[error("{message}")]
    InvalidRequest {
        /// What is wrong.
        message: String,
        /// The fields at fault, if single ones are.
        details: Vec<Fault>,
    },
    /// A query parameter or header cannot be read or is out of range.
    #[error("Invalid parameter: {}", one_line(.0))]
    InvalidParameter(Vec<Fault>),
    /// The body is well formed and breaks a rule.
    #[error("Validation error: {}", one_line(.0))]
    Validation(Vec<Fault>),
    /// Not there, or of another workspace.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The role is too low, or the kill switch is thrown.
    #[error("{0}")]
    PermissionDenied(String),
    /// No more nodes fit the plan.
    #[error("the plan allows {0} nodes")]
    NodeLimit(u64),
    /// The workspace is suspended or not paid for.
    #[error("the workspace has no active subscription")]
    SubscriptionRequired,
    /// It is there already.
    #[error("{0}")]
    Duplicate(String),
    /// An idempotency key came with another request.
    #[error("{0}")]
    IdempotencyConflict(&'static str),
    /// The path exists, the method does not.
    #[error("the method is not allowed here")]
    MethodNotAllowed,
    /// The body is too long.
    #[error("the body may have at most {0} octets")]
    PayloadTooLarge(usize),
    /// The body is no JSON.
    #[error("the body must be application/json")]
    UnsupportedMediaType,
    /// Too many requests.
    #[error("too many requests, try again in {0} s")]
    RateLimited(u64),
    /// A query would cost more than it may.
    #[error("{0}")]
    QueryLimit(String),
    /// A part is away for now.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of ours; the log has the reason.
    #[error("an internal error occurred")]
    Internal,
}

impl ApiError {
    /// A single field that breaks a rule.
    #[must_use]
    pub fn validation(field: &str, message: impl Into<String>) -> Self {
        Self::Validation(vec![Fault::new(field, message)])
    }

    /// The status and the code of the envelope.
    #[must_use]
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::TokenExpired => (StatusCode::UNAUTHORIZED, "token_expired"),
            Self::InvalidRequest { .. } => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "invalid_parameter"),
            Self::Validation(_) => (StatusCode::UNPROCESSABLE_ENTITY, "validation_error"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "resource_not_found"),
            Self::PermissionDenied(_) => (StatusCode::FORBIDDEN, "permission_denied"),
            Self::NodeLimit(_) => (StatusCode::FORBIDDEN, "node_limit"),
            Self::SubscriptionRequired => (StatusCode::PAYMENT_REQUIRED, "subscription_required"),
            Self::Duplicate(_) => (StatusCode::CONFLICT, "duplicate_resource"),
            Self::IdempotencyConflict(_) => (StatusCode::CONFLICT, "idempotency_conflict"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::PayloadTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::QueryLimit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "query_limit"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    fn details(&self) -> &[Fault] {
        match self {
            Self::InvalidParameter(details) | Self::Validation(details) | Self::InvalidRequest { details, .. } => details,
            _ => &[],
        }
    }
}

/// `field: message; field: message`, a fault without a field as its message alone, and of a message with a picture its first line.
fn one_line(faults: &[Fault]) -> String {
    let text = |fault: &Fault| {
        let first = fault.message.lines().next().unwrap_or("");
        if fault.field.is_empty() { first.to_owned() } else { format!("{}: {first}", fault.field) }
    };
    faults.iter().map(text).collect::<Vec<_>>().join("; ")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let body = json!({ "ok": false, "error": { "code": code, "message": self.to_string(), "details": self.details() } });
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response();
        let retry_after = match self {
            Self::RateLimited(seconds) => Some(seconds),
            Self::Unavailable(_) => Some(RETRY_SECONDS),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A database that is locked, full or overrun is a transient fault, never the client's: 503.
impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        tracing::error!(%error, "a request failed at the state");
        match error {
            StateError::Busy | StateError::Closed => Self::Unavailable("the state is busy".to_owned()),
            StateError::Sqlite(error) => match error.sqlite_error_code() {
                Some(DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure | CannotOpen) => {
                    Self::Unavailable("the state cannot be written now".to_owned())
                }
                _ => Self::Internal,
            },
            _ => Self::Internal,
        }
    }
}

/// A store that is away or busy is a transient fault; a query that costs too much is the client's.
impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Away(_) | AskError::Busy { .. } | AskError::Memory => Self::Unavailable(error.to_string()),
            AskError::Limit { .. } | AskError::Groups => Self::QueryLimit(error.to_string()),
            AskError::Refused(_) => {
                tracing::error!(%error, "a request failed at the store");
                Self::Internal
            }
        }
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        StateError::from(error).into()
    }
}

impl From<getrandom::Error> for ApiError {
    fn from(error: getrandom::Error) -> Self {
        tracing::error!(%error, "the system gave no random octets");
        Self::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validation_message_names_every_field_in_one_line() {
        let error = ApiError::Validation(vec![Fault::new("ip", "not an IP address"), Fault::new("name", "at most 100 characters")]);
        assert_eq!(error.to_string(), "Validation error: ip: not an IP address; name: at most 100 characters");
    }
}
