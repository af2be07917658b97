//! `[collector]`: the sum of the parts' configs.

use serde::Deserialize;

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
    /// `[collector.store]`.
    pub store: store::config::Config,
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
