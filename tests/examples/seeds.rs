//! Writes the seeds of the fuzz targets: `cargo run -p tests --example seeds`.
#![allow(clippy::unwrap_used, reason = "a tool for developers fails by panicking")]

use std::fs;
use std::path::Path;

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, name, octets) in tests::fuzz::seed::all() {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), &octets).unwrap();
        println!("{target}/{name}: {} octets", octets.len());
    }
}
