//! `weir-bench detect` as a whole: floods are found and named, peace is counted, and the same seed gives the same figures.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const SCENARIO: &str = r#"
about = "Three floods of ten times the limit, and a few minutes of hosts at peace."
seed = 1
telemetry = [{ behaviour = "sflow", interval = 512 }, { behaviour = "ipfix", interval = 512 }]

[[attacks]]
vectors = ["syn", "dns_amplification", "ping"]
each_vector = true
ratios = [[10, 1]]
targets = ["v4/32"]
seconds = 20

[peace]
hosts = 200
hours = 0.07
speed_tests = 2
backups = 0
downloads = 1
quic_downloads = 0
flash_crowds = 0
nightly_jobs = 0
resolvers = 1
content_nodes = 0
restarts = 1
"#;

/// A folder that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-detect-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Runs the program and answers what it has found.
fn detect(folder: &Path, arguments: &[&str]) -> Value {
    let json = folder.join("found.json");
    let output = Command::new(env!("CARGO_BIN_EXE_weir-bench")).arg("detect").args(arguments).arg("--json").arg(&json).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

#[test]
fn strong_floods_are_found_and_named_and_peace_is_counted() {
    let folder = Folder::new("floods");
    let scenario = folder.0.join("floods.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let plots = folder.0.join("plots");
    let arguments = ["--scenario", scenario.to_str().unwrap(), "--plots", plots.to_str().unwrap()];
    let found = detect(&folder.0, &arguments);
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6, "three kinds by two exporters: {rows:#?}");
    for row in rows {
        assert_eq!((&row["recall"][0], &row["family_right"], &row["target_right"]), (&1.0.into(), &1.0.into(), &1.0.into()), "{row:#}");
        // A second for sFlow, and for a cache a second from its evidence.
        assert!(row["after_p95"][0].as_f64().unwrap() <= 1_000.0, "{row:#}");
    }
    let class = |name: &str| found["calm"].as_array().unwrap().iter().find(|calm| calm["class"] == name).unwrap().clone();
    // Both directions of a speed test, each from two to five times the limit in bits for some seconds, are too much for an average.
    assert_eq!(class("speed tests")["count"], 2);
    assert!(class("speed tests")["alarms"][1].as_u64().unwrap() >= 1, "{found:#}");
    // 200 hosts for 0.07 h.
    assert!((found["host_days"].as_f64().unwrap() - 200.0 * 0.07 / 24.0).abs() < 1e-6);
    assert!(std::fs::read_to_string(plots.join("recall.svg")).unwrap().contains("<polyline"));
}

#[test]
fn the_same_seed_gives_the_same_figures_and_another_seed_others() {
    let folder = Folder::new("seeds");
    let scenario = folder.0.join("seeds.toml");
    let (attacks, _) = SCENARIO.split_once("[peace]").unwrap();
    std::fs::write(&scenario, attacks.replace("seconds = 20", "seconds = 2")).unwrap();
    let run = |seed| detect(&folder.0, &["--scenario", scenario.to_str().unwrap(), "--seed", seed]);
    let (one, again, other) = (run("7"), run("7"), run("8"));
    assert_eq!((&one["rows"], &one["figures"]), (&again["rows"], &again["figures"]));
    assert_ne!(one["rows"], other["rows"]);
}

/// Of every committed scenario that is quick enough without optimisation, a small part.
#[test]
fn the_committed_scenarios_play() {
    let folder = Folder::new("committed");
    let found = detect(&folder.0, &["--quick", "--only", "sampling", "--only", "outgoing", "--only", "low"]);
    assert_eq!(found["wholes"].as_array().unwrap().len(), 3);
    assert_eq!(found["figures"][0]["values"][0], 1.0, "floods of twice the limit and more are all found: {found:#}");
    let quiet = found["rows"].as_array().unwrap().iter().filter(|row| row["ratio"].as_f64().unwrap() <= 0.5);
    assert!(quiet.clone().count() > 0 && quiet.clone().all(|row| row["recall"][0] == 0.0), "half of the limit is no attack: {found:#}");
}
