//! Counters: what came for every monitored host and prefix, in slots of 100 ms of reconstructed time.
//!
//! Two tiers. Every host, /24, /48 and configured sum has a compact entry in a table that one thread owns, with upper bounds of its traffic in
//! any window (`bound`); one whose bound passes a quarter of its limit becomes a suspect, with exact slots (`window`)
//! and a picture of its traffic (`heavy`). The analysts get the suspects each 100 ms, everybody each ten seconds.
//!
//! Each row of a batch lands in exactly one count of its exporter's ledger, however many targets it counts for.

mod answer;
mod bound;
pub(crate) mod clock;
mod heavy;
mod kind;
mod recent;
mod sample;
mod scale;
mod sketch;
mod spread;
mod sum;
mod suspect;
mod suspicion;
mod table;
mod talk;
#[cfg(test)]
mod tests;
mod traffic;
pub(crate) mod volume;
pub(crate) mod watch;
mod window;

use schemas::counter::{Direction, HostReport, Snapshot};
use schemas::flow::{FlowBatch, GROUP_ROWS, Segment};
use schemas::ledger::Ledger;
use schemas::limit::Limits;
use schemas::net::{Address, PrefixSet};
use schemas::time::Timestamp;
use serde::Deserialize;

use crate::config::Faults;
use crate::exporter::Exporters;
use answer::Answering;
use clock::{Clock, Moments, Reach, Span};
use kind::Ports;
use recent::{Recent, Role};
use scale::{Scales, Weight};
use sum::Sums;
use suspect::Suspects;
use table::{Entry, Key, Seeds, Table};
use traffic::{Amount, Rows, Shares};
use volume::Exported;
use watch::Watch;

/// Hosts, or prefixes, that a shard can be asked to count: up to 21 GB.
const HOSTS_MAX: u64 = 1 << 27;

/// Suspects that a shard can be asked for: numbers have 16 bits, two values say something else, and each has a companion.
const SUSPECTS_MAX: usize = 32_766;

/// What an entry is of: the log of recent records has no chain for configured sums, so that a new suspect among these has no past.
const HOST: u8 = 0;
const PREFIX: u8 = 1;
const SUM: u8 = 2;

/// `[collector.count]`: how much is counted, and for how long; for each shard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Entries of hosts, one for each direction; 160 octets each: cells of 128 octets, of which there are a quarter more.
    pub hosts_max: usize,
    /// Entries of /24 and /48 prefixes, one for each direction.
    pub prefixes_max: usize,
    /// Targets with exact slots, hosts and prefixes together; about 75 kB each and as much for what each answers, allocated when needed.
    /// Each record of one takes some 50 ns more than others do.
    pub suspects_max: usize,
    /// Records in the log that a new suspect's past is read from; 56 octets each, their number rounded up to a power of two.
    pub recent_records_max: usize,
    /// How far back a record may end and still be counted.
    pub lateness_seconds_max: u64,
    /// How far in the future, by our clock, a record may end before its clock is taken for wrong.
    pub future_milliseconds_max: u64,
    /// How long a suspect stays below an eighth of its limit before it is let go.
    pub quiet_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts_max: 196_608,
            prefixes_max: 24_576,
            suspects_max: 1_024,
            recent_records_max: 131_072,
            lateness_seconds_max: 120,
            future_milliseconds_max: 5_000,
            quiet_seconds: 30,
        }
    }
}

impl Config {
    /// Checks what the types do not.
    pub(crate) fn check(&self, faults: &mut Faults<'_>) {
        faults.range("hosts_max", self.hosts_max, 1, HOSTS_MAX);
        faults.range("prefixes_max", self.prefixes_max, 1, HOSTS_MAX);
        faults.range("suspects_max", self.suspects_max, 1, SUSPECTS_MAX as u64);
        faults.range("recent_records_max", self.recent_records_max, 1_024, 1 << 24);
        faults.range("lateness_seconds_max", self.lateness_seconds_max, 1, 3_600);
        faults.range("future_milliseconds_max", self.future_milliseconds_max, 0, 3_600_000);
        faults.range("quiet_seconds", self.quiet_seconds, 1, 86_400);
    }
}

/// Counts the records of one shard.
pub struct Counter {
    clock: Clock,
    watch: Watch,
    ports: Ports,
    seeds: Seeds,
    targets: Targets,
    /// The rows that are prepared, and those before them, whose entries are on their way from memory meanwhile.
    group: Group,
    fetched: Group,
}

/// Everything that a record is counted in.
struct Targets {
    hosts: Table,
    prefixes: Table,
    suspects: Suspects,
    recent: Recent,
    scales: Scales,
    sums: Sums,
    /// Suspects whose answers are counted though sources are not: while no networks are configured, else none.
    answering: Answering,
    is_open: bool,
}

/// What some rows come to, before it is counted.
struct Group {
    increments: Vec<Increment>,
    /// Entries to update: of hosts, of the prefixes that are always summed, and of configured sums.
    jobs: [Vec<Job>; 3],
    /// Rows that are to be counted.
    rows: u32,
}

/// Rows whose entries are on their way from memory.
struct Fetched<'a> {
    rows: Rows<'a>,
    exporter: Address,
    /// What became of those that are not counted.
    tally: Ledger,
}

/// What one direction of a record adds to each entry that it counts in.
struct Increment {
    shares: Shares,
    reach: Reach,
    /// What a second of an entry's limit adds to its bounds.
    units: [f32; 2],
    /// Its number in the log.
    record: u32,
    /// The row in the group.
    row: u8,
    /// Number of its class.
    class: u8,
    is_back: bool,
}

impl Increment {
    #[inline]
    fn weight(&self) -> Weight {
        let [packets, octets, _] = self.shares.all;
        Weight { packets, octets, class: self.class }
    }
}

/// One entry to update.
struct Job {
    key: Key,
    /// Where the key is looked for first.
    home: usize,
    /// Number of the increment in the group.
    increment: u8,
}

impl Counter {
    /// A counter of the traffic of `networks`; while there are none, of all destinations.
    #[must_use]
    pub fn new(config: &Config, networks: PrefixSet, limits: Limits) -> Self {
        let seeds = Seeds::of_process();
        let lateness_seconds = config.lateness_seconds_max.clamp(1, 3_600);
        let watch = Watch::new(networks);
        let is_open = watch.is_open();
        Self {
            clock: Clock::new(lateness_seconds, config.future_milliseconds_max),
            watch,
            ports: Ports::new(),
            seeds,
            targets: Targets {
                hosts: Table::new(config.hosts_max, seeds),
                prefixes: Table::new(config.prefixes_max, seeds),
                suspects: Suspects::new(config.suspects_max, config.quiet_seconds, seeds),
                recent: Recent::new(config.recent_records_max),
                sums: Sums::new(&limits.sums),
                scales: Scales::new(limits),
                answering: Answering::new(seeds.secret()),
                is_open,
            },
            group: Group::new(),
            fetched: Group::new(),
        }
    }

    /// Holds targets to other limits from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        let Targets { hosts, prefixes, scales, sums, .. } = &mut self.targets;
        *sums = Sums::new(&limits.sums);
        *scales = Scales::new(limits);
        hosts.rescale(|key| scales.number(key.target()));
        prefixes.rescale(|key| scales.number(key.target()));
    }

    /// Counts all rows of a batch, and what became of them in the ledgers of their exporters.
    pub fn count(&mut self, batch: &FlowBatch, exporters: &mut Exporters, now: Timestamp) {
        self.clock.advance(now);
        self.targets.suspects.keep_frame(&self.clock);
        let mut before = None;
        for segment in batch.segments() {
            self.count_segment(batch, segment, &mut before, exporters);
        }
        if let Some(fetched) = before {
            self.settle(fetched, exporters);
        }
    }

    /// Counts the rows before, and prepares those of the segment: while a group is prepared, the entries of the one before it come from
    /// memory, so that nobody waits for them.
    fn count_segment<'a>(&mut self, batch: &'a FlowBatch, segment: &Segment, before: &mut Option<Fetched<'a>>, exporters: &mut Exporters) {
        let moments = self.clock.moments(&segment.origin);
        for skipped in (0..segment.rows).step_by(GROUP_ROWS) {
            let (rows, mut tally) = (Rows::new(batch, segment, skipped), Ledger::default());
            for row in 0..rows.count {
                self.prepare(&rows, row, &moments, &mut tally);
            }
            self.group.fetch(&self.targets);
            if let Some(fetched) = before.take() {
                self.settle(fetched, exporters);
            }
            std::mem::swap(&mut self.group, &mut self.fetched);
            *before = Some(Fetched { rows, exporter: segment.origin.exporter, tally });
        }
    }

    /// Works out which entries a row is for.
    #[inline]
    fn prepare(&mut self, rows: &Rows, row: usize, moments: &Moments, tally: &mut Ledger) {
        let (forth, back) = (rows.volumes.forth(row), if rows.volumes.is_two_way { rows.volumes.back(row) } else { Exported::default() });
        if forth.is_none() && back.is_none() {
            tally.records_without_volume += 1;
            return;
        }
        if rows.is_repeat(row) {
            tally.records_repeated += 1;
            return;
        }
        let (source, destination) = rows.addresses(row);
        let open = self.watch.is_open();
        // A frame without addresses, ARP or spanning tree, is nobody's traffic.
        let is_ours = |address: Address| (open & !address.is_none()) || self.watch.holds(address);
        let (source_is_ours, destination_is_ours) = (is_ours(source), is_ours(destination));
        if !source_is_ours & !destination_is_ours {
            tally.records_unmonitored += 1;
            return;
        }
        let (start, end) = rows.times(row);
        let span = moments.span(start, end);
        tally.records_clock_corrected += u64::from(span.corrected);
        if self.clock.is_too_late(span.end) {
            tally.records_too_late += 1;
            return;
        }
        // While no network is configured, destinations are ours and sources are not.
        if !forth.is_none() {
            let amount = rows.amount(row, forth, false, &self.ports);
            self.enlist(row, false, span, amount, [(destination, destination_is_ours), (source, source_is_ours & !open)]);
            self.enlist_answer(source, open);
        }
        if !back.is_none() {
            let amount = rows.amount(row, back, true, &self.ports);
            self.enlist_back(row, span, amount, [(source, source_is_ours), (destination, destination_is_ours & !open)]);
            self.enlist_answer(destination, open);
        }
        self.group.rows += 1;
    }

    /// Writes an amount to the log and makes the jobs for it, `to` the first of its ends and from the other, if they are ours.
    #[inline(always)]
    fn enlist(&mut self, row: usize, is_back: bool, span: Span, amount: Amount, [to, from]: [(Address, bool); 2]) {
        let Self { group, targets, seeds, clock, .. } = self;
        let reach = clock.reach(span);
        let (record, units) = (targets.recent.push(span, amount, to.0.folded() ^ from.0.folded()), targets.scales.units(reach.weights));
        let (row, number) = (row.to_le_bytes()[0], group.increments.len().to_le_bytes()[0]);
        group.increments.push(Increment { shares: amount.shares(), reach, units, record, row, class: amount.kind.class(), is_back });
        // Which end is ours changes from row to row, so that most rows get by without a branch on it.
        let (end, direction) = if to.1 { (to.0, Direction::Incoming) } else { (from.0, Direction::Outgoing) };
        group.enlist(end, direction, number, targets, seeds);
        if to.1 & from.1 {
            group.enlist_other(from.0, Direction::Outgoing, number, targets, seeds);
        }
    }

    /// Makes the job for what the last increment's other end answers, if that is a suspect and sources are not counted.
    #[inline(always)]
    fn enlist_answer(&mut self, from: Address, open: bool) {
        let Self { group, targets, seeds, .. } = self;
        if open && !targets.answering.is_empty() && targets.answering.holds(from) {
            let (number, key) = (group.increments.len().saturating_sub(1).to_le_bytes()[0], Key::host(from, Direction::Outgoing));
            let [hosts, ..] = &mut group.jobs;
            hosts.push(Job { key, home: targets.hosts.home(seeds.hash(key)), increment: number });
        }
    }

    #[inline(never)]
    fn enlist_back(&mut self, row: usize, span: Span, amount: Amount, ends: [(Address, bool); 2]) {
        self.enlist(row, true, span, amount, ends);
    }

    /// Counts the rows whose entries were fetched, and what became of them in the ledger of their exporter.
    fn settle(&mut self, Fetched { rows, exporter, mut tally }: Fetched<'_>, exporters: &mut Exporters) {
        let Self { fetched: group, targets, clock, .. } = self;
        let [hosts, prefixes, sums] = &group.jobs;
        let mut counted = 0u32;
        for job in hosts {
            if let Some(increment) = group.increments.get(usize::from(job.increment)) {
                let held = targets.apply::<HOST>(job, increment, &rows, exporter, clock);
                counted |= u32::from(held) << (increment.row & 31);
            }
        }
        for job in prefixes {
            if let Some(increment) = group.increments.get(usize::from(job.increment)) {
                targets.apply::<PREFIX>(job, increment, &rows, exporter, clock);
            }
        }
        for job in sums {
            if let Some(increment) = group.increments.get(usize::from(job.increment)) {
                targets.apply::<SUM>(job, increment, &rows, exporter, clock);
            }
        }
        let counted = counted.count_ones();
        tally.records_counted += u64::from(counted);
        tally.records_over_host_bound += u64::from(group.rows - counted);
        group.clear();
        *exporters.ledger(exporter) += &tally;
    }

    /// Closes the slots up to `now`: call it each 100 ms.
    ///
    /// The snapshot holds targets, released targets, hosts and refused suspects; the shard adds the rest.
    pub fn tick(&mut self, now: Timestamp) -> Snapshot {
        self.clock.advance(now);
        let Targets { hosts, prefixes, suspects, answering, .. } = &mut self.targets;
        let snapshot = suspects.tick(&self.clock, |key| {
            let table = if key.is_host() { &mut *hosts } else { &mut *prefixes };
            table.get_mut(key).into_iter().for_each(Entry::clear_suspicion);
            key.single().into_iter().for_each(|address| answering.remove(address));
        });
        let mut reports = Vec::new();
        let mut report = |key: Key, volume| reports.push(HostReport { target: key.target(), volume });
        hosts.sweep(&self.clock, &mut report);
        prefixes.sweep(&self.clock, &mut report);
        Snapshot { taken_at: now, hosts: reports, ..snapshot }
    }

    /// How many hosts, prefixes and suspects are held now.
    #[must_use]
    pub fn held(&self) -> (usize, usize, usize) {
        (self.targets.hosts.held(), self.targets.prefixes.held(), self.targets.suspects.active())
    }
}

impl Group {
    fn new() -> Self {
        // A row has two directions at most, and each counts at two ends at most.
        let jobs = || Vec::with_capacity(4 * GROUP_ROWS);
        Self { increments: Vec::with_capacity(2 * GROUP_ROWS), jobs: [jobs(), jobs(), Vec::new()], rows: 0 }
    }

    /// Makes the jobs of an increment at one end: host and prefix.
    #[inline(always)]
    fn enlist(&mut self, end: Address, direction: Direction, increment: u8, targets: &Targets, seeds: &Seeds) {
        let [hosts, prefixes, _] = &mut self.jobs;
        let (host, prefix) = (Key::host(end, direction), Key::prefix(end, direction));
        hosts.push(Job { key: host, home: targets.hosts.home(seeds.hash(host)), increment });
        prefixes.push(Job { key: prefix, home: targets.prefixes.home(seeds.hash(prefix)), increment });
        if !targets.sums.is_empty() {
            self.enlist_sums(end, direction, increment, targets);
        }
    }

    #[inline(never)]
    fn enlist_sums(&mut self, end: Address, direction: Direction, increment: u8, targets: &Targets) {
        let [.., sums] = &mut self.jobs;
        sums.extend(targets.sums.of(end, direction).map(|key| Job { key, home: targets.prefixes.home_of(key), increment }));
    }

    #[inline(never)]
    fn enlist_other(&mut self, end: Address, direction: Direction, increment: u8, targets: &Targets, seeds: &Seeds) {
        self.enlist(end, direction, increment, targets, seeds);
    }

    /// Has the entries come from memory.
    ///
    /// All of them in a loop of nothing else: a prefetch waits for the page's address, and so many are looked up side by side. One a row,
    /// when its key was known, cost a hundred nanoseconds a row where the host's pages are small.
    fn fetch(&self, targets: &Targets) {
        // Configured sums are few, and in the cache.
        let [hosts, prefixes, _] = &self.jobs;
        hosts.iter().for_each(|job| targets.hosts.fetch(job.home));
        prefixes.iter().for_each(|job| targets.prefixes.fetch(job.home));
    }

    fn clear(&mut self) {
        self.increments.clear();
        self.jobs.iter_mut().for_each(Vec::clear);
        self.rows = 0;
    }
}

impl Targets {
    fn table(&mut self, is_host: bool) -> &mut Table {
        if is_host { &mut self.hosts } else { &mut self.prefixes }
    }

    /// Counts an increment in one entry, and exactly if that is a suspect's; returns whether there was room for it.
    #[inline]
    fn apply<const LEVEL: u8>(&mut self, job: &Job, increment: &Increment, rows: &Rows, exporter: Address, clock: &Clock) -> bool {
        let Self { hosts, prefixes, scales, recent, .. } = self;
        let table = if LEVEL == HOST { hosts } else { prefixes };
        let (mut key, mut home) = (job.key, job.home);
        if LEVEL == HOST && table.is_crowded() && key.folds() && !table.holds(key, home) {
            key = key.folded();
            home = table.home_of(key);
        }
        let Some(entry) = table.entry(key, home, clock, |key| scales.number(key.target())) else {
            return false;
        };
        let Increment { shares, reach, units, record, .. } = increment;
        entry.update(shares, clock);
        let is_over = entry.bound.add(reach, scales.weigh(entry.scale, increment.weight(), *units), clock);
        if is_over | entry.suspicion.is_exact() {
            self.suspect(key, is_over, increment, rows, exporter, clock);
        } else if LEVEL != SUM {
            entry.head = recent.link(*record, Role::of(key.direction(), LEVEL == HOST), entry.head);
        }
        true
    }
}
