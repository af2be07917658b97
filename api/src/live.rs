//! What the pipe told last: exporters, rates of nodes, the ledger, and whether each part is up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use analytics::baseline::{Baselines, Rate};
use analytics::sight::Board;
use collector::enrich::interface::{self, Interfaces};
use collector::store::writer::Status;
use schemas::alarm::Alarm;
use schemas::counter::{Direction, DomainReport, ExporterReport, Snapshot, Target};
use schemas::ledger::{Ledger, StoreLedger};
use schemas::net::Address;
use schemas::time::Timestamp;

/// A shard that has told nothing for so long is down, and so are analysts that have not judged.
const SILENCE_MILLISECONDS_MAX: u64 = 5_000;
/// An engine that has not answered for so long is down, though nothing is lost while the spool has room.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// A store that has lost records is down for so long.
const LOSS_MILLISECONDS: u64 = 60_000;

/// The latest news of the pipe, shared between its threads and the API.
#[derive(Debug)]
pub struct Live {
    news: Mutex<News>,
    baselines: Arc<Baselines>,
    alarms: OnceLock<Board>,
    interfaces: Interfaces,
    store: OnceLock<Status>,
}

#[derive(Debug, Default)]
struct News {
    shards: BTreeMap<usize, Shard>,
    exporters: BTreeMap<Address, Heard>,
    /// Addresses of nodes, and when they were last seen to receive anything.
    watched: HashMap<Address, Option<Timestamp>>,
    down: BTreeMap<&'static str, String>,
    shards_expected: usize,
    /// When the analysts' thread last judged; `None` = it was never started.
    analysts_alive: Option<Timestamp>,
    /// Records that the store has lost, and when that was seen to grow.
    lost: (u64, Option<Timestamp>),
}

#[derive(Debug, Default)]
struct Shard {
    taken_at: Timestamp,
    ledger: Ledger,
    store: StoreLedger,
    kernel_drops: u64,
    suspects_refused: u64,
    answers_refused: u64,
}

#[derive(Debug)]
struct Heard {
    first_seen: Timestamp,
    by_shard: BTreeMap<usize, ExporterReport>,
}

/// An exporter over all shards.
#[derive(Clone, Debug)]
pub struct ExporterNews {
    /// The sender.
    pub exporter: Address,
    /// When it was first heard since the start.
    pub first_seen: Timestamp,
    /// When a datagram was last heard.
    pub last_seen: Timestamp,
    /// Its ledger, summed.
    pub ledger: Ledger,
    /// What became of its records behind the counters, and of those that the spool held at the start.
    pub store: StoreLedger,
    /// Its observation domains.
    pub domains: Vec<DomainReport>,
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// The ledger of all exporters.
    pub ledger: Ledger,
    /// What became of all records behind the counters, and of those that the spool held at the start.
    pub store: StoreLedger,
    /// Datagrams that the kernel dropped.
    pub kernel_drops: u64,
    /// Targets for which there was no room among the suspects.
    pub suspects_refused: u64,
    /// Suspects whose other direction found no room.
    pub answers_refused: u64,
}

impl Live {
    /// No news yet; rates, and what is normal, are those of the analysts.
    #[must_use]
    pub fn new(baselines: Arc<Baselines>) -> Self {
        Self {
            news: Mutex::default(),
            baselines,
            alarms: OnceLock::new(),
            interfaces: Interfaces::new(&interface::Config::default()),
            store: OnceLock::new(),
        }
    }

    /// The same; what shards tell of interfaces goes to `interfaces`.
    #[must_use]
    pub fn telling(self, interfaces: Interfaces) -> Self {
        Self { interfaces, ..self }
    }

    /// What everybody carries, and what is normal.
    #[must_use]
    pub fn baselines(&self) -> &Baselines {
        &self.baselines
    }

    /// Makes known where the analysts tell what they do not see.
    pub fn is_warned_by(&self, board: Board) {
        drop(self.alarms.set(board));
    }

    /// What the analysts do not see, or not well.
    #[must_use]
    pub fn alarms(&self) -> Arc<[Alarm]> {
        self.alarms.get().map(Board::alarms).unwrap_or_default()
    }

    /// What is known of the exporters' interfaces.
    #[must_use]
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Makes known what the store tells.
    pub fn keeps(&self, status: Status) {
        drop(self.store.set(status));
    }

    /// What the store tells; `None` where nothing is kept.
    #[must_use]
    pub fn store(&self) -> Option<&Status> {
        self.store.get()
    }

    /// Takes in what a shard tells.
    pub fn observe(&self, snapshot: &Snapshot) {
        self.interfaces.observe(snapshot);
        let mut news = self.lock();
        let shard = news.shards.entry(snapshot.shard).or_default();
        shard.taken_at = snapshot.taken_at;
        shard.kernel_drops = snapshot.kernel_drops;
        shard.suspects_refused = snapshot.suspects_refused;
        shard.answers_refused = snapshot.answers_refused;
        if let Some(ledger) = snapshot.ledger {
            shard.ledger = ledger;
        }
        if let Some(store) = snapshot.store {
            shard.store = store;
            let lost = news.shards.values().map(|shard| lost(&shard.store)).sum();
            if lost > news.lost.0 {
                news.lost = (lost, Some(snapshot.taken_at));
            }
        }
        for report in &snapshot.exporters {
            let heard =
                news.exporters.entry(report.exporter).or_insert_with(|| Heard { first_seen: snapshot.taken_at, by_shard: BTreeMap::new() });
            // A report tells of datagrams that came before it was made; one of a shard that was not asked in time, of earlier ones.
            heard.first_seen = heard.first_seen.min(report.last_seen);
            heard.by_shard.insert(snapshot.shard, report.clone());
        }
        let targets = snapshot.hosts.iter().map(|host| host.target).chain(snapshot.targets.iter().map(|update| update.target));
        for target in targets.filter(|target| target.direction == Direction::Incoming && target.prefix.is_host()) {
            if let Some(seen) = news.watched.get_mut(&target.prefix.first()) {
                *seen = Some(snapshot.taken_at);
            }
        }
    }

    /// Keeps watch of these addresses and no others.
    pub fn watch(&self, addresses: impl IntoIterator<Item = Address>) {
        let mut news = self.lock();
        let known = std::mem::take(&mut news.watched);
        news.watched = addresses.into_iter().map(|address| (address, known.get(&address).copied().flatten())).collect();
        self.baselines.watch(news.watched.keys().copied());
    }

    /// When a watched address was last seen to receive anything.
    #[must_use]
    pub fn last_seen(&self, address: Address) -> Option<Timestamp> {
        self.lock().watched.get(&address).copied().flatten()
    }

    /// What an address receives.
    #[must_use]
    pub fn rate(&self, address: Address) -> Rate {
        self.baselines.of_target(Target { prefix: address.host(), direction: Direction::Incoming })
    }

    /// The exporters, those heard first last.
    #[must_use]
    pub fn exporters(&self) -> Vec<ExporterNews> {
        let news = self.lock();
        let mut all: Vec<ExporterNews> = news.exporters.iter().map(|(exporter, heard)| self.merged(*exporter, heard)).collect();
        all.sort_by_key(|exporter| (std::cmp::Reverse(exporter.first_seen), exporter.exporter));
        all
    }

    /// One exporter.
    #[must_use]
    pub fn exporter(&self, address: Address) -> Option<ExporterNews> {
        self.lock().exporters.get(&address).map(|heard| self.merged(address, heard))
    }

    /// When any exporter was last heard.
    #[must_use]
    pub fn last_heard(&self) -> Option<Timestamp> {
        self.lock().exporters.values().flat_map(|heard| heard.by_shard.values()).map(|report| report.last_seen).max()
    }

    /// Sums over all shards.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let news = self.lock();
        let mut totals = Totals { store: self.store().map(Status::recovered).unwrap_or_default(), ..Totals::default() };
        for shard in news.shards.values() {
            totals.ledger += &shard.ledger;
            totals.store += &shard.store;
            totals.kernel_drops = totals.kernel_drops.wrapping_add(shard.kernel_drops);
            totals.suspects_refused = totals.suspects_refused.wrapping_add(shard.suspects_refused);
            totals.answers_refused = totals.answers_refused.wrapping_add(shard.answers_refused);
        }
        totals
    }

    /// Says how many shards should be heard from, from `now` on.
    pub fn expect_shards(&self, shards: usize, now: Timestamp) {
        let mut news = self.lock();
        news.shards_expected = shards;
        for shard in 0..shards {
            news.shards.entry(shard).or_default().taken_at = now;
        }
    }

    /// Says that the analysts' thread has judged.
    pub fn analysts_alive(&self, now: Timestamp) {
        self.lock().analysts_alive = Some(now);
    }

    /// Says that a part that loses data is down, or up again.
    pub fn set_part(&self, part: &'static str, down: Option<String>) {
        let mut news = self.lock();
        match down {
            Some(reason) => news.down.insert(part, reason),
            None => news.down.remove(part),
        };
    }

    /// The parts that are down, with the reason.
    #[must_use]
    pub fn failing(&self, now: Timestamp) -> BTreeMap<String, String> {
        let news = self.lock();
        let mut failing: BTreeMap<String, String> = news.down.iter().map(|(part, reason)| ((*part).to_owned(), reason.clone())).collect();
        let late =
            |(number, shard): &(&usize, &Shard)| **number < news.shards_expected && now.since(shard.taken_at) > SILENCE_MILLISECONDS_MAX;
        let silent: Vec<String> = news.shards.iter().filter(late).map(|(number, _)| number.to_string()).collect();
        if !silent.is_empty() {
            failing.insert("collector".to_owned(), format!("no snapshot of shard {} for 5 s", silent.join(", ")));
        }
        if let Some((away, reason)) = self.store().and_then(|status| status.metrics().away()).filter(|(away, _)| *away > AWAY_MAX) {
            failing.insert("store".to_owned(), format!("the engine has stored nothing for {} s: {reason}", away.as_secs()));
        }
        if let (lost, Some(_)) = (news.lost.0, news.lost.1.filter(|seen| now.since(*seen) < LOSS_MILLISECONDS)) {
            failing.insert("store".to_owned(), format!("{lost} records are lost, some of them in the last minute"));
        }
        if self.store().is_some_and(|status| !status.is_whole()) {
            failing.insert("store".to_owned(), "a thread of the store has ended by a fault of ours: flows are kept no more".to_owned());
        }
        failing
    }

    fn merged(&self, exporter: Address, heard: &Heard) -> ExporterNews {
        let mut news = merged(exporter, heard);
        if let Some(status) = self.store() {
            news.store += &status.recovered_of(exporter);
        }
        news
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost(store: &StoreLedger) -> u64 {
    let drops =
        [store.records_dropped_by_queue, store.records_dropped_by_spool, store.records_dropped_corrupt, store.records_dropped_by_engine];
    drops.into_iter().sum()
}

fn merged(exporter: Address, heard: &Heard) -> ExporterNews {
    let mut news = ExporterNews {
        exporter,
        first_seen: heard.first_seen,
        last_seen: Timestamp::default(),
        ledger: Ledger::default(),
        store: StoreLedger::default(),
        domains: Vec::new(),
    };
    for report in heard.by_shard.values() {
        news.last_seen = news.last_seen.max(report.last_seen);
        news.ledger += &report.ledger;
        news.store += &report.store;
        for domain in &report.domains {
            let same = |known: &&mut DomainReport| {
                (known.version, known.observation_domain_id, known.agent) == (domain.version, domain.observation_domain_id, domain.agent)
            };
            match news.domains.iter_mut().find(same) {
                Some(known) => add(known, domain),
                None => news.domains.push(domain.clone()),
            }
        }
    }
    news.domains.sort_by_key(|domain| (domain.version, domain.observation_domain_id, domain.agent));
    news
}

/// Adds what another shard saw of the same observation domain.
fn add(known: &mut DomainReport, other: &DomainReport) {
    known.templates = known.templates.max(other.templates);
    known.datagrams += other.datagrams;
    known.records += other.records;
    known.lost_by_sequence += other.lost_by_sequence;
    known.sets_without_template += other.sets_without_template;
    if known.sampling_interval.is_none() {
        known.sampling_interval = other.sampling_interval;
        known.sampling_source = other.sampling_source;
    }
    known.interfaces.extend(&other.interfaces);
    known.interfaces.sort_unstable();
    known.interfaces.dedup();
}

#[cfg(test)]
mod tests {
    use collector::store::config::Config;
    use collector::store::gather::Encode;
    use collector::store::link::Link;
    use collector::store::writer::{LateInsert, Store};
    use schemas::flow::FlowBatch;

    use super::*;

    struct Nothing;

    impl Encode for Nothing {
        fn append(&mut self, _: &FlowBatch) -> usize {
            0
        }

        fn take(&mut self) -> bytes::Bytes {
            bytes::Bytes::new()
        }
    }

    /// Two shards that tell at 2 s and 3 s what they received before.
    #[test]
    fn an_exporter_is_not_seen_for_the_first_time_after_it_was_seen_for_the_last() {
        let live = Live::new(Arc::default());
        let exporter: Address = "192.0.2.1".parse().unwrap();
        let report = |last_seen: u64| ExporterReport {
            exporter,
            last_seen: Timestamp(last_seen),
            ledger: Ledger::default(),
            store: StoreLedger::default(),
            domains: Vec::new(),
        };
        for (shard, taken_at, last_seen) in [(0, 2_000, 1_400), (1, 3_000, 1_100), (0, 4_000, 3_900)] {
            let snapshot = Snapshot { shard, taken_at: Timestamp(taken_at), exporters: vec![report(last_seen)], ..Snapshot::default() };
            live.observe(&snapshot);
        }
        let news = live.exporter(exporter).unwrap();
        assert_eq!((news.first_seen, news.last_seen), (Timestamp(1_100), Timestamp(3_900)));
    }

    #[test]
    fn a_store_whose_threads_have_ended_is_not_taken_for_health() {
        let folder = std::env::temp_dir().join(format!("weir-live-{}", uuid::Uuid::new_v4()));
        let live = Live::new(Arc::default());
        let (store, handovers) =
            Store::start(&Config::default(), &folder, 1, Link::away("away"), Box::new(Nothing), LateInsert::default()).unwrap();
        live.keeps(store.status().clone());
        assert!(live.failing(Timestamp(0)).is_empty());
        // The thread that makes blocks ends when nobody can hand it anything, and the other behind it.
        drop(handovers);
        store.stop();
        assert!(live.failing(Timestamp(0))["store"].contains("a thread of the store has ended"));
    }
}
