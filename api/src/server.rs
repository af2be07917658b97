//! From an HTTP request to its answer: authentication, limits, roles, bodies, idempotency, headers — one way for every route.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts as _, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use schemas::time::Timestamp;

use crate::app::App;
use crate::auth::{Access, Caller, bearer};
use crate::error::{ApiError, Fault};
use crate::input::{Form, Query};
use crate::limit::Standing;
use crate::routes;
use crate::state::idempotency::{self, First};
use crate::state::tokens;

/// How long a client may take to send its body.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Tokens note their last use at most this often.
const TOUCH_MILLISECONDS: u64 = 60_000;

/// What a handler answers with.
#[derive(Debug)]
pub enum Answer {
    /// A JSON object; `"ok": true` is added, unless the route speaks without the envelope.
    Json(StatusCode, Value),
    /// A JSON text as it is.
    Raw(StatusCode, String),
    /// 200 with a document of another media type.
    Document(&'static str, Vec<u8>),
    /// 200 with a document of another media type, under this file name, as it comes.
    Stream(&'static str, String, Body),
    /// Nothing: 204.
    Nothing,
}

impl Answer {
    /// 200 with `"ok": true` in front of the object's keys.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self::Json(StatusCode::OK, body)
    }

    /// 201 likewise.
    #[must_use]
    pub fn created(body: Value) -> Self {
        Self::Json(StatusCode::CREATED, body)
    }

    fn response(self) -> Response {
        match self {
            Self::Document(media_type, octets) => ([(header::CONTENT_TYPE, media_type)], octets).into_response(),
            Self::Stream(media_type, file, body) => {
                let disposition = format!("attachment; filename=\"{file}\"");
                ([(header::CONTENT_TYPE, media_type.to_owned()), (header::CONTENT_DISPOSITION, disposition)], body).into_response()
            }
            other => json_response(other.parts(), false),
        }
    }

    fn parts(self) -> (StatusCode, String) {
        match self {
            Self::Json(status, Value::Object(mut fields)) => {
                fields.insert("ok".to_owned(), Value::Bool(true));
                (status, Value::Object(fields).to_string())
            }
            Self::Json(status, other) => (status, other.to_string()),
            Self::Raw(status, text) => (status, text),
            Self::Document(_, octets) => (StatusCode::OK, String::from_utf8_lossy(&octets).into_owned()),
            // Streams answer to GET, which is never replayed.
            Self::Stream(..) | Self::Nothing => (StatusCode::NO_CONTENT, String::new()),
        }
    }
}

/// A request that may be handled: authenticated, within its limits, of a sufficient role.
#[derive(Debug)]
pub struct Call {
    /// The server's parts.
    pub app: Arc<App>,
    /// Who calls; `None` on public routes.
    caller: Option<Caller>,
    /// Parameters of the path.
    path: Vec<(String, String)>,
    /// Parameters behind the question mark.
    pub query: Query,
    /// The fields of the body; `None` where the method has none.
    form: Option<Form>,
    /// The media types that the client takes; empty if it does not say.
    pub accept: String,
    /// When it came.
    pub now: Timestamp,
}

impl Call {
    /// Who calls.
    ///
    /// # Errors
    ///
    /// [`ApiError::Unauthorized`] on a public route, which a handler that asks is none of.
    pub fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or(ApiError::Unauthorized("a bearer token is required"))
    }

    /// The fields of the body, taken out of the call.
    ///
    /// # Errors
    ///
    /// [`ApiError::InvalidRequest`] where the method has no body.
    pub fn form(&mut self) -> Result<Form, ApiError> {
        self.form.take().ok_or_else(|| ApiError::InvalidRequest { message: "a body is required".to_owned(), details: Vec::new() })
    }

    /// A parameter of the path.
    #[must_use]
    pub fn path(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The uuid in the path.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotFound`] for a text that is none: nothing can be there.
    pub fn uuid(&self, resource: &'static str) -> Result<Uuid, ApiError> {
        let text = self.path.first().map_or("", |(_, value)| value);
        text.parse().map_err(|_| ApiError::NotFound(resource))
    }
}

/// What a handler is: from a call to its answer.
pub type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Result<Answer, ApiError>> + Send>>;

/// One line of the route table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: MethodFilter,
    /// The path, parameters in braces.
    pub path: &'static str,
    /// Who may call.
    pub access: Access,
    /// The parameters behind the question mark that it knows; others are refused.
    pub parameters: &'static [&'static str],
    /// What is done.
    pub handler: Handler,
}

impl Route {
    /// The method's name.
    #[must_use]
    pub fn method_name(&self) -> &'static str {
        match self.method {
            MethodFilter::GET => "GET",
            MethodFilter::POST => "POST",
            MethodFilter::PATCH => "PATCH",
            MethodFilter::DELETE => "DELETE",
            _ => "?",
        }
    }

    fn has_body(&self) -> bool {
        self.method == MethodFilter::POST || self.method == MethodFilter::PATCH
    }
}

/// The HTTP service: every route of the table, and JSON for what is not there.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in routes::all() {
        let app = Arc::clone(&app);
        let handler = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| handle(app, route, peer, request);
        router = router.route(route.path, on(route.method, handler));
    }
    let (missing, wrong) = (Arc::clone(&app), app);
    router
        .fallback(move |ConnectInfo(peer): ConnectInfo<SocketAddr>| refuse(missing, peer, ApiError::NotFound("path")))
        .method_not_allowed_fallback(move |ConnectInfo(peer): ConnectInfo<SocketAddr>| refuse(wrong, peer, ApiError::MethodNotAllowed))
}

async fn refuse(app: Arc<App>, peer: SocketAddr, error: ApiError) -> Response {
    let mut response = error.into_response();
    app.metrics.request("unmatched", response.status().as_u16(), Duration::ZERO);
    let standing = app.limits.address(peer.ip(), app.config.api.rate_limit.failed_authentications_per_minute, app.clock.now(), 0);
    finish(&mut response, standing);
    response
}

async fn handle(app: Arc<App>, route: Route, peer: SocketAddr, request: Request) -> Response {
    let started = Instant::now();
    let metrics = Arc::clone(&app.metrics);
    // A task of its own: a client that goes away does not stop a write half-way, and a panic ends as a 500.
    let mut answered = Task {
        is_read: route.method == MethodFilter::GET,
        task: tokio::spawn(async move {
            let mut standing = None;
            let outcome = respond(&app, route, peer, request, &mut standing).await;
            let mut response = outcome.unwrap_or_else(|error| {
                tracing::debug!(route = route.path, %error, "a request was refused");
                error.into_response()
            });
            finish(&mut response, standing);
            response
        }),
    };
    let response = (&mut answered.task).await.unwrap_or_else(|error| {
        tracing::error!(route = route.path, %error, "a request handler failed");
        ApiError::Internal.into_response()
    });
    metrics.request(route.path, response.status().as_u16(), started.elapsed());
    response
}

/// A request that is being answered: what it only reads is read no further when its client goes away.
struct Task {
    task: tokio::task::JoinHandle<Response>,
    is_read: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.is_read {
            self.task.abort();
        }
    }
}

fn finish(response: &mut Response, standing: Option<Standing>) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(standing) = standing {
        standing.write(headers);
    }
}

async fn respond(
    app: &Arc<App>,
    route: Route,
    peer: SocketAddr,
    request: Request,
    standing: &mut Option<Standing>,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let (mut parts, body) = request.into_parts();
    let caller = admit(app, route, peer, &parts, now, standing).await?;
    let query = Query::read(&parts.uri, route.parameters)?;
    let path = path_parameters(&mut parts).await;
    let octets = if route.has_body() { read_body(app, &parts, body).await? } else { Vec::new() };
    let idempotency_key = if route.method == MethodFilter::POST { idempotency_key(&parts)? } else { None };
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let form = || if route.has_body() { Form::read(&parts.headers, &octets).map(Some) } else { Ok(None) };
    let (Some(key), Some(first_caller)) = (idempotency_key, caller.clone()) else {
        let call = Call { app: Arc::clone(app), caller, path, query, form: form()?, accept, now };
        return (route.handler)(call).await.map(Answer::response);
    };
    let request_hash = Sha256::new()
        .chain_update(parts.method.as_str())
        .chain_update([0])
        .chain_update(parts.uri.to_string())
        .chain_update([0])
        .chain_update(&octets)
        .finalize()
        .to_vec();
    let flight = Arc::clone(&*app.flights.entry((first_caller.token, key.clone())).or_default());
    let _landed = flight.lock().await;
    let run = async {
        let call = Call { app: Arc::clone(app), caller, path, query, form: form()?, accept, now };
        (route.handler)(call).await
    };
    let outcome = first_answer(app, &first_caller, &key, request_hash, now, run).await;
    // Two hold it when nobody waits: the table and this request.
    app.flights.remove_if(&(first_caller.token, key), |_, flight| Arc::strong_count(flight) <= 2);
    outcome
}

/// Gives the first answer to this key again, or runs the request and keeps its answer, unless a retry may fare better.
async fn first_answer(
    app: &Arc<App>,
    caller: &Caller,
    key: &str,
    request_hash: Vec<u8>,
    now: Timestamp,
    run: impl Future<Output = Result<Answer, ApiError>>,
) -> Result<Response, ApiError> {
    let (token, secret, owned_key) = (caller.token, caller.secret.clone(), key.to_owned());
    let first = app.state.read(move |connection| idempotency::find(connection, token, &secret, &owned_key, now)).await;
    if let Some(first) = first.map_err(ApiError::from)? {
        if first.request_hash != request_hash {
            return Err(ApiError::IdempotencyConflict("this Idempotency-Key came with another request within 24 h"));
        }
        let status = StatusCode::from_u16(first.status).unwrap_or(StatusCode::OK);
        return Ok(json_response((status, String::from_utf8(first.body).unwrap_or_default()), true));
    }
    let outcome = run.await;
    let (status, text) = match outcome {
        Ok(answer) => answer.parts(),
        Err(error) if error.status().0.is_server_error() => return Err(error),
        Err(error) => {
            let (status, body) = (error.status().0, error.into_response().into_body());
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            (status, String::from_utf8_lossy(&body).into_owned())
        }
    };
    let (secret, owned_key) = (caller.secret.clone(), key.to_owned());
    let first = First { request_hash, status: status.as_u16(), body: text.clone().into_bytes() };
    let kept = app.state.write(move |transaction| idempotency::keep(transaction, token, &secret, &owned_key, first, now)).await;
    kept.map_err(ApiError::from)?;
    Ok(json_response((status, text), false))
}

fn json_response((status, text): (StatusCode, String), replayed: bool) -> Response {
    let mut response = if status == StatusCode::NO_CONTENT {
        status.into_response()
    } else {
        (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
    };
    if replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// Lets a request in: knows its token, counts it, checks its role.
async fn admit(
    app: &Arc<App>,
    route: Route,
    peer: SocketAddr,
    parts: &Parts,
    now: Timestamp,
    standing: &mut Option<Standing>,
) -> Result<Option<Caller>, ApiError> {
    let limits = &app.config.api.rate_limit;
    if route.access == Access::Public {
        *standing = app.limits.address(peer.ip(), limits.failed_authentications_per_minute, now, 0);
        return Ok(None);
    }
    let known = match bearer(&parts.headers) {
        Ok(secret) => known_token(app, secret, peer, now).await,
        Err(error) => Err(error),
    };
    let (caller, limit) = match known {
        Ok(known) => known,
        Err(error) if error.status().0 == StatusCode::UNAUTHORIZED => {
            *standing = app.limits.address(peer.ip(), limits.failed_authentications_per_minute, now, 1);
            let exceeded = standing.filter(|standing| standing.exceeded);
            return Err(exceeded.map_or(error, |standing| ApiError::RateLimited(standing.retry_after(now))));
        }
        Err(error) => return Err(error),
    };
    *standing = app.limits.token(caller.token, limit.unwrap_or(limits.requests_per_minute), now);
    if let Some(standing) = standing.filter(|standing| standing.exceeded) {
        return Err(ApiError::RateLimited(standing.retry_after(now)));
    }
    if !route.access.allows(caller.role) {
        let message = format!("a token of the role {} may not do this", caller.role.name());
        return Err(ApiError::PermissionDenied(message));
    }
    Ok(Some(caller))
}

async fn known_token(
    app: &Arc<App>,
    secret: crate::auth::Secret,
    peer: SocketAddr,
    now: Timestamp,
) -> Result<(Caller, Option<u64>), ApiError> {
    let asked = secret.clone();
    let found = app.state.read(move |connection| tokens::find(connection, &asked)).await.map_err(ApiError::from)?;
    let (token, limit) = found.ok_or(ApiError::Unauthorized("the token is unknown or revoked"))?;
    if token.expires_at.is_some_and(|end| end <= now) {
        return Err(ApiError::TokenExpired);
    }
    if token.last_used_at.is_none_or(|last| now.since(last) >= TOUCH_MILLISECONDS) {
        let uuid = token.uuid;
        let noted = app.state.write(move |transaction| tokens::touch(transaction, uuid, now)).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "the last use of a token was not noted");
        }
    }
    let caller = Caller { token: token.uuid, secret, name: token.name, role: token.role, workspace: token.workspace, address: peer.ip() };
    Ok((caller, limit))
}

async fn path_parameters(parts: &mut Parts) -> Vec<(String, String)> {
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(parameters) => parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        Err(_) => Vec::new(),
    }
}

async fn read_body(app: &Arc<App>, parts: &Parts, body: Body) -> Result<Vec<u8>, ApiError> {
    let limit = match app.config.api.body_octets_max {
        0 => usize::MAX,
        octets => octets,
    };
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|octets| octets > limit) {
        return Err(ApiError::PayloadTooLarge(limit));
    }
    match tokio::time::timeout(BODY_WAIT, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(octets)) => Ok(octets.to_vec()),
        // A chunked body that runs over the limit and one that breaks off look alike here; the first is by far the likelier.
        Ok(Err(_)) => Err(ApiError::PayloadTooLarge(limit)),
        Err(_) => Err(ApiError::InvalidRequest { message: "the body did not come within 10 s".to_owned(), details: Vec::new() }),
    }
}

fn idempotency_key(parts: &Parts) -> Result<Option<String>, ApiError> {
    let Some(value) = parts.headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| (1..=255).contains(&text.len()));
    let fault = || ApiError::InvalidParameter(vec![Fault::new("Idempotency-Key", "must be 1 to 255 visible ASCII characters")]);
    text.map(|text| Some(text.to_owned())).ok_or_else(fault)
}

/// `{"<plural>": […], "total", "limit", "offset"}`.
#[must_use]
pub fn listed(plural: &str, entries: Vec<Value>, total: u64, page: crate::state::Page) -> Answer {
    let mut body = json!({ "total": total, "limit": page.limit, "offset": page.offset });
    if let Value::Object(fields) = &mut body {
        fields.insert(plural.to_owned(), Value::Array(entries));
    }
    Answer::ok(body)
}
