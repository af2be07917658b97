//! What is set at each level, laid over each other once, so that a look-up is one of the longest prefix.
//!
//! The prefixes of all levels form a tree. What holds in a prefix is what holds in the one around it, with what is set for itself over it,
//! level by level; a metric then has the value of the most specific level that names it.

use std::collections::BTreeMap;

use schemas::counter::Direction;
use schemas::incident::{LimitSource, Metric};
use schemas::limit::{self, Table};
use schemas::net::{Prefix, PrefixTable};

use super::{EVERYBODY, HOST, Level, Limit, NODE, PREFIX, always, rate};
use crate::config::{Hostgroup, Override, Rates, Threshold};

/// How specific a level is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Network,
    Hostgroup,
    Node,
    Prefix,
    Host,
}

const RANKS: usize = Rank::Host as usize + 1;

/// Limits that are set for every host in a prefix, or for its sum.
#[derive(Clone, Debug)]
struct Entry {
    prefix: Prefix,
    rank: Rank,
    level: u16,
    rates: Rates,
}

/// What each level says in a prefix: value and level of each metric that it names.
type Said = [[Option<(f64, u16)>; Metric::COUNT]; RANKS];

/// Everything that is set in one direction.
#[derive(Debug)]
pub(super) struct Set {
    names: Vec<Level>,
    hosts: Vec<Entry>,
    totals: BTreeMap<Prefix, Vec<Entry>>,
}

impl Set {
    /// What the configuration and the limits at run time set; of two for the same prefix and level the later one holds.
    pub(super) fn of(threshold: &Threshold, hostgroups: &[Hostgroup], runtime: &[Override], direction: Direction) -> Self {
        let mut set = Self { names: always(), hosts: Vec::new(), totals: BTreeMap::new() };
        let is_incoming = direction == Direction::Incoming;
        let choose = |incoming: Rates, outgoing: Option<Rates>| if is_incoming { incoming } else { outgoing.unwrap_or_default() };
        for own in &threshold.networks {
            let level = set.name(LimitSource::Static, format!("limit of network {}", own.prefix), EVERYBODY);
            let totals = choose(own.total.unwrap_or_default(), own.total_outgoing);
            set.add(Rank::Network, own.prefix, level, choose(own.rates(), own.outgoing), totals);
        }
        for own in hostgroups {
            let level = set.name(LimitSource::Static, format!("limit of hostgroup {}", own.name), EVERYBODY);
            let totals = choose(own.total.unwrap_or_default(), own.total_outgoing);
            for prefix in &own.prefixes {
                set.add(Rank::Hostgroup, *prefix, level, choose(own.rates(), own.outgoing), totals);
            }
        }
        for own in threshold.hosts.iter().chain(runtime) {
            let rates = choose(own.rates(), own.outgoing);
            let (rank, level) = match own {
                own if own.is_node => (Rank::Node, NODE),
                own if own.target.is_host() => (Rank::Host, HOST),
                own => (Rank::Prefix, set.name(LimitSource::Host, format!("limit of prefix {}", own.target), PREFIX)),
            };
            // A /24 or /48 that is named is held in sum to what its hosts are.
            let totals = if rank == Rank::Prefix && limit::is_block(own.target) { rates } else { Rates::default() };
            set.add(rank, own.target, level, rates, totals);
        }
        set
    }

    /// The number of a level's name; `full` where there are too many.
    fn name(&mut self, source: LimitSource, words: String, full: u16) -> u16 {
        let Ok(level) = u16::try_from(self.names.len()) else { return full };
        self.names.push(Level { source, words });
        level
    }

    fn add(&mut self, rank: Rank, prefix: Prefix, level: u16, rates: Rates, totals: Rates) {
        self.hosts.push(Entry { prefix, rank, level, rates });
        if totals != Rates::default() {
            self.totals.entry(prefix).or_default().push(Entry { prefix, rank, level, rates: totals });
        }
    }

    /// The limits of every host and sum, where `everybody` is what holds for a host of which nothing is said.
    pub(super) fn table(mut self, mut everybody: Limit, threshold: &Threshold) -> Table<Limit> {
        everybody.names = std::mem::take(&mut self.names).into();
        let blocks = Blocks { multiple: threshold.prefix_multiple, named: threshold.prefix.unwrap_or_default() };
        // A prefix comes before those in it; the sort keeps the order of equal ones.
        self.hosts.sort_by_key(|entry| entry.prefix);
        let (mut hosts, mut inner, mut sums) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut around: Vec<(Prefix, Box<Said>)> = Vec::new();
        for entries in self.hosts.chunk_by(|one, other| one.prefix == other.prefix) {
            let Some(prefix) = entries.first().map(|entry| entry.prefix) else { continue };
            while around.last().is_some_and(|(outer, _)| !outer.covers(prefix)) {
                around.pop();
            }
            let mut said = around.last().map_or_else(Box::default, |(_, said)| said.clone());
            say(&mut said, entries);
            let host = settle(&said, &everybody);
            let block = blocks.of(&host);
            if let Some(totals) = self.totals.get(&prefix) {
                let mut said = Box::<Said>::default();
                say(&mut said, totals);
                let base = if limit::is_block(prefix) { block.clone() } else { Limit { rates: limit::Limit::NONE, ..everybody.clone() } };
                sums.insert(prefix, settle(&said, &base));
            }
            if prefix.length() <= if prefix.is_v4() { 24 } else { 48 } {
                inner.push((prefix, block));
            }
            hosts.push((prefix, host));
            around.push((prefix, said));
        }
        let block = blocks.of(&everybody);
        Table { host: everybody, block, hosts: PrefixTable::new(hosts), blocks: PrefixTable::new(inner), sums }
    }
}

/// How the limits of a /24 or /48 follow from those of the hosts in it.
struct Blocks {
    multiple: f64,
    named: Rates,
}

impl Blocks {
    fn of(&self, host: &Limit) -> Limit {
        let mut limit = host.clone();
        limit.rates = host.rates.scaled(self.multiple);
        for (metric, level) in Metric::ALL.iter().zip(host.levels) {
            // What everybody's prefix may carry says nothing of one whose hosts have limits of their own.
            if let Some(value) = self.named.get(*metric).filter(|_| level == EVERYBODY) {
                limit.rates = limit.rates.with(*metric, rate(value));
            }
        }
        limit
    }
}

fn say(said: &mut Said, entries: &[Entry]) {
    for Entry { rank, level, rates, .. } in entries {
        let Some(own) = said.get_mut(*rank as usize) else { continue };
        for (metric, own) in Metric::ALL.iter().zip(own) {
            *own = rates.get(*metric).map(|value| (rate(value), *level)).or(*own);
        }
    }
}

/// The value of the most specific level that names a metric, or that of `base`.
fn settle(said: &Said, base: &Limit) -> Limit {
    let mut limit = base.clone();
    for own in said {
        for (metric, own) in Metric::ALL.iter().zip(own) {
            if let Some((value, level)) = own {
                limit.set(*metric, *value, *level);
            }
        }
    }
    limit
}
