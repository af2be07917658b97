//! Host or prefix: whether the traffic of a prefix that is over its limit is that of few hosts, or spread over all of it (carpet bombing).

use schemas::counter::{Target, Volume};

use super::limit::Limits;
use super::window::Crossing;
use crate::merge::{Merger, SLOTS_PER_SECOND};

/// The mean of `volume` over a crossing's window, in the crossing's metric.
#[must_use]
pub fn mean(volume: &Volume, crossing: &Crossing) -> f64 {
    volume.rate(crossing.metric, crossing.slots as f64 / SLOTS_PER_SECOND as f64)
}

/// Whether a target is a part of another one.
#[must_use]
pub fn lies_within(inner: Target, outer: Target) -> bool {
    inner.direction == outer.direction && inner.prefix != outer.prefix && outer.prefix.covers(inner.prefix)
}

/// Whether one of the narrower prefixes that are over their limits too carries half of what `prefix` does: then that is the target.
pub fn is_of_one(prefix: Target, crossing: &Crossing, narrower: impl Iterator<Item = Target>, merger: &Merger) -> bool {
    let mut prefixes = narrower.filter(|inner| !Limits::is_host(inner.prefix) && lies_within(*inner, prefix));
    prefixes.any(|inner| {
        let track = merger.get(&inner);
        track.is_some_and(|track| mean(&track.ring.sum(crossing.first(), crossing.last), crossing) * 2.0 >= crossing.value)
    })
}

/// What of a prefix's mean no host within explains.
///
/// A host explains its part if it is judged by a limit of its own, if it carries half of the prefix's traffic, or if it is over its limit and at most
/// `hosts_max` are: more of them at once have one attack in common.
#[must_use]
pub fn unexplained(prefix: Target, crossing: &Crossing, merger: &Merger, limits: &Limits, hosts_max: usize) -> f64 {
    let (mut explained, mut over) = (0.0, Vec::new());
    for (host, track) in merger.within(prefix).filter(|(host, _)| Limits::is_host(host.prefix)) {
        let mean = mean(&track.ring.sum(crossing.first(), crossing.last), crossing);
        let limit = limits.of(*host);
        let single = limit.get(crossing.metric);
        // A limit that the whole prefix has is no reason to judge one host apart.
        let is_own = limits.is_own(*host) && limit != limits.of(Target { prefix: prefix.prefix, ..*host });
        if is_own || mean * 2.0 >= crossing.value {
            explained += mean;
        } else if mean > single {
            over.push(mean);
        }
    }
    crossing.value - explained - if over.len() > hosts_max { 0.0 } else { over.iter().sum::<f64>() }
}

/// Whether a host carries at least half of what its prefix carries in the same window, and so is the target, not one of many.
#[must_use]
pub fn stands_out(crossing: &Crossing, prefix: Target, merger: &Merger) -> bool {
    let whole = merger.get(&prefix).map(|track| mean(&track.ring.sum(crossing.first(), crossing.last), crossing));
    whole.is_some_and(|whole| crossing.value * 2.0 >= whole)
}
