//! `[collector.enrich]`: which files and prefixes tell where addresses lie, and the bounds of what they fill.

use std::path::PathBuf;

use schemas::net::Prefix;
use serde::{Deserialize, Serialize};

/// `[collector.enrich]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// MMDB files of countries, cities and autonomous systems; what several tell, the last of them tells.
    pub mmdb: Vec<PathBuf>,
    /// A CSV file of prefixes with their customer, site and autonomous system; empty = none.
    pub prefixes: PathBuf,
    /// Customers by prefix; they hold over the file's.
    pub customers: Vec<Assignment>,
    /// Sites by prefix; they hold over the file's.
    pub sites: Vec<Assignment>,
    /// Names of applications by port; they hold over the built-in ones.
    pub applications: Vec<Application>,
    /// How often the files are looked at; one that has changed, and not since the look before, is read again.
    pub watch_seconds: u64,
    /// Files of so many octets in sum are read before the first datagram is received; larger ones behind it.
    pub start_octets_max: u64,
    /// Octets of one file; a larger one is refused.
    pub file_octets_max: u64,
    /// Prefixes of one file; with more it is refused.
    pub prefixes_max: usize,
    /// Different places; of prefixes whose place is over it nothing is known, and they are counted.
    pub places_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mmdb: Vec::new(),
            prefixes: PathBuf::new(),
            customers: Vec::new(),
            sites: Vec::new(),
            applications: Vec::new(),
            watch_seconds: 10,
            start_octets_max: 33_554_432,
            file_octets_max: 1_073_741_824,
            prefixes_max: 16_777_216,
            places_max: 4_194_304,
        }
    }
}

/// Prefixes that belong to a customer or lie at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The name of the customer or site.
    pub name: String,
    /// Its prefixes; the longest holds.
    pub prefixes: Vec<Prefix>,
}

/// Ports that an application is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// What it is called.
    pub name: String,
    /// Over which it runs.
    pub protocol: Transport,
    /// Its ports.
    pub ports: Vec<u16>,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl Config {
    /// Contradictions that each key by itself does not show: the key, and what is wrong.
    #[must_use]
    pub fn contradictions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (kind, assignments) in [("customers", &self.customers), ("sites", &self.sites)] {
            let mut owners: Vec<(Prefix, &str)> = Vec::new();
            for (index, assignment) in assignments.iter().enumerate() {
                if assignment.name.is_empty() {
                    found.push((format!("collector.enrich.{kind}[{index}].name"), "must not be empty".to_owned()));
                }
                owners.extend(assignment.prefixes.iter().map(|prefix| (*prefix, assignment.name.as_str())));
            }
            owners.sort_unstable();
            for pair in owners.windows(2) {
                if let [(prefix, one), (same, other)] = pair
                    && prefix == same
                {
                    found.push((format!("collector.enrich.{kind}"), format!("{prefix} is {one}'s and {other}'s")));
                }
            }
        }
        for (index, application) in self.applications.iter().enumerate() {
            if application.name.is_empty() {
                found.push((format!("collector.enrich.applications[{index}].name"), "must not be empty".to_owned()));
            }
        }
        for (key, is_zero) in [
            ("watch_seconds", self.watch_seconds == 0),
            ("file_octets_max", self.file_octets_max == 0),
            ("prefixes_max", self.prefixes_max == 0),
            ("places_max", self.places_max == 0),
        ] {
            if is_zero {
                found.push((format!("collector.enrich.{key}"), "must be at least 1".to_owned()));
            }
        }
        found
    }
}
