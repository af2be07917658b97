//! `weir backtest`: stored flows through the counters, the analysts and the mitigation on a virtual clock, and what would have come of it.
//!
//! What is learned starts anew, and what the raw flows do not tell is missing: lost datagrams lower no confidence here.

use std::io;

use anyhow::{Context as _, bail, ensure};
use clickhouse::Client;
use collector::replay::Course;
use collector::shard::Pipe;
use serde_json::{Value, json};

use schemas::time::Timestamp;

use crate::config::Config;
use crate::hindsight::{self, Hindsight, Report};

mod read;
mod store;

pub use store::tell;

use read::{Piece, Rows};

/// Runs the flows that were received from `from` until `to` and prints the report, as `weir replay` does.
///
/// # Errors
///
/// If the store cannot be asked, or holds no flow of that time.
pub fn run(config: &Config, from: Timestamp, to: Timestamp) -> anyhow::Result<()> {
    ensure!(from < to, "--from must be before --to");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = store::open(&config.collector.store, &config.data_dir)?;
    let report = runtime.block_on(report(&store.client, config, from, to))?;
    drop(store);
    hindsight::print(&report, &mut io::stdout().lock()).context("cannot write")
}

/// What the flows come to that were received from `from` until `to`.
///
/// # Errors
///
/// If the store cannot be asked, or holds no flow of that time.
pub async fn report(client: &Client, config: &Config, from: Timestamp, to: Timestamp) -> anyhow::Result<Report> {
    let (mut hindsight, mut pipe) = Hindsight::new(config);
    let mut course = Course::new(&mut pipe, |snapshot| hindsight.take(snapshot));
    let mut read = Read::default();
    for (from, to) in read::hours(from, to) {
        for piece in read::pieces(client, from, to).await? {
            read.piece(client, &piece, &mut course).await?;
        }
    }
    let ledger = course.finish(hindsight::tail_milliseconds(config));
    let kept = read::kept(client).await?;
    let Some((first, last)) = read.span else {
        match kept {
            Some((first, last)) => bail!("no flow was received between {from} and {to}: flows are kept from {first} to {last}"),
            None => bail!("the store holds no flow"),
        }
    };
    if let Some((kept, _)) = kept.filter(|(kept, _)| *kept > from) {
        eprintln!("flows are kept from {kept} on: the time before it is not in this report");
    }
    let mut report = hindsight.finish(ledger);
    let totals = json!({
        "flows": read.flows, "from": from, "to": to, "first_received_at": first, "last_received_at": last,
        "kept_from": kept.map(|(first, _)| first),
    });
    if let Value::Object(fields) = totals {
        report.totals = fields;
    }
    Ok(report)
}

/// What has been read.
#[derive(Default)]
struct Read {
    rows: Rows,
    flows: u64,
    /// Arrival of the first and of the last.
    span: Option<(Timestamp, Timestamp)>,
}

impl Read {
    async fn piece<T>(&mut self, client: &Client, piece: &Piece, course: &mut Course<'_, T>) -> anyhow::Result<()>
    where
        T: FnMut(schemas::counter::Snapshot),
    {
        let mut cursor = piece.rows(client)?;
        while let Some(row) = cursor.next().await.context("the store")? {
            let arrival = row.arrival();
            if !self.rows.takes(arrival) {
                give(&mut self.rows, course);
            }
            self.rows.push(&row);
            self.flows += 1;
            let (first, _) = *self.span.get_or_insert((arrival, arrival));
            self.span = Some((first, arrival));
        }
        give(&mut self.rows, course);
        Ok(())
    }
}

/// Lets the clock go to when the rows arrived, and the pipe have them.
fn give<T: FnMut(schemas::counter::Snapshot)>(rows: &mut Rows, course: &mut Course<'_, T>) {
    if let Some((batch, arrival)) = rows.batch() {
        let now = course.reach(arrival);
        let pipe: &mut Pipe = course.pipe;
        pipe.flows(batch, now);
        rows.clear();
    }
}
