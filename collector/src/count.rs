//! Counters: what came for every monitored host and prefix, in slots of 100 ms of reconstructed time.
//!
//! Two tiers. Every host, /24 and /48 has a compact entry in a table that one thread owns, with upper bounds of its traffic in
//! any window (`bound`); one whose bound passes a quarter of its limit becomes a suspect, with exact slots (`window`)
//! and a picture of its traffic (`heavy`). The analysts get the suspects each 100 ms, everybody each ten seconds.
//!
//! Each row of a batch lands in exactly one count of its exporter's ledger, however many targets it counts for.

mod bound;
mod clock;
mod heavy;
mod recent;
mod scale;
mod suspect;
mod table;
#[cfg(test)]
mod tests;
mod traffic;
mod watch;
mod window;

use schemas::counter::{Direction, HostReport, Snapshot};
use schemas::flow::{FlowBatch, Segment};
use schemas::ledger::Ledger;
use schemas::limit::Limits;
use schemas::net::{Address, PrefixSet};
use schemas::time::Timestamp;
use serde::Deserialize;

use crate::exporter::Exporters;
use bound::SUSPICION;
use clock::Clock;
use recent::{Recent, Role};
use scale::Scales;
use suspect::Suspects;
use table::{Entry, Key, Seeds, Suspicion, Table};
use traffic::{Ports, Rows, Traffic};
use watch::Watch;

/// Rows that are prepared before their entries are touched, so that the loads overlap.
const GROUP_ROWS: usize = 32;
/// Records of a new suspect's past that are counted at most.
const PAST_RECORDS_MAX: usize = 16_384;

/// `[collector.count]`: how much is counted, and for how long; for each shard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Entries of hosts, one for each direction; 128 octets each, and up to 1.7 times that with the room between them.
    pub hosts_max: usize,
    /// Entries of /24 and /48 prefixes, one for each direction.
    pub prefixes_max: usize,
    /// Targets with exact slots, hosts and prefixes together; about 55 kB each, allocated when needed.
    pub suspects_max: usize,
    /// Records in the log that a new suspect's past is read from; 72 octets each.
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

/// Counts the records of one shard.
pub struct Counter {
    clock: Clock,
    watch: Watch,
    ports: Ports,
    seeds: Seeds,
    targets: Targets,
    group: Group,
}

/// Everything that a record is counted in.
struct Targets {
    hosts: Table,
    prefixes: Table,
    suspects: Suspects,
    recent: Recent,
    scales: Scales,
}

/// What some rows come to, before it is counted.
#[derive(Default)]
struct Group {
    traffics: Vec<Traffic>,
    jobs: Vec<Job>,
    rows: usize,
}

/// One entry to update.
struct Job {
    key: Key,
    hash: u64,
    role: Role,
    /// The row in the group.
    row: u8,
    traffic: u8,
    /// The traffic's number in the log.
    record: u32,
}

impl Counter {
    /// A counter of the traffic of `networks`; while there are none, of all destinations.
    #[must_use]
    pub fn new(config: &Config, networks: PrefixSet, limits: Limits) -> Self {
        let seeds = Seeds::of_process();
        let lateness_seconds = config.lateness_seconds_max.clamp(1, 3_600);
        Self {
            clock: Clock::new(lateness_seconds, config.future_milliseconds_max),
            watch: Watch::new(networks),
            ports: Ports::new(),
            seeds,
            targets: Targets {
                hosts: Table::new(config.hosts_max, seeds),
                prefixes: Table::new(config.prefixes_max, seeds),
                suspects: Suspects::new(config.suspects_max, config.quiet_seconds, seeds),
                recent: Recent::new(config.recent_records_max),
                scales: Scales::new(limits),
            },
            group: Group::default(),
        }
    }

    /// Holds targets to other limits from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        let Targets { hosts, prefixes, scales, .. } = &mut self.targets;
        *scales = Scales::new(limits);
        hosts.rescale(|key| scales.number(key.target().prefix));
        prefixes.rescale(|key| scales.number(key.target().prefix));
    }

    /// Counts all rows of a batch, and what became of them in the ledgers of their exporters.
    pub fn count(&mut self, batch: &FlowBatch, exporters: &mut Exporters, now: Timestamp) {
        self.clock.advance(now);
        self.targets.suspects.keep_frame(&self.clock);
        for segment in batch.segments() {
            let mut tally = Ledger::default();
            self.count_segment(batch, segment, &mut tally);
            *exporters.ledger(segment.origin.exporter) += &tally;
        }
    }

    fn count_segment(&mut self, batch: &FlowBatch, segment: &Segment, tally: &mut Ledger) {
        let rows = Rows::new(batch, segment);
        for row in 0..segment.rows {
            self.prepare(&rows, row, segment, tally);
            if self.group.rows == GROUP_ROWS {
                self.settle(segment.origin.exporter, tally);
            }
        }
        self.settle(segment.origin.exporter, tally);
    }

    /// Works out which entries a row is for.
    fn prepare(&mut self, rows: &Rows, row: usize, segment: &Segment, tally: &mut Ledger) {
        let (forth, back) = rows.exported(row);
        if forth.is_none() && back.is_none() {
            tally.records_without_volume += 1;
            return;
        }
        let (source, destination) = rows.addresses(row);
        let (open, source_is_ours, destination_is_ours) =
            if self.watch.is_open() { (true, true, true) } else { (false, self.watch.holds(source), self.watch.holds(destination)) };
        if !source_is_ours && !destination_is_ours {
            tally.records_unmonitored += 1;
            return;
        }
        let (start, end) = rows.times(row);
        let span = self.clock.span(start, end, &segment.origin);
        tally.records_clock_corrected += u64::from(span.corrected);
        if self.clock.is_too_late(span.end) {
            tally.records_too_late += 1;
            return;
        }
        if !forth.is_none() {
            self.group.traffics.push(rows.traffic(row, forth, false, &self.clock, span, &self.ports));
            self.enlist(destination, source, destination_is_ours, source_is_ours && !open);
        }
        if !back.is_none() {
            self.group.traffics.push(rows.traffic(row, back, true, &self.clock, span, &self.ports));
            self.enlist(source, destination, source_is_ours, destination_is_ours && !open);
        }
        self.group.rows += 1;
    }

    /// Makes the jobs of the last traffic: host and prefix, at either end that is ours.
    fn enlist(&mut self, to: Address, from: Address, to_is_ours: bool, from_is_ours: bool) {
        let Some(traffic) = self.group.traffics.last() else {
            return;
        };
        let record = self.targets.recent.push(traffic);
        if to_is_ours {
            self.enlist_entry(Key::host(to, Direction::Incoming), Role::DestinationHost, record);
            self.enlist_entry(Key::prefix(to, Direction::Incoming), Role::DestinationPrefix, record);
        }
        if from_is_ours {
            self.enlist_entry(Key::host(from, Direction::Outgoing), Role::SourceHost, record);
            self.enlist_entry(Key::prefix(from, Direction::Outgoing), Role::SourcePrefix, record);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a group has few rows")]
    fn enlist_entry(&mut self, key: Key, role: Role, record: u32) {
        let hash = self.seeds.hash(key);
        let (row, traffic) = (self.group.rows as u8, self.group.traffics.len() as u8 - 1);
        self.group.jobs.push(Job { key, hash, role, row, traffic, record });
    }

    /// Counts the group's rows, and clears it.
    fn settle(&mut self, exporter: Address, tally: &mut Ledger) {
        let Self { group, targets, seeds, clock, .. } = self;
        let touched = group.jobs.iter().fold(0, |touched, job| touched ^ targets.table(job.role).touch(job.hash));
        std::hint::black_box(touched);
        let mut counted = 0u32;
        for job in &group.jobs {
            let Some(traffic) = group.traffics.get(usize::from(job.traffic)) else {
                continue;
            };
            let held = targets.apply(job, traffic, exporter, seeds, clock);
            counted |= u32::from(held) << job.row;
        }
        let counted = u64::from(counted.count_ones());
        tally.records_counted += counted;
        tally.records_over_host_bound += group.rows as u64 - counted;
        group.traffics.clear();
        group.jobs.clear();
        group.rows = 0;
    }

    /// Closes the slots up to `now`: call it each 100 ms.
    ///
    /// The snapshot holds targets, released targets, hosts and refused suspects; the shard adds the rest.
    pub fn tick(&mut self, now: Timestamp) -> Snapshot {
        self.clock.advance(now);
        let Targets { hosts, prefixes, suspects, .. } = &mut self.targets;
        let (targets, released) = suspects.tick(&self.clock, |key| {
            let table = if key.is_host() { &mut *hosts } else { &mut *prefixes };
            table.get_mut(key).into_iter().for_each(Entry::clear_suspicion);
        });
        let mut reports = Vec::new();
        let mut report = |key: Key, volume| reports.push(HostReport { target: key.target(), volume });
        hosts.sweep(&self.clock, &mut report);
        prefixes.sweep(&self.clock, &mut report);
        Snapshot { taken_at: now, targets, released, hosts: reports, suspects_refused: suspects.refused, ..Snapshot::default() }
    }

    /// How many hosts, prefixes and suspects are held now.
    #[must_use]
    pub fn held(&self) -> (usize, usize, usize) {
        (self.targets.hosts.held(), self.targets.prefixes.held(), self.targets.suspects.active())
    }
}

impl Targets {
    fn table(&self, role: Role) -> &Table {
        if role.is_host() { &self.hosts } else { &self.prefixes }
    }

    /// Counts a traffic in one entry, and exactly if that is a suspect's; returns whether a host took it.
    fn apply(&mut self, job: &Job, traffic: &Traffic, exporter: Address, seeds: &Seeds, clock: &Clock) -> bool {
        let Self { hosts, prefixes, suspects, recent, scales } = self;
        let is_host = job.role.is_host();
        let table = if is_host { &mut *hosts } else { &mut *prefixes };
        let (mut key, mut hash) = (job.key, job.hash);
        if is_host && table.is_crowded() && key.folds() && !table.holds(key, hash) {
            key = key.folded();
            hash = seeds.hash(key);
        }
        let Some(entry) = table.entry(key, hash, clock, |key| scales.number(key.target().prefix)) else {
            return false;
        };
        entry.update(&traffic.shares, clock);
        let (units, share) = scales.weigh(entry.scale, &traffic.shares, traffic.reach.weights);
        let load = entry.bound.add(&traffic.reach, units, clock);
        if let Some(index) = entry.suspicion.index() {
            suspects.add(index, traffic, load, share, exporter, clock);
            return is_host;
        }
        if load.bound >= SUSPICION {
            if let Some((index, replaced)) = suspects.begin(key, load, clock) {
                let past = recent.chain(entry.head, job.role).take(PAST_RECORDS_MAX);
                past.filter(|(span, _)| !clock.is_too_late(span.end)).for_each(|(span, amount)| suspects.seed(index, span, &amount));
                (entry.suspicion, entry.head) = (Suspicion::of(index), 0);
                suspects.add(index, traffic, load, share, exporter, clock);
                if let Some(replaced) = replaced {
                    let table = if replaced.is_host() { hosts } else { prefixes };
                    table.get_mut(replaced).into_iter().for_each(Entry::clear_suspicion);
                }
                return is_host;
            }
            if !entry.suspicion.is_refused() {
                entry.suspicion = Suspicion::refused();
                suspects.refused += 1;
            }
        }
        entry.head = recent.link(job.record, job.role, entry.head);
        is_host
    }
}
