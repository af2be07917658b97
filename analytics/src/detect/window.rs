//! Means over windows of 0.1, 1, 5 and 30 s against a limit, wherever slots have changed in the last two minutes.

use std::collections::BTreeMap;

use schemas::incident::{Metric, Unit};

use super::limit::Limit;
use crate::config;
use crate::merge::{RING_SECONDS, Ring, SLOTS_PER_SECOND};

/// Lengths of the windows in slots.
pub const WINDOW_SLOTS: [u64; 4] = [1, 10, 50, 300];
/// Windows that a peak is taken from, in slots, and the standard errors of sampling that are taken off first.
///
/// The largest of a minute's seconds is some two errors too large where samples are few. The mean of 30 s is one of few, and nearly what it seems.
const PEAKS: [(u64, f64); 3] = [(SLOTS_PER_SECOND, 2.0), (50, 2.0), (300, 0.0)];
// Slots hold parts of flows: what is over the limit by rounding alone is not over it.
const ROUNDING: f64 = 1.0 + 1e-6;

/// A window whose mean is over its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossing {
    /// Measured in.
    pub metric: Metric,
    /// Length in slots.
    pub slots: u64,
    /// Its last slot.
    pub last: u64,
    /// The mean, in the metric's unit a second.
    pub value: f64,
    /// The limit of this window: the single limit times the window's multiple.
    pub limit: f64,
    /// The single limit.
    pub single: f64,
    /// Relative standard error of the mean, 1/√samples (Poisson); 0 for flow records, which are counted as they are exported.
    pub error: f64,
}

impl Crossing {
    /// The first slot.
    #[must_use]
    pub fn first(&self) -> u64 {
        (self.last + 1).saturating_sub(self.slots)
    }

    /// How many times the single limit.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.value / self.single
    }
}

/// What a look at the changed slots of a target brought to light.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The largest crossing of each window and metric, short windows first.
    pub crossings: Vec<Crossing>,
    /// Where the limits of the metrics that were crossed came from: `limit of hostgroup web`.
    pub words: BTreeMap<Metric, String>,
    /// First slot of the first of the shortest windows over their limit, without the quiet that it begins with.
    pub first: Option<u64>,
    /// Last slot of the last second of which a mean is still over its limit times `end_ratio`.
    pub last_warm: Option<u64>,
    /// Largest packets a second of one second; where samples are few, what they prove.
    pub peak_packets: f64,
    /// Largest bits a second of one second; where samples are few, what they prove.
    pub peak_bits: f64,
    /// How many times over its limit the largest second is, by the metric that is most so.
    pub peak_ratio: f64,
}

impl Scan {
    /// The crossing that is the most times over its limit.
    #[must_use]
    pub fn worst(&self) -> Option<&Crossing> {
        self.crossings.iter().max_by(|one, other| one.ratio().total_cmp(&other.ratio()))
    }
}

/// What to look at, and by which measure.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The target's slots.
    pub ring: &'a Ring,
    /// First and last slot that changed.
    pub changed: (u64, u64),
    /// The last slot of an incident that has ended.
    pub explained: u64,
    /// The target's limit.
    pub limit: &'a Limit,
    /// The multiples of the limit for each window; 0 turns one off.
    pub multiples: [f64; 4],
    /// How sure a crossing must be.
    pub rules: &'a config::Incident,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    packets: f64,
    octets: f64,
    samples: f64,
}

/// A limited metric of a kind of traffic: sums of its count and of its packets before each slot.
#[derive(Debug)]
struct Column {
    metric: Metric,
    sums: Vec<(f64, f64)>,
}

/// The means of one window that are limited, with the packets that each is made of.
type Mean = (Metric, f64, f64);

/// Scans rings; keeps its scratch memory.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Sums of all slots before the slot of the same index, from `base` on.
    sums: Vec<Sums>,
    base: u64,
    /// The metrics besides packets and bits of all traffic: only those that are limited cost anything.
    columns: Vec<Column>,
}

impl Scanner {
    /// Looks at every window that holds a slot of `[first, last]`; slots up to `explained` count as empty.
    ///
    /// So an attack that has been told and has ended does not open a second incident by the long windows that still hold it.
    pub fn scan(&mut self, look: &Look<'_>) -> Scan {
        let Look { ring, changed, explained, .. } = *look;
        let newest = ring.newest();
        let oldest = newest.saturating_sub(RING_SECONDS * SLOTS_PER_SECOND).max(explained + 1).min(newest);
        let (first, last) = (changed.0.clamp(oldest, newest), changed.1.clamp(oldest, newest));
        self.accumulate(ring, first.saturating_sub(300), newest, explained);
        self.accumulate_kinds(ring, look.limit, newest, explained);
        let mut scan = Scan::default();
        for (slots, multiple) in WINDOW_SLOTS.into_iter().zip(look.multiples) {
            if multiple > 0.0 || slots == SLOTS_PER_SECOND {
                self.scan_windows(first..=newest.min(last + slots - 1), slots, multiple, look, &mut scan);
            }
        }
        scan
    }

    fn accumulate(&mut self, ring: &Ring, from: u64, to: u64, explained: u64) {
        self.base = from;
        self.sums.clear();
        let mut sum = Sums::default();
        self.sums.push(sum);
        for slot in from..=to {
            // By reference: a volume is two cache lines, of which three numbers are wanted.
            if let Some((volume, part)) = ring.slot(slot).filter(|_| slot > explained) {
                sum.packets += volume.packets * part;
                sum.octets += volume.octets * part;
                sum.samples += volume.samples * part;
            }
            self.sums.push(sum);
        }
    }

    /// The sums of each kind of traffic that is limited, from the base on.
    fn accumulate_kinds(&mut self, ring: &Ring, limit: &Limit, to: u64, explained: u64) {
        self.columns.clear();
        for metric in limit.limited().filter(|metric| !matches!(metric, Metric::PacketsPerSecond | Metric::BitsPerSecond)) {
            let (mut count, mut packets) = (0.0, 0.0);
            let slots = (self.base..=to).map(|slot| {
                if let Some((volume, part)) = ring.slot(slot).filter(|_| slot > explained) {
                    count += volume.count(metric) * part;
                    packets += volume.packets_of(metric) * part;
                }
                (count, packets)
            });
            self.columns.push(Column { metric, sums: std::iter::once((0.0, 0.0)).chain(slots).collect() });
        }
    }

    fn index(&self, slot: u64) -> usize {
        usize::try_from(slot.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    /// The sums of all slots before `slot`, since the base.
    fn before(&self, slot: u64) -> Sums {
        self.sums.get(self.index(slot)).copied().unwrap_or_default()
    }

    /// The means over the `slots` up to `last`: packets and bits of all traffic first, then each kind that is limited.
    fn means(&self, last: u64, slots: u64) -> impl Iterator<Item = Mean> {
        let seconds = slots as f64 / SLOTS_PER_SECOND as f64;
        let first = (last + 1).saturating_sub(slots);
        let (to, from) = (self.before(last + 1), self.before(first));
        let packets = to.packets - from.packets;
        let all = [
            (Metric::PacketsPerSecond, packets / seconds, packets),
            (Metric::BitsPerSecond, (to.octets - from.octets) * 8.0 / seconds, packets),
        ];
        let (from, to) = (self.index(first), self.index(last + 1));
        let kinds = self.columns.iter().map(move |Column { metric, sums }| {
            let before = |index: usize| sums.get(index).copied().unwrap_or_default();
            let ((count_to, packets_to), (count_from, packets_from)) = (before(to), before(from));
            (*metric, (count_to - count_from) / seconds, packets_to - packets_from)
        });
        all.into_iter().chain(kinds)
    }

    fn scan_windows(&self, ends: std::ops::RangeInclusive<u64>, slots: u64, multiple: f64, look: &Look<'_>, scan: &mut Scan) {
        let Look { limit, rules, .. } = *look;
        let mut found: Vec<Crossing> = Vec::new();
        for last in ends {
            if slots == SLOTS_PER_SECOND {
                self.see_second(last, look, scan);
            }
            if multiple <= 0.0 {
                continue;
            }
            let (to, from) = (self.before(last + 1), self.before((last + 1).saturating_sub(slots)));
            let (samples, all) = (to.samples - from.samples, to.packets - from.packets);
            for (metric, value, packets) in self.means(last, slots) {
                let single = limit.get(metric);
                if value <= single * multiple {
                    continue;
                }
                // Of a part of the packets there are as many of the samples.
                let samples = if all > 0.0 { samples * (packets / all).min(1.0) } else { samples };
                let error = if metric.unit() == Unit::Flows { 0.0 } else { sampling_error(samples, packets) };
                let crossing = Crossing { metric, slots, last, value, limit: single * multiple, single, error };
                if is_over(&crossing, samples, packets, rules) {
                    // Short windows come first, and their ends ascend: the first to be found tells the start best.
                    scan.first.get_or_insert_with(|| self.begin(&crossing));
                    match found.iter_mut().find(|best| best.metric == metric) {
                        Some(best) if best.value >= value => {}
                        Some(best) => *best = crossing,
                        None => found.push(crossing),
                    }
                }
            }
        }
        found.sort_by_key(|crossing| crossing.metric);
        scan.words.extend(found.iter().map(|crossing| (crossing.metric, limit.words(crossing.metric).to_owned())));
        scan.crossings.append(&mut found);
    }

    /// Peaks, and whether the target is still warm, by the second that ends with slot `last`.
    fn see_second(&self, last: u64, look: &Look<'_>, scan: &mut Scan) {
        if self.means(last, SLOTS_PER_SECOND).any(|(metric, value, _)| value >= look.limit.get(metric) * look.rules.end_ratio) {
            scan.last_warm = Some(last);
        }
        for (slots, errors) in PEAKS {
            let (to, from) = (self.before(last + 1), self.before((last + 1).saturating_sub(slots)));
            let proven = (1.0 - errors * sampling_error(to.samples - from.samples, to.packets - from.packets)).max(0.0);
            for (metric, value, _) in self.means(last, slots) {
                let value = value * proven;
                match metric {
                    Metric::PacketsPerSecond => scan.peak_packets = scan.peak_packets.max(value),
                    Metric::BitsPerSecond => scan.peak_bits = scan.peak_bits.max(value),
                    _ => {}
                }
                scan.peak_ratio = scan.peak_ratio.max(value / look.limit.get(metric));
            }
        }
    }

    /// The first slot of a window that carries at least half of its mean.
    fn begin(&self, crossing: &Crossing) -> u64 {
        let rate = |slot: u64| self.means(slot, 1).find(|(metric, ..)| *metric == crossing.metric).map_or(0.0, |(_, value, _)| value);
        (crossing.first()..=crossing.last).find(|slot| rate(*slot) * 2.0 >= crossing.value).unwrap_or(crossing.last)
    }
}

/// √((1 − p)/n) for n samples of a part p of all packets: each packet is chosen or not, so n has the variance n (1 − p), and n that of a
/// Poisson count, 1/√n, where few are chosen. 0 where every packet was seen.
fn sampling_error(samples: f64, packets: f64) -> f64 {
    if samples <= 0.0 || packets <= 0.0 {
        return 1.0;
    }
    let unseen = 1.0 - samples / packets;
    // What rounding leaves of 0 is 0.
    if unseen < 1e-3 { 0.0 } else { (unseen / samples).sqrt() }
}

/// A mean is over its limit if it is larger, if enough samples speak for it, and if it would still be over the single limit were it too large by
/// some standard errors: then chance alone does not explain it. A few packets that come at once are a burst, whatever their rate.
fn is_over(crossing: &Crossing, samples: f64, packets: f64, rules: &config::Incident) -> bool {
    let is_burst = crossing.slots < SLOTS_PER_SECOND && packets < f64::from(rules.burst_packets_min);
    let enough = !is_burst && (crossing.error == 0.0 || samples * ROUNDING >= f64::from(rules.samples_min));
    crossing.value > crossing.limit * ROUNDING
        && enough
        && crossing.value * (1.0 - rules.sampling_errors * crossing.error) > crossing.single
}

#[cfg(test)]
mod tests;
