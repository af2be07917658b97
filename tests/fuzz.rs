//! Replays every fuzz input that was ever kept, and mutations of it, through the functions that the fuzzer feeds.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bench::synthesize::Random;
use tests::fuzz::mutation::mutate;
use tests::fuzz::{TARGETS, Target, seed};

/// Mutations of each input, unless `WEIR_FUZZ_MUTATIONS` says otherwise.
const MUTATIONS: u32 = 400;

fn mutations() -> u32 {
    std::env::var("WEIR_FUZZ_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(MUTATIONS)
}

/// The kept inputs of a target, by name.
fn inputs(target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|_| panic!("{} has no inputs", target.name));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Feeds an input; if that fails, leaves the input in the temporary folder for the corpus.
fn feed(target: &Target, what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.feed)(input))).is_err() {
        let path = std::env::temp_dir().join(format!("weir-{}-{what}", target.name));
        fs::write(&path, input).unwrap();
        panic!("{} fails on {what}, kept as {}", target.name, path.display());
    }
}

#[test]
fn no_kept_input_nor_any_octet_less_of_it_breaks_a_decoder() {
    for target in TARGETS {
        for path in inputs(target) {
            let input = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy();
            for length in 0..=input.len() {
                feed(target, &format!("{name}-cut-{length}"), &input[..length]);
            }
        }
    }
}

#[test]
fn no_mutation_of_a_kept_input_breaks_a_decoder() {
    for target in TARGETS {
        for (number, path) in (0..).zip(inputs(target)) {
            let input = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy();
            let mut random = Random::new(number);
            for round in 0..mutations() {
                feed(target, &format!("{name}-mutation-{round}"), &mutate(&input, &mut random));
            }
        }
    }
}

#[test]
fn the_kept_seeds_are_those_that_the_generator_makes_and_every_decoder_has_one() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, name, octets) in seed::all() {
        let kept = fs::read(corpus.join(target).join(name)).unwrap_or_default();
        assert!(kept == octets, "{target}/{name} differs: cargo run -p tests --example seeds");
    }
    for target in TARGETS {
        assert!(seed::all().iter().any(|(name, _, _)| *name == target.name), "{} has no seed", target.name);
    }
}

#[test]
fn every_decoder_has_a_fuzz_target_that_feeds_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let file = fs::read_to_string(folder.join("fuzz_targets").join(format!("{}.rs", target.name))).unwrap_or_default();
        assert!(file.contains(&format!("tests::fuzz::{}(input)", target.name)), "{} is not fed", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is not built", target.name);
    }
}
