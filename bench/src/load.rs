//! `weir-bench load`: a sender of synthesized telemetry, with an attack when one is wanted.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail, ensure};
use bench::synthesize::{Attack, Hosts, Layout, Popularity, Protocol, Router, Sent, Traffic, Vector};
use clap::Args;
use schemas::net::Prefix;
use schemas::time::Timestamp;

use crate::send::{Plan, Sender};

/// Longest run, in seconds: a forgotten sender ends by itself.
const SECONDS_MAX: u64 = 86_400;
/// How often a router with an attack reports.
const STEP: Duration = Duration::from_millis(20);

/// What is sent, where to and for how long.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The collector's address and port; loopback unless `--remote` is given
    #[arg(long, default_value = "127.0.0.1:2055")]
    target: SocketAddr,
    /// Lets the target be another machine
    #[arg(long)]
    remote: bool,
    /// v5, v9, ipfix, ipfix-variable or sflow
    #[arg(long, default_value = "v9")]
    protocol: Protocol,
    /// Flows a second; 0 = as fast as it goes
    #[arg(long, default_value_t = 100_000)]
    rate: u32,
    /// Seconds to send for
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Flows to send at most
    #[arg(long)]
    flows: Option<u64>,
    /// Monitored hosts
    #[arg(long, default_value_t = 65_536)]
    hosts: u32,
    /// Where the hosts are
    #[arg(long, default_value = "10.0.0.0/8")]
    network: Prefix,
    /// Where IPv6 hosts are, if there are any
    #[arg(long)]
    network6: Option<Prefix>,
    /// Exporters, each with an address of its own in 127.0.1.0/24
    #[arg(long, default_value_t = 1)]
    exporters: u8,
    /// Packets that each counted one stands for
    #[arg(long, default_value_t = 1)]
    sampling: u32,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Adds a flood, after a quarter of the time and up to its end
    #[arg(long, requires = "attack_target")]
    attack: Option<String>,
    /// Host or prefix that the flood hits
    #[arg(long)]
    attack_target: Option<Prefix>,
    /// The flood's packets a second, on the wire
    #[arg(long, default_value_t = 1_000_000)]
    attack_packets_per_second: u32,
}

/// Sends and prints what was sent as one JSON object.
///
/// # Errors
///
/// If the target is not allowed or the kernel refuses to send.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let allowed = arguments.remote || arguments.target.ip().is_loopback();
    ensure!(allowed, "{} is not on loopback; add --remote to load another machine", arguments.target.ip());
    ensure!(arguments.seconds <= SECONDS_MAX, "at most {SECONDS_MAX} seconds");
    ensure!(arguments.hosts > 0, "at least one host");
    let hosts = Hosts { v4: arguments.network, v6: arguments.network6, count: arguments.hosts, popularity: Popularity::Even };
    let length = Duration::from_secs(arguments.seconds);
    if let Some(attack) = &arguments.attack {
        let sent = flood(arguments, hosts, attack)?;
        println!("{}", serde_json::json!({ "datagrams": sent.datagrams, "flows": sent.flows, "seconds": arguments.seconds }));
        return Ok(());
    }
    let plan = Plan {
        protocol: arguments.protocol,
        hosts,
        exporters: arguments.exporters,
        sampling_interval: arguments.sampling,
        datagrams: 4_096,
        seed: arguments.seed,
    };
    let mut sender = Sender::new(&plan, arguments.target)?;
    let report = sender.run(f64::from(arguments.rate), length, arguments.flows.unwrap_or(u64::MAX))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// A router in real time, with an attack.
fn flood(arguments: &Arguments, hosts: Hosts, attack: &str) -> Result<Sent> {
    let (Some(vector), Some(target)) = (vector(attack), arguments.attack_target) else {
        bail!("{attack} is no attack; there are {:?}", Vector::ALL);
    };
    let now = || Timestamp::from(SystemTime::now());
    let (began, length) = (now(), arguments.seconds * 1_000);
    let mut router = Router::new(
        Layout::new(arguments.protocol, arguments.sampling),
        Traffic::new(arguments.seed, hosts, 60_000),
        arguments.rate,
        began,
    );
    let (begins, ends) = (began.plus(length / 4), began.plus(length));
    router.add(Attack::new(arguments.seed, vector, target, arguments.attack_packets_per_second, begins, ends));
    let socket = UdpSocket::bind(if arguments.target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(arguments.target)?;
    let (clock, mut sent, mut refused) = (Instant::now(), Sent::default(), 0u64);
    while clock.elapsed() < Duration::from_secs(arguments.seconds) && sent.flows < arguments.flows.unwrap_or(u64::MAX) {
        std::thread::sleep(STEP);
        sent += router.advance(now(), &mut |octets| refused += u64::from(socket.send(octets).is_err()));
    }
    if refused > 0 {
        eprintln!("{refused} datagrams were not taken: does anybody listen on {}?", arguments.target);
    }
    Ok(sent)
}

/// The vector whose name in lower case, words joined by `_` or nothing, is `name`.
fn vector(name: &str) -> Option<Vector> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    Vector::ALL.into_iter().find(|vector| plain(&format!("{vector:?}")) == plain(name))
}
