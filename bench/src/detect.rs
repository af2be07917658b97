//! `weir-bench detect`: how often, how soon and how wrongly attacks are found, on seeded scenarios and a virtual clock.
//!
//! Packets of virtual time (`wire`) of attacks (`vector`, `attacks`) and of peace (`talk`, `transfer`, `world`) pass exporters that behave as
//! real ones do (`probe`); what these send goes, encoded, through the collector's whole pipe and to the analysts, and beside them to two rules
//! of the field (`rules`, `reference`). Alarms are held against the truth (`judge`), beside what samples allow at all (`bound`).

mod attacks;
mod bound;
mod cost;
mod evidence;
mod judge;
mod play;
mod plot;
mod probe;
mod reference;
mod rules;
mod scenario;
mod sums;
mod table;
mod talk;
mod transfer;
mod vector;
mod wire;
mod world;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use sums::Sums;

/// What is measured.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Scenario files; the committed ones unless some are named
    #[arg(long)]
    scenario: Vec<PathBuf>,
    /// Names of the scenarios to play; all unless some are named
    #[arg(long)]
    only: Vec<String>,
    /// Adds to every scenario's own seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A small part of everything, in seconds
    #[arg(long)]
    quick: bool,
    /// Writes what was found, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes plots into this folder, as SVG
    #[arg(long)]
    plots: Option<PathBuf>,
    /// Measures memory and time with a million active hosts instead
    #[arg(long)]
    cost: bool,
    /// Hosts for --cost
    #[arg(long, default_value_t = 1_000_000)]
    hosts: u32,
}

/// Measures and prints tables.
///
/// # Errors
///
/// If a scenario cannot be understood, records are lost that no exporter has lost, or a file cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.cost {
        return cost::run(arguments.hosts, arguments.json.as_deref());
    }
    let mut sums = Sums::default();
    for mut scenario in scenario::load(&arguments.scenario, &arguments.only)? {
        scenario.seed = scenario.seed.wrapping_add(arguments.seed);
        let scenario = if arguments.quick { scenario.quick() } else { scenario };
        let name = scenario.name.clone();
        let played = play::play(scenario).with_context(|| name.clone())?;
        let [all, _, analysts] = played.spent.map(|spent| spent.as_secs_f64());
        eprintln!("{name}: {:.0} s of virtual time in {all:.1} s, analysts {analysts:.1} s", played.seconds);
        sums.add(&played);
    }
    sums.finish();
    println!("{}", table::markdown(&sums));
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&sums)?).with_context(|| path.display().to_string())?;
    }
    arguments.plots.as_deref().map_or(Ok(()), |folder| plot::write(&sums, folder))
}
