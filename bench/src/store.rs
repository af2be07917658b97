//! `weir-bench store`: flows from the wire to the disk: sender, `weir serve` and its engine on this machine.
//!
//! The sender is in this process; receive, decode, count and encode are Weir's own, and the engine is its child. What the ledgers
//! say is held against what was sent. With `--lz4` a server of this process takes the place of a remote ClickHouse and throws away what
//! comes: then the collector's CPU holds the compression too, and nothing is stored.

mod compare;
mod report;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::synthesize::mmdb::{Mmdb, Value};
use bench::synthesize::{Hosts, Popularity, Protocol, Random, Route, routes};
use clap::Args;

use crate::measure;
use crate::send::{Plan, Sender};
use crate::serving::{self, Counts, Engine, Folder, Serving};
use crate::sink::Sink;
use report::{Report, Stored, Usage};

/// How long what was sent may take until it is decoded, and until it is stored.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the sender warms everything up.
const WARM_UP: Duration = Duration::from_secs(5);
/// How often it is looked how much waits.
const SAMPLE: Duration = Duration::from_millis(500);
/// Memory of the engine that is asked at the end: merges of whole hours want more than a busy one has.
const MEMORY_OCTETS: u64 = 4 << 30;
/// Threads of the collector through which flows go.
const SHARDS: &[&str] = &["weir-shard"];
/// Threads that encode and send them.
const STORE: &[&str] = &["weir-store"];

/// What is measured.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program; the `weir` beside this one unless told otherwise
    #[arg(long)]
    weir: Option<PathBuf>,
    /// v5, v9, ipfix, ipfix-variable or sflow
    #[arg(long, default_value = "v9")]
    protocol: Protocol,
    /// Flows a second
    #[arg(long, default_value_t = 300_000)]
    rate: u32,
    /// Seconds to send for
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Monitored hosts
    #[arg(long, default_value_t = 65_536)]
    hosts: u32,
    /// Exporters, each with an address of its own
    #[arg(long, default_value_t = 4)]
    exporters: u8,
    /// Different flows; behind them the same come again, with other times
    #[arg(long, default_value_t = 2_000_000)]
    distinct: u32,
    /// Sends LZ4 to a server that throws it away, instead of storing in the embedded engine
    #[arg(long)]
    lz4: bool,
    /// Gives every address an AS and a country out of a file of so many prefixes
    #[arg(long, default_value_t = 0)]
    places: usize,
    /// Holds the table of flows against other orders and codecs, on the flows that were stored
    #[arg(long, conflicts_with = "lz4")]
    compare: bool,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where Weir keeps its files meanwhile; on the disk that is meant
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// Leaves the files there
    #[arg(long)]
    keep: bool,
    /// Folder for `store.json` and `store.md`; without it both are printed
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Measures and reports.
///
/// # Errors
///
/// If a part does not start, or flows are neither stored nor counted as lost.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let program = serving::program(arguments.weir.as_ref())?;
    let folder = Folder::new(&arguments.scratch, "store", arguments.keep)?;
    let sink = if arguments.lz4 { Some(Sink::start()?) } else { None };
    let mut sections = match &sink {
        Some(sink) => format!("[collector.store]\nengine = \"clickhouse\"\n[collector.store.clickhouse]\nurl = \"{}\"\n", sink.url()),
        None => "[collector.store]\nengine = \"embedded\"\n".to_owned(),
    };
    if arguments.places > 0 {
        sections.push_str(&places(arguments.places, folder.path())?);
    }
    let network = "10.0.0.0/8";
    let mut sender = sender(arguments, network)?;
    let serving = Serving::start(&program, folder.path(), network, &sections)?;
    let mut report = measure(arguments, &mut sender, &serving, sink.as_ref()).with_context(|| serving.said())?;
    serving.stop()?;
    if sink.is_none() {
        let engine = Engine::start(&program, &folder.path().join("data"), MEMORY_OCTETS)?;
        report.stored = Some(look(&engine)?);
        if arguments.compare {
            report.compared = compare::compare(&engine)?;
        }
        engine.stop()?;
    }
    crate::report::publish("store", &report, &report.markdown(), arguments.out.as_deref())
}

fn sender(arguments: &Arguments, network: &str) -> Result<Sender> {
    ensure!(arguments.hosts > 0 && arguments.hosts < 1 << 24, "hosts: from 1 to 16,777,215");
    ensure!(arguments.exporters > 0, "at least one exporter");
    let mut plan = Plan {
        protocol: arguments.protocol,
        hosts: Hosts { v4: network.parse()?, v6: None, count: arguments.hosts, popularity: Popularity::Skewed },
        exporters: arguments.exporters,
        sampling_interval: 1,
        datagrams: 1,
        seed: arguments.seed,
    };
    let target = ([127, 0, 0, 1], 9).into();
    let per_datagram = Sender::new(&plan, target)?.flows_per_datagram();
    let datagrams = f64::from(arguments.distinct) / f64::from(arguments.exporters) / per_datagram;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is wanted")]
    {
        plan.datagrams = (datagrams as usize).max(1);
    }
    Ok(Sender::new(&plan, target)?)
}

/// The lines of the config for a file of so many prefixes, four of five of IPv4, which is written into `folder`.
fn places(prefixes: usize, folder: &Path) -> Result<String> {
    let mut mmdb = Mmdb::new(true);
    for Route { prefix, autonomous_system, country } in routes(&mut Random::new(7), prefixes / 5 * 4, prefixes / 5) {
        let record = Value::Map(vec![
            ("autonomous_system_number", Value::Number(autonomous_system)),
            ("country_code", Value::text(std::str::from_utf8(&country)?)),
        ]);
        mmdb.insert(prefix, &record);
    }
    mmdb.alias_v4();
    let path = folder.join("places.mmdb");
    std::fs::write(&path, mmdb.finish("Made-up-ASN", 28))?;
    // It is read before the first datagram, however large it is.
    Ok(format!("[collector.enrich]\nmmdb = [\"{}\"]\nstart_octets_max = 1_073_741_824\n", path.display()))
}

/// What became of the flows so far.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    decoded: u64,
    stored: u64,
    on_the_way: u64,
    spooled: u64,
    dropped: u64,
}

impl Fate {
    fn of(counts: &Counts) -> Self {
        let of = |name| counts.record(name);
        Self {
            decoded: of("records_decoded"),
            stored: of("records_stored"),
            on_the_way: of("records_waiting") + of("records_spooled"),
            spooled: of("records_spooled"),
            dropped: report::DROPS.iter().map(|name| of(name)).sum(),
        }
    }

    fn is_settled(&self, sent: u64) -> bool {
        self.decoded >= sent && self.on_the_way == 0
    }
}

fn measure(arguments: &Arguments, sender: &mut Sender, serving: &Serving, sink: Option<&Sink>) -> Result<Report> {
    sender.aim(([127, 0, 0, 1], serving.port()).into())?;
    let rate = f64::from(arguments.rate);
    // The engine may still be starting: what comes meanwhile waits, and is stored before anything is measured.
    let warm_up = sender.run(rate.min(50_000.0), WARM_UP, u64::MAX)?;
    settle(serving, warm_up.flows)?;
    let first = Fate::of(&serving.counts()?);
    ensure!(first.stored > 0, "nothing is stored: {first:?}");
    let (before, received, busy) = (Usage::of(serving), sink.map(Sink::received), measure::busy());
    let own = measure::process_cpu(std::process::id());
    let (began, is_over) = (Instant::now(), AtomicBool::new(false));
    let (sent, peak) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(serving, &is_over));
        let sent = sender.run(rate, Duration::from_secs(arguments.seconds), u64::MAX);
        is_over.store(true, Ordering::Relaxed);
        (sent, watch.join())
    });
    let (sent, peak) = (sent?, peak.ok().context("the watch has panicked")??);
    let at_the_end = Fate::of(&serving.counts()?);
    let drain = Instant::now();
    let dropped_by_kernel = measure::Sockets::at(serving.port()).drops;
    let last = settle(serving, warm_up.flows + sent.flows)?;
    let counts = serving.counts()?;
    let usage = Usage::of(serving).since(&before);
    let own = measure::process_cpu(std::process::id()).saturating_sub(own);
    let foreign = measure::busy().saturating_sub(busy).saturating_sub(own + usage.all + usage.engine);
    let lag = |waiting: u64| waiting as f64 / sent.flows_per_second;
    Ok(Report {
        machine: crate::report::Machine::this(),
        protocol: arguments.protocol.name(),
        places: arguments.places,
        asked_flows_per_second: arguments.rate,
        flows_per_second: sent.flows_per_second,
        seconds: sent.seconds,
        sent_flows: sent.flows,
        datagrams_dropped_by_kernel: dropped_by_kernel,
        decoded_flows: last.decoded - first.decoded,
        stored_flows: last.stored - first.stored,
        drops: report::DROPS.iter().map(|name| (*name, counts.record(name))).collect(),
        spooled_flows_max: peak.spooled,
        lag_seconds_max: lag(peak.on_the_way),
        lag_seconds_at_end: lag(at_the_end.on_the_way),
        drain_seconds: drain.elapsed().as_secs_f64(),
        all_seconds: began.elapsed().as_secs_f64(),
        usage,
        resident_octets: peak.resident,
        engine_resident_octets: peak.engine_resident,
        foreign_processors: foreign.as_secs_f64() / began.elapsed().as_secs_f64(),
        sink_octets: sink.zip(received).map(|(sink, (_, octets))| sink.received().1 - octets),
        stored: None,
        compared: Vec::new(),
    })
}

/// Waits until all that was sent is decoded and nothing waits; how far it came otherwise, when the kernel dropped some of it.
fn settle(serving: &Serving, sent: u64) -> Result<Fate> {
    let (began, mut last, mut changed) = (Instant::now(), Fate::default(), Instant::now());
    while began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
        let now = Fate::of(&serving.counts()?);
        if now.is_settled(sent) {
            return Ok(now);
        }
        if (now.decoded, now.stored, now.dropped) != (last.decoded, last.stored, last.dropped) {
            changed = Instant::now();
        }
        last = now;
        // What the kernel has dropped does not come.
        if now.on_the_way == 0 && now.decoded > 0 && changed.elapsed() > Duration::from_secs(5) {
            return Ok(now);
        }
    }
    anyhow::bail!("{sent} flows were sent, and this came of them: {last:?}")
}

/// The most that was seen of anything.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    on_the_way: u64,
    spooled: u64,
    resident: u64,
    engine_resident: u64,
}

fn watch(serving: &Serving, is_over: &AtomicBool) -> Result<Peak> {
    let mut peak = Peak::default();
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(SAMPLE);
        let fate = Fate::of(&serving.counts()?);
        peak.on_the_way = peak.on_the_way.max(fate.on_the_way);
        peak.spooled = peak.spooled.max(fate.spooled);
        peak.resident = peak.resident.max(measure::resident_octets(serving.id()));
        peak.engine_resident = peak.engine_resident.max(serving.engine().map_or(0, measure::resident_octets));
    }
    Ok(peak)
}

impl Usage {
    fn of(serving: &Serving) -> Self {
        Self {
            shards: measure::cpu_of(serving.id(), SHARDS),
            store: measure::cpu_of(serving.id(), STORE),
            all: measure::process_cpu(serving.id()),
            engine: serving.engine().map_or(Duration::ZERO, measure::process_cpu),
        }
    }
}

/// Asks the engine of a Weir that has stopped what lies on its disk, as it is and once all is merged.
fn look(engine: &Engine) -> Result<Stored> {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let parts = |what: &str| -> Result<(u64, u64, u64)> {
        let text = engine.ask(&format!(
            "SELECT sum(rows), sum(bytes_on_disk), count() FROM system.parts WHERE active AND database = 'weir' AND {what} FORMAT TabSeparated"
        ))?;
        let mut numbers = text.split('\t').map(number);
        let mut next = || numbers.next().unwrap_or(0);
        Ok((next(), next(), next()))
    };
    let (_, octets_found, parts_found) = parts("table = 'flows'")?;
    engine.ask("OPTIMIZE TABLE weir.flows FINAL")?;
    let (rows, octets, parts_merged) = parts("table = 'flows'")?;
    let (sum_rows, sum_octets, _) = parts("match(table, '_1[mh]$')")?;
    ensure!(rows > 0, "the table of flows is empty");
    Ok(Stored { rows, octets_found, parts_found, octets, parts_merged, sum_rows, sum_octets })
}
