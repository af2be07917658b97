//! The loss ledger: what came, what became of it, what never came — each in its own unit.

use serde::{Deserialize, Serialize};

macro_rules! ledger {
    ($(#[$about:meta])* $ledger:ident: $($(#[$doc:meta])* $name:ident,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $ledger { $($(#[$doc])* pub $name: u64,)* }

        impl $ledger {
            /// Every count with its name, in declaration order.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }

        impl std::ops::AddAssign<&$ledger> for $ledger {
            fn add_assign(&mut self, other: &$ledger) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }
        }
    };
}

ledger! {
    /// Counts of one exporter (or a sum over exporters) since the start; every count only grows, but for those that wait.
    ///
    /// Three balances hold after a drain ([`Ledger::imbalance`]):
    /// datagrams: received = decoded + malformed + refused + waiting;
    /// sets: seen = decoded + malformed + evicted without template + waiting;
    /// records: decoded = counted + unmonitored + too late + over a bound + without volume + repeated.
    Ledger:
    /// Datagrams that the socket (or capture) handed over.
    datagrams_received,
    /// Datagrams whose header and set lengths were sound, even where single sets were not.
    datagrams_decoded,
    /// Datagrams with an unknown version, a header that is cut, or a count or length that cannot be.
    datagrams_malformed,
    /// Datagrams of an exporter that is not allowed, or over the bound on exporters.
    datagrams_refused,
    /// Datagrams read and not yet decoded.
    datagrams_waiting,
    /// Sets (NetFlow v9, IPFIX), samples (sFlow) or, for v1 to v7, the record block of a datagram.
    sets_seen,
    /// Sets decoded.
    sets_decoded,
    /// Of those decoded, the ones whose kind Weir does not read and skips by their length: sFlow samples of other formats.
    sets_of_unknown_kind,
    /// Sets that contradict their template or their own length.
    sets_malformed,
    /// Data sets given up before their template came.
    sets_without_template,
    /// Data sets that wait for their template.
    sets_waiting,
    /// Flow records decoded.
    records_decoded,
    /// Flow records that the windows hold.
    records_counted,
    /// Flow records with neither end in a monitored network.
    records_unmonitored,
    /// Flow records older than the windows reach back.
    records_too_late,
    /// Flow records of a host for which the table had no room.
    records_over_host_bound,
    /// Flow records without packets or octets to count: events, teardown notices.
    records_without_volume,
    /// Flow records of traffic that is counted where it crosses another interface.
    records_repeated,
    /// Flow records that were decoded with an unknown sampling rate.
    records_sampling_unknown,
    /// Flow records whose clock was wrong and that were placed by their arrival.
    records_clock_corrected,
    /// Options records read.
    options_decoded,
    /// Options or template sets dropped because the control thread's queue was full.
    control_dropped,
    /// Interface and other counter records (sFlow) read.
    counters_decoded,
    /// Interface counters (sFlow) for which there was no room until the end of their second.
    counters_dropped,
    /// Templates learned or changed.
    templates_learned,
    /// Templates refused at the bound on templates.
    templates_refused,
    /// Units that the sequence numbers say were sent and that never came.
    lost_by_sequence,
    /// Datagrams that came after a later one.
    reordered,
    /// Times that the sequence started anew.
    restarts,
}

ledger! {
    /// What became of flow records behind the counters, of one exporter or in sum, since the start.
    ///
    /// One balance holds at any moment ([`StoreLedger::imbalance`]), with `decoded` from the [`Ledger`] of the same exporter:
    /// decoded + recovered = stored + spooled + waiting + set aside + dropped, by each of its reasons + not kept.
    StoreLedger:
    /// Records that the spool held when the program started.
    records_recovered,
    /// Records that the engine has acknowledged.
    records_stored,
    /// Records that wait on disk.
    records_spooled,
    /// Records that wait in memory.
    records_waiting,
    /// Records that found no room in memory on their way from a shard to the store.
    records_dropped_by_queue,
    /// Records that found no room in the spool, on a disk that is full or cannot be written.
    records_dropped_by_spool,
    /// Records in spooled blocks that could not be read back.
    records_dropped_corrupt,
    /// Records in blocks that the engine refused whenever they were sent, while it took others.
    records_dropped_by_engine,
    /// Records in blocks that wait on disk for the next start: the engine had no memory for them, or refused them after it had left an
    /// earlier attempt unanswered, and may have them.
    records_set_aside,
    /// Records that nobody was asked to keep.
    records_not_kept,
    /// Records that are not filed under their end: it lies further back than flows stay, or their block had rows of too many hours.
    records_refiled,
    /// Records whose sampling rate was learned after they had come, before they were stored.
    records_rate_learned,
    /// Records that waited for their sampling rate in vain.
    records_rate_not_learned,
    /// Records of unknown sampling rate that would have waited for it, if there had been room.
    records_rate_not_awaited,
    /// Blocks that the engine has acknowledged.
    blocks_stored,
    /// Blocks sent again after a failure, which the engine stores once.
    blocks_retried,
}

impl StoreLedger {
    /// Left side − right side of the balance; 0 in a sound ledger.
    #[must_use]
    pub fn imbalance(&self, records_decoded: u64) -> i128 {
        let kept = [self.records_stored, self.records_spooled, self.records_waiting, self.records_set_aside, self.records_not_kept];
        let lost =
            [self.records_dropped_by_queue, self.records_dropped_by_spool, self.records_dropped_corrupt, self.records_dropped_by_engine];
        let right: i128 = kept.into_iter().chain(lost).map(i128::from).sum();
        i128::from(records_decoded) + i128::from(self.records_recovered) - right
    }
}

impl Ledger {
    /// The three balances as (unit, left side − right side); all differences are 0 in a sound ledger.
    #[must_use]
    pub fn imbalance(&self) -> [(&'static str, i128); 3] {
        let difference = |left: u64, right: &[u64]| i128::from(left) - right.iter().map(|&count| i128::from(count)).sum::<i128>();
        [
            (
                "datagrams",
                difference(
                    self.datagrams_received,
                    &[self.datagrams_decoded, self.datagrams_malformed, self.datagrams_refused, self.datagrams_waiting],
                ),
            ),
            ("sets", difference(self.sets_seen, &[self.sets_decoded, self.sets_malformed, self.sets_without_template, self.sets_waiting])),
            (
                "records",
                difference(
                    self.records_decoded,
                    &[
                        self.records_counted,
                        self.records_unmonitored,
                        self.records_too_late,
                        self.records_over_host_bound,
                        self.records_without_volume,
                        self.records_repeated,
                    ],
                ),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_was_given_is_somewhere() {
        let mut ledger = StoreLedger { records_recovered: 1, records_stored: 3, records_spooled: 2, ..StoreLedger::default() };
        assert_eq!(ledger.imbalance(4), 0);
        ledger += &StoreLedger { records_dropped_by_queue: 1, ..StoreLedger::default() };
        assert_eq!((ledger.imbalance(5), ledger.imbalance(4)), (0, -1));
    }

    #[test]
    fn a_record_that_is_nowhere_is_an_imbalance() {
        let mut ledger = Ledger { records_decoded: 3, records_counted: 2, ..Ledger::default() };
        assert_eq!(ledger.imbalance()[2], ("records", 1));
        ledger += &Ledger { records_too_late: 1, ..Ledger::default() };
        assert!(ledger.imbalance().iter().all(|(_, difference)| *difference == 0));
    }
}
