//! Weir as its users run it: `weir serve` in a folder of its own, with its counts, its answers and its engine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::measure::{self, Sockets};
use crate::peers::free_port;
use crate::process::Process;

/// How long it may take to start, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(180);
/// The owner's token: it is for one run on loopback.
const TOKEN: &str = "00000000000000000000000000000000000000000000000000000000000b0a7e";

/// The program of an argument, or the `weir` beside this one.
///
/// # Errors
///
/// If it is not there.
pub(crate) fn program(argument: Option<&PathBuf>) -> Result<PathBuf> {
    let program = argument.map_or_else(|| std::env::current_exe().map(|path| path.with_file_name("weir")), |path| Ok(path.clone()))?;
    ensure!(program.exists(), "{} is not there: cargo build --release -p api", program.display());
    Ok(program)
}

/// A folder for one run, removed with it.
pub(crate) struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    /// A new one below `parent`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn new(parent: &Path, name: &str, is_kept: bool) -> Result<Self> {
        let path = parent.join(format!("weir-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, is_kept })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_kept {
            eprintln!("kept: {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}

/// A Weir that serves.
pub(crate) struct Serving {
    process: Process,
    receive: u16,
    api: u16,
    metrics: u16,
    agent: ureq::Agent,
    log: PathBuf,
}

impl Serving {
    /// Starts it on ports of its own, with its state in `folder/data` and these lines in its config, and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub(crate) fn start(program: &Path, folder: &Path, networks: &str, sections: &str) -> Result<Self> {
        let (receive, api, metrics) = (free_port()?, free_tcp_port()?, free_tcp_port()?);
        let text = format!(
            "data_dir = \"{data}\"\nnetworks = [\"{networks}\"]\n[collector.receive]\nnetflow = [\"127.0.0.1:{receive}\"]\nipfix = []\nsflow = []\n\
             {sections}\n[api]\nlisten = \"127.0.0.1:{api}\"\nmetrics_listen = \"127.0.0.1:{metrics}\"\n[api.rate_limit]\nrequests_per_minute = 0\n",
            data = folder.join("data").display(),
        );
        let (path, log) = (folder.join("weir.toml"), folder.join("weir.log"));
        fs::write(&path, text)?;
        let said = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(&path).env("WEIR_OWNER_TOKEN", TOKEN).stdin(Stdio::null());
        command.stdout(said.try_clone()?).stderr(said);
        let mut process = Process::spawn(&mut command, "the workspace: cargo build --release -p api")?;
        measure::wait(PATIENCE, || Sockets::at(receive).count > 0 || !process.lives());
        let is_up = process.lives() && Sockets::at(receive).count > 0;
        ensure!(is_up, "weir does not listen: {}", fs::read_to_string(&log).unwrap_or_default());
        Ok(Self { process, receive, api, metrics, agent: agent(), log })
    }

    /// Where it receives exports.
    pub(crate) fn port(&self) -> u16 {
        self.receive
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The process of its embedded engine: its child.
    pub(crate) fn engine(&self) -> Option<u32> {
        children(self.id()).into_iter().next()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A path of REST: how long the answer took, and the answer.
    ///
    /// # Errors
    ///
    /// If it is no success.
    pub(crate) fn get(&self, path: &str) -> Result<(Duration, Value)> {
        let began = Instant::now();
        let request = self.agent.get(format!("http://127.0.0.1:{}{path}", self.api)).header("authorization", format!("Bearer {TOKEN}"));
        let mut response = request.call()?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        let took = began.elapsed();
        ensure!(status == 200, "{path}: {status} {text}");
        Ok((took, serde_json::from_str(&text)?))
    }

    /// Its counts without labels, as Prometheus would read them.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let mut response = self.agent.get(format!("http://127.0.0.1:{}/metrics", self.metrics)).call()?;
        let text = response.body_mut().with_config().limit(1 << 26).read_to_string()?;
        Ok(Counts::parse(&text))
    }

    /// Asks it to stop, and waits until it has drained.
    ///
    /// # Errors
    ///
    /// If it has to be killed.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.end()
    }
}

/// Counts by name.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<String, f64>);

impl Counts {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains('{'));
        Self(lines.filter_map(|line| line.split_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))).collect())
    }

    /// The count of a ledger: `records_stored` is `weir_collector_records_stored_total`, or with `store_` in it.
    pub(crate) fn record(&self, count: &str) -> u64 {
        let names = ["weir_collector_", "weir_collector_store_"];
        let names = names.iter().flat_map(|front| ["", "_total"].map(|end| format!("{front}{count}{end}")));
        whole(names.into_iter().find_map(|name| self.0.get(&name).copied()).unwrap_or(0.0))
    }
}

/// The engine by itself, on the folder of a Weir that has stopped: for statements that no part of Weir asks.
pub(crate) struct Engine {
    process: Process,
    url: String,
    secret: String,
    agent: ureq::Agent,
}

impl Engine {
    /// Starts it, with so much memory.
    ///
    /// # Errors
    ///
    /// If the library cannot be fetched or it does not come up.
    pub(crate) fn start(program: &Path, data: &Path, memory_octets_max: u64) -> Result<Self> {
        use std::io::{BufRead as _, BufReader, Write as _};
        let library = library(program)?;
        let mut command = Command::new(program);
        command.args(["engine", "run", "--library"]).arg(&library).arg("--folder").arg(data.join("engine"));
        command.args(["--memory-octets-max", &memory_octets_max.to_string(), "--threads-max", "2"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::spawn(&mut command, "the workspace")?;
        let secret = TOKEN.to_owned();
        // Kept open: its end is the engine's.
        process.child().stdin.as_mut().context("no pipe")?.write_all(format!("{secret}\n").as_bytes())?;
        let mut lines = BufReader::new(process.child().stdout.take().context("no pipe")?).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("ready ")?;
            rest.split_whitespace().next()?.parse::<u16>().ok()
        });
        let port = port.context("the engine does not come up")?;
        Ok(Self { process, url: format!("http://127.0.0.1:{port}/?database=weir"), secret, agent: agent() })
    }

    /// Runs a statement; its answer, tabs between values.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub(crate) fn ask(&self, statement: &str) -> Result<String> {
        let request = self.agent.post(&self.url).header("X-ClickHouse-User", "weir").header("X-ClickHouse-Key", &self.secret);
        let mut response = request.send(statement)?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        let first = statement.trim_start().lines().next().unwrap_or_default();
        ensure!(status == 200, "{first}: {text}");
        Ok(text.trim_end().to_owned())
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it by the end of its input.
    ///
    /// # Errors
    ///
    /// If it has to be killed.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.process.child().stdin.take());
        let process = &mut self.process;
        ensure!(measure::wait(PATIENCE, || !process.lives()), "the engine does not end");
        Ok(())
    }
}

/// The engine's library, fetched if it is not there.
///
/// # Errors
///
/// If it cannot be had.
fn library(program: &Path) -> Result<PathBuf> {
    let output = Command::new(program).args(["engine", "install"]).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let Some(path) = text.lines().last().filter(|_| output.status.success()) else {
        bail!("weir engine install: {}", output.status);
    };
    Ok(PathBuf::from(path))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(1_200))).build().into()
}

/// The processes that a process has started.
fn children(process: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    let of_thread = |path: PathBuf| fs::read_to_string(path.join("children")).unwrap_or_default();
    let texts: Vec<String> = entries.filter_map(|entry| Some(of_thread(entry.ok()?.path()))).collect();
    texts.iter().flat_map(|text| text.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
}

/// A TCP port of loopback that was free a moment ago.
///
/// # Errors
///
/// If there is none.
pub(crate) fn free_tcp_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and counts are whole")]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_the_name_that_a_ledger_has_for_them() {
        let text = "# TYPE a counter\nweir_collector_records_decoded_total 12\nweir_collector_store_records_waiting 3\n\
                    weir_collector_exporter_records_decoded_total{exporter=\"127.0.1.1\"} 7\n";
        let counts = Counts::parse(text);
        assert_eq!([counts.record("records_decoded"), counts.record("records_waiting"), counts.record("records_spooled")], [12, 3, 0]);
    }
}
