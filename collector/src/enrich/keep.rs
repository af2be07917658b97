//! Brings the minutes of the interfaces' counters to the store; while that is away they wait, within a bound.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use super::counter::Minute;
use super::interface::{Interfaces, Source};
use crate::store::insert::{Failure, Insert, send};
use crate::store::link::Link;
use crate::store::writer::LateInsert;

/// How often it is looked for minutes that are over.
const TURN: Duration = Duration::from_secs(2);
/// How long a stop waits for the engine.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Minutes of one insert.
const ROWS_MAX: usize = 10_000;

/// So many times in a row the engine refuses minutes until they are given up: those behind them shall not wait for that.
const REFUSALS_MAX: u32 = 5;

/// Why minutes were not stored; they are sent again.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Away(#[from] crate::store::link::Away),
    #[error("the store does not take the interfaces' counters: {0}")]
    Engine(#[from] Failure),
}

/// Stores until `stop` is told; then ends the running minutes and stores all that wait, as far as the engine takes it in time.
///
/// How the store's own blocks are inserted tells how many shards there are.
pub async fn run(interfaces: Interfaces, link: Link, statement: LateInsert, stop: Arc<Notify>) {
    let mut keeper = Keeper { interfaces, link, statement, batch: Batch::default(), was_refused: false };
    while tokio::time::timeout(TURN, stop.notified()).await.is_err() {
        keeper.turn().await;
    }
    keeper.interfaces.finish();
    let _late = tokio::time::timeout(STOP_WAIT, keeper.turn()).await;
    let minutes = keeper.interfaces.metrics().minutes_waiting.load(Relaxed) + number(keeper.batch.minutes.len());
    if minutes > 0 {
        tracing::warn!(minutes, "counters of interfaces are lost with the stop: the store is away");
    }
}

struct Keeper {
    interfaces: Interfaces,
    link: Link,
    statement: LateInsert,
    /// What is being sent; the same until the engine has it.
    batch: Batch,
    was_refused: bool,
}

/// Minutes that are sent together, under an id by which the engine knows them if it took them though its answer was lost.
#[derive(Debug, Default)]
struct Batch {
    id: Uuid,
    minutes: Vec<Minute>,
    /// How often the engine has refused them.
    refusals: u32,
}

impl Keeper {
    async fn turn(&mut self) {
        match self.store().await {
            Ok(()) => self.was_refused = false,
            // Told by whoever keeps the engine running.
            Err(KeepError::Away(_)) => {}
            Err(error) => {
                if matches!(error, KeepError::Engine(Failure::Refused(_))) {
                    self.refused(&error);
                } else if !std::mem::replace(&mut self.was_refused, true) {
                    tracing::warn!(%error, "counters of interfaces wait");
                }
            }
        }
    }

    /// The engine has refused what was sent: at some time it has refused it for good.
    fn refused(&mut self, error: &KeepError) {
        self.batch.refusals += 1;
        if self.batch.refusals < REFUSALS_MAX {
            return;
        }
        let minutes = number(std::mem::take(&mut self.batch.minutes).len());
        self.interfaces.metrics().minutes_refused.fetch_add(minutes, Relaxed);
        tracing::error!(%error, minutes, "counters of interfaces are lost: the store refuses them");
    }

    async fn store(&mut self) -> Result<(), KeepError> {
        let client = self.link.client()?;
        let Some(shards) = self.statement.get().map(|statement| statement.shards) else {
            // It is being asked for.
            return Ok(());
        };
        let insert = Insert::interface_counters(shards);
        loop {
            if self.batch.minutes.is_empty() {
                self.batch = Batch { id: Uuid::new_v4(), minutes: self.interfaces.take_waiting(ROWS_MAX), refusals: 0 };
            }
            if self.batch.minutes.is_empty() {
                return Ok(());
            }
            send(&client, &insert, (self.batch.id, 0), rows(&self.batch.minutes).into()).await?;
            self.interfaces.metrics().minutes_stored.fetch_add(number(self.batch.minutes.len()), Relaxed);
            self.batch.minutes.clear();
        }
    }
}

fn number(minutes: usize) -> u64 {
    u64::try_from(minutes).unwrap_or(u64::MAX)
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

    fn minute() -> Minute {
        Minute {
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
        }
    }

    #[test]
    fn a_minute_is_a_line_with_the_names_of_the_columns() {
        let lines = rows(&[minute(), Minute { exporter: Address(1), ..minute() }]);
        let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&rows[0]["exporter"], &rows[1]["exporter"], &rows[0]["time"]),
            (&json!("::ffff:192.0.2.1"), &json!("::1"), &json!(1_795_176_000))
        );
        let sql = include_str!("../../../schemas/clickhouse/0003_interface_counters.sql");
        assert!(rows[0].as_object().unwrap().keys().all(|name| sql.contains(&format!("\n    {name} "))), "{lines}");
    }
    #[tokio::test]
    async fn minutes_that_are_refused_whenever_they_are_sent_are_given_up_and_counted() {
        use axum::http::StatusCode;

        let strict = async || (StatusCode::BAD_REQUEST, "Code: 16. DB::Exception: No such column");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link::away("not yet");
        link.set_up(crate::store::link::Endpoint {
            url: format!("http://{}", listener.local_addr().unwrap()),
            user: String::new(),
            password: String::new(),
            database: "weir".to_owned(),
            is_remote: true,
        });
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(strict)).await });
        let (interfaces, statement) = (Interfaces::new(&super::super::interface::Config::default()), LateInsert::default());
        statement.set(Insert::flows(0)).unwrap();
        let batch = Batch { id: Uuid::from_u128(7), minutes: vec![minute(), minute()], refusals: 0 };
        let mut keeper = Keeper { interfaces, link, statement, batch, was_refused: false };
        for _ in 1..REFUSALS_MAX {
            keeper.turn().await;
        }
        assert_eq!((keeper.batch.minutes.len(), keeper.interfaces.metrics().minutes_refused.load(Relaxed)), (2, 0));
        keeper.turn().await;
        assert_eq!((keeper.batch.minutes.len(), keeper.interfaces.metrics().minutes_refused.load(Relaxed)), (0, 2));
    }

    /// By its id a batch that is sent again meets itself: on the shard that follows from it, which has answered for it.
    #[tokio::test]
    async fn minutes_that_are_sent_again_go_to_the_same_shard_under_the_same_id() {
        use std::collections::BTreeMap;
        use std::sync::Mutex;

        use axum::extract::{Query, State};
        use axum::http::StatusCode;

        type Asked = Arc<Mutex<Vec<BTreeMap<String, String>>>>;
        let forgetful = async |State(asked): State<Asked>, Query(pairs): Query<BTreeMap<String, String>>| {
            let mut asked = asked.lock().unwrap();
            asked.push(pairs);
            // The first time it takes them, and does not say so.
            if asked.len() == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
        };
        let asked = Asked::default();
        let router = axum::Router::new().fallback(forgetful).with_state(Arc::clone(&asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link::away("not yet");
        link.set_up(crate::store::link::Endpoint {
            url: format!("http://{}", listener.local_addr().unwrap()),
            user: String::new(),
            password: String::new(),
            database: "weir".to_owned(),
            is_remote: true,
        });
        tokio::spawn(async move { axum::serve(listener, router).await });

        let (interfaces, statement) = (Interfaces::new(&super::super::interface::Config::default()), LateInsert::default());
        let batch = Batch { id: Uuid::from_u128(7), minutes: vec![minute()], refusals: 0 };
        let mut keeper = Keeper { interfaces, link, statement, batch, was_refused: false };
        keeper.turn().await;
        assert!(asked.lock().unwrap().is_empty(), "how many shards there are is not known yet");
        keeper.statement.set(Insert::flows(3)).unwrap();
        keeper.turn().await;
        keeper.turn().await;
        assert_eq!((keeper.batch.minutes.len(), keeper.interfaces.metrics().minutes_stored.load(Relaxed)), (0, 1));
        let asked = asked.lock().unwrap();
        assert_eq!((asked.len(), &asked[0]), (2, &asked[1]));
        let said = |name: &str| asked[0].get(name).map(String::as_str);
        // 7 modulo 3 shards is the second.
        assert_eq!((said("insert_shard_id"), said("distributed_foreground_insert")), (Some("2"), Some("1")));
        assert_eq!(said("insert_deduplication_token"), Some(Uuid::from_u128(7).to_string().as_str()));
    }
}
