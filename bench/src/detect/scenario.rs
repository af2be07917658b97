//! A scenario file: seed, limits, exporters, and attacks or a world at peace.

use anyhow::{Context, Result, ensure};
use schemas::counter::Direction;
use serde::{Deserialize, Serialize};

use super::probe::Telemetry;
use super::vector::Vector;

/// The committed scenarios, in the order in which they are run and reported.
const COMMITTED: &[(&str, &str)] = &[
    ("sampling", include_str!("../../scenarios/sampling.toml")),
    ("families", include_str!("../../scenarios/families.toml")),
    ("dense", include_str!("../../scenarios/dense.toml")),
    ("sampled_64", include_str!("../../scenarios/sampled_64.toml")),
    ("netflow", include_str!("../../scenarios/netflow.toml")),
    ("families_netflow", include_str!("../../scenarios/families_netflow.toml")),
    ("netflow_unsampled", include_str!("../../scenarios/netflow_unsampled.toml")),
    ("loss", include_str!("../../scenarios/loss.toml")),
    ("carpet", include_str!("../../scenarios/carpet.toml")),
    ("outgoing", include_str!("../../scenarios/outgoing.toml")),
    ("ramps", include_str!("../../scenarios/ramps.toml")),
    ("pulses", include_str!("../../scenarios/pulses.toml")),
    ("low", include_str!("../../scenarios/low.toml")),
    ("peace", include_str!("../../scenarios/peace.toml")),
];

/// What is played.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// Its name; filled in from the file's.
    #[serde(skip)]
    pub(super) name: String,
    /// What it shows, in a sentence.
    pub(super) about: String,
    /// Everything random in it comes of this.
    pub(super) seed: u64,
    /// The limits of a host.
    #[serde(default)]
    pub(super) limits: Limits,
    /// Its exporters.
    pub(super) telemetry: Vec<Telemetry>,
    /// Attacks, each on a target of its own.
    #[serde(default)]
    pub(super) attacks: Vec<Attacks>,
    /// Hosts at peace.
    pub(super) peace: Option<Peace>,
}

/// The limits of a host: what the detector and the average are told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Packets a second.
    pub(super) packets_per_second: f64,
    /// Bits a second.
    pub(super) bits_per_second: f64,
}

impl Default for Limits {
    /// What the program has by default.
    fn default() -> Self {
        Self { packets_per_second: 100_000.0, bits_per_second: 1e9 }
    }
}

/// Attacks that differ in kind, ratio, target and exporter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attacks {
    /// Which kinds; all of them if none is named.
    #[serde(default)]
    pub(super) vectors: Vec<Vector>,
    /// Whether every kind has rows of its own, or kinds take turns in one.
    #[serde(default)]
    pub(super) each_vector: bool,
    /// How many times the limit they have, each with how many attacks there are of it.
    pub(super) ratios: Vec<(f64, u32)>,
    /// What is hit: `v4/32`, `v6/128`, `v4/24`, …; each has rows of its own if `each_target`, else they take turns.
    pub(super) targets: Vec<Width>,
    /// See `targets`.
    #[serde(default)]
    pub(super) each_target: bool,
    /// How long they last.
    #[serde(default = "minute")]
    pub(super) seconds: f64,
    /// From the begin of one to the begin of the next.
    #[serde(default = "second")]
    pub(super) every_seconds: f64,
    /// How their rate goes.
    #[serde(default)]
    pub(super) course: Course,
    /// Towards the target or from it.
    #[serde(default = "incoming")]
    pub(super) direction: Direction,
    /// Whether they are left out of the sums: what no figure is promised for.
    #[serde(default)]
    pub(super) apart: bool,
}

fn minute() -> f64 {
    60.0
}

fn second() -> f64 {
    1.0
}

fn incoming() -> Direction {
    Direction::Incoming
}

/// How the rate of an attack goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Course {
    /// The same from begin to end.
    #[default]
    Flat,
    /// It grows evenly for so many seconds, and stays then.
    Ramp {
        /// How long.
        seconds: f64,
    },
    /// On for a part of each period.
    Pulses {
        /// The part.
        on_seconds: f64,
        /// The period.
        period_seconds: f64,
    },
}

/// A target's family and length: `v4/28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width {
    /// Whether it is IPv4.
    pub(super) v4: bool,
    /// The prefix's length.
    pub(super) length: u8,
}

impl Width {
    /// Whether it is an address.
    pub(super) fn is_host(self) -> bool {
        self.length == if self.v4 { 32 } else { 128 }
    }
}

impl std::fmt::Display for Width {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", if self.v4 { "v4" } else { "v6" }, self.length)
    }
}

impl<'de> Deserialize<'de> for Width {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (family, length) = text.split_once('/').unwrap_or((&text, ""));
        let v4 = family == "v4";
        match length.parse() {
            Ok(length @ 22..=32) if v4 => Ok(Self { v4, length }),
            Ok(length @ 48..=128) if family == "v6" => Ok(Self { v4, length }),
            _ => Err(serde::de::Error::custom(format!("{text}: neither v4/22 … v4/32 nor v6/48 … v6/128"))),
        }
    }
}

/// Hosts at peace, and what happens among them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peace {
    /// Hosts; half of them IPv6.
    pub(super) hosts: u32,
    /// Virtual time.
    pub(super) hours: f64,
    /// Downloads and then uploads of some seconds over the limit in bits, of one source, by one or few streams.
    pub(super) speed_tests: u32,
    /// Copies of an hour and more over the limit in bits, to or from one peer.
    pub(super) backups: u32,
    /// Downloads of minutes over the limit in bits, by TCP.
    pub(super) downloads: u32,
    /// The same by QUIC.
    pub(super) quic_downloads: u32,
    /// Thousands of clients at one server, with whole connections.
    pub(super) flash_crowds: u32,
    /// Racks whose hosts all load at once, each below its limit.
    pub(super) nightly_jobs: u32,
    /// Name servers and time servers, busy all day.
    pub(super) resolvers: u32,
    /// Servers of a content network at up to half of the limit, all day.
    pub(super) content_nodes: u32,
    /// Routers with a cache that are restarted: late records of a minute at once.
    pub(super) restarts: u32,
}

/// The scenarios that are to be played: the committed ones, or those of files; of these the ones that are named.
///
/// # Errors
///
/// If a file cannot be read or understood, or no scenario has a name that is asked for.
pub(super) fn load(files: &[std::path::PathBuf], only: &[String]) -> Result<Vec<Scenario>> {
    let texts: Vec<(String, String)> = if files.is_empty() {
        COMMITTED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    } else {
        let named = |path: &std::path::PathBuf| {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text))
        };
        files.iter().map(named).collect::<Result<_>>()?
    };
    let mut scenarios = Vec::new();
    for (name, text) in texts.iter().filter(|(name, _)| only.is_empty() || only.contains(name)) {
        let scenario: Scenario = toml::from_str(text).with_context(|| name.clone())?;
        scenarios.push(Scenario { name: name.clone(), ..scenario });
    }
    let missing = only.iter().find(|only| texts.iter().all(|(name, _)| name != *only));
    ensure!(missing.is_none(), "no scenario {}; there are: {}", missing.map_or("", |name| name), names(&texts));
    Ok(scenarios)
}

fn names(texts: &[(String, String)]) -> String {
    texts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

impl Scenario {
    /// A small part of everything in it, for a look and for tests.
    pub(super) fn quick(mut self) -> Self {
        for attacks in &mut self.attacks {
            // The lowest ratio that is sure to be found, and one that is far over it.
            let mut kept: Vec<(f64, u32)> =
                attacks.ratios.iter().filter(|(ratio, _)| *ratio >= 2.0).take(2).map(|(ratio, _)| (*ratio, 1)).collect();
            if kept.is_empty() {
                kept.extend(attacks.ratios.first().map(|(ratio, _)| (*ratio, 1)));
            }
            attacks.ratios = kept;
        }
        if self.attacks.iter().all(|attacks| !attacks.each_vector) {
            self.telemetry.truncate(2);
        }
        if let Some(peace) = &mut self.peace {
            peace.hosts = peace.hosts.min(120);
            peace.hours = peace.hours.min(0.1);
            for count in [
                &mut peace.speed_tests,
                &mut peace.backups,
                &mut peace.downloads,
                &mut peace.quic_downloads,
                &mut peace.flash_crowds,
                &mut peace.nightly_jobs,
                &mut peace.resolvers,
                &mut peace.content_nodes,
                &mut peace.restarts,
            ] {
                *count = (*count).min(1);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committed_scenario_is_understood_and_says_what_it_shows() {
        let scenarios = load(&[], &[]).unwrap();
        assert_eq!(scenarios.len(), COMMITTED.len());
        for scenario in scenarios {
            assert!(!scenario.about.is_empty() && !scenario.telemetry.is_empty(), "{}", scenario.name);
            assert!(scenario.peace.is_some() == scenario.attacks.is_empty(), "{} is of attacks or of peace", scenario.name);
        }
        assert!(load(&[], &["nowhere".to_owned()]).is_err());
    }
    #[test]
    fn the_example_of_the_docs_is_understood() {
        let text = include_str!("../../../docs/measuring-detection.md");
        let (_, example) = text.split_once("```toml\n").unwrap();
        let scenario: Scenario = toml::from_str(example.split("```").next().unwrap()).unwrap();
        assert_eq!((scenario.attacks[0].vectors.as_slice(), scenario.attacks[0].targets.len()), ([Vector::Syn].as_slice(), 2));
    }
}
