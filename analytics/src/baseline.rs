//! What every host and prefix carries now, and what is normal for it: shared between the analysts' thread, which learns, and readers.
//!
//! Hosts have a row of a fixed table (`baseline/table.rs`) with what one value a minute has taught (`baseline/cell.rs`), prefixes also each hour of the week
//! (`baseline/week.rs`), nodes percentiles for people (`baseline/node.rs`). Nothing is learned of a target while an incident is open of it, of
//! a prefix above it or of a host within it.

mod cell;
mod level;
mod node;
mod persist;
mod table;
#[cfg(test)]
mod tests;
mod week;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use schemas::counter::{Direction, HOST_REPORT_MILLISECONDS, HostReport, Target};
use schemas::incident::{Baseline, Incident, Metric};
use schemas::net::{Address, Prefix, PrefixSet};
use schemas::time::Timestamp;

use crate::config;
use crate::detect::limit::Limit;
use crate::metrics::Metrics;
pub(crate) use cell::Rules;
use cell::{Cell, TICK_SECONDS, Usual};
use level::{Dither, Level};
pub use node::NodeBaseline;
use node::Nodes;
pub use persist::BaselineError;
use table::{Key, Table, V4_WORDS, V6_WORDS};
use week::Weeks;

/// How far a false positive's peak lies below the limit that it teaches.
const TAUGHT_MARGIN: f64 = 1.5;
const DAY_MILLISECONDS: u64 = 86_400_000;

/// Mean rates of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Packets a second.
    pub packets_per_second: f64,
    /// Bits a second.
    pub bits_per_second: f64,
}

/// What a target may carry by what was learned of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Packets a second.
    pub packets_per_second: f64,
    /// Bits a second.
    pub bits_per_second: f64,
}

/// Whose values are not learned, and what the suspects' seconds were.
#[derive(Debug, Default)]
struct Now {
    /// Targets of open incidents, incoming and outgoing, and as they were told.
    attacked: [PrefixSet; 2],
    told: Vec<Target>,
    /// The largest second of each suspect in the minute that is running and in the one before, by its number.
    peaks: BTreeMap<Target, (u64, [Level; 2])>,
}

impl Now {
    /// Whether an incident tells about a target: one of it, above it or within it.
    fn is_attacked(&self, target: Target) -> bool {
        let [incoming, outgoing] = &self.attacked;
        let own = if target.direction == Direction::Incoming { incoming } else { outgoing };
        !own.is_empty()
            && (own.get(target.prefix.first()).is_some_and(|(prefix, ())| prefix.covers(target.prefix)) || own.overlaps(target.prefix))
    }
}

/// The live rates of everybody, and what is normal.
#[derive(Debug)]
pub struct Baselines {
    rules: Rules,
    raises_limits: bool,
    taught_max: usize,
    taught_days: u64,
    v4: Table<V4_WORDS>,
    v6: Table<V6_WORDS>,
    weeks: Mutex<Weeks>,
    nodes: Mutex<Nodes>,
    /// What false positives have taught, and when.
    taught: Mutex<BTreeMap<Target, (Learned, Timestamp)>>,
    now: Mutex<Now>,
    /// Rates of the suspects' last whole second.
    suspects: ArcSwap<BTreeMap<Target, Rate>>,
    told_at: AtomicU64,
    metrics: Metrics,
}

impl Default for Baselines {
    fn default() -> Self {
        Self::new(&config::Baseline::default(), Metrics::default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clock_of(now: Timestamp) -> u64 {
    now.milliseconds() / 1_000 / TICK_SECONDS
}

/// What follows from the seed follows from the traffic.
fn dither(target: Target, clock: u64) -> Dither {
    let address = target.prefix.first().0;
    let halves = u64::try_from(address >> 64).unwrap_or(0) ^ u64::try_from(address & u128::from(u64::MAX)).unwrap_or(0);
    Dither(
        halves.rotate_left(17) ^ clock << 8 ^ u64::from(target.prefix.length()) << 1 ^ u64::from(target.direction == Direction::Outgoing),
    )
}

/// The host or prefix by whose limit the traffic of a target is judged: an incident may tell of a part of it.
fn judged(target: Prefix) -> Prefix {
    match (target.is_v4(), target.length()) {
        (true, 25..=31) => Prefix::of(target.first(), 24),
        (false, 49..=63) => Prefix::of(target.first(), 48),
        (false, 65..=127) => Prefix::of(target.first(), 64),
        _ => target,
    }
}

impl Baselines {
    /// Baselines that know nothing yet.
    #[must_use]
    pub fn new(config: &config::Baseline, metrics: Metrics) -> Self {
        Self {
            rules: config.rules(),
            raises_limits: config.raises_limits,
            taught_max: config.taught_max,
            taught_days: config.taught_days,
            v4: Table::new(config.hosts_max),
            v6: Table::new(config.hosts_max),
            weeks: Mutex::new(Weeks::new(config.prefixes_max)),
            nodes: Mutex::new(Nodes::new(config.nodes_max)),
            taught: Mutex::default(),
            now: Mutex::default(),
            suspects: ArcSwap::default(),
            told_at: AtomicU64::new(0),
            metrics,
        }
    }

    /// Takes in what a shard counted, and learns the minutes that are over.
    pub fn report(&self, hosts: &[HostReport], at: Timestamp) {
        self.told_at.fetch_max(at.milliseconds(), Ordering::Relaxed);
        let clock = clock_of(at);
        let (mut now, mut nodes, mut weeks) = (lock(&self.now), lock(&self.nodes), lock(&self.weeks));
        nodes.close(at, |target| now.is_attacked(target));
        for report in hosts {
            nodes.report(report);
            let seconds = HOST_REPORT_MILLISECONDS as f64 / 1_000.0;
            let rates = [report.volume.packets / seconds, report.volume.octets * 8.0 / seconds];
            match Key::of(report.target.prefix) {
                Some(key) => self.report_host(key, report.target, rates, clock, &mut now),
                None => self.report_prefix(&mut weeks, report.target, rates, clock, &mut now),
            }
        }
    }

    fn report_host(&self, key: Key, target: Target, rates: [f64; 2], clock: u64, now: &mut Now) {
        let is_attacked = now.is_attacked(target);
        let work = |cell: &mut Cell| {
            let closed = cell.report(rates, clock);
            if is_attacked {
                cell.hold(&self.rules);
            } else if let Some(value) = closed {
                let usual = cell.usual();
                if !cell.learn(value, now.take_peak(target), &usual, &self.rules, &mut dither(target, clock)) {
                    self.metrics.value_held();
                }
            }
        };
        let is_young = |cell: &Cell| !cell.is_warm(&self.rules);
        let (table_v4, table_v6, direction) = (&self.v4, &self.v6, target.direction);
        let done = if key.is_v4() {
            table_v4.change(key, direction, clock, is_young, work)
        } else {
            table_v6.change(key, direction, clock, is_young, work)
        };
        if done.is_none() {
            self.metrics.baseline_refused();
        }
    }

    fn report_prefix(&self, weeks: &mut Weeks, target: Target, rates: [f64; 2], clock: u64, now: &mut Now) {
        let Some(week) = weeks.entry(target, clock) else {
            return self.metrics.baseline_refused();
        };
        let closed = week.report(rates, clock);
        if now.is_attacked(target) {
            week.hold(clock, &self.rules);
        } else if let Some(value) = closed
            && !week.learn(value, now.take_peak(target), clock, &self.rules, &mut dither(target, clock))
        {
            self.metrics.value_held();
        }
    }

    /// Says which incidents are open: nothing is learned of what they tell about, and their onset is taken back.
    pub fn attacked<'a>(&self, targets: impl Iterator<Item = &'a Target> + Clone) {
        let mut now = lock(&self.now);
        if !now.told.iter().eq(targets.clone()) {
            let of = |direction| targets.clone().filter(|target| target.direction == direction).map(|target| target.prefix).collect();
            now.attacked = [of(Direction::Incoming), of(Direction::Outgoing)];
            now.told = targets.copied().collect();
        }
    }

    /// Replaces the suspects' rates, those of their last whole second.
    pub fn show_suspects(&self, suspects: BTreeMap<Target, Rate>, at: Timestamp) {
        self.told_at.fetch_max(at.milliseconds(), Ordering::Relaxed);
        let (mut now, minute) = (lock(&self.now), at.milliseconds() / 60_000);
        for (target, rate) in &suspects {
            let (_, peaks) = now.peaks.entry(*target).or_insert((minute, [Level::default(); 2]));
            let rates = [rate.packets_per_second, rate.bits_per_second].map(Level::of);
            peaks.iter_mut().zip(rates).for_each(|(peak, rate)| *peak = rate.max(*peak));
        }
        now.peaks.retain(|_, (begun, _)| *begun + 1 >= minute);
        self.suspects.store(Arc::new(suspects));
    }

    /// What a target may carry by what was learned of it, or by what a false positive has taught; `None` while neither says anything.
    #[must_use]
    pub fn learned(&self, target: Target) -> Option<Learned> {
        let clock = clock_of(self.told_at());
        let limit = match Key::of(target.prefix) {
            Some(key) => self.cell(key, target.direction).and_then(|cell| cell.limit(&cell.usual(), &self.rules)),
            None => lock(&self.weeks).get(&target).and_then(|week| week.limit(clock, &self.rules)),
        };
        let learned = limit.map(|[packets_per_second, bits_per_second]| Learned { packets_per_second, bits_per_second });
        let taught = lock(&self.taught).get(&target).filter(|(_, at)| self.is_fresh(*at)).map(|(taught, _)| *taught);
        match (learned, taught) {
            (Some(learned), Some(taught)) => Some(Learned {
                packets_per_second: learned.packets_per_second.max(taught.packets_per_second),
                bits_per_second: learned.bits_per_second.max(taught.bits_per_second),
            }),
            (learned, taught) => learned.or(taught),
        }
    }

    /// A target's limit with what was learned of it, where that is more: what is set for the target by name stays as it is.
    #[must_use]
    pub fn raise(&self, limit: Limit, target: Target) -> Limit {
        let learned = if self.raises_limits { self.learned(target) } else { None };
        let Some(Learned { packets_per_second, bits_per_second }) = learned else { return limit };
        limit.raised(Metric::PacketsPerSecond, packets_per_second).raised(Metric::BitsPerSecond, bits_per_second)
    }

    /// What is normal for a target now, in packets a second; `None` while too little was learned.
    #[must_use]
    pub fn usual(&self, target: Target) -> Option<Baseline> {
        let tell = |cell: &Cell, Usual { location: [packets, _], spread: [spread, _] }: Usual| {
            let p95 = packets.raised(i32::from(spread));
            cell.is_warm(&self.rules).then(|| Baseline { avg_pps: packets.rate(), p95_pps: p95.rate() })
        };
        let clock = clock_of(self.told_at());
        match Key::of(target.prefix) {
            Some(key) => self.cell(key, target.direction).and_then(|cell| tell(&cell, cell.usual())),
            None => lock(&self.weeks).get(&target).and_then(|week| tell(&week.cell, week.packets(clock))),
        }
    }

    /// A person has said that an incident was none: its target may carry half as much again as it did, for `taught_days`.
    pub fn teach(&self, incident: &Incident, at: Timestamp) {
        let [packets_per_second, bits_per_second] = [incident.peak_pps, incident.peak_bps].map(|peak| peak as f64 * TAUGHT_MARGIN);
        let mut taught = lock(&self.taught);
        taught.retain(|_, (_, at)| self.is_fresh(*at));
        let judged = Some(judged(incident.target)).filter(|judged| *judged != incident.target);
        for prefix in [incident.target].into_iter().chain(judged) {
            let target = Target { prefix, direction: incident.direction };
            if taught.len() >= self.taught_max && !taught.contains_key(&target) {
                self.metrics.baseline_refused();
                continue;
            }
            let (own, when) = taught.entry(target).or_insert((Learned { packets_per_second, bits_per_second }, at));
            own.packets_per_second = own.packets_per_second.max(packets_per_second);
            own.bits_per_second = own.bits_per_second.max(bits_per_second);
            *when = at;
        }
    }

    fn is_fresh(&self, at: Timestamp) -> bool {
        self.told_at().since(at) < self.taught_days.saturating_mul(DAY_MILLISECONDS)
    }

    fn told_at(&self) -> Timestamp {
        Timestamp(self.told_at.load(Ordering::Relaxed))
    }

    fn cell(&self, key: Key, direction: Direction) -> Option<Cell> {
        if key.is_v4() { self.v4.get(key, direction) } else { self.v6.get(key, direction) }
    }

    /// What comes to `address`, and what comes from it.
    #[must_use]
    pub fn of(&self, address: Address) -> (Rate, Rate) {
        let of = |direction| self.of_target(Target { prefix: address.host(), direction });
        (of(Direction::Incoming), of(Direction::Outgoing))
    }

    /// What one target carries: a suspect in its last second, any other over ten seconds.
    #[must_use]
    pub fn of_target(&self, target: Target) -> Rate {
        if let Some(rate) = self.suspects.load().get(&target) {
            return *rate;
        }
        let reported = self.reported(target);
        // An IPv6 host may stand in its /64 where there are too many.
        if reported == Rate::default() && !target.prefix.is_v4() && target.prefix.is_host() {
            self.reported(Target { prefix: Prefix::of(target.prefix.first(), 64), ..target })
        } else {
            reported
        }
    }

    fn reported(&self, target: Target) -> Rate {
        let clock = clock_of(self.told_at());
        let cell = match Key::of(target.prefix) {
            Some(key) => self.cell(key, target.direction),
            None => lock(&self.weeks).get(&target).map(|week| week.cell),
        };
        let [packets_per_second, bits_per_second] = cell.map_or([0.0; 2], |cell| cell.live(clock));
        Rate { packets_per_second, bits_per_second }
    }

    /// Keeps percentiles of the nodes at these addresses and of no others.
    pub fn watch(&self, addresses: impl IntoIterator<Item = Address>) {
        let refused = lock(&self.nodes).keep(addresses);
        (0..refused).for_each(|_| self.metrics.baseline_refused());
    }

    /// What is normal for the node at an address; `None` while too little was learned.
    #[must_use]
    pub fn node(&self, address: Address) -> Option<NodeBaseline> {
        lock(&self.nodes).get(address, u64::from(self.rules.warm_up))
    }

    /// Octets of the tables of hosts, and the hosts in them.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let ((v4, hosts_v4), (v6, hosts_v6)) = (self.v4.size(), self.v6.size());
        (v4 + v6, hosts_v4 + hosts_v6)
    }
}

impl Now {
    /// The largest second of the minute that a suspect has closed; the least there is for others.
    fn take_peak(&mut self, target: Target) -> [Level; 2] {
        if self.peaks.is_empty() { Default::default() } else { self.peaks.remove(&target).map(|(_, peaks)| peaks).unwrap_or_default() }
    }
}
