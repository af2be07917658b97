//! Analytics with the real engine: every answer against a plain reading of the same flows.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bench::synthesize::Random;
use collector::store::config::Config;
use collector::store::schema::Schema;
use serde_json::Value;

use tests::engine::Alone;
use tests::filters;
use tests::flows::{self, Record};
use tests::rest::Rest;

const RECORDS: usize = 4_000;
const HOUR: u64 = 3_600;

/// An engine with the records of an hour that is over.
struct Store {
    engine: Alone,
    records: Vec<Record>,
    from: u64,
}

impl Store {
    fn start(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self::with(|from| (0..RECORDS).map(|_| Record::random(&mut random, from, 3_600)).collect())
    }

    fn with(records: impl FnOnce(u64) -> Vec<Record>) -> Self {
        let engine = Alone::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let schema = Schema::new(&Config::default(), "weir").unwrap();
        runtime.block_on(schema.prepare(&engine.link().client().unwrap())).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let from = now - now % HOUR - HOUR;
        let records = records(from);
        // Two inserts: sums of the same minute come in several rows until they are merged.
        for part in records.chunks(records.len().div_ceil(2).max(1)) {
            assert_eq!(engine.query(&flows::insert(part)), "");
        }
        Self { engine, records, from }
    }

    fn rest(&self) -> Rest {
        Rest::start(&self.engine.link(), |_| {})
    }

    /// Every direction of every record that is not a repeat.
    fn directions(&self) -> impl Iterator<Item = Record> {
        self.records.iter().filter(|record| !record.is_repeat).flat_map(Record::directions)
    }

    fn ends(&self) -> (String, String) {
        (moment(self.from), moment(self.from + HOUR))
    }
}

fn moment(seconds: u64) -> String {
    schemas::time::Timestamp(seconds * 1_000).to_string()
}

/// Octets, packets, flows, those of an unknown rate, with sampling undone.
type Sums = [u64; 4];

fn sums(records: impl Iterator<Item = Record>) -> Sums {
    records.fold([0; 4], |sum, record| {
        let scale = record.scale();
        let adds = [record.octets * scale, record.packets * scale, scale, u64::from(record.sampling_interval == 0)];
        std::array::from_fn(|index| sum[index] + adds[index])
    })
}

fn read(volume: &Value) -> Sums {
    ["octets", "packets", "flows", "unknown_flows"].map(|name| volume[name].as_u64().unwrap())
}

#[test]
fn random_filters_let_through_what_a_plain_reading_lets_through() {
    let seed = std::env::var("WEIR_FILTER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_120);
    let cases: u32 = std::env::var("WEIR_FILTER_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    println!("WEIR_FILTER_SEED={seed} WEIR_FILTER_CASES={cases}");
    let store = Store::start(seed);
    let rest = store.rest();
    let (from, to) = store.ends();
    let mut random = Random::new(seed);
    let (mut tables, mut hits) = (BTreeMap::new(), 0);
    for case in 0..cases {
        let filter = filters::random(&mut random, case % 5);
        let pairs = [("from", from.as_str()), ("to", to.as_str()), ("filter", filter.text.as_str())];
        let expected = sums(store.directions().filter(|record| (filter.holds)(record)));
        let group = ("group_by", "exporter");
        let top = rest.get("top", &[pairs[0], pairs[1], pairs[2], group]);
        if top["source"]["repeats"] == "left_out" {
            assert_eq!(read(&top["total"]), expected, "WEIR_FILTER_SEED={seed}, case {case}: {}", filter.text);
        }
        let chart = rest.get("traffic", &pairs);
        if chart["source"]["repeats"] == "left_out" {
            assert_eq!(read(&chart["total"]), expected, "WEIR_FILTER_SEED={seed}, case {case}: {}", filter.text);
        }
        // A list shows records as they are: repeats too, two-way ones from their own end.
        let listed = rest.get("flows", &[pairs[0], pairs[1], pairs[2], ("limit", "1")]);
        let count = store.records.iter().filter(|record| (filter.holds)(record)).count();
        assert_eq!(listed["total"], count, "WEIR_FILTER_SEED={seed}, case {case}: {}", filter.text);
        *tables.entry(chart["source"]["table"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        hits += u32::from(expected != [0; 4]);
    }
    println!("{hits} of {cases} let something through; read from {tables:?}");
    assert!(hits > cases / 2, "most of the filters are worth comparing");
}

/// A word of `group_by`, and what it is in a record.
type Grouping = (&'static str, fn(&Record) -> Value);

const GROUPINGS: &[Grouping] = &[
    ("src_address", |record| record.ends[0].address.to_string().into()),
    ("dst_address", |record| record.ends[1].address.to_string().into()),
    ("src_prefix", |record| prefix(record, 0)),
    ("dst_prefix", |record| prefix(record, 1)),
    ("src_port", |record| record.ends[0].port.into()),
    ("dst_port", |record| record.ends[1].port.into()),
    ("src_as", |record| record.ends[0].system.into()),
    ("dst_as", |record| record.ends[1].system.into()),
    ("src_country", |record| record.ends[0].country.into()),
    ("dst_country", |record| record.ends[1].country.into()),
    ("src_city", |record| record.ends[0].city.into()),
    ("dst_customer", |record| record.ends[1].customer.into()),
    ("src_site", |record| record.ends[0].site.into()),
    ("protocol", |record| record.protocol.into()),
    ("application", |record| record.application.into()),
    ("exporter", |record| record.exporter.to_string().into()),
    ("in_if", |record| record.ends[0].interface.into()),
    ("out_if", |record| record.ends[1].interface.into()),
    ("in_boundary", |record| ["undefined", "external", "internal"][usize::try_from(record.ends[0].boundary).unwrap()].into()),
    ("direction", |record| record.direction.into()),
    ("tcp_flags", |record| record.flags.into()),
];

fn prefix(record: &Record, end: usize) -> Value {
    let prefix = record.ends[end].prefix();
    format!("{}/{}", prefix.first(), prefix.length()).into()
}

#[test]
fn every_grouping_adds_up_and_the_largest_and_the_others_are_the_total() {
    let store = Store::start(1);
    let rest = store.rest();
    let (from, to) = store.ends();
    let total = sums(store.directions());
    for (word, key) in GROUPINGS {
        let mut groups: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in store.directions() {
            groups.entry(key(&record).to_string()).or_default().push(record);
        }
        let pairs = [("from", from.as_str()), ("to", to.as_str()), ("group_by", *word)];
        let top = rest.get("top", &[pairs[0], pairs[1], pairs[2], ("limit", "3")]);
        let mut left = total;
        for row in top["rows"].as_array().unwrap() {
            let own = sums(groups[&row[word].to_string()].iter().cloned());
            assert_eq!(read(row), own, "{word} {}", row[word]);
            left = std::array::from_fn(|index| left[index] - own[index]);
        }
        assert_eq!((read(&top["other"]), read(&top["total"])), (left, total), "{word}");
        assert_eq!(top["groups"], groups.len(), "{word}");
        let mut largest: Vec<u64> = groups.values().map(|records| sums(records.iter().cloned())[0]).collect();
        largest.sort_unstable_by(|one, other| other.cmp(one));
        let ranked: Vec<u64> = top["rows"].as_array().unwrap().iter().map(|row| row["octets"].as_u64().unwrap()).collect();
        assert_eq!(ranked, largest[..ranked.len()], "{word}");

        let chart = rest.get("traffic", &[pairs[0], pairs[1], pairs[2], ("top", "3")]);
        assert_eq!(chart["points"].as_array().unwrap().len(), 60, "an hour by the minute");
        let lines = chart["series"].as_array().unwrap();
        let rows: Vec<(String, Sums)> = lines.iter().map(|line| (line[word].to_string(), read(line))).collect();
        let expected: Vec<(String, Sums)> = top["rows"].as_array().unwrap().iter().map(|row| (row[word].to_string(), read(row))).collect();
        assert_eq!(rows, expected, "{word}");
        assert_eq!((read(&chart["other"]), read(&chart["total"])), (left, total), "{word}");
        // Bits a second of sixty points of a minute each.
        let bits: f64 = chart["total"]["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() * 60.0).sum();
        #[expect(clippy::cast_precision_loss, reason = "compared to one in a million")]
        let octets = total[0] as f64;
        assert!((bits / 8.0 / octets - 1.0).abs() < 1e-6, "{word}: {bits} bits, {octets} octets");
    }
}

#[test]
fn sums_by_the_minute_and_the_hour_are_those_of_the_flows() {
    let store = Store::start(2);
    let rest = store.rest();
    let (from, to) = store.ends();
    for word in ["src_as,dst_country", "exporter,in_if,out_boundary,src_customer", "application,protocol", "src_prefix", "dst_prefix"] {
        let pairs = [("from", from.as_str()), ("to", to.as_str()), ("group_by", word)];
        let ask = |path: &str, more: &[(&str, &str)]| {
            let size = if path == "top" { ("limit", "1000") } else { ("top", "100") };
            rest.get(path, &[&pairs[..], &[size], more].concat())
        };
        // A condition that only flows can answer, and that all of them meet.
        let of_flows = ask("top", &[("filter", "octets >= 0")]);
        let of_sums = ask("top", &[]);
        assert_eq!((of_flows["source"]["level"].as_str(), of_sums["source"]["level"].as_str()), (Some("flows"), Some("hour")), "{word}");
        assert_close(&of_flows["rows"], &of_sums["rows"]);
        assert_close(&of_flows["total"], &of_sums["total"]);
        let (of_flows, of_sums) = (ask("traffic", &[("filter", "octets >= 0"), ("step", "10m")]), ask("traffic", &[("step", "10m")]));
        assert_eq!((of_flows["source"]["level"].as_str(), of_sums["source"]["level"].as_str()), (Some("flows"), Some("minute")), "{word}");
        assert_close(&of_flows["total"], &of_sums["total"]);
        assert_eq!(of_flows["points"].as_array().unwrap().len(), 6);
    }
}

/// Whole numbers are equal, the errors of sampling as near as their sums in another order can be.
fn assert_close(one: &Value, other: &Value) {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len());
            one.iter().zip(other).for_each(|(one, other)| assert_close(one, other));
        }
        (Value::Object(one), Value::Object(other)) => {
            assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
            one.iter().for_each(|(name, value)| assert_close(value, &other[name]));
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            assert!((one - other).abs() <= one.abs() * 1e-5 + 1e-3, "{one} {other}");
        }
        _ => assert_eq!(one, other),
    }
}

/// A record of a router in the second minute of the hour: in by one interface, out by another, told where it comes in (0) or goes out (1).
fn sighting(from: u64, router: u128, interfaces: [u64; 2], direction: u64, octets: u64, is_repeat: bool) -> Record {
    let mut record = Record::random(&mut Random::new(1), from + 60, 60);
    (record.exporter, record.direction, record.is_repeat) = (schemas::net::Address(0xffff_c000_0200 + router), direction, is_repeat);
    (record.octets, record.packets, record.reverse, record.sampling_interval) = (octets, 1, (0, 0), 1);
    for (end, interface) in record.ends.iter_mut().zip(interfaces) {
        end.interface = interface;
    }
    record
}

#[test]
fn who_asks_about_an_interface_sees_what_crosses_it_once() {
    let store = Store::with(|from| {
        let of = |interfaces, direction, octets, is_repeat| sighting(from, 1, interfaces, direction, octets, is_repeat);
        vec![
            // Interfaces 3 and 5 report both ways: every packet twice, the second time as a repeat.
            of([3, 5], 0, 1_000_000, false),
            of([3, 5], 1, 1_000_000, true),
            // Interface 7 reports nothing of what comes in, but for one stray record; interface 5 tells of it as it goes out.
            of([7, 5], 1, 400_000, false),
            of([7, 5], 0, 100, false),
            // Interface 9 reports nothing of what goes out.
            of([3, 9], 0, 20_000, false),
            of([5, 3], 0, 3_000, false),
            of([5, 3], 1, 3_000, true),
            // Another router, which the packets of the first line cross as well.
            sighting(from, 2, [1, 2], 0, 1_000_000, true),
        ]
    });
    let rest = store.rest();
    let (from, to) = store.ends();
    for (filter, octets) in [
        ("exporter = 192.0.2.1 and in_if = 3", 1_020_000),
        ("exporter = 192.0.2.1 and out_if = 5", 1_400_000),
        ("exporter = 192.0.2.1 and in_if = 7", 400_000),
        ("exporter = 192.0.2.1 and out_if = 9", 20_000),
        ("exporter = 192.0.2.1 and in_if in (3, 7)", 1_420_000),
        // 1,020,000 in and 3,000 out; in by it or out by another comes to the same for traffic through it.
        ("exporter = 192.0.2.1 and interface = 3", 1_023_000),
        ("exporter = 192.0.2.1 and interface = 5", 1_403_000),
        ("exporter = 192.0.2.2 and in_if = 1", 1_000_000),
        // In the network: what is no repeat.
        ("exporter = 192.0.2.1", 1_423_100),
        ("in_if = 3", 1_020_000),
    ] {
        // From the sums by the hour, by the minute, and from flows, whose octets as such only they have.
        for more in ["", " and octets >= 0"] {
            let filter = format!("{filter}{more}");
            let pairs = [("from", from.as_str()), ("to", to.as_str()), ("filter", filter.as_str())];
            let top = rest.get("top", &[pairs[0], pairs[1], pairs[2], ("group_by", "exporter")]);
            assert_eq!(top["total"]["octets"], octets, "{filter}: {top}");
            let chart = rest.get("traffic", &[pairs[0], pairs[1], pairs[2], ("step", "1m")]);
            assert_eq!(chart["total"]["octets"], octets, "{filter}: {chart}");
            let by_interface = filter.starts_with("exporter") && filter.contains("_if") || filter.contains("interface");
            assert_eq!(chart["source"]["repeats"], if by_interface { "by_interface" } else { "left_out" }, "{filter}");
        }
    }
    // Who asks where it was observed sees both sides.
    let sides = [
        ("exporter = 192.0.2.1 and in_if = 3 and direction = egress", 1_000_000),
        ("exporter = 192.0.2.1 and out_if = 5 and direction = ingress", 1_000_100),
    ];
    for (filter, octets) in sides {
        let top = rest.get("top", &[("from", &from), ("to", &to), ("filter", filter)]);
        assert_eq!((&top["total"]["octets"], &top["source"]["repeats"]), (&octets.into(), &"counted".into()), "{filter}");
    }
    let groups = |word: &str, interface: &str| {
        let top = rest.get("top", &[("from", &from), ("to", &to), ("group_by", word)]);
        let row =
            |row: &Value| (row["exporter"].as_str().unwrap().to_owned(), row[interface].as_u64().unwrap(), row["octets"].as_u64().unwrap());
        top["rows"].as_array().unwrap().iter().map(row).collect::<std::collections::BTreeSet<_>>()
    };
    let of = |router: &str, interface, octets| (router.to_owned(), interface, octets);
    let came = [of("192.0.2.1", 3, 1_020_000), of("192.0.2.1", 5, 3_000), of("192.0.2.1", 7, 400_000), of("192.0.2.2", 1, 1_000_000)];
    assert_eq!(groups("exporter,in_if", "in_if"), came.into());
    let went = [of("192.0.2.1", 3, 3_000), of("192.0.2.1", 5, 1_400_000), of("192.0.2.1", 9, 20_000), of("192.0.2.2", 2, 1_000_000)];
    assert_eq!(groups("exporter,out_if", "out_if"), went.into());
}

#[test]
fn flows_leave_as_csv_and_as_parquet_that_the_engine_reads_again() {
    let store = Store::start(4);
    let rest = store.rest();
    let (from, to) = store.ends();
    let filter = "protocol = udp";
    let own: Vec<&Record> = store.records.iter().filter(|record| record.protocol == 17).collect();
    let octets: u64 = own.iter().map(|record| record.octets).sum();
    let pairs = [("from", from.as_str()), ("to", to.as_str()), ("filter", filter)];

    let (status, headers, csv) = rest.ask("flows", &[pairs[0], pairs[1], pairs[2], ("format", "csv")]);
    assert_eq!(status, 200);
    assert!(headers.contains("text/csv") && headers.contains("attachment; filename=") && headers.contains(".csv"), "{headers}");
    let csv = String::from_utf8(csv).unwrap();
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').map(|name| name.trim_matches('"')).collect();
    let column = head.iter().position(|name| *name == "octets").unwrap();
    // No text stands before the octets, so that a comma is a comma.
    let sum: u64 = csv.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!((csv.lines().count() - 1, sum), (own.len(), octets));

    let (status, headers, parquet) = rest.ask("flows", &[pairs[0], pairs[1], pairs[2], ("format", "parquet")]);
    assert_eq!((status, &parquet[..4], &parquet[parquet.len() - 4..]), (200, &b"PAR1"[..], &b"PAR1"[..]));
    assert!(headers.contains("application/vnd.apache.parquet"), "{headers}");
    let file = store.engine.folder().join("flows.parquet");
    std::fs::write(&file, &parquet).unwrap();
    let read = store
        .engine
        .query(&format!("SELECT count(), sum(octets), any(destination_address) != '' FROM file('{}', Parquet)", file.display()));
    assert_eq!(read, format!("{}\t{octets}\t1", own.len()));

    let pages: Vec<Value> = [0, 100]
        .iter()
        .map(|offset| rest.get("flows", &[pairs[0], pairs[1], pairs[2], ("limit", "100"), ("offset", &offset.to_string())]))
        .collect();
    let times: Vec<&str> =
        pages.iter().flat_map(|page| page["flows"].as_array().unwrap()).map(|flow| flow["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|one, other| one >= other), "the newest first, page by page");
    assert_eq!((times.len(), pages[0]["total"].as_u64()), (200, Some(u64::try_from(own.len()).unwrap())));
}

#[test]
fn a_record_shows_labels_communities_and_translations_and_no_spreadsheet_runs_its_names() {
    let store = Store::with(|from| vec![Record::random(&mut Random::new(9), from, 60)]);
    let time = store.from + 120;
    // 64,500 × 65,536 + 100; label 16 with bits behind it, RFC 3032.
    let insert = "INSERT INTO flows (time, source_site, source_city, destination_site, communities, source_mac_address, mpls_top_label, \
                  ingress_vrf_id, template_id, post_nat_source_address, post_napt_source_port) SETTINGS async_insert = 0";
    let row = format!("({time}, '=cmd()', '-1', 'a=b', [4227072100, 1], 2199023255553, 257, 7, 300, '::ffff:192.0.2.9', 1024)");
    assert_eq!(store.engine.query(&format!("{insert} VALUES {row}")), "");
    let rest = store.rest();
    let (from, to) = (moment(time), moment(time + 1));
    let flow = &rest.get("flows", &[("from", &from), ("to", &to), ("filter", "src_site = '=cmd()'")])["flows"][0];
    let expected = serde_json::json!({
        "source_site": "=cmd()", "communities": ["64500:100", "0:1"], "source_mac_address": "02:00:00:00:00:01", "destination_mac_address": "",
        "mpls_top_label": 16, "mpls_label_2": 0, "ingress_vrf_id": 7, "template_id": 300, "post_nat_source_address": "192.0.2.9",
        "post_nat_destination_address": "::", "post_napt_source_port": 1024,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&flow[name], value, "{name}");
    }
    let (_, _, csv) = rest.ask("flows", &[("from", &from), ("to", &to), ("format", "csv"), ("filter", "src_site = '=cmd()'")]);
    let csv = String::from_utf8(csv).unwrap();
    for text in ["\"'=cmd()\"", "\"'-1\"", "\"a=b\"", "\"64500:100 0:1\""] {
        assert!(csv.contains(text), "{text}: {csv}");
    }
    let (_, _, parquet) = rest.ask("flows", &[("from", &from), ("to", &to), ("format", "parquet"), ("filter", "src_site = '=cmd()'")]);
    let file = store.engine.folder().join("flow.parquet");
    std::fs::write(&file, &parquet).unwrap();
    let read = store.engine.query(&format!("SELECT source_site, communities FROM file('{}', Parquet)", file.display()));
    assert_eq!(read, "=cmd()\t['64500:100','0:1']");
}

/// 50,000 addresses with 1,001 to 51,000 octets: so even that the 1,024 largest of 262,144 buckets are not sure to have the largest.
#[test]
fn of_more_groups_than_fit_the_largest_are_found_or_what_may_be_missing_is_told() {
    let store = Store::with(|_| Vec::new());
    let statement = format!(
        "INSERT INTO flows (time, exporter, source_address, destination_port, octets, packets) SETTINGS async_insert = 0 \
         SELECT toDateTime({} + number % 3600), toIPv6('::ffff:192.0.2.1'), toIPv6(concat('2001:db8::', hex(number))), 7, number + 1001, 1 FROM numbers(50000)",
        store.from
    );
    assert_eq!(store.engine.query(&statement), "");
    let (from, to) = store.ends();
    let top = |groups_max: u64, words: &str, metric: &str| {
        let rest = Rest::start(&store.engine.link(), |config| config.api.query.groups_at_once_max = groups_max);
        rest.get("top", &[("from", &from), ("to", &to), ("group_by", words), ("limit", "5"), ("metric", metric)])
    };
    let at_once = top(100_000, "src_address,dst_port", "octets");
    assert_eq!(
        (&at_once["groups"], &at_once["are_groups_estimated"], &at_once["missed_max"]),
        (&50_000.into(), &false.into(), &Value::Null)
    );
    assert_eq!((&at_once["rows"][0]["octets"], &at_once["rows"][4]["octets"]), (&51_000.into(), &50_996.into()));
    // A second look into an eighth of the buckets, which may have 6,250 groups.
    let found = top(10_000, "src_address,dst_port", "octets");
    for part in ["rows", "other", "total", "missed_max"] {
        assert_eq!(found[part], at_once[part], "{part}");
    }
    assert_eq!(found["are_groups_estimated"], true);
    assert!((49_000..51_000).contains(&found["groups"].as_u64().unwrap()), "{}", found["groups"]);
    // Without it a larger one may be missing, and is no larger than that.
    let missed = top(1_000, "src_address,dst_port", "octets");
    let least = missed["rows"][4]["octets"].as_u64().unwrap();
    assert!(missed["missed_max"].as_u64().unwrap() > least, "{missed}");
    assert_eq!(missed["total"], at_once["total"]);
    // One packet each: no five are the largest.
    assert!(top(1_000, "src_address", "packets")["missed_max"].as_u64().unwrap() > 1);
}

#[test]
fn a_query_that_hits_a_limit_names_it_and_the_next_one_is_answered() {
    let store = Store::start(5);
    let (from, to) = store.ends();
    let ask = |change: fn(&mut api::query::Config), path: &str, word: &str| {
        let rest = Rest::start(&store.engine.link(), |config| change(&mut config.api.query));
        let step = [("step", "1s")];
        let pairs = [("from", from.as_str()), ("to", &to), ("group_by", word)];
        let (status, _, octets) = rest.ask(path, &[&pairs[..], if path == "traffic" { &step } else { &[] }].concat());
        let json: Value = serde_json::from_slice(&octets).unwrap();
        (status, json["error"]["code"].as_str().unwrap_or("").to_owned(), json["error"]["message"].as_str().unwrap_or("").to_owned())
    };
    for (key, answer) in [
        ("rows_read_max = 100", ask(|config| config.rows_read_max = 100, "top", "src_address,src_port")),
        (
            "memory_octets_max = 100000",
            ask(|config| config.memory_octets_max = 100_000, "top", "src_address,dst_address,src_port,dst_port"),
        ),
        ("rows_result_max = 20", ask(|config| config.rows_result_max = 20, "traffic", "src_port")),
        // 3,600 points of a second each: of the ports too many rows, of the two exporters fewer rows than values.
        ("chart_values_max = 200", ask(|config| config.chart_values_max = 200, "traffic", "src_port")),
        ("chart_values_max = 7199", ask(|config| config.chart_values_max = 7_199, "traffic", "exporter")),
    ] {
        assert_eq!((answer.0, answer.1.as_str()), (422, "query_limit"), "{key}: {}", answer.2);
        assert!(answer.2.contains(&format!("api.query.{key}")), "{}", answer.2);
    }
    assert_eq!(ask(|_| {}, "top", "src_address").0, 200);
}

#[test]
fn what_flows_no_longer_cover_comes_from_sums_and_what_only_they_have_is_missing() {
    let store = Store::start(6);
    // The half hour that is older is dropped from the flows, as retention would.
    let middle = store.from + HOUR / 2;
    assert_eq!(store.engine.query(&format!("ALTER TABLE flows DELETE WHERE time < toDateTime({middle}) SETTINGS mutations_sync = 1")), "");
    let rest = store.rest();
    let (from, to) = store.ends();
    let chart = rest.get("traffic", &[("from", &from), ("to", &to), ("step", "10s"), ("group_by", "src_as")]);
    assert_eq!((chart["source"]["level"].as_str(), chart["step"].as_u64()), (Some("minute"), Some(60)));
    assert!(chart["source"]["reason"].as_str().unwrap().contains("kept no more"), "{}", chart["source"]);
    assert_eq!(read(&chart["total"]), sums(store.directions()));
    let top = rest.get("top", &[("from", &from), ("to", &to), ("group_by", "src_port")]);
    let first = store.records.iter().map(|record| record.time).filter(|time| *time >= middle).min().unwrap();
    assert_eq!(
        (top["source"]["missing"]["from"].as_str(), top["source"]["missing"]["to"].as_str()),
        (Some(from.as_str()), Some(moment(first).as_str()))
    );
    assert_eq!(top["source"]["covers"]["from"], moment(first));
    assert_eq!(read(&top["total"]), sums(store.directions().filter(|record| record.time >= middle)));
    let ports = rest.get("traffic", &[("from", &from), ("to", &to), ("step", "10m"), ("group_by", "src_port")]);
    // Three points of ten minutes are gone, and the fourth begins before the first flow that is left.
    let is_known =
        |line: &Value, values: &str| -> Vec<bool> { line[values].as_array().unwrap().iter().map(|value| !value.is_null()).collect() };
    let known = (0..6_u64).map(|point| store.from + point * 600 >= first).collect::<Vec<_>>();
    assert_eq!(known.iter().filter(|known| **known).count(), if first == middle { 3 } else { 2 });
    for line in ports["series"].as_array().unwrap().iter().chain([&ports["other"], &ports["total"]]) {
        assert_eq!((is_known(line, "values"), is_known(line, "errors")), (known.clone(), known.clone()), "{line}");
    }
    let listed = rest.get("flows", &[("from", &from), ("to", &to)]);
    assert_eq!(listed["missing"]["from"], from);
}

#[test]
fn a_summary_tells_the_peak_and_who_sent_most() {
    let store = Store::start(7);
    let summary = store.rest().get("summary", &[("range", "7d")]);
    assert_eq!(summary["store"]["available"], true, "{summary}");
    assert_eq!(read(&summary["traffic"]), sums(store.directions()));
    let mut minutes: BTreeMap<u64, u64> = BTreeMap::new();
    store.directions().for_each(|record| *minutes.entry(record.time / 60).or_default() += record.octets * record.scale());
    assert_eq!(summary["traffic"]["peak_bps"], minutes.values().max().unwrap() * 8 / 60);
    assert_eq!((summary["top_asns"].as_array().unwrap().len(), summary["top_countries"].as_array().unwrap().len()), (4, 5));
    assert_eq!(summary["top_sources"].as_array().unwrap().len(), 10);
}
