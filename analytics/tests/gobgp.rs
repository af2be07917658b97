//! The gobgp adapter against two real gobgpd: one is our speaker, the other plays the router.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use analytics::config::{self, Mitigation};
use analytics::metrics::Metrics;
use analytics::mitigate::adapters::gobgp::Gobgp;
use analytics::mitigate::adapters::{Adapter, AdapterError, Carried};
use analytics::mitigate::driver::{self, Handle, Start};
use analytics::mitigate::plan::Intent;
use schemas::net::{Prefix, PrefixSet};
use schemas::rule::{IntentType, Rule, RuleOwner, RuleState};

/// A gobgpd that ends with its test.
struct Daemon {
    child: Child,
    api: u16,
    folder: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Daemon {
    /// Ends it as a crash does, and starts it anew.
    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = run(&self.folder, self.api);
    }

    fn start(name: &str, config: &str, api: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("weir-gobgp-{}-{api}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("gobgpd.toml"), config).unwrap();
        let child = run(&folder, api);
        let daemon = Self { child, api, folder };
        wait_for("gobgpd answers", 10, || daemon.gobgp(&["global"]).is_some());
        daemon
    }

    /// What `gobgp` prints, if it succeeds.
    fn gobgp(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("gobgp").args(["-p", &self.api.to_string()]).args(arguments).output().expect("gobgp is not installed");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// The attributes of a route as the daemon's own client prints them.
    fn route(&self, family: &str, prefix: &str) -> Option<serde_json::Value> {
        let table: serde_json::Value = serde_json::from_str(&self.gobgp(&["global", "rib", "-a", family, "-j"])?).ok()?;
        table.get(prefix).map(|paths| paths[0]["attrs"].clone())
    }
}

fn run(folder: &Path, api: u16) -> Child {
    Command::new("gobgpd")
        .args([
            "-f",
            folder.join("gobgpd.toml").to_str().unwrap(),
            "--api-hosts",
            &format!("127.0.0.1:{api}"),
            "--pprof-disable",
            "-l",
            "error",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("gobgpd is not installed: apt-get install gobgpd")
}

fn wait_for(what: &str, seconds: u64, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !done() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn bgp(own: &str, asn: u32, port: u16, peer: &str, peer_asn: u32, peer_port: u16, passive: bool) -> String {
    format!(
        "[global.config]\nas = {asn}\nrouter-id = \"{own}\"\nport = {port}\nlocal-address-list = [\"{own}\"]\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{peer}\"\npeer-as = {peer_asn}\n\
         [neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n\
         [neighbors.transport.config]\nlocal-address = \"{own}\"\nremote-port = {peer_port}\npassive-mode = {passive}\n\
         [neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 10\n\
         [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"\n\
         [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv6-unicast\"\n"
    )
}

/// Our speaker and a router whose session is up; `host` makes the pair's addresses its own.
fn pair(host: u8) -> (Daemon, Daemon) {
    let (own, peer) = (format!("127.77.{host}.1"), format!("127.77.{host}.2"));
    let (port, peer_port) = (free_port(), free_port());
    let router = Daemon::start("router", &bgp(&peer, 64_513, peer_port, &own, 64_512, port, true), free_port());
    let speaker = Daemon::start("speaker", &bgp(&own, 64_512, port, &peer, 64_513, peer_port, false), free_port());
    wait_for("the session is up", 60, || speaker.gobgp(&["neighbor", &peer]).is_some_and(|text| text.contains("BGP state = ESTABLISHED")));
    (speaker, router)
}

fn settings(api: u16) -> config::Gobgp {
    let config::Adapter::Gobgp(settings) =
        toml::from_str(&format!("type = \"gobgp\"\nid = \"edge\"\nendpoint = \"http://127.0.0.1:{api}\"")).unwrap();
    settings
}

#[derive(Clone, Default)]
struct Saved(Arc<Mutex<Vec<Rule>>>);

impl driver::Store for Saved {
    async fn save(&mut self, rules: &[Rule]) -> Result<(), String> {
        self.0.lock().unwrap().extend_from_slice(rules);
        Ok(())
    }
}

impl Saved {
    fn state(&self, target: &str) -> Option<RuleState> {
        self.0.lock().unwrap().iter().rev().find(|rule| rule.target.to_string() == target).map(|rule| rule.state)
    }
}

fn drive(api: u16, start: Start) -> (Handle, Saved) {
    let config = Mitigation { adapters: vec![config::Adapter::Gobgp(settings(api))], reconcile_seconds: 1, ..Mitigation::default() };
    let networks: PrefixSet = ["203.0.113.0/24", "2001:db8::/32"].iter().map(|text| text.parse::<Prefix>().unwrap()).collect();
    let saved = Saved::default();
    let (handle, _) = driver::spawn(&config, networks, start, saved.clone(), Metrics::default()).unwrap();
    (handle, saved)
}

fn blackhole(target: &str) -> Intent {
    Intent {
        target: target.parse().unwrap(),
        intent_type: IntentType::Blackhole,
        adapter_id: "edge".into(),
        owner: RuleOwner::Manual,
        incident_uuid: None,
        reason: "test".into(),
        ttl: 0,
    }
}

/// Communities and large communities of a route's attributes, as numbers and text.
fn communities(attributes: &serde_json::Value) -> (BTreeSet<u64>, String) {
    let of_type = |kind: u64| attributes.as_array().unwrap().iter().find(|attribute| attribute["type"] == kind);
    let plain =
        of_type(8).map(|attribute| attribute["communities"].as_array().unwrap().iter().filter_map(serde_json::Value::as_u64).collect());
    (plain.unwrap_or_default(), of_type(32).map(|attribute| attribute["value"].to_string()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blackhole_reaches_the_router_and_leaves_it_again() {
    let (speaker, router) = pair(1);
    let (handle, saved) = drive(speaker.api, Start::default());
    // Somebody else's routes are left alone throughout.
    speaker.gobgp(&["global", "rib", "add", "203.0.113.99/32", "nexthop", "192.0.2.9", "community", "65535:666"]).unwrap();
    for (target, family, prefix) in [("203.0.113.7", "ipv4", "203.0.113.7/32"), ("2001:db8::7", "ipv6", "2001:db8::7/128")] {
        let rule = handle.announce(blackhole(target)).await.unwrap().unwrap();
        wait_for("the router has the route", 5, || router.route(family, prefix).is_some());
        let (plain, large) = communities(&router.route(family, prefix).unwrap());
        // 65535:666 and 65535:65281.
        assert_eq!(plain, BTreeSet::from([0xffff_029a, 0xffff_ff01]));
        assert!(large.contains("4200002055"), "{large}");
        wait_for("it is confirmed", 5, || saved.state(target) == Some(RuleState::Active));
        assert!(handle.withdraw(rule.uuid).await.unwrap());
        wait_for("the router has lost the route", 5, || router.route(family, prefix).is_none());
        wait_for("it is withdrawn", 5, || saved.state(target) == Some(RuleState::Withdrawn));
        let states: Vec<RuleState> = saved.0.lock().unwrap().iter().filter(|own| own.uuid == rule.uuid).map(|own| own.state).collect();
        assert_eq!(states, [RuleState::Pending, RuleState::Active, RuleState::Withdrawing, RuleState::Withdrawn]);
    }
    assert!(router.route("ipv4", "203.0.113.99/32").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_missing_routes_are_announced_and_orphans_withdrawn() {
    let (speaker, router) = pair(2);
    let (handle, saved) = drive(speaker.api, Start::default());
    for host in [1, 2] {
        handle.announce(blackhole(&format!("203.0.113.{host}"))).await.unwrap().unwrap();
    }
    wait_for("both are active", 5, || ["203.0.113.1", "203.0.113.2"].iter().all(|target| saved.state(target) == Some(RuleState::Active)));
    speaker.gobgp(&["global", "rib", "add", "203.0.113.99/32", "nexthop", "192.0.2.9", "community", "65535:666"]).unwrap();
    let rules = handle.rules().await.unwrap();
    drop(handle);
    // The state knows the first and one that the speaker has lost meanwhile, and not the second.
    let mut lost = rules.iter().find(|rule| rule.target.to_string() == "203.0.113.1").unwrap().clone();
    let kept = lost.clone();
    lost.uuid = uuid::Uuid::new_v4();
    lost.target = "203.0.113.3".parse().unwrap();
    let (handle, saved) = drive(speaker.api, Start { rules: vec![kept, lost], ..Start::default() });
    wait_for("what is wanted is announced", 5, || router.route("ipv4", "203.0.113.3/32").is_some());
    wait_for("the orphan is gone", 5, || router.route("ipv4", "203.0.113.2/32").is_none());
    wait_for("it is confirmed", 5, || saved.state("203.0.113.3") == Some(RuleState::Active));
    assert!(router.route("ipv4", "203.0.113.1/32").is_some());
    assert!(router.route("ipv4", "203.0.113.99/32").is_some());
    // What somebody takes away behind our back comes back.
    speaker.gobgp(&["global", "rib", "del", "203.0.113.1/32"]).unwrap();
    wait_for("the router has lost it", 5, || router.route("ipv4", "203.0.113.1/32").is_none());
    wait_for("it is announced again", 5, || router.route("ipv4", "203.0.113.1/32").is_some());
    // The kill switch takes all of ours, and nothing else.
    handle.freeze(true).await.unwrap();
    wait_for("all of ours are gone", 5, || {
        router.route("ipv4", "203.0.113.1/32").is_none() && router.route("ipv4", "203.0.113.3/32").is_none()
    });
    assert!(router.route("ipv4", "203.0.113.99/32").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speaker_that_starts_anew_gets_its_routes_back() {
    let (mut speaker, router) = pair(5);
    let (handle, saved) = drive(speaker.api, Start::default());
    handle.announce(blackhole("203.0.113.7")).await.unwrap().unwrap();
    wait_for("the router has the route", 5, || router.route("ipv4", "203.0.113.7/32").is_some());
    speaker.restart();
    wait_for("the router has lost the route with the session", 10, || router.route("ipv4", "203.0.113.7/32").is_none());
    wait_for("the router has the route again", 60, || router.route("ipv4", "203.0.113.7/32").is_some());
    wait_for("it is confirmed", 10, || saved.state("203.0.113.7") == Some(RuleState::Active));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_somebody_else_is_neither_replaced_nor_withdrawn() {
    let api = free_port();
    let alone = Daemon::start("alone", "[global.config]\nas = 64512\nrouter-id = \"127.77.3.1\"\nport = -1\n", api);
    alone.gobgp(&["global", "rib", "add", "203.0.113.9/32", "nexthop", "192.0.2.9", "community", "65535:666"]).unwrap();
    let adapter = Gobgp::new(&settings(api)).unwrap();
    let target: Prefix = "203.0.113.9".parse().unwrap();
    let (handle, saved) = drive(api, Start::default());
    let rule = handle.announce(blackhole("203.0.113.9")).await.unwrap().unwrap();
    wait_for("it fails", 5, || saved.state("203.0.113.9") == Some(RuleState::Failed));
    let error = saved.0.lock().unwrap().iter().rev().find_map(|rule| rule.error.clone()).unwrap();
    assert_eq!(error, AdapterError::Occupied { target }.to_string());
    handle.withdraw(rule.uuid).await.unwrap();
    wait_for("it is given up", 5, || saved.state("203.0.113.9") == Some(RuleState::Withdrawn));
    assert!(alone.route("ipv4", "203.0.113.9/32").is_some());
    assert_eq!(adapter.list(None).await, Ok(Vec::new()));
    // A speaker without peers is the router itself.
    handle.announce(blackhole("203.0.113.10")).await.unwrap().unwrap();
    wait_for("it is in the table", 5, || alone.route("ipv4", "203.0.113.10/32").is_some());
    assert_eq!(adapter.check("203.0.113.10".parse().unwrap()).await, Ok(Carried::Alone));
    assert_eq!(adapter.check("203.0.113.11".parse().unwrap()).await, Ok(Carried::Absent));
    assert_eq!(adapter.list(None).await, Ok(vec!["203.0.113.10".parse().unwrap()]));
    assert_eq!(adapter.list(Some(&["203.0.113.0/25".parse().unwrap()])).await, Ok(vec!["203.0.113.10".parse().unwrap()]));
    wait_for("it is active", 5, || saved.state("203.0.113.10") == Some(RuleState::Active));
    // With a peer that never comes, the route is in its table and goes nowhere.
    alone.gobgp(&["neighbor", "add", "127.77.3.9", "as", "64513"]).unwrap();
    assert_eq!(adapter.check("203.0.113.10".parse().unwrap()).await, Ok(Carried::TableOnly));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_endpoint_is_said_so() {
    let adapter = Gobgp::new(&settings(free_port())).unwrap();
    let error = adapter.list(None).await.unwrap_err();
    assert!(matches!(&error, AdapterError::Unreachable { reason, .. } if reason.contains("refused")), "{error}");
}

/// Prints how long it takes from the request to the route in the router; the bound is the product's promise for the whole way.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_at_the_router_within_half_a_second() {
    let (speaker, router) = pair(4);
    let (handle, _) = drive(speaker.api, Start::default());
    let mut times: BTreeMap<Duration, u8> = BTreeMap::new();
    for host in 1..=20u8 {
        let target: Prefix = format!("203.0.113.{host}").parse().unwrap();
        let start = Instant::now();
        handle.announce(blackhole(&target.to_string())).await.unwrap().unwrap();
        while router.route("ipv4", &format!("{target}/32")).is_none() {
            assert!(start.elapsed() < Duration::from_secs(5), "{target} did not arrive");
        }
        times.insert(start.elapsed(), host);
    }
    let slowest = times.keys().next_back().copied().unwrap_or_default();
    let median = times.keys().nth(times.len() / 2).copied().unwrap_or_default();
    eprintln!("announce to route in the router, read by the gobgp client: median {median:?}, slowest of {} {slowest:?}", times.len());
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}
