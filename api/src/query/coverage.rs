//! What the tables hold, known for a few seconds, so that not every question asks for it first.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;

use super::ask::{AskError, Desk};
use super::compile::Statement;
use super::level::{Coverage, Held, Table};

/// How long it is believed what the tables hold.
const FRESH: Duration = Duration::from_secs(5);
/// How long it is believed while it cannot be asked for anew, or somebody does so already.
const STALE: Duration = Duration::from_secs(60);

/// What was known last, and who asks anew.
#[derive(Debug, Default)]
pub(super) struct Known {
    last: std::sync::Mutex<Option<(Instant, Arc<Coverage>)>>,
    asking: Mutex<()>,
}

impl Known {
    /// What is known, if it is not older than that.
    fn within(&self, age: Duration) -> Option<Arc<Coverage>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(asked, _)| asked.elapsed() < age).map(|(_, coverage)| Arc::clone(coverage))
    }

    fn put(&self, coverage: &Arc<Coverage>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::clone(coverage)));
    }
}

impl Desk {
    /// What every table holds, as of a few seconds ago; while somebody asks anew, as of up to a minute ago.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub async fn coverage(&self) -> Result<Arc<Coverage>, AskError> {
        if let Some(coverage) = self.known.within(FRESH) {
            return Ok(coverage);
        }
        let asking = match (self.known.asking.try_lock(), self.known.within(STALE)) {
            (Ok(asking), _) => asking,
            (Err(_), Some(coverage)) => return Ok(coverage),
            // Nobody knows anything yet, and one question is enough: whoever waits is answered with the first, or fails like it.
            (Err(_), None) => tokio::time::timeout(self.wait(), self.known.asking.lock()).await.map_err(|_| self.busy())?,
        };
        if let Some(coverage) = self.known.within(FRESH) {
            return Ok(coverage);
        }
        let asked = self.ask(&statement()).await;
        drop(asking);
        match (asked, self.known.within(STALE)) {
            (Ok(answered), _) => {
                let coverage = Arc::new(read(answered.data));
                self.known.put(&coverage);
                Ok(coverage)
            }
            (Err(_), Some(coverage)) => Ok(coverage),
            (Err(error), None) => Err(error),
        }
    }
}

fn statement() -> Statement {
    let mut statement = Statement::default();
    for (number, name) in Table::names().enumerate() {
        let union = if number > 0 { " UNION ALL " } else { "" };
        statement.push(&format!("{union}SELECT '{name}' AS name, toUnixTimestamp(min(time)) AS start, count() AS held FROM {name}"));
    }
    statement
}

fn read(rows: Vec<Vec<Value>>) -> Coverage {
    let mut coverage = Coverage::new();
    for row in rows {
        if let [Value::String(name), start, held] = row.as_slice() {
            let rows = held.as_u64().unwrap_or(0);
            coverage.insert(name.clone(), Held { start: start.as_u64().filter(|_| rows > 0), rows });
        }
    }
    coverage
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use collector::store::link::{Endpoint, Link};

    use super::super::Config;
    use super::*;

    /// A desk whose engine takes questions and never answers.
    fn desk() -> (Desk, std::net::TcpListener) {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (url, link) = (format!("http://{}", silent.local_addr().unwrap()), Link::away(""));
        let (user, password, database) = ("weir".to_owned(), String::new(), "weir".to_owned());
        link.set_up(Endpoint { url, user, password, database, is_remote: false });
        (Desk::new(link, Config { wait_milliseconds_max: 20, ..Config::default() }), silent)
    }

    #[tokio::test]
    async fn while_one_asks_the_others_believe_what_was_known_last() {
        let (desk, _silent) = desk();
        let first = Held { start: Some(60), rows: 1 };
        let last = (Instant::now().checked_sub(FRESH).unwrap(), Arc::new(Coverage::from([("flows".to_owned(), first)])));
        *desk.known.last.lock().unwrap() = Some(last);
        let mut slow = pin!(desk.coverage());
        assert!(matches!(slow.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        assert_eq!(desk.coverage().await.unwrap()["flows"], first);
        assert!(matches!(slow.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending), "the first still asks");
    }

    #[tokio::test]
    async fn while_nothing_is_known_nobody_waits_longer_than_for_a_place() {
        let (desk, _silent) = desk();
        let mut slow = pin!(desk.coverage());
        assert!(matches!(slow.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        assert_eq!(desk.coverage().await.unwrap_err(), desk.busy());
    }
}
