//! Fills a store: an hour of flows, and days of sums before it.

use anyhow::Result;
use serde::Serialize;

use crate::serving::Engine;

/// Makes flows; `{…}` stand for numbers.
const FLOWS: &str = include_str!("flows.sql");
/// Makes sums.
const SUMS: &str = include_str!("sums.sql");
/// Flows of one statement.
const ROWS_MAX: u64 = 4_194_304;
/// Seconds of the hour.
const SECONDS: u64 = 3_600;

/// What there is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Filled {
    /// Flows, and their octets on disk.
    pub(super) flows: u64,
    pub(super) flows_octets: u64,
    /// Sums by minute and hour, and their octets on disk.
    pub(super) sums: u64,
    pub(super) sums_octets: u64,
}

/// Fills the tables up to the second `to`.
///
/// # Errors
///
/// What the engine says.
pub(super) fn fill(engine: &Engine, rate: u32, days: u32, to: u64) -> Result<Filled> {
    let (rows, from) = (u64::from(rate) * SECONDS, to - SECONDS);
    for first in (0..rows).step_by(usize::try_from(ROWS_MAX)?) {
        let count = ROWS_MAX.min(rows - first);
        engine.ask(&filled_in(FLOWS, &[("from", from), ("seconds", SECONDS), ("rows", rows), ("first", first), ("count", count)]))?;
        eprintln!("{} of {rows} flows", first + count);
    }
    let minutes = u64::from(days) * 1_440 - SECONDS / 60;
    let sums = filled_in(SUMS, &[("from", from - minutes * 60), ("minutes", minutes)]);
    for statement in sums.split(';') {
        engine.ask(statement)?;
    }
    // The hour's sums have come in many small parts; a store that has run for an hour has merged them.
    let tables = engine.ask("SELECT name FROM system.tables WHERE database = 'weir' AND match(name, '_1[mh]$') FORMAT TabSeparated")?;
    for table in tables.lines() {
        engine.ask(&format!("OPTIMIZE TABLE weir.{table} FINAL SETTINGS optimize_skip_merged_partitions = 1"))?;
    }
    let held = |what: &str| -> Result<(u64, u64)> {
        let text = engine.ask(&format!(
            "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'weir' AND {what} FORMAT TabSeparated"
        ))?;
        let (rows, octets) = text.split_once('\t').unwrap_or_default();
        Ok((rows.parse().unwrap_or(0), octets.parse().unwrap_or(0)))
    };
    let ((flows, flows_octets), (sums, sums_octets)) = (held("table = 'flows'")?, held("match(table, '_1[mh]$')")?);
    Ok(Filled { flows, flows_octets, sums, sums_octets })
}

/// A text without its comments and with numbers in the places of their names.
fn filled_in(text: &str, numbers: &[(&str, u64)]) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    numbers.iter().fold(lines.join("\n"), |text, (name, number)| text.replace(&format!("{{{name}}}"), &number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_statements_is_filled_in() {
        let flows = filled_in(FLOWS, &[("from", 1), ("seconds", 2), ("rows", 3), ("first", 4), ("count", 5)]);
        let sums = filled_in(SUMS, &[("from", 1), ("minutes", 2)]);
        assert!(!flows.contains(['{', '}']) && !sums.contains(['{', '}']), "{flows}{sums}");
        assert!(flows.contains("numbers_mt(4, 5)") && sums.split(';').count() == 3);
    }
}
