//! A ClickHouse server as it stands at the far end of a network: the engine, with what a server has and our child has not.
//!
//! It unpacks the compressed rows of inserts, takes the settings by which a server is told that a query changes nothing, and can lose its
//! answers on the way or be away. Who one is there, the engine itself checks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use collector::store::link::Endpoint;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::engine::Alone;

/// Octets of a request.
const REQUEST_OCTETS_MAX: usize = 1 << 30;
/// The sum of a frame, and its head: a method, the octets of head and rows as they are packed, and those of the rows.
const SUM_OCTETS: usize = 16;
const HEAD_OCTETS: usize = 9;
/// The method that is LZ4.
const LZ4: u8 = 0x82;

/// What becomes of what is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// It comes, and its answer comes back.
    Open,
    /// It comes, and its answer is lost.
    Forgetful,
    /// It does not come.
    Cut,
}

/// A server; it ends with its handle.
#[derive(Debug)]
pub struct Far {
    engine: Alone,
    address: SocketAddr,
    state: Arc<Relay>,
    _runtime: Runtime,
}

#[derive(Debug)]
struct Relay {
    inner: Endpoint,
    agent: ureq::Agent,
    way: AtomicU8,
    compressed: AtomicU64,
}

impl Far {
    /// Starts an engine, and the server before it.
    ///
    /// # Panics
    ///
    /// If one of them does not start.
    #[must_use]
    pub fn start() -> Self {
        let engine = Alone::start();
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60)));
        let inner = engine.link().endpoint().unwrap();
        let way = AtomicU8::new(Way::Open as u8);
        let state = Arc::new(Relay { inner, agent: config.build().into(), way, compressed: AtomicU64::new(0) });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(relay).with_state(Arc::clone(&state));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { engine, address, state, _runtime: runtime }
    }

    /// Where it answers, user and password in front of the host.
    #[must_use]
    pub fn url(&self) -> String {
        let Endpoint { user, password, .. } = &self.state.inner;
        format!("http://{user}:{password}@{}", self.address)
    }

    /// What becomes of requests from now on.
    pub fn set(&self, way: Way) {
        self.state.way.store(way as u8, Ordering::Relaxed);
    }

    /// Inserts whose rows came compressed.
    #[must_use]
    pub fn compressed(&self) -> u64 {
        self.state.compressed.load(Ordering::Relaxed)
    }

    /// The engine behind it.
    #[must_use]
    pub fn engine(&self) -> &Alone {
        &self.engine
    }
}

async fn relay(State(state): State<Arc<Relay>>, Query(pairs): Query<Vec<(String, String)>>, request: Request) -> Response {
    let is = |way: Way| state.way.load(Ordering::Relaxed) == way as u8;
    if is(Way::Cut) {
        return (StatusCode::BAD_GATEWAY, "the server is away").into_response();
    }
    let (head, body) = request.into_parts();
    let Ok(mut body) = to_bytes(body, REQUEST_OCTETS_MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if pairs.iter().any(|(name, value)| name == "decompress" && value == "1") {
        let Some(rows) = unpacked(&body) else {
            let refusal = "Code: 40. DB::Exception: Checksum doesn't match: corrupted data. (CHECKSUM_DOESNT_MATCH)";
            return (StatusCode::INTERNAL_SERVER_ERROR, [("x-clickhouse-exception-code", "40")], refusal).into_response();
        };
        body = rows.into();
        state.compressed.fetch_add(1, Ordering::Relaxed);
    }
    // A server lets go of the first with the statement, and does the other; our child would keep the one and does the other by itself.
    let left_out = ["decompress", "readonly", "cancel_http_readonly_queries_on_client_close"];
    let mut forwarded = state.agent.post(&state.inner.url);
    for (name, value) in pairs.iter().filter(|(name, _)| !left_out.contains(&name.as_str())) {
        forwarded = forwarded.query(name, value);
    }
    for name in ["x-clickhouse-user", "x-clickhouse-key", "content-type"] {
        if let Some(value) = head.headers.get(name) {
            forwarded = forwarded.header(name, value);
        }
    }
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = forwarded.send(&body[..])?;
        let octets = answer.body_mut().with_config().limit(1 << 30).read_to_vec()?;
        let code = answer.headers().get("x-clickhouse-exception-code").cloned();
        Ok::<_, ureq::Error>((answer.status(), code, octets))
    });
    match answer.await {
        Ok(Ok(_)) if is(Way::Forgetful) => (StatusCode::BAD_GATEWAY, "the answer is lost").into_response(),
        Ok(Ok((status, code, octets))) => {
            let mut response = (status, Bytes::from(octets)).into_response();
            if let Some(code) = code {
                response.headers_mut().insert("x-clickhouse-exception-code", code);
            }
            response
        }
        _ => (StatusCode::BAD_GATEWAY, "the engine does not answer").into_response(),
    }
}

/// The rows of a body of compressed frames; none if one of them is not whole.
///
/// Source: ClickHouse's documentation, Native format, frame format: `CityHash` 1.0.2 of head and rows, its halves exchanged, then these.
fn unpacked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut rows = Vec::new();
    while !body.is_empty() {
        let (sum, rest) = body.split_at_checked(SUM_OCTETS)?;
        let number = |from: usize| Some(usize::try_from(u32::from_le_bytes(rest.get(from..from + 4)?.try_into().ok()?)).unwrap());
        let (method, packed, octets) = (*rest.first()?, number(1)?, number(5)?);
        let (frame, behind) = rest.split_at_checked(packed)?;
        let wanted = cityhash_rs::cityhash_102_128(frame).rotate_right(64);
        if method != LZ4 || u128::from_le_bytes(sum.try_into().ok()?) != wanted {
            return None;
        }
        rows.extend(lz4_flex::block::decompress(frame.get(HEAD_OCTETS..)?, octets).ok()?);
        body = behind;
    }
    Some(rows)
}
