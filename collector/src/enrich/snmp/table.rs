//! What a device tells of its interfaces by the IF-MIB (RFC 2863), from single values to names and counters.

use std::collections::BTreeMap;

use schemas::interface::{Counter, CounterSample};
use schemas::net::Address;
use schemas::time::Timestamp;

use crate::enrich::interface::Told;

/// `sysUpTime.0`, in hundredths of a second.
pub(super) const UPTIME: &[u64] = &[1, 3, 6, 1, 2, 1, 1, 3, 0];
const IF_ENTRY: &[u64] = &[1, 3, 6, 1, 2, 1, 2, 2, 1];
const IF_X_ENTRY: &[u64] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1];
/// `ifOperStatus` up.
const UP: u64 = 1;
const UPTIME_WRAPS_AT: u64 = (1 << 32) * 10;

/// A column of `ifTable` or `ifXTable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Name,
    Alias,
    HighSpeed,
    OperStatus,
    DiscontinuityTime,
    HighOctetsIn,
    HighPacketsIn(u8),
    HighOctetsOut,
    HighPacketsOut(u8),
    Description,
    Speed,
    OctetsIn,
    UnicastIn,
    OctetsOut,
    UnicastOut,
}

use Column as C;

/// What every device is asked.
pub(super) const COLUMNS: &[Column] = &[
    C::Name,
    C::Alias,
    C::HighSpeed,
    C::OperStatus,
    C::DiscontinuityTime,
    C::HighOctetsIn,
    C::HighOctetsOut,
    C::HighPacketsIn(0),
    C::HighPacketsIn(1),
    C::HighPacketsIn(2),
    C::HighPacketsOut(0),
    C::HighPacketsOut(1),
    C::HighPacketsOut(2),
    C::Description,
    C::Speed,
];
/// What one is asked besides that has no counters of 64 bits.
pub(super) const LOW_COLUMNS: &[Column] = &[C::OctetsIn, C::OctetsOut, C::UnicastIn, C::UnicastOut];

impl Column {
    /// Its object identifier.
    pub(super) fn identifier(self) -> Vec<u64> {
        let (table, number) = match self {
            C::Description => (IF_ENTRY, 2),
            C::Speed => (IF_ENTRY, 5),
            C::OperStatus => (IF_ENTRY, 8),
            C::OctetsIn => (IF_ENTRY, 10),
            C::UnicastIn => (IF_ENTRY, 11),
            C::OctetsOut => (IF_ENTRY, 16),
            C::UnicastOut => (IF_ENTRY, 17),
            C::Name => (IF_X_ENTRY, 1),
            C::HighOctetsIn => (IF_X_ENTRY, 6),
            // Unicast, multicast, broadcast.
            C::HighPacketsIn(kind) => (IF_X_ENTRY, 7 + u64::from(kind)),
            C::HighOctetsOut => (IF_X_ENTRY, 10),
            C::HighPacketsOut(kind) => (IF_X_ENTRY, 11 + u64::from(kind)),
            C::HighSpeed => (IF_X_ENTRY, 15),
            C::Alias => (IF_X_ENTRY, 18),
            C::DiscontinuityTime => (IF_X_ENTRY, 19),
        };
        [table, &[number]].concat()
    }

    /// Whether it has cells of this kind. Counters, gauges and integers are all numbers: agents mix them up.
    fn has(self, cell: &Cell) -> bool {
        match cell {
            Cell::Text(_) => matches!(self, C::Name | C::Alias | C::Description),
            Cell::Number(_) => !matches!(self, C::Name | C::Alias | C::Description),
            Cell::Other | Cell::Missing | Cell::End => false,
        }
    }
}

/// A value that a device tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Number(u64),
    Text(Box<str>),
    /// Of a kind that none of our columns has, or a number below 0.
    Other,
    /// There is none of this name: noSuchObject or noSuchInstance (RFC 3416 section 4.2.1).
    Missing,
    /// There is no more: endOfMibView.
    End,
}

/// The interfaces of one device at one moment.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) uptime_milliseconds: u64,
    rows: BTreeMap<u32, BTreeMap<Column, Cell>>,
}

impl Table {
    /// Takes a cell; answers whether it is of the column's kind.
    pub(super) fn put(&mut self, column: Column, interface: u32, cell: Cell) -> bool {
        let fits = column.has(&cell);
        if fits {
            self.rows.entry(interface).or_default().insert(column, cell);
        }
        fits
    }

    /// Whether any interface tells a counter of 64 bits.
    pub(super) fn has_high_counters(&self) -> bool {
        self.rows.values().any(|row| row.contains_key(&C::HighOctetsIn))
    }

    pub(super) fn interfaces(&self) -> usize {
        self.rows.len()
    }

    /// Names, descriptions, speeds.
    pub(super) fn told(&self) -> Vec<Told> {
        let told = self.rows.iter().map(|(&interface, row)| {
            let (name, alias) = (text(row, C::Name), text(row, C::Alias));
            // Devices without an alias describe what the interface is in `ifDescr`, some by its name.
            let description = [alias, text(row, C::Description)].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
            Told {
                interface,
                name: name.into(),
                description: if description == name { "" } else { description }.into(),
                speed_bits: speed_bits(row),
                is_up: number(row, C::OperStatus).map(|status| status == UP),
            }
        });
        told.collect()
    }

    /// The counters of interfaces that have any.
    pub(super) fn samples(&self, device: Address, at: Timestamp) -> Vec<CounterSample> {
        let sample = |(&interface, row): (&u32, &BTreeMap<Column, Cell>)| {
            let (octets_in, octets_out) = (counter(row, C::HighOctetsIn, C::OctetsIn), counter(row, C::HighOctetsOut, C::OctetsOut));
            let packets = |high: fn(u8) -> Column, low: Column| {
                let kinds = [0, 1, 2].map(|kind| number(row, high(kind)).map_or(Counter::Unknown, Counter::Bits64));
                if kinds == [Counter::Unknown; 3] { [counter(row, low, low), Counter::Unknown, Counter::Unknown] } else { kinds }
            };
            (octets_in != Counter::Unknown || octets_out != Counter::Unknown).then(|| CounterSample {
                agent: device,
                interface,
                at,
                uptime_milliseconds: self.uptime_milliseconds,
                uptime_wraps_at: UPTIME_WRAPS_AT,
                discontinuity: number(row, C::DiscontinuityTime).unwrap_or(0),
                speed_bits: speed_bits(row),
                is_up: number(row, C::OperStatus) == Some(UP),
                octets_in,
                octets_out,
                packets_in: packets(C::HighPacketsIn, C::UnicastIn),
                packets_out: packets(C::HighPacketsOut, C::UnicastOut),
            })
        };
        self.rows.iter().filter_map(sample).collect()
    }
}

fn text(row: &BTreeMap<Column, Cell>, column: Column) -> &str {
    match row.get(&column) {
        Some(Cell::Text(text)) => text,
        _ => "",
    }
}

fn number(row: &BTreeMap<Column, Cell>, column: Column) -> Option<u64> {
    match row.get(&column) {
        Some(Cell::Number(number)) => Some(*number),
        _ => None,
    }
}

/// `ifHighSpeed` in millions, or `ifSpeed` where that is 0.
fn speed_bits(row: &BTreeMap<Column, Cell>) -> u64 {
    let high = number(row, C::HighSpeed).unwrap_or(0).saturating_mul(1_000_000);
    // The largest number says that the speed is larger than it can say.
    if high != 0 { high } else { number(row, C::Speed).filter(|speed| *speed != u64::from(u32::MAX)).unwrap_or(0) }
}

fn counter(row: &BTreeMap<Column, Cell>, high: Column, low: Column) -> Counter {
    if high != low
        && let Some(number) = number(row, high)
    {
        return Counter::Bits64(number);
    }
    number(row, low).and_then(|number| u32::try_from(number).ok()).map_or(Counter::Unknown, Counter::Bits32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_tells_its_best_name_speed_and_counters() {
        let mut table = Table { uptime_milliseconds: 70, ..Table::default() };
        for (column, cell) in [
            (C::Name, Cell::Text("xe-0/0/1".into())),
            (C::Alias, Cell::Text("transit".into())),
            (C::Description, Cell::Text("xe-0/0/1".into())),
            (C::HighSpeed, Cell::Number(100_000)),
            (C::Speed, Cell::Number(u32::MAX.into())),
            (C::OperStatus, Cell::Number(1)),
            (C::HighOctetsIn, Cell::Number(1 << 40)),
            (C::HighOctetsOut, Cell::Number(6)),
            (C::HighPacketsIn(1), Cell::Number(7)),
        ] {
            assert!(table.put(column, 3, cell));
        }
        for (column, interface, cell) in [
            (C::Description, 4, Cell::Text("Ethernet4".into())),
            (C::Speed, 4, Cell::Number(10_000_000)),
            (C::OctetsIn, 5, Cell::Number(11)),
            (C::UnicastIn, 5, Cell::Number(12)),
        ] {
            assert!(table.put(column, interface, cell));
        }
        let told = table.told();
        assert_eq!((&*told[0].name, &*told[0].description, told[0].speed_bits), ("xe-0/0/1", "transit", 100_000_000_000));
        assert_eq!((told[0].is_up, told[1].is_up, &*told[1].description, told[1].speed_bits), (Some(true), None, "Ethernet4", 10_000_000));
        let samples = table.samples(Address(9), Timestamp(5));
        assert_eq!(samples.iter().map(|sample| sample.interface).collect::<Vec<_>>(), [3, 5], "number 4 counts nothing");
        assert_eq!((samples[0].octets_in, samples[0].packets_in[1]), (Counter::Bits64(1 << 40), Counter::Bits64(7)));
        assert_eq!((samples[1].octets_in, samples[1].octets_out), (Counter::Bits32(11), Counter::Unknown));
        assert_eq!((samples[1].packets_in[0], samples[0].uptime_milliseconds), (Counter::Bits32(12), 70));
    }

    #[test]
    fn a_cell_of_another_kind_is_not_taken_and_hides_nothing() {
        let mut table = Table::default();
        for (column, cell) in [
            (C::Name, Cell::Number(7)),
            (C::HighSpeed, Cell::Text("fast".into())),
            (C::HighOctetsIn, Cell::Text("many".into())),
            (C::HighOctetsOut, Cell::Other),
            (C::Alias, Cell::Missing),
        ] {
            assert!(!table.put(column, 1, cell));
        }
        // Such a one is no counter of 64 bits: the device is asked for those of 32.
        assert!(!table.has_high_counters() && table.interfaces() == 0);
    }

    #[test]
    fn columns_are_those_of_the_if_mib() {
        assert_eq!(C::HighOctetsOut.identifier(), [1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 10]);
        assert_eq!(C::HighPacketsOut(2).identifier(), [1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 13]);
        assert_eq!(C::OperStatus.identifier(), [1, 3, 6, 1, 2, 1, 2, 2, 1, 8]);
    }
}
