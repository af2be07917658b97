//! What is taken for peace now: since when, why, and what was seen of the other direction.

use std::collections::BTreeMap;

use schemas::counter::{Snapshot, Target};
use schemas::time::Timestamp;

use super::{Question, Reason, Verdict, judge};
use crate::detect::answer::Sight;
use crate::detect::window::{Look, Scan, Scanner};
use crate::merge::{Merger, Track, other};
use crate::metrics::Metrics;

/// Milliseconds below its limit after which a target's being over it is another episode.
const EPISODE_MILLISECONDS: u64 = 10_000;

/// A target that is over its limit.
#[derive(Clone, Copy, Debug)]
struct Episode {
    since: Timestamp,
    last: Timestamp,
    /// Why it is no attack, if it is none.
    reason: Option<Reason>,
    /// Why most of what is explained of it is none, whether that is enough or not.
    part: Option<Reason>,
}

/// The targets over their limit, by what was made of them.
#[derive(Debug)]
pub struct Withheld {
    sight: Sight,
    episodes: BTreeMap<Target, Episode>,
    aged_at: Timestamp,
    metrics: Metrics,
}

impl Withheld {
    /// Nothing is withheld yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { sight: Sight::default(), episodes: BTreeMap::new(), aged_at: Timestamp::default(), metrics }
    }

    /// Takes in which prefixes are seen in which direction.
    pub fn learn(&mut self, snapshot: &Snapshot) {
        self.sight.learn(snapshot);
    }

    /// What of a target's traffic is explained, if anything is; `scan` is that of all of it.
    pub fn judge(
        &mut self,
        target: Target,
        (look, track, scan): (Look<'_>, &Track, &Scan),
        merger: &Merger,
        scanner: &mut Scanner,
        now: Timestamp,
    ) -> Option<Verdict> {
        let mut waited_milliseconds = 0;
        if !scan.crossings.is_empty() {
            let new = Episode { since: now, last: now, reason: None, part: None };
            let episode = self.episodes.entry(target).or_insert(new);
            if now.since(episode.last) >= EPISODE_MILLISECONDS {
                *episode = new;
            }
            episode.last = now;
            waited_milliseconds = now.since(episode.since);
        }
        let answer = merger.answer(&target);
        let is_seen = self.sight.holds(other(target), now);
        let verdict = judge(&Question { target, look, track, answer, is_seen, waited_milliseconds }, scan, scanner);
        let peace = verdict.as_ref().filter(|verdict| verdict.scan.crossings.is_empty());
        let reason = peace.and_then(|verdict| verdict.explained.first()).map(|(reason, _)| *reason);
        if let Some(episode) = self.episodes.get_mut(&target).filter(|_| !scan.crossings.is_empty()) {
            if let Some(reason) = reason.filter(|reason| episode.reason != Some(*reason)) {
                self.metrics.finding_withheld(target.prefix, reason);
            }
            episode.reason = reason;
            episode.part = verdict.as_ref().and_then(|verdict| verdict.explained.first()).map(|(reason, _)| *reason);
        }
        verdict
    }

    /// Why most of what is explained of a target's traffic is none of an attack's, while it is over its limit.
    #[must_use]
    pub fn part(&self, target: &Target) -> Option<Reason> {
        self.episodes.get(target).and_then(|episode| episode.part)
    }

    /// Forgets what is over.
    pub fn age(&mut self, now: Timestamp) {
        if now.since(self.aged_at) >= 1_000 {
            self.aged_at = now;
            self.sight.age(now);
            self.episodes.retain(|_, episode| now.since(episode.last) < EPISODE_MILLISECONDS);
        }
    }
}
