//! What an operator is told of the tables: one method an event, which logs and counts it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::{error, info, warn};

use super::Tables;
use super::load::LoadError;

/// Lines of a file that are named in the log; all of them are counted.
const LINES_NAMED_MAX: usize = 10;

/// Counts of the tables, read by others while they are in force.
#[derive(Debug, Default)]
pub struct Metrics {
    generation: AtomicU64,
    runs: AtomicU64,
    places: AtomicU64,
    autonomous_systems: AtomicU64,
    memory_octets: AtomicU64,
    loads: AtomicU64,
    load_failures: AtomicU64,
    lines_refused: AtomicU64,
    places_refused: AtomicU64,
}

impl Metrics {
    /// A file was read.
    pub fn loaded(&self, file: &Path, prefixes: usize, took: Duration) {
        self.loads.fetch_add(1, Ordering::Relaxed);
        info!(file = %file.display(), prefixes, milliseconds = took.as_millis(), "read for enrichment");
    }

    /// A file was not read: what it told before holds on. It is tried again when it changes, and after the pause if there is one.
    pub fn load_failed(&self, file: &Path, failure: &LoadError, pause: Option<Duration>) {
        self.load_failures.fetch_add(1, Ordering::Relaxed);
        let (file, again_seconds) = (file.display(), pause.map(|pause| pause.as_secs()));
        error!(%file, error = %failure, again_seconds, "not read for enrichment, what was read before holds; it is tried again when it changes");
    }

    /// Lines of a file were passed over.
    pub fn lines_refused(&self, file: &Path, lines: &[(u64, String)], count: u64) {
        self.lines_refused.fetch_add(count, Ordering::Relaxed);
        for (line, reason) in lines.iter().take(LINES_NAMED_MAX) {
            warn!("{}:{line}: {reason}; the line is passed over", file.display());
        }
        if count > LINES_NAMED_MAX as u64 {
            warn!(file = %file.display(), lines = count, "so many lines in all are passed over; weir check names more of them");
        }
    }

    /// Other tables are in force.
    pub fn swapped(&self, tables: &Tables, places_refused: u64) {
        let (v4, v6) = tables.table.runs();
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let (places, octets) = (tables.places.places.len() as u64, tables.table.memory_octets() as u64);
        self.runs.store((v4 + v6) as u64, Ordering::Relaxed);
        self.places.store(places, Ordering::Relaxed);
        self.autonomous_systems.store(tables.names.len() as u64, Ordering::Relaxed);
        self.memory_octets.store(octets, Ordering::Relaxed);
        self.places_refused.store(places_refused, Ordering::Relaxed);
        info!(generation, runs_v4 = v4, runs_v6 = v6, places, memory_octets = octets, "enriching with new tables");
        if places_refused > 0 {
            error!(runs = places_refused, "collector.enrich.places_max is reached: of the addresses of these runs nothing is known");
        }
    }

    /// Every count with its Prometheus name; those that end in `_total` only grow.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("weir_collector_enrich_generation", "How often the tables were swapped", read(&self.generation)),
            ("weir_collector_enrich_entries", "Runs of addresses in the table, both families", read(&self.runs)),
            ("weir_collector_enrich_places", "Different places of the table", read(&self.places)),
            ("weir_collector_enrich_autonomous_systems", "Autonomous systems with a name", read(&self.autonomous_systems)),
            ("weir_collector_enrich_memory_octets", "What the table takes in memory, without its places", read(&self.memory_octets)),
            ("weir_collector_enrich_loads_total", "Files read", read(&self.loads)),
            ("weir_collector_enrich_load_failures_total", "Files that could not be read", read(&self.load_failures)),
            ("weir_collector_enrich_lines_refused_total", "Lines of the prefixes' file that were passed over", read(&self.lines_refused)),
            ("weir_collector_enrich_runs_refused", "Runs whose place is over places_max", read(&self.places_refused)),
        ]
        .into_iter()
    }
}
