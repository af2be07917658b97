//! Two gobgpd: the speaker that Weir tells its rules to, and the router that peers with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use schemas::net::Prefix;
use serde_json::Value;

use crate::isolation::{folder, run};
use crate::process::{Process, wait_until};

/// The gRPC endpoint of the speaker, for Weir's configuration.
pub const SPEAKER: &str = "http://127.0.0.1:50051";
const SPEAKER_PORT: &str = "50051";
const ROUTER_PORT: &str = "50052";

/// A route as the router has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub prefix: Prefix,
    /// The next hop.
    pub next_hop: String,
    /// Its communities, as `asn:value`.
    pub communities: Vec<String>,
}

/// The two speakers with their session.
#[derive(Debug)]
pub struct Speakers {
    speaker: Process,
    _router: Process,
    monitor: Child,
    changes: Receiver<(Instant, bool, Route)>,
}

impl Speakers {
    /// Starts both and waits for the session (some 9 s, of gobgp's own timers).
    ///
    /// # Panics
    ///
    /// If the session does not come up.
    #[must_use]
    pub fn start() -> Self {
        let (own, other) = (Ipv4Addr::new(192, 0, 2, 11), Ipv4Addr::new(192, 0, 2, 12));
        for address in [own, other] {
            run("ip", &["address", "add", &format!("{address}/32"), "dev", "lo"]);
        }
        let router = start("router", ROUTER_PORT, &configuration((65_010, other), (65_001, own), true));
        let speaker = start("speaker", SPEAKER_PORT, &configuration((65_001, own), (65_010, other), false));
        wait_until("the session", Duration::from_secs(40), || {
            let output = Command::new("gobgp").args(["-p", SPEAKER_PORT, "neighbor"]).stderr(Stdio::null()).output();
            output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("Establ"))
        });
        let (monitor, changes) = watch();
        Self { speaker, _router: router, monitor, changes }
    }

    /// What the router has now, IPv4 and IPv6.
    ///
    /// # Panics
    ///
    /// If the router cannot be asked.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        let families = ["ipv4", "ipv6"].map(|family| {
            let text = run("gobgp", &["-p", ROUTER_PORT, "global", "rib", "-a", family, "-j"]);
            let table: Value = serde_json::from_str(&text).unwrap();
            let paths = table.as_object().into_iter().flat_map(|table| table.values()).filter_map(Value::as_array).flatten();
            paths.map(route).collect::<Vec<_>>()
        });
        families.concat()
    }

    /// Waits until the router has a route to the prefix, or has none.
    ///
    /// # Panics
    ///
    /// If that does not come in time.
    pub fn wait_for(&self, prefix: &str, present: bool, within: Duration) {
        let prefix: Prefix = prefix.parse().unwrap();
        let what = format!("a router {} {prefix}", if present { "with" } else { "without" });
        wait_until(&what, within, || self.routes().iter().any(|route| route.prefix == prefix) == present);
    }

    /// The next change in the router within `within`: when it was seen, whether it is a withdrawal, and of what.
    #[must_use]
    pub fn next_change(&self, within: Duration) -> Option<(Instant, bool, Route)> {
        self.changes.recv_timeout(within).ok()
    }

    /// Announces a route at the speaker by hand, as another program would.
    pub fn announce(&self, prefix: &str, attributes: &[&str]) {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        run("gobgp", &[&["-p", SPEAKER_PORT, "global", "rib", "add", "-a", family, prefix], attributes].concat());
    }

    /// Ends the speaker at once, as a crash would; the router withdraws what came from it.
    pub fn crash_speaker(&mut self) {
        self.speaker.kill();
    }

    /// Starts the speaker again, without any route.
    pub fn restart_speaker(&mut self) {
        self.speaker = start("speaker", SPEAKER_PORT, &fs::read_to_string(folder().join("speaker.toml")).unwrap());
    }
}

impl Drop for Speakers {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

fn start(name: &str, port: &str, configuration: &str) -> Process {
    let path = folder().join(format!("{name}.toml"));
    fs::write(&path, configuration).unwrap();
    let mut command = Command::new("gobgpd");
    command.arg("-f").arg(path).args(["--api-hosts", &format!("127.0.0.1:{port}"), "--pprof-disable"]);
    Process::start(name, &mut command)
}

fn configuration(own: (u32, Ipv4Addr), other: (u32, Ipv4Addr), passive: bool) -> String {
    let listen = if passive { format!("port = 179\nlocal-address-list = [\"{}\"]", own.1) } else { "port = -1".to_owned() };
    let families = ["ipv4-unicast", "ipv6-unicast", "ipv4-flowspec", "ipv6-flowspec"]
        .map(|family| format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n"))
        .concat();
    format!(
        "[global.config]\nas = {}\nrouter-id = \"{own_address}\"\n{listen}\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
         [neighbors.transport.config]\npassive-mode = {passive}\nlocal-address = \"{own_address}\"\n\
         [neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n\
         [neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 10\n{families}",
        own.0,
        other.1,
        other.0,
        own_address = own.1,
    )
}

/// Lets gobgp print the router's changes, and passes them on with the moment at which they were read.
fn watch() -> (Child, Receiver<(Instant, bool, Route)>) {
    let mut command = Command::new("gobgp");
    command.args(["-p", ROUTER_PORT, "monitor", "global", "rib", "-j"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let seen = Instant::now();
            let paths: Vec<Value> = serde_json::from_str(&line).unwrap_or_default();
            for path in &paths {
                if sender.send((seen, path["withdrawal"] == true, route(path))).is_err() {
                    return;
                }
            }
        }
    });
    (child, receiver)
}

/// Reads one path of gobgp's JSON: attribute 3 is the next hop, 8 the communities, 14 the reachable prefixes of IPv6 with theirs.
fn route(path: &Value) -> Route {
    let attributes: Vec<&Value> = path["attrs"].as_array().into_iter().flatten().collect();
    let next_hop = attributes.iter().find_map(|attribute| attribute["nexthop"].as_str()).unwrap_or_default();
    let communities =
        attributes.iter().filter(|attribute| attribute["type"] == 8).filter_map(|attribute| attribute["communities"].as_array());
    let words = communities.flatten().filter_map(Value::as_u64).map(|value| format!("{}:{}", value >> 16, value & 0xffff));
    Route { prefix: path["nlri"]["prefix"].as_str().unwrap().parse().unwrap(), next_hop: next_hop.to_owned(), communities: words.collect() }
}
