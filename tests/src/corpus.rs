//! The shared corpora beside the project, where they are.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder or file of the shared corpora; says so and is none where they are absent, as in a clone of the project alone.
#[must_use]
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if found.exists() {
        return found.canonicalize().ok();
    }
    eprintln!("SKIPPED: no shared corpus beside the project, {path} is not there");
    None
}

/// A packet capture of an attack or of none.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// Its name.
    pub id: String,
    /// The capture.
    pub capture: PathBuf,
    /// `yes`, `no` or `unmarked`.
    pub is_attack: String,
    /// The families that are right.
    pub families: Vec<String>,
    /// The subtypes that are right; an empty word stands for none.
    pub subtypes: Vec<String>,
}

/// The labelled captures of the attack corpus.
///
/// # Panics
///
/// If its list cannot be read.
#[must_use]
pub fn attacks() -> Vec<Labelled> {
    let Some(folder) = shared("corpus/attacks") else { return Vec::new() };
    let text = fs::read_to_string(folder.join("manifest.tsv")).unwrap();
    let mut rows = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |row: &[&str], name: &str| {
        let index = header.iter().position(|title| *title == name).unwrap();
        row.get(index).copied().unwrap_or_default().to_owned()
    };
    let words = |text: String| if text.is_empty() { Vec::new() } else { text.split('|').map(str::to_owned).collect() };
    let labelled = rows.map(|row| Labelled {
        id: column(&row, "id"),
        capture: folder.join("captures").join(column(&row, "file")),
        is_attack: column(&row, "is_attack"),
        families: words(column(&row, "family")),
        subtypes: words(column(&row, "subtype")),
    });
    labelled.collect()
}
