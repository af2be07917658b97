//! One exporter as the detector's eye: how often it is heard, and how much of what it sends can be used.

use std::collections::BTreeMap;

use schemas::counter::ExporterReport;
use schemas::flow::Version;
use schemas::time::Timestamp;

/// Times that an exporter must have been heard before its silence means anything.
const HEARINGS_MIN: u32 = 10;
/// How long before an incident it must have been heard for its silence to hide the incident's end.
const ACQUAINTANCE_MILLISECONDS: u64 = 60_000;
/// How many of its usual silences are too long.
const GAPS: f64 = 3.0;
/// The longest usual silence is forgotten by half in ten minutes.
const GAP_HALVES_MILLISECONDS: f64 = 600_000.0;
/// Silences shorter than this are none: reports come once a second.
const GAP_MILLISECONDS_MIN: f64 = 1_000.0;
/// What came recently is forgotten by half in this time.
const RECENT_HALVES_MILLISECONDS: f64 = 20_000.0;
/// Sets or records that a share is made of at least.
const UNITS_MIN: f64 = 20.0;
/// From here on two offsets of a clock are a clock that was set.
const JUMP_MILLISECONDS_MIN: u64 = 5_000;

/// What came, and how much of it is of little use; counts of one shard, or recent sums.
#[derive(Clone, Copy, Debug, Default)]
struct Units<T> {
    /// Numbered units, datagrams or records by the protocol.
    came: T,
    lost: T,
    sets: T,
    sets_without_template: T,
    records: T,
    records_sampling_unknown: T,
    records_clock_corrected: T,
}

impl Units<u64> {
    fn of(report: &ExporterReport) -> Self {
        let ledger = &report.ledger;
        Self {
            came: report.domains.iter().map(crate::loss::units_came).sum(),
            lost: report.domains.iter().map(|domain| domain.lost_by_sequence).sum(),
            sets: ledger.sets_seen,
            sets_without_template: ledger.sets_without_template,
            records: ledger.records_decoded,
            records_sampling_unknown: ledger.records_sampling_unknown,
            records_clock_corrected: ledger.records_clock_corrected,
        }
    }
}

impl Units<f64> {
    fn scale(&mut self, factor: f64) {
        for unit in [
            &mut self.came,
            &mut self.lost,
            &mut self.sets,
            &mut self.sets_without_template,
            &mut self.records,
            &mut self.records_sampling_unknown,
            &mut self.records_clock_corrected,
        ] {
            *unit *= factor;
        }
    }

    fn add(&mut self, now: &Units<u64>, before: &Units<u64>) {
        // A shard that forgot the exporter counts from 0 again.
        let gain = |now: u64, before: u64| now.saturating_sub(before) as f64;
        self.came += gain(now.came, before.came);
        self.lost += gain(now.lost, before.lost);
        self.sets += gain(now.sets, before.sets);
        self.sets_without_template += gain(now.sets_without_template, before.sets_without_template);
        self.records += gain(now.records, before.records);
        self.records_sampling_unknown += gain(now.records_sampling_unknown, before.records_sampling_unknown);
        self.records_clock_corrected += gain(now.records_clock_corrected, before.records_clock_corrected);
    }
}

/// What one shard told last.
#[derive(Debug, Default)]
struct Shard {
    units: Units<u64>,
    sets_waiting: u64,
    /// Clock offsets by observation domain, in milliseconds.
    offsets: BTreeMap<(Version, u32), i64>,
}

/// What is remembered of one exporter.
#[derive(Debug)]
pub(super) struct Eye {
    shards: BTreeMap<usize, Shard>,
    first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    hearings: u32,
    /// Its longest usual silence, in milliseconds.
    gap_milliseconds: f64,
    recent: Units<f64>,
    aged_at: Timestamp,
    /// The last time that a clock of it was set, and by how many milliseconds.
    jump: Option<(Timestamp, u64)>,
}

impl Eye {
    pub(super) fn new(first_seen: Timestamp) -> Self {
        Self {
            shards: BTreeMap::new(),
            first_seen,
            last_seen: first_seen,
            hearings: 0,
            gap_milliseconds: GAP_MILLISECONDS_MIN,
            recent: Units::default(),
            aged_at: first_seen,
            jump: None,
        }
    }

    /// Takes in what a shard reports of it; a silence of more than `silent_milliseconds` is none that it is known for.
    pub(super) fn learn(&mut self, shard: usize, report: &ExporterReport, silent_milliseconds: u64) {
        if report.last_seen > self.last_seen {
            let gap = report.last_seen.since(self.last_seen) as f64;
            // An outage is not usual; one that comes again and again makes what is usual longer step by step.
            self.gap_milliseconds = self.gap_milliseconds.max(gap.min(self.patience(silent_milliseconds) as f64));
            self.last_seen = report.last_seen;
            self.hearings = self.hearings.saturating_add(1);
        }
        let is_known = self.shards.contains_key(&shard);
        let own = self.shards.entry(shard).or_default();
        let units = Units::of(report);
        if is_known {
            self.recent.add(&units, &own.units);
        }
        (own.units, own.sets_waiting) = (units, report.ledger.sets_waiting);
        let offsets =
            report.domains.iter().map(|domain| ((domain.version, domain.observation_domain_id), domain.clock_offset_milliseconds));
        let offsets: BTreeMap<_, _> = offsets.collect();
        let jumps = offsets.iter().filter_map(|(domain, now)| own.offsets.get(domain).map(|before| now.abs_diff(*before)));
        if let Some(jump) = jumps.max().filter(|jump| *jump >= JUMP_MILLISECONDS_MIN) {
            self.jump = Some((report.last_seen, jump));
        }
        own.offsets = offsets;
    }

    /// Forgets a little.
    pub(super) fn age(&mut self, now: Timestamp) {
        let past = now.since(self.aged_at) as f64;
        self.aged_at = now;
        self.recent.scale(0.5_f64.powf(past / RECENT_HALVES_MILLISECONDS));
        self.gap_milliseconds = (self.gap_milliseconds * 0.5_f64.powf(past / GAP_HALVES_MILLISECONDS)).max(GAP_MILLISECONDS_MIN);
    }

    /// How long it may be silent before that is an alarm: the longer, the rarer it is heard by its nature.
    pub(super) fn patience(&self, silent_milliseconds: u64) -> u64 {
        silent_milliseconds.max(crate::incident::whole(self.gap_milliseconds * GAPS))
    }

    /// Whether it has been heard often enough to be missed: records, not a stray datagram.
    pub(super) fn is_regular(&self) -> bool {
        self.hearings >= HEARINGS_MIN && self.shards.values().any(|shard| shard.units.records > 0)
    }

    /// Whether it has been silent at `now` for longer than it uses to be, though it was well known before `moment`.
    ///
    /// One that speaks only of the attack itself is silent after it, and hides nothing.
    pub(super) fn is_mute(&self, moment: Timestamp, now: Timestamp) -> bool {
        self.is_regular()
            && self.first_seen.plus(ACQUAINTANCE_MILLISECONDS) <= moment
            && now.since(self.last_seen) as f64 > self.gap_milliseconds * GAPS
    }

    /// The part of what it sent recently that never came; `None` if too little came to tell, as of every part below.
    pub(super) fn lost(&self) -> Option<f64> {
        share(self.recent.lost, self.recent.came + self.recent.lost)
    }

    /// The part of the recent sets that could not be read, or wait for their template.
    pub(super) fn sets_unknown(&self) -> Option<f64> {
        let waiting: u64 = self.shards.values().map(|shard| shard.sets_waiting).sum();
        share(self.recent.sets_without_template + waiting as f64, self.recent.sets.max(waiting as f64))
    }

    /// The part of the recent records whose sampling rate is unknown.
    pub(super) fn sampling_unknown(&self) -> Option<f64> {
        share(self.recent.records_sampling_unknown, self.recent.records)
    }

    /// The part of the recent records whose times could not be.
    pub(super) fn clock_corrected(&self) -> Option<f64> {
        share(self.recent.records_clock_corrected, self.recent.records)
    }

    /// The offset that is the farthest from 0, in milliseconds.
    pub(super) fn offset_milliseconds(&self) -> i64 {
        let offsets = self.shards.values().flat_map(|shard| shard.offsets.values().copied());
        offsets.max_by_key(|offset| offset.unsigned_abs()).unwrap_or(0)
    }

    /// When a clock of it was set last, and by how many milliseconds.
    pub(super) fn jump(&self) -> Option<(Timestamp, u64)> {
        self.jump
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole >= UNITS_MIN).then(|| (part / whole).clamp(0.0, 1.0))
}
