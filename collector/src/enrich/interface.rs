//! The interfaces of every exporter: name, description, speed, boundary, and where each of these was learned.
//!
//! ```text
//! config ────────┐
//! SNMP ──────────┤ tell()                      shards: boundaries, no lock
//! options data ──┼──────► Inventory ─► Snapshot ─┤
//! sFlow counters ┘        (a lock)    (swapped)  encoder, pages: names
//! ```
//! Of two sources the earlier one above holds, and the others fill what it leaves open.

pub mod config;
mod inventory;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use schemas::interface::{Boundary, CounterSample};
use schemas::net::Address;
use schemas::time::Timestamp;
use serde::Serialize;

use super::boundary::Boundaries;
use super::counter::{Counters, Minute};
use crate::store::names::{BOUNDARIES, Names};
pub use config::Config;
use inventory::Inventory;

/// What is learned is published at most so often: an exporter whose options change all the time costs no more than that.
const PUBLISH_MILLISECONDS: u64 = 200;

/// Where a property of an interface was learned; an earlier one holds against a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The operator said so.
    Config,
    /// The device, asked by SNMP.
    Snmp,
    /// An options record.
    Options,
    /// sFlow's counters.
    Sflow,
}

/// What one source tells of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `ifIndex`.
    pub interface: u32,
    /// `ifName`, empty if it is not told.
    pub name: Box<str>,
    /// `ifAlias` or `ifDescr`, empty if it is not told.
    pub description: Box<str>,
    /// Bits a second, 0 if it is not told.
    pub speed_bits: u64,
    /// Whether it is up.
    pub is_up: Option<bool>,
}

/// One interface of one exporter, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// `ifName`, empty if it is not known.
    pub name: Box<str>,
    /// Where the name was learned.
    pub name_source: Option<Source>,
    /// `ifAlias`, empty if it is not known.
    pub description: Box<str>,
    /// Where the description was learned.
    pub description_source: Option<Source>,
    /// Bits a second, 0 if it is not known.
    pub speed_bits: u64,
    /// Where the speed was learned.
    pub speed_source: Option<Source>,
    /// On which side of the network it is: always by the operator's word.
    pub boundary: Boundary,
    /// Whether it is up, where anybody tells.
    pub is_up: Option<bool>,
}

/// The interfaces of one exporter, by their number.
#[derive(Clone, Debug, Default)]
pub struct Device {
    pub(super) interfaces: Vec<(u32, Interface)>,
    pub(super) boundaries: Boundaries,
}

impl Device {
    /// An interface by its number.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        let place = self.interfaces.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        self.interfaces.get(place).map(|(_, interface)| interface)
    }

    /// Every interface with its number, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Interface)> {
        self.interfaces.iter().map(|(index, interface)| (*index, interface))
    }
}

/// What is known at one moment: immutable, swapped as a whole.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) devices: HashMap<Address, Arc<Device>>,
    /// The boundaries of exporters of which nothing but the operator's rules is known.
    pub(super) by_prefix: schemas::net::PrefixTable<Boundaries>,
    pub(super) has_boundaries: bool,
}

impl Snapshot {
    /// The interfaces of an exporter.
    #[must_use]
    pub fn device(&self, exporter: Address) -> Option<&Device> {
        self.devices.get(&exporter).map(|device| &**device)
    }

    /// The exporters of which interfaces are known.
    pub fn devices(&self) -> impl Iterator<Item = (Address, &Device)> {
        self.devices.iter().map(|(exporter, device)| (*exporter, &**device))
    }

    /// Name, or nothing, and boundary of an interface.
    #[must_use]
    pub fn interface(&self, exporter: Address, index: u32) -> (&str, Boundary) {
        let name = self.device(exporter).and_then(|device| device.interface(index)).map_or("", |interface| &*interface.name);
        (name, self.boundaries(exporter).map_or(Boundary::Undefined, |boundaries| boundaries.of(index)))
    }

    /// Whether the operator has said anything of boundaries.
    #[must_use]
    pub fn has_boundaries(&self) -> bool {
        self.has_boundaries
    }

    /// The boundaries of an exporter's interfaces, if any is known.
    #[must_use]
    pub fn boundaries(&self, exporter: Address) -> Option<&Boundaries> {
        let known = match self.devices.get(&exporter) {
            Some(device) => Some(&device.boundaries),
            None => self.by_prefix.get(exporter).map(|(_, boundaries)| boundaries),
        };
        known.filter(|boundaries| !boundaries.is_empty())
    }
}

/// The encoder asks for the names of a block, and keeps one snapshot for its length.
impl Names for Snapshot {
    fn interface(&self, exporter: Address, index: u32) -> (&str, u8) {
        let (name, boundary) = Snapshot::interface(self, exporter, index);
        // The places of the store's words are those of the enum, from 0.
        (name, BOUNDARIES.iter().position(|word| *word == boundary.name()).and_then(|place| u8::try_from(place).ok()).unwrap_or(0))
    }
}

/// The inventory as its sources and its readers share it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Interfaces(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    inventory: Mutex<Inventory>,
    counters: Mutex<Counters>,
    published: Arc<ArcSwap<Snapshot>>,
    metrics: Metrics,
}

/// What is counted of the inventory; read by others while it runs.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Interfaces that are known.
    pub known: AtomicU64,
    /// Interfaces for which there was no room.
    pub refused: AtomicU64,
    /// Interfaces whose counters are followed.
    pub counted: AtomicU64,
    /// Counters for which there was no room.
    pub counters_refused: AtomicU64,
    /// Times that a device began to count anew.
    pub counter_resets: AtomicU64,
    /// Minutes of counters that the store has.
    pub minutes_stored: AtomicU64,
    /// Minutes of counters that found no room while the store was away.
    pub minutes_dropped: AtomicU64,
    /// Minutes of counters that the store refused whenever they were sent.
    pub minutes_refused: AtomicU64,
    /// Minutes of counters that wait for the store.
    pub minutes_waiting: AtomicU64,
    /// Questions by SNMP that were answered in full.
    pub snmp_answered: AtomicU64,
    /// Questions by SNMP that were given up.
    pub snmp_failed: AtomicU64,
    /// Devices that did not answer the last question.
    pub snmp_unreachable: AtomicU64,
    /// Devices over the bound, which are not asked.
    pub snmp_refused: AtomicU64,
    /// Values told by SNMP that are not of their column's kind, which are passed over.
    pub snmp_cells_refused: AtomicU64,
}

impl Metrics {
    /// Every count with its Prometheus name; those that end in `_total` only grow.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("weir_collector_interfaces", read(&self.known)),
            ("weir_collector_interfaces_refused_total", read(&self.refused)),
            ("weir_collector_interfaces_counted", read(&self.counted)),
            ("weir_collector_interface_counters_refused_total", read(&self.counters_refused)),
            ("weir_collector_interface_counter_resets_total", read(&self.counter_resets)),
            ("weir_collector_interface_minutes_stored_total", read(&self.minutes_stored)),
            ("weir_collector_interface_minutes_dropped_total", read(&self.minutes_dropped)),
            ("weir_collector_interface_minutes_refused_total", read(&self.minutes_refused)),
            ("weir_collector_interface_minutes_waiting", read(&self.minutes_waiting)),
            ("weir_collector_snmp_answered_total", read(&self.snmp_answered)),
            ("weir_collector_snmp_failed_total", read(&self.snmp_failed)),
            ("weir_collector_snmp_unreachable", read(&self.snmp_unreachable)),
            ("weir_collector_snmp_refused_total", read(&self.snmp_refused)),
            ("weir_collector_snmp_cells_refused_total", read(&self.snmp_cells_refused)),
        ]
        .into_iter()
    }
}

impl Interfaces {
    /// What the operator knows, and nothing else yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut inventory = Inventory::new(config);
        let published = Arc::new(ArcSwap::from_pointee(inventory.snapshot()));
        Self(Arc::new(Shared {
            config: config.clone(),
            inventory: Mutex::new(inventory),
            counters: Mutex::new(Counters::new(config)),
            published,
            metrics: Metrics::default(),
        }))
    }

    /// The config that it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What is known now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.published.load_full()
    }

    /// What is known, for a reader that looks often.
    #[must_use]
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.0.published)
    }

    /// Takes what a source tells of interfaces of one exporter.
    pub fn tell(&self, exporter: Address, source: Source, told: &[Told], now: Timestamp) {
        let mut inventory = self.inventory();
        inventory.tell(exporter, source, told, now);
        self.publish(&mut inventory, now, false);
    }

    /// Takes what a shard's snapshot tells of counters, and publishes what is due.
    pub fn observe(&self, snapshot: &schemas::counter::Snapshot) {
        let now = snapshot.taken_at;
        let mut rest = &snapshot.interface_counters[..];
        while let Some(&(exporter, _)) = rest.first() {
            let (own, others) = rest.split_at(rest.iter().position(|(other, _)| *other != exporter).unwrap_or(rest.len()));
            let samples: Vec<CounterSample> = own.iter().map(|(_, sample)| *sample).collect();
            self.count(exporter, Source::Sflow, &samples, now);
            rest = others;
        }
        let is_second = snapshot.ledger.is_some();
        if is_second {
            self.counters().sweep(now, &self.0.metrics);
        }
        let mut inventory = self.inventory();
        inventory.heard(snapshot.exporters.iter().map(|report| report.exporter));
        self.publish(&mut inventory, now, false);
    }

    /// Takes samples of counters of one exporter, from sFlow or SNMP; each tells speed and state too.
    pub fn count(&self, exporter: Address, source: Source, samples: &[CounterSample], now: Timestamp) {
        let told: Vec<Told> = samples
            .iter()
            .map(|sample| Told { interface: sample.interface, speed_bits: sample.speed_bits, is_up: Some(sample.is_up), ..Told::default() })
            .collect();
        // SNMP tells speeds with the names.
        if source == Source::Sflow {
            self.tell(exporter, source, &told, now);
        }
        let mut counters = self.counters();
        for sample in samples {
            counters.take(exporter, source, sample, &self.0.metrics);
        }
    }

    /// The minutes of an exporter's counters that are in memory, the running ones included, and that lie within `from` and `to`.
    #[must_use]
    pub fn minutes(&self, exporter: Address, from: Timestamp, to: Timestamp) -> Vec<Minute> {
        self.counters().minutes(exporter, from, to)
    }

    /// Takes minutes that are over and wait for the store, at most `max`.
    #[must_use]
    pub fn take_waiting(&self, max: usize) -> Vec<Minute> {
        self.counters().take_waiting(max, &self.0.metrics)
    }

    /// Ends every running minute, so that the store can have all of them.
    pub fn finish(&self) {
        self.counters().finish(&self.0.metrics);
    }

    /// The exporters that were heard.
    #[must_use]
    pub fn exporters(&self) -> Vec<Address> {
        self.inventory().exporters()
    }

    /// Publishes what was told, though the time for that has not come.
    pub fn flush(&self) {
        let mut inventory = self.inventory();
        self.publish(&mut inventory, Timestamp::default(), true);
    }

    fn publish(&self, inventory: &mut Inventory, now: Timestamp, at_once: bool) {
        if !inventory.is_changed() || !(at_once || inventory.is_due(now, PUBLISH_MILLISECONDS)) {
            return;
        }
        self.0.published.store(Arc::new(inventory.snapshot()));
        self.0.metrics.known.store(u64::try_from(inventory.known()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.metrics.refused.store(inventory.refused(), Ordering::Relaxed);
    }

    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.0.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.0.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
