//! What is known of a scope: its templates, its sampling rates; published by the control plane, read by shards.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use schemas::flow::Version;
use schemas::net::Address;
use schemas::time::Timestamp;

use super::plan::Plan;
use super::sampling::Rates;
use super::template::Definition;

/// Different template and options sets of a scope that are known by their hash.
const KNOWN_SETS_MAX: usize = 1_024;
/// Templates that those sets announce, in all.
const KNOWN_IDS_MAX: usize = 16_384;

/// Whose templates: exporter, version and observation domain.
///
/// RFC 7011 §8 says transport session, source port included; real exporters change ports. Two senders behind one address whose layouts
/// contradict each other are told apart by their port from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// The sender's address.
    pub(crate) exporter: Address,
    /// [`Version::Netflow9`] or [`Version::Ipfix`].
    pub(crate) version: Version,
    /// Source id or observation domain.
    pub(crate) domain: u32,
    /// The sender's port where it has a scope of its own, else 0.
    pub(crate) port: u16,
}

/// A template that is known, and when it was last announced.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The compiled template.
    pub(crate) plan: Arc<Plan>,
    /// When, in milliseconds × 65,536, and from which port: refreshed without the control plane.
    announced: Arc<AtomicU64>,
}

impl Known {
    pub(crate) fn new(plan: Arc<Plan>, at: Timestamp, port: u16) -> Self {
        Self { plan, announced: Arc::new(AtomicU64::new(at.0 << 16 | u64::from(port))) }
    }

    pub(crate) fn announce(&self, at: Timestamp, port: u16) {
        self.announced.store(at.0 << 16 | u64::from(port), Ordering::Relaxed);
    }

    pub(crate) fn announced(&self) -> (Timestamp, u16) {
        let both = self.announced.load(Ordering::Relaxed);
        (Timestamp(both >> 16), u16::try_from(both & 0xffff).unwrap_or(0))
    }
}

/// What is known of a scope; immutable but for the age of its templates.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) plans: HashMap<u16, Known, BuildHasherDefault<IdHasher>>,
    /// Sets that say nothing new, by their hash, with the templates that they announce.
    sets: HashMap<u64, Vec<u16>>,
    /// How many templates were remembered for sets since they were last cleared.
    ids: usize,
    /// The sampling rates that options told.
    pub(crate) rates: Rates,
    /// When the exporter was started, by options.
    pub(crate) system_init_milliseconds: Option<u64>,
    /// Ports that have scopes of their own.
    pub(crate) ports: Vec<u16>,
    /// A shard has handed over a set that may change this state.
    pub(crate) superseded: Arc<AtomicBool>,
}

impl State {
    /// The plan of a data set.
    pub(crate) fn plan(&self, set_id: u16) -> Option<&Arc<Plan>> {
        self.plans.get(&set_id).map(|known| &known.plan)
    }

    /// Every template, when it was announced and from which port.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Definition, Timestamp, u16)> {
        self.plans.values().map(|known| {
            let (at, port) = known.announced();
            (known.plan.definition(), at, port)
        })
    }

    /// The number of templates.
    pub(crate) fn templates(&self) -> usize {
        self.plans.len()
    }

    /// Whether a set says nothing new; if so its templates are as good as new.
    pub(crate) fn knows(&self, hash: u64, at: Timestamp, port: u16) -> bool {
        let Some(ids) = self.sets.get(&hash) else {
            return false;
        };
        ids.iter().filter_map(|id| self.plans.get(id)).for_each(|known| known.announce(at, port));
        true
    }

    pub(crate) fn remember(&mut self, hash: u64, ids: Vec<u16>) {
        self.ids += ids.len();
        if self.sets.len() >= KNOWN_SETS_MAX || self.ids > KNOWN_IDS_MAX {
            self.sets.clear();
            self.ids = ids.len();
        }
        self.sets.insert(hash, ids);
    }

    /// Forgets a template, and every set that announces it or may be read by it: if one comes again, it says something new.
    pub(crate) fn forget(&mut self, id: u16) -> Option<Known> {
        self.forget_options();
        self.sets.retain(|_, ids| !ids.contains(&id));
        self.plans.remove(&id)
    }

    /// Forgets the options sets, which announce no template.
    pub(crate) fn forget_options(&mut self) {
        self.sets.retain(|_, ids| !ids.is_empty());
    }
}

/// Spreads template ids: no more of them than slots can collide, whoever chooses them, so that nothing has to be kept from guessing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u16(&mut self, id: u16) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|&octet| self.0 = (self.0 ^ u64::from(octet)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The hash by which a set is known: of its id and octets.
pub(crate) fn hash_of(set_id: u16, body: &[u8]) -> u64 {
    use std::hash::Hash;
    let mut hasher = std::hash::DefaultHasher::new();
    (set_id, body).hash(&mut hasher);
    hasher.finish()
}
