//! An answer on its way, without what is none: an exception behind a part of the rows, and an end that is none.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clickhouse::error::Error;
use clickhouse::query::BytesCursor;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::super::Config;
use super::{AskError, fault};

/// Octets that are held back until it is known what follows: an engine writes at most 16 KiB of an exception behind its rows.
const HELD_MAX: usize = 32_768;
/// What stands before and behind an exception, from version 25.11 on.
const MARK: &[u8] = b"__exception__\r\n";

/// An answer on its way; while it is held, the query has its place.
pub struct Stream {
    cursor: BytesCursor,
    config: Config,
    /// The last octets, which may be the first of an exception.
    held: BytesMut,
    state: State,
    /// How long the engine may be silent while somebody waits for it, and until when.
    silence_max: Duration,
    silence: Pin<Box<Sleep>>,
    is_awaited: bool,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Everything has come, and what is held is a part of the answer.
    Ended,
    /// It has broken off, or everything was handed on.
    Over,
}

impl Stream {
    pub(super) fn new(cursor: BytesCursor, config: Config, silence_max: Duration, permit: OwnedSemaphorePermit) -> Self {
        let silence = Box::pin(tokio::time::sleep(silence_max));
        Self { cursor, config, held: BytesMut::new(), state: State::Running, silence_max, silence, is_awaited: false, _permit: permit }
    }

    /// Waits until it is known that an answer comes, and not a refusal alone.
    pub(super) async fn begin(&mut self) -> Result<(), AskError> {
        std::future::poll_fn(|context| self.poll_fill(context, 1)).await
    }

    /// The next octets; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`AskError`] if the query ends before its answer does.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AskError> {
        std::future::poll_fn(|context| self.poll_part(context)).await.transpose()
    }

    /// Takes what comes until more than `octets` are held or it has ended.
    fn poll_fill(&mut self, context: &mut Context<'_>, octets: usize) -> Poll<Result<(), AskError>> {
        while self.state == State::Running && self.held.len() < octets {
            let Poll::Ready(next) = self.cursor.poll_next(context) else {
                // Who reads slowly has not waited for the engine in between.
                if !std::mem::replace(&mut self.is_awaited, true) {
                    self.silence.as_mut().reset(Instant::now() + self.silence_max);
                }
                ready!(self.silence.as_mut().poll(context));
                return Poll::Ready(Err(self.broken(AskError::Away("it has not answered in time".to_owned()))));
            };
            self.is_awaited = false;
            match next {
                Ok(Some(part)) => self.held.extend_from_slice(&part),
                Ok(None) => match exception(&self.held) {
                    Some(text) => {
                        let error = fault(&self.config, &Error::BadResponse(text));
                        return Poll::Ready(Err(self.broken(error)));
                    }
                    None => self.state = State::Ended,
                },
                // The text of an exception may have come before the connection broke.
                Err(error) => {
                    let told = exception(&self.held).map(Error::BadResponse).unwrap_or(error);
                    let error = fault(&self.config, &told);
                    return Poll::Ready(Err(self.broken(error)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn broken(&mut self, error: AskError) -> AskError {
        self.state = State::Over;
        self.held.clear();
        error
    }

    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, AskError>>> {
        match ready!(self.poll_fill(context, HELD_MAX + 1)) {
            Err(error) => Poll::Ready(Some(Err(error))),
            Ok(()) if self.state == State::Running => {
                let octets = self.held.len().saturating_sub(HELD_MAX);
                Poll::Ready(Some(Ok(self.held.split_to(octets).freeze())))
            }
            Ok(()) => {
                self.state = State::Over;
                let rest = std::mem::take(&mut self.held).freeze();
                Poll::Ready((!rest.is_empty()).then_some(Ok(rest)))
            }
        }
    }
}

impl futures_core::Stream for Stream {
    type Item = Result<Bytes, AskError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_part(context)
    }
}

/// The text of the exception that the last octets of an answer are, if they are one.
///
/// From 25.11 on it stands between marks; before that it is the bare text with the version behind it. No format that we ask for ends so:
/// texts stand in quotes.
fn exception(octets: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(octets);
    let rest =
        if octets.ends_with(MARK) { text.split_once("__exception__\r\n")?.1 } else { text.trim_end().ends_with(')').then_some(&*text)? };
    let start = rest.rfind("Code: ").filter(|start| rest.get(*start..).is_some_and(|text| text.contains("DB::Exception")));
    // Marks without a text that can be read are an exception all the same.
    let text = start.and_then(|start| rest.get(start..)).or(octets.ends_with(MARK).then_some(rest))?;
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_told_from_rows() {
        let timeout = "Code: 159. DB::Exception: Timeout exceeded: elapsed 30.1 seconds. (TIMEOUT_EXCEEDED) (version 26.7.2.1)\n";
        let marked = format!("1,2\n\r\n__exception__\r\nabcdefgh\r\n{timeout}{} abcdefgh\r\n__exception__\r\n", timeout.len());
        assert!(exception(marked.as_bytes()).unwrap().starts_with("Code: 159."));
        assert!(exception(format!("1,2\n{timeout}").as_bytes()).unwrap().starts_with("Code: 159."));
        assert!(exception(b"1,2\n\r\n__exception__\r\n?\r\n__exception__\r\n").is_some());
        for rows in ["", "1,2\n", "1,\"Code: 1. DB::Exception: (x)\"\n", "1,\"(a)\"\n", "1,\"__exception__\r\n\"\n", "PAR1"] {
            assert_eq!(exception(rows.as_bytes()), None, "{rows}");
        }
    }
}
