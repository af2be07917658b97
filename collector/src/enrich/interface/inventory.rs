//! What each source has told of each interface, within bounds, and what comes of it together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use schemas::interface::Boundary;
use schemas::net::{Address, Prefix, PrefixTable};
use schemas::time::Timestamp;

use super::{Config, Device, Interface, Snapshot, Source, Told};
use crate::enrich::boundary::Boundaries;

/// An exporter that has told nothing for so long gives its places up where all are taken.
const IDLE_MILLISECONDS: u64 = 3_600_000;
/// How often those are searched.
const SEARCH_MILLISECONDS: u64 = 10_000;
/// Characters of a name or description that are kept.
const TEXT_CHARACTERS_MAX: usize = 255;
/// Exporters that are remembered as heard.
const EXPORTERS_MAX: usize = 65_536;

/// The sources that tell while the program runs, in the order in which they hold.
const SOURCES: [Source; 3] = [Source::Snmp, Source::Options, Source::Sflow];

/// What was told of one interface, by each of [`SOURCES`].
type Entry = [Option<Box<Told>>; SOURCES.len()];

#[derive(Debug, Default)]
struct Exporter {
    interfaces: BTreeMap<u32, Entry>,
    last_told: Timestamp,
}

/// Everything that was told.
#[derive(Debug)]
pub(super) struct Inventory {
    config: Config,
    exporters: HashMap<Address, Exporter>,
    heard: HashSet<Address>,
    /// Interfaces of all exporters.
    known: usize,
    refused: u64,
    /// Whose interfaces have changed since the last snapshot.
    changed: BTreeSet<Address>,
    published_at: Timestamp,
    searched_at: Timestamp,
    last: Snapshot,
}

impl Inventory {
    pub(super) fn new(config: &Config) -> Self {
        let prefixes = config.known.iter().map(|known| known.exporters).chain(config.rules.iter().map(|rule| rule.prefix()[0]));
        let prefixes: BTreeSet<Prefix> = prefixes.chain(config.rules.iter().map(|rule| rule.prefix()[1])).collect();
        // An exporter whose longest prefix is this one is subject to what is said of every prefix that covers it.
        let by_prefix = prefixes.iter().map(|&prefix| (prefix, boundaries_of(config, prefix, &[]))).collect();
        let has_boundaries = config.known.iter().any(|known| known.boundary != Boundary::Undefined)
            || config.rules.iter().any(|rule| rule.boundary != Boundary::Undefined);
        let last = Snapshot { devices: HashMap::new(), by_prefix: PrefixTable::new(by_prefix), has_boundaries };
        // What the operator knows of single exporters is shown before they tell anything.
        let changed = config.known.iter().filter(|known| known.exporters.is_host()).map(|known| known.exporters.first()).collect();
        Self {
            config: config.clone(),
            exporters: HashMap::new(),
            heard: HashSet::new(),
            known: 0,
            refused: 0,
            changed,
            published_at: Timestamp::default(),
            searched_at: Timestamp::default(),
            last,
        }
    }

    pub(super) fn tell(&mut self, exporter: Address, source: Source, told: &[Told], now: Timestamp) {
        let Some(place) = SOURCES.iter().position(|own| *own == source) else {
            return;
        };
        for told in told {
            if !self.has_room(exporter, told.interface, now) {
                self.refused += 1;
                continue;
            }
            let own = self.exporters.entry(exporter).or_default();
            own.last_told = now;
            let before = own.interfaces.len();
            let entry = own.interfaces.entry(told.interface).or_default();
            let told = Told { name: clean(&told.name), description: clean(&told.description), ..told.clone() };
            if let Some(slot) = entry.get_mut(place).filter(|slot| slot.as_deref() != Some(&told)) {
                *slot = Some(Box::new(merged(slot.take(), told)));
                self.changed.insert(exporter);
            }
            self.known += own.interfaces.len() - before;
        }
    }

    /// Whether an interface is known, or can be.
    fn has_room(&mut self, exporter: Address, interface: u32, now: Timestamp) -> bool {
        let own = self.exporters.get(&exporter);
        if own.is_some_and(|own| own.interfaces.contains_key(&interface)) {
            return true;
        }
        if own.is_some_and(|own| own.interfaces.len() >= self.config.interfaces_per_exporter_max) {
            return false;
        }
        if self.known >= self.config.interfaces_max && now.since(self.searched_at) >= SEARCH_MILLISECONDS {
            self.searched_at = now;
            self.forget_idle(now);
        }
        self.known < self.config.interfaces_max
    }

    fn forget_idle(&mut self, now: Timestamp) {
        let changed = &mut self.changed;
        self.exporters.retain(|exporter, own| {
            let stays = now.since(own.last_told) < IDLE_MILLISECONDS;
            if !stays {
                changed.insert(*exporter);
            }
            stays
        });
        self.known = self.exporters.values().map(|own| own.interfaces.len()).sum();
    }

    pub(super) fn heard(&mut self, exporters: impl Iterator<Item = Address>) {
        for exporter in exporters {
            if self.heard.len() < EXPORTERS_MAX {
                self.heard.insert(exporter);
            }
        }
    }

    pub(super) fn exporters(&self) -> Vec<Address> {
        self.heard.iter().copied().collect()
    }

    pub(super) fn known(&self) -> usize {
        self.known
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(super) fn is_due(&mut self, now: Timestamp, after_milliseconds: u64) -> bool {
        // A clock that was set back does not hold anything up.
        let is_due = now < self.published_at || now.since(self.published_at) >= after_milliseconds;
        if is_due {
            self.published_at = now;
        }
        is_due
    }

    /// What is known now; exporters of which nothing is new share what the snapshot before has of them.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        for exporter in std::mem::take(&mut self.changed) {
            let device = self.device(exporter);
            if device.interfaces.is_empty() {
                self.last.devices.remove(&exporter);
            } else {
                self.last.devices.insert(exporter, Arc::new(device));
            }
        }
        self.last.clone()
    }

    fn device(&self, exporter: Address) -> Device {
        let mut interfaces: BTreeMap<u32, Interface> = BTreeMap::new();
        let known: Vec<_> = self.config.known.iter().filter(|known| known.exporters.contains(exporter)).collect();
        let told = self.exporters.get(&exporter);
        let indexes = told.into_iter().flat_map(|own| own.interfaces.keys().copied()).chain(known.iter().map(|known| known.interface));
        for index in indexes.collect::<BTreeSet<u32>>() {
            let mut interface = Interface::default();
            for known in known.iter().filter(|known| known.interface == index) {
                interface.fill(Source::Config, &known.name, &known.description, known.speed_bits);
                interface.bound(known.boundary);
            }
            let entry = told.and_then(|own| own.interfaces.get(&index));
            // The names come before the rules, which go by them; the rules' speeds come before those that are told.
            let all = || SOURCES.iter().zip(entry.into_iter().flatten()).filter_map(|(source, told)| Some((*source, told.as_deref()?)));
            all().for_each(|(source, told)| interface.fill(source, &told.name, &told.description, 0));
            for rule in &self.config.rules {
                if rule.fits(exporter, index, &interface) {
                    interface.fill(Source::Config, "", "", rule.speed_bits);
                    interface.bound(rule.boundary);
                }
            }
            all().for_each(|(source, told)| interface.fill(source, "", "", told.speed_bits));
            interface.is_up = all().find_map(|(_, told)| told.is_up);
            interfaces.insert(index, interface);
        }
        let interfaces: Vec<(u32, Interface)> = interfaces.into_iter().collect();
        let told: Vec<(u32, Boundary)> = interfaces.iter().map(|(index, interface)| (*index, interface.boundary)).collect();
        Device { boundaries: boundaries_of(&self.config, exporter.host(), &told), interfaces }
    }
}

/// The boundaries of exporters in `prefix`, of whose interfaces those of `told` are known by name.
fn boundaries_of(config: &Config, prefix: Prefix, told: &[(u32, Boundary)]) -> Boundaries {
    let mut found: BTreeMap<u32, Boundary> = told.iter().copied().collect();
    let mut set = |index: u32, boundary: Boundary| {
        let held = found.entry(index).or_default();
        if *held == Boundary::Undefined {
            *held = boundary;
        }
    };
    for known in config.known.iter().filter(|known| known.exporters.covers(prefix)) {
        set(known.interface, known.boundary);
    }
    let mut rest = Boundary::Undefined;
    for rule in config.rules.iter().filter(|rule| rule.is_nameless() && rule.prefix().iter().any(|own| own.covers(prefix))) {
        if rule.interfaces.is_empty() && rest == Boundary::Undefined {
            rest = rule.boundary;
        }
        // A rule for all the rest does not give way to a later one for a few.
        rule.interfaces.iter().filter(|_| rest == Boundary::Undefined).for_each(|&index| set(index, rule.boundary));
    }
    Boundaries::new(found, rest)
}

/// What a source tells now, and of what it leaves open what it told before: names and counters may come in different records.
fn merged(before: Option<Box<Told>>, now: Told) -> Told {
    let Some(before) = before else {
        return now;
    };
    Told {
        interface: now.interface,
        name: if now.name.is_empty() { before.name } else { now.name },
        description: if now.description.is_empty() { before.description } else { now.description },
        speed_bits: if now.speed_bits == 0 { before.speed_bits } else { now.speed_bits },
        is_up: now.is_up.or(before.is_up),
    }
}

/// A text without control characters, spaces around it or an end that nobody reads.
fn clean(text: &str) -> Box<str> {
    let visible: String = text.trim().chars().filter(|character| !character.is_control()).take(TEXT_CHARACTERS_MAX).collect();
    visible.trim().into()
}

impl Interface {
    /// Fills what is open.
    fn fill(&mut self, source: Source, name: &str, description: &str, speed_bits: u64) {
        if self.name_source.is_none() && !name.is_empty() {
            (self.name, self.name_source) = (name.into(), Some(source));
        }
        if self.description_source.is_none() && !description.is_empty() {
            (self.description, self.description_source) = (description.into(), Some(source));
        }
        if self.speed_source.is_none() && speed_bits != 0 {
            (self.speed_bits, self.speed_source) = (speed_bits, Some(source));
        }
    }

    fn bound(&mut self, boundary: Boundary) {
        if self.boundary == Boundary::Undefined {
            self.boundary = boundary;
        }
    }
}

impl super::config::Rule {
    /// The exporters that it holds for, by family.
    fn prefix(&self) -> [Prefix; 2] {
        let all = [Prefix::of(Address::from_v4(0), 0), Prefix::of(Address::default(), 0)];
        self.exporters.map_or(all, |prefix| [prefix, prefix])
    }

    /// Whether it goes by numbers alone, so that it holds for interfaces of which nothing is known.
    fn is_nameless(&self) -> bool {
        self.name.is_none() && self.description.is_none()
    }

    fn fits(&self, exporter: Address, index: u32, interface: &Interface) -> bool {
        self.exporters.is_none_or(|prefix| prefix.contains(exporter))
            && (self.interfaces.is_empty() || self.interfaces.contains(&index))
            && self.name.as_ref().is_none_or(|pattern| pattern.fits(&interface.name))
            && self.description.as_ref().is_none_or(|pattern| pattern.fits(&interface.description))
    }
}
