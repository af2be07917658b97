//! `weir-bench latency`: from the datagram that carries a crossing to the blackhole route in the router that peers with the speaker.
//!
//! It starts `weir serve`, a gobgpd as its speaker and another as the router, waits for their session, and then floods one host
//! after the other, each with a single datagram: that datagram is the one which carries the crossing.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use bench::synthesize::{Attack, Exporter, Flow, Hosts, Layout, Popularity, Protocol, Random, Traffic, Vector};
use clap::Args;
use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::measure;
use crate::process::Process;
use crate::serving::{self, Serving, free_tcp_port};

/// How long anything may take to start, and a route to come.
const PATIENCE: Duration = Duration::from_secs(40);
/// The limit that Weir is given; each flood is of fifty times as many packets in half a second.
const LIMIT_PACKETS_PER_SECOND: u32 = 10_000;
/// Where the hosts are; every round hits another /24, so that no two are taken for one carpet.
const NETWORK: &str = "198.18.0.0/15";
/// Rounds at most: the /24s of the network.
const ROUNDS_MAX: u32 = 512;

/// What is measured.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program; the `weir` beside this one unless told otherwise
    #[arg(long)]
    weir: Option<PathBuf>,
    /// v5, v9 or ipfix
    #[arg(long, default_value = "v9")]
    protocol: Protocol,
    /// Floods
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Times of all rounds, in milliseconds.
#[derive(Debug, Serialize)]
struct Report {
    protocol: &'static str,
    rounds: usize,
    p50_milliseconds: f64,
    p90_milliseconds: f64,
    p99_milliseconds: f64,
    largest_milliseconds: f64,
}

/// Measures and prints one JSON object.
///
/// # Errors
///
/// If a part does not start, or a route does not come.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!((1..ROUNDS_MAX).contains(&arguments.rounds), "from 1 to {} rounds", ROUNDS_MAX - 1);
    ensure!(arguments.protocol != Protocol::Sflow5, "a single sFlow datagram cannot carry a crossing");
    let folder = std::env::temp_dir().join(format!("weir-bench-latency-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let times = measure(arguments, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    let mut times = times?;
    times.sort_by(f64::total_cmp);
    let report = Report {
        protocol: arguments.protocol.name(),
        rounds: times.len(),
        p50_milliseconds: rank(&times, 50),
        p90_milliseconds: rank(&times, 90),
        p99_milliseconds: rank(&times, 99),
        largest_milliseconds: rank(&times, 100),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// The nearest-rank percentile of ascending values: the smallest that at least `percent` of 100 do not pass.
pub(crate) fn rank(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

fn measure(arguments: &Arguments, folder: &Path) -> Result<Vec<f64>> {
    let (router_port, speaker_port) = (free_tcp_port()?, free_tcp_port()?);
    let _router = gobgpd(folder, "router", router_port, (65_010, "127.0.0.12"), (65_001, "127.0.0.11"), true)?;
    let _speaker = gobgpd(folder, "speaker", speaker_port, (65_001, "127.0.0.11"), (65_010, "127.0.0.12"), false)?;
    let weir = weir(arguments, folder, speaker_port)?;
    let established = measure::wait(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(200));
        let output = Command::new("gobgp").args(["-p", &speaker_port.to_string(), "neighbor"]).stderr(Stdio::null()).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("Establ"))
    });
    ensure!(established, "the session of the two gobgpd does not come up");
    let (_monitor, routes) = monitor(router_port)?;
    let mut flood = Flood::new(arguments, weir.port())?;
    // The first round opens connections that later ones find open.
    flood.round(0, &routes)?;
    (1..=arguments.rounds).map(|number| flood.round(number, &routes)).collect()
}

/// The exporter, and what it sends in peace and in attack.
struct Flood {
    exporter: Exporter,
    socket: UdpSocket,
    traffic: Traffic,
    random: Random,
    seed: u64,
}

impl Flood {
    fn new(arguments: &Arguments, port: u16) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", port))?;
        let hosts = Hosts { v4: NETWORK.parse()?, v6: None, count: 65_536, popularity: Popularity::Even };
        let started = Timestamp(now().0.saturating_sub(3_600_000));
        Ok(Self {
            exporter: Exporter::new(Layout::new(arguments.protocol, 1), started),
            socket,
            traffic: Traffic::new(arguments.seed, hosts, 1_000),
            random: Random::new(arguments.seed),
            seed: arguments.seed,
        })
    }

    /// Some peace, then a flood; returns the milliseconds from its datagram to the route.
    fn round(&mut self, number: u32, routes: &Receiver<(Instant, Prefix)>) -> Result<f64> {
        let peace = Instant::now();
        let length = Duration::from_millis(u64::from(self.random.within(300, 500)));
        while peace.elapsed() < length {
            let at = now();
            let flows: Vec<Flow> = (0..20).map(|_| self.traffic.flow(at)).collect();
            self.export(at, &flows)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        let target = Hosts::address(NETWORK.parse()?, number * 256 + 7).host();
        let at = now();
        let began = Timestamp(at.0 - 500);
        let packets_per_second = LIMIT_PACKETS_PER_SECOND * 100;
        let mut attack = Attack::new(self.seed + u64::from(number), Vector::NtpAmplification, target, packets_per_second, began, at);
        attack.records_max = 18;
        let mut flows = Vec::new();
        attack.flows(began, at, 1, false, &mut flows);
        let sent = self.export(at, &flows)?;
        let deadline = Instant::now() + PATIENCE;
        let mut seen = HashMap::new();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let Ok((moment, prefix)) = routes.recv_timeout(left) else { break };
            if prefix == target {
                return Ok(moment.saturating_duration_since(sent).as_secs_f64() * 1_000.0);
            }
            *seen.entry(prefix).or_insert(0) += 1;
        }
        anyhow::bail!("no route to {target} came within {PATIENCE:?}; others that did: {seen:?}")
    }

    /// Sends flows that fit into one datagram; returns the moment right before that.
    fn export(&mut self, at: Timestamp, flows: &[Flow]) -> Result<Instant> {
        let (mut last, mut failed) = (Instant::now(), None);
        let socket = &self.socket;
        self.exporter.export(at, flows, &mut |draft| {
            last = Instant::now();
            failed = socket.send(draft.octets()).err().or(failed.take());
        });
        failed.map_or(Ok(last), |error| Err(error).context("Weir does not take datagrams"))
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Lets gobgp print the router's changes and passes on announcements with the moment at which they were read.
fn monitor(port: u16) -> Result<(Process, Receiver<(Instant, Prefix)>)> {
    let mut command = Command::new("gobgp");
    command.args(["-p", &port.to_string(), "monitor", "global", "rib", "-j"]).stdout(Stdio::piped());
    let mut process = Process::start(&mut command, "Debian's gobgpd")?;
    let lines = BufReader::new(process.child().stdout.take().context("no pipe")?).lines();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let seen = Instant::now();
            let paths: Vec<Value> = serde_json::from_str(&line).unwrap_or_default();
            for path in paths.iter().filter(|path| path.get("withdrawal") != Some(&Value::Bool(true))) {
                let text = path.pointer("/nlri/prefix").and_then(Value::as_str);
                let prefix = text.and_then(|text| text.split('/').next()?.parse::<Address>().ok());
                if prefix.is_some_and(|address| sender.send((seen, address.host())).is_err()) {
                    return;
                }
            }
        }
    });
    // Until it is connected it would miss routes.
    std::thread::sleep(Duration::from_secs(1));
    Ok((process, receiver))
}

fn weir(arguments: &Arguments, folder: &Path, speaker_port: u16) -> Result<Serving> {
    let sections = format!(
        r#"
[collector.store]
engine = "none"

[analytics.threshold]
packets_per_second = {LIMIT_PACKETS_PER_SECOND}

[analytics.mitigation]
dry_run = false
rules_max = 10_000
rules_per_minute_max = 100_000

[[analytics.mitigation.adapters]]
type = "gobgp"
id = "speaker"
endpoint = "http://127.0.0.1:{speaker_port}"
"#
    );
    Serving::start(&serving::program(arguments.weir.as_ref())?, folder, NETWORK, &sections)
}

/// A gobgpd with one neighbour; the passive one listens.
fn gobgpd(folder: &Path, name: &str, api: u16, own: (u32, &str), other: (u32, &str), passive: bool) -> Result<Process> {
    const BGP_PORT: u16 = 1_790;
    let listen = if passive { format!("port = {BGP_PORT}\nlocal-address-list = [\"{}\"]", own.1) } else { "port = -1".to_owned() };
    let families = ["ipv4-unicast", "ipv6-unicast"]
        .map(|family| format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n"))
        .concat();
    let text = format!(
        "[global.config]\nas = {}\nrouter-id = \"{own_address}\"\n{listen}\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
         [neighbors.transport.config]\npassive-mode = {passive}\nlocal-address = \"{own_address}\"\nremote-port = {BGP_PORT}\n\
         [neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n\
         [neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 10\n{families}",
        own.0,
        other.1,
        other.0,
        own_address = own.1,
    );
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, text)?;
    let mut command = Command::new("gobgpd");
    command.arg("-f").arg(path).args(["--api-hosts", &format!("127.0.0.1:{api}"), "--pprof-disable"]).stdout(Stdio::null());
    Process::start(&mut command, "Debian's gobgpd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_occurred() {
        let times: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([rank(&times, 50), rank(&times, 99), rank(&times, 100)], [100.0, 198.0, 200.0]);
        assert_eq!(rank(&[7.0], 99), 7.0);
    }
}
