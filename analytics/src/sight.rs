//! What the detector does not see, or not well: from what shards tell of their exporters to alarms and to doubt.
//!
//! Silence is never taken for peace: an exporter that falls silent, loses, or tells what cannot be read or scaled raises an alarm, and
//! what it saw is told with less confidence.

mod alarm;
mod eye;

use std::collections::BTreeMap;

use schemas::alarm::AlarmKind;
use schemas::counter::{Detail, Snapshot};
use schemas::net::Address;
use schemas::time::Timestamp;

pub use crate::config::Sight as Config;
use crate::loss::Loss;
use crate::metrics::Metrics;
use alarm::{Alarms, Verdict};
use eye::Eye;

pub use alarm::{ALARMS_MAX, Board};

/// Exporters that are watched; of further ones only the loss is known.
const EXPORTERS_MAX: usize = 16_384;
/// How long an exporter is missed before it is taken to be gone for good.
const FORGOTTEN_MILLISECONDS: u64 = 86_400_000;
/// How often everything is looked at.
const LOOK_MILLISECONDS: u64 = 1_000;
/// How long a count that grew is a fault.
const GROWTH_MILLISECONDS: u64 = 60_000;
/// Confidence that is left where no sampling rate is known: the counts are too small by it, so that what is over a limit is so all the more.
const SAMPLING_UNKNOWN: f64 = 0.2;
/// Doubt in times that a wrong clock tells.
const CLOCK_WRONG: f64 = 0.1;

/// A count that should not grow.
#[derive(Debug, Default)]
struct Growth {
    last: u64,
    /// What it grew by, and when, in the last minute; at most one entry a look.
    steps: Vec<(Timestamp, u64)>,
}

impl Growth {
    /// Takes its value; how much it grew within the last minute is returned.
    fn learn(&mut self, value: u64, now: Timestamp) -> u64 {
        let grown = value.saturating_sub(self.last);
        self.last = value;
        if grown > 0 {
            self.steps.push((now, grown));
        }
        self.steps.retain(|(at, _)| now.since(*at) < GROWTH_MILLISECONDS);
        self.steps.iter().map(|(_, grown)| grown).sum()
    }
}

/// What one shard told last of itself.
#[derive(Debug, Default)]
struct Shard {
    taken_at: Timestamp,
    kernel_drops: u64,
    suspects_refused: u64,
}

/// Watches the exporters, the shards and the detector itself.
#[derive(Debug)]
pub struct Sight {
    config: Config,
    loss: Loss,
    eyes: BTreeMap<Address, Eye>,
    shards: BTreeMap<usize, Shard>,
    kernel_drops: Growth,
    suspects_refused: Growth,
    targets_refused: Growth,
    alarms: Alarms,
    board: Board,
    ticked_at: Timestamp,
    looked_at: Timestamp,
    /// The longest pause between two calls since the last look.
    pause_milliseconds: u64,
    metrics: Metrics,
}

impl Sight {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(config: Config, metrics: Metrics) -> Self {
        Self {
            config,
            loss: Loss::default(),
            eyes: BTreeMap::new(),
            shards: BTreeMap::new(),
            kernel_drops: Growth::default(),
            suspects_refused: Growth::default(),
            targets_refused: Growth::default(),
            alarms: Alarms::default(),
            board: Board::default(),
            ticked_at: Timestamp::default(),
            looked_at: Timestamp::default(),
            pause_milliseconds: 0,
            metrics,
        }
    }

    /// The alarms, to be read by other threads.
    #[must_use]
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Takes in what a snapshot says of its shard and its exporters.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        self.loss.learn(snapshot);
        let shard = self.shards.entry(snapshot.shard).or_default();
        shard.taken_at = shard.taken_at.max(snapshot.taken_at);
        (shard.kernel_drops, shard.suspects_refused) = (snapshot.kernel_drops, snapshot.suspects_refused);
        let silent = self.silent_milliseconds();
        for report in &snapshot.exporters {
            if !self.eyes.contains_key(&report.exporter) && self.eyes.len() >= EXPORTERS_MAX {
                continue;
            }
            let eye = self.eyes.entry(report.exporter).or_insert_with(|| Eye::new(report.last_seen));
            eye.learn(snapshot.shard, report, silent);
        }
    }

    /// Once a second: raises and ends alarms.
    pub fn tick(&mut self, now: Timestamp) {
        if self.ticked_at != Timestamp::default() {
            self.pause_milliseconds = self.pause_milliseconds.max(now.since(self.ticked_at));
        }
        self.ticked_at = now;
        if now.since(self.looked_at) < LOOK_MILLISECONDS {
            return;
        }
        self.looked_at = now;
        self.look_at_exporters(now);
        self.look_at_shards(now);
        self.pause_milliseconds = 0;
        self.board.show(self.alarms.raised());
    }

    /// The doubt, 0 to 1, in what the exporters counted that saw a target: by what they lost, by rates that are unknown, by wrong clocks.
    #[must_use]
    pub fn doubt(&self, details: &[(usize, Box<Detail>)]) -> f64 {
        let named = details.iter().flat_map(|(_, detail)| &detail.exporters);
        let worst = named.filter_map(|(exporter, ..)| Some(self.doubt_in(*exporter, self.eyes.get(exporter)?))).fold(0.0, f64::max);
        1.0 - (1.0 - self.loss.of(details)) * (1.0 - worst)
    }

    fn doubt_in(&self, exporter: Address, eye: &Eye) -> f64 {
        let sampling = eye.sampling_unknown().unwrap_or(0.0) * SAMPLING_UNKNOWN;
        let clock = if self.alarms.holds(AlarmKind::ClockWrong, exporter) { CLOCK_WRONG } else { 0.0 };
        1.0 - (1.0 - sampling) * (1.0 - clock)
    }

    /// Whether all of these exporters have been silent for longer than they use to be, though they were well known before `moment`.
    #[must_use]
    pub fn is_blind(&self, exporters: &[Address], moment: Timestamp) -> bool {
        let now = self.seen_until();
        let mut known = exporters.iter().filter_map(|exporter| self.eyes.get(exporter)).peekable();
        known.peek().is_some() && known.all(|eye| eye.is_mute(moment, now))
    }

    /// How long a quiet incident is held open for exporters that are silent, in milliseconds.
    #[must_use]
    pub fn hold_milliseconds(&self) -> u64 {
        self.config.hold_seconds.saturating_mul(1_000)
    }

    /// The last moment that any shard has told of: counters that hang are no silence of the exporters.
    fn seen_until(&self) -> Timestamp {
        self.shards.values().map(|shard| shard.taken_at).max().unwrap_or_default()
    }

    fn silent_milliseconds(&self) -> u64 {
        self.config.silent_seconds.saturating_mul(1_000)
    }

    fn look_at_exporters(&mut self, now: Timestamp) {
        let until = self.seen_until();
        let gone: Vec<Address> = self
            .eyes
            .iter()
            .filter(|(_, eye)| until.since(eye.last_seen) > FORGOTTEN_MILLISECONDS)
            .map(|(exporter, _)| *exporter)
            .collect();
        for exporter in gone {
            self.eyes.remove(&exporter);
            self.loss.forget(exporter);
            self.alarms.forget(exporter, now, &self.metrics);
        }
        for (exporter, eye) in &mut self.eyes {
            eye.age(now);
            let silence = until.since(eye.last_seen);
            for (kind, verdict) in verdicts(eye, silence, &self.config, now) {
                self.alarms.judge(kind, Some(*exporter), verdict, now, &self.metrics);
            }
        }
    }

    fn look_at_shards(&mut self, now: Timestamp) {
        let behind = self.shards.values().map(|shard| now.since(shard.taken_at)).max().unwrap_or(0).max(self.pause_milliseconds);
        let words = |seconds: f64| format!("counters are judged {seconds:.1} s late");
        let late = of_milliseconds(behind, self.config.behind_seconds, words);
        let sum = |count: fn(&Shard) -> u64| self.shards.values().map(count).sum::<u64>();
        let drops = self.kernel_drops.learn(sum(|shard| shard.kernel_drops), now);
        let suspects = self.suspects_refused.learn(sum(|shard| shard.suspects_refused), now);
        let targets = self.targets_refused.learn(self.metrics.all_targets_refused(), now);
        let grown = |count: u64, words: &str| {
            if count > 0 { Verdict::Bad(count as f64, format!("{count} {words} in the last minute")) } else { Verdict::Good }
        };
        for (kind, verdict) in [
            (AlarmKind::DetectorBehind, late),
            (AlarmKind::KernelDrops, grown(drops, "datagrams were dropped by the kernel")),
            (AlarmKind::SuspectsRefused, grown(suspects, "targets found no room among the suspects")),
            (AlarmKind::TargetsRefused, grown(targets, "times a suspect found no room at the detector")),
        ] {
            self.alarms.judge(kind, None, verdict, now, &self.metrics);
        }
    }
}

/// What is wrong with one exporter that has been silent for `silence` milliseconds.
fn verdicts(eye: &Eye, silence: u64, config: &Config, now: Timestamp) -> [(AlarmKind, Verdict); 5] {
    let patience = eye.patience(config.silent_seconds.saturating_mul(1_000));
    let is_silent = config.silent_seconds > 0 && eye.is_regular() && silence >= patience;
    let seconds = silence as f64 / 1_000.0;
    let silent = if is_silent { Verdict::Bad(seconds, format!("nothing was heard for {seconds:.0} s")) } else { Verdict::Good };
    let share = |share: Option<f64>, bound: f64, words: &str| match share {
        Some(share) => Verdict::of_share(share, bound, |percent| format!("{percent:.1} % {words}")),
        None => Verdict::Unclear,
    };
    [
        (AlarmKind::ExporterSilent, silent),
        (AlarmKind::Loss, share(eye.lost(), config.loss_share, "of what it sent never came, by its sequence numbers")),
        (
            AlarmKind::TemplatesUnknown,
            share(eye.sets_unknown(), config.templates_unknown_share, "of its sets cannot be read without their templates"),
        ),
        (
            AlarmKind::SamplingUnknown,
            share(eye.sampling_unknown(), config.sampling_unknown_share, "of its records are of unknown sampling rate and count once"),
        ),
        (AlarmKind::ClockWrong, clock(eye, config, now)),
    ]
}

/// Offset, jump, and times that cannot be.
fn clock(eye: &Eye, config: &Config, now: Timestamp) -> Verdict {
    if config.clock_seconds == 0 {
        return Verdict::Good;
    }
    let offset = eye.offset_milliseconds();
    let seconds = offset.unsigned_abs() as f64 / 1_000.0;
    let side = if offset > 0 { "behind" } else { "ahead of" };
    let steady = of_milliseconds(offset.unsigned_abs(), config.clock_seconds, |seconds| format!("its clock is {seconds:.0} s {side} ours"));
    if matches!(steady, Verdict::Bad(..)) {
        return steady;
    }
    if let Some((_, jump)) = eye.jump().filter(|(at, _)| now.since(*at) < GROWTH_MILLISECONDS) {
        let text = format!("its clock was set by {:.0} s, and is {seconds:.0} s {side} ours", jump as f64 / 1_000.0);
        return Verdict::Bad(jump as f64 / 1_000.0, text);
    }
    match eye
        .clock_corrected()
        .map(|part| Verdict::of_share(part, CLOCK_WRONG, |percent| format!("{percent:.1} % of its records tell times that cannot be")))
    {
        Some(Verdict::Good) | None => steady,
        Some(other) => other,
    }
}

/// Milliseconds by a bound in seconds, 0 = off: bad from there on, good below half of it.
fn of_milliseconds(milliseconds: u64, bound_seconds: u64, words: impl FnOnce(f64) -> String) -> Verdict {
    let (seconds, bound) = (milliseconds as f64 / 1_000.0, bound_seconds as f64);
    if bound_seconds == 0 || seconds < bound / 2.0 {
        Verdict::Good
    } else if seconds < bound {
        Verdict::Unclear
    } else {
        Verdict::Bad(seconds, words(seconds))
    }
}
