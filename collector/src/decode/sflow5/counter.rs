//! What interfaces count themselves: the generic interface counters of sFlow's counter samples, kept until their second ends.

use schemas::interface::{Counter, CounterSample};
use schemas::net::Address;
use schemas::time::Timestamp;

use super::record::long_at;

/// Interface counters of all exporters in one second of one shard; 176 octets each.
const SAMPLES_MAX: usize = 16_384;
/// The uptime clock of a datagram is of 32 bits.
const UPTIME_WRAPS_AT: u64 = 1 << 32;
/// Octets of a generic interface counters record.
const RECORD_OCTETS: usize = 88;
/// The bit of `ifStatus` that is `ifOperStatus`.
const IS_OPERATING: u32 = 2;

/// The counters that came since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Counters {
    samples: Vec<(Address, CounterSample)>,
}

/// The counters on their way out of one datagram.
pub(super) struct Counting<'a> {
    counters: &'a mut Counters,
    exporter: Address,
    agent: Address,
    uptime_milliseconds: u32,
    arrival: Timestamp,
}

impl Counters {
    pub(super) fn of_datagram(&mut self, exporter: Address, agent: Address, uptime_milliseconds: u32, arrival: Timestamp) -> Counting<'_> {
        Counting { counters: self, exporter, agent, uptime_milliseconds, arrival }
    }

    /// What came, in the order in which it came.
    pub(super) fn take(&mut self) -> Vec<(Address, CounterSample)> {
        std::mem::take(&mut self.samples)
    }
}

impl Counting<'_> {
    /// Takes one record (sFlow Version 5, §5.4, `if_counters`); whether there was room for it, `None` if it is too short.
    pub(super) fn take(&mut self, record: &[u8]) -> Option<bool> {
        let sample = self.read(record)?;
        if self.counters.samples.len() >= SAMPLES_MAX {
            return Some(false);
        }
        self.counters.samples.push((self.exporter, sample));
        Some(true)
    }

    fn read(&self, record: &[u8]) -> Option<CounterSample> {
        let record = record.get(..RECORD_OCTETS)?;
        let counter = |offset| long_at(record, offset).map(Counter::of_sflow);
        let octets = |offset| {
            let value = long_long_at(record, offset)?;
            Some(if value == u64::MAX { Counter::Unknown } else { Counter::Bits64(value) })
        };
        Some(CounterSample {
            agent: self.agent,
            interface: long_at(record, 0)?,
            at: self.arrival,
            uptime_milliseconds: u64::from(self.uptime_milliseconds),
            uptime_wraps_at: UPTIME_WRAPS_AT,
            discontinuity: 0,
            speed_bits: long_long_at(record, 8)?,
            is_up: long_at(record, 20)? & IS_OPERATING != 0,
            octets_in: octets(24)?,
            packets_in: [counter(32)?, counter(36)?, counter(40)?],
            octets_out: octets(56)?,
            packets_out: [counter(64)?, counter(68)?, counter(72)?],
        })
    }
}

fn long_long_at(octets: &[u8], offset: usize) -> Option<u64> {
    octets.get(offset..)?.first_chunk().copied().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use flowparser_sflow::{CounterRecord, SflowParser, SflowSample};
    use schemas::flow::FlowBatch;
    use schemas::ledger::Ledger;

    use super::super::{Agents, Datagram, decode};
    use super::*;

    fn words(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    /// A generic record of interface `index` at 10 Gbit/s, its octets and packets from `numbers`.
    fn record(index: u32, octets: [u64; 2], packets: [u32; 6]) -> Vec<u8> {
        let mut record = words(&[index, 6]);
        record.extend(10_000_000_000_u64.to_be_bytes());
        record.extend(words(&[1, 3]));
        for (octets, packets) in octets.iter().zip(packets.chunks(3)) {
            record.extend(octets.to_be_bytes());
            record.extend(words(packets));
            record.extend(words(if record.len() < 60 { &[7, 8, 9] } else { &[7, 8, 0] }));
        }
        record
    }

    /// A datagram of agent 198.51.100.7 with one compact counter sample, of a vendor's record and these.
    fn datagram(records: &[Vec<u8>]) -> Vec<u8> {
        let count = u32::try_from(records.len()).unwrap();
        let mut sample = words(&[1, 11, count + 1, 0x0012_3001, 4, 0]);
        for record in records {
            sample.extend(words(&[1, u32::try_from(record.len()).unwrap()]));
            sample.extend(record);
        }
        let mut octets = words(&[5, 1, 0xc633_6407, 3, 1, 60_000, 1, 2, u32::try_from(sample.len()).unwrap()]);
        octets.extend(sample);
        octets
    }

    fn decoded(payload: &[u8]) -> (Vec<CounterSample>, Ledger) {
        let (mut agents, mut ledger, mut batch) = (Agents::default(), Ledger::default(), FlowBatch::with_capacity(16));
        let exporter = Address::from_v4(0xc000_0201);
        decode(&Datagram { exporter, source_port: 9, arrival: Timestamp(77), payload }, None, &mut agents, &mut ledger, &mut batch);
        let samples = agents.take_counters();
        assert!(samples.iter().all(|(told_by, _)| *told_by == exporter));
        assert_eq!(agents.take_counters(), [], "what was taken is gone");
        (samples.into_iter().map(|(_, sample)| sample).collect(), ledger)
    }

    #[test]
    fn a_generic_record_tells_octets_packets_speed_and_state() {
        let (samples, ledger) = decoded(&datagram(&[record(11, [5_000_000_000, 70], [1, 2, 3, 4, 5, u32::MAX])]));
        assert_eq!((ledger.counters_decoded, ledger.sets_malformed, ledger.counters_dropped), (2, 0, 0));
        let expected = CounterSample {
            agent: Address::from_v4(0xc633_6407),
            interface: 11,
            at: Timestamp(77),
            uptime_milliseconds: 60_000,
            uptime_wraps_at: 1 << 32,
            discontinuity: 0,
            speed_bits: 10_000_000_000,
            is_up: true,
            octets_in: Counter::Bits64(5_000_000_000),
            octets_out: Counter::Bits64(70),
            packets_in: [1, 2, 3].map(Counter::Bits32),
            packets_out: [Counter::Bits32(4), Counter::Bits32(5), Counter::Unknown],
        };
        assert_eq!(samples, [expected]);
    }

    #[test]
    fn a_datagram_cut_anywhere_gives_no_counters_beyond_the_cut() {
        let whole = datagram(&[record(1, [1, 2], [0; 6]), record(2, [3, 4], [0; 6])]);
        for length in 0..whole.len() {
            let (samples, ledger) = decoded(&whole[..length]);
            assert_eq!((samples.len(), ledger.datagrams_malformed), (0, 1), "cut at {length}");
        }
        let mut short = record(1, [1, 2], [0; 6]);
        short.truncate(84);
        assert_eq!(decoded(&datagram(&[short])).1.sets_malformed, 1, "a record shorter than its kind");
    }

    #[test]
    fn what_is_over_the_bound_is_counted() {
        let (mut agents, mut ledger, mut batch) = (Agents::default(), Ledger::default(), FlowBatch::with_capacity(16));
        let payload = datagram(&vec![record(1, [1, 2], [0; 6]); 500]);
        for _ in 0..40 {
            let datagram = Datagram { exporter: Address::from_v4(1), source_port: 9, arrival: Timestamp(77), payload: &payload };
            decode(&datagram, None, &mut agents, &mut ledger, &mut batch);
        }
        assert_eq!((agents.take_counters().len(), ledger.counters_dropped), (16_384, 40 * 500 - 16_384));
    }

    /// Index, speed, state, octets and packets.
    type Row = (u32, u64, bool, [u64; 2], [u32; 6]);

    /// What the library finds: index, speed, state, octets and packets of every generic record.
    fn oracle(payload: &[u8]) -> Vec<Row> {
        let datagrams = SflowParser::default().parse_bytes(payload).datagrams;
        let records = datagrams.into_iter().flat_map(|datagram| datagram.samples).flat_map(|sample| match sample {
            SflowSample::Counter(counter) => counter.records,
            SflowSample::ExpandedCounter(counter) => counter.records,
            _ => Vec::new(),
        });
        let generic = records.filter_map(|record| match record {
            CounterRecord::GenericInterface(generic) => Some(generic),
            _ => None,
        });
        let row = |it: flowparser_sflow::counter_records::GenericInterface| {
            let packets = [
                it.if_in_ucast_pkts,
                it.if_in_multicast_pkts,
                it.if_in_broadcast_pkts,
                it.if_out_ucast_pkts,
                it.if_out_multicast_pkts,
                it.if_out_broadcast_pkts,
            ];
            (it.if_index, it.if_speed, it.if_status & 2 != 0, [it.if_in_octets, it.if_out_octets], packets)
        };
        generic.map(row).collect()
    }

    fn plain(counter: Counter) -> u64 {
        match counter {
            Counter::Unknown => u64::MAX,
            Counter::Bits32(value) => value.into(),
            Counter::Bits64(value) => value,
        }
    }

    fn row(sample: &CounterSample) -> Row {
        let packets =
            |index: usize| u32::try_from(plain([sample.packets_in, sample.packets_out][index / 3][index % 3])).unwrap_or(u32::MAX);
        let octets = [plain(sample.octets_in), plain(sample.octets_out)];
        (sample.interface, sample.speed_bits, sample.is_up, octets, std::array::from_fn(packets))
    }

    proptest::proptest! {
        #[test]
        fn sound_counters_decode_as_the_library_does_it(
            records in proptest::collection::vec(
                (proptest::prelude::any::<u32>(), proptest::prelude::any::<[u64; 2]>(), proptest::prelude::any::<[u32; 6]>()), 0..20),
        ) {
            let encoded: Vec<_> = records.iter().map(|&(index, octets, packets)| record(index, octets, packets)).collect();
            let payload = datagram(&encoded);
            let (samples, _) = decoded(&payload);
            proptest::prop_assert_eq!(samples.iter().map(row).collect::<Vec<_>>(), oracle(&payload));
            proptest::prop_assert_eq!(samples.len(), records.len());
        }
    }
}
