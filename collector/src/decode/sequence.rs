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

/// The units in one datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Flow records, or the datagram itself.
    pub(crate) units: u32,
    /// Options records.
    pub(crate) options: u32,
}

impl Count {
    /// A datagram in a sequence of datagrams.
    pub(crate) const DATAGRAM: Self = Self { units: 1, options: 0 };

    /// So many flow records.
    pub(crate) fn flows(rows: usize) -> Self {
        Self { units: u32::try_from(rows).unwrap_or(u32::MAX), options: 0 }
    }

    /// So many options records.
    pub(crate) fn options(rows: usize) -> Self {
        Self { units: 0, options: u32::try_from(rows).unwrap_or(u32::MAX) }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { units: self.units.saturating_add(other.units), options: self.options.saturating_add(other.options) }
    }
}

/// How an exporter numbers: RFC 7011 §3.1 wants the data records before this datagram, options records among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Convention {
    /// Whether options records count (Open vSwitch: no).
    options: bool,
    /// Whether the datagram's own records count already (softflowd: yes).
    own: bool,
}

/// All that are met, the right one first.
const CONVENTIONS: [Convention; 4] = [
    Convention { options: true, own: false },
    Convention { options: false, own: false },
    Convention { options: true, own: true },
    Convention { options: false, own: true },
];
const ALL_CONVENTIONS: u8 = 0b1111;

impl Convention {
    /// The number that follows `last` if nothing is missing; `None` if the units that it takes could not be counted.
    fn next(self, last: Last, own: Option<Count>) -> Option<u32> {
        let before = last.count?;
        let count = if self.own { own? } else { before };
        Some(last.sequence.wrapping_add(count.units).wrapping_add(if self.options { count.options } else { 0 }))
    }
}

/// The datagram with the highest number so far.
#[derive(Clone, Copy, Debug)]
struct Last {
    sequence: u32,
    count: Option<Count>,
}

/// The sequence of one observation domain, engine or sub-agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    last: Option<Last>,
    /// A bit for each of the conventions that explain every step since the last gap.
    believed: u8,
    uptime: Option<u32>,
    /// Units that are missing and not yet counted as lost.
    gap: u64,
    gap_datagrams: u32,
    lost: u64,
}

impl Default for Sequence {
    fn default() -> Self {
        Self { last: None, believed: ALL_CONVENTIONS, uptime: None, gap: 0, gap_datagrams: 0, lost: 0 }
    }
}

impl Sequence {
    /// Takes a datagram's number, and the units in it: `None` if they cannot be counted, so that the next number is not known.
    pub(crate) fn observe(&mut self, unit: Unit, sequence: u32, count: Option<Count>, uptime: Option<u32>, ledger: &mut Ledger) {
        let restarted =
            matches!((self.uptime, uptime), (Some(before), Some(now)) if now.wrapping_sub(before).cast_signed() < RESTART_MILLISECONDS);
        self.uptime = uptime;
        let new = Some(Last { sequence, count });
        let next = self.last.and_then(|last| match unit {
            // One a datagram: every convention says the same.
            Unit::Datagrams => Some(last.sequence.wrapping_add(1)),
            Unit::Records => self.expect(last, sequence, count),
        });
        let Some(next) = next else {
            self.last = new;
            self.age(ledger);
            return;
        };
        let ahead = sequence.wrapping_sub(next);
        let behind = next.wrapping_sub(sequence);
        if restarted && ahead != 0 {
            ledger.restarts += 1;
            self.last = new;
        } else if ahead <= LOST_MAX {
            if ahead > 0 {
                if self.gap == 0 {
                    self.gap_datagrams = 0;
                }
                self.gap += u64::from(ahead);
                self.believed = ALL_CONVENTIONS;
            }
            self.last = new;
        } else if behind <= unit.reorder_max() {
            ledger.reordered += 1;
            // What is late is not lost.
            self.gap = self.gap.saturating_sub(count.map_or(0, |count| u64::from(count.units) + u64::from(count.options)));
        } else {
            ledger.restarts += 1;
            self.last = new;
        }
        self.age(ledger);
    }

    /// The number that should come: `sequence` itself if a believed convention explains it, which then remains; else that of the first.
    fn expect(&mut self, last: Last, sequence: u32, own: Option<Count>) -> Option<u32> {
        let believed = self.believed;
        let next = CONVENTIONS.iter().zip(0u8..).filter(|(_, bit)| believed >> bit & 1 == 1);
        let next = next.filter_map(|(convention, bit)| Some((convention.next(last, own)?, bit)));
        let (first, explaining) =
            next.fold((None, 0), |(first, explaining), (next, bit)| (first.or(Some(next)), explaining | u8::from(next == sequence) << bit));
        if explaining == 0 {
            return first;
        }
        self.believed = explaining;
        Some(sequence)
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
            sequence.observe(unit, number, Some(Count { units, options: 0 }), None, &mut ledger);
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
        sequence.observe(Unit::Datagrams, 100, Some(Count::DATAGRAM), Some(1_000_000), &mut ledger);
        sequence.observe(Unit::Datagrams, 200, Some(Count::DATAGRAM), Some(5_000), &mut ledger);
        sequence.settle(&mut ledger);
        assert_eq!((ledger.restarts, ledger.lost_by_sequence), (1, 0));
    }

    #[test]
    fn after_records_that_could_not_be_counted_nothing_is_said_to_be_lost() {
        let (mut sequence, mut ledger) = (Sequence::default(), Ledger::default());
        sequence.observe(Unit::Records, 0, None, None, &mut ledger);
        sequence.observe(Unit::Records, 500, Some(Count::flows(10)), None, &mut ledger);
        sequence.settle(&mut ledger);
        assert_eq!(ledger.lost_by_sequence, 0);
    }
    /// What an exporter of its own numbering sends: the number, flow records, options records of each datagram.
    fn lost(steps: &[(u32, u32, u32)]) -> u64 {
        let (mut sequence, mut ledger) = (Sequence::default(), Ledger::default());
        for &(number, units, options) in steps {
            sequence.observe(Unit::Records, number, Some(Count { units, options }), None, &mut ledger);
        }
        sequence.settle(&mut ledger);
        assert_eq!((ledger.reordered, ledger.restarts), (0, 0));
        ledger.lost_by_sequence
    }

    #[test]
    fn an_exporter_that_counts_a_datagram_s_own_records_has_lost_nothing() {
        // softflowd 1.1: 19 flows and an option, then 25, 25, 22, 5; each number is the sum up to its own datagram, without options.
        assert_eq!(lost(&[(19, 19, 1), (44, 25, 0), (69, 25, 0), (91, 22, 0), (96, 5, 0)]), 0);
        // 25 records lost behind the second.
        assert_eq!(lost(&[(19, 19, 1), (44, 25, 0), (91, 22, 0), (96, 5, 0)]), 25);
    }

    #[test]
    fn an_exporter_that_leaves_out_options_records_has_lost_nothing() {
        // Open vSwitch 3.1: a flow record a datagram, now and then an option.
        assert_eq!(lost(&[(0, 1, 0), (1, 1, 0), (2, 0, 1), (2, 1, 0), (3, 1, 0)]), 0);
        assert_eq!(lost(&[(0, 1, 0), (1, 1, 0), (2, 0, 1), (2, 1, 0), (6, 1, 0)]), 3);
    }

    #[test]
    fn an_exporter_that_counts_options_records_is_believed_as_well() {
        assert_eq!(lost(&[(0, 5, 2), (7, 3, 0), (10, 4, 1), (15, 1, 0)]), 0);
        assert_eq!(lost(&[(0, 5, 2), (7, 3, 0), (14, 4, 1), (19, 1, 0)]), 4);
    }
}
