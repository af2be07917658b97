//! A network, process table and mount table of its own for a test that starts real programs.
//!
//! Inside, every port is free, an address may be any, and whatever was started ends with the test, however that ends.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const FOLDER: &str = "WEIR_TESTS_FOLDER";

/// Runs the body of a test in namespaces of its own, by starting the test once more inside of them.
///
/// The body must be a closure written in the test itself: its type says which test that is.
///
/// # Panics
///
/// If the body panics there, or if the namespaces cannot be made: that takes root, or user namespaces.
pub fn isolated<F: FnOnce()>(body: F) {
    if env::var_os(FOLDER).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return body();
    }
    // `flood::some_test::{{closure}}`: what stands between the crate and the closure names the test.
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let test = path.split_once("::").map_or(path, |(_, test)| test);
    let folder = env::temp_dir().join(format!("weir-tests-{}-{test}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    // A server that a test was told to use is out there.
    if env::var_os("WEIR_TEST_CLICKHOUSE_URL").is_none() {
        command.arg("--net");
    }
    let status = command
        .args(["--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, &folder)
        .stdin(Stdio::null())
        .status()
        .expect("unshare (util-linux) starts");
    if env::var_os("WEIR_TESTS_KEEP").is_none() {
        fs::remove_dir_all(&folder).unwrap();
    }
    assert!(status.success(), "{test} failed in its namespaces, or they could not be made: {status}");
}

/// The folder of this test's files, removed after it (kept if `WEIR_TESTS_KEEP` is set).
///
/// # Panics
///
/// Outside of [`isolated`].
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env::var_os(FOLDER).expect("the test runs isolated"))
}

/// Runs a short command to its end and returns what it printed.
///
/// # Panics
///
/// If it cannot be started or fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} does not start ({error}); tests/run installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_root() -> bool {
    run("id", &["-u"]).trim() == "0"
}
