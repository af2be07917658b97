//! Brings the minutes of the interfaces' counters to the store; while that is away they wait, within a bound.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Notify;

use super::counter::Minute;
use super::interface::{Interfaces, Source};
use crate::store::link::Link;

/// How often it is looked for minutes that are over.
const TURN: Duration = Duration::from_secs(2);
/// How long a stop waits for the engine.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Minutes of one insert.
const ROWS_MAX: usize = 10_000;
/// How long the engine may take for it.
const INSERT_WAIT: Duration = Duration::from_secs(30);

/// Why minutes were not stored; they are sent again.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Away(#[from] crate::store::link::Away),
    #[error("the store refuses the interfaces' counters: {0}")]
    Engine(#[from] clickhouse::error::Error),
    #[error("the store took longer than {0:?} for the interfaces' counters")]
    Late(Duration),
}

/// Stores until `stop` is told; then ends the running minutes and stores all that wait, as far as the engine takes it in time.
pub async fn run(interfaces: Interfaces, link: Link, stop: Arc<Notify>) {
    let mut keeper = Keeper { interfaces, link, batch: Vec::new(), was_refused: false };
    while tokio::time::timeout(TURN, stop.notified()).await.is_err() {
        keeper.turn().await;
    }
    keeper.interfaces.finish();
    let _late = tokio::time::timeout(STOP_WAIT, keeper.turn()).await;
    let minutes = keeper.interfaces.metrics().minutes_waiting.load(Relaxed) + number(keeper.batch.len());
    if minutes > 0 {
        tracing::warn!(minutes, "counters of interfaces are lost with the stop: the store is away");
    }
}

struct Keeper {
    interfaces: Interfaces,
    link: Link,
    /// What is being sent; the same until the engine has it, so that what it took though its answer was lost is known to it.
    batch: Vec<Minute>,
    was_refused: bool,
}

impl Keeper {
    async fn turn(&mut self) {
        match self.store().await {
            Ok(()) => self.was_refused = false,
            // Told by whoever keeps the engine running.
            Err(KeepError::Away(_)) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.was_refused, true) {
                    tracing::warn!(%error, "counters of interfaces wait");
                }
            }
        }
    }

    async fn store(&mut self) -> Result<(), KeepError> {
        let client = self.link.client()?;
        loop {
            if self.batch.is_empty() {
                self.batch = self.interfaces.take_waiting(ROWS_MAX);
            }
            if self.batch.is_empty() {
                return Ok(());
            }
            insert(&client, &self.batch).await?;
            self.interfaces.metrics().minutes_stored.fetch_add(number(self.batch.len()), Relaxed);
            self.batch.clear();
        }
    }
}

fn number(minutes: usize) -> u64 {
    u64::try_from(minutes).unwrap_or(u64::MAX)
}

async fn insert(client: &clickhouse::Client, minutes: &[Minute]) -> Result<(), KeepError> {
    let rows = rows(minutes);
    // What was taken though the answer was lost is known by its octets when it comes again.
    let token =
        format!("counters-{:08x}-{}-{}", crc32fast::hash(rows.as_bytes()), rows.len(), minutes.first().map_or(0, |minute| minute.time.0));
    let mut insert = client
        .insert_formatted_with("INSERT INTO interface_counters FORMAT JSONEachRow")
        .with_setting("async_insert", "0")
        .with_setting("insert_deduplication_token", token);
    let sent = async {
        insert.send(Bytes::from(rows)).await?;
        insert.end().await
    };
    tokio::time::timeout(INSERT_WAIT, sent).await.map_err(|_| KeepError::Late(INSERT_WAIT))??;
    Ok(())
}

/// A line of JSON for each minute, as the columns are named.
fn rows(minutes: &[Minute]) -> String {
    let mut text = String::with_capacity(minutes.len() * 256);
    for minute in minutes {
        let exporter = if minute.exporter.is_v4() { format!("::ffff:{}", minute.exporter) } else { minute.exporter.to_string() };
        let row = json!({
            "time": minute.time.0 / 1_000,
            "exporter": exporter,
            "interface": minute.interface,
            "origin": if minute.source == Source::Snmp { "snmp" } else { "sflow" },
            "octets_in": minute.octets_in, "octets_out": minute.octets_out,
            "packets_in": minute.packets_in, "packets_out": minute.packets_out,
            "milliseconds": u32::try_from(minute.milliseconds).unwrap_or(u32::MAX),
            "speed_bits": minute.speed_bits, "up": minute.is_up,
        });
        text.push_str(&row.to_string());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use schemas::net::Address;
    use schemas::time::Timestamp;

    use super::*;

    #[test]
    fn a_minute_is_a_line_with_the_names_of_the_columns() {
        let minute = Minute {
            exporter: Address::from_v4(0xc000_0201),
            interface: 3,
            source: Source::Snmp,
            time: Timestamp(1_795_176_000_000),
            octets_in: 1,
            octets_out: 2,
            packets_in: 3,
            packets_out: 4,
            milliseconds: 60_000,
            speed_bits: 5,
            is_up: true,
        };
        let lines = rows(&[minute.clone(), Minute { exporter: Address(1), ..minute }]);
        let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&rows[0]["exporter"], &rows[1]["exporter"], &rows[0]["time"]),
            (&json!("::ffff:192.0.2.1"), &json!("::1"), &json!(1_795_176_000))
        );
        let sql = include_str!("../../../schemas/clickhouse/0003_interface_counters.sql");
        assert!(rows[0].as_object().unwrap().keys().all(|name| sql.contains(&format!("\n    {name} "))), "{lines}");
    }
}
