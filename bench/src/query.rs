//! `weir-bench query`: how long answers take, asked of `weir serve` by REST, of a store that is filled for it.
//!
//! An hour of flows is made by the engine itself, at a rate that is told, and goes through the same views as what is received; behind
//! it lie days of sums by minute and hour. Each question is asked once with nothing of the store's files in the page cache, and
//! then some times more, of which the median counts.

mod fill;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Args;
use schemas::time::Timestamp;

use crate::measure;
use crate::serving::{self, Engine, Folder, Serving};
use report::{Answer, Report};

/// How long Weir may take until it answers from its store.
const PATIENCE: Duration = Duration::from_secs(180);
/// Memory of the engine while the store is filled.
const MEMORY_OCTETS: u64 = 4 << 30;

/// What is measured.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program; the `weir` beside this one unless told otherwise
    #[arg(long)]
    weir: Option<PathBuf>,
    /// Flows a second of the hour
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// Days of sums before it
    #[arg(long, default_value_t = 30)]
    days: u32,
    /// How often each question is asked, once the files have been read
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Where Weir keeps its files meanwhile; on the disk that is meant
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// Leaves the files there
    #[arg(long)]
    keep: bool,
    /// Folder for `query.json` and `query.md`; without it both are printed
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One question.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// Ranking of the hour, or chart of the days.
    is_chart: bool,
    group_by: &'static str,
    /// In milliseconds, where there is one.
    target: Option<f64>,
}

/// Every dimension of the sums, the two that only flows have, and charts.
const QUESTIONS: &[Question] = &[
    top("protocol", Some(2_000.0)),
    top("application", Some(2_000.0)),
    top("exporter", Some(2_000.0)),
    top("in_if", Some(2_000.0)),
    top("out_if", Some(2_000.0)),
    top("src_as", Some(2_000.0)),
    top("dst_as", Some(2_000.0)),
    top("src_country", Some(2_000.0)),
    top("dst_country", Some(2_000.0)),
    top("src_prefix", Some(2_000.0)),
    top("dst_prefix", Some(2_000.0)),
    top("src_address", None),
    top("dst_address", None),
    top("dst_port", None),
    chart("", Some(300.0)),
    chart("protocol", Some(300.0)),
    chart("exporter", Some(300.0)),
    chart("application", Some(300.0)),
    chart("src_as", Some(300.0)),
];

const fn top(group_by: &'static str, target: Option<f64>) -> Question {
    Question { is_chart: false, group_by, target }
}

const fn chart(group_by: &'static str, target: Option<f64>) -> Question {
    Question { is_chart: true, group_by, target }
}

/// Measures and reports.
///
/// # Errors
///
/// If a part does not start, or a question is not answered.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.runs > 0 && arguments.rate > 0 && arguments.days > 0, "at least one run, flow and day");
    let program = serving::program(arguments.weir.as_ref())?;
    let folder = Folder::new(&arguments.scratch, "query", arguments.keep)?;
    // Weir makes its tables; a whole minute is the end of the hour.
    drop(serve(&program, &folder)?.stop());
    let to = Timestamp::from(SystemTime::now()).milliseconds() / 60_000 * 60;
    let began = Instant::now();
    let engine = Engine::start(&program, &folder.path().join("data"), MEMORY_OCTETS)?;
    let filled = fill::fill(&engine, arguments.rate, arguments.days, to)?;
    engine.stop()?;
    let fill_seconds = began.elapsed().as_secs_f64();
    eprintln!("{} flows and {} sums were made in {fill_seconds:.0} s", filled.flows, filled.sums);
    let serving = serve(&program, &folder)?;
    let mut answers = Vec::new();
    for question in QUESTIONS {
        let answer = ask(&serving, question, arguments, &folder, to)?;
        eprintln!(
            "{} by {:?}: cold {:.0} ms, then {:.0} ms",
            answer.kind, answer.group_by, answer.cold_milliseconds, answer.p50_milliseconds
        );
        answers.push(answer);
    }
    let engine_resident_octets = serving.engine().map_or(0, measure::resident_octets);
    serving.stop()?;
    let report = Report {
        machine: crate::report::Machine::this(),
        flows_per_second: arguments.rate,
        days: arguments.days,
        filled,
        fill_seconds,
        engine_resident_octets,
        answers,
    };
    crate::report::publish("query", &report, &report.markdown(), arguments.out.as_deref())
}

/// Starts Weir and waits until it answers from its store.
fn serve(program: &std::path::Path, folder: &Folder) -> Result<Serving> {
    let sections = "[collector.store]\nengine = \"embedded\"\n[collector.store.retention]\nflows_octets_max = 0\n";
    let serving = Serving::start(program, folder.path(), "10.0.0.0/8", sections)?;
    let is_up = measure::wait(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        serving.get("/api/v1/analytics/top?group_by=protocol").is_ok()
    });
    ensure!(is_up, "weir does not answer from its store: {}", serving.said());
    Ok(serving)
}

fn ask(serving: &Serving, question: &Question, arguments: &Arguments, folder: &Folder, to: u64) -> Result<Answer> {
    let Question { is_chart, group_by, target } = *question;
    let span = if is_chart { u64::from(arguments.days) * 86_400 } else { 3_600 };
    let moment = |second: u64| Timestamp(second * 1_000).to_string();
    let route = if is_chart { "traffic" } else { "top" };
    let grouped = if group_by.is_empty() { String::new() } else { format!("&group_by={group_by}") };
    let path = format!("/api/v1/analytics/{route}?from={}&to={}{grouped}", moment(to - span), moment(to));
    measure::forget(folder.path()).context("the store's files")?;
    let (cold, body) = serving.get(&path)?;
    let mut warm = Vec::new();
    for _ in 0..arguments.runs {
        warm.push(serving.get(&path)?.0);
    }
    warm.sort_unstable();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
    let list = if is_chart { "series" } else { "rows" };
    Ok(Answer {
        kind: route,
        group_by,
        seconds: span,
        rows: body.get(list).and_then(serde_json::Value::as_array).map_or(0, Vec::len),
        level: body.pointer("/source/table").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned(),
        cold_milliseconds: milliseconds(cold),
        p50_milliseconds: warm.get(warm.len() / 2).copied().map(milliseconds).context("no run")?,
        target_milliseconds: target,
    })
}
