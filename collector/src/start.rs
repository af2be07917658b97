//! The collector as a whole: its shards and its control thread, from start to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use schemas::counter::Snapshot;
use schemas::ledger::Ledger;
use schemas::limit::Limits;
use schemas::net::PrefixSet;

use crate::config::Config;
use crate::decode::ControlThread;
use crate::enrich::boundary::Repeats;
use crate::enrich::interface::Interfaces;
use crate::enrich::{Enricher, Enrichment};
use crate::metrics::Metrics;
use crate::receive::{self, ReceiveError};
use crate::shard::{Pipe, Shard, SharedLimits};
use crate::store::handover::Handover;

/// Why the collector does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address or interface cannot be received from.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The system starts no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// The control thread ended while the shards were started.
    #[error("the control thread has ended")]
    Control,
}

/// The running collector; ends when it is dropped, without a drain.
#[derive(Debug)]
pub struct Collector {
    shards: Vec<JoinHandle<Ledger>>,
    metrics: Vec<Arc<Metrics>>,
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    control: Option<ControlThread>,
    limits: SharedLimits,
    enrichment: Enrichment,
    interfaces: Interfaces,
}

impl Collector {
    /// Opens every source, then starts a thread for each shard; snapshots come out of the receiver.
    ///
    /// Templates from before a restart are read from `templates`, and written there. Each shard hands its records to one of
    /// `stores`; a shard for which there is none keeps none.
    ///
    /// # Errors
    ///
    /// If a source cannot be opened or a thread not be started; then nothing runs.
    pub fn start(
        config: &Config,
        networks: &PrefixSet,
        limits: &Limits,
        templates: Option<PathBuf>,
        stores: Vec<Handover>,
    ) -> Result<(Self, Receiver<Snapshot>), StartError> {
        let count = config.receive.shards().max(1);
        // Before a socket is open: from then on, datagrams wait for whoever reads them.
        let enrichment = Enrichment::start(&config.enrich)?;
        let all_sources = receive::open(&config.receive, count)?;
        let interfaces = Interfaces::new(&config.interfaces);
        let control = ControlThread::start_telling(&config.decode, templates, Some(interfaces.clone()))?;
        let (sender, receiver) = bounded(config.receive.snapshots_waiting_max.max(1));
        let mut collector = Self {
            shards: Vec::with_capacity(count),
            metrics: (0..count).map(|_| Arc::default()).collect(),
            addresses: Vec::new(),
            stop: Arc::default(),
            control: None,
            limits: SharedLimits::new(limits.clone()),
            enrichment,
            interfaces,
        };
        let mut stores = stores.into_iter();
        for (number, (sources, metrics)) in all_sources.into_iter().zip(collector.metrics.clone()).enumerate() {
            if number == 0 {
                for listener in sources.listeners() {
                    metrics.listening(listener.address(), listener.buffer_octets(), config.receive.socket_buffer_octets);
                    collector.addresses.push(listener.address());
                }
            }
            let templates = control.templates().ok_or(StartError::Control)?;
            let gather = sources.gather(Duration::from_micros(config.receive.gather_microseconds));
            let repeats = Repeats::new(collector.interfaces.published(), networks.clone());
            let shard = Shard {
                pipe: Pipe::new(number, config, templates, networks.clone(), limits.clone())
                    .marking(repeats)
                    .stored(stores.next().map(|store| store.labelling(Enricher::new(collector.enrichment.tables())))),
                sources,
                limits: collector.limits.clone(),
                snapshots: sender.clone(),
                metrics,
                gather,
                drain: Duration::from_millis(config.receive.drain_milliseconds_max),
            };
            let stop = collector.stop.clone();
            let thread = std::thread::Builder::new().name(format!("weir-shard-{number}"));
            collector.shards.push(thread.spawn(move || shard.run(&stop))?);
        }
        collector.control = Some(control);
        Ok((collector, receiver))
    }

    /// Where it listens, with the ports that the kernel chose where 0 was asked for; in the order of the config.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The limits in use, to be changed while it runs.
    #[must_use]
    pub fn limits(&self) -> &SharedLimits {
        &self.limits
    }

    /// What is known of addresses and ports, and what is counted of it.
    #[must_use]
    pub fn enrichment(&self) -> &Enrichment {
        &self.enrichment
    }

    /// What is known of the exporters' interfaces.
    #[must_use]
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Whether every shard still runs: one that has ended, by a fault of ours, receives no more.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.shards.iter().all(|shard| !shard.is_finished())
    }

    /// The counts of each shard.
    #[must_use]
    pub fn metrics(&self) -> &[Arc<Metrics>] {
        &self.metrics
    }

    /// Drains what the kernel holds, ends all threads and answers the sum of their ledgers; the last snapshots are in the channel then.
    pub fn stop(mut self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Ledger::default();
        for (number, shard) in std::mem::take(&mut self.shards).into_iter().enumerate() {
            match shard.join() {
                Ok(ledger) => sum += &ledger,
                Err(_) => Metrics::shard_panicked(number),
            }
        }
        if let Some(control) = self.control.take() {
            control.stop();
        }
        sum
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
