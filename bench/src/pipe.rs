//! `weir-bench pipe`: the collector and its peers behind one sender on loopback: CPU a flow, allocations, the zero-loss knee.
//!
//! Every step starts the collector anew, sends it one whole ring of datagrams so that it is warm, then measures. The knee is
//! the highest rate at which the kernel dropped nothing and the collector's own count of flows is what was sent.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::synthesize::{Hosts, Popularity, Protocol};
use clap::Args;
use schemas::net::Prefix;
use serde::Serialize;

use crate::measure::{self, Thread};
use crate::peers;
use crate::report::{self, Report};
use crate::send::{Plan, Sender};
use crate::subject::{Running, Subject};

/// A step whose sender reached less than this share of the rate says nothing about the collector.
const REACHED_MIN: f64 = 0.95;
/// How often a step of the search is tried before its loss, or its sender's failure, counts: the machine has other things to do.
const TRIES: usize = 3;
/// Halvings of the last interval of the search; four leave 3 % of the rate.
const BISECTIONS: usize = 4;
/// A sender that misses its rate and reaches less than this multiple of what it reached before is at its end.
const GAIN_MIN: f64 = 1.1;
/// First rate of the search.
const KNEE_FROM: f64 = 200_000.0;
/// The search ends here in any case.
const KNEE_TO: f64 = 20_000_000.0;

/// What is measured, and how long.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Export protocols: v5, v9, ipfix, ipfix-variable, sflow
    #[arg(long, value_delimiter = ',', default_value = "v9")]
    protocols: Vec<Protocol>,
    /// Sizes of the table of hosts
    #[arg(long, value_delimiter = ',', default_value = "65536")]
    hosts: Vec<u32>,
    /// Flows a second at which the CPU time is measured
    #[arg(long, value_delimiter = ',', default_value = "500000")]
    rates: Vec<u32>,
    /// Seconds of each step
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds of CPU measurements; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Socket buffer of every collector, in octets; the kernel keeps twice as much and bounds it by net.core.rmem_max
    #[arg(long, default_value_t = 4_194_304)]
    buffer: usize,
    /// Collectors to measure
    #[arg(long, value_delimiter = ',', default_value = "weir,nfcapd")]
    subjects: Vec<Subject>,
    /// Leaves the search for the knee out
    #[arg(long)]
    no_knee: bool,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where collectors that write files do so; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    scratch: PathBuf,
    /// Folder for `pipe.json` and `pipe.md`; without it both are printed
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One run of one collector at one rate.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// Flows a second that were asked of the sender.
    pub(crate) asked_flows_per_second: f64,
    /// Flows a second that it reached.
    pub(crate) flows_per_second: f64,
    /// Flows sent, those of the warm-up included.
    pub(crate) sent_flows: u64,
    /// Flows that the collector says it has.
    pub(crate) counted_flows: u64,
    /// Datagrams that the kernel dropped at its socket.
    pub(crate) dropped_datagrams: u64,
    /// CPU of the threads that receive, decode and count (for nfcapd: write), after the warm-up.
    pub(crate) cpu_nanoseconds_per_flow: f64,
    /// CPU of all its threads.
    pub(crate) cpu_nanoseconds_per_flow_all_threads: f64,
    /// Allocations of the same threads, after the warm-up; `None` where they cannot be counted.
    pub(crate) allocations_per_datagram: Option<f64>,
    /// Processors that others kept busy meanwhile; a step with much of that says little.
    pub(crate) foreign_processors: f64,
    /// Resident memory at the end; for Weir the whole bench program.
    pub(crate) resident_octets: u64,
}

impl Step {
    fn is_lossless(&self) -> bool {
        self.dropped_datagrams == 0 && self.counted_flows == self.sent_flows
    }

    fn is_reached(&self) -> bool {
        self.flows_per_second >= REACHED_MIN * self.asked_flows_per_second
    }
}

/// The highest rate without loss.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Knee {
    /// The rate, in flows a second.
    pub(crate) flows_per_second: f64,
    /// Whether the sender, not the collector, was the limit: then the knee lies higher.
    pub(crate) limited_by_sender: bool,
    /// All steps of the search.
    pub(crate) steps: Vec<Step>,
}

/// Everything about one collector, protocol and number of hosts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    /// The collector.
    pub(crate) subject: Subject,
    /// The protocol's name.
    pub(crate) protocol: &'static str,
    /// Number of hosts.
    pub(crate) hosts: u32,
    /// The median step (by CPU a flow) at each rate.
    pub(crate) steps: Vec<Step>,
    /// The knee, unless it was left out.
    pub(crate) knee: Option<Knee>,
}

/// Measures and reports.
///
/// # Errors
///
/// If a collector cannot be started, or the report cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0 && arguments.seconds > 0, "at least one round of one second");
    let mut subjects = arguments.subjects.clone();
    if subjects.contains(&Subject::Nfcapd) && peers::version().is_none() {
        eprintln!("nfcapd is not installed (Debian: nfdump): measuring without it");
        subjects.retain(|subject| *subject != Subject::Nfcapd);
    }
    let mut measurements = Vec::new();
    for &protocol in &arguments.protocols {
        for &hosts in &arguments.hosts {
            measurements.extend(measure(arguments, &subjects, protocol, hosts)?);
        }
    }
    report::write(&Report::new(arguments.buffer, measurements), arguments.out.as_deref())
}

/// One protocol and number of hosts, all collectors; their rounds alternate, so that a slow minute of the machine hits all.
fn measure(arguments: &Arguments, subjects: &[Subject], protocol: Protocol, hosts: u32) -> Result<Vec<Measurement>> {
    let v4: Prefix = "10.0.0.0/8".parse()?;
    ensure!(hosts > 0 && hosts < 1 << 24, "hosts: from 1 to 16,777,215");
    let able: Vec<Subject> = subjects.iter().copied().filter(|subject| subject.understands(protocol)).collect();
    let plan = Plan {
        protocol,
        hosts: Hosts { v4, v6: None, count: hosts, popularity: Popularity::Even },
        exporters: 1,
        sampling_interval: 1,
        // About three flows for each host in a ring, so that nearly all of them have their place after one turn.
        datagrams: usize::try_from(hosts / 8)?.max(1_024),
        seed: arguments.seed,
    };
    let mut bench = Bench {
        arguments,
        processors: std::thread::available_parallelism()?.get(),
        sender: Sender::new(&plan, ([127, 0, 0, 1], 9).into())?,
        plan,
    };
    let mut steps = vec![Vec::new(); able.len()];
    for &rate in &arguments.rates {
        let mut rounds = vec![Vec::new(); able.len()];
        for _ in 0..arguments.rounds {
            for (subject, rounds) in able.iter().zip(&mut rounds) {
                rounds.push(bench.step(*subject, f64::from(rate))?);
            }
        }
        for (steps, rounds) in steps.iter_mut().zip(rounds) {
            steps.push(median(rounds).context("no round")?);
        }
    }
    let mut measurements = Vec::new();
    for (subject, steps) in able.into_iter().zip(steps) {
        let knee = if arguments.no_knee { None } else { Some(bench.knee(subject)?) };
        measurements.push(Measurement { subject, protocol: protocol.name(), hosts, steps, knee });
    }
    Ok(measurements)
}

fn median(mut steps: Vec<Step>) -> Option<Step> {
    steps.sort_by(|a, b| a.cpu_nanoseconds_per_flow.total_cmp(&b.cpu_nanoseconds_per_flow));
    steps.get(steps.len() / 2).cloned()
}

struct Bench<'a> {
    arguments: &'a Arguments,
    processors: usize,
    plan: Plan,
    sender: Sender,
}

impl Bench<'_> {
    /// Starts a collector, warms it, measures it at a rate, stops it.
    fn step(&mut self, subject: Subject, rate: f64) -> Result<Step> {
        let processors = self.processors;
        // The sender has the last processor to itself, and what it starts inherits where it may run itself.
        let (others, last) = (0..processors.saturating_sub(1).max(1), processors - 1..processors);
        measure::pin(std::process::id(), others)?;
        let running = Running::start(subject, &self.plan, self.arguments.buffer, &self.arguments.scratch)?;
        measure::pin(std::process::id(), last)?;
        self.sender.aim(running.address())?;
        let ring = self.plan.datagrams as f64 * self.sender.flows_per_datagram();
        let warm_up = self.sender.run(rate.min(KNEE_FROM), Duration::from_secs(60), flows(ring))?;
        running.drain()?;
        let (before, busy) = (running.usage()?, measure::busy());
        let own = measure::cpu(&Thread::of(std::process::id(), ""))?;
        let clock = Instant::now();
        let report = self.sender.run(rate, Duration::from_secs(self.arguments.seconds), u64::MAX)?;
        running.drain()?;
        let after = running.usage()?;
        let own = measure::cpu(&Thread::of(std::process::id(), ""))?.saturating_sub(own);
        let peer = if subject == Subject::Weir { Duration::ZERO } else { after.all - before.all };
        let foreign = measure::busy().saturating_sub(busy).saturating_sub(own + peer);
        let foreign_processors = foreign.as_secs_f64() / clock.elapsed().as_secs_f64();
        let resident_octets = running.resident_octets();
        let dropped_datagrams = running.dropped_datagrams();
        let counted_flows = running.stop()?;
        let per_flow = |before: Duration, after: Duration| (after - before).as_nanos() as f64 / report.flows.max(1) as f64;
        let allocations = before.allocations.zip(after.allocations).map(|(before, after)| after - before);
        let step = Step {
            asked_flows_per_second: rate,
            flows_per_second: report.flows_per_second,
            sent_flows: warm_up.flows + report.flows,
            counted_flows,
            dropped_datagrams,
            cpu_nanoseconds_per_flow: per_flow(before.pipe, after.pipe),
            cpu_nanoseconds_per_flow_all_threads: per_flow(before.all, after.all),
            allocations_per_datagram: allocations.map(|count| count as f64 / report.datagrams.max(1) as f64),
            foreign_processors,
            resident_octets,
        };
        report::progress(subject, self.plan.protocol.name(), self.plan.hosts.count, &step);
        Ok(step)
    }

    /// Raises the rate by half until something is lost or the sender is at its end, then halves the interval.
    fn knee(&mut self, subject: Subject) -> Result<Knee> {
        let mut steps = Vec::new();
        let (mut good, mut bad) = (0.0, None);
        let mut rate = KNEE_FROM;
        let mut limited_by_sender = false;
        while rate <= KNEE_TO {
            let step = self.try_step(subject, rate)?;
            let (lossless, reached, at) = (step.is_lossless(), step.is_reached(), step.flows_per_second);
            steps.push(step);
            if !lossless {
                bad = Some(rate);
                break;
            }
            // A sender that was held up once may reach more at the next rate; one that gets no further is at its end.
            limited_by_sender = !reached;
            if limited_by_sender && at < GAIN_MIN * good {
                good = at.max(good);
                break;
            }
            good = at.max(good);
            rate *= 1.5;
        }
        if let Some(mut bad) = bad {
            for _ in 0..BISECTIONS {
                let middle = f64::midpoint(good, bad);
                let step = self.try_step(subject, middle)?;
                // A rate that the sender misses is no better a witness than what it reached.
                if step.is_lossless() {
                    good = step.flows_per_second.max(good);
                } else {
                    bad = middle;
                }
                steps.push(step);
            }
        }
        Ok(Knee { flows_per_second: good, limited_by_sender: limited_by_sender && bad.is_none(), steps })
    }

    fn try_step(&mut self, subject: Subject, rate: f64) -> Result<Step> {
        let mut step = self.step(subject, rate)?;
        for _ in 1..TRIES {
            if step.is_lossless() && step.is_reached() {
                break;
            }
            let again = self.step(subject, rate)?;
            let better = (again.is_lossless(), again.flows_per_second) > (step.is_lossless(), step.flows_per_second);
            step = if better { again } else { step };
        }
        Ok(step)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is wanted")]
fn flows(number: f64) -> u64 {
    number.ceil() as u64
}
