//! The life of an incident: opened by a crossing, followed while traffic stays near the limit, closed when it has fallen and no record can be late.

pub mod blind;
pub mod picture;
pub mod probe;
pub mod summary;

use schemas::counter::{Detail, Direction, Target, Volume};
use schemas::incident::{Evidence, Family, Incident, IncidentStatus, Metric, Severity, Threshold, TimelineEntry, TimelineKind};
use schemas::net::Prefix;
use schemas::time::Timestamp;
use uuid::Uuid;

use crate::config;
use crate::detect::family::{self, Kind};
use crate::detect::limit::{Limit, Limits};
use crate::detect::peace::Reason;
use crate::detect::window::{Crossing, Scan};
use crate::detect::{cover, spoof};
use crate::incident::blind::{Blind, Quiet};
use crate::incident::probe::Probe;
use crate::merge::{self, RING_SECONDS, Track, slot_of, start_of};
use crate::sight::Sight;

/// Steps that an incident's timeline holds at most; the first and the last are kept.
const TIMELINE_MAX: usize = 200;
/// How long the smallest prefix may still become narrower: what its hosts carried before is in the first sums.
const COVER_SETTLES_MILLISECONDS: u64 = 3_000;
/// How late records of a restored incident are taken to be: the usual active timeout.
const LATENESS_UNKNOWN_MILLISECONDS: u64 = 60_000;

/// How much a look at new evidence changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing.
    None,
    /// Its numbers.
    Numbers,
    /// Its severity or family: worth telling at once.
    Escalated,
    /// The attack came back while its rules were lifted to look for it.
    Resumed,
}

/// An open incident, and what is needed to follow it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is told of it.
    pub incident: Incident,
    /// Whose traffic is watched: of a prefix, the whole of which the incident's target is the part that is attacked.
    pub target: Target,
    /// Hashes of its sources, by which incidents are compared.
    pub sources: Vec<u64>,
    /// What is done about it, and whether it is still there behind that.
    pub probe: Probe,
    blind: Blind,
    first: u64,
    /// Last slot of the last second that was still near the limit.
    last_warm: u64,
    packets: f64,
    octets: f64,
    ratio: f64,
    /// When it was last told.
    pub told_at: Timestamp,
    /// What has changed since.
    pub change: Change,
    /// When its kind was last settled.
    kind_at: Timestamp,
    restored: bool,
}

impl Case {
    /// Opens an incident on what `scan` found, while a part `loss` of the telemetry is lost; `None` if it found no crossing.
    #[must_use]
    pub fn open(
        target: Target,
        scan: &Scan,
        track: &Track,
        limit: &Limit,
        rules: &config::Incident,
        loss: f64,
        now: Timestamp,
    ) -> Option<Self> {
        let worst = *scan.worst()?;
        let first = scan.first.unwrap_or(worst.first());
        let threshold = Threshold { metric: worst.metric, value: worst.single, source: limit.source(worst.metric) };
        let incident = Incident::of(Uuid::new_v4(), target.prefix, target.direction, threshold, start_of(first), now);
        let sum = track.ring.sum(first, track.ring.newest());
        let mut case = Self {
            incident,
            target,
            sources: Vec::new(),
            probe: Probe::default(),
            blind: Blind::default(),
            first,
            last_warm: scan.last_warm.unwrap_or(0).max(worst.last),
            packets: sum.packets,
            octets: sum.octets,
            ratio: 0.0,
            told_at: now,
            change: Change::None,
            kind_at: now,
            restored: false,
        };
        case.weigh(scan, rules, loss);
        case.look(track, worst.metric, true);
        case.incident.target = case.covered(track, worst.metric);
        case.finish_numbers();
        case.incident.summary = summary::of(&case.incident, case.ratio);
        case.log(now, TimelineKind::Opened, case.incident.summary.clone());
        Some(case)
    }

    /// Takes up an incident that was open when the program ended; it goes on if evidence comes within a minute.
    #[must_use]
    pub fn restore(incident: Incident, limits: &Limits, now: Timestamp) -> Self {
        let target = Target { prefix: watched(incident.target), direction: incident.direction };
        let limit = limits.of(target);
        let (packets, octets) = (incident.total_packets as f64, incident.total_octets as f64);
        let seconds = incident.evidence.iter().filter(|evidence| evidence.window_milliseconds == 1_000);
        let ratio = [(Metric::PacketsPerSecond, incident.peak_pps), (Metric::BitsPerSecond, incident.peak_bps)]
            .into_iter()
            .map(|(metric, peak)| peak as f64 / limit.get(metric))
            .chain(seconds.map(|evidence| evidence.value / limit.get(evidence.metric)))
            .fold(0.0, f64::max);
        let (first, last_warm) = (slot_of(incident.started_at), slot_of(now));
        Self {
            incident,
            target,
            sources: Vec::new(),
            probe: Probe::default(),
            blind: Blind::default(),
            first,
            last_warm,
            packets,
            octets,
            ratio,
            told_at: now,
            change: Change::None,
            kind_at: now,
            restored: true,
        }
    }

    /// Takes in what came to light since the last look.
    pub fn follow(&mut self, scan: &Scan, track: &Track, rules: &config::Incident, loss: f64, now: Timestamp) {
        for (slot, packets, octets) in &track.gains {
            if *slot >= self.first {
                self.packets += packets;
                self.octets += octets;
            }
        }
        if let Some(first) = scan.first.filter(|first| *first < self.first) {
            let earlier = track.ring.sum(first, self.first - 1);
            self.packets += earlier.packets;
            self.octets += earlier.octets;
            self.first = first;
            self.incident.started_at = start_of(first);
        }
        self.change = self.change.max(Change::Numbers);
        if let Some(warm) = scan.last_warm {
            self.last_warm = self.last_warm.max(warm);
            self.restored = false;
            self.blind.see(&mut self.incident, now);
            self.look_behind_rules(warm, now);
        }
        let (severity, family) = (self.incident.severity, self.incident.family);
        self.weigh(scan, rules, loss);
        // What comes when the attack is over is not what it was made of.
        if let Some(worst) = scan.worst() {
            // A kind that changes more often than each second is none.
            let settles = now.since(self.kind_at) >= 1_000;
            self.look(track, worst.metric, settles);
            self.kind_at = if settles { now } else { self.kind_at };
            self.cover(track, worst.metric, now);
        }
        self.finish_numbers();
        self.incident.summary = summary::of(&self.incident, self.ratio);
        if self.incident.severity > severity || self.incident.family != family {
            let text =
                format!("now a {} {}, {:.1} times the limit", self.incident.severity.name(), self.incident.family.name(), self.ratio);
            self.log(now, TimelineKind::Escalated, text);
            self.change = self.change.max(Change::Escalated);
        }
    }

    /// Enters what was taken out of the traffic before it was held against the limit, each reason once.
    pub fn leave_out(&mut self, explained: &[(Reason, Volume)], seconds: f64, now: Timestamp) {
        for (reason, volume) in explained {
            let text = format!("left out, for it is no attack: {}", reason.text());
            if !self.incident.timeline.iter().any(|entry| entry.text.starts_with(&text)) {
                let [packets, bits] =
                    [Metric::PacketsPerSecond, Metric::BitsPerSecond].map(|metric| summary::rate(metric, volume.rate(metric, seconds)));
                self.log(now, TimelineKind::Escalated, format!("{text} ({packets}, {bits})"));
            }
        }
    }

    /// Whether the traffic has been low for long enough: the hold, and the time that records of this target are known to take.
    #[must_use]
    pub fn is_over(&self, track: Option<&Track>, rules: &config::Incident, now: Timestamp) -> bool {
        let unknown = if self.restored { LATENESS_UNKNOWN_MILLISECONDS } else { 0 };
        let (hold, late) = (rules.hold_seconds * 1_000, track.map_or(0, |track| track.lateness.milliseconds()));
        let is_quiet = |since: Timestamp, late: u64| now.since(since) >= hold + late.min(RING_SECONDS * 1_000);
        // What was on its way at the restart has arrived before a probe begins.
        let last_seen = start_of(self.last_warm + 1).max(self.blind.seen_at());
        is_quiet(last_seen, late.max(unknown)) && self.probe.since().is_none_or(|since| is_quiet(since, late))
    }

    /// Whether anybody who saw the attack has seen that it is quiet; one that is held is told.
    pub fn quiet(&mut self, sight: &Sight, now: Timestamp) -> Quiet {
        let quiet = self.blind.judge(&mut self.incident, sight, now);
        if quiet == (Quiet::Held { is_new: true }) {
            self.change = self.change.max(Change::Escalated);
        }
        quiet
    }

    /// Lifts the rules to see whether the attack is over.
    pub fn begin_probe(&mut self, now: Timestamp) {
        self.probe.begin(now);
        self.log(now, TimelineKind::LeakProbe, "quiet behind its rules, which are lifted to see whether it is over".to_owned());
    }

    /// The traffic of a slot after the rules were lifted is near the limit: it was they who kept it away.
    fn look_behind_rules(&mut self, warm: u64, now: Timestamp) {
        if self.probe.since().is_some_and(|since| start_of(warm) >= since) && self.probe.fail(now) {
            self.log(now, TimelineKind::LeakProbe, "it goes on behind its rules, which are announced again".to_owned());
            self.change = Change::Resumed;
        }
    }

    /// The last slot that the incident explains.
    #[must_use]
    pub fn last_slot(&self) -> u64 {
        self.last_warm
    }

    /// Makes it one of a group of incidents that are one attack.
    pub fn join(&mut self, group: Uuid, now: Timestamp) {
        join(&mut self.incident, group, now);
        self.change = self.change.max(Change::Escalated);
    }

    /// Closes it.
    pub fn close(&mut self, status: IncidentStatus, track: Option<&Track>, text: &str, now: Timestamp) {
        if let Some(track) = track {
            // What came after the end does not belong to it.
            let after = track.ring.sum(self.last_warm + 1, track.ring.newest());
            self.packets = (self.packets - after.packets).max(0.0);
            self.octets = (self.octets - after.octets).max(0.0);
        }
        self.incident.status = status;
        self.incident.ended_at = Some(start_of(self.last_warm + 1).min(now).max(self.incident.started_at));
        self.finish_numbers();
        self.incident.summary = summary::of(&self.incident, self.ratio);
        self.log(now, TimelineKind::Resolved, text.to_owned());
    }

    /// Adds a step to the timeline.
    pub fn log(&mut self, at: Timestamp, kind: TimelineKind, text: String) {
        log(&mut self.incident, at, kind, text);
    }

    /// Evidence, peaks, severity and confidence.
    fn weigh(&mut self, scan: &Scan, rules: &config::Incident, loss: f64) {
        self.incident.peak_pps = self.incident.peak_pps.max(whole(scan.peak_packets));
        self.incident.peak_bps = self.incident.peak_bps.max(whole(scan.peak_bits));
        self.ratio = self.ratio.max(scan.peak_ratio);
        for crossing in &scan.crossings {
            // The first tenths of a second count by what they prove at least.
            self.ratio = self.ratio.max(crossing.ratio() * (1.0 - rules.sampling_errors * crossing.error));
            let confidence = whole((1.0 - crossing.error).clamp(0.0, 1.0) * (1.0 - loss) * 100.0);
            self.incident.confidence = self.incident.confidence.max(u8::try_from(confidence).unwrap_or(100));
            self.keep_evidence(crossing, scan.words.get(&crossing.metric).map_or("limit", String::as_str));
        }
        let [medium, high, critical] = rules.severity_ratios;
        self.incident.severity = match self.ratio {
            ratio if ratio >= critical => Severity::Critical,
            ratio if ratio >= high => Severity::High,
            ratio if ratio >= medium => Severity::Medium,
            _ => Severity::Low,
        };
    }

    /// The largest value of each window and metric is kept.
    fn keep_evidence(&mut self, crossing: &Crossing, limit: &str) {
        let new = evidence(crossing, limit);
        let same = |old: &&mut Evidence| old.metric == new.metric && old.window_milliseconds == new.window_milliseconds;
        match self.incident.evidence.iter_mut().find(same) {
            Some(old) if old.value >= new.value => {}
            Some(old) => *old = new,
            None => self.incident.evidence.push(new),
        }
    }

    /// The kind and the breakdowns, by the last 30 s of the incident.
    fn look(&mut self, track: &Track, metric: Metric, settles: bool) {
        let newest = track.ring.newest();
        let volume = track.ring.sum(self.first.max(newest.saturating_sub(merge::EXACT_SECONDS * merge::SLOTS_PER_SECOND)), newest);
        let detail: Option<Detail> = picture::merged(&track.details);
        let Kind { family, subtype } = family::classify(&volume, detail.as_ref(), metric);
        let own_subtype = subtype.clone();
        // A clear kind is not given up for none.
        if settles && (family != Family::Unknown || self.incident.family == Family::Unknown) {
            self.incident.family = family;
            self.incident.subtype = if Limits::is_host(self.target.prefix) { subtype } else { Some("carpet_bombing".to_owned()) };
        }
        picture::fill(&mut self.incident, &volume, detail.as_ref());
        if let Some(detail) = detail {
            // The sketches forget within ten to twenty seconds.
            let recent = track.ring.sum(self.first.max(newest.saturating_sub(10 * merge::SLOTS_PER_SECOND)), newest);
            if self.target.direction == Direction::Incoming {
                let kind = Kind { family: self.incident.family, subtype: own_subtype };
                self.incident.spoofing_detected = spoof::is_spoofed(&kind, &recent, &detail).or(self.incident.spoofing_detected);
            }
            self.incident.indicators = spoof::indicators(&recent, &detail);
            self.sources = detail.peer_sample;
        }
    }

    /// The smallest prefix that the attack covers now.
    fn covered(&self, track: &Track, metric: Metric) -> Prefix {
        let whole = self.target.prefix;
        if Limits::is_host(whole) { whole } else { cover::smallest(whole, &track.details, metric) }
    }

    /// Follows an attack that spreads within its prefix: what was attacked once stays part of the target.
    fn cover(&mut self, track: &Track, metric: Metric, now: Timestamp) {
        let told = self.incident.target;
        let settles = now.since(self.incident.detected_at) < COVER_SETTLES_MILLISECONDS;
        let covered = self.covered(track, metric);
        self.incident.target = if settles { covered } else { cover::joined(told, covered) };
        if self.incident.target != told && !settles {
            self.log(now, TimelineKind::Escalated, format!("now on {}", self.incident.target));
            self.change = self.change.max(Change::Escalated);
        }
    }

    fn finish_numbers(&mut self) {
        self.incident.total_packets = whole(self.packets);
        self.incident.total_octets = whole(self.octets);
        let end = self.incident.ended_at.unwrap_or(start_of(self.last_warm + 1));
        self.incident.duration_sec = end.since(self.incident.started_at).div_ceil(1_000);
    }
}

/// Whose traffic tells of an incident's target: of a part of a /24 or /48 the whole of it, which is what is counted.
fn watched(target: Prefix) -> Prefix {
    let counted = if target.is_v4() { 24 } else { 48 };
    if Limits::is_host(target) { target } else { Prefix::of(target.first(), target.length().min(counted)) }
}

/// Adds a step to an incident's timeline; of too many the middle goes.
pub fn log(incident: &mut Incident, at: Timestamp, kind: TimelineKind, text: String) {
    if incident.timeline.len() >= TIMELINE_MAX {
        incident.timeline.remove(TIMELINE_MAX / 2);
    }
    incident.timeline.push(TimelineEntry { at, kind, text });
}

/// Makes an incident, open or ended, one of a group.
pub fn join(incident: &mut Incident, group: Uuid, now: Timestamp) {
    incident.group_uuid = Some(group);
    log(incident, now, TimelineKind::Escalated, format!("one attack with other incidents: group {group}"));
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, which is what is wanted")]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

fn evidence(crossing: &Crossing, limit: &str) -> Evidence {
    let multiple = crossing.limit / crossing.single;
    let seconds = crossing.slots as f64 / merge::SLOTS_PER_SECOND as f64;
    let times = if (multiple - 1.0).abs() < 1e-9 { String::new() } else { format!("{multiple} times ") };
    Evidence {
        rule: format!("mean of {seconds} s over {times}the {limit}"),
        metric: crossing.metric,
        window_milliseconds: crossing.slots * schemas::counter::SLOT_MILLISECONDS,
        value: crossing.value,
        limit: crossing.limit,
        sampling_error: crossing.error,
        at: start_of(crossing.last + 1),
    }
}
