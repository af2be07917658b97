//! The real service on a loopback port, with a state of its own, a clock that the test moves, and a plain HTTP client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crossbeam_channel::Receiver;
use schemas::net::Prefix;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use uuid::Uuid;

use analytics::mitigate::adapters::{Adapter, AdapterError, Answer, Carried};
use analytics::mitigate::driver;
use analytics::mitigate::guard::GuardedRule;
use api::analysis::{Analysis, Control};
use api::app::App;
use api::auth::{Role, Secret};
use api::clock::Clock;
use api::config::Config;
use api::live::Live;
use api::metrics::Metrics;
use api::mitigation::{self, RuleStore};
use api::serve;
use api::state::tokens::{self, Token};
use api::state::{State, StateError};
use collector::store::link::Link;
use schemas::time::Timestamp;

/// 2026-11-20T12:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_795_176_000_000);

/// A folder that is removed with its owner.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("weir-rest-{}", Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A speaker that carries what it is told to.
#[derive(Clone, Default)]
pub(crate) struct Speaker(Arc<Mutex<BTreeSet<Prefix>>>);

impl Speaker {
    pub(crate) fn carries(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(Prefix::to_string).collect()
    }

    fn carried(&self, target: Prefix) -> Carried {
        if self.0.lock().unwrap().contains(&target) { Carried::Peers(vec!["192.0.2.1".to_owned()]) } else { Carried::Absent }
    }
}

impl Adapter for Speaker {
    fn announce<'a>(&'a self, rule: &'a GuardedRule) -> Answer<'a, Carried> {
        self.0.lock().unwrap().insert(rule.target());
        Box::pin(async { Ok(self.carried(rule.target())) })
    }

    fn check(&self, target: Prefix) -> Answer<'_, Carried> {
        Box::pin(async move { Ok::<_, AdapterError>(self.carried(target)) })
    }

    fn withdraw(&self, target: Prefix) -> Answer<'_, ()> {
        self.0.lock().unwrap().remove(&target);
        Box::pin(async { Ok(()) })
    }

    fn list<'a>(&'a self, _networks: Option<&'a [Prefix]>) -> Answer<'a, Vec<Prefix>> {
        Box::pin(async { Ok(self.0.lock().unwrap().iter().copied().collect()) })
    }
}

/// A running service.
pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Clock,
    pub(crate) owner: String,
    pub(crate) base: String,
    /// The router that rules are announced to.
    pub(crate) speaker: Speaker,
    /// What the analysts would be told.
    pub(crate) controls: Receiver<Control>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
    agent: ureq::Agent,
    _folder: Option<Folder>,
}

/// What the service answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or("")
    }

    pub(crate) fn message(&self) -> &str {
        self.json["error"]["message"].as_str().unwrap_or("")
    }

    /// Asserts an error's status, code and envelope.
    #[track_caller]
    pub(crate) fn fails(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.text);
        assert_eq!(self.json["ok"], false);
        assert!(self.json["error"]["details"].is_array());
        assert!(!self.message().is_empty());
        self
    }

    #[track_caller]
    pub(crate) fn succeeds(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        if status != 204 {
            assert_eq!(self.json["ok"], true, "{}", self.text);
        }
        self
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = Folder::new();
        let mut server = Self::start_in(&folder.0, Clock::standing(START), change);
        server._folder = Some(folder);
        server
    }

    pub(crate) fn start_in(folder: &Path, clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { data_dir: folder.to_owned(), ..Config::default() };
        config.networks = vec!["203.0.113.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        config.analytics.mitigation.adapters = vec![analytics::config::Adapter::Gobgp(toml::from_str("id = \"edge\"").unwrap())];
        change(&mut config);
        let speaker = Speaker::default();
        let state = Arc::new(State::open(folder, clock.now()).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let metrics = Arc::new(Metrics::default());
        let (analysis, controls) = Analysis::channel();
        let store = RuleStore { state: state.clone(), analysis: analysis.clone() };
        let networks = config.networks.iter().copied().collect();
        let mitigation = runtime.block_on(async {
            let start = mitigation::start(&state, clock.now()).await.unwrap();
            let adapters = BTreeMap::from([("edge".to_owned(), Box::new(speaker.clone()) as Box<dyn Adapter>)]);
            driver::spawn_with(&config.analytics.mitigation, networks, start, store, adapters, metrics.analytics.clone()).0
        });
        let live = Arc::new(Live::new(Arc::default()));
        let parts = (mitigation, analysis, Link::away("there is no engine here"));
        let app = Arc::new(App::new(Arc::new(config), state, live, metrics, parts, clock.clone()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(serve::serve_http(listener, app.clone(), stopped));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut server =
            Self { app, clock, owner: String::new(), base, speaker, controls, stop, runtime: Some(runtime), agent, _folder: None };
        server.owner = server.token(Role::Owner);
        server
    }

    /// A new token of `role`, put into the state directly.
    pub(crate) fn token(&self, role: Role) -> String {
        self.token_until(role, None)
    }

    pub(crate) fn token_until(&self, role: Role, expires_at: Option<Timestamp>) -> String {
        let secret = Secret::generate().unwrap();
        let token = Token {
            uuid: Uuid::new_v4(),
            workspace: self.app.state.workspace,
            name: format!("test {}", role.name()),
            role,
            created_at: self.clock.now(),
            expires_at,
            last_used_at: None,
        };
        let stored = secret.clone();
        self.app.state.write_blocking::<_, StateError>(move |transaction| tokens::insert(transaction, &token, &stored, false)).unwrap();
        secret.text().to_owned()
    }

    /// The Prometheus text.
    pub(crate) fn metrics(&self) -> String {
        self.runtime.as_ref().unwrap().block_on(serve::metrics_text(&self.app))
    }

    /// Runs SQL on the state.
    pub(crate) fn sql(&self, text: &'static str) {
        self.app.state.write_blocking::<_, StateError>(move |transaction| Ok(transaction.execute_batch(text)?)).unwrap();
    }

    /// One number out of the state.
    pub(crate) fn count(&self, sql: &'static str) -> i64 {
        self.app.state.read_blocking::<_, StateError>(move |connection| Ok(connection.query_row(sql, [], |row| row.get(0))?)).unwrap()
    }

    /// Any request; what comes back must be documented.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let result = if body.is_empty() && !matches!(method, "POST" | "PATCH" | "PUT") {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body.to_vec()).unwrap())
        };
        let mut response = result.unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        crate::document::documents(method, path, response.status().as_u16(), &json);
        Reply { status: response.status().as_u16(), headers: response.headers().clone(), json, text }
    }

    /// A request with a token and, unless it is null, a JSON body.
    pub(crate) fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {token}");
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut headers = vec![("authorization", bearer.as_str())];
        if !body.is_null() {
            headers.push(("content-type", "application/json"));
        }
        self.send(method, path, &headers, text.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.call(&self.owner, "GET", path, &Value::Null)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.call(&self.owner, "POST", path, body)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Reply {
        self.call(&self.owner, "PATCH", path, body)
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.call(&self.owner, "DELETE", path, &Value::Null)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        }
    }
}
