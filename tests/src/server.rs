//! `weir serve` as the tests run it: a configuration, an owner token, and the API.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::isolation::folder;
use crate::process::{Process, wait_until};
use crate::weir::program;

/// Where the server under test receives NetFlow.
pub const NETFLOW: &str = "127.0.0.1:2055";
/// Where the server under test receives IPFIX.
pub const IPFIX: &str = "127.0.0.1:4739";
/// Where the server under test receives sFlow.
pub const SFLOW: &str = "127.0.0.1:6343";

const API: &str = "127.0.0.1:8080";
const METRICS: &str = "127.0.0.1:9090";
const OWNER_TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `weir serve`.
#[derive(Debug)]
pub struct Server {
    process: Process,
    agent: ureq::Agent,
}

impl Server {
    /// Starts the server with `configuration` below the addresses and the folder that every test has, and waits for its health.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    #[must_use]
    pub fn start(configuration: &str) -> Self {
        let file = folder().join("weir.toml");
        let listen = format!(
            "[collector.receive]\nnetflow = [\"{NETFLOW}\"]\nipfix = [\"{IPFIX}\"]\nsflow = [\"{SFLOW}\"]\n\n\
             [api]\nlisten = \"{API}\"\nmetrics_listen = \"{METRICS}\"\n\n\
             [api.rate_limit]\nrequests_per_minute = 0\n"
        );
        let data = folder().join("weir-data");
        fs::write(&file, format!("data_dir = \"{}\"\n{configuration}\n{listen}", data.display())).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").arg("--config").arg(&file).env("WEIR_OWNER_TOKEN", OWNER_TOKEN);
        let mut process = Process::start("weir", &mut command);
        let configuration = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(10)));
        let agent = configuration.build().new_agent();
        wait_until("the health of weir", PATIENCE, || {
            assert!(process.is_running(), "weir ended: {}", process.words());
            agent.get(format!("http://{API}/api/health")).call().is_ok_and(|answer| answer.status() == 200)
        });
        Self { process, agent }
    }

    /// Asks the API as the owner; the status and the body.
    ///
    /// # Panics
    ///
    /// If no answer comes or it is no JSON.
    #[must_use]
    pub fn get(&self, path: &str) -> (u16, Value) {
        let request = self.agent.get(format!("http://{API}{path}")).header("Authorization", format!("Bearer {OWNER_TOKEN}"));
        answer(request.call().unwrap())
    }

    /// Posts JSON to the API as the owner; the status and the body.
    ///
    /// # Panics
    ///
    /// If no answer comes or it is no JSON.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.agent.post(format!("http://{API}{path}")).header("Authorization", format!("Bearer {OWNER_TOKEN}"));
        answer(request.content_type("application/json").send(body.to_string()).unwrap())
    }

    /// The sum of a metric over its labels, or the one that has the labels of the name (`name{label="value"}`); 0 if it is not there.
    ///
    /// # Panics
    ///
    /// If the metrics do not answer.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.agent.get(format!("http://{METRICS}/metrics")).call().unwrap().body_mut().read_to_string().unwrap();
        let is_it = |line: &&str| line.split(['{', ' ']).next() == Some(name) || line.rsplit_once(' ').is_some_and(|(own, _)| own == name);
        let samples = text.lines().filter(is_it);
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The incidents, newest first.
    ///
    /// # Panics
    ///
    /// If the list is refused.
    #[must_use]
    pub fn incidents(&self) -> Vec<Value> {
        let (status, body) = self.get("/api/v1/incidents?limit=100");
        assert_eq!(status, 200, "{body}");
        body["incidents"].as_array().unwrap().clone()
    }

    /// Where to send datagrams of NetFlow v9.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn netflow(&self) -> SocketAddr {
        NETFLOW.parse().unwrap()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn words(&self) -> String {
        self.process.words()
    }

    /// Ends the server at once, as a crash would.
    pub fn crash(mut self) {
        self.process.kill();
    }

    /// Asks the server to end, and waits for it.
    ///
    /// # Panics
    ///
    /// If it does not end well.
    pub fn stop(mut self) {
        let status = self.process.stop(PATIENCE);
        assert!(status.success(), "weir ended with {status}: {}", self.process.words());
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")) };
    (status, body)
}
