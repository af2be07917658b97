//! Holds the shape of the project: the top level, names and lengths of files, arrows between crates, homes of unsafe code.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

/// Everything that may stand at the top, dotfiles aside.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "collector",
    "analytics",
    "api",
    "bench",
    "schemas",
    "tests",
    "docs",
];

/// Names under which everything and nothing lives.
const VAGUE_NAMES: &[&str] = &["mod", "util", "utils", "common", "helper", "helpers", "manager", "misc"];

/// What each crate may know of the others: the collector and the analysts share words and do not know each other.
const ARROWS: &[(&str, &[&str])] = &[
    ("schemas", &[]),
    ("collector", &["schemas"]),
    ("analytics", &["schemas"]),
    ("api", &["schemas", "collector", "analytics", "bench"]),
    ("bench", &["schemas", "collector", "analytics"]),
    ("tests", &["schemas", "collector", "analytics", "api", "bench"]),
];

/// Where unsafe code may live: system calls that no safe wrapper offers, a library with a C interface, hot loops whose gain is measured, an allocator that counts.
const UNSAFE_HOMES: &[&str] = &[
    "collector/src/receive.rs",
    "collector/src/receive/",
    "collector/src/count/",
    "collector/src/decode/group.rs",
    "collector/src/store/engine/library.rs",
    "bench/src/",
    "bench/benches/",
];

/// The project's root: the parent of this package.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file of the project with its path from the root, what is built or ignored left out.
fn files() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if matches!(name.as_str(), ".git" | "target" | "weir-data" | "node_modules" | "artifacts") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), path));
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file with its path from the root and its text.
fn sources() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|(name, _)| name.ends_with(".rs"));
    rust.map(|(name, path)| (name, fs::read_to_string(path).unwrap())).collect()
}

/// A manifest as a table.
fn manifest(path: &str) -> toml::Table {
    fs::read_to_string(root().join(path)).unwrap().parse().unwrap()
}

/// Fails with every complaint at once.
fn hold(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_top_level_holds_the_crates_and_nothing_that_has_a_room_elsewhere() {
    let names: BTreeSet<String> = files().iter().map(|(name, _)| name.split('/').next().unwrap().to_owned()).collect();
    let strangers = names.iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()));
    hold(&strangers.map(|name| format!("{name} stands at the top level")).collect::<Vec<_>>());
}

#[test]
fn a_rust_file_says_what_it_is_for_and_holds_one_idea() {
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{name} has {lines} lines, more than {LINES_MAX}"));
        }
        if !text.starts_with("//! ") {
            complaints.push(format!("{name} does not begin with `//! ` and what it is for"));
        }
        let vague = name.trim_end_matches(".rs").split('/').find(|part| VAGUE_NAMES.contains(part));
        complaints.extend(vague.map(|part| format!("{name}: `{part}` says nothing")));
    }
    hold(&complaints);
}

#[test]
fn a_crate_knows_only_what_its_arrows_allow() {
    let crates: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let members = manifest("Cargo.toml")["workspace"]["members"].as_array().unwrap().clone();
    let members: BTreeSet<&str> = members.iter().filter_map(|member| member.as_str()).collect();
    assert_eq!(members, crates.iter().copied().collect(), "a new crate gets its arrows here");
    let mut complaints = Vec::new();
    for (name, allowed) in ARROWS {
        let manifest = manifest(&format!("{name}/Cargo.toml"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for (dependency, value) in dependencies {
                if crates.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                    complaints.push(format!("{name} knows {dependency}"));
                }
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    complaints.push(format!("{name}: {dependency} is not taken from the workspace's list"));
                }
            }
        }
        if manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
            complaints.push(format!("{name} does not inherit the lint table"));
        }
    }
    hold(&complaints);
}

#[test]
fn unsafe_code_lives_only_where_the_kernel_or_a_measured_loop_needs_it() {
    // Split, so that this line is none of its own finds.
    let words = [
        concat!("unsafe", " {"),
        concat!("unsafe", " fn"),
        concat!("unsafe", " impl"),
        concat!("unsafe", " extern"),
        concat!("allow(", "unsafe_code"),
    ];
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        let home = UNSAFE_HOMES.iter().any(|home| name.starts_with(home));
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !words.iter().any(|word| code.contains(word)) {
                continue;
            }
            if !home {
                complaints.push(format!("{name}:{}: unsafe code has no home here", index + 1));
            }
            let block = code.contains(words[0]);
            let before = lines[index.saturating_sub(12)..=index].iter().any(|line| line.contains("SAFETY"));
            if block && !before {
                complaints.push(format!("{name}:{}: no SAFETY comment names the invariant", index + 1));
            }
        }
    }
    hold(&complaints);
}

#[test]
fn a_crate_without_a_home_for_unsafe_code_forbids_it() {
    let mut complaints = Vec::new();
    for (name, _) in ARROWS {
        let entry = format!("{name}/src/lib.rs");
        let home = UNSAFE_HOMES.iter().any(|home| home.starts_with(&format!("{name}/")));
        if !home && !fs::read_to_string(root().join(&entry)).unwrap().contains("#![forbid(unsafe_code)]") {
            complaints.push(format!("{entry} does not forbid unsafe code"));
        }
    }
    hold(&complaints);
}

#[test]
fn no_file_names_a_folder_of_the_machine_it_was_written_on() {
    let mut traces: Vec<String> = ["root", "home", "Users"].iter().map(|folder| format!("/{folder}/")).collect();
    // The folder that holds this clone, where it is telling: `/` and `/tmp` are not.
    let parent = root().parent().unwrap().to_string_lossy().into_owned();
    if parent.len() > 4 {
        traces.push(format!("{parent}/"));
    }
    let mut complaints = Vec::new();
    for (name, path) in files() {
        let Ok(text) = fs::read_to_string(path) else { continue };
        if name == "Cargo.lock" {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            complaints
                .extend(traces.iter().filter(|trace| line.contains(trace.as_str())).map(|trace| format!("{name}:{}: {trace}", index + 1)));
        }
    }
    hold(&complaints);
}

#[test]
fn no_file_holds_the_marks_of_a_merge() {
    let marks = ['<', '>'].map(|mark| format!("{} ", String::from(mark).repeat(7)));
    let texts = files().into_iter().filter_map(|(name, path)| Some((name, std::fs::read_to_string(path).ok()?)));
    let marked = texts.filter(|(_, text)| text.lines().any(|line| marks.iter().any(|mark| line.starts_with(mark.as_str()))));
    hold(&marked.map(|(name, _)| format!("{name}: a merge was not ended")).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_open_in_the_code() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK"), concat!("#[ig", "nore")];
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        for (index, line) in text.lines().enumerate() {
            complaints.extend(marks.iter().filter(|mark| line.contains(**mark)).map(|mark| format!("{name}:{}: {mark}", index + 1)));
        }
    }
    hold(&complaints);
}

#[test]
fn the_licence_of_every_crate_is_the_one_at_the_top() {
    let licence = fs::read_to_string(root().join("LICENSE")).unwrap();
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0"), "LICENSE is not Apache-2.0");
    assert_eq!(manifest("Cargo.toml")["workspace"]["package"]["license"].as_str(), Some("Apache-2.0"));
    for (name, _) in ARROWS {
        let own = manifest(&format!("{name}/Cargo.toml"));
        assert_eq!(own["package"]["license"]["workspace"].as_bool(), Some(true), "{name} names no licence");
    }
}

/// The text of a crate's sources without its tests.
fn code_of(folder: &str) -> String {
    let own = sources().into_iter().filter(|(name, _)| name.starts_with(folder) && !name.contains("tests"));
    own.map(|(_, text)| text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_count_of_the_ledger_is_counted() {
    let collector = code_of("collector/src/");
    let ledger = schemas::ledger::Ledger::default();
    // A shard decodes what it takes at once: nothing waits in between until something stands there.
    let names = ledger.counts().map(|(name, _)| name).filter(|name| *name != "datagrams_waiting");
    let idle = names.filter(|name| !collector.contains(&format!(".{name}")));
    hold(&idle.map(|name| format!("nothing counts {name}")).collect::<Vec<_>>());
}

#[test]
fn every_column_of_a_flow_is_written_by_some_decoder_and_printed() {
    let (decoders, printer) = (code_of("collector/src/decode"), code_of("api/src/decode"));
    let mut complaints = Vec::new();
    for column in schemas::flow::Column::ALL {
        if !decoders.contains(&format!("{column:?}")) {
            complaints.push(format!("no decoder writes {}", column.name()));
        }
        if !printer.contains(column.name()) {
            complaints.push(format!("weir decode does not print {}", column.name()));
        }
    }
    hold(&complaints);
}
