//! The embedded engine alone, for tests of what writes to it and asks it.
//!
//! ```no_run
//! let engine = tests::engine::Alone::start();           // in a temp folder, with a database `weir` and no tables
//! let link = engine.link();                             // what writers and askers take
//! assert_eq!(engine.query("SELECT 1 + 1"), "2");        // a statement by plain HTTP; panics on an error
//! engine.kill();                                        // SIGKILL: the supervisor starts it again, the link leads to the new one
//! engine.wait_until_up();
//! engine.stop();                                        // a clean end, which must be exit code 0; or just drop it
//! ```
//!
//! The child is the built `weir` (see [`crate::weir::program`]: `cargo build -p api` first), the library is where
//! `weir engine install` puts it. It runs on loopback at a port of its own; no namespace is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use collector::store::config::Embedded;
use collector::store::engine::{Engine, install};
use collector::store::link::{Endpoint, Link};

use crate::process::wait_until;
use crate::weir::program;

/// How long the engine may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine with its supervisor, as `weir serve` has it, on a folder that is removed with it.
#[derive(Debug)]
pub struct Alone {
    engine: Option<Engine>,
    link: Link,
    folder: PathBuf,
    agent: ureq::Agent,
}

impl Alone {
    /// Starts an engine with the defaults of the config, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If the library is not installed, or it does not come up.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&Embedded::default())
    }

    /// Starts an engine with this config.
    ///
    /// # Panics
    ///
    /// If the library is not installed, or it does not come up.
    #[must_use]
    pub fn start_with(config: &Embedded) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("weir-tests-engine-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let alone = Self::start_in(&folder, config);
        alone.wait_until_up();
        alone
    }

    /// Starts an engine on a folder, and does not wait. The folder is removed with it.
    ///
    /// # Panics
    ///
    /// If the library is not installed.
    #[must_use]
    pub fn start_in(folder: &Path, config: &Embedded) -> Self {
        let library = library();
        assert!(library.exists(), "{} is not there: weir engine install fetches it, tests/run does so", library.display());
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60)));
        let agent: ureq::Agent = agent.build().into();
        let link = Link::away("the engine was not started");
        let asker = agent.clone();
        let start = Box::new(move |endpoint: &Endpoint| match ask(&asker, endpoint, "", "CREATE DATABASE IF NOT EXISTS weir") {
            (200, _) => Ok(()),
            (_, said) => Err(said),
        });
        let engine = Engine::start(config, &folder.join("engine"), &program(), "weir", link.clone(), start).unwrap();
        Self { engine: Some(engine), link, folder: folder.to_path_buf(), agent }
    }

    /// The way to it.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// The folder, which holds the engine's own as `engine`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn wait_until_up(&self) {
        wait_until("an answer of the engine", PATIENCE, || self.link.endpoint().is_ok());
    }

    /// Runs a statement in the database `weir`; what it answers, without the last line feed.
    ///
    /// # Panics
    ///
    /// If the engine is away or refuses it.
    pub fn query(&self, statement: &str) -> String {
        let (status, said) = self.ask("", statement);
        assert_eq!(status, 200, "{statement}: {said}");
        said.trim_end_matches('\n').to_owned()
    }

    /// Runs a statement with pairs of the address (`max_threads=1&…`); the status and the body.
    ///
    /// # Panics
    ///
    /// If the engine is away.
    #[must_use]
    pub fn ask(&self, pairs: &str, statement: &str) -> (u16, String) {
        ask(&self.agent, &self.link.endpoint().unwrap(), &format!("database=weir&{pairs}"), statement)
    }

    /// Posts rows of an insert whose statement is in the pairs (`query=INSERT+INTO+t+FORMAT+Native`); the status and the body.
    ///
    /// # Panics
    ///
    /// If the engine is away.
    #[must_use]
    pub fn send(&self, pairs: &str, rows: &[u8]) -> (u16, String) {
        let (status, said) = post(&self.agent, &self.link.endpoint().unwrap(), &format!("database=weir&{pairs}"), rows);
        (status, String::from_utf8(said).unwrap())
    }

    /// Runs a statement; what it answers, octet by octet.
    ///
    /// # Panics
    ///
    /// If the engine is away or refuses it.
    #[must_use]
    pub fn octets(&self, pairs: &str, statement: &str) -> Vec<u8> {
        let pairs = format!("database=weir&{pairs}");
        let (status, said) = post(&self.agent, &self.link.endpoint().unwrap(), &pairs, statement.as_bytes());
        assert_eq!(status, 200, "{statement}: {}", String::from_utf8_lossy(&said));
        said
    }

    /// The process id of the child, found by the folder that it works in.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn child(&self) -> u32 {
        let folder = self.folder.join("engine").canonicalize().unwrap();
        let works_there = |id: &u32| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|path| path == folder);
        let entries = fs::read_dir("/proc").unwrap();
        let mut ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.find(works_there).expect("a child of the engine")
    }

    /// Sends a signal to the child: `KILL`, `STOP`, `CONT`…
    ///
    /// # Panics
    ///
    /// If there is no child.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.child().to_string()]).status().unwrap().success());
    }

    /// Ends the child at once, as a crash would, and waits until that is noticed; the supervisor starts another.
    ///
    /// # Panics
    ///
    /// If nobody notices.
    pub fn kill(&self) {
        let before = self.metric("weir_collector_engine_ends_unasked_total");
        self.signal("KILL");
        wait_until("the end of the engine to be noticed", PATIENCE, || self.metric("weir_collector_engine_ends_unasked_total") > before);
    }

    /// A count of the supervisor's.
    ///
    /// # Panics
    ///
    /// If there is no such count.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.engine.as_ref().unwrap().metrics();
        metrics.counts().find(|(count, _, _)| *count == name).map(|(_, _, value)| value).unwrap()
    }

    /// Asks it to end; how it has ended.
    ///
    /// # Panics
    ///
    /// If it was stopped before.
    #[must_use]
    pub fn stop(mut self) -> String {
        self.engine.take().unwrap().stop()
    }

    /// Asks it to end, and leaves its folder there; how it has ended.
    ///
    /// # Panics
    ///
    /// If it was stopped before.
    #[must_use]
    pub fn stop_and_keep(mut self) -> String {
        self.folder = PathBuf::new();
        self.engine.take().unwrap().stop()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        drop(self.engine.take());
        // An empty name is that of a folder which stays.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where the library is: `WEIR_ENGINE_LIBRARY`, or where `weir engine install` puts it.
///
/// # Panics
///
/// If there is no such place.
#[must_use]
pub fn library() -> PathBuf {
    std::env::var_os("WEIR_ENGINE_LIBRARY").map_or_else(|| install::place().unwrap(), PathBuf::from)
}

/// Posts a statement; the status and the body.
///
/// # Panics
///
/// If no answer comes.
#[must_use]
pub fn ask(agent: &ureq::Agent, endpoint: &Endpoint, pairs: &str, statement: &str) -> (u16, String) {
    let (status, said) = post(agent, endpoint, pairs, statement.as_bytes());
    (status, String::from_utf8(said).unwrap())
}

fn post(agent: &ureq::Agent, endpoint: &Endpoint, pairs: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let request = agent.post(format!("{}/?{pairs}", endpoint.url));
    let request = request.header("X-ClickHouse-User", &endpoint.user).header("X-ClickHouse-Key", &endpoint.password);
    let mut response = request.send(body).unwrap();
    let status = response.status().as_u16();
    (status, response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap())
}
