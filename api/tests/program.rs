//! The program itself: its commands, what it says to an operator's mistakes, and the whole pipe from sockets to REST and webhook.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails here has failed")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

use bench::synthesize::mmdb::{self, Mmdb};
use bench::synthesize::{Attack, Hosts, Layout, Popularity, Protocol, Router, Traffic, Vector, demo};
use schemas::net::Prefix;
use schemas::time::Timestamp;
use serde_json::Value;

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("weir-program-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_remove("WEIR_OWNER_TOKEN").env_remove("RUST_LOG");
    command
}

fn run(arguments: &[&str]) -> Output {
    weir().args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// A running `weir serve`; killed if a test ends early.
struct Served {
    child: Child,
    api: String,
    metrics: String,
    receive: Vec<SocketAddr>,
    /// The lines of standard error up to the one that says ready.
    log: String,
}

impl Served {
    fn start(config: &Path, token: Option<&str>) -> Self {
        let mut command = weir();
        command.args(["serve", "--config", config.to_str().unwrap()]).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(token) = token {
            command.env("WEIR_OWNER_TOKEN", token);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        while !log.contains(" ready ") {
            assert_ne!(lines.read_line(&mut log).unwrap(), 0, "it ended before it was ready: {log}");
        }
        // What follows must be read, or the program stops at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let word = |name: &str| {
            let rest = &log[log.rfind(&format!(" {name}=")).unwrap() + name.len() + 2..];
            let end = if rest.starts_with('[') { rest.find(']').unwrap() } else { rest.find(char::is_whitespace).unwrap_or(rest.len()) };
            rest[..end].trim_start_matches('[').to_owned()
        };
        let receive = word("receive").split(", ").map(|address| address.parse().unwrap()).collect();
        Self { child, api: word("api"), metrics: word("metrics"), receive, log }
    }

    fn get(&self, token: &str, path: &str) -> Value {
        let url = format!("http://{}{path}", self.api);
        let mut response = ureq::get(&url).header("authorization", format!("Bearer {token}")).call().unwrap();
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
    }

    #[track_caller]
    fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let value = self.get(TOKEN, path);
            if holds(&value) {
                return value;
            }
            assert!(Instant::now() < end, "{path} stayed {value:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to end, and answers its exit code and what it printed.
    fn stop(mut self) -> (Option<i32>, String) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        (self.child.wait().unwrap().code(), printed)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A configuration on ports that the kernel chooses.
fn config(folder: &Folder, rest: &str) -> PathBuf {
    let data = folder.0.join("data");
    let text = format!(
        "data_dir = {data:?}\nnetworks = [\"203.0.113.0/24\"]\n[collector.receive]\nshards = 1\nnetflow = [\"127.0.0.1:0\"]\nipfix = []\nsflow = []\n\
         [collector.store]\nengine = \"none\"\n[api]\nlisten = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\n{rest}"
    );
    folder.write("weir.toml", &text)
}

#[test]
fn check_names_file_line_and_key_of_everything_that_is_wrong() {
    let folder = Folder::new();
    let path = folder.write("weir.toml", "datadir = \"x\"\n\n[api]\nlisten = \"nowhere\"\n\n[analytics.incident]\nend_ratio = 2.0\n");
    let output = run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    let said = text(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let file = path.display();
    assert!(lines[0].starts_with(&format!("{file}:1: datadir: unknown field")), "{said}");
    assert!(lines[1].starts_with(&format!("{file}:4: api.listen: ")), "{said}");
    assert_eq!(lines[2], format!("{file}:7: analytics.incident.end_ratio: 2 is not within 0.01 to 1"));
    assert_eq!(run(&["serve", "--config", path.to_str().unwrap()]).status.code(), Some(1), "serve refuses it as well");
    let output = run(&["check", "--config", "/nonexistent.toml"]);
    assert_eq!((output.status.code(), text(&output.stderr).contains("/nonexistent.toml")), (Some(1), true));
}

#[test]
fn check_reads_the_files_that_tell_where_addresses_lie() {
    let folder = Folder::new();
    let prefixes = folder.write("prefixes.csv", "prefix,customer\n203.0.113.0/24,One\n203.0.113.7/24,Two\n");
    let nowhere = folder.0.join("nowhere.mmdb");
    let text_of = |prefixes: &Path| {
        format!(
            "[collector.enrich]\nprefixes = {prefixes:?}\nmmdb = [\n  {nowhere:?},\n]\ncustomers = [{{ name = \"\", prefixes = [] }}]\n"
        )
    };
    let path = folder.write("weir.toml", &text_of(&prefixes));
    let said = text(&run(&["check", "--config", path.to_str().unwrap()]).stderr);
    assert!(said.contains("weir.toml:6: collector.enrich.customers[0].name: must not be empty"), "{said}");
    let path = folder.write("weir.toml", &text_of(&prefixes).replace("\"\"", "\"One\""));
    let output = run(&["check", "--config", path.to_str().unwrap()]);
    let said = text(&output.stderr);
    let (file, prefixes) = (path.display(), prefixes.display());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((output.status.code(), lines.len()), (Some(1), 2), "{said}");
    let meant = "203.0.113.7/24 has bits set behind its length, did you mean 203.0.113.0/24";
    assert_eq!(lines[0], format!("{file}:2: collector.enrich.prefixes: {prefixes}:3: {meant}"));
    assert!(lines[1].starts_with(&format!("{file}:4: collector.enrich.mmdb[0]: {} cannot be read: ", nowhere.display())), "{said}");
}

#[test]
fn the_printed_default_passes_the_check() {
    let folder = Folder::new();
    let printed = run(&["config", "default"]);
    let path = folder.write("default.toml", &text(&printed.stdout));
    let output = run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert_eq!(text(&run(&["version"]).stdout), format!("weir {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn two_programs_do_not_serve_from_one_data_dir() {
    let folder = Folder::new();
    let path = config(&folder, "");
    let first = Served::start(&path, Some(TOKEN));
    let output = run(&["serve", "--config", path.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("another Weir serves from it"), "{said}");
    assert_eq!(first.stop().0, Some(0));
    Served::start(&path, Some(TOKEN)).stop();
}

#[test]
fn the_owner_token_is_told_even_if_the_start_fails_later_on() {
    let folder = Folder::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"", held.local_addr().unwrap());
    let path =
        folder.write("weir.toml", &std::fs::read_to_string(config(&folder, "")).unwrap().replacen("listen = \"127.0.0.1:0\"", &listen, 1));
    let output = run(&["serve", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("owner token, shown this once: "), "{}", text(&output.stdout));
}

#[test]
fn a_port_in_use_is_named() {
    let folder = Folder::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let path = folder.write(
        "weir.toml",
        &std::fs::read_to_string(config(&folder, "")).unwrap().replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"{address}\""), 1),
    );
    let output = run(&["serve", "--config", path.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("api.listen: {address}/tcp is in use by")) && said.contains(&std::process::id().to_string()), "{said}");
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let path =
        folder.write("weir.toml", &std::fs::read_to_string(config(&folder, "")).unwrap().replacen("127.0.0.1:0", &address.to_string(), 1));
    let output = run(&["serve", "--config", path.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("{address}/udp is in use by")) && said.contains(&std::process::id().to_string()), "{said}");
}

#[test]
fn the_first_start_prints_an_owner_token_and_the_second_none() {
    let folder = Folder::new();
    let path = config(&folder, "");
    let first = Served::start(&path, None);
    let api = first.api.clone();
    assert_ne!(api, first.metrics);
    let (code, printed) = first.stop();
    assert_eq!(code, Some(0));
    let token = printed.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!((printed.lines().count(), token.len()), (1, 64), "{printed}");
    let second = Served::start(&path, None);
    assert_eq!(second.get(&token, "/api/v1/tokens")["total"], 1);
    // A token that the command line makes works at once, and no longer once it is revoked.
    let made = run(&["token", "create", "panel", "--role", "readonly", "--config", path.to_str().unwrap()]);
    let panel = text(&made.stdout).trim().to_owned();
    assert_eq!(second.get(&panel, "/api/v1/nodes")["total"], 0);
    let listed = text(&run(&["token", "list", "--config", path.to_str().unwrap()]).stdout);
    let line = listed.lines().find(|line| line.contains("panel")).unwrap();
    assert!(line.contains("readonly") && !listed.contains(&panel), "{listed}");
    let id = line.split('\t').next().unwrap();
    assert_eq!(run(&["token", "revoke", id, "--config", path.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(run(&["token", "revoke", id, "--config", path.to_str().unwrap()]).status.code(), Some(1));
    assert_eq!(second.get(&token, "/api/v1/tokens")["total"], 1);
    assert_eq!(second.stop(), (Some(0), String::new()));
}

#[test]
fn a_preset_owner_token_replaces_the_one_before() {
    let folder = Folder::new();
    let path = config(&folder, "");
    let other = "f".repeat(64);
    assert_eq!(Served::start(&path, Some(&other)).stop(), (Some(0), String::new()));
    let served = Served::start(&path, Some(TOKEN));
    assert_eq!(served.get(TOKEN, "/api/v1/tokens")["total"], 1);
    let url = format!("http://{}/api/v1/tokens", served.api);
    assert!(matches!(ureq::get(&url).header("authorization", format!("Bearer {other}")).call(), Err(ureq::Error::StatusCode(401))));
    drop(served);
    let output = weir().args(["serve", "--config", path.to_str().unwrap()]).env("WEIR_OWNER_TOKEN", "secret").output().unwrap();
    assert!(text(&output.stderr).contains("WEIR_OWNER_TOKEN must be 64 hex digits") && output.status.code() == Some(1));
}

/// Peaceful traffic of one flow a second, and for 1.5 s an attack of 50,000 packets/s, all of it counted.
/// A record as IPinfo's files have it.
fn record(autonomous_system: &str, country: &str) -> mmdb::Value {
    mmdb::Value::Map(vec![("asn", mmdb::Value::text(autonomous_system)), ("country_code", mmdb::Value::text(country))])
}

fn router(now: Timestamp) -> Router {
    let hosts = Hosts { v4: "203.0.113.0/24".parse().unwrap(), v6: None, count: 256, popularity: Popularity::Even };
    let mut router = Router::new(Layout::new(Protocol::Netflow9, 1), Traffic::new(1, hosts, 60_000).sampled(1_000), 1, now);
    let target: Prefix = "203.0.113.70".parse().unwrap();
    router.add(Attack::new(1, Vector::NtpAmplification, target, 50_000, now.plus(500), now.plus(2_000)));
    router
}

#[test]
fn a_flood_through_a_socket_is_an_incident_in_rest_and_webhook_and_outlives_a_restart() {
    let folder = Folder::new();
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("http://{}/", receiver.local_addr().unwrap());
    let (bodies, told) = channel();
    std::thread::spawn(move || {
        for stream in receiver.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            drop(bodies.send(serde_json::from_slice::<Value>(&body).unwrap()));
            stream.write_all(b"HTTP/1.1 204 Fine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
    });
    // All of IPv4 is one autonomous system in one country.
    let mut mmdb = Mmdb::new(true);
    mmdb.insert("0.0.0.0/0".parse().unwrap(), &record("AS64496", "CH"));
    let places = folder.0.join("places.mmdb");
    std::fs::write(&places, mmdb.finish("Made-up", 28)).unwrap();
    let rest = format!(
        "[collector.enrich]\nmmdb = [{places:?}]\n[api.notify.webhook]\nurl = \"{hook}\"\nsecret = \"s\"\nallow_private = true\n\
         [analytics.threshold]\npackets_per_second = 10_000\n[analytics.incident]\nhold_seconds = 2\n"
    );
    let path = config(&folder, &rest);
    let served = Served::start(&path, Some(TOKEN));
    assert!(!served.log.contains("no engine yet"), "engine none is what was asked for: {}", served.log);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(served.receive[0]).unwrap();
    let began = Timestamp::from(SystemTime::now());
    let mut router = router(began);
    while Timestamp::from(SystemTime::now()).since(began) < 2_500 {
        router.advance(SystemTime::now().into(), &mut |octets| drop(socket.send(octets)));
        std::thread::sleep(Duration::from_millis(10));
    }
    let list = served.until("/api/v1/incidents", |list| list["total"] == 1);
    let uuid = list["incidents"][0]["uuid"].as_str().unwrap().to_owned();
    let path_of = format!("/api/v1/incidents/{uuid}");
    let ended = served.until(&path_of, |reply| reply["incident"]["status"] == "resolved");
    let incident = &ended["incident"];
    assert_eq!((&incident["target"], &incident["family"]), (&Value::from("203.0.113.70"), &Value::from("udp_flood")), "{incident:#}");
    assert_eq!(incident["subtype"], "ntp_amplification");
    assert_eq!(incident["top_src_asns"][0]["value"], 64_496, "{incident:#}");
    let sources = incident["top_src_ips"].as_array().unwrap().iter().map(|source| source["share"].as_f64().unwrap()).sum::<f64>();
    let share = incident["geo_breakdown"]["CH"].as_f64().unwrap();
    assert!(sources > 0.0 && (share - sources).abs() < 1e-6, "{incident:#}");
    // Dry run is the default: the blackhole was shown, and is over with its incident.
    let rules = served.until("/api/v1/mitigation/rules/history", |rules| !rules["rules"][0]["withdrawn_at"].is_null());
    assert_eq!(rules["rules"][0]["state"], "dry_run");
    assert_eq!(served.get(TOKEN, "/api/v1/mitigation/rules")["total"], 0);
    assert_eq!((&rules["total"], &rules["rules"][0]["incident_uuid"]), (&Value::from(1), &Value::from(uuid.clone())));
    let timeline: Vec<&str> = incident["timeline"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert!(timeline.starts_with(&["opened"]) && timeline.contains(&"rule_dry_run"), "{timeline:?}");
    let events: Vec<Value> = std::iter::from_fn(|| told.recv_timeout(Duration::from_secs(5)).ok())
        .take_while(|event| event["event_type"] != "attack_end")
        .collect();
    assert_eq!((&events[0]["event_type"], &events[0]["incident"]["uuid"]), (&Value::from("attack_start"), &Value::from(uuid)));
    assert_eq!(served.get(TOKEN, "/api/v1/exporters")["exporters"][0]["domains"][0]["version"], "netflow9");
    let metrics = ureq::get(&format!("http://{}/metrics", served.metrics)).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(metrics.contains("\nweir_analytics_incidents_opened_total 1\n"), "{metrics}");
    // The file tells of 0.0.0.0/0 alone: one run of IPv4, and none of IPv6.
    assert!(
        metrics.contains("\nweir_collector_enrich_generation 1\n") && metrics.contains("\nweir_collector_enrich_entries 1\n"),
        "{metrics}"
    );
    assert_eq!(served.stop().0, Some(0));
    let served = Served::start(&path, Some(TOKEN));
    assert_eq!(served.get(TOKEN, &path_of)["incident"]["status"], "resolved");
}

/// A classic pcap of UDP datagrams to port 2055, over IPv4 without a link layer (LINKTYPE_RAW, 101).
struct Capture(Vec<u8>);

impl Capture {
    fn new() -> Self {
        let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101];
        Self(header.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn add(&mut self, now: Timestamp, router: u8, payload: &[u8]) {
        let length = u32::try_from(28 + payload.len()).unwrap();
        let seconds = u32::try_from(now.0 / 1_000).unwrap();
        let microseconds = u32::try_from(now.0 % 1_000 * 1_000).unwrap();
        for word in [seconds, microseconds, length, length] {
            self.0.extend(word.to_le_bytes());
        }
        let [.., high, low] = length.to_be_bytes();
        self.0.extend([0x45, 0, high, low, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, router, 192, 0, 2, 1]);
        let [.., high, low] = (length - 20).to_be_bytes();
        self.0.extend([0xc3, 0x50, 2_055_u16.to_be_bytes()[0], 2_055_u16.to_be_bytes()[1], high, low, 0, 0]);
        self.0.extend(payload);
    }
}

#[test]
fn a_replayed_capture_tells_the_incident_and_the_rule_that_would_have_been_announced() {
    let folder = Folder::new();
    let began = Timestamp(1_795_176_000_000);
    let mut capture = Capture::new();
    let mut routers = demo(7, &["203.0.113.0/24".parse().unwrap()], began);
    // Five seconds of peace, then of the attack that begins a minute after the start: 60 to 120 s.
    for step in 1..=1_300_u64 {
        let now = began.plus(step * 100);
        for (number, router) in (1_u8..).zip(&mut routers) {
            router.advance(now, &mut |octets| capture.add(now, number, octets));
        }
    }
    let file = folder.0.join("demo.pcap");
    std::fs::write(&file, &capture.0).unwrap();
    let path = config(&folder, "");
    let output = run(&["replay", file.to_str().unwrap(), "--config", path.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let printed = text(&output.stdout);
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["incident", "rule", "totals"], "{printed}");
    assert!(printed.lines().all(|line| line.starts_with("{\"type\":\"")));
    let (incident, rule, totals) = (&lines[0], &lines[1], &lines[2]);
    assert_eq!(
        (&incident["target"], &incident["status"], &incident["family"]),
        (&Value::from("203.0.113.70"), &Value::from("resolved"), &Value::from("udp_flood"))
    );
    let moment = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!((60_000..62_000).contains(&moment(&incident["detected_at"]).since(began)), "{incident:#}");
    assert!((119_000..122_000).contains(&moment(&incident["ended_at"]).since(began)), "{incident:#}");
    assert_eq!(
        (&rule["target_ip"], &rule["intent_type"], &rule["state"], &rule["error"]),
        (&Value::from("203.0.113.70"), &Value::from("blackhole"), &Value::from("withdrawn"), &Value::Null)
    );
    assert_eq!(rule["incident_uuid"], incident["uuid"]);
    assert_eq!(incident["mitigated_at"], rule["confirmed_at"]);
    assert_eq!(
        (&totals["incidents"], &totals["rules"], &totals["datagrams_malformed"]),
        (&Value::from(1), &Value::from(1), &Value::from(0))
    );
    assert_eq!(totals["records_decoded"], totals["records_counted"].as_u64().unwrap() + totals["records_unmonitored"].as_u64().unwrap());
    let output = run(&["replay", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "a text is no capture");
    let output = run(&["replay", file.to_str().unwrap(), "--speed", "0"]);
    assert!(text(&output.stderr).contains("--speed must be above 0"));
}
