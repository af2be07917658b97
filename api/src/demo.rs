//! `weir serve --demo`: simulated routers that send real datagrams through loopback, and after a minute an attack.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use bench::synthesize::{Protocol, Router, demo};
use uuid::Uuid;

use schemas::net::{Address, Prefix};

use crate::auth::Secret;
use crate::clock::Clock;
use crate::config::Config;
use crate::state::nodes::{self, Node};
use crate::state::{State, StateError};

/// The traffic is the same at every start.
const SEED: u64 = 7;

/// How often the routers send what has come about.
const PACE: Duration = Duration::from_millis(20);

/// Where the hosts are when the operator has named no networks.
const NETWORKS: [&str; 2] = ["203.0.113.0/24", "2001:db8::/32"];

/// Nodes that the demo names, by the last part of their address; the first attack is on the second one.
const NODES: [(&str, u32); 4] = [("dns-1", 53), ("web-1", 70), ("web-2", 71), ("game-1", 72)];

/// The running routers; they fall silent when this is dropped.
#[derive(Debug)]
pub struct Demo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Gives the demo networks to be attacked in, where the configuration has none.
///
/// # Errors
///
/// Never: the networks are sound.
pub fn prepare(config: &mut Config) -> anyhow::Result<()> {
    if config.networks.is_empty() {
        config.networks = NETWORKS.iter().map(|text| text.parse::<Prefix>()).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// Names a few hosts as nodes, where no node has their name.
///
/// # Errors
///
/// The state's; no random octets.
pub fn name_nodes(config: &Config, state: &State, clock: &Clock) -> anyhow::Result<()> {
    let Some(network) = config.networks.iter().find(|network| network.is_v4()) else {
        return Ok(());
    };
    for (name, number) in NODES {
        let node = Node {
            uuid: Uuid::new_v4(),
            workspace: state.workspace,
            name: name.to_owned(),
            ip: Address(network.first().0 + u128::from(number)),
            location: Some("demo".to_owned()),
            os: None,
            interface: "eth0".to_owned(),
            priority: "production".to_owned(),
            threshold_pps: None,
            created_at: clock.now(),
        };
        let key = Secret::generate()?;
        if !network.contains(node.ip) {
            continue;
        }
        state.write_blocking::<_, StateError>(move |transaction| {
            if nodes::is_name_taken(transaction, node.workspace, &node.name, None)? {
                Ok(())
            } else {
                nodes::insert(transaction, &node, &key)
            }
        })?;
    }
    Ok(())
}

impl Demo {
    /// Starts the routers, each at a loopback address of its own, towards what is listened on: NetFlow, IPFIX, sFlow.
    ///
    /// # Errors
    ///
    /// No listening address, or no socket.
    pub fn start(networks: &[Prefix], listening: &[SocketAddr], clock: &Clock) -> anyhow::Result<Self> {
        let mut senders = Vec::new();
        for (number, router) in (2_u8..).zip(demo(SEED, networks, clock.now())) {
            let wanted = match router.layout().protocol {
                Protocol::Ipfix => 1,
                Protocol::Sflow5 => 2,
                _ => 0,
            };
            let target = listening.get(wanted).or_else(|| listening.first()).context("the demo needs a UDP port to send to")?;
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, number), 0)).context("the demo's routers")?;
            let ip = if target.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { target.ip() };
            socket.connect((ip, target.port())).context("the demo's routers")?;
            senders.push((router, socket));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, clock) = (Arc::clone(&stop), clock.clone());
        let thread = std::thread::Builder::new().name("weir-demo".to_owned()).spawn(move || send(senders, &stopped, &clock))?;
        tracing::info!("demo: four routers send; an attack begins in a minute");
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn send(mut senders: Vec<(Router, UdpSocket)>, stop: &AtomicBool, clock: &Clock) {
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        for (router, socket) in &mut senders {
            // A datagram that is lost is what the sequence numbers are for.
            router.advance(now, &mut |octets| drop(socket.send(octets)));
        }
        std::thread::sleep(PACE);
    }
}
