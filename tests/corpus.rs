//! The shared corpora: flow exports are decoded as expected, packet captures of attacks are told from those of none.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::corpus::{Labelled, attacks, shared};
use tests::weir::{lines, program};

/// The attacks peak at 295 packets a second to one destination and more, the others at 140 and less.
const POLICY: &str =
    "[collector.store]\nengine = \"none\"\n[analytics.threshold]\npackets_per_second = 200\nbits_per_second = 10_000_000\n";

#[test]
fn every_capture_of_flow_exports_is_decoded_as_expected() {
    let (Some(corpus), Some(tool)) = (shared("corpus"), shared("tools/score_decode.py")) else { return };
    let output = Command::new("python3").arg(tool).arg(corpus).arg(program()).output().expect("python3 starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}", text.lines().last().unwrap_or_default());
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_attacks_of_the_corpus_open_incidents_of_their_family_and_the_rest_opens_none() {
    let policy = std::env::temp_dir().join(format!("weir-tests-policy-{}.toml", std::process::id()));
    std::fs::write(&policy, POLICY).unwrap();
    let complaints: Vec<String> = attacks().iter().filter_map(|labelled| complaint(labelled, &policy)).collect();
    std::fs::remove_file(policy).unwrap();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Replays a capture through the whole pipe; what is wrong with its incidents, if anything.
fn complaint(labelled: &Labelled, policy: &Path) -> Option<String> {
    let lines = lines(&["replay", &labelled.capture.to_string_lossy(), "--config", &policy.to_string_lossy()]);
    assert_eq!(lines.last().unwrap()["type"], "totals", "{}", labelled.id);
    let incidents: Vec<&Value> = lines.iter().filter(|line| line["type"] == "incident").collect();
    let kinds = incidents
        .iter()
        .map(|incident| format!("{} {}", incident["family"].as_str().unwrap_or("none"), incident["subtype"].as_str().unwrap_or("none")));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let fits = |incident: &&&Value| {
        let word = |key: &str| incident[key].as_str().unwrap_or_default().to_owned();
        let subtype = labelled.subtypes.is_empty() || labelled.subtypes.contains(&word("subtype"));
        labelled.families.contains(&word("family")) && subtype
    };
    println!("{} ({}): {}", labelled.id, labelled.is_attack, if kinds.is_empty() { "no incident" } else { &kinds });
    match labelled.is_attack.as_str() {
        "yes" if !incidents.iter().any(|incident| fits(&incident)) => {
            Some(format!("{}: expected {:?} {:?}, found: {kinds}", labelled.id, labelled.families, labelled.subtypes))
        }
        "no" if !incidents.is_empty() => Some(format!("{}: no attack, found: {kinds}", labelled.id)),
        _ => None,
    }
}
