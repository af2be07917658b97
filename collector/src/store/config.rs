//! `[collector.store]`: which engine, and the bounds of what waits for it, lies on disk and stays.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Faults;

/// `[collector.store]`: where flows are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which store.
    pub engine: Engine,
    /// Records of a block, which is inserted as a whole.
    pub batch_rows_max: usize,
    /// How long a record waits for its block to fill.
    pub wait_milliseconds_max: u64,
    /// Octets of encoded blocks that wait in memory; what is over it goes to the spool.
    pub queue_octets_max: usize,
    /// How long a record whose sampling rate is not known waits for it before it is stored as it is; 0 = it does not. Once: an exporter that
    /// tells none in that time is waited for no more.
    pub rate_wait_seconds: u64,
    /// Records that wait for their sampling rate; what is over it is stored as it is.
    pub rate_wait_rows_max: usize,
    /// Of them those of one exporter.
    pub rate_wait_rows_per_exporter_max: usize,
    /// `[collector.store.embedded]`.
    pub embedded: Embedded,
    /// `[collector.store.clickhouse]`.
    pub clickhouse: Clickhouse,
    /// `[collector.store.spool]`.
    pub spool: Spool,
    /// `[collector.store.retention]`.
    pub retention: Retention,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: Engine::Embedded,
            batch_rows_max: 524_288,
            wait_milliseconds_max: 2_000,
            queue_octets_max: 201_326_592,
            rate_wait_seconds: 60,
            rate_wait_rows_max: 524_288,
            rate_wait_rows_per_exporter_max: 262_144,
            embedded: Embedded::default(),
            clickhouse: Clickhouse::default(),
            spool: Spool::default(),
            retention: Retention::default(),
        }
    }
}

impl Config {
    /// Checks what the types do not.
    pub(crate) fn check(&self, faults: &mut Faults<'_>) {
        // A row may be 400 octets long, and a block has to fit into a record of the spool.
        faults.range("batch_rows_max", self.batch_rows_max, 1, 1 << 21);
        faults.range("wait_milliseconds_max", self.wait_milliseconds_max, 1, 600_000);
        faults.range("queue_octets_max", self.queue_octets_max, 1, OCTETS_MAX);
        // An exporter's entry stays for an hour behind its last datagram.
        faults.range("rate_wait_seconds", self.rate_wait_seconds, 0, 1_800);
        faults.range("rate_wait_rows_max", self.rate_wait_rows_max, 0, 1 << 24);
        faults.range("rate_wait_rows_per_exporter_max", self.rate_wait_rows_per_exporter_max, 0, 1 << 24);
        faults.range("embedded.memory_octets_max", self.embedded.memory_octets_max, 512 << 20, OCTETS_MAX);
        faults.range("embedded.threads_max", self.embedded.threads_max, 1, 256);
        if self.spool.octets_max != 0 {
            faults.range("spool.octets_max", self.spool.octets_max, SPOOL_OCTETS_MIN, OCTETS_MAX);
        }
        faults.range("spool.blocks_max", self.spool.blocks_max, 1, 1_000_000);
        let retention = &self.retention;
        for (level, days, octets) in [
            ("flows", retention.flows_days, retention.flows_octets_max),
            ("minutes", retention.minutes_days, retention.minutes_octets_max),
            ("hours", retention.hours_days, retention.hours_octets_max),
        ] {
            faults.range(&format!("retention.{level}_days"), days, 0, 36_500);
            faults.range(&format!("retention.{level}_octets_max"), octets, 0, OCTETS_MAX);
        }
        let Clickhouse { url, database, user, cluster, .. } = &self.clickhouse;
        let host = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        faults.text("clickhouse.url", host.is_some_and(|host| !host.is_empty()), "must begin with https:// or http://");
        faults.text("clickhouse.database", is_database(database), "must be letters, digits and _, and not begin with a digit");
        faults.text("clickhouse.user", !user.is_empty(), "must not be empty");
        faults.text(
            "clickhouse.cluster",
            is_cluster(cluster),
            "must be a cluster's own name, of letters, digits and _ - .; no macro like {cluster}",
        );
    }
}

/// Whether a database can have this name without quotes around it.
pub(super) fn is_database(name: &str) -> bool {
    let is_word = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    is_word && name.starts_with(|first: char| !first.is_ascii_digit())
}

/// Whether a cluster can have this name between quotes, none included. A macro would stand for another name on each server.
pub(super) fn is_cluster(name: &str) -> bool {
    name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
}

/// A spool that is smaller has no room for a block of ten thousand flows or so: it would be none, and say that it is one.
const SPOOL_OCTETS_MIN: u64 = 1 << 20;

/// What can be asked for in octets: a pebibyte.
const OCTETS_MAX: u64 = 1 << 50;

/// A store of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The ClickHouse engine in a child process of Weir's.
    #[default]
    Embedded,
    /// A ClickHouse server or cluster.
    Clickhouse,
    /// Flows are counted and not kept.
    None,
}

/// `[collector.store.embedded]`: the engine in a child process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embedded {
    /// The engine's library; empty = the pinned one in the user's cache folder, fetched when it is not there.
    pub library: PathBuf,
    /// Memory that the child may use, in octets: queries that need more end with an error.
    pub memory_octets_max: u64,
    /// Threads of one statement, and of merges.
    pub threads_max: usize,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { library: PathBuf::new(), memory_octets_max: 1_073_741_824, threads_max: 2 }
    }
}

/// `[collector.store.clickhouse]`: a server or cluster of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clickhouse {
    /// Its HTTP interface.
    pub url: String,
    /// The database that holds our tables.
    pub database: String,
    /// Who we are there.
    pub user: String,
    /// The password of that user.
    pub password: String,
    /// The cluster that the tables are made on; empty = a single server.
    pub cluster: String,
}

impl Default for Clickhouse {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".to_owned(),
            database: "weir".to_owned(),
            user: "default".to_owned(),
            password: String::new(),
            cluster: String::new(),
        }
    }
}

/// `[collector.store.spool]`: the disk that blocks wait on while the engine is slow or away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// Octets on disk; 0 = no spool.
    pub octets_max: u64,
    /// Blocks on disk; the engine remembers the ids of more than these, so that none is stored twice.
    pub blocks_max: u64,
    /// When what is written is made to survive a loss of power.
    pub fsync: Fsync,
}

impl Default for Spool {
    fn default() -> Self {
        Self { octets_max: 4_294_967_296, blocks_max: 10_000, fsync: Fsync::Second }
    }
}

/// When a spooled block is made to survive a loss of power; a crash of the program loses none in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fsync {
    /// With every block.
    Block,
    /// Once a second.
    #[default]
    Second,
    /// When the system likes.
    Never,
}

/// `[collector.store.retention]`: how long and how much; 0 = without end. The engine's own tables keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days of single flows.
    pub flows_days: u32,
    /// Octets of single flows; the oldest hours go first.
    pub flows_octets_max: u64,
    /// Days of sums by the minute.
    pub minutes_days: u32,
    /// Octets of sums by the minute.
    pub minutes_octets_max: u64,
    /// Days of sums by the hour.
    pub hours_days: u32,
    /// Octets of sums by the hour.
    pub hours_octets_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            flows_days: 7,
            flows_octets_max: 107_374_182_400,
            minutes_days: 90,
            minutes_octets_max: 53_687_091_200,
            hours_days: 1_100,
            hours_octets_max: 53_687_091_200,
        }
    }
}
