//! The loss ledger: what came, what became of it, what never came — each in its own unit.

use serde::{Deserialize, Serialize};

macro_rules! ledger {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one exporter (or a sum over exporters) since the start; every count only grows, but for those that wait.
        ///
        /// Three balances hold after a drain ([`Ledger::imbalance`]):
        /// datagrams: received = decoded + malformed + refused + waiting;
        /// sets: seen = decoded + malformed + evicted without template + waiting;
        /// records: decoded = counted + unmonitored + too late + over a bound.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Ledger { $($(#[$doc])* pub $name: u64,)* }

        impl Ledger {
            /// Every count with its name, in declaration order.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }

        impl std::ops::AddAssign<&Ledger> for Ledger {
            fn add_assign(&mut self, other: &Ledger) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }
        }
    };
}

ledger! {
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
    fn a_record_that_is_nowhere_is_an_imbalance() {
        let mut ledger = Ledger { records_decoded: 3, records_counted: 2, ..Ledger::default() };
        assert_eq!(ledger.imbalance()[2], ("records", 1));
        ledger += &Ledger { records_too_late: 1, ..Ledger::default() };
        assert!(ledger.imbalance().iter().all(|(_, difference)| *difference == 0));
    }
}
