//! Asks the engine, within limits: how many at once, how long, how much; what ends at a limit says at which.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::query::BytesCursor;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use collector::store::link::Link;

use super::Config;
use super::compile::Statement;
use super::level::{Coverage, Held, Table};
use super::names::{Nameless, Names};

/// How long it is believed what the tables hold.
const COVERAGE_WAIT: Duration = Duration::from_secs(5);
/// How much longer than it may run a query is waited for: an engine that does not even give up is away.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What an answer without rows begins with where totals were asked for.
const TOTALS_OF_NOTHING: &[u8] = b"\n\t],\n\n\t\"totals\":";

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The engine does not answer.
    #[error("the store is away: {0}")]
    Away(String),
    /// Others ask already.
    #[error("{0} queries run already (api.query.concurrent_max)")]
    Busy(usize),
    /// It would cost too much.
    #[error("the query needs {what} (api.query.{key} = {value}): ask for a shorter range, fewer groups, or filter by less")]
    Limit {
        /// More of what.
        what: &'static str,
        /// The key of the limit.
        key: &'static str,
        /// What it is set to.
        value: u64,
    },
    /// The engine as a whole has no memory for it now.
    #[error("the store has no memory left for this query (collector.store.embedded.memory_octets_max)")]
    Memory,
    /// The engine refuses what we ask: a fault of ours.
    #[error("the store refuses the query: {0}")]
    Refused(String),
}

/// Who asks: everyone who wants to know something of the store goes by here.
#[derive(Debug)]
pub struct Desk {
    link: Link,
    config: Config,
    permits: Arc<Semaphore>,
    coverage: Mutex<Option<(Instant, Arc<Coverage>)>>,
    names: OnceLock<Box<dyn Names>>,
}

/// An answer as the engine's format `JSONCompact` has it.
#[derive(Debug, Default, Deserialize)]
pub struct Answered {
    /// The rows.
    pub data: Vec<Vec<Value>>,
    /// The row of totals, where they were asked for.
    #[serde(default)]
    pub totals: Vec<Value>,
    /// Rows that there would be without `LIMIT`.
    #[serde(default)]
    pub rows_before_limit_at_least: u64,
}

/// An answer on its way; while it is held, the query has its place.
pub struct Stream {
    cursor: BytesCursor,
    /// Those of its first octets that came before it was known that it is an answer.
    first: Option<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Desk {
    /// A desk for the engine behind `link`.
    #[must_use]
    pub fn new(link: Link, config: Config) -> Self {
        let permits = Arc::new(Semaphore::new(config.concurrent_max));
        Self { link, config, permits, coverage: Mutex::default(), names: OnceLock::new() }
    }

    /// The limits.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Says who knows the names of numbers; the first to be told holds.
    pub fn name_by(&self, names: Box<dyn Names>) {
        drop(self.names.set(names));
    }

    /// Who knows the names of numbers.
    #[must_use]
    pub fn names(&self) -> &dyn Names {
        self.names.get().map_or(&Nameless, |names| &**names)
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub async fn ask(&self, statement: &Statement) -> Result<Answered, AskError> {
        let work = async {
            let mut stream = self.stream(statement, "JSONCompact", self.config.rows_result_max).await?;
            let mut octets = Vec::new();
            while let Some(part) = stream.next().await? {
                octets.extend_from_slice(&part);
            }
            // The engine (26.7) writes the totals of no rows at all in front of the document; of nothing, nothing is the total.
            if octets.starts_with(TOTALS_OF_NOTHING) {
                return Ok(Answered::default());
            }
            serde_json::from_slice(&octets).map_err(|error| AskError::Refused(format!("an answer that is no JSON: {error}")))
        };
        let wait =
            Duration::from_secs(self.config.execution_seconds_max) + Duration::from_millis(self.config.wait_milliseconds_max) + SILENCE_MAX;
        let silent = |_| Err(AskError::Away("it has not answered in time".to_owned()));
        tokio::time::timeout(wait, work).await.unwrap_or_else(silent)
    }

    /// Asks, and hands on the answer as it comes, in one of the engine's formats.
    ///
    /// # Errors
    ///
    /// [`AskError`], if the engine refuses before its first octets.
    pub async fn stream(&self, statement: &Statement, format: &str, rows_max: u64) -> Result<Stream, AskError> {
        let (client, permit) = self.admit().await?;
        let mut query = client.query(&statement.sql);
        for (name, value) in self.settings(rows_max) {
            query = query.with_setting(name, value);
        }
        for (number, value) in statement.values.iter().enumerate() {
            query = query.param(&format!("p{number}"), value);
        }
        let mut cursor = query.fetch_bytes(format).map_err(|error| self.fault(&error))?;
        let first = cursor.next().await.map_err(|error| self.fault(&error))?;
        Ok(Stream { cursor, first, _permit: permit })
    }

    /// A client of the engine that keeps the limits of time and memory, and a place among those who ask for as long as it is held.
    ///
    /// # Errors
    ///
    /// [`AskError::Away`], or [`AskError::Busy`] if no place becomes free.
    pub async fn admit(&self) -> Result<(clickhouse::Client, OwnedSemaphorePermit), AskError> {
        let client = self.link.client().map_err(|away| AskError::Away(away.to_string()))?;
        let wait = Duration::from_millis(self.config.wait_milliseconds_max);
        let permit = tokio::time::timeout(wait, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(AskError::Busy(self.config.concurrent_max)) };
        let client = self.costs().into_iter().fold(client, |client, (name, value)| client.with_setting(name, value));
        Ok((client, permit))
    }

    /// What any statement may cost.
    fn costs(&self) -> [(&'static str, String); 5] {
        let half = (self.config.memory_octets_max / 2).to_string();
        [
            ("max_execution_time", self.config.execution_seconds_max.to_string()),
            ("timeout_overflow_mode", "throw".to_owned()),
            ("max_memory_usage", self.config.memory_octets_max.to_string()),
            ("max_bytes_before_external_group_by", half.clone()),
            ("max_bytes_before_external_sort", half),
        ]
    }

    fn settings(&self, rows_max: u64) -> [(&'static str, String); 7] {
        let (config, text) = (&self.config, |word: &str| word.to_owned());
        [
            ("max_rows_to_read", config.rows_read_max.to_string()),
            ("read_overflow_mode", text("throw")),
            ("max_result_rows", rows_max.to_string()),
            ("result_overflow_mode", text("throw")),
            ("output_format_json_quote_64bit_integers", text("0")),
            ("output_format_json_quote_denormals", text("0")),
            ("date_time_output_format", text("iso")),
        ]
    }

    /// What every table holds, known for a few seconds.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub async fn coverage(&self) -> Result<Arc<Coverage>, AskError> {
        let mut known = self.coverage.lock().await;
        if let Some((asked, coverage)) = known.as_ref().filter(|(asked, _)| asked.elapsed() < COVERAGE_WAIT) {
            tracing::trace!(?asked, "coverage is known");
            return Ok(Arc::clone(coverage));
        }
        let mut statement = Statement::default();
        for (number, name) in Table::names().enumerate() {
            let union = if number > 0 { " UNION ALL " } else { "" };
            statement.push(&format!("{union}SELECT '{name}' AS name, toUnixTimestamp(min(time)) AS start, count() AS held FROM {name}"));
        }
        let mut coverage = Coverage::new();
        for row in self.ask(&statement).await?.data {
            if let [Value::String(name), start, held] = row.as_slice() {
                let rows = held.as_u64().unwrap_or(0);
                coverage.insert(name.clone(), Held { start: start.as_u64().filter(|_| rows > 0), rows });
            }
        }
        let coverage = Arc::new(coverage);
        *known = Some((Instant::now(), Arc::clone(&coverage)));
        Ok(coverage)
    }

    /// What the engine's refusal means to who asked.
    pub fn fault(&self, error: &clickhouse::error::Error) -> AskError {
        use clickhouse::error::Error::{BadResponse, Network, TimedOut};
        let config = &self.config;
        let limit = |what, key, value| AskError::Limit { what, key, value };
        let text = match error {
            BadResponse(text) => text,
            Network(_) | TimedOut => return AskError::Away(error.to_string()),
            _ => return AskError::Refused(error.to_string()),
        };
        match code(text) {
            Some(159 | 160) => limit("more time", "execution_seconds_max", config.execution_seconds_max),
            Some(241) if is_total(text) => AskError::Memory,
            Some(241) => limit("more memory", "memory_octets_max", config.memory_octets_max),
            Some(158 | 307) => limit("to read more rows", "rows_read_max", config.rows_read_max),
            Some(396) => limit("more rows of answer", "rows_result_max", config.rows_result_max),
            Some(202) => AskError::Busy(config.concurrent_max),
            // Given up, or the engine is on its way down.
            Some(394 | 236 | 210 | 209) | None => AskError::Away(first_line(text)),
            Some(_) => AskError::Refused(first_line(text)),
        }
    }
}

impl futures_core::Stream for Stream {
    type Item = Result<Bytes, AskError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let next = self.cursor.poll_next(context);
        next.map(|next| next.map_err(|error| AskError::Away(error.to_string())).transpose())
    }
}

impl Stream {
    /// The next octets; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`AskError::Away`] if the answer breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AskError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        self.cursor.next().await.map_err(|error| AskError::Away(error.to_string()))
    }
}

/// The number in `Code: 241. DB::Exception: …`.
fn code(text: &str) -> Option<u32> {
    let (_, behind) = text.split_once("Code: ")?;
    behind.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// Whether a memory limit is not the query's own but that of all queries together.
fn is_total(text: &str) -> bool {
    text.contains("(total)") || text.contains("(for user)") || text.contains("OvercommitTracker")
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> AskError {
        let desk = Desk::new(Link::away("no engine"), Config::default());
        desk.fault(&clickhouse::error::Error::BadResponse(text.to_owned()))
    }

    #[test]
    fn a_query_that_ends_at_a_limit_names_it() {
        let time = fault("Code: 159. DB::Exception: Timeout exceeded: elapsed 30.1 seconds. (TIMEOUT_EXCEEDED)");
        assert!(time.to_string().contains("api.query.execution_seconds_max = 30"), "{time}");
        let memory = fault("Code: 241. DB::Exception: Query memory limit exceeded: would use 513 MiB. (MEMORY_LIMIT_EXCEEDED)");
        assert!(memory.to_string().contains("api.query.memory_octets_max"), "{memory}");
        assert_eq!(fault("Code: 241. DB::Exception: (total) memory limit exceeded"), AskError::Memory);
        assert!(fault("Code: 158. DB::Exception: Limit for rows").to_string().contains("rows_read_max"));
        assert!(matches!(fault("Code: 47. DB::Exception: Unknown identifier"), AskError::Refused(_)));
        assert!(matches!(fault("<html>bad gateway</html>"), AskError::Away(_)));
    }

    #[tokio::test]
    async fn without_an_engine_the_reason_is_told() {
        let desk = Desk::new(Link::away("the engine starts"), Config::default());
        assert_eq!(desk.coverage().await.unwrap_err(), AskError::Away("the engine starts".to_owned()));
    }
}
