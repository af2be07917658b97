//! What is normal of each node, in numbers for people: mean, percentiles and protocol mix of the last seven days' minutes.

use std::collections::BTreeMap;

use schemas::counter::{Direction, HostReport, Target};
use schemas::net::Address;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::level::{Level, OCTAVE};

const MINUTE_MILLISECONDS: u64 = 60_000;
/// Minutes after which one weighs half as much: of all weights nine tenths are of the last seven days.
const HALF_MINUTES: f64 = 3_024.0;
/// Steps of the scale in a bin, a sixteenth of an octave: percentiles are right to 2.2 %.
const BIN: u16 = OCTAVE / 16;
/// What weighs less than this is forgotten.
const WEIGHT_MIN: f64 = 1e-3;

/// What is normal of one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeBaseline {
    /// Mean packets a second.
    pub avg_pps: f64,
    /// 95th percentile of the minutes.
    pub p95_pps: f64,
    /// 99th percentile of the minutes.
    pub p99_pps: f64,
    /// Percent of the packets that are TCP, UDP, ICMP and other; `None` while there was none.
    pub protocols: Option<[f64; 4]>,
}

/// Minutes that fade: how many had which rate, by bins of its logarithm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Faded {
    /// Weights of the minutes by bin; the lowest is of those without a packet.
    bins: BTreeMap<u16, f64>,
    /// Packets by TCP, UDP, ICMP and other.
    packets: [f64; 4],
    /// Minutes, those that have faded in full.
    minutes: u64,
}

impl Faded {
    fn add(&mut self, packets: [f64; 4]) {
        let factor = (-1.0 / HALF_MINUTES).exp2();
        self.bins.values_mut().chain(&mut self.packets).for_each(|weight| *weight *= factor);
        self.bins.retain(|_, weight| *weight >= WEIGHT_MIN);
        let rate = packets.iter().sum::<f64>() * 1_000.0 / MINUTE_MILLISECONDS as f64;
        *self.bins.entry(Level::of(rate).0.div_ceil(BIN)).or_default() += 1.0;
        self.packets.iter_mut().zip(packets).for_each(|(sum, packets)| *sum += packets);
        self.minutes += 1;
    }

    fn weight(&self) -> f64 {
        self.bins.values().sum()
    }

    /// The middle of the bin below which a part of the minutes lies.
    fn quantile(&self, part: f64) -> f64 {
        let mut left = self.weight() * part;
        let found = self.bins.iter().find(|(_, weight)| {
            left -= **weight;
            left <= 0.0
        });
        let bin = found.or(self.bins.last_key_value()).map_or(0, |(bin, _)| *bin);
        Level(bin.saturating_mul(BIN).saturating_sub(if bin == 0 { 0 } else { BIN / 2 })).rate()
    }
}

/// One node: its minutes, and the packets of the one that is running.
#[derive(Debug, Default)]
struct Node {
    faded: Faded,
    minute: [f64; 4],
}

/// The nodes, at most so many.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: BTreeMap<Address, Node>,
    nodes_max: usize,
    /// The minute that is running; its number, and whether it was watched from its begin.
    minute: u64,
    is_whole: bool,
    heard: bool,
}

impl Nodes {
    pub(super) fn new(nodes_max: usize) -> Self {
        Self { nodes: BTreeMap::new(), nodes_max, minute: 0, is_whole: false, heard: false }
    }

    /// Keeps these nodes and no others; returns how many found no room.
    pub(super) fn keep(&mut self, addresses: impl IntoIterator<Item = Address>) -> usize {
        let mut known = std::mem::take(&mut self.nodes);
        let mut refused = 0;
        for address in addresses {
            if self.nodes.len() < self.nodes_max {
                self.nodes.insert(address, known.remove(&address).unwrap_or_default());
            } else {
                refused += usize::from(!self.nodes.contains_key(&address));
            }
        }
        refused
    }

    pub(super) fn report(&mut self, report: &HostReport) {
        self.heard = true;
        if report.target.direction != Direction::Incoming || self.nodes.is_empty() || !report.target.prefix.is_host() {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&report.target.prefix.first()) {
            let volume = &report.volume;
            let known = [volume.tcp_packets, volume.udp_packets, volume.icmp_packets];
            let other = (volume.packets - known.iter().sum::<f64>()).max(0.0);
            node.minute.iter_mut().zip(known.into_iter().chain([other])).for_each(|(sum, packets)| *sum += packets);
        }
    }

    /// Closes the minute before `now`: of every node but those that are `held`, with nothing where nothing came, unless nobody was heard at all.
    pub(super) fn close(&mut self, now: Timestamp, is_held: impl Fn(Target) -> bool) {
        let minute = now.milliseconds() / MINUTE_MILLISECONDS;
        if minute == self.minute {
            return;
        }
        let learns = self.is_whole && self.heard && minute == self.minute + 1;
        (self.is_whole, self.heard) = (self.minute != 0 && minute == self.minute + 1, false);
        self.minute = minute;
        for (address, node) in &mut self.nodes {
            let packets = std::mem::take(&mut node.minute);
            if learns && !is_held(Target { prefix: address.host(), direction: Direction::Incoming }) {
                node.faded.add(packets);
            }
        }
    }

    /// What is normal of the node at an address; `None` while fewer than `minutes_min` are known.
    pub(super) fn get(&self, address: Address, minutes_min: u64) -> Option<NodeBaseline> {
        let faded = &self.nodes.get(&address)?.faded;
        let sum: f64 = faded.packets.iter().sum();
        (faded.minutes >= minutes_min.max(1)).then(|| NodeBaseline {
            avg_pps: sum * 1_000.0 / MINUTE_MILLISECONDS as f64 / faded.weight(),
            p95_pps: faded.quantile(0.95),
            p99_pps: faded.quantile(0.99),
            protocols: (sum > 0.0).then(|| faded.packets.map(|packets| packets / sum * 100.0)),
        })
    }

    /// The minutes of every node, as JSON.
    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.nodes.iter().map(|(address, node)| (address, &node.faded)).collect::<Vec<_>>())
    }

    /// Takes up minutes that were saved; [`Nodes::keep`] tells later whose still count.
    pub(super) fn restore(&mut self, json: &[u8]) -> serde_json::Result<()> {
        let saved: Vec<(Address, Faded)> = serde_json::from_slice(json)?;
        for (address, faded) in saved.into_iter().take(self.nodes_max) {
            self.nodes.entry(address).or_default().faded = faded;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use schemas::counter::Volume;

    use super::*;

    const MINUTE: u64 = MINUTE_MILLISECONDS;
    const START: u64 = 20_000 * 86_400_000;

    fn address() -> Address {
        "203.0.113.7".parse().unwrap()
    }

    /// A minute of so many packets a second, three quarters of them TCP.
    fn minute(nodes: &mut Nodes, number: u64, packets_per_second: f64, is_held: bool) {
        let target = Target { prefix: address().host(), direction: Direction::Incoming };
        let packets = packets_per_second * 60.0;
        let volume = Volume { packets, tcp_packets: packets * 0.75, udp_packets: packets * 0.25, ..Volume::default() };
        nodes.close(Timestamp(START + number * MINUTE), |_| is_held);
        nodes.report(&HostReport { target, volume });
    }

    #[test]
    fn percentiles_are_of_the_minutes_and_those_of_attacks_are_left_out() {
        let mut nodes = Nodes::new(10);
        assert_eq!(nodes.keep([address()]), 0);
        // 1,000 minutes of 1 to 1,000 packets/s, in no order.
        (0..1_000).for_each(|number| minute(&mut nodes, number, 1.0 + (number * 7 % 1_000) as f64, false));
        // The minute before was a flood.
        minute(&mut nodes, 1_000, 1e6, false);
        minute(&mut nodes, 1_001, 0.0, true);
        let normal = nodes.get(address(), 30).unwrap();
        // The first minute was not watched from its begin, and is left out.
        assert!((normal.avg_pps / 500.0 - 1.0).abs() < 0.01, "{normal:?}");
        assert!((normal.p95_pps / 950.0 - 1.0).abs() < 0.03 && (normal.p99_pps / 990.0 - 1.0).abs() < 0.03, "{normal:?}");
        assert_eq!(normal.protocols.map(|parts| parts.map(f64::round)), Some([75.0, 25.0, 0.0, 0.0]));
    }

    #[test]
    fn what_was_fades_and_time_away_is_no_silence() {
        let mut nodes = Nodes::new(10);
        nodes.keep([address()]);
        (0..100).for_each(|number| minute(&mut nodes, number, 1_000.0, false));
        let mut again = Nodes::new(10);
        again.restore(&nodes.to_json().unwrap()).unwrap();
        assert_eq!(again.keep([address()]), 0);
        let (was, is) = (nodes.get(address(), 1).unwrap(), again.get(address(), 1).unwrap());
        assert!((was.avg_pps / is.avg_pps - 1.0).abs() < 1e-9 && was.p99_pps == is.p99_pps);
        // Three days off.
        (4_320..4_420).for_each(|number| minute(&mut again, number, 1_000.0, false));
        assert!((again.get(address(), 1).unwrap().avg_pps - 1_000.0).abs() < 1.0);
        // After three weeks of another rate the first 200 minutes weigh 2⁻¹⁰ of 4,363, which is what minutes that halve in 3,024 come to.
        (5_000..35_240).for_each(|number| minute(&mut again, number, 10.0, false));
        let normal = again.get(address(), 1).unwrap();
        assert!((normal.avg_pps / 10.0 - 1.0).abs() < 0.01 && (normal.p99_pps / 10.0 - 1.0).abs() < 0.03, "{normal:?}");
        assert_eq!(again.keep([]), 0);
        assert_eq!(again.get(address(), 1), None);
    }
}
