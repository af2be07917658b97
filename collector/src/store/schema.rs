//! The tables of the store: made and brought up to date by the files of `schemas/clickhouse`, and held to the config at each start.
//!
//! A migration is applied once, in the order of its number, and never taken back; what was applied is told by the table `migrations`.

use std::collections::BTreeMap;

use clickhouse::{Client, Compression};
use sha2::{Digest, Sha256};
use tracing::info;

use super::block::PARTITIONS_MAX;
use super::config::{Config, Engine, Retention, is_cluster, is_database};
use super::statement::Filling;

/// The oldest ClickHouse that stores each block once, in what views make of it too.
pub const VERSION_MIN: (u32, u32) = (24, 8);

/// A step in the making of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number, from 1 and without gaps.
    pub version: u32,
    /// The name of its file.
    pub name: &'static str,
    /// The text of its file.
    pub text: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal,)*) => {
        /// Every step, in order.
        pub const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $name,
            text: include_str!(concat!("../../../schemas/clickhouse/", $name)),
        }),*];
    };
}

migrations! {
    1 "0001_flows.sql",
    2 "0002_rollups.sql",
    3 "0003_interface_counters.sql",
    4 "0004_spread.sql",
}

/// The first migration's, so to say: where the others are written down. In a cluster all servers hold one and the same.
const RECORD: &str = "CREATE TABLE IF NOT EXISTS ${database}.migrations ${on_cluster} \
     (version UInt32, name String, checksum String, applied_at DateTime('UTC') DEFAULT now()) \
     ENGINE = ${record} ORDER BY version";

impl Migration {
    /// What tells a file that was changed after it had been applied.
    #[must_use]
    pub fn checksum(&self) -> String {
        Sha256::digest(self.text).iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

/// Why the store cannot be used as it stands.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The server knows too little.
    #[error("this is ClickHouse {found}, and {needed} or later is needed")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        needed: String,
    },
    /// What it says of its version is none.
    #[error("the server tells no version but {0:?}")]
    Version(String),
    /// A later Weir has been here.
    #[error("the database was made by a newer Weir: it is at step {found}, and this one knows {known}")]
    Newer {
        /// The last migration that was applied.
        found: u32,
        /// The last that we know.
        known: u32,
    },
    /// The file of an applied migration is not what it was.
    #[error("{name} is not what was applied to the database: a migration is never changed, the next one changes what it made")]
    Changed {
        /// The name of the file.
        name: String,
    },
    /// A name that has to be quoted.
    #[error(
        "`{0}` cannot be the name of a database or cluster: only letters, digits and _ (in a cluster's name also - and .), no digit first"
    )]
    Name(String),
    /// The engine refused a statement, or did not answer.
    #[error("{what}: {source}")]
    Statement {
        /// What was tried.
        what: String,
        /// What came of it.
        source: clickhouse::error::Error,
    },
}

/// The tables as the config wants them.
#[derive(Clone, Debug)]
pub struct Schema {
    filling: Filling,
    retention: Retention,
}

impl Schema {
    /// The tables of `database`, on the config's cluster if it is `clickhouse` that keeps them.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Name`] if a name is none that needs no quotes.
    pub fn new(config: &Config, database: &str) -> Result<Self, SchemaError> {
        let cluster = if config.engine == Engine::Clickhouse { config.clickhouse.cluster.as_str() } else { "" };
        if !is_database(database) {
            return Err(SchemaError::Name(database.to_owned()));
        }
        if !is_cluster(cluster) {
            return Err(SchemaError::Name(cluster.to_owned()));
        }
        let filling = Filling { database: database.to_owned(), cluster: cluster.to_owned(), blocks_remembered: blocks_remembered(config) };
        Ok(Self { filling, retention: config.retention.clone() })
    }

    /// What is filled into the statements.
    #[must_use]
    pub fn filling(&self) -> &Filling {
        &self.filling
    }

    /// Makes the tables, brings them up to date, and holds them to the config; what is as it should be stays untouched.
    ///
    /// # Errors
    ///
    /// [`SchemaError`]; nothing is changed on a server that is too old or a database that is too new.
    pub async fn prepare(&self, client: &Client) -> Result<(), SchemaError> {
        // Our database may not be there yet, and texts this short are not worth compressing.
        let client = client.clone().with_database("system").with_compression(Compression::None);
        version(&client).await?;
        let Filling { database, .. } = &self.filling;
        let on_cluster = self.filling.on_cluster();
        run(&client, "making the database", &format!("CREATE DATABASE IF NOT EXISTS {database} {on_cluster}")).await?;
        let engine = if self.filling.cluster.is_empty() {
            "MergeTree".to_owned()
        } else {
            format!("ReplicatedMergeTree('/clickhouse/weir/{database}/migrations', '{{shard}}-{{replica}}')")
        };
        for record in self.filling.statements(RECORD) {
            run(&client, "making the table of migrations", &record.replace("${record}", &engine)).await?;
        }
        self.migrate(&client).await?;
        self.settle(&client).await
    }

    /// How many shards the cluster has; 0 on a single server.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Statement`] if the server does not answer.
    pub async fn shards(&self, client: &Client) -> Result<u32, SchemaError> {
        let Filling { cluster, .. } = &self.filling;
        if cluster.is_empty() {
            return Ok(0);
        }
        let query = format!("SELECT max(shard_num) FROM system.clusters WHERE cluster = '{cluster}'");
        let answer = rows(client, "counting the cluster's shards", &query).await?;
        Ok(answer.first().and_then(|row| row.first()).and_then(|shards| shards.parse().ok()).unwrap_or(0))
    }

    async fn migrate(&self, client: &Client) -> Result<(), SchemaError> {
        let Filling { database, .. } = &self.filling;
        let applied =
            rows(client, "reading the table of migrations", &format!("SELECT version, checksum FROM {database}.migrations")).await?;
        let number = |text: Option<&String>| text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let applied: BTreeMap<u32, String> =
            applied.iter().map(|row| (number(row.first()), row.get(1).cloned().unwrap_or_default())).collect();
        for migration in pending(MIGRATIONS, &applied)? {
            for statement in self.filling.statements(migration.text) {
                let first = statement.lines().next().unwrap_or_default();
                run(client, &format!("{}, {first}", migration.name), &statement).await?;
            }
            let (version, name, checksum) = (migration.version, migration.name, migration.checksum());
            let record = format!(
                "INSERT INTO {database}.migrations (version, name, checksum) SETTINGS async_insert = 0 VALUES ({version}, '{name}', '{checksum}')"
            );
            run(client, "recording a migration", &record).await?;
            info!(version, name, "the store's tables were brought up to date");
        }
        Ok(())
    }

    /// Holds how long rows stay, and how many blocks are remembered, to the config, and merges to what was measured to be cheap.
    async fn settle(&self, client: &Client) -> Result<(), SchemaError> {
        let Filling { database, .. } = &self.filling;
        let names: Vec<String> = TUNING.iter().map(|(_, name, _)| format!("'{name}'")).collect();
        let known = format!("SELECT name FROM system.merge_tree_settings WHERE name IN ({})", names.join(", "));
        let known = rows(client, "asking which settings of tables there are", &known).await?;
        // Older servers merge well enough without.
        let tuning: Vec<_> =
            TUNING.iter().filter(|(_, name, _)| known.iter().any(|row| row.first().is_some_and(|known| known == name))).collect();
        let found = rows(
            client,
            "reading what the tables are like",
            &format!("SELECT name, engine_full FROM system.tables WHERE database = '{database}' AND engine LIKE '%MergeTree' AND name != 'migrations'"),
        )
        .await?;
        for row in &found {
            let (Some(table), Some(engine)) = (row.first(), row.get(1)) else { continue };
            let Some(level) = Level::of(table.trim_end_matches(self.filling.local())) else { continue };
            let ttl = level.days(&self.retention).map(|days| format!("time + toIntervalDay({days})"));
            let has_ttl = engine.contains(" TTL ");
            let alteration = match &ttl {
                Some(ttl) if !engine.contains(&format!(" TTL {ttl} ")) => Some(format!("MODIFY TTL {ttl}")),
                None if has_ttl => Some("REMOVE TTL".to_owned()),
                _ => None,
            };
            let tuning = tuning.iter().filter(|(levels, ..)| levels.contains(&level)).map(|(_, name, value)| format!("{name} = {value}"));
            let settings = self.filling.deduplication().into_iter().chain(tuning).filter(|setting| !engine.contains(setting.as_str()));
            let settings: Vec<String> = settings.collect();
            let alterations =
                alteration.into_iter().chain((!settings.is_empty()).then(|| format!("MODIFY SETTING {}", settings.join(", "))));
            for alteration in alterations {
                let statement = format!("ALTER TABLE {database}.{table} {} {alteration}", self.filling.on_cluster());
                run(client, "holding a table to the config", &statement).await?;
                info!(%table, %alteration, "a table of the store follows the config");
            }
        }
        Ok(())
    }
}

/// How tables merge: the levels that it is for, the setting and its value. A row costs as much to merge as to insert, every time.
const TUNING: &[(&[Level], &str, u64)] = &[
    // Ten parts or so at a time become one, and not five: rows are written again half as often.
    (&Level::ALL, "merge_selector_base", 10),
    // A gibioctet is large enough to be read fast: to make 25 of an hour's into one writes every row once more, for nothing.
    (&[Level::Flows], "max_bytes_to_merge_at_max_space_in_pool", 1 << 30),
    // A block as it is inserted becomes one file, and not two hundred.
    (&[Level::Flows], "min_bytes_for_wide_part", 1 << 29),
];

/// What a table's rows are sums of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Single flows.
    Flows,
    /// Sums by the minute, what of them belongs to slots before, and what interfaces count.
    Minutes,
    /// Sums by the hour.
    Hours,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Flows, Self::Minutes, Self::Hours];

    /// The level of a table of ours.
    #[must_use]
    pub fn of(table: &str) -> Option<Self> {
        match table {
            "flows" => Some(Self::Flows),
            "interface_counters" | "spread_5m" => Some(Self::Minutes),
            _ if table.ends_with("_1m") => Some(Self::Minutes),
            _ if table.ends_with("_1h") => Some(Self::Hours),
            _ => None,
        }
    }

    /// The name that the level has in logs and counts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
        }
    }

    /// How many days its rows stay, if not for ever.
    #[must_use]
    pub fn days(self, retention: &Retention) -> Option<u32> {
        let days = match self {
            Self::Flows => retention.flows_days,
            Self::Minutes => retention.minutes_days,
            Self::Hours => retention.hours_days,
        };
        (days > 0).then_some(days)
    }

    /// How many octets its tables may have on disk, if there is a bound.
    #[must_use]
    pub fn octets_max(self, retention: &Retention) -> Option<u64> {
        let octets = match self {
            Self::Flows => retention.flows_octets_max,
            Self::Minutes => retention.minutes_octets_max,
            Self::Hours => retention.hours_octets_max,
        };
        (octets > 0).then_some(octets)
    }
}

/// How many blocks a table has to remember so that whatever comes out of the spool is stored once.
///
/// Each part counts that an insert makes of it. The most has the table of prefixes: four views write there, and a block lies in at most two
/// of the days that it is parted by (in at most three of the hours of `flows`). A thousand are for what waits in memory.
fn blocks_remembered(config: &Config) -> u64 {
    config.spool.blocks_max.saturating_mul(PARTITIONS_MAX).saturating_add(1_000)
}

/// The migrations that are still to be applied.
fn pending<'a>(known: &'a [Migration], applied: &BTreeMap<u32, String>) -> Result<Vec<&'a Migration>, SchemaError> {
    let last = known.last().map_or(0, |migration| migration.version);
    if let Some((&found, _)) = applied.last_key_value().filter(|(found, _)| **found > last) {
        return Err(SchemaError::Newer { found, known: last });
    }
    if let Some(changed) = known.iter().find(|own| applied.get(&own.version).is_some_and(|checksum| *checksum != own.checksum())) {
        return Err(SchemaError::Changed { name: changed.name.to_owned() });
    }
    Ok(known.iter().filter(|migration| !applied.contains_key(&migration.version)).collect())
}

/// Refuses a server that is too old.
async fn version(client: &Client) -> Result<(), SchemaError> {
    let answer = rows(client, "asking the server for its version", "SELECT version()").await?;
    let found = answer.first().and_then(|row| row.first()).cloned().unwrap_or_default();
    let mut parts = found.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return Err(SchemaError::Version(found));
    };
    if (major, minor) < VERSION_MIN {
        let (major, minor) = VERSION_MIN;
        return Err(SchemaError::TooOld { found, needed: format!("{major}.{minor}") });
    }
    Ok(())
}

async fn run(client: &Client, what: &str, statement: &str) -> Result<(), SchemaError> {
    let failed = |source| SchemaError::Statement { what: what.to_owned(), source };
    client.query_raw(statement).execute().await.map_err(failed)
}

/// The rows of an answer; no value that is asked for has a character that would have to be escaped.
pub(super) async fn rows(client: &Client, what: &str, query: &str) -> Result<Vec<Vec<String>>, SchemaError> {
    let failed = |source| SchemaError::Statement { what: what.to_owned(), source };
    let mut cursor = client.query_raw(query).fetch_bytes("TabSeparated").map_err(failed)?;
    let answer = cursor.collect().await.map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(versions: std::ops::RangeInclusive<u32>) -> BTreeMap<u32, String> {
        let own = MIGRATIONS.iter().filter(|migration| versions.contains(&migration.version));
        own.map(|migration| (migration.version, migration.checksum())).collect()
    }

    #[test]
    fn migrations_are_numbered_as_their_files() {
        for (version, migration) in (1..).zip(MIGRATIONS) {
            assert_eq!(migration.version, version);
            assert!(migration.name.starts_with(&format!("{version:04}_")), "{}", migration.name);
        }
    }

    #[test]
    fn what_was_applied_is_not_applied_again() {
        let all: Vec<u32> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        let versions = |applied| pending(MIGRATIONS, &applied).unwrap().iter().map(|migration| migration.version).collect::<Vec<_>>();
        assert_eq!(versions(BTreeMap::new()), all);
        assert_eq!(versions(applied(1..=2)), all.split_at(2).1);
    }

    #[test]
    fn a_newer_database_and_a_changed_file_are_refused_with_words() {
        let mut newer = applied(1..=u32::MAX);
        newer.insert(9_000, String::new());
        assert!(pending(MIGRATIONS, &newer).unwrap_err().to_string().contains("newer Weir: it is at step 9000"));
        let mut changed = applied(1..=1);
        changed.insert(1, "else".to_owned());
        assert!(pending(MIGRATIONS, &changed).unwrap_err().to_string().starts_with("0001_flows.sql is not what was applied"));
    }

    #[test]
    fn a_name_that_would_have_to_be_quoted_is_refused() {
        for name in ["we ir", "weir;", "9weir", "wéir", "we'ir"] {
            assert!(matches!(Schema::new(&Config::default(), name), Err(SchemaError::Name(_))), "{name}");
        }
        assert!(Schema::new(&Config::default(), "weir_2").is_ok());
    }

    /// Every table that is made has a level, by which it ends.
    #[test]
    fn every_table_has_a_level() {
        let schema = Schema::new(&Config::default(), "weir").unwrap();
        let statements: Vec<String> = MIGRATIONS.iter().flat_map(|migration| schema.filling().statements(migration.text)).collect();
        let tables = statements.iter().filter_map(|statement| statement.strip_prefix("CREATE TABLE IF NOT EXISTS weir."));
        let names: Vec<&str> = tables.filter_map(|rest| rest.split_whitespace().next()).collect();
        assert_eq!(names.len(), 11);
        assert!(names.iter().all(|name| Level::of(name).is_some()), "{names:?}");
    }
}
