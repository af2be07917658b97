//! A started program: bounded in time, its words in a file, ended with its handle.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::isolation::{folder, run};

/// A program that runs beside the test.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    words: PathBuf,
}

impl Process {
    /// Starts a program; what it prints goes to a file in the test's folder.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command) -> Self {
        let words = folder().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&words).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start ({error}); tests/run installs it"));
        Self { name: name.to_owned(), child, words }
    }

    /// What the program has printed so far.
    #[must_use]
    pub fn words(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.words).unwrap_or_default()).into_owned()
    }

    /// Waits for the program's own end.
    ///
    /// # Panics
    ///
    /// If it does not come in time.
    pub fn finish(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        wait_until(&format!("the end of {}", self.name), within, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Asks the program to end (SIGTERM) and waits for it.
    ///
    /// # Panics
    ///
    /// If it does not end in time.
    pub fn stop(&mut self, within: Duration) -> ExitStatus {
        run("kill", &["-TERM", &self.child.id().to_string()]);
        self.finish(within)
    }

    /// Ends the program at once (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the program has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}---", self.name, self.words());
        }
    }
}

/// Asks every 5 ms until the answer is yes.
///
/// # Panics
///
/// If it is not within the time.
pub fn wait_until(what: &str, within: Duration, mut answer: impl FnMut() -> bool) {
    let began = Instant::now();
    while !answer() {
        assert!(began.elapsed() < within, "{what} did not come within {within:?}");
        sleep(Duration::from_millis(5));
    }
}
