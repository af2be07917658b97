//! How much may lie on disk: while a level has more than its bound its oldest partitions go, and never the newest.
//!
//! How long rows stay is the engine's own business: each table has its TTL.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use clickhouse::{Client, Compression};
use tracing::{info, warn};

use super::config::Retention;
use super::schema::{Level, Schema, SchemaError, rows};
use super::statement::Filling;

/// What was dropped since the start, read by others while it goes on.
#[derive(Debug, Default)]
pub struct Dropped {
    partitions: AtomicU64,
    octets: AtomicU64,
}

impl Dropped {
    /// Every count with its Prometheus name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("weir_collector_store_partitions_dropped_total", read(&self.partitions)),
            ("weir_collector_store_octets_dropped_total", read(&self.octets)),
        ]
        .into_iter()
    }

    fn partition(&self, level: Level, partition: &Partition) {
        self.partitions.fetch_add(1, Ordering::Relaxed);
        self.octets.fetch_add(partition.octets, Ordering::Relaxed);
        info!(level = level.name(), table = %partition.table, partition = %partition.id, octets = partition.octets, "over the bound: the oldest rows are dropped");
    }
}

/// A partition on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The table that it belongs to.
    pub table: String,
    /// What the engine calls it.
    pub id: String,
    /// When its oldest row was, in unix seconds.
    pub from: u64,
    /// Its size.
    pub octets: u64,
}

/// Those of a level's partitions that have to go, the oldest first.
///
/// Partitions of the same moment go together; the newest moment of each table stays, whatever its size.
#[must_use]
pub fn surplus(partitions: &[Partition], octets_max: u64) -> Vec<&Partition> {
    let mut newest = BTreeMap::<&str, u64>::new();
    for partition in partitions {
        let from = newest.entry(&partition.table).or_default();
        *from = partition.from.max(*from);
    }
    let mut octets: u64 = partitions.iter().map(|partition| partition.octets).sum();
    let mut old: Vec<&Partition> =
        partitions.iter().filter(|partition| newest.get(partition.table.as_str()).is_some_and(|from| partition.from < *from)).collect();
    old.sort_by_key(|partition| (partition.from, &partition.table));
    let goes = |partition: &&Partition| {
        let is_over = octets > octets_max;
        octets = octets.saturating_sub(partition.octets);
        is_over
    };
    old.into_iter().take_while(goes).collect()
}

/// Drops what is over the bounds, and answers what is left of each level.
///
/// # Errors
///
/// [`SchemaError::Statement`] if the engine does not answer; what it had dropped by then is counted.
pub async fn trim(client: &Client, schema: &Schema, retention: &Retention, dropped: &Dropped) -> Result<(), SchemaError> {
    let client = client.clone().with_compression(Compression::None);
    let Filling { database, cluster, .. } = schema.filling();
    let parts = if cluster.is_empty() { "system.parts".to_owned() } else { format!("clusterAllReplicas('{cluster}', system.parts)") };
    // The bound is a server's: of a cluster's the fullest counts.
    let query = format!(
        "SELECT table, partition_id, min(oldest), max(octets) FROM \
         (SELECT table, partition_id, toUnixTimestamp(min(min_time)) AS oldest, sum(bytes_on_disk) AS octets FROM {parts} \
          WHERE active AND database = '{database}' GROUP BY hostName(), table, partition_id) GROUP BY table, partition_id"
    );
    let answer = rows(&client, "asking for the size of the tables", &query).await?;
    let mut levels = BTreeMap::<Level, Vec<Partition>>::new();
    for row in answer {
        let [table, id, from, octets] = row.as_slice() else { continue };
        let (Ok(from), Ok(octets)) = (from.parse(), octets.parse()) else { continue };
        if let Some(level) = Level::of(table.trim_end_matches(schema.filling().local())) {
            levels.entry(level).or_default().push(Partition { table: table.clone(), id: id.clone(), from, octets });
        }
    }
    for (level, partitions) in &levels {
        let Some(octets_max) = level.octets_max(retention) else { continue };
        for partition in surplus(partitions, octets_max) {
            let Partition { table, id, .. } = partition;
            let on_cluster = schema.filling().on_cluster();
            // The engine's own guard against large drops is for hands, not for a bound that is configured.
            let statement =
                format!("ALTER TABLE {database}.{table} {on_cluster} DROP PARTITION ID '{id}' SETTINGS max_partition_size_to_drop = 0");
            let failed = |source| SchemaError::Statement { what: format!("dropping partition {id} of {table}"), source };
            client.query_raw(&statement).execute().await.map_err(failed)?;
            dropped.partition(*level, partition);
        }
    }
    Ok(())
}

/// Looks after the bounds each minute, for ever.
pub async fn keep(link: super::link::Link, schema: Schema, retention: Retention, dropped: std::sync::Arc<Dropped>) {
    const PERIOD: std::time::Duration = std::time::Duration::from_secs(60);
    loop {
        tokio::time::sleep(PERIOD).await;
        let Ok(client) = link.client() else { continue };
        if let Err(error) = trim(&client, &schema, &retention, &dropped).await {
            warn!(%error, "the store's size cannot be held");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(table: &str, from: u64, octets: u64) -> Partition {
        Partition { table: table.to_owned(), id: from.to_string(), from, octets }
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits_and_the_newest_of_each_table_stays() {
        let partitions = [
            partition("as_1m", 3, 10),
            partition("as_1m", 1, 10),
            partition("prefix_1m", 2, 50),
            partition("prefix_1m", 4, 30),
            partition("as_1m", 2, 10),
        ];
        let going = |octets_max| surplus(&partitions, octets_max).iter().map(|gone| (gone.table.as_str(), gone.from)).collect::<Vec<_>>();
        assert_eq!(going(110), []);
        assert_eq!(going(100), [("as_1m", 1)]);
        assert_eq!(going(89), [("as_1m", 1), ("as_1m", 2), ("prefix_1m", 2)]);
        assert_eq!(going(0), [("as_1m", 1), ("as_1m", 2), ("prefix_1m", 2)]);
    }
}
