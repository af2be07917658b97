//! What the store is asked for a bill: who there is, what each slot carried, and when anybody was heard.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::time::Duration;

use clickhouse::{Client, Row};
use jiff::tz::TimeZone;
use serde::Deserialize;

use schemas::net::Address;
use schemas::time::Timestamp;

use super::period::{self, Gap, Month, Period};
use super::{Bill, By, Missing, Observed, Percentile, Series, Slot, Subject, bill};

/// Subjects whose slots are read at once: of a month some 18,000 rows each at most.
const SUBJECTS_AT_ONCE: usize = 64;

/// Customers or interfaces that can be billed; the bound of what is held in memory to page through them.
const SUBJECTS_MAX: usize = 1_000_000;

/// What is billed.
#[derive(Clone, Debug)]
pub struct Question {
    /// The month.
    pub month: Month,
    /// Whose month.
    pub zone: TimeZone,
    /// Who is billed.
    pub by: By,
    /// By which of the slots.
    pub percentile: Percentile,
    /// Whether gaps count.
    pub missing: Missing,
    /// Subjects that are passed over, and how many are answered.
    pub offset: usize,
    /// See `offset`.
    pub limit: usize,
}

/// A month's bills.
#[derive(Debug)]
pub struct Bills {
    /// The month.
    pub period: Period,
    /// Which months can be billed, the first and the last.
    pub months: (Month, Month),
    /// When nobody was heard.
    pub gaps: Vec<Gap>,
    /// The bills of the page, by subject.
    pub bills: Vec<Bill>,
    /// How many there are.
    pub total: usize,
}

/// Why there is no bill.
#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    /// The month lies in the future.
    #[error("{month} has not begun; what can be billed is {first} to {last}")]
    NotBegun {
        /// What was asked for.
        month: Month,
        /// The first that can be billed.
        first: Month,
        /// The last.
        last: Month,
    },
    /// The month's minutes are not kept any more.
    #[error("minutes of {month} are not kept; what can be billed is {first} to {last}")]
    Month {
        /// What was asked for.
        month: Month,
        /// The first that can be billed.
        first: Month,
        /// The last.
        last: Month,
    },
    /// The engine is silent.
    #[error("the engine has not answered in time")]
    Silent,
    /// The engine does not answer, or not well.
    #[error(transparent)]
    Engine(#[from] clickhouse::error::Error),
}

#[derive(Row, Deserialize)]
struct CustomerRow {
    subject: String,
}

#[derive(Row, Deserialize)]
struct InterfaceRow {
    exporter: Ipv6Addr,
    interface: u32,
}

#[derive(Row, Deserialize)]
struct CustomerSlotRow {
    subject: String,
    is_out: u8,
    slot: u32,
    slot_octets: u64,
    slot_variance: f64,
    slot_unknown_flows: u64,
}

#[derive(Row, Deserialize)]
struct InterfaceSlotRow {
    exporter: Ipv6Addr,
    interface: u32,
    is_out: u8,
    is_at_egress: u8,
    slot: u32,
    slot_octets: u64,
    slot_variance: f64,
    slot_unknown_flows: u64,
}

#[derive(Row, Deserialize)]
struct FirstRow {
    first: u32,
}

#[derive(Row, Deserialize)]
struct HeardRow {
    slot: u32,
}

#[derive(Row, Deserialize)]
struct ExporterRow {
    exporter: Ipv6Addr,
    heard: u32,
}

// Every statement has `from` and `until`, in unix seconds, and reads minutes: an hour says nothing of its slots.
const CUSTOMERS: &str = "SELECT DISTINCT CAST(arrayJoin([source_customer, destination_customer]) AS String) AS subject FROM traffic_1m \
    WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) AND NOT is_repeat AND subject != '' \
    ORDER BY subject LIMIT {rows_max:UInt64}";

const INTERFACES: &str = "SELECT DISTINCT exporter, arrayJoin([ingress_interface, egress_interface]) AS interface FROM traffic_1m \
    WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) AND interface != 0 \
    ORDER BY exporter, interface LIMIT {rows_max:UInt64}";

// Sums by the minute file a flow under its end; what of it came in slots before is in `spread_5m`, and taken from its last.
const CUSTOMER_SLOTS: &str = "SELECT CAST(side.1 AS String) AS subject, side.2 AS is_out, \
    toUInt32(intDiv(toUInt32(time) - {from:UInt32}, 300)) AS slot, \
    toUInt64(greatest(sum(octets), 0)) AS slot_octets, greatest(sum(octets_variance), 0) AS slot_variance, sum(unknown_flows) AS slot_unknown_flows \
    FROM (SELECT time, source_customer, destination_customer, toInt64(octets) AS octets, octets_variance, unknown_flows FROM traffic_1m \
    WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) AND NOT is_repeat \
    UNION ALL SELECT time, source_customer, destination_customer, octets, octets_variance, 0 AS unknown_flows FROM spread_5m \
    WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) AND NOT is_repeat) \
    ARRAY JOIN [(destination_customer, 0), (source_customer, 1)] AS side WHERE side.1 IN {subjects:Array(String)} \
    GROUP BY subject, is_out, slot HAVING slot_octets > 0 OR slot_unknown_flows > 0";

const INTERFACE_SLOTS: &str = "SELECT exporter, side.1 AS interface, side.2 AS is_out, toUInt8(flow_direction = 1) AS is_at_egress, \
    toUInt32(intDiv(toUInt32(time) - {from:UInt32}, 300)) AS slot, \
    toUInt64(greatest(sum(octets), 0)) AS slot_octets, greatest(sum(octets_variance), 0) AS slot_variance, sum(unknown_flows) AS slot_unknown_flows \
    FROM (SELECT time, exporter, ingress_interface, egress_interface, flow_direction, toInt64(octets) AS octets, octets_variance, unknown_flows \
    FROM traffic_1m WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) \
    UNION ALL SELECT time, exporter, ingress_interface, egress_interface, flow_direction, octets, octets_variance, 0 AS unknown_flows \
    FROM spread_5m WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32})) \
    ARRAY JOIN [(ingress_interface, 0), (egress_interface, 1)] AS side WHERE (exporter, side.1) IN \
    (SELECT arrayJoin(arrayMap(one -> (toIPv6(one.1), one.2), {subjects:Array(Tuple(String, UInt32))}))) \
    GROUP BY exporter, interface, is_out, is_at_egress, slot HAVING slot_octets > 0 OR slot_unknown_flows > 0";

const HEARD: &str = "SELECT DISTINCT toUInt32(intDiv(toUInt32(time) - {from:UInt32}, 300)) AS slot FROM \
    (SELECT time FROM traffic_1m WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) \
    UNION ALL SELECT time FROM spread_5m WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) AND octets > 0) ORDER BY slot";

const HEARD_BY_EXPORTER: &str = "SELECT exporter, toUInt32(uniqExact(intDiv(toUInt32(time) - {from:UInt32}, 300))) AS heard FROM \
    (SELECT time, exporter FROM traffic_1m WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) \
    UNION ALL SELECT time, exporter FROM spread_5m WHERE time >= toDateTime({from:UInt32}) AND time < toDateTime({until:UInt32}) AND octets > 0) \
    GROUP BY exporter";

// 0 where there is none.
const FIRST_MINUTE: &str = "SELECT toUInt32(min(time)) AS first FROM traffic_1m";
const FIRST_HOUR: &str = "SELECT toUInt32(min(time)) AS first FROM traffic_1h WHERE time >= toDateTime({from:UInt32})";

/// Bills a month; what a statement may cost is the client's to say, and how long each is waited for `patience`.
///
/// # Errors
///
/// [`BillingError`].
pub async fn bills(client: &Client, question: &Question, now: Timestamp, patience: Duration) -> Result<Bills, BillingError> {
    let months = in_time(patience, months(client, &question.zone, now)).await?;
    let (month, (first, last)) = (question.month, months);
    if month < first {
        return Err(BillingError::Month { month, first, last });
    }
    let not_begun = || BillingError::NotBegun { month, first, last };
    let period = Period::new(month, &question.zone, now).ok_or_else(not_begun)?;
    let store = Store { client, period: &period, patience };
    let heard: Vec<u32> = store.rows::<HeardRow>(store.query(HEARD)).await?.iter().map(|row| row.slot).collect();
    let all = store.subjects(question.by).await?;
    let heard_of = if question.by == By::Interface { store.heard_by_exporter().await? } else { HashMap::new() };
    let everybody = u32::try_from(heard.len()).unwrap_or(u32::MAX);
    let page: Vec<&Subject> = all.iter().skip(question.offset).take(question.limit).collect();
    let mut bills = Vec::with_capacity(page.len());
    for subjects in page.chunks(SUBJECTS_AT_ONCE) {
        for (subject, series) in in_time(patience, store.series(subjects)).await? {
            let heard = match subject {
                Subject::Customer(_) => everybody,
                Subject::Interface(exporter, _) => heard_of.get(&exporter).copied().unwrap_or(0),
            };
            bills.push(bill(subject, series, heard, question.missing, question.percentile, &period));
        }
    }
    Ok(Bills { gaps: period.gaps(&heard), months, bills, total: all.len(), period })
}

/// Which months can be billed.
async fn months(client: &Client, zone: &TimeZone, now: Timestamp) -> Result<(Month, Month), BillingError> {
    let moment = |row: FirstRow| (row.first > 0).then(|| Timestamp(u64::from(row.first) * 1_000));
    let first_minute = moment(client.query(FIRST_MINUTE).fetch_one().await?);
    let mut first_hour = None;
    if let Some(begins) = first_minute.and_then(|minute| Month::of(minute, zone).begins(zone)) {
        first_hour = moment(client.query(FIRST_HOUR).param("from", seconds(begins)).fetch_one().await?);
    }
    Ok(period::billable(first_minute, first_hour, zone, now))
}

/// What an engine answers that is not silent for longer than that.
async fn in_time<T>(patience: Duration, answer: impl Future<Output = Result<T, BillingError>>) -> Result<T, BillingError> {
    tokio::time::timeout(patience, answer).await.unwrap_or(Err(BillingError::Silent))
}

/// The store's clock: minutes are kept by unsigned seconds.
fn seconds(moment: Timestamp) -> u32 {
    u32::try_from(moment.0 / 1_000).unwrap_or(u32::MAX)
}

/// The store, asked for one period.
struct Store<'a> {
    client: &'a Client,
    period: &'a Period,
    patience: Duration,
}

impl Store<'_> {
    fn query(&self, sql: &str) -> clickhouse::query::Query {
        self.client.query(sql).param("from", seconds(self.period.from)).param("until", seconds(self.period.until()))
    }

    async fn rows<T>(&self, query: clickhouse::query::Query) -> Result<Vec<T>, BillingError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        in_time(self.patience, async { Ok(query.fetch_all().await?) }).await
    }

    /// Everybody who can be billed, in order.
    async fn subjects(&self, by: By) -> Result<Vec<Subject>, BillingError> {
        Ok(match by {
            By::Customer => {
                let rows: Vec<CustomerRow> = self.rows(self.query(CUSTOMERS).param("rows_max", SUBJECTS_MAX)).await?;
                rows.into_iter().map(|row| Subject::Customer(row.subject)).collect()
            }
            By::Interface => {
                let rows: Vec<InterfaceRow> = self.rows(self.query(INTERFACES).param("rows_max", SUBJECTS_MAX)).await?;
                rows.into_iter().map(|row| Subject::Interface(address(row.exporter), row.interface)).collect()
            }
        })
    }

    /// In how many slots each exporter was heard.
    async fn heard_by_exporter(&self) -> Result<HashMap<Address, u32>, BillingError> {
        let rows: Vec<ExporterRow> = self.rows(self.query(HEARD_BY_EXPORTER)).await?;
        Ok(rows.into_iter().map(|row| (address(row.exporter), row.heard)).collect())
    }

    /// The slots of some subjects, which are all of a kind.
    async fn series(&self, subjects: &[&Subject]) -> Result<BTreeMap<Subject, Series>, BillingError> {
        let mut all: BTreeMap<Subject, Series> = subjects.iter().map(|subject| ((*subject).clone(), Series::default())).collect();
        let (mut customers, mut interfaces) = (Vec::new(), Vec::new());
        for subject in subjects {
            match subject {
                Subject::Customer(name) => customers.push(name.as_str()),
                Subject::Interface(exporter, interface) => interfaces.push((exporter.ip().to_string(), *interface)),
            }
        }
        if !customers.is_empty() {
            let mut rows = self.query(CUSTOMER_SLOTS).param("subjects", customers).fetch::<CustomerSlotRow>()?;
            while let Some(row) = rows.next().await? {
                let slot = slot(row.slot, row.slot_octets, row.slot_variance, row.slot_unknown_flows);
                all.entry(Subject::Customer(row.subject)).or_default().slots(row.is_out == 1, Observed::Ingress).push(slot);
            }
        }
        if !interfaces.is_empty() {
            let mut rows = self.query(INTERFACE_SLOTS).param("subjects", interfaces).fetch::<InterfaceSlotRow>()?;
            while let Some(row) = rows.next().await? {
                let slot = slot(row.slot, row.slot_octets, row.slot_variance, row.slot_unknown_flows);
                let observed = if row.is_at_egress == 1 { Observed::Egress } else { Observed::Ingress };
                let subject = Subject::Interface(address(row.exporter), row.interface);
                all.entry(subject).or_default().slots(row.is_out == 1, observed).push(slot);
            }
        }
        Ok(all)
    }
}

fn slot(number: u32, octets: u64, variance: f64, unknown_flows: u64) -> Slot {
    Slot { number, octets, variance, unknown_flows }
}

fn address(stored: Ipv6Addr) -> Address {
    Address(u128::from(stored))
}
