//! Sequence numbers: what was sent and never came, told from reordering and restarts.

use schemas::ledger::Ledger;

/// Datagrams after which a gap is held for a loss: until then what is missing may still come.
const GAP_DATAGRAMS: u32 = 64;
/// A step ahead of more than this is another sequence, not a loss.
const LOST_MAX: u32 = 1 << 24;
/// An uptime clock that goes back by more than this was started anew.
const RESTART_MILLISECONDS: i32 = -10_000;

/// What a sequence number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Datagrams (NetFlow v9, sFlow).
    Datagrams,
    /// Flow records (NetFlow v5, v7) or data records (IPFIX).
    Records,
}

impl Unit {
    /// How far back a late datagram's number may be; further back is a restart.
    fn reorder_max(self) -> u32 {
        match self {
            Self::Datagrams => 1_024,
            Self::Records => 65_536,
        }
    }
}

/// The sequence of one observation domain, engine or sub-agent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequence {
    next: Option<u32>,
    uptime: Option<u32>,
    /// Units that are missing and not yet counted as lost.
    gap: u64,
    gap_datagrams: u32,
    lost: u64,
}

impl Sequence {
    /// Takes a datagram's number, and the units in it: `None` if they cannot be counted, so that the next number is not known.
    pub(crate) fn observe(&mut self, unit: Unit, sequence: u32, units: Option<u32>, uptime: Option<u32>, ledger: &mut Ledger) {
        let restarted =
            matches!((self.uptime, uptime), (Some(before), Some(now)) if now.wrapping_sub(before).cast_signed() < RESTART_MILLISECONDS);
        self.uptime = uptime;
        let after = units.map(|units| sequence.wrapping_add(units));
        let Some(next) = self.next else {
            self.next = after;
            self.age(ledger);
            return;
        };
        let ahead = sequence.wrapping_sub(next);
        let behind = next.wrapping_sub(sequence);
        if restarted && ahead != 0 {
            ledger.restarts += 1;
            self.next = after;
        } else if ahead <= LOST_MAX {
            if ahead > 0 {
                if self.gap == 0 {
                    self.gap_datagrams = 0;
                }
                self.gap += u64::from(ahead);
            }
            self.next = after;
        } else if behind <= unit.reorder_max() {
            ledger.reordered += 1;
            // What is late is not lost.
            self.gap = self.gap.saturating_sub(u64::from(units.unwrap_or(0)));
        } else {
            ledger.restarts += 1;
            self.next = after;
        }
        self.age(ledger);
    }

    fn age(&mut self, ledger: &mut Ledger) {
        if self.gap > 0 {
            self.gap_datagrams += 1;
            if self.gap_datagrams > GAP_DATAGRAMS {
                self.settle(ledger);
            }
        }
    }

    /// Counts what is missing as lost: nothing late is awaited any more.
    pub(crate) fn settle(&mut self, ledger: &mut Ledger) {
        ledger.lost_by_sequence += self.gap;
        self.lost += self.gap;
        self.gap = 0;
    }

    /// Units lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(unit: Unit, steps: &[(u32, u32)]) -> (u64, u64, u64) {
        let (mut sequence, mut ledger) = (Sequence::default(), Ledger::default());
        for &(number, units) in steps {
            sequence.observe(unit, number, Some(units), None, &mut ledger);
        }
        sequence.settle(&mut ledger);
        (ledger.lost_by_sequence, ledger.reordered, ledger.restarts)
    }

    #[test]
    fn what_is_missing_is_lost_and_what_is_late_is_not() {
        assert_eq!(after(Unit::Records, &[(0, 30), (30, 30), (90, 30)]), (30, 0, 0));
        assert_eq!(after(Unit::Records, &[(0, 30), (60, 30), (30, 30), (90, 30)]), (0, 1, 0));
        assert_eq!(after(Unit::Datagrams, &[(7, 1), (8, 1), (12, 1)]), (3, 0, 0));
    }

    #[test]
    fn the_number_wraps() {
        // 10 to the wrap, then 20: all came.
        assert_eq!(after(Unit::Records, &[(u32::MAX - 9, 30), (20, 30)]), (0, 0, 0));
    }

    #[test]
    fn a_number_far_behind_or_far_ahead_is_a_restart_and_no_loss() {
        assert_eq!(after(Unit::Datagrams, &[(5_000_000, 1), (0, 1), (1, 1)]), (0, 0, 1));
        assert_eq!(after(Unit::Datagrams, &[(5, 1), (2_000_000_000, 1)]), (0, 0, 1));
    }

    #[test]
    fn an_uptime_that_goes_back_is_a_restart_even_where_the_number_goes_ahead() {
        let (mut sequence, mut ledger) = (Sequence::default(), Ledger::default());
        sequence.observe(Unit::Datagrams, 100, Some(1), Some(1_000_000), &mut ledger);
        sequence.observe(Unit::Datagrams, 200, Some(1), Some(5_000), &mut ledger);
        sequence.settle(&mut ledger);
        assert_eq!((ledger.restarts, ledger.lost_by_sequence), (1, 0));
    }

    #[test]
    fn after_records_that_could_not_be_counted_nothing_is_said_to_be_lost() {
        let (mut sequence, mut ledger) = (Sequence::default(), Ledger::default());
        sequence.observe(Unit::Records, 0, None, None, &mut ledger);
        sequence.observe(Unit::Records, 500, Some(10), None, &mut ledger);
        sequence.settle(&mut ledger);
        assert_eq!(ledger.lost_by_sequence, 0);
    }
}
