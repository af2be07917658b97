//! The program under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::traffic::Sums;

/// The built `weir`: `WEIR_BIN`, or what lies in the folder that this test was built into.
///
/// # Panics
///
/// If it is not there.
#[must_use]
pub fn program() -> PathBuf {
    let built = || env::current_exe().unwrap().ancestors().nth(2).unwrap().join("weir");
    let path = env::var_os("WEIR_BIN").map_or_else(built, PathBuf::from);
    assert!(path.exists(), "{} is not built: cargo build --bins", path.display());
    path
}

/// What `weir decode` printed.
#[derive(Debug)]
pub struct Decoded {
    /// The lines of type `flow`.
    pub flows: Vec<Value>,
    /// The last line.
    pub totals: Value,
}

impl Decoded {
    /// Packets and octets of all flows as exported.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let sum = |key: &str| self.flows.iter().filter_map(|flow| flow[key].as_u64()).sum();
        Sums { packets: sum("packet_delta_count"), octets: sum("octet_delta_count") }
    }

    /// A count of the totals.
    ///
    /// # Panics
    ///
    /// If there is no such count.
    #[must_use]
    pub fn total(&self, key: &str) -> u64 {
        self.totals[key].as_u64().unwrap_or_else(|| panic!("totals have no {key}: {}", self.totals))
    }
}

/// Runs a subcommand of `weir` to its end and reads its JSON lines.
///
/// # Panics
///
/// If it fails, or prints anything else.
#[must_use]
pub fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "weir {arguments:?}: {}: {said}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs `weir decode` on a capture.
///
/// # Panics
///
/// If it fails or its last line is not the totals.
#[must_use]
pub fn decode(capture: &Path) -> Decoded {
    let mut lines = lines(&["decode", &capture.to_string_lossy()]);
    let totals = lines.pop().expect("a last line");
    assert_eq!(totals["type"], "totals");
    Decoded { flows: lines.into_iter().filter(|line| line["type"] == "flow").collect(), totals }
}
