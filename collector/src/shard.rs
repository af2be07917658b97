//! The pipe on one page: bursts in, decoded, labelled, counted, and every 100 ms a snapshot out.
//!
//! One thread owns everything here. Nothing waits for anybody but the kernel, nothing locks, and nothing is logged or allocated
//! for a datagram.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use schemas::counter::{ExporterReport, SLOT_MILLISECONDS, Snapshot};
use schemas::flow::FlowBatch;
use schemas::ledger::{Ledger, StoreLedger};
use schemas::limit::Limits;
use schemas::net::PrefixSet;
use schemas::time::Timestamp;

use crate::config::Config;
use crate::count::Counter;
use crate::decode::{Datagram, Decoder, ROWS_PER_DATAGRAM_MAX, Templates};
use crate::enrich::boundary::Repeats;
use crate::exporter::Exporters;
use crate::metrics::{BurstTimes, Metrics};
use crate::receive::gather::Gather;
use crate::receive::packet::{self, Frame, OBSERVER};
use crate::receive::ring::Ring;
use crate::receive::{Burst, Sources, Taken};
use crate::store::handover::Handover;
use crate::store::room::Rates;

/// Rows that are decoded before they are counted: few enough to be still in the cache.
const ROWS_COUNTED_AT: usize = 8_192;
/// Most rows that are counted, and handed to the store, at once.
pub const ROWS_COUNTED_MAX: usize = ROWS_COUNTED_AT + ROWS_PER_DATAGRAM_MAX;
/// How long a stop waits for templates that the control thread has yet to publish.
const TEMPLATE_WAIT: Duration = Duration::from_millis(100);

/// Decodes and counts; knows neither sockets nor clocks, so that a capture can drive it as well.
pub struct Pipe {
    shard: usize,
    exporters: Exporters,
    decoder: Decoder,
    batch: FlowBatch,
    repeats: Option<Repeats>,
    counter: Counter,
    /// The way to the store; without one, records are counted and not kept.
    store: Option<Handover>,
    /// When the next slot closes, and when the next second does.
    slot_ends: Timestamp,
    second_ends: Timestamp,
}

impl Pipe {
    /// The pipe of one shard, which counts the traffic of `networks`.
    #[must_use]
    pub fn new(shard: usize, config: &Config, templates: Templates, networks: PrefixSet, limits: Limits) -> Self {
        let allowed = config.receive.exporters_allowed.iter().copied().collect();
        Self {
            shard,
            exporters: Exporters::new(allowed, config.receive.exporters_max),
            decoder: Decoder::new(&config.decode, templates),
            batch: FlowBatch::with_capacity(ROWS_COUNTED_MAX),
            repeats: None,
            counter: Counter::new(&config.count, networks, limits),
            store: None,
            slot_ends: Timestamp::default(),
            second_ends: Timestamp::default(),
        }
    }

    /// The same, with records of traffic that is counted elsewhere marked.
    #[must_use]
    pub fn marking(self, repeats: Repeats) -> Self {
        Self { repeats: Some(repeats), ..self }
    }

    /// The same, with every record handed on to a store as well.
    #[must_use]
    pub fn stored(self, store: Option<Handover>) -> Self {
        Self { store, ..self }
    }

    /// Holds targets to other limits from now on.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.counter.set_limits(limits.clone());
    }

    /// Takes an export datagram.
    pub fn datagram(&mut self, datagram: &Datagram<'_>) {
        self.decoder.decode(datagram, &mut self.exporters, &mut self.batch);
        if self.batch.rows() >= ROWS_COUNTED_AT {
            self.count(datagram.arrival);
        }
    }

    /// Takes a datagram that was longer than its buffer: it is malformed.
    pub fn cut_datagram(&mut self, datagram: &Datagram<'_>) {
        if let Some(exporter) = self.exporters.admit(datagram.exporter, datagram.arrival) {
            exporter.ledger.datagrams_malformed += 1;
        }
    }

    /// Takes frames of one interface, at most 65,536.
    pub fn frames<'a>(&mut self, frames: impl Iterator<Item = Frame<'a>>, interface: u32, now: Timestamp) {
        let observer = self.exporters.observe(OBSERVER, now);
        packet::decode(frames, interface, &mut observer.ledger, &mut self.batch);
        if self.batch.rows() >= ROWS_COUNTED_AT {
            self.count(now);
        }
    }

    /// Takes flows that were decoded before, labels and all, at most [`ROWS_PER_DATAGRAM_MAX`]; they come from whom they came from then.
    pub fn flows(&mut self, flows: &FlowBatch, now: Timestamp) {
        for segment in flows.segments() {
            let rows = flows.sampling_interval.iter().skip(segment.first).take(segment.rows);
            let ledger = &mut self.exporters.observe(segment.origin.exporter, now).ledger;
            ledger.records_sampling_unknown += rows.map(|interval| u64::from(*interval == 0)).sum::<u64>();
            ledger.records_decoded += segment.rows as u64;
        }
        self.batch.append(flows);
        if self.batch.rows() >= ROWS_COUNTED_AT {
            self.count(now);
        }
    }

    /// Ends a burst: decodes what has waited for a template that came with it, and counts.
    pub fn settle(&mut self, now: Timestamp) {
        self.decoder.release(now, &mut self.exporters, &mut self.batch);
        self.count(now);
    }

    fn count(&mut self, now: Timestamp) {
        if let Some(repeats) = &mut self.repeats {
            repeats.mark(&mut self.batch);
        }
        self.counter.count(&self.batch, &mut self.exporters, now);
        if let Some(store) = &mut self.store {
            store.take(&self.batch, &mut self.exporters, now);
        }
        self.batch.clear();
    }

    /// The snapshot of the slots that have closed by `now`; `None` while the present one is open.
    pub fn tick(&mut self, now: Timestamp) -> Option<Snapshot> {
        // A clock that was set back would else keep the slot open until it is there again.
        let is_open = |ends: Timestamp, span: u64| now < ends && ends.since(now) <= span;
        if is_open(self.slot_ends, SLOT_MILLISECONDS) {
            return None;
        }
        let ends = |span: u64| Timestamp((now.milliseconds() / span + 1) * span);
        let closes_second = !is_open(self.second_ends, 1_000);
        (self.slot_ends, self.second_ends) = (ends(SLOT_MILLISECONDS), ends(1_000));
        self.settle(now);
        if let Some(store) = &mut self.store {
            store.settle_rates(now, &mut self.decoder, &mut self.exporters);
            store.tick(now);
        }
        Some(self.snapshot(now, closes_second))
    }

    /// Gives up what still waits, counts the rest and takes the last snapshot.
    pub fn finish(&mut self, now: Timestamp) -> Snapshot {
        self.settle(now);
        self.decoder.finish(&mut self.exporters);
        if let Some(store) = &mut self.store {
            store.finish(now, &mut self.decoder, &mut self.exporters);
        }
        self.snapshot(now, true)
    }

    fn snapshot(&mut self, now: Timestamp, with_exporters: bool) -> Snapshot {
        let mut snapshot = self.counter.tick(now);
        snapshot.shard = self.shard;
        if with_exporters {
            let is_stored = self.store.is_some();
            let report = |(exporter, entry): (_, &crate::exporter::Exporter)| ExporterReport {
                exporter,
                ledger: entry.ledger,
                store: if is_stored { entry.handed.ledger() } else { not_kept(&entry.ledger) },
                last_seen: entry.last_seen,
                domains: self.decoder.domains(exporter),
            };
            snapshot.exporters = self.exporters.iter().map(report).collect();
            let total = self.exporters.total();
            snapshot.store = Some(self.store.as_ref().map_or_else(|| not_kept(&total), Handover::ledger));
            snapshot.ledger = Some(total);
            snapshot.interface_counters = self.decoder.take_counters();
        }
        snapshot
    }

    /// The sum of all ledgers so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.exporters.total()
    }

    /// When the present slot closes.
    #[must_use]
    pub fn slot_ends(&self) -> Timestamp {
        self.slot_ends
    }
}

impl Rates for Decoder {
    fn generation(&mut self) -> u64 {
        self.rates_generation()
    }

    fn learn(&mut self, batch: &mut FlowBatch, segment: usize) -> bool {
        self.learn_rates(batch, segment)
    }
}

/// Without a store.
fn not_kept(ledger: &Ledger) -> StoreLedger {
    StoreLedger { records_not_kept: ledger.records_decoded, ..StoreLedger::default() }
}

/// The limits that all shards hold targets to, for the operator to change while they run; cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedLimits(Arc<ArcSwap<Limits>>);

impl SharedLimits {
    /// Limits to begin with.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(limits)))
    }

    /// Other limits, from each shard's next slot on.
    pub fn set(&self, limits: Limits) {
        self.0.store(Arc::new(limits));
    }

    fn get(&self) -> Arc<Limits> {
        self.0.load_full()
    }
}

/// One shard: a pipe between its sockets and the analysts.
pub struct Shard {
    /// What it decodes and counts with.
    pub pipe: Pipe,
    /// Where it receives.
    pub sources: Sources,
    /// The limits that the operator wants now.
    pub limits: SharedLimits,
    /// Where its snapshots go.
    pub snapshots: Sender<Snapshot>,
    /// What it tells besides.
    pub metrics: Arc<Metrics>,
    /// How long it lets datagrams gather before it reads them.
    pub gather: Gather,
    /// How long a stop goes on taking what the kernel holds.
    pub drain: Duration,
}

impl Shard {
    /// Receives, decodes and counts until `stop`; then drains what the kernel holds and answers the sum of its ledgers.
    pub fn run(mut self, stop: &AtomicBool) -> Ledger {
        let mut times = BurstTimes::default();
        let mut limits = self.limits.get();
        while !stop.load(Ordering::Relaxed) {
            let taken = self.round(&mut times);
            self.gather.take(taken.messages);
            // What has come until the slot ends was taken before it is closed.
            if let Some(snapshot) = self.pipe.tick(now()) {
                if snapshot.ledger.is_some() {
                    self.metrics.burst_times(&std::mem::take(&mut times));
                }
                self.send(snapshot);
                let wanted = self.limits.get();
                if !Arc::ptr_eq(&limits, &wanted) {
                    self.pipe.set_limits(&wanted);
                    limits = wanted;
                }
            }
            if !taken.is_more {
                self.rest();
            }
        }
        self.drain(&mut times)
    }

    /// Lets datagrams gather, or waits for the first one; no longer than the slot is open.
    fn rest(&mut self) {
        let slot_is_open = Duration::from_millis(self.pipe.slot_ends().since(now()).min(SLOT_MILLISECONDS));
        if let Some(pause) = self.gather.pause(Instant::now()) {
            std::thread::sleep(pause.min(slot_is_open));
        } else if let Err(error) = self.sources.wait(slot_is_open) {
            self.metrics.receive_failed(self.pipe.shard, &error);
        }
    }

    /// Takes one burst of each socket.
    fn round(&mut self, times: &mut BurstTimes) -> Taken {
        let Self { pipe, sources, metrics, .. } = self;
        let taken = sources.round(|arrival, burst| {
            let start = Instant::now();
            let (Burst::Datagrams(ring) | Burst::Frames(_, ring)) = burst;
            match burst {
                Burst::Datagrams(ring) => datagrams(pipe, ring, arrival),
                Burst::Frames(interface, ring) => {
                    pipe.frames(ring.messages().map(|message| Frame::of(&message, arrival)), interface, arrival);
                }
            }
            pipe.settle(arrival);
            metrics.burst(ring.messages().len());
            times.add(start.elapsed());
        });
        taken.unwrap_or_else(|error| {
            metrics.receive_failed(pipe.shard, &error);
            Taken::default()
        })
    }

    fn drain(mut self, times: &mut BurstTimes) -> Ledger {
        let start = Instant::now();
        while self.round(times).messages != 0 && start.elapsed() < self.drain {}
        let start = Instant::now();
        while self.pipe.ledger().sets_waiting != 0 && start.elapsed() < TEMPLATE_WAIT {
            std::thread::sleep(Duration::from_millis(1));
            self.pipe.settle(now());
        }
        let snapshot = self.pipe.finish(now());
        self.send(snapshot);
        self.pipe.ledger()
    }

    fn send(&mut self, mut snapshot: Snapshot) {
        snapshot.kernel_drops = self.sources.drops();
        if self.snapshots.try_send(snapshot).is_err() {
            self.metrics.snapshot_lost(self.pipe.shard);
        }
    }
}

fn datagrams(pipe: &mut Pipe, ring: &Ring, arrival: Timestamp) {
    for message in ring.messages() {
        let Some((exporter, source_port)) = message.sender() else {
            continue;
        };
        let datagram = Datagram { exporter, source_port, arrival, payload: message.octets };
        if message.is_cut {
            pipe.cut_datagram(&datagram);
        } else {
            pipe.datagram(&datagram);
        }
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
pub(crate) mod tests;
