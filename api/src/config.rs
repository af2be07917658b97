//! The whole configuration: one TOML, made of what each part owns; unknown keys are errors.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use schemas::net::Prefix;

use crate::query;

pub mod check;
mod schema;

pub use check::{Problem, Problems};
pub use schema::schema;

/// The commented default configuration, as `weir config default` prints it.
pub const DEFAULT: &str = include_str!("config/default.toml");

/// Everything that an operator can set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the state and the templates live.
    pub data_dir: PathBuf,
    /// Our networks; none = every destination is watched and no rule is ever announced.
    pub networks: Vec<Prefix>,
    /// Receiving, decoding, counting.
    pub collector: collector::config::Config,
    /// Detecting and mitigating.
    pub analytics: analytics::Config,
    /// REST, metrics, notifications.
    pub api: Api,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./weir-data"),
            networks: Vec::new(),
            collector: collector::config::Config::default(),
            analytics: analytics::Config::default(),
            api: Api::default(),
        }
    }
}

/// REST, metrics, notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Where REST is served.
    pub listen: SocketAddr,
    /// Where Prometheus reads.
    pub metrics_listen: SocketAddr,
    /// HTTP connections at once, to REST and to metrics each; 0 = any.
    pub connections_max: usize,
    /// How long a client may take to send the headers of its next request; then its connection is closed.
    pub header_seconds_max: u64,
    /// How long a client may take nothing of its answer; then its connection is closed.
    pub write_seconds_max: u64,
    /// Octets of a request's body; 0 = any.
    pub body_octets_max: usize,
    /// Nodes of a workspace; 0 = any.
    pub nodes_max: u64,
    /// Nodes are offline when no exporter was heard for so long.
    pub exporter_silence_seconds_max: u64,
    /// Requests a minute.
    pub rate_limit: RateLimit,
    /// Whether a stop withdraws every rule; without, rules stay announced and are taken up again at the next start.
    pub withdraw_on_stop: bool,
    /// What one question about stored traffic may cost.
    pub query: query::Config,
    /// Who is told.
    pub notify: Notify,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            connections_max: 1_024,
            header_seconds_max: 30,
            write_seconds_max: 30,
            body_octets_max: 1_048_576,
            nodes_max: 10_000,
            exporter_silence_seconds_max: 90,
            withdraw_on_stop: false,
            rate_limit: RateLimit::default(),
            query: query::Config::default(),
            notify: Notify::default(),
        }
    }
}

/// Requests a minute; 0 turns a limit off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Of one token.
    pub requests_per_minute: u64,
    /// Of one address, with a missing or wrong token.
    pub failed_authentications_per_minute: u64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests_per_minute: 1_000, failed_authentications_per_minute: 100 }
    }
}

/// Who is told of incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// A signed POST.
    pub webhook: Webhook,
}

/// A signed POST for every start, change and end of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Where to; empty = nobody is told.
    pub url: String,
    /// The key of the signature.
    pub secret: String,
    /// Whether addresses of private networks may be called.
    pub allow_private: bool,
    /// Events that wait for delivery; more are dropped and counted.
    pub queue_max: usize,
    /// Tries of one event.
    pub attempts_max: u32,
    /// The pause behind the first try; each further one is twice as long, up to a minute.
    pub retry_milliseconds: u64,
    /// How long one try may take.
    pub timeout_milliseconds: u64,
    /// An incident in which nothing important changes is told again after so long.
    pub update_seconds: u64,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: String::new(),
            allow_private: false,
            queue_max: 1_000,
            attempts_max: 12,
            retry_milliseconds: 1_000,
            timeout_milliseconds: 10_000,
            update_seconds: 60,
        }
    }
}

impl Config {
    /// The configuration of a file; of none, the default.
    ///
    /// # Errors
    ///
    /// Every [`Problem`] that can be found in it, with its line.
    pub fn load(path: Option<&Path>) -> Result<Self, Problems> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let problems = |problems| Problems { file: path.to_owned(), problems };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = error.to_string();
            problems(vec![Problem { line: 0, key: String::new(), message }])
        })?;
        check::read(&text).map_err(problems)
    }

    /// What is wrong though each key by itself can be read: the key's path and the fault.
    fn contradictions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            found.push(("data_dir".to_owned(), "must not be empty".to_owned()));
        }
        if self.api.listen == self.api.metrics_listen && self.api.listen.port() != 0 {
            found.push(("api.metrics_listen".to_owned(), format!("{} is api.listen already", self.api.metrics_listen)));
        }
        let webhook = &self.api.notify.webhook;
        if !webhook.url.is_empty() {
            let scheme = ["https://", "http://"].iter().find(|scheme| webhook.url.starts_with(**scheme));
            if scheme.is_none_or(|scheme| webhook.url.len() == scheme.len()) {
                found.push(("api.notify.webhook.url".to_owned(), "must begin with https:// or http://".to_owned()));
            }
            if webhook.secret.is_empty() {
                found.push(("api.notify.webhook.secret".to_owned(), "is needed to sign what is sent to url".to_owned()));
            }
        }
        found.extend(self.collector.enrich.contradictions());
        found.extend(self.collector.check().iter().map(|error| (format!("collector.{}", error.key()), error.to_string())));
        let interfaces = self.collector.interfaces.contradictions();
        found.extend(interfaces.into_iter().map(|(key, fault)| (format!("collector.interfaces.{key}"), fault)));
        if let Err(error) = self.analytics.check(&self.networks.iter().copied().collect()) {
            found.push(contradiction_of_analytics(&error));
        }
        for (key, value) in [
            ("api.notify.webhook.queue_max", u64::try_from(webhook.queue_max).unwrap_or(u64::MAX)),
            ("api.notify.webhook.attempts_max", webhook.attempts_max.into()),
            ("api.notify.webhook.timeout_milliseconds", webhook.timeout_milliseconds),
            ("api.header_seconds_max", self.api.header_seconds_max),
            ("api.write_seconds_max", self.api.write_seconds_max),
            ("api.exporter_silence_seconds_max", self.api.exporter_silence_seconds_max),
        ]
        .into_iter()
        .chain(self.api.query.positive())
        {
            if value == 0 {
                found.push((key.to_owned(), "must be at least 1".to_owned()));
            }
        }
        found
    }
}

fn contradiction_of_analytics(error: &analytics::config::ConfigError) -> (String, String) {
    use analytics::config::ConfigError::{Adapter, AdapterTwice, Limit, Range};
    match error {
        Range { key, value, from, to } => (format!("analytics.{key}"), format!("{value} is not within {from} to {to}")),
        Limit { key, reason } => (format!("analytics.{key}"), reason.clone()),
        AdapterTwice(id) => ("analytics.mitigation.adapters".to_owned(), format!("id {id} is used twice")),
        Adapter { id, reason } => ("analytics.mitigation.adapters".to_owned(), format!("{id}: {reason}")),
    }
}
