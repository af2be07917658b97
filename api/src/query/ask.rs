//! Asks the engine, within limits: how many at once, how long, how much; what ends at a limit says at which.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clickhouse::error::Error;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use collector::store::link::Link;

use super::Config;
use super::compile::Statement;
use super::coverage::Known;
use super::names::{Nameless, Names};

pub use stream::Stream;

mod stream;

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
    #[error("{count} {what} run already (api.query.{key})")]
    Busy {
        /// What runs.
        what: &'static str,
        /// The key of the limit.
        key: &'static str,
        /// What it is set to.
        count: usize,
    },
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
    /// More groups than were to be summed at once.
    #[error("there are more groups than are summed at once (api.query.groups_at_once_max)")]
    Groups,
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
    /// Places of questions, and those of files, which are read as slowly as whoever asked for them likes.
    questions: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    pub(super) known: Known,
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
    /// Why there are no more rows, where an engine puts that into the answer.
    #[serde(default)]
    exception: Option<String>,
}

impl Desk {
    /// A desk for the engine behind `link`.
    #[must_use]
    pub fn new(link: Link, config: Config) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        let (questions, exports) = (places(config.concurrent_max), places(config.export_concurrent_max));
        Self { link, config, questions, exports, known: Known::default(), names: OnceLock::new() }
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
        self.ask_for(statement, self.config.rows_result_max).await
    }

    /// Asks for so many rows at most, if there may be as many at all.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub async fn ask_for(&self, statement: &Statement, rows_max: u64) -> Result<Answered, AskError> {
        let (client, permit) = self.admit().await?;
        let mut stream = self.send(client, permit, statement, "JSONCompact", self.config.rows_result_max.min(rows_max))?;
        let work = async {
            let mut octets = Vec::new();
            while let Some(part) = stream.next().await? {
                octets.extend_from_slice(&part);
                if u64::try_from(octets.len()).unwrap_or(u64::MAX) > self.config.answer_octets_max {
                    let (what, key, value) = ("more octets of answer", "answer_octets_max", self.config.answer_octets_max);
                    return Err(AskError::Limit { what, key, value });
                }
            }
            // The engine (26.7) writes the totals of no rows at all in front of the document; of nothing, nothing is the total.
            if octets.starts_with(TOTALS_OF_NOTHING) {
                return Ok(Answered::default());
            }
            let answered: Answered =
                serde_json::from_slice(&octets).map_err(|error| AskError::Refused(format!("an answer that is no JSON: {error}")))?;
            match answered.exception {
                Some(text) => Err(fault(&self.config, &Error::BadResponse(text))),
                None => Ok(answered),
            }
        };
        let silent = |_| Err(AskError::Away("it has not answered in time".to_owned()));
        tokio::time::timeout(self.patience(), work).await.unwrap_or_else(silent)
    }

    /// Asks, and hands on the answer as it comes, in one of the engine's formats; it has a place among files.
    ///
    /// # Errors
    ///
    /// [`AskError`], if the engine refuses before its first octets.
    pub async fn export(&self, statement: &Statement, format: &str, rows_max: u64) -> Result<Stream, AskError> {
        let client = self.client()?;
        let permit = tokio::time::timeout(self.wait(), Arc::clone(&self.exports).acquire_owned()).await;
        let busy = AskError::Busy { what: "exports", key: "export_concurrent_max", count: self.config.export_concurrent_max };
        let Ok(Ok(permit)) = permit else { return Err(busy) };
        let mut stream = self.send(client, permit, statement, format, rows_max)?;
        stream.begin().await?;
        Ok(stream)
    }

    fn send(
        &self,
        client: clickhouse::Client,
        permit: OwnedSemaphorePermit,
        statement: &Statement,
        format: &str,
        rows_max: u64,
    ) -> Result<Stream, AskError> {
        let mut query = client.query(&statement.sql);
        for (name, value) in self.settings(rows_max) {
            query = query.with_setting(name, value);
        }
        for (number, value) in statement.values.iter().enumerate() {
            query = query.param(&format!("p{number}"), value);
        }
        let cursor = query.fetch_bytes(format).map_err(|error| self.fault(&error))?;
        Ok(Stream::new(cursor, self.config.clone(), self.patience(), permit))
    }

    /// How long a query waits for its turn.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_millis(self.config.wait_milliseconds_max)
    }

    pub(super) fn busy(&self) -> AskError {
        AskError::Busy { what: "queries", key: "concurrent_max", count: self.config.concurrent_max }
    }

    /// How long an engine may be silent.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.config.execution_seconds_max) + SILENCE_MAX
    }

    /// A client of the engine that keeps the limits of time and memory, and a place among those who ask for as long as it is held.
    ///
    /// # Errors
    ///
    /// [`AskError::Away`], or [`AskError::Busy`] if no place becomes free.
    pub async fn admit(&self) -> Result<(clickhouse::Client, OwnedSemaphorePermit), AskError> {
        // It answers when it has everything, so that an error is never behind a part of the rows.
        let client = self.client()?.with_setting("wait_end_of_query", "1");
        let permit = tokio::time::timeout(self.wait(), Arc::clone(&self.questions).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(self.busy()) };
        Ok((client, permit))
    }

    fn client(&self) -> Result<clickhouse::Client, AskError> {
        let away = |away: collector::store::link::Away| AskError::Away(away.to_string());
        let mut client = self.link.client().map_err(away)?;
        if self.link.endpoint().map_err(away)?.is_remote {
            // A server gives up what nobody waits for if it is sure that nothing is changed; a child of ours does so anyway.
            client = client.with_setting("readonly", "2").with_setting("cancel_http_readonly_queries_on_client_close", "1");
        }
        Ok(self.costs().into_iter().fold(client, |client, (name, value)| client.with_setting(name, value)))
    }

    /// What any statement may cost.
    fn costs(&self) -> [(&'static str, String); 6] {
        let half = (self.config.memory_octets_max / 2).to_string();
        [
            ("max_execution_time", self.config.execution_seconds_max.to_string()),
            ("timeout_overflow_mode", "throw".to_owned()),
            ("max_memory_usage", self.config.memory_octets_max.to_string()),
            ("max_bytes_before_external_group_by", half.clone()),
            ("max_bytes_before_external_sort", half),
            // An exception stands behind an answer and never within it, where it would be data.
            ("http_write_exception_in_output_format", "0".to_owned()),
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

    /// What the engine's refusal means to who asked.
    #[must_use]
    pub fn fault(&self, error: &Error) -> AskError {
        fault(&self.config, error)
    }
}

/// What the engine's refusal means to who asked.
fn fault(config: &Config, error: &Error) -> AskError {
    let limit = |what, key, value| AskError::Limit { what, key, value };
    let text = match error {
        Error::BadResponse(text) => text,
        Error::Network(_) | Error::TimedOut => return AskError::Away(error.to_string()),
        _ => return AskError::Refused(error.to_string()),
    };
    match code(text) {
        Some(159 | 160) => limit("more time", "execution_seconds_max", config.execution_seconds_max),
        Some(241) if is_total(text) => AskError::Memory,
        Some(241) => limit("more memory", "memory_octets_max", config.memory_octets_max),
        Some(158) if text.contains("GROUP BY") => AskError::Groups,
        Some(158 | 307) => limit("to read more rows", "rows_read_max", config.rows_read_max),
        Some(396) => limit("more rows of answer", "rows_result_max", config.rows_result_max),
        Some(202) => AskError::Busy { what: "queries", key: "concurrent_max", count: config.concurrent_max },
        // Given up, or the engine is on its way down.
        Some(394 | 236 | 210 | 209) | None => AskError::Away(first_line(text)),
        Some(_) => AskError::Refused(first_line(text)),
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn fault(text: &str) -> AskError {
        let desk = Desk::new(Link::away("no engine"), Config::default());
        desk.fault(&Error::BadResponse(text.to_owned()))
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

    /// A server that answers one request with these pieces, each a chunk, and hands out the head of what was asked.
    async fn server(pieces: &'static [&'static str], ends: bool) -> (Desk, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.windows(4).any(|part| part == b"\r\n\r\n") {
                stream.read_buf(&mut asked).await.unwrap();
            }
            let head = "HTTP/1.1 200 OK\r\nX-ClickHouse-Exception-Tag: abcdefgh\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            let chunks = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()));
            let text: String = std::iter::once(head).chain(chunks).chain(ends.then(|| "0\r\n\r\n".to_owned())).collect();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            // What is still unread would reset the connection before its answer is read.
            while stream.read_buf(&mut asked).await.is_ok_and(|octets| octets > 0) {}
            String::from_utf8(asked).unwrap()
        });
        let (user, password, database) = ("default".to_owned(), String::new(), "weir".to_owned());
        let link = Link::away("");
        link.set_up(collector::store::link::Endpoint { url, user, password, database, is_remote: true });
        (Desk::new(link, Config::default()), serving)
    }

    async fn read(stream: Result<Stream, AskError>) -> (String, Option<AskError>) {
        let (mut text, mut stream) = (String::new(), stream.unwrap());
        loop {
            match stream.next().await {
                Ok(Some(part)) => text.push_str(std::str::from_utf8(&part).unwrap()),
                Ok(None) => return (text, None),
                Err(error) => return (text, Some(error)),
            }
        }
    }

    const ROWS: &str = "1,2\n";
    /// Longer than what is held back.
    const MANY: &str = match std::str::from_utf8(&[b'7'; 40_000]) {
        Ok(text) => text,
        Err(_) => "",
    };

    /// An exception in several pieces, behind rows: the engine's of 25.11 and later between marks, of those before without.
    #[tokio::test]
    async fn an_exception_behind_rows_is_no_row_and_names_its_limit() {
        let statement = Statement::default();
        for (pieces, ends) in [
            (
                &[
                    MANY,
                    "\r\n__exception__\r\nabcdefgh\r\nCode: 241. DB::Exception: Query memory limit exceeded",
                    ". (MEMORY_LIMIT_EXCEEDED)\n79 abcdefgh\r\n__excep",
                    "tion__\r\n",
                ][..],
                true,
            ),
            (&[MANY, "Code: 241. DB::Exc", "eption: Query memory limit exceeded (version 24.8.1.1 (official build)", ")\n"], true),
            // A server that breaks the transfer off besides.
            (&[MANY, "\r\n__exception__\r\nabcdefgh\r\nCode: 241. DB::Exception: x (X)\n32 abcdefgh\r\n__exception__", "\r\n"], false),
        ] {
            let (desk, _served) = server(pieces, ends).await;
            let (text, error) = read(desk.export(&statement, "CSV", 10).await).await;
            assert!(!text.contains("exception") && !text.contains("Code"), "{text}");
            assert!(error.as_ref().is_some_and(|error| error.to_string().contains("api.query.memory_octets_max")), "{error:?}");
        }
        let (desk, _served) = server(&[ROWS, MANY, ROWS], true).await;
        assert_eq!(read(desk.export(&statement, "CSV", 10).await).await, (format!("{ROWS}{MANY}{ROWS}"), None));
        // Of a transfer that breaks off nothing is known, but that it is not whole.
        let (desk, _served) = server(&[ROWS], false).await;
        assert!(matches!(read(desk.export(&statement, "CSV", 10).await).await.1, Some(AskError::Away(_))));
    }

    #[tokio::test]
    async fn an_answer_that_ends_in_an_exception_is_refused_with_the_limit_that_it_met() {
        let statement = Statement::default();
        let within = r#"{"data": [[1]], "exception": "Code: 159. DB::Exception: Timeout exceeded. (TIMEOUT_EXCEEDED)"}"#;
        let behind = "{\"data\": [[1],\r\n__exception__\r\nabcdefgh\r\nCode: 159. DB::Exception: x (X)\n32 abcdefgh\r\n__exception__\r\n";
        for text in [within, behind] {
            let (desk, _served) = server(Vec::leak(vec![text]), true).await;
            let error = desk.ask(&statement).await.unwrap_err();
            assert!(error.to_string().contains("api.query.execution_seconds_max = 30"), "{error}");
        }
        let (desk, served) = server(&[r#"{"data": [[1]]}"#], true).await;
        assert_eq!(desk.ask(&statement).await.unwrap().data, [[1]]);
        drop(desk);
        let asked = served.await.unwrap();
        // A server gives up what nobody waits for, and writes no exception where data is.
        for setting in [
            "readonly=2",
            "cancel_http_readonly_queries_on_client_close=1",
            "http_write_exception_in_output_format=0",
            "wait_end_of_query=1",
        ] {
            assert!(asked.contains(setting), "{setting}: {asked}");
        }
    }

    #[tokio::test]
    async fn an_answer_of_too_many_octets_ends_at_their_limit() {
        let (mut desk, _served) = server(&["{\"data\": [[", MANY, "]]}"], true).await;
        desk.config.answer_octets_max = 30_000;
        assert!(desk.ask(&Statement::default()).await.unwrap_err().to_string().contains("api.query.answer_octets_max = 30000"));
    }
}
