//! `[collector]`: the sum of the parts' configs.

use serde::{Deserialize, Serialize};

use crate::{count, decode, receive};

/// `[collector]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[collector.receive]`.
    pub receive: receive::Config,
    /// `[collector.decode]`.
    pub decode: decode::Config,
    /// `[collector.count]`.
    pub count: count::Config,
    /// `[collector.store]`.
    pub store: Store,
}

/// `[collector.store]`: where flows are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Which store.
    pub engine: Engine,
    /// `[collector.store.clickhouse]`.
    pub clickhouse: Clickhouse,
}

/// A store of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The ClickHouse engine in a child process of Weir's.
    #[default]
    Embedded,
    /// A ClickHouse server or cluster.
    Clickhouse,
    /// Flows are counted and not kept.
    None,
}

/// `[collector.store.clickhouse]`: a server or cluster of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clickhouse {
    /// Its HTTP interface.
    pub url: String,
    /// The database that holds our tables.
    pub database: String,
}

impl Default for Clickhouse {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:8123".to_owned(), database: "weir".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_keys_are_the_defaults_and_others_are_errors() {
        let documented = r#"{
            "receive": {"netflow": ["0.0.0.0:2055"], "ipfix": ["0.0.0.0:4739"], "sflow": ["0.0.0.0:6343"], "mirror": [], "exporters_allowed": []},
            "store": {"engine": "embedded", "clickhouse": {"url": "http://127.0.0.1:8123", "database": "weir"}}
        }"#;
        assert_eq!(serde_json::from_str::<Config>(documented).unwrap(), Config::default());
        assert!(serde_json::from_str::<Config>(r#"{"store": {"engin": "none"}}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"recieve": {}}"#).is_err());
    }
}
