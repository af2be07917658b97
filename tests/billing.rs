//! Bills by the engine's own sums: what each statement reads, against what was written.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use api::billing::ask::{self, Bills, Question};
use api::billing::{By, Missing, Observed, Percentile, Subject, period, show};
use collector::store::config::Config;
use collector::store::schema::Schema;
use tests::engine::Alone;

/// In October, when September is over.
const NOW: &str = "2026-10-05T00:00:00Z";

/// Rows of `traffic_1m`: minutes after the start of September 2026.
#[derive(Clone, Copy)]
struct Row {
    minute: u32,
    exporter: &'static str,
    interfaces: (u32, u32),
    is_egress: bool,
    is_repeat: bool,
    customers: (&'static str, &'static str),
    octets: u64,
    variance: f64,
    unknown_flows: u64,
}

const ROW: Row = Row {
    minute: 0,
    exporter: "192.0.2.1",
    interfaces: (1, 2),
    is_egress: false,
    is_repeat: false,
    customers: ("", ""),
    octets: 0,
    variance: 0.0,
    unknown_flows: 0,
};

fn write(engine: &Alone, table: &str, rows: &[Row]) {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut values = String::new();
    for row in rows {
        let (source, destination) = (quoted(row.customers.0), quoted(row.customers.1));
        let Row { exporter, interfaces: (ingress, egress), octets, variance, unknown_flows, .. } = row;
        let (time, direction, repeat) = (1_788_220_800 + row.minute * 60, u8::from(row.is_egress), row.is_repeat);
        write!(
            values,
            "({time},'{exporter}',{ingress},{egress},{direction},{repeat},0,0,6,{source},{destination},{octets},1,1,{unknown_flows},{variance},0),"
        )
        .unwrap();
    }
    let statement = format!("INSERT INTO {table} SETTINGS async_insert = 0 VALUES {}", values.trim_end_matches(','));
    assert_eq!(engine.query(&statement), "");
}

struct Store {
    engine: Alone,
    runtime: tokio::runtime::Runtime,
}

impl Store {
    fn start() -> Self {
        let engine = Alone::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let schema = Schema::new(&Config::default(), "weir").unwrap();
        runtime.block_on(schema.prepare(&engine.link().client().unwrap())).unwrap();
        Self { engine, runtime }
    }

    fn ask(&self, question: &Question) -> Result<Bills, ask::BillingError> {
        let client = self.engine.link().client().unwrap();
        self.runtime.block_on(ask::bills(&client, question, NOW.parse().unwrap(), std::time::Duration::from_secs(60)))
    }
}

fn question(by: By) -> Question {
    let month = "2026-09".parse().unwrap();
    Question { month, zone: period::zone("UTC").unwrap(), by, percentile: Percentile::USUAL, missing: Missing::Zero, offset: 0, limit: 100 }
}

/// Every slot of the month but the first hour's: 8,640 − 12; of them 1,000 carry ten times as much.
fn month() -> Vec<Row> {
    let slots = (12..8_640_u32).map(|slot| {
        let octets = if slot % 8 == 4 && slot < 8_012 { 375_000 } else { 37_500 };
        // In two minutes of the slot, which are summed; the second by a record that is told at egress too, as a repeat.
        let half = Row { minute: slot * 5 + 1, customers: ("=1+1", "it's \\ \"one\""), octets: octets / 2, variance: 2.0, ..ROW };
        [half, Row { minute: slot * 5 + 4, ..half }, Row { is_egress: true, is_repeat: true, octets, ..half }]
    });
    let one = Row { minute: 60, customers: ("it's \\ \"one\"", "it's \\ \"one\""), octets: 75_000, unknown_flows: 3, ..ROW };
    let other = Row { exporter: "2001:db8::1", interfaces: (9, 0), customers: ("", "other"), octets: 37_500, ..one };
    slots.flatten().chain([one, other]).collect()
}

#[test]
fn a_month_is_billed_by_customer_and_by_interface() {
    let store = Store::start();
    write(&store.engine, "traffic_1m", &month());
    let bills = store.ask(&question(By::Customer)).unwrap();
    let names: Vec<&Subject> = bills.bills.iter().map(|bill| &bill.subject).collect();
    let customer = |name: &str| Subject::Customer(name.to_owned());
    assert_eq!(names, [&customer("=1+1"), &customer("it's \\ \"one\""), &customer("other")]);
    assert_eq!(bills.total, 3);
    let [formula, one, other] = &bills.bills[..] else { panic!("three") };
    // Of the 1,000 slots at 10,000 bit/s 432 are dropped. The repeats are not in it.
    assert_eq!((formula.out.0.rate_bps, formula.into.0.rate_bps, formula.rate_bps), (10_000, 0, 10_000));
    assert_eq!(formula.out.0.octets, 1_000 * 375_000 + 7_628 * 37_500);
    // Two rows of variance 2: 1.96 × 2 octets, rounded up to 4, in 300 s.
    assert_eq!((formula.out.0.rate_error_bps, formula.slots, formula.slots_missing), (0, 8_640, 12));
    // Its own traffic to itself counts for both directions.
    assert_eq!((one.into.0.octets, one.out.0.octets), (formula.out.0.octets + 75_000, 75_000));
    assert_eq!((one.into.0.unknown_flows, one.out.0.unknown_flows, one.out.0.rate_bps, one.out.0.peak_bps), (3, 3, 0, 2_000));
    assert_eq!((other.into.0.peak_bps, other.rate_bps), (1_000, 0));
    let gaps: Vec<(String, String)> = bills.gaps.iter().map(|gap| (gap.from.to_string(), gap.to.to_string())).collect();
    assert_eq!(gaps, [("2026-09-01T00:00:00.000Z".to_owned(), "2026-09-01T01:00:00.000Z".to_owned())]);

    let text = String::from_utf8(show::csv(&bills, &question(By::Customer), &|_| None).unwrap()).unwrap();
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines[0].starts_with("month,timezone,percentile,until,customer,exporter,interface,interface_name,rate_bps,in_rate_bps,"));
    assert!(lines[1].starts_with("2026-09,UTC,95,2026-10-01T00:00:00.000Z,'=1+1,,,,10000,0,"), "{}", lines[1]);
    assert!(lines[2].contains(",\"it's \\ \"\"one\"\"\",,,,10000,10000,"), "{}", lines[2]);
    assert_eq!(lines.len(), 5);

    let bills = store.ask(&question(By::Interface)).unwrap();
    let exporter = "192.0.2.1".parse().unwrap();
    let subjects: Vec<&Subject> = bills.bills.iter().map(|bill| &bill.subject).collect();
    let wanted = [Subject::Interface(exporter, 1), Subject::Interface(exporter, 2), Subject::Interface("2001:db8::1".parse().unwrap(), 9)];
    assert_eq!(subjects, wanted.iter().collect::<Vec<_>>().as_slice());
    let [ingress, egress, lonely] = &bills.bills[..] else { panic!("three") };
    assert_eq!((ingress.into.0.rate_bps, ingress.into.1, ingress.out.0.octets), (10_000, Observed::Ingress, 0));
    // What left is told where it left, repeats and all: the 75,000 octets were not seen there.
    assert_eq!((egress.out.1, egress.out.0.octets, egress.into.0.octets), (Observed::Egress, formula.out.0.octets, 0));
    assert_eq!((lonely.into.0.octets, lonely.slots_missing), (37_500, 8_639));

    // The second of the page alone, gaps passed over.
    let page = Question { offset: 1, limit: 1, missing: Missing::Skip, ..question(By::Interface) };
    let bills = store.ask(&page).unwrap();
    assert_eq!((bills.bills.len(), bills.total, &bills.bills[0].subject, bills.bills[0].slots), (1, 3, &wanted[1], 8_628));
}

#[test]
fn a_month_whose_minutes_have_gone_is_refused_with_those_that_are_kept() {
    let store = Store::start();
    let month = |text: &str| Question { month: text.parse().unwrap(), ..question(By::Customer) };
    let refused = |text: &str| store.ask(&month(text)).map(|_| ()).unwrap_err().to_string();
    assert_eq!(refused("2026-09"), "minutes of 2026-09 are not kept; what can be billed is 2026-10 to 2026-10");
    assert_eq!(store.ask(&month("2026-10")).unwrap().gaps.len(), 1);
    // Minutes from the sixth of September on, hours from its third.
    let minute = Row { minute: 5 * 1_440, customers: ("a", ""), octets: 1, ..ROW };
    write(&store.engine, "traffic_1m", &[minute]);
    assert_eq!(store.ask(&month("2026-09")).unwrap().bills.len(), 1);
    write(&store.engine, "traffic_1h", &[Row { minute: 2 * 1_440, ..minute }]);
    assert_eq!(refused("2026-09"), "minutes of 2026-09 are not kept; what can be billed is 2026-10 to 2026-10");
    assert_eq!(refused("2026-11"), "2026-11 has not begun; what can be billed is 2026-10 to 2026-10");
}

/// A flow of September: the seconds after its start of the flow's beginning and end, interfaces, octets forth and back.
type Lasting = (i64, i64, (u32, u32), u64, u64);

fn flows(engine: &Alone, flows: &[Lasting]) {
    let mut values = String::new();
    for (start, end, (ingress, egress), octets, back) in flows {
        let [start, end] = [start, end].map(|seconds| 1_788_220_800 + seconds);
        write!(values, "({end},{start}.25,{end}.75,'192.0.2.1',100,{ingress},{egress},{octets},10,{back},10,'one','two'),").unwrap();
    }
    let columns = "time, flow_start_milliseconds, flow_end_milliseconds, exporter, sampling_interval, ingress_interface, egress_interface, \
                   octets, packets, reverse_octets, reverse_packets, source_customer, destination_customer";
    let statement = format!("INSERT INTO flows ({columns}) SETTINGS async_insert = 0 VALUES {}", values.trim_end_matches(','));
    assert_eq!(engine.query(&statement), "");
}

/// 18,000 octets of one in 100 packets are 1,800,000; over 30 minutes 300,000 a slot, which are 8,000 bit/s.
#[test]
fn a_long_flow_is_billed_in_the_slots_that_it_lasted() {
    let store = Store::start();
    flows(
        &store.engine,
        &[
            (3_000, 4_800, (1, 2), 18_000, 9_000),
            // From the middle of a slot to the middle of the next, and within one.
            (86_550, 86_850, (3, 4), 6_000, 0),
            (90_010, 90_290, (3, 4), 3_000, 0),
            // In and out of the month: ten minutes each, five of them in it.
            (-300, 300, (5, 6), 12_000, 0),
            (2_591_700, 2_592_300, (5, 6), 12_000, 0),
            // A day: its last two hours are taken, 24 slots.
            (100_000, 186_000, (7, 8), 24_000, 0),
        ],
    );
    let whole = Question { percentile: "100".parse().unwrap(), ..question(By::Interface) };
    let bills = store.ask(&whole).unwrap();
    let of = |interface: u32| {
        let subject = Subject::Interface("192.0.2.1".parse().unwrap(), interface);
        let bill = bills.bills.iter().find(|bill| bill.subject == subject).unwrap();
        [&bill.into.0, &bill.out.0].map(|charge| (charge.octets, charge.peak_bps))
    };
    assert_eq!((of(1), of(2)), ([(1_800_000, 8_000), (900_000, 4_000)], [(900_000, 4_000), (1_800_000, 8_000)]));
    assert_eq!(of(3)[0], (900_000, 8_000));
    assert_eq!(of(5)[0], (1_200_000, 16_000));
    assert_eq!(of(7)[0], (2_400_000, 2_667));
    // The error is that of the part: 100 × 99 × 10 × 1,800² of the whole, a sixth of it in each slot.
    let charge = |interface: u32| {
        bills.bills.iter().find(|bill| bill.subject == Subject::Interface("192.0.2.1".parse().unwrap(), interface)).unwrap().into.0
    };
    let deviation = (100.0_f64 * 99.0 * 10.0 * 1_800.0 * 1_800.0 / 6.0).sqrt();
    assert!((f64::from(u32::try_from(charge(1).rate_error_bps).unwrap()) - 1.96 * deviation * 8.0 / 300.0).abs() < 1.0, "{:?}", charge(1));
    // Of the slots, those are heard in which something came: 6, 2 and 1, 1 and 1, and 24; the day ends on a slot's edge, which has none.
    let heard = 6 + 2 + 1 + 2 + 24;
    let gaps: u64 = bills.gaps.iter().map(|gap| gap.to.since(gap.from) / 300_000).sum();
    // Records that end with a slot's start are heard in that slot as well: three of them in the month.
    assert_eq!(8_640 - gaps, heard + 3);
    let bills = store.ask(&Question { by: By::Customer, ..whole }).unwrap();
    let octets: Vec<u64> = bills.bills.iter().map(|bill| bill.out.0.octets).collect();
    assert_eq!(octets, [6_300_000, 900_000]);
}
