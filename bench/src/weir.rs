//! Weir's own collector under measurement: its real shard and control thread, in this process; snapshots are thrown away.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use collector::Collector;
use collector::config::Config;
use schemas::limit::{Limit, Limits};
use schemas::net::PrefixSet;

use crate::allocations;
use crate::measure::{self, Sockets, Thread};
use crate::send::Plan;
use crate::subject::Usage;

/// How long the collector may take to start and to drain.
const PATIENCE: Duration = Duration::from_secs(20);

/// The collector with one shard on a port of its own.
pub(crate) struct Weir {
    collector: Collector,
    address: SocketAddr,
    shard: Vec<Thread>,
    others: Vec<Thread>,
    analyst: JoinHandle<()>,
}

impl Weir {
    /// Starts it for the hosts of `plan`, with a socket buffer of `buffer_octets`.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub(crate) fn start(plan: &Plan, buffer_octets: usize) -> Result<Self> {
        let mut config = Config::default();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        (config.receive.netflow, config.receive.ipfix, config.receive.sflow) = (vec![any], Vec::new(), Vec::new());
        (config.receive.shards, config.receive.socket_buffer_octets) = (1, buffer_octets);
        config.count.hosts_max = usize::try_from(plan.hosts.count)? * 2;
        let networks: PrefixSet = [plan.hosts.v4].into_iter().collect();
        let limits = Limits::of_hosts(Limit::of(100_000.0, 1_000_000_000.0));
        let process = std::process::id();
        let before = Thread::of(process, "");
        let (collector, snapshots) = Collector::start(&config, &networks, &limits, None, Vec::new())?;
        let address = *collector.addresses().first().context("the collector listens nowhere")?;
        measure::wait(PATIENCE, || Thread::of(process, "weir-shard").len() == 1);
        let shard = Thread::of(process, "weir-shard");
        ensure!(shard.len() == 1, "the shard's thread cannot be told apart");
        let is_new = |thread: &Thread| !before.contains(thread) && !shard.contains(thread);
        let others = Thread::of(process, "").into_iter().filter(is_new).collect();
        let analyst = std::thread::spawn(move || snapshots.iter().for_each(drop));
        Ok(Self { collector, address, shard, others, analyst })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its threads have used so far.
    ///
    /// # Errors
    ///
    /// If one of them is gone.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let pipe = measure::cpu(&self.shard)?;
        Ok(Usage { pipe, all: pipe + measure::cpu(&self.others)?, allocations: Some(allocations::of(&self.shard)) })
    }

    /// Waits until it has read all that reached its socket.
    ///
    /// # Errors
    ///
    /// If that takes too long.
    pub(crate) fn drain(&self) -> Result<()> {
        let port = self.address.port();
        ensure!(measure::wait(PATIENCE, || Sockets::at(port).waiting_octets == 0), "the shard does not drain its socket");
        Ok(())
    }

    /// Stops it; returns the flows that are in its windows.
    ///
    /// # Errors
    ///
    /// If its ledger does not balance.
    pub(crate) fn stop(self) -> Result<u64> {
        let ledger = self.collector.stop();
        self.analyst.join().ok().context("the thread that takes the snapshots has panicked")?;
        let unbalanced: Vec<_> = ledger.imbalance().into_iter().filter(|(_, difference)| *difference != 0).collect();
        ensure!(unbalanced.is_empty(), "the ledger does not balance: {unbalanced:?} in {ledger:?}");
        Ok(ledger.records_counted)
    }
}
