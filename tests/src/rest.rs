//! The REST service over an engine of the test's own: no sockets for telemetry, no speakers, only what is asked of the store.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use analytics::mitigate::driver;
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

/// A service that asks the engine behind a link.
#[derive(Debug)]
pub struct Rest {
    base: String,
    token: String,
    agent: ureq::Agent,
    folder: PathBuf,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
    _controls: crossbeam_channel::Receiver<Control>,
}

impl Rest {
    /// Starts it, with a change of the default configuration.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    #[must_use]
    pub fn start(link: &Link, change: impl FnOnce(&mut Config)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("weir-tests-rest-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut config = Config { data_dir: folder.clone(), ..Config::default() };
        config.api.rate_limit.requests_per_minute = 0;
        change(&mut config);
        let clock = Clock::default();
        let state = Arc::new(State::open(&folder, clock.now()).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let metrics = Arc::new(Metrics::default());
        let (analysis, controls) = Analysis::channel();
        let store = RuleStore { state: state.clone(), analysis: analysis.clone() };
        let mitigation = runtime.block_on(async {
            let start = mitigation::start(&state, clock.now()).await.unwrap();
            let networks = std::iter::empty().collect();
            driver::spawn_with(&config.analytics.mitigation, networks, start, store, BTreeMap::new(), metrics.analytics.clone()).0
        });
        let live = Arc::new(Live::new(Arc::default()));
        let parts = (mitigation, analysis, link.clone());
        let app = Arc::new(App::new(Arc::new(config), state, live, metrics, parts, clock.clone()));
        let token = token(&app.state, &clock);
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let base = format!("http://{}/api/v1/analytics", listener.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(serve::serve_http(listener, app, stopped));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60)));
        Self { base, token, agent: agent.build().into(), folder, stop, runtime: Some(runtime), _controls: controls }
    }

    /// Asks; the status, the headers as text, and the octets.
    ///
    /// # Panics
    ///
    /// If no answer comes.
    #[must_use]
    pub fn ask(&self, path: &str, pairs: &[(&str, &str)]) -> (u16, String, Vec<u8>) {
        let mut request = self.agent.get(format!("{}/{path}", self.base)).header("Authorization", format!("Bearer {}", self.token));
        for (name, value) in pairs {
            request = request.query(*name, *value);
        }
        let mut response = request.call().unwrap();
        let headers = format!("{:?}", response.headers());
        let octets = response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap();
        (response.status().as_u16(), headers, octets)
    }

    /// Sends a request, behind whose answer the connection ends, and reads nothing of it.
    ///
    /// # Panics
    ///
    /// If it is not let in.
    #[must_use]
    pub fn connect(&self, path: &str) -> TcpStream {
        let (address, prefix) = self.base.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = format!(
            "GET /{prefix}/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            self.token
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Asks for JSON, which must come.
    ///
    /// # Panics
    ///
    /// If the answer is an error.
    #[must_use]
    pub fn get(&self, path: &str, pairs: &[(&str, &str)]) -> Value {
        let (status, _, octets) = self.ask(path, pairs);
        let text = String::from_utf8(octets).unwrap();
        assert_eq!(status, 200, "{path} {pairs:?}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

fn token(state: &State, clock: &Clock) -> String {
    let secret = Secret::generate().unwrap();
    let (stored, workspace, created_at) = (secret.clone(), state.workspace, clock.now());
    let (uuid, name, role) = (workspace, "test".to_owned(), Role::Readonly);
    let token = Token { uuid, workspace, name, role, created_at, expires_at: None, last_used_at: None };
    state.write_blocking::<_, StateError>(move |transaction| tokens::insert(transaction, &token, &stored, false)).unwrap();
    secret.text().to_owned()
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
