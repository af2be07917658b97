//! `[collector]`: the sum of the parts' configs.

use serde::Deserialize;

use crate::enrich::interface;
use crate::{count, decode, enrich, receive, store};

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
    /// `[collector.enrich]`.
    pub enrich: enrich::Config,
    /// `[collector.interfaces]`.
    pub interfaces: interface::Config,
    /// `[collector.store]`.
    pub store: store::config::Config,
}

impl Config {
    /// Everything that the types let pass and that cannot be.
    #[must_use]
    pub fn check(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        self.receive.check(&mut Faults { table: "receive", found: &mut found });
        self.decode.check(&mut Faults { table: "decode", found: &mut found });
        self.count.check(&mut Faults { table: "count", found: &mut found });
        self.store.check(&mut Faults { table: "store", found: &mut found });
        found
    }
}

/// What in a configuration cannot be; keys are those below `collector`.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A number is outside its range.
    #[error("{value} is not within {from} to {to}")]
    Range {
        /// The key.
        key: String,
        /// What it is.
        value: u64,
        /// The least.
        from: u64,
        /// The most.
        to: u64,
    },
    /// A text says nothing that can be used.
    #[error("{reason}")]
    Text {
        /// The key.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl ConfigError {
    /// The key at fault, below `collector`.
    #[must_use]
    pub fn key(&self) -> &str {
        let (Self::Range { key, .. } | Self::Text { key, .. }) = self;
        key
    }
}

/// Collects the faults of one table.
pub(crate) struct Faults<'a> {
    table: &'a str,
    found: &'a mut Vec<ConfigError>,
}

impl Faults<'_> {
    /// Holds a number to its range.
    pub(crate) fn range(&mut self, key: &str, value: impl TryInto<u64>, from: u64, to: u64) {
        let value = value.try_into().unwrap_or(u64::MAX);
        if !(from..=to).contains(&value) {
            self.found.push(ConfigError::Range { key: format!("{}.{key}", self.table), value, from, to });
        }
    }

    /// Holds a text to a rule.
    pub(crate) fn text(&mut self, key: &str, is_sound: bool, reason: &'static str) {
        if !is_sound {
            self.found.push(ConfigError::Text { key: format!("{}.{key}", self.table), reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_its_own_ranges() {
        assert_eq!(Config::default().check(), []);
    }

    #[test]
    fn numbers_and_texts_that_cannot_be_are_told_with_their_keys() {
        let faulty = r#"{
            "receive": {"shards": 20000, "exporters_max": 0},
            "decode": {"templates_max": 0},
            "count": {"hosts_max": 0, "suspects_max": 65534},
            "store": {"batch_rows_max": 0, "spool": {"octets_max": 1, "blocks_max": 0}, "clickhouse": {"url": "127.0.0.1:8123", "database": "2weir", "cluster": "{cluster}"}}
        }"#;
        let found = serde_json::from_str::<Config>(faulty).unwrap().check();
        let keys: Vec<&str> = found.iter().map(ConfigError::key).collect();
        let expected = [
            "receive.exporters_max",
            "receive.shards",
            "decode.templates_max",
            "count.hosts_max",
            "count.suspects_max",
            "store.batch_rows_max",
            "store.spool.octets_max",
            "store.spool.blocks_max",
            "store.clickhouse.url",
            "store.clickhouse.database",
            "store.clickhouse.cluster",
        ];
        assert_eq!(keys, expected);
        assert_eq!(found[1].to_string(), "20000 is not within 0 to 256");
        assert_eq!(found[8].to_string(), "must begin with https:// or http://");
        assert_eq!(found[9].to_string(), "must be letters, digits and _, and not begin with a digit");
        let config = |database: &str, cluster: &str| {
            let text = format!(r#"{{"store": {{"clickhouse": {{"database": "{database}", "cluster": "{cluster}"}}}}}}"#);
            serde_json::from_str::<Config>(&text).unwrap().check().len()
        };
        assert_eq!([config("_weir2", "edge-1.a"), config("", ""), config("we ir", "")], [0, 1, 1]);
    }

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
