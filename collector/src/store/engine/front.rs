//! The child's answers: the part of ClickHouse's HTTP interface that the `clickhouse` crate and we use.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use super::request::{RequestError, Secret, Wanted};
use super::session::{Ask, Part, Rows, Sessions, Summary, Way};
use super::statement::{Framing, Kind, Statement};

/// Octets of a statement, with the rows that it may hold itself.
const STATEMENT_OCTETS_MAX: usize = 16 * 1_048_576;
/// Octets of the rows of one insert.
const INSERT_OCTETS_MAX: usize = 1_024 * 1_048_576;
/// Pieces of an insert that wait for the engine; each has what the kernel gave at once.
const ROWS_WAITING_MAX: usize = 4;
/// The format of a result if nobody names one.
const DEFAULT_FORMAT: &str = "TabSeparated";

const EXCEPTION_CODE: HeaderName = HeaderName::from_static("x-clickhouse-exception-code");
const EXCEPTION_TAG: HeaderName = HeaderName::from_static("x-clickhouse-exception-tag");
const SUMMARY: HeaderName = HeaderName::from_static("x-clickhouse-summary");
const QUERY_ID: HeaderName = HeaderName::from_static("x-clickhouse-query-id");
const FORMAT: HeaderName = HeaderName::from_static("x-clickhouse-format");

/// What every request needs.
#[derive(Debug)]
pub struct Front {
    sessions: Arc<Sessions>,
    user: String,
    secret: Secret,
    /// Begins the names of statements, so that those of an earlier child are not meant.
    statements: AtomicU64,
}

/// The routes: statements at `/`, a sign of life at `/ping`.
pub fn routes(sessions: Arc<Sessions>, user: &str, secret: Secret) -> Router {
    let front = Arc::new(Front { sessions, user: user.to_owned(), secret, statements: AtomicU64::new(0) });
    Router::new().route("/ping", axum::routing::get(ping)).fallback(ask).with_state(front)
}

/// Answers at once whether the engine has run a statement of late; whoever asks needs no secret, learns nothing else, and costs nothing.
async fn ping(State(front): State<Arc<Front>>) -> Response {
    if front.sessions.are_alive() { "Ok.\n".into_response() } else { StatusCode::SERVICE_UNAVAILABLE.into_response() }
}

async fn ask(State(front): State<Arc<Front>>, Query(pairs): Query<Vec<(String, String)>>, request: Request) -> Response {
    match answer(&front, pairs, request).await {
        Ok(response) => response,
        Err(error) => failure(&front, &error.to_string()),
    }
}

async fn answer(front: &Arc<Front>, pairs: Vec<(String, String)>, request: Request) -> Result<Response, RequestError> {
    let mut wanted = Wanted::of(pairs)?;
    let (head, body) = request.into_parts();
    if !is_ours(front, &head.headers, &wanted) {
        return Err(RequestError::Stranger);
    }
    if head.headers.contains_key("content-encoding") {
        return Err(RequestError::Compressed);
    }
    if head.method == Method::GET && wanted.ask.statement.is_empty() {
        return Ok("Ok.\n".into_response());
    }
    wanted.ask.name = format!("weir-{}", front.statements.fetch_add(1, Ordering::Relaxed));
    // Rows may follow an insert whose statement is in the address; anything else is text, all of it.
    if head.method == Method::POST && Statement::read(&wanted.ask.statement).kind == Kind::Insert {
        return insert(front, wanted, body).await;
    }
    let body = to_bytes(body, STATEMENT_OCTETS_MAX).await.map_err(|_| RequestError::TooLarge)?;
    let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok());
    wanted.take_body(content_type, &body)?;
    if wanted.ask.statement.trim().is_empty() {
        return Err(RequestError::Empty);
    }
    let is_get = head.method == Method::GET;
    let (ask, way, kind, query_id) = read(wanted);
    if is_get && matches!(kind, Kind::Insert | Kind::Change) {
        return Err(RequestError::ReadOnly);
    }
    let guard =
        matches!(kind, Kind::Select | Kind::Read).then(|| Guard { front: Arc::clone(front), name: ask.name.clone(), is_over: false });
    let format = ask.format.clone();
    let parts = front.sessions.ask(ask, way).map_err(|_| RequestError::Busy)?;
    Ok(respond(front, parts, guard, &query_id, &format).await)
}

/// How a statement that is text as a whole is run.
fn read(mut wanted: Wanted) -> (Ask, Way, Kind, String) {
    let statement = Statement::read(&wanted.ask.statement);
    let (kind, default_format) = (statement.kind, wanted.default_format.as_deref().unwrap_or(DEFAULT_FORMAT));
    let format = statement.format.unwrap_or(default_format).to_owned();
    let framing = Framing::of(&format);
    let way = if kind == Kind::Select && framing != Framing::Whole && !wanted.is_whole { Way::Stream(framing) } else { Way::Whole };
    wanted.ask.format = format;
    let query_id = wanted.query_id.unwrap_or_else(|| wanted.ask.name.clone());
    (wanted.ask, way, kind, query_id)
}

fn is_ours(front: &Front, headers: &HeaderMap, wanted: &Wanted) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let user = header("x-clickhouse-user").or(wanted.user.as_deref());
    let password = header("x-clickhouse-key").or(wanted.password.as_deref());
    user == Some(&front.user) && password.is_some_and(|password| front.secret.is(password))
}

/// Sends the rows of an insert to the engine while they come.
async fn insert(front: &Arc<Front>, wanted: Wanted, mut body: Body) -> Result<Response, RequestError> {
    let statement = Statement::read(&wanted.ask.statement);
    let mut first = next(&mut body).await;
    if statement.format.is_none() && first.is_none() {
        // Rows are in the statement itself, or it has a SELECT.
        let (ask, way, _, query_id) = read(wanted);
        let parts = front.sessions.ask(ask, way).map_err(|_| RequestError::Busy)?;
        return Ok(respond(front, parts, None, &query_id, "").await);
    }
    let (text, format) = (statement.without_format(), statement.format.unwrap_or("Values").to_owned());
    let query_id = wanted.query_id.unwrap_or_else(|| wanted.ask.name.clone());
    let ask = Ask { statement: text, format, ..wanted.ask };
    let (sender, rows) = mpsc::channel(ROWS_WAITING_MAX);
    let parts = front.sessions.ask(ask, Way::Insert(rows)).map_err(|_| RequestError::Busy)?;
    let (mut octets, mut is_wanted) = (0, true);
    // When the engine wants no more, the client still sends: it reads the answer when it has sent everything.
    while let Some(piece) = first.take() {
        // A body that breaks off is no end: the sender is dropped, and nothing is inserted.
        let piece = piece.map_err(|_| RequestError::Malformed)?;
        octets += piece.len();
        if octets > INSERT_OCTETS_MAX {
            return Err(RequestError::TooLarge);
        }
        is_wanted = is_wanted && sender.send(Rows::More(piece)).await.is_ok();
        first = next(&mut body).await;
    }
    if is_wanted {
        drop(sender.send(Rows::End).await);
    }
    Ok(respond(front, parts, None, &query_id, "").await)
}

/// The next piece of a body; none at its end.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Waits for the first part of an answer, by which its status is known.
async fn respond(front: &Front, mut parts: mpsc::Receiver<Part>, guard: Option<Guard>, query_id: &str, format: &str) -> Response {
    let first = parts.recv().await;
    let mut guard = guard;
    if !matches!(first, Some(Part::Data(_)))
        && let Some(guard) = &mut guard
    {
        guard.is_over = true;
    }
    let mut response = match first {
        Some(Part::Data(octets)) => {
            let tag = format!("{:016x}", fastrand_tag(query_id));
            let body = Parts { first: Some(octets), parts, tag: tag.clone(), version: front.sessions.version().to_owned(), guard };
            ([(EXCEPTION_TAG, tag)], Body::new(body)).into_response()
        }
        Some(Part::Done(octets, summary)) => ([(SUMMARY, summary_text(&summary))], octets).into_response(),
        Some(Part::Failed(refusal)) => return failure(front, &refusal),
        None => return failure(front, "Code: 236. DB::Exception: the statement was given up. (ABORTED)"),
    };
    let headers = response.headers_mut();
    for (name, value) in [(QUERY_ID, query_id), (FORMAT, format)] {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    if let Ok(kind) = content_type(format).parse() {
        headers.insert("content-type", kind);
    }
    response
}

fn content_type(format: &str) -> &'static str {
    match format {
        "JSON" | "JSONCompact" | "JSONStrings" | "JSONColumns" => "application/json; charset=UTF-8",
        "JSONEachRow" | "JSONLines" | "NDJSON" | "JSONCompactEachRow" => "application/x-ndjson; charset=UTF-8",
        "CSV" => "text/csv; charset=UTF-8; header=absent",
        "CSVWithNames" | "CSVWithNamesAndTypes" => "text/csv; charset=UTF-8; header=present",
        _ if format.starts_with("TabSeparated") || format.starts_with("TSV") => "text/tab-separated-values; charset=UTF-8",
        _ => "application/octet-stream",
    }
}

/// A mark that no result holds by chance; the client learns it before the result.
fn fastrand_tag(query_id: &str) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(query_id)
}

fn summary_text(summary: &Summary) -> String {
    let Summary { rows_read, octets_read, rows_written, octets_written } = summary;
    format!(
        "{{\"read_rows\":\"{rows_read}\",\"read_bytes\":\"{octets_read}\",\"written_rows\":\"{rows_written}\",\"written_bytes\":\"{octets_written}\"}}"
    )
}

/// The answer to a statement that was refused before anything of its result was sent.
fn failure(front: &Front, refusal: &str) -> Response {
    let code = code(refusal);
    let status = status(code);
    let mut response = (status, [(EXCEPTION_CODE, code.to_string())], words(front.sessions.version(), refusal)).into_response();
    response.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

/// A refusal as ClickHouse writes it: its version behind it, and a line feed.
fn words(version: &str, refusal: &str) -> String {
    let refusal = refusal.trim_end();
    if refusal.ends_with(&format!("(version {version})")) { format!("{refusal}\n") } else { format!("{refusal} (version {version})\n") }
}

/// The number of a refusal; 1002 (`UNKNOWN_EXCEPTION`) if it has none.
fn code(refusal: &str) -> u32 {
    let number = refusal.strip_prefix("Code: ").and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(1002)
}

/// The status that ClickHouse gives to an exception.
fn status(code: u32) -> StatusCode {
    match code {
        516 => StatusCode::FORBIDDEN,
        // What cannot be read: input, types, syntax.
        6 | 26 | 27 | 33 | 41 | 43 | 44 | 53 | 62 | 70 | 72 | 117 | 164 | 377 | 456 | 457 => StatusCode::BAD_REQUEST,
        // What is not there: functions, columns, types, storages, tables, formats, databases, settings.
        46 | 47 | 50 | 56 | 60 | 63 | 73 | 81 | 115 => StatusCode::NOT_FOUND,
        159 => StatusCode::REQUEST_TIMEOUT,
        307 => StatusCode::PAYLOAD_TOO_LARGE,
        48 => StatusCode::NOT_IMPLEMENTED,
        202 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Cancels the statement of a client that has gone before the end.
struct Guard {
    front: Arc<Front>,
    name: String,
    is_over: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_over {
            self.front.sessions.cancel(std::mem::take(&mut self.name));
        }
    }
}

/// A result on its way to the client.
struct Parts {
    first: Option<Bytes>,
    parts: mpsc::Receiver<Part>,
    tag: String,
    version: String,
    guard: Option<Guard>,
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let part = std::task::ready!(self.parts.poll_recv(context));
        if !matches!(part, Some(Part::Data(_)))
            && let Some(guard) = &mut self.guard
        {
            guard.is_over = true;
        }
        Poll::Ready(match part {
            Some(Part::Data(octets)) => Some(Ok(Frame::data(octets))),
            Some(Part::Done(octets, _)) => (!octets.is_empty()).then(|| Ok(Frame::data(octets))),
            Some(Part::Failed(refusal)) => {
                self.parts.close();
                Some(Ok(Frame::data(late(&words(&self.version, &refusal), &self.tag))))
            }
            None => None,
        })
    }
}

/// A refusal behind a part of the result, between marks that the client knows.
fn late(refusal: &str, tag: &str) -> Bytes {
    let length = refusal.len();
    Bytes::from(format!("\r\n__exception__\r\n{tag}\r\n{refusal}{length} {tag}\r\n__exception__\r\n"))
}
