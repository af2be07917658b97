//! The table of flows beside others that it could be: the same rows in other orders and with other codecs, their octets and the engine's CPU.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::measure;
use crate::serving::Engine;

/// The order that the table has, as its making tells it.
const ORDER: &str = "ORDER BY (exporter, time)";
/// Rows that are put in at a time, as many as a block of the store has at most.
const ROWS: u32 = 524_288;

/// Another table, and what of the statement that makes it is another.
struct Candidate {
    name: &'static str,
    /// What stands there, and what stands in its place.
    changes: &'static [(&'static str, &'static str)],
}

const CANDIDATES: &[Candidate] = &[
    Candidate { name: "as it is: ORDER BY (exporter, time), ZSTD(1)", changes: &[] },
    Candidate { name: "ORDER BY (time, exporter)", changes: &[(ORDER, "ORDER BY (time, exporter)")] },
    Candidate {
        name: "ORDER BY (exporter, minute, destination)",
        changes: &[(ORDER, "ORDER BY (exporter, toStartOfMinute(time), destination_address)")],
    },
    Candidate {
        name: "ORDER BY (exporter, minute, protocol, destination)",
        changes: &[(ORDER, "ORDER BY (exporter, toStartOfMinute(time), protocol_identifier, destination_address)")],
    },
    Candidate { name: "LZ4", changes: &[("ZSTD(1)", "LZ4")] },
    Candidate { name: "ZSTD(3)", changes: &[("ZSTD(1)", "ZSTD(3)")] },
    Candidate { name: "numbers and times by ZSTD(1) alone", changes: &[("T64, ", ""), ("DoubleDelta, ", ""), ("Delta(8), ", "")] },
    Candidate { name: "texts without LowCardinality", changes: &[("LowCardinality(String)", "String")] },
];

/// What became of a candidate.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Compared {
    pub(super) name: &'static str,
    pub(super) octets_a_row: f64,
    /// To sort and write a row, without the views.
    pub(super) insert: Duration,
    /// To merge all rows into one part.
    pub(super) merge: Duration,
}

/// Makes every candidate in turn, fills it with the flows that are there, and merges it.
///
/// # Errors
///
/// What the engine says; if the table is made otherwise than is written here.
pub(super) fn compare(engine: &Engine) -> Result<Vec<Compared>> {
    let made = engine.ask("SHOW CREATE TABLE weir.flows FORMAT TSVRaw")?;
    let mut compared = Vec::new();
    for Candidate { name, changes } in CANDIDATES {
        let mut statement = made.replacen("weir.flows", "weir.candidate", 1);
        for (there, instead) in *changes {
            ensure!(statement.contains(there), "the table of flows has no {there:?}");
            statement = statement.replace(there, instead);
        }
        engine.ask("DROP TABLE IF EXISTS weir.candidate SYNC")?;
        engine.ask(&statement)?;
        let mut began = measure::process_cpu(engine.id());
        let mut lap = || {
            let now = measure::process_cpu(engine.id());
            let used = now.saturating_sub(began);
            began = now;
            used
        };
        engine.ask(&format!(
            "INSERT INTO weir.candidate SELECT * FROM weir.flows SETTINGS async_insert = 0, max_threads = 1, max_insert_threads = 1, \
             max_insert_block_size = {ROWS}, min_insert_block_size_rows = {ROWS}, min_insert_block_size_bytes = 0"
        ))?;
        let insert = lap();
        engine.ask("OPTIMIZE TABLE weir.candidate FINAL")?;
        let merge = lap();
        let held = engine.ask(
            "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'weir' AND table = 'candidate' FORMAT TSV",
        )?;
        let (rows, octets) = held.split_once('\t').unwrap_or_default();
        let rows: f64 = rows.parse()?;
        ensure!(rows > 0.0, "there are no flows to compare with");
        compared.push(Compared {
            name,
            octets_a_row: octets.parse::<f64>()? / rows,
            insert: insert.div_f64(rows),
            merge: merge.div_f64(rows),
        });
    }
    engine.ask("DROP TABLE weir.candidate SYNC")?;
    Ok(compared)
}
