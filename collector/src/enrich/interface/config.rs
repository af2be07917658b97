//! `[collector.interfaces]`: what the operator says of interfaces, and how much is kept of them.

use std::fmt;

use schemas::interface::Boundary;
use schemas::net::Prefix;
use serde::{Deserialize, Deserializer};

/// `[collector.interfaces]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Interfaces of all exporters that are known.
    pub interfaces_max: usize,
    /// Those of one exporter.
    pub interfaces_per_exporter_max: usize,
    /// Minutes of each interface's counters that are kept in memory.
    pub minutes_max: usize,
    /// Minutes of counters, of all interfaces, that wait for the store.
    pub minutes_waiting_max: usize,
    /// Octets of each packet that the interfaces' counters count and the flows do not: 14 of the Ethernet header and 4 of the check
    /// sequence (RFC 3635 §3.2.6).
    pub layer_2_octets: u64,
    /// What is known of single interfaces.
    pub known: Vec<Known>,
    /// What is known of interfaces by their numbers and names; of those that fit, the first that says a thing holds.
    pub rules: Vec<Rule>,
    /// `[collector.interfaces.snmp]`.
    pub snmp: Snmp,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces_max: 65_536,
            interfaces_per_exporter_max: 8_192,
            minutes_max: 15,
            minutes_waiting_max: 100_000,
            layer_2_octets: 18,
            known: Vec::new(),
            rules: Vec::new(),
            snmp: Snmp::default(),
        }
    }
}

/// What the operator knows of one interface.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The exporters that have it.
    pub exporters: Prefix,
    /// `ifIndex`.
    pub interface: u32,
    /// `ifName`.
    #[serde(default)]
    pub name: String,
    /// `ifAlias`.
    #[serde(default)]
    pub description: String,
    /// Bits a second.
    #[serde(default)]
    pub speed_bits: u64,
    /// On which side it is.
    #[serde(default)]
    pub boundary: Boundary,
}

/// What the operator knows of interfaces by what they have in common; a condition that is left out fits all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The exporters that have them; all if left out, IPv4 and IPv6.
    #[serde(default)]
    pub exporters: Option<Prefix>,
    /// Their numbers.
    #[serde(default)]
    pub interfaces: Vec<u32>,
    /// A pattern that their name fits.
    #[serde(default)]
    pub name: Option<Pattern>,
    /// A pattern that their description fits.
    #[serde(default)]
    pub description: Option<Pattern>,
    /// Bits a second.
    #[serde(default)]
    pub speed_bits: u64,
    /// On which side they are.
    #[serde(default)]
    pub boundary: Boundary,
}

/// A text in which `*` stands for any characters; upper and lower case are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// A pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_lowercase().into())
    }

    /// Whether a text fits.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            // Without a star the pattern is the text.
            return rest.is_empty();
        };
        for part in parts {
            let Some((_, behind)) = rest.split_once(part) else {
                return false;
            };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

/// `[collector.interfaces.snmp]`: names, speeds and counters asked for by SNMP version 2c.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Snmp {
    /// Who is asked.
    pub devices: Vec<Device>,
    /// Seconds between two questions to one device.
    pub interval_seconds: u64,
    /// How long one answer may take.
    pub timeout_milliseconds: u64,
    /// How often a question is asked before the device is given up until its next turn.
    pub attempts_max: u32,
    /// Devices that are asked at once.
    pub devices_at_once_max: usize,
    /// Devices in all.
    pub devices_max: usize,
}

impl Default for Snmp {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            interval_seconds: 60,
            timeout_milliseconds: 2_000,
            attempts_max: 3,
            devices_at_once_max: 32,
            devices_max: 4_096,
        }
    }
}

/// Exporters that are asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// An exporter, or all of a prefix that are heard.
    pub exporters: Prefix,
    /// Where the exporter answers, if not at its own address.
    #[serde(default)]
    pub address: Option<schemas::net::Address>,
    /// The UDP port.
    #[serde(default = "snmp_port")]
    pub port: u16,
    /// The community that may read.
    pub community: Secret,
    /// Seconds between two questions, where other than for all.
    #[serde(default)]
    pub interval_seconds: Option<u64>,
}

fn snmp_port() -> u16 {
    161
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

impl Config {
    /// What is wrong though each key by itself can be read: the key behind `collector.interfaces`, and the fault.
    #[must_use]
    pub fn contradictions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (key, value) in [("minutes_max", self.minutes_max), ("snmp.devices_at_once_max", self.snmp.devices_at_once_max)] {
            if value == 0 {
                found.push((key.to_owned(), "must be at least 1".to_owned()));
            }
        }
        if self.snmp.interval_seconds == 0 || self.snmp.devices.iter().any(|device| device.interval_seconds == Some(0)) {
            found.push(("snmp.interval_seconds".to_owned(), "must be at least 1".to_owned()));
        }
        for device in self.snmp.devices.iter().filter(|device| device.address.is_some() && !device.exporters.is_host()) {
            let message = format!("{}: an address to ask at is that of one exporter, not of a prefix", device.exporters);
            found.push(("snmp.devices".to_owned(), message));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_by_what_stands_between_its_stars() {
        for (pattern, text, fits) in [
            ("xe-*", "xe-0/0/1", true),
            ("xe-*", "ge-0/0/1", false),
            ("*transit*", "Core: TRANSIT AS64500", true),
            ("*uplink", "to uplink", true),
            ("*uplink", "uplink 2", false),
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("a*b*a", "aba", true),
            ("a*a", "a", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), fits, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_community_is_in_no_log() {
        let device: Device = serde_json::from_str(r#"{"exporters": "192.0.2.1", "community": "hidden"}"#).unwrap();
        assert!(!format!("{device:?}").contains("hidden"));
        assert_eq!((device.community.reveal(), device.port), (b"hidden".as_slice(), 161));
    }

    #[test]
    fn an_address_to_ask_at_belongs_to_one_exporter() {
        let text =
            r#"{"snmp": {"interval_seconds": 0, "devices": [{"exporters": "192.0.2.0/24", "address": "10.0.0.1", "community": "x"}]}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let keys: Vec<_> = config.contradictions().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["snmp.interval_seconds", "snmp.devices"]);
        assert_eq!(Config::default().contradictions(), []);
    }
}
