//! How an entry becomes a suspect, and its other direction a companion, with what both had before.

use schemas::counter::Direction;
use schemas::net::Address;

use super::clock::Clock;
use super::recent::{Recent, Role};
use super::suspect::{Ended, Suspects};
use super::table::{Entry, Key, Suspicion};
use super::traffic::Rows;
use super::{Increment, Targets};

/// Records of a new suspect's past that are counted at most.
const PAST_RECORDS_MAX: usize = 16_384;

impl Targets {
    /// Counts an increment exactly for a suspect, or for an entry that passes what makes one if there is room for it.
    #[inline(never)]
    pub(super) fn suspect(&mut self, key: Key, is_over: bool, increment: &Increment, rows: &Rows, exporter: Address, clock: &Clock) {
        let Self { hosts, prefixes, suspects, recent, scales, is_open, .. } = self;
        let is_host = key.is_host();
        let table = if is_host { hosts } else { prefixes };
        let Some(entry) = table.get_mut(key) else {
            return;
        };
        let load = entry.bound.load(&increment.reach, clock);
        // Sources that are not ours answer, and are no suspects.
        let is_judged = !*is_open || key.direction() == Direction::Incoming;
        let (mut ended, mut is_new) = (Ended::default(), false);
        if is_over && is_judged {
            match entry.suspicion.index() {
                Some(index) if suspects.is_own(index) => {}
                Some(index) => ended = suspects.promote(index, load, clock).unwrap_or_default(),
                None => match suspects.begin(key, load, clock) {
                    Some((index, replaced)) => {
                        seed(entry, index, suspects, recent, clock);
                        (ended, is_new) = (replaced, true);
                    }
                    None => {
                        if !entry.suspicion.is_refused() {
                            entry.suspicion = Suspicion::refused();
                            suspects.refused += 1;
                        }
                        if !key.is_sum() {
                            entry.head = recent.link(increment.record, Role::of(key.direction(), is_host), entry.head);
                        }
                    }
                },
            }
        }
        let suspicion = entry.suspicion.index();
        if let Some(index) = suspicion {
            let traffic = rows.traffic(increment.row.into(), increment.is_back, recent.record(increment.record));
            let [_, seen] = increment.reach.weights;
            suspects.add(index, &traffic, load, scales.share(entry.scale, increment.weight(), seen), exporter, clock);
        }
        for key in ended.into_iter().flatten() {
            self.table(key.is_host()).get_mut(key).into_iter().for_each(Entry::clear_suspicion);
            key.single().into_iter().for_each(|address| self.answering.remove(address));
        }
        if let Some(index) = suspicion.filter(|_| is_new) {
            self.accompany(key, index, clock);
        }
    }

    /// Begins to count what a new suspect answers, or what is answered to it: the other direction of its host or prefix.
    fn accompany(&mut self, key: Key, of: u16, clock: &Clock) {
        let other = key.other();
        // While no networks are configured, only single hosts can be told among the sources.
        if self.is_open && key.single().is_none() {
            return;
        }
        let Self { hosts, prefixes, suspects, recent, scales, .. } = self;
        let table = if key.is_host() { hosts } else { prefixes };
        // A host that has answered nothing yet takes no room from those that are counted one by one.
        let entry = if table.is_crowded() {
            table.get_mut(other)
        } else {
            table.entry(other, table.home_of(other), clock, |key| scales.number(key.target()))
        };
        let Some(entry) = entry else {
            suspects.answers_refused += 1;
            return;
        };
        if let Some(index) = entry.suspicion.index() {
            suspects.join(of, index);
        } else if let Some(index) = suspects.accompany(of, other, clock) {
            seed(entry, index, suspects, recent, clock);
            if self.is_open {
                other.single().into_iter().for_each(|address| self.answering.insert(address));
            }
        }
    }
}

/// Counts exactly, from now on, what an entry gets, and what it got as far as the log reaches.
fn seed(entry: &mut Entry, index: u16, suspects: &mut Suspects, recent: &Recent, clock: &Clock) {
    let key = entry.key();
    let past = recent.chain(entry.head, Role::of(key.direction(), key.is_host())).take(PAST_RECORDS_MAX);
    let past = past.filter(|(span, ..)| !clock.is_too_late(span.end));
    past.for_each(|(span, amount, ends)| suspects.seed(index, span, &amount, ends));
    (entry.suspicion, entry.head) = (Suspicion::of(index), 0);
}
