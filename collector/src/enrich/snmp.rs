//! Asks devices for names, speeds and counters of their interfaces: SNMP version 2c, `GETBULK` over the IF-MIB.
//!
//! One task keeps the turns; each device is asked by a task of its own, so that one that does not answer delays no other. A device
//! that breaks off in the middle is taken for one that has not answered; single values that are not of their column's kind are passed over.

mod table;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use schemas::net::Address;
use schemas::time::Timestamp;
use snmp2::{AsyncSession, Oid, Value};
use tokio::task::JoinSet;

use super::interface::config::{Device, Snmp};
use super::interface::{Interfaces, Source};
use table::{COLUMNS, Cell, Column, LOW_COLUMNS, Table, UPTIME};

/// Values that one answer may hold: with names of 64 octets they fit a datagram that no link cuts.
const REPETITIONS: u32 = 16;
/// How often it is looked whose turn it is.
const TURN: Duration = Duration::from_millis(500);

/// Why a device was given up.
#[derive(Debug, thiserror::Error)]
pub enum SnmpError {
    /// No socket for it.
    #[error("cannot be asked: {0}")]
    Socket(#[from] std::io::Error),
    /// It has not answered, or not to this community.
    #[error("no answer within {milliseconds} ms, {attempts} times")]
    Silent {
        /// How long each answer was waited for.
        milliseconds: u64,
        /// How often it was asked.
        attempts: u32,
    },
    /// It has answered what cannot be read.
    #[error("an answer that cannot be read: {0}")]
    Answer(snmp2::Error),
    /// It has refused the question: tooBig, genErr, noAccess (RFC 3416 section 3).
    #[error("refuses the question, error status {status}")]
    Refused {
        /// The error status of its answer.
        status: u32,
    },
    /// It has answered everything, and not in time.
    #[error("did not tell everything within {seconds} s")]
    Slow {
        /// The time between two rounds.
        seconds: u64,
    },
    /// Its names do not ascend, so that they have no end.
    #[error("its table does not end")]
    Endless,
}

/// Asks until it is dropped.
pub async fn run(interfaces: Interfaces) {
    let config = interfaces.config().snmp.clone();
    if config.devices.is_empty() {
        return;
    }
    let mut turns = Turns { interfaces, config, due: HashMap::new(), asked: HashSet::new(), silent: HashSet::new(), tasks: JoinSet::new() };
    loop {
        turns.ask();
        match tokio::time::timeout(TURN, turns.tasks.join_next()).await {
            Ok(Some(Ok((exporter, outcome)))) => turns.answered(exporter, outcome.map_err(|error| error.to_string())),
            Ok(Some(Err(_))) | Err(_) => {}
            Ok(None) => tokio::time::sleep(TURN).await,
        }
    }
}

/// Who is asked when.
struct Turns {
    interfaces: Interfaces,
    config: Snmp,
    due: HashMap<Address, Instant>,
    /// Those that are being asked.
    asked: HashSet<Address>,
    /// Those that did not answer the last time.
    silent: HashSet<Address>,
    tasks: JoinSet<(Address, Result<usize, SnmpError>)>,
}

impl Turns {
    /// Asks everyone whose turn it is, as far as there is room.
    fn ask(&mut self) {
        let single = self.config.devices.iter().filter(|device| device.exporters.is_host()).map(|device| device.exporters.first());
        let heard = self.interfaces.exporters();
        let mut exporters: Vec<Address> = single.chain(heard).collect();
        let mut seen = HashSet::new();
        exporters.retain(|exporter| seen.insert(*exporter));
        for exporter in exporters {
            // The longest prefix holds.
            let devices = self.config.devices.iter().filter(|device| device.exporters.contains(exporter));
            let Some(device) = devices.max_by_key(|device| device.exporters.length()) else {
                continue;
            };
            if self.asked.contains(&exporter) || self.due.get(&exporter).is_some_and(|due| *due > Instant::now()) {
                continue;
            }
            if !self.due.contains_key(&exporter) && self.due.len() >= self.config.devices_max {
                self.interfaces.metrics().snmp_refused.fetch_add(1, Relaxed);
                continue;
            }
            if self.tasks.len() >= self.config.devices_at_once_max {
                return;
            }
            let seconds = device.interval_seconds.unwrap_or(self.config.interval_seconds).max(1);
            self.due.insert(exporter, Instant::now() + Duration::from_secs(seconds));
            self.asked.insert(exporter);
            let (device, config, interfaces) = (device.clone(), self.config.clone(), self.interfaces.clone());
            // On the heap: its session holds two datagrams of the largest size.
            self.tasks.spawn(Box::pin(async move {
                // One that answers each question just in time would else keep its place for hours.
                let outcome = tokio::time::timeout(Duration::from_secs(seconds), ask(exporter, &device, &config, &interfaces)).await;
                (exporter, outcome.unwrap_or(Err(SnmpError::Slow { seconds })))
            }));
        }
    }

    fn answered(&mut self, exporter: Address, outcome: Result<usize, String>) {
        self.asked.remove(&exporter);
        let metrics = self.interfaces.metrics();
        match outcome {
            Ok(interfaces) => {
                metrics.snmp_answered.fetch_add(1, Relaxed);
                if self.silent.remove(&exporter) {
                    tracing::info!(%exporter, interfaces, "answers SNMP again");
                }
            }
            Err(error) => {
                metrics.snmp_failed.fetch_add(1, Relaxed);
                if self.silent.insert(exporter) {
                    tracing::warn!(%exporter, error, "SNMP: nothing of its interfaces is known until it answers");
                }
            }
        }
        metrics.snmp_unreachable.store(u64::try_from(self.silent.len()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// Asks one device, and tells what it says; answers how many interfaces it has.
///
/// # Errors
///
/// [`SnmpError`]; then nothing is told.
pub async fn ask(exporter: Address, device: &Device, config: &Snmp, interfaces: &Interfaces) -> Result<usize, SnmpError> {
    let address = SocketAddr::new(device.address.unwrap_or(exporter).ip(), device.port);
    let rows_max = interfaces.config().interfaces_per_exporter_max;
    let mut talk = Talk { address, device, config, rows_max, cells_refused: 0, session: None };
    let mut table = Table::default();
    let uptime = talk.question(UPTIME, false).await?;
    if let Some((_, Cell::Number(hundredths))) = uptime.first() {
        table.uptime_milliseconds = hundredths.saturating_mul(10);
    }
    let now = Timestamp::from(SystemTime::now());
    for column in COLUMNS {
        talk.column(*column, &mut table).await?;
    }
    if !table.has_high_counters() {
        for column in LOW_COLUMNS {
            talk.column(*column, &mut table).await?;
        }
    }
    if talk.cells_refused > 0 {
        interfaces.metrics().snmp_cells_refused.fetch_add(talk.cells_refused, Relaxed);
        tracing::debug!(%exporter, cells = talk.cells_refused, "SNMP: values that are not of their column's kind are passed over");
    }
    interfaces.tell(exporter, Source::Snmp, &table.told(), now);
    interfaces.count(exporter, Source::Snmp, &table.samples(exporter, now), now);
    Ok(table.interfaces())
}

/// The questions to one device.
struct Talk<'a> {
    address: SocketAddr,
    device: &'a Device,
    config: &'a Snmp,
    rows_max: usize,
    /// Values that were passed over.
    cells_refused: u64,
    session: Option<Box<AsyncSession>>,
}

impl Talk<'_> {
    /// Reads a column to its end, or to the bound on interfaces.
    async fn column(&mut self, column: Column, table: &mut Table) -> Result<(), SnmpError> {
        let mut walk = Walk::new(column, self.rows_max);
        let mut goes_on = true;
        while goes_on {
            let page = self.question(&walk.last, true).await?;
            goes_on = walk.take(page, table)?;
        }
        self.cells_refused += walk.cells_refused;
        Ok(())
    }

    /// Asks for one value, or for those that follow it.
    async fn question(&mut self, name: &[u64], following: bool) -> Result<Vec<(Vec<u64>, Cell)>, SnmpError> {
        let identifier = Oid::from(name).map_err(|_| SnmpError::Answer(snmp2::Error::ValueOutOfRange))?;
        let wait = Duration::from_millis(self.config.timeout_milliseconds);
        for _ in 0..self.config.attempts_max.max(1) {
            if self.session.is_none() {
                // A number to begin with that an answer to another session does not have.
                let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
                let first = i32::try_from(began).unwrap_or(1);
                self.session = Some(Box::new(AsyncSession::new_v2c(self.address, self.device.community.reveal(), first).await?));
            }
            let Some(session) = &mut self.session else {
                continue;
            };
            let asked = async {
                if following { session.getbulk(&[&identifier], 0, REPETITIONS).await } else { session.get(&identifier).await }.map(
                    |answer| {
                        let values = answer.varbinds.filter_map(|(name, value)| Some((name.iter()?.collect(), cell(&value)))).collect();
                        (answer.error_status, values)
                    },
                )
            };
            match tokio::time::timeout(wait, asked).await {
                Ok(Ok((0, values))) => return Ok(values),
                Ok(Ok((status, _))) => return Err(SnmpError::Refused { status }),
                // Refused at once, by a port where nobody listens; or silence. Either may pass.
                Ok(Err(snmp2::Error::Receive | snmp2::Error::Send | snmp2::Error::RequestIdMismatch)) | Err(_) => self.session = None,
                Ok(Err(error)) => return Err(SnmpError::Answer(error)),
            }
        }
        Err(SnmpError::Silent { milliseconds: self.config.timeout_milliseconds, attempts: self.config.attempts_max })
    }
}

/// How far a column was read.
struct Walk {
    column: Column,
    identifier: Vec<u64>,
    /// The name behind which the next values are asked for.
    last: Vec<u64>,
    rows_left: usize,
    cells_refused: u64,
}

impl Walk {
    fn new(column: Column, rows_max: usize) -> Self {
        let identifier = column.identifier();
        Self { column, last: identifier.clone(), identifier, rows_left: rows_max, cells_refused: 0 }
    }

    /// Takes the values of one answer; whether there is more to ask for.
    fn take(&mut self, page: Vec<(Vec<u64>, Cell)>, table: &mut Table) -> Result<bool, SnmpError> {
        if page.is_empty() {
            // A device always tells what follows, if only that nothing does: what it told cannot be read, and has no name to go on from.
            self.cells_refused += 1;
            return Ok(false);
        }
        for (name, cell) in page {
            let Some(index) = name.strip_prefix(&self.identifier[..]).filter(|_| cell != Cell::End) else {
                return Ok(false);
            };
            if name <= self.last {
                // Some have no more by having nothing at the name that they were asked for.
                return if cell == Cell::Missing { Ok(false) } else { Err(SnmpError::Endless) };
            }
            if self.rows_left == 0 {
                return Ok(false);
            }
            self.rows_left -= 1;
            let interface = if let [index] = index { u32::try_from(*index).ok() } else { None };
            if !interface.is_some_and(|interface| table.put(self.column, interface, cell)) {
                self.cells_refused += 1;
            }
            self.last = name;
        }
        Ok(true)
    }
}

fn cell(value: &Value<'_>) -> Cell {
    match value {
        Value::Integer(number) => u64::try_from(*number).map_or(Cell::Other, Cell::Number),
        Value::Counter32(number) | Value::Unsigned32(number) | Value::Timeticks(number) => Cell::Number(u64::from(*number)),
        Value::Counter64(number) => Cell::Number(*number),
        Value::OctetString(octets) => Cell::Text(String::from_utf8_lossy(octets).trim_matches('\0').into()),
        Value::NoSuchObject | Value::NoSuchInstance => Cell::Missing,
        Value::EndOfMibView => Cell::End,
        _ => Cell::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(cells: &[(u64, Cell)]) -> Vec<(Vec<u64>, Cell)> {
        cells.iter().map(|(index, cell)| ([&Column::Name.identifier()[..], &[*index]].concat(), cell.clone())).collect()
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.into())
    }

    #[test]
    fn a_value_that_is_none_costs_itself_and_not_what_follows() {
        let (mut walk, mut table) = (Walk::new(Column::Name, 100), Table::default());
        let odd = [(1, text("a")), (2, Cell::Missing), (3, cell(&Value::Null)), (4, cell(&Value::Counter32(7))), (5, text("e"))];
        assert!(walk.take(page(&odd), &mut table).unwrap());
        assert!(
            walk.take(page(&[(6, cell(&Value::Integer(-1))), (1 << 40, text("far")), (1 << 41, text("farther"))]), &mut table).unwrap()
        );
        assert!(!walk.take(page(&[(1 << 42, Cell::End)]), &mut table).unwrap());
        assert_eq!(table.told().iter().map(|told| (told.interface, &*told.name)).collect::<Vec<_>>(), [(1, "a"), (5, "e")]);
        assert_eq!(walk.cells_refused, 6);
    }

    #[test]
    fn a_column_ends_where_the_next_one_begins_or_nothing_is_and_never_by_going_back() {
        let walk = || {
            let mut walk = Walk::new(Column::Name, 3);
            assert!(walk.take(page(&[(1, text("a")), (2, text("b"))]), &mut Table::default()).unwrap());
            walk
        };
        let goes_on = |cells: Vec<(Vec<u64>, Cell)>| walk().take(cells, &mut Table::default());
        assert!(!goes_on(vec![(Column::Alias.identifier(), text("c"))]).unwrap());
        assert!(!goes_on(page(&[(2, Cell::Missing)])).unwrap());
        assert!(!goes_on(Vec::new()).unwrap());
        assert!(!goes_on(page(&[(3, text("c")), (4, text("one more than there is room for"))])).unwrap());
        assert!(matches!(goes_on(page(&[(2, text("b"))])), Err(SnmpError::Endless)));
        assert!(matches!(goes_on(page(&[(1, Cell::Other)])), Err(SnmpError::Endless)));
    }
}
