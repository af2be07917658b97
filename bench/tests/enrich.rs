//! MMDB files of the makers' layouts, customers and sites of a CSV file: read, laid over each other, and read again when they change.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bench::synthesize::mmdb::{Mmdb, Value};
use bench::synthesize::{Random, routes};
use collector::enrich::load::{Loader, check};
use collector::enrich::metrics::Metrics;
use collector::enrich::{Config, Enrichment, SharedTables, Tables};
use maxminddb::Reader;
use schemas::net::Address;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-enrich-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, octets: impl AsRef<[u8]>) -> PathBuf {
        // As whoever updates such a file does it: whole, under another name, and then moved.
        let (part, path) = (self.0.join("part"), self.0.join(name));
        fs::write(&part, octets).unwrap();
        fs::rename(&part, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn map(entries: &[(&'static str, Value)]) -> Value {
    Value::Map(entries.to_vec())
}

fn named(name: &str) -> Value {
    map(&[("names", map(&[("de", Value::text("anders")), ("en", Value::text(name))]))])
}

/// The fields of GeoLite2 and GeoIP2, and of DB-IP's files.
fn nested(code: &str, city: &str) -> Value {
    let country = map(&[("geoname_id", Value::Number(1)), ("iso_code", Value::text(code)), ("names", map(&[("en", Value::text("Land"))]))]);
    map(&[("city", named(city)), ("country", country), ("location", map(&[("accuracy_radius", Value::Short(20))]))])
}

fn autonomous_system(number: u32, name: &str) -> Value {
    map(&[("autonomous_system_number", Value::Number(number)), ("autonomous_system_organization", Value::text(name))])
}

fn file(entries: &[(&str, Value)], is_v6: bool, record_bits: u16) -> Vec<u8> {
    let mut mmdb = Mmdb::new(is_v6);
    for (prefix, value) in entries {
        mmdb.insert(prefix.parse().unwrap(), value);
    }
    if is_v6 {
        mmdb.alias_v4();
    }
    mmdb.finish("Made-up", record_bits)
}

fn mmdb(files: &[&Path]) -> Config {
    Config { mmdb: files.iter().map(|file| file.to_path_buf()).collect(), ..Config::default() }
}

fn tables(config: &Config) -> Arc<Tables> {
    Enrichment::start(config).unwrap().tables().get()
}

/// Autonomous system, country, city, length of the prefix.
fn told(tables: &Tables, address: &str) -> (u32, String, String, u8) {
    let place = tables.place(address.parse().unwrap());
    let country = String::from_utf8(place.country.iter().copied().filter(|letter| *letter != 0).collect()).unwrap();
    (place.autonomous_system, country, tables.places().name(place.city).to_owned(), place.prefix_length)
}

fn owned(tables: &Tables, address: &str) -> (String, String) {
    let place = tables.place(address.parse().unwrap());
    (tables.places().name(place.customer).to_owned(), tables.places().name(place.site).to_owned())
}

fn count(metrics: &Metrics, name: &str) -> u64 {
    metrics.counts().find(|(own, _, _)| *own == name).unwrap().2
}

fn known(autonomous_system: u32, country: &str, city: &str, prefix_length: u8) -> (u32, String, String, u8) {
    (autonomous_system, country.to_owned(), city.to_owned(), prefix_length)
}

#[test]
fn cities_and_autonomous_systems_of_nested_files_are_laid_over_each_other() {
    let folder = Folder::new();
    for record_bits in [24, 28, 32] {
        let cities =
            [("192.0.2.0/24", nested("CH", "Bern")), ("192.0.2.128/25", nested("fr", "Lyon")), ("2001:db8::/32", nested("CH", "Basel"))];
        let cities = folder.write("city.mmdb", file(&cities, true, record_bits));
        let systems = [("192.0.0.0/16", autonomous_system(64_496, "One")), ("2001:db8::/29", autonomous_system(64_497, "Two"))];
        let systems = folder.write("asn.mmdb", file(&systems, true, record_bits));
        let tables = tables(&mmdb(&[&cities, &systems]));
        assert_eq!(told(&tables, "192.0.2.1"), known(64_496, "CH", "Bern", 0));
        assert_eq!(told(&tables, "192.0.2.200"), known(64_496, "FR", "Lyon", 0));
        assert_eq!(told(&tables, "192.0.3.1"), known(64_496, "", "", 0));
        assert_eq!(told(&tables, "2001:db8::1"), known(64_497, "CH", "Basel", 0));
        assert_eq!(told(&tables, "198.51.100.1"), known(0, "", "", 0));
        assert_eq!(tables.autonomous_system_name(64_497), Some("Two"));
        assert_eq!(tables.autonomous_system_name(64_498), None);
        // Reached once: the ways to IPv4 by 2002::/16 and ::ffff:0:0/96 are no prefixes of IPv6.
        assert_eq!(told(&tables, "2002:c000:201::1"), known(0, "", "", 0));
        // 0, 192.0.0.0, 192.0.2.0, 192.0.2.128, 192.0.3.0, 192.1.0.0 and 0, 2001:db8::, 2001:db9::, 2001:dc0::.
        assert_eq!(tables.table().runs(), (6, 4));
    }
}

#[test]
fn flat_files_tell_country_city_and_autonomous_system_at_once() {
    let folder = Folder::new();
    let text = |name: &'static str, value: &str| (name, Value::text(value));
    let entries = [
        // The newer layout, with the country's name where the older one has its code.
        (
            "192.0.2.0/24",
            map(&[
                text("country", "Switzerland"),
                text("country_code", "CH"),
                text("asn", "AS64496"),
                text("as_name", "One"),
                text("as_domain", "one.example"),
            ]),
        ),
        ("198.51.100.0/24", map(&[text("country", "US"), text("asn", "AS64497"), text("name", "Two"), text("city", "Mountain View")])),
        ("2001:db8::/32", map(&[text("country", "DE"), text("asn", "")])),
    ];
    let tables = tables(&mmdb(&[&folder.write("ipinfo.mmdb", file(&entries, true, 32))]));
    assert_eq!(told(&tables, "192.0.2.1"), known(64_496, "CH", "", 0));
    assert_eq!(told(&tables, "198.51.100.1"), known(64_497, "US", "Mountain View", 0));
    assert_eq!(told(&tables, "2001:db8::1"), known(0, "DE", "", 0));
    assert_eq!(tables.autonomous_system_name(64_496), Some("One"));
    assert_eq!(tables.autonomous_system_name(64_497), Some("Two"));
}

#[test]
fn a_file_of_ipv4_alone_is_read_and_the_country_of_registration_stands_in() {
    let folder = Folder::new();
    let registered = map(&[("registered_country", map(&[("iso_code", Value::text("SE"))]))]);
    let tables = tables(&mmdb(&[&folder.write("v4.mmdb", file(&[("192.0.2.0/24", registered)], false, 24))]));
    assert_eq!(told(&tables, "192.0.2.1"), known(0, "SE", "", 0));
    assert_eq!(told(&tables, "::c000:201"), known(0, "", "", 0));
}

#[test]
fn a_block_around_ipv4_tells_of_all_of_it() {
    let folder = Folder::new();
    for (prefix, behind) in [("0.0.0.0/0", ""), ("::/8", "CH")] {
        let country = map(&[("country_code", Value::text("CH"))]);
        let mut made = Mmdb::new(true);
        made.insert(prefix.parse().unwrap(), &country);
        let tables = tables(&mmdb(&[&folder.write("all.mmdb", made.finish("Made-up", 24))]));
        let countries = ["0.0.0.0", "255.255.255.255", "::1:0:0", "2001:db8::"].map(|address| told(&tables, address).1);
        assert_eq!(countries, ["CH", "CH", behind, ""], "{prefix}");
    }
}

#[test]
fn the_table_tells_what_a_walk_in_the_file_tells() {
    let folder = Folder::new();
    let all = routes(&mut Random::new(3), 4_000, 2_000);
    let mut made = Mmdb::new(true);
    all.iter().for_each(|route| made.insert(route.prefix, &autonomous_system(route.autonomous_system, "x")));
    let octets = made.finish("Made-up-ASN", 28);
    let reader = Reader::from_source(&octets).unwrap();
    let tables = tables(&mmdb(&[&folder.write("asn.mmdb", &octets)]));
    let mut random = Random::new(5);
    for route in all.iter().cycle().take(20_000) {
        let (first, last) = (route.prefix.first().0, route.prefix.last().0);
        let within = u128::from(random.number()) << 64 | u128::from(random.number());
        for address in [first, last, first | within & (first ^ last), last.wrapping_add(1)].map(Address) {
            let found = reader.lookup(address.ip()).unwrap();
            let fields = found.decode::<HashMap<String, serde_json::Value>>().unwrap();
            let walked = fields.and_then(|fields| fields.get("autonomous_system_number").and_then(serde_json::Value::as_u64));
            assert_eq!(u64::from(tables.place(address).autonomous_system), walked.unwrap_or(0), "{address}");
        }
    }
}

#[test]
fn customers_and_sites_of_a_file_hold_by_themselves_and_bad_lines_are_named() {
    let folder = Folder::new();
    let lines = "\u{feff}site,note,prefix,customer\n\
        Bern,x,192.0.2.0/24,One\n\
        ,y,192.0.2.128/25,\"Two, Ltd\"\n\
        Basel,z,2001:db8::/32,\n\
        Genf,,192.0.2.7/24,Three\n\
        Genf,,somewhere,Three\n\
        \n\
        # a remark\n\
        ,,198.51.100.0/24,\n";
    let config = Config { prefixes: folder.write("prefixes.csv", lines), ..Config::default() };
    let enrichment = Enrichment::start(&config).unwrap();
    let tables = enrichment.tables().get();
    let pair = |customer: &str, site: &str| (customer.to_owned(), site.to_owned());
    assert_eq!(owned(&tables, "192.0.2.1"), pair("One", "Bern"));
    // The longer prefix tells a customer and no site: the site is that of the one around it.
    assert_eq!(owned(&tables, "192.0.2.129"), pair("Two, Ltd", "Bern"));
    assert_eq!(owned(&tables, "2001:db8::1"), pair("", "Basel"));
    assert_eq!(owned(&tables, "198.51.100.1"), pair("", ""));
    assert_eq!(count(enrichment.metrics(), "weir_collector_enrich_lines_refused_total"), 3);
    let found: Vec<String> = check(&config).into_iter().map(|(key, message)| format!("{key}: {message}")).collect();
    let path = config.prefixes.display();
    assert_eq!(
        found,
        [
            format!("collector.enrich.prefixes: {path}:5: 192.0.2.7/24 has bits set behind its length, did you mean 192.0.2.0/24"),
            format!("collector.enrich.prefixes: {path}:6: not an address or prefix: somewhere"),
            format!("collector.enrich.prefixes: {path}:9: nothing is told of 198.51.100.0/24"),
        ]
    );
}

#[test]
fn a_file_of_routes_tells_the_prefix_and_who_announces_it() {
    let folder = Folder::new();
    let lines = "prefix,as\n192.0.0.0/16,64496\n192.0.2.0/24,AS64497\n2001:db8::/32,64496\n192.0.3.0/24,one\n";
    let places = folder.write("country.mmdb", file(&[("192.0.0.0/17", map(&[("country", Value::text("CH"))]))], true, 24));
    let config = Config { prefixes: folder.write("routes.csv", lines), ..mmdb(&[&places]) };
    let tables = tables(&config);
    let routed = |number: u32, country: &str, length: u8| (number, country.to_owned(), String::new(), length);
    assert_eq!(told(&tables, "192.0.1.1"), routed(64_496, "CH", 16));
    assert_eq!(told(&tables, "192.0.2.1"), routed(64_497, "CH", 24));
    assert_eq!(told(&tables, "192.0.200.1"), routed(64_496, "", 16));
    assert_eq!(told(&tables, "2001:db8::1"), routed(64_496, "", 32));
    assert!(check(&config)[0].1.ends_with("routes.csv:5: one is no number of an autonomous system"));
}

#[test]
fn a_file_that_changes_is_read_again_once_it_has_settled() {
    let folder = Folder::new();
    let path = folder.write("asn.mmdb", file(&[("192.0.2.0/24", autonomous_system(64_496, "One"))], true, 24));
    let (shared, metrics, now) = (SharedTables::default(), Arc::<Metrics>::default(), Instant::now());
    let mut loader = Loader::new(&mmdb(&[&path]), shared.clone(), Arc::clone(&metrics));
    loader.load(now);
    assert!(!loader.look(now) && !loader.look(now), "nothing has changed");
    folder.write("asn.mmdb", file(&[("192.0.2.0/24", autonomous_system(64_497, "Two"))], true, 24));
    assert!(!loader.look(now), "seen for the first time: somebody may still write");
    assert_eq!(told(&shared.get(), "192.0.2.1").0, 64_496);
    assert!(loader.look(now));
    assert_eq!(told(&shared.get(), "192.0.2.1").0, 64_497);
    assert_eq!(count(&metrics, "weir_collector_enrich_generation"), 2);
}

#[test]
fn a_broken_half_or_missing_file_leaves_the_old_table_and_does_not_hold_up_others() {
    let folder = Folder::new();
    let whole = file(&[("192.0.2.0/24", autonomous_system(64_496, "One"))], true, 24);
    let path = folder.write("asn.mmdb", &whole);
    let csv = folder.write("prefixes.csv", "prefix,customer\n192.0.2.0/24,One\n");
    let (shared, metrics, now) = (SharedTables::default(), Arc::<Metrics>::default(), Instant::now());
    let mut loader = Loader::new(&Config { prefixes: csv, ..mmdb(&[&path]) }, shared.clone(), Arc::clone(&metrics));
    loader.load(now);
    let failures = || count(&metrics, "weir_collector_enrich_load_failures_total");
    folder.write("asn.mmdb", &whole[..whole.len() / 2]);
    folder.write("prefixes.csv", "prefix,customer\n192.0.2.0/24,Two\n");
    assert!(!loader.look(now) && loader.look(now));
    assert_eq!((told(&shared.get(), "192.0.2.1").0, owned(&shared.get(), "192.0.2.1").0, failures()), (64_496, "Two".to_owned(), 1));
    assert!(!loader.look(now) && failures() == 1, "the same file is not tried twice");
    fs::remove_file(&path).unwrap();
    assert!(!loader.look(now) && !loader.look(now));
    assert_eq!((told(&shared.get(), "192.0.2.1").0, failures()), (64_496, 2));
    folder.write("asn.mmdb", file(&[("192.0.2.0/24", autonomous_system(64_497, "Two"))], true, 24));
    assert!(!loader.look(now) && loader.look(now));
    assert_eq!((told(&shared.get(), "192.0.2.1").0, failures()), (64_497, 2));
}

/// Without a free file descriptor no file can be opened, whoever asks, and nothing of the file changes.
#[test]
fn a_file_that_could_not_be_opened_is_tried_again_after_a_pause_that_grows() {
    let folder = Folder::new();
    let path = folder.write("asn.mmdb", file(&[("192.0.2.0/24", autonomous_system(64_496, "One"))], true, 24));
    let (shared, metrics, now) = (SharedTables::default(), Arc::<Metrics>::default(), Instant::now());
    let mut loader = Loader::new(&mmdb(&[&path]), shared.clone(), Arc::clone(&metrics));
    let limited = Command::new("prlimit").args(["--nofile=64", "--pid", &std::process::id().to_string()]).status().unwrap();
    assert!(limited.success());
    let all: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    loader.load(now);
    let failures = || count(&metrics, "weir_collector_enrich_load_failures_total");
    let mut look = |seconds: u64| loader.look(now + Duration::from_secs(seconds));
    assert!(!look(14) && failures() == 1, "it is let alone for 15 seconds");
    assert!(!look(15) && !look(44) && failures() == 2, "and then for 30");
    drop(all);
    assert!(!look(44) && look(45) && !look(1_000));
    assert_eq!((told(&shared.get(), "192.0.2.1").0, failures()), (64_496, 2));
}

/// As a system writes that has nothing to say but an error, or whose separators have changed.
#[test]
fn lines_of_which_none_can_be_read_leave_the_old_table() {
    let folder = Folder::new();
    let config = Config { prefixes: folder.write("prefixes.csv", "prefix,customer\n192.0.2.0/24,One\n"), ..Config::default() };
    let (shared, metrics, now) = (SharedTables::default(), Arc::<Metrics>::default(), Instant::now());
    let mut loader = Loader::new(&config, shared.clone(), Arc::clone(&metrics));
    loader.load(now);
    folder.write("prefixes.csv", "prefix,customer\n# of today\nno connection to the database\n\n192.0.2.0;One\n");
    assert!(!loader.look(now) && !loader.look(now));
    assert_eq!((owned(&shared.get(), "192.0.2.1").0, count(&metrics, "weir_collector_enrich_load_failures_total")), ("One".to_owned(), 1));
    let message = &check(&config)[0].1;
    assert!(message.ends_with("in any of its lines; line 3: not an address or prefix: no connection to the database"), "{message}");
    // That there are no prefixes any more is a thing that can be said.
    folder.write("prefixes.csv", "prefix,customer\n");
    assert!(!loader.look(now) && loader.look(now) && shared.get().is_empty());
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = Folder::new();
    let pipe = folder.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let config = Config { prefixes: pipe, ..mmdb(&[&folder.0]) };
    drop(Enrichment::start(&config).unwrap());
    let found = check(&config);
    assert!(found.len() == 2 && found.iter().all(|(_, message)| message.ends_with(" is no regular file")), "{found:?}");
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_its_key() {
    let folder = Folder::new();
    let good = folder.write("good.mmdb", file(&[("192.0.2.0/24", autonomous_system(64_496, "One"))], true, 24));
    let other = folder.write("other.mmdb", file(&[("192.0.2.0/24", map(&[("is_proxy", Value::Short(1))]))], true, 24));
    let text = folder.write("text.mmdb", "no MMDB file at all");
    let nowhere = folder.0.join("nowhere.mmdb");
    let config = Config { prefixes: folder.write("prefixes.csv", "net;who\n"), ..mmdb(&[&good, &other, &text, &nowhere]) };
    let found = check(&config);
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["collector.enrich.mmdb[1]", "collector.enrich.mmdb[2]", "collector.enrich.mmdb[3]", "collector.enrich.prefixes"]);
    let messages: Vec<&str> = found.iter().map(|(_, message)| message.as_str()).collect();
    assert!(messages[0].ends_with("no network has a country, a city or an autonomous system"), "{messages:?}");
    assert!(messages[1].contains("text.mmdb is no MMDB file, or a broken one"), "{messages:?}");
    assert!(messages[2].contains("nowhere.mmdb cannot be read"), "{messages:?}");
    assert!(messages[3].contains("prefixes.csv its first line names no column prefix"), "{messages:?}");
    let bounded = Config { prefixes_max: 1, file_octets_max: 10, ..mmdb(&[&good]) };
    assert!(check(&bounded)[0].1.contains("is larger than collector.enrich.file_octets_max, 10 octets"));
}

#[test]
fn no_octet_of_a_file_can_make_reading_it_panic() {
    let whole = file(&[("192.0.2.0/24", nested("CH", "Bern")), ("2001:db8::/32", autonomous_system(64_496, "One"))], true, 24);
    let mut random = Random::new(9);
    for _ in 0..2_000 {
        let mut octets = whole.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(u32::try_from(octets.len()).unwrap()) as usize;
            octets[at] = random.number().to_be_bytes()[0];
        }
        octets.truncate(octets.len() - random.below(4) as usize);
        drop(collector::enrich::mmdb::read(&octets, 10_000));
    }
}
