//! What the measurements say: JSON for machines, a Markdown table for people.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::peers;
use crate::pipe::{Measurement, Step};
use crate::subject::Subject;

/// More processors than this busy with other programs are worth a word.
const FOREIGN_MAX: f64 = 0.2;

/// The machine that was measured on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()));
        Self {
            processor: name.unwrap_or_default(),
            // The own thread may be pinned, so what it may run on says nothing.
            cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, cores, kernel } = self;
        write!(formatter, "{cores} × {processor}, Linux {kernel}")
    }
}

/// How Weir compares with a peer in the same run.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    peer: Subject,
    protocol: &'static str,
    hosts: u32,
    /// At this rate …
    asked_flows_per_second: f64,
    /// … Weir's CPU a flow as a share of the peer's.
    cpu: f64,
    /// Weir's knee as a share of the peer's.
    knee: Option<f64>,
}

/// A run of `weir-bench pipe`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    weir: &'static str,
    nfcapd: Option<String>,
    buffer_octets: usize,
    ratios: Vec<Ratio>,
    measurements: Vec<Measurement>,
}

impl Report {
    /// Puts the measurements beside each other.
    pub(crate) fn new(buffer_octets: usize, measurements: Vec<Measurement>) -> Self {
        Self {
            machine: Machine::this(),
            weir: env!("CARGO_PKG_VERSION"),
            nfcapd: peers::version(),
            buffer_octets,
            ratios: ratios(&measurements),
            measurements,
        }
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        let nfcapd = self.nfcapd.as_deref().unwrap_or("not installed");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}; nfcapd: {nfcapd}; socket buffers of {} octets.\n", self.machine, self.buffer_octets);
        let steps = self.measurements.iter().flat_map(|measurement| &measurement.steps);
        let foreign = steps.map(|step| step.foreign_processors).fold(0.0, f64::max);
        if foreign > FOREIGN_MAX {
            let _ = writeln!(text, "Disturbed: other programs kept up to {foreign:.1} processors busy meanwhile.\n");
        }
        text.push_str(
            "| collector | protocol | hosts | flows/s | CPU a flow | all threads | allocations a datagram | dropped | knee, flows/s |\n",
        );
        text.push_str("|---|---|---:|---:|---:|---:|---:|---:|---:|\n");
        for measurement in &self.measurements {
            for step in &measurement.steps {
                let _ = writeln!(text, "{}", row(measurement, step));
            }
        }
        if !self.ratios.is_empty() {
            text.push_str("\n| Weir : peer | protocol | hosts | flows/s | CPU a flow | knee |\n|---|---|---:|---:|---:|---:|\n");
        }
        for ratio in &self.ratios {
            let Ratio { peer, protocol, hosts, asked_flows_per_second, cpu, knee } = ratio;
            let knee = knee.map_or(String::new(), |knee| format!("{knee:.2}"));
            let _ = writeln!(text, "| {} | {protocol} | {hosts} | {asked_flows_per_second:.0} | {cpu:.2} | {knee} |", peer.name());
        }
        text
    }
}

fn row(measurement: &Measurement, step: &Step) -> String {
    let allocations = step.allocations_per_datagram.map_or(String::new(), |count| format!("{count:.4}"));
    let knee = measurement
        .knee
        .as_ref()
        .map_or(String::new(), |knee| format!("{}{:.0}", if knee.limited_by_sender { "≥ " } else { "" }, knee.flows_per_second));
    format!(
        "| {} | {} | {} | {:.0} | {:.0} ns | {:.0} ns | {allocations} | {} | {knee} |",
        measurement.subject.name(),
        measurement.protocol,
        measurement.hosts,
        step.flows_per_second,
        step.cpu_nanoseconds_per_flow,
        step.cpu_nanoseconds_per_flow_all_threads,
        step.dropped_datagrams,
    )
}

fn ratios(measurements: &[Measurement]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for own in measurements.iter().filter(|measurement| measurement.subject == Subject::Weir) {
        let beside = |other: &&Measurement| other.subject != Subject::Weir && (other.protocol, other.hosts) == (own.protocol, own.hosts);
        for peer in measurements.iter().filter(beside) {
            for (step, other) in own.steps.iter().zip(&peer.steps) {
                // Where the sender was the peer's limit its knee is not known; where it was only ours, the ratio is a lower bound.
                let knees = own.knee.as_ref().zip(peer.knee.as_ref().filter(|knee| !knee.limited_by_sender));
                ratios.push(Ratio {
                    peer: peer.subject,
                    protocol: own.protocol,
                    hosts: own.hosts,
                    asked_flows_per_second: step.asked_flows_per_second,
                    cpu: step.cpu_nanoseconds_per_flow / other.cpu_nanoseconds_per_flow,
                    knee: knees.map(|(knee, other)| knee.flows_per_second / other.flows_per_second),
                });
            }
        }
    }
    ratios
}

/// One line on standard error for a step that is done.
pub(crate) fn progress(subject: Subject, protocol: &str, hosts: u32, step: &Step) {
    eprintln!(
        "{:>6} {protocol} {hosts} hosts: {:>9.0} flows/s, {:>5.0} ns a flow, {} dropped, {} of {} flows, others {:.2} cores",
        subject.name(),
        step.flows_per_second,
        step.cpu_nanoseconds_per_flow,
        step.dropped_datagrams,
        step.counted_flows,
        step.sent_flows,
        step.foreign_processors,
    );
}

/// Writes `pipe.json` and `pipe.md` into `folder`, or prints the table and the JSON.
///
/// # Errors
///
/// If the folder cannot be written to.
pub(crate) fn write(report: &Report, folder: Option<&Path>) -> Result<()> {
    publish("pipe", report, &report.markdown(), folder)
}

/// Writes `<name>.json` and `<name>.md` into `folder`, or prints the table and the JSON.
///
/// # Errors
///
/// If the folder cannot be written to.
pub(crate) fn publish(name: &str, report: &impl Serialize, markdown: &str, folder: Option<&Path>) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    println!("{markdown}");
    let Some(folder) = folder else {
        println!("{json}");
        return Ok(());
    };
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (ending, text) in [("json", json.as_str()), ("md", markdown)] {
        let path = folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
