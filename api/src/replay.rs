//! `weir replay`: a capture through the whole pipe on a virtual clock, and what would have come of it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use collector::receive::capture::Capture;
use collector::replay;

use schemas::time::Timestamp;

use crate::config::Config;
use crate::hindsight::{self, Hindsight, Report};

/// Runs a capture and prints its report: a line for each incident, a line for each rule, a line of totals.
///
/// With `speed` the capture's clock runs so many times as fast as ours; without, as fast as it can.
///
/// # Errors
///
/// If the file cannot be read, or not to its end: what could be read is reported all the same.
pub fn run(file: &Path, config: &Config, speed: Option<f64>) -> anyhow::Result<()> {
    ensure!(speed.is_none_or(|speed| speed > 0.0 && speed.is_finite()), "--speed must be above 0");
    let (report, outcome) = report(file, config, speed)?;
    hindsight::print(&report, &mut io::stdout().lock()).context("cannot write")?;
    outcome
}

/// What a capture comes to, and whether it could be read to its end.
///
/// # Errors
///
/// If the file is no capture.
pub fn report(file: &Path, config: &Config, speed: Option<f64>) -> anyhow::Result<(Report, anyhow::Result<()>)> {
    let named = || file.display().to_string();
    let content = replay::content(file).with_context(named)?;
    let mut capture = Capture::open(file).with_context(named)?;
    let (mut hindsight, mut pipe) = Hindsight::new(config);
    let mut pace = speed.map(Pace::new);
    let outcome = replay::run(&mut capture, content, &[], &mut pipe, hindsight::tail_milliseconds(config), |snapshot| {
        if let Some(pace) = &mut pace {
            pace.wait(snapshot.taken_at);
        }
        hindsight.take(snapshot);
    });
    let ledger = pipe.ledger();
    Ok((hindsight.finish(ledger), outcome.map(|_| ()).with_context(named)))
}

/// Holds the capture's clock to a multiple of ours.
struct Pace {
    speed: f64,
    began: Instant,
    first: Option<Timestamp>,
}

impl Pace {
    fn new(speed: f64) -> Self {
        Self { speed, began: Instant::now(), first: None }
    }

    fn wait(&mut self, now: Timestamp) {
        let first = *self.first.get_or_insert(now);
        let due = Duration::from_millis(now.since(first)).div_f64(self.speed);
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}
