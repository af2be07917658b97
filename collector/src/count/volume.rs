//! Which columns hold the volume of a record, and what it is: for the counters and for the store alike.

use schemas::flow::{Column, ColumnSet, FlowBatch, GROUP_ROWS, Segment};

/// The values of one column for a group of rows.
pub(crate) type Values<'a, T> = &'a [T; GROUP_ROWS];

/// Which fields of a record its volume is taken from; of several the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// One way.
    Delta,
    /// Both ways.
    TwoWay,
    /// Since the flow began.
    Total,
}

const DELTA: ColumnSet = ColumnSet::of(&[Column::OctetDeltaCount, Column::PacketDeltaCount]);
const TWO_WAY: ColumnSet =
    ColumnSet::of(&[Column::InitiatorOctets, Column::InitiatorPackets, Column::ResponderOctets, Column::ResponderPackets]);
const REVERSE: ColumnSet = ColumnSet::of(&[Column::ReverseOctetDeltaCount, Column::ReversePacketDeltaCount]);

impl Told {
    /// How records with these columns tell their volume.
    #[inline]
    pub(crate) fn of(present: ColumnSet) -> Self {
        if present.meets(DELTA) {
            Self::Delta
        } else if present.meets(TWO_WAY) {
            Self::TwoWay
        } else {
            Self::Total
        }
    }
}

/// Which columns hold the volume of a segment's rows.
#[derive(Clone, Copy)]
enum Counts<'a> {
    /// One way: packets and octets, and the link layer's octets in front of each packet.
    Delta(Values<'a, u64>, Values<'a, u64>, Option<Values<'a, u16>>),
    /// Both ways.
    TwoWay(Values<'a, u64>, Values<'a, u64>, Values<'a, u64>, Values<'a, u64>),
    /// Since the flow began.
    Total(Values<'a, u64>, Values<'a, u64>),
}

/// Packets and octets as exported, IP octets only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exported {
    pub(crate) packets: u64,
    pub(crate) octets: u64,
}

impl Exported {
    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.packets == 0 && self.octets == 0
    }

    fn plus(self, other: Self) -> Self {
        Self { packets: self.packets.saturating_add(other.packets), octets: self.octets.saturating_add(other.octets) }
    }
}

#[inline]
#[expect(clippy::indexing_slicing, reason = "taken modulo the length")]
pub(crate) fn at<T: Copy>(column: Values<'_, T>, row: usize) -> T {
    column[row % GROUP_ROWS]
}

/// The volumes of some rows of a segment; zeroes where it has no such column.
#[derive(Clone, Copy)]
pub(crate) struct Volumes<'a> {
    counts: Counts<'a>,
    reverse_packets: Values<'a, u64>,
    reverse_octets: Values<'a, u64>,
    /// Whether a row may tell of both directions.
    pub(crate) is_two_way: bool,
}

impl<'a> Volumes<'a> {
    /// Those of the rows of a segment from `skipped` on, as many as make a group.
    #[inline]
    pub(crate) fn new(batch: &'a FlowBatch, segment: &Segment, skipped: usize) -> Self {
        let present = segment.origin.present;
        let first = segment.first + skipped;
        macro_rules! column {
            ($name:ident, $variant:ident) => {
                if present.has(Column::$variant) {
                    batch.$name.get(first..).and_then(|values| values.first_chunk()).unwrap_or(&[0; GROUP_ROWS])
                } else {
                    &[0; GROUP_ROWS]
                }
            };
        }
        let counts = match Told::of(present) {
            Told::Delta => Counts::Delta(
                column!(packet_delta_count, PacketDeltaCount),
                column!(octet_delta_count, OctetDeltaCount),
                present.has(Column::LinkLayerOctets).then(|| column!(link_layer_octets, LinkLayerOctets)),
            ),
            Told::TwoWay => Counts::TwoWay(
                column!(initiator_packets, InitiatorPackets),
                column!(initiator_octets, InitiatorOctets),
                column!(responder_packets, ResponderPackets),
                column!(responder_octets, ResponderOctets),
            ),
            Told::Total => Counts::Total(column!(packet_total_count, PacketTotalCount), column!(octet_total_count, OctetTotalCount)),
        };
        Self {
            is_two_way: present.meets(REVERSE) || matches!(counts, Counts::TwoWay(..)),
            counts,
            reverse_packets: column!(reverse_packet_delta_count, ReversePacketDeltaCount),
            reverse_octets: column!(reverse_octet_delta_count, ReverseOctetDeltaCount),
        }
    }

    /// What went from source to destination.
    #[inline]
    pub(crate) fn forth(&self, row: usize) -> Exported {
        match self.counts {
            Counts::Delta(packets, octets, None) => Exported { packets: at(packets, row), octets: at(octets, row) },
            Counts::Delta(packets, octets, Some(link_layer)) => {
                let packets = at(packets, row);
                let link_layer = u64::from(at(link_layer, row)).saturating_mul(packets);
                Exported { packets, octets: at(octets, row).saturating_sub(link_layer) }
            }
            Counts::TwoWay(packets, octets, ..) | Counts::Total(packets, octets) => {
                Exported { packets: at(packets, row), octets: at(octets, row) }
            }
        }
    }

    /// What came back.
    pub(crate) fn back(&self, row: usize) -> Exported {
        let there = |packets, octets| Exported { packets: at(packets, row), octets: at(octets, row) };
        let back = there(self.reverse_packets, self.reverse_octets);
        match self.counts {
            Counts::TwoWay(_, _, packets, octets) => back.plus(there(packets, octets)),
            _ => back,
        }
    }
}
