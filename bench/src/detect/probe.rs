//! Exporters as routers and switches behave: what they sample they send at once, after a while, or when a flow has ended.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use bench::synthesize::{Exporter, Flow, Layout, Protocol, Random};
use schemas::net::Address;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::wire::{Micros, SECOND, stamp, unit};

/// How an exporter tells of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Behaviour {
    /// A mirror port: every packet, at once.
    Mirror,
    /// sFlow version 5: each sample in a datagram that goes when it is full, and each 100 ms.
    Sflow,
    /// NetFlow version 9: a cache of flows with an active timeout of 60 s and an inactive one of 15 s.
    Netflow9,
    /// The same in IPFIX.
    Ipfix,
}

impl Behaviour {
    /// Whether it keeps flows until they time out.
    pub(super) fn is_cache(self) -> bool {
        matches!(self, Self::Netflow9 | Self::Ipfix)
    }

    /// Its word in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Sflow => "sFlow",
            Self::Netflow9 => "v9",
            Self::Ipfix => "IPFIX",
        }
    }
}

/// One exporter of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    /// How it tells.
    pub(super) behaviour: Behaviour,
    /// It samples one packet in so many, at random.
    #[serde(default = "one")]
    pub(super) interval: u32,
    /// Part of its datagrams, 0 to 1, that never arrive.
    #[serde(default)]
    pub(super) loss: f64,
}

fn one() -> u32 {
    1
}

impl Telemetry {
    /// Its word in tables: `sFlow 1:1024`, `v9 1:1, 10 % lost`.
    pub(super) fn name(&self) -> String {
        let lost = if self.loss > 0.0 { format!(", {:.0} % lost", self.loss * 100.0) } else { String::new() };
        if self.behaviour == Behaviour::Mirror {
            return format!("mirror{lost}");
        }
        format!("{} 1:{}{lost}", self.behaviour.name(), self.interval)
    }
}

/// Milliseconds after which an sFlow agent sends a datagram that is not full.
const FLUSH: Micros = SECOND / 10;
/// Timeouts of a cache, and how often it looks for what has timed out.
const ACTIVE: Micros = 60 * SECOND;
const INACTIVE: Micros = 15 * SECOND;
const AGEING: Micros = SECOND;
/// Flows that a cache holds; of more, those that end soonest are sent before their time, as routers do.
const FLOWS_MAX: usize = 1 << 18;

/// What arrives at the collector.
pub(super) struct Delivery<'a> {
    /// Who sent it.
    pub(super) exporter: Address,
    /// When.
    pub(super) at: Timestamp,
    /// The datagram; `None` for a frame of a mirror port, which is that of the only flow.
    pub(super) datagram: Option<&'a [u8]>,
    /// The records in it.
    pub(super) flows: &'a [Flow],
    /// What each of them is to be multiplied with.
    pub(super) interval: u32,
}

/// Addresses, ports and protocol.
type Key = (Address, Address, u16, u16, u8);

/// An exporter at work.
pub(super) struct Probe {
    telemetry: Telemetry,
    address: Address,
    exporter: Exporter,
    random: Random,
    waiting: Vec<Flow>,
    due: Micros,
    cache: HashMap<Key, Entry, BuildHasherDefault<DefaultHasher>>,
    /// The keys to look at in each second to come.
    wheel: Vec<Vec<Key>>,
    stalls: Vec<Stall>,
}

struct Entry {
    flow: Flow,
    first: Micros,
    last: Micros,
}

/// A time in which nothing is sent, at the end of which everything is, and the exporter starts anew.
#[derive(Clone, Copy, Debug)]
struct Stall {
    begins: Micros,
    ends: Micros,
}

impl Probe {
    /// The exporter of this number, at work since an hour.
    pub(super) fn new(number: usize, telemetry: Telemetry, seed: u64) -> Self {
        let protocol = match telemetry.behaviour {
            Behaviour::Netflow9 => Protocol::Netflow9,
            Behaviour::Ipfix => Protocol::Ipfix,
            Behaviour::Mirror | Behaviour::Sflow => Protocol::Sflow5,
        };
        let number = u32::try_from(number).unwrap_or(0);
        let layout = Layout { agent: Address::from_v4(0xc0a8_0000 + number), ..Layout::new(protocol, telemetry.interval) };
        let mut random = Random::new(seed ^ 0x7072_6f62 << 16 ^ u64::from(number));
        let period = if telemetry.behaviour.is_cache() { AGEING } else { FLUSH };
        let due = u64::from(random.below(u32::try_from(period).unwrap_or(1)));
        Self {
            telemetry,
            address: Address::from_v4(0xc0a8_0000 + number),
            exporter: Exporter::new(layout, Timestamp(stamp(0).0 - 3_600_000)),
            random,
            waiting: Vec::new(),
            due,
            cache: HashMap::default(),
            wheel: vec![Vec::new(); 64],
            stalls: Vec::new(),
        }
    }

    /// Lets it send nothing for a while, then all that has waited, and start anew: a router that is restarted.
    pub(super) fn stall(&mut self, begins: Micros, ends: Micros) {
        self.stalls.push(Stall { begins, ends });
    }

    /// When it sends next of its own accord.
    pub(super) fn due(&self) -> Micros {
        if self.telemetry.behaviour == Behaviour::Mirror { Micros::MAX } else { self.due }
    }

    /// Takes a packet that it has sampled.
    pub(super) fn packet(&mut self, flow: Flow, at: Micros, take: &mut dyn FnMut(&Delivery<'_>)) {
        match self.telemetry.behaviour {
            Behaviour::Mirror => {
                if !self.is_lost() {
                    take(&Delivery { exporter: self.address, at: stamp(at), datagram: None, flows: &[flow], interval: 1 });
                }
            }
            Behaviour::Sflow => {
                self.waiting.push(flow);
                if self.waiting.len() >= self.exporter.records_max(true) {
                    self.send(at, take);
                }
            }
            Behaviour::Netflow9 | Behaviour::Ipfix => self.keep(flow, at),
        }
    }

    /// Does what is due at `at`.
    pub(super) fn act(&mut self, at: Micros, take: &mut dyn FnMut(&Delivery<'_>)) {
        let is_cache = self.telemetry.behaviour.is_cache();
        self.due += if is_cache { AGEING } else { FLUSH };
        if is_cache {
            self.age(at);
        }
        let ended = self.stalls.iter().position(|stall| at >= stall.ends);
        if ended.is_none() && self.stalls.iter().any(|stall| at >= stall.begins) {
            return;
        }
        if let Some(ended) = ended {
            self.stalls.swap_remove(ended);
            for place in 0..self.wheel.len() {
                self.give_up(place);
            }
        }
        self.send(at, take);
        if ended.is_some() {
            self.exporter = Exporter::new(self.exporter.layout().clone(), stamp(at));
        }
    }

    fn is_lost(&mut self) -> bool {
        self.telemetry.loss > 0.0 && unit(&mut self.random) < self.telemetry.loss
    }

    /// Sends what waits, templates in front when they are due.
    fn send(&mut self, at: Micros, take: &mut dyn FnMut(&Delivery<'_>)) {
        let (now, interval, exporter) = (stamp(at), self.telemetry.interval, self.address);
        if self.exporter.announcement_due(now)
            && let Some(draft) = self.exporter.announcement(now)
            && !self.is_lost()
        {
            take(&Delivery { exporter, at: now, datagram: Some(draft.octets()), flows: &[], interval });
        }
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (v4, v6): (Vec<Flow>, Vec<Flow>) = waiting.iter().partition(|flow| flow.source.is_v4());
        for family in [v4, v6] {
            let records_max = self.exporter.records_max(family.first().is_some_and(|flow| flow.source.is_v4()));
            for flows in family.chunks(records_max) {
                let mut draft = self.exporter.draft(now, flows);
                self.exporter.stamp(&mut draft, now);
                if !self.is_lost() {
                    take(&Delivery { exporter, at: now, datagram: Some(draft.octets()), flows, interval });
                }
            }
        }
        self.waiting = waiting;
        self.waiting.clear();
    }

    /// Adds a packet to its flow.
    fn keep(&mut self, flow: Flow, at: Micros) {
        let key = (flow.source, flow.destination, flow.source_port, flow.destination_port, flow.protocol);
        if let Some(entry) = self.cache.get_mut(&key) {
            entry.flow.packets += flow.packets;
            entry.flow.octets += flow.octets;
            entry.flow.tcp_control_bits |= flow.tcp_control_bits;
            (entry.flow.end, entry.last) = (flow.end, at);
            return;
        }
        if self.cache.len() >= FLOWS_MAX {
            let now = second(at);
            let fullest = (1..=16).map(|ahead| place(now + ahead)).max_by_key(|place| self.wheel.get(*place).map_or(0, Vec::len));
            self.give_up(fullest.unwrap_or(0));
        }
        let entry = Entry { flow, first: at, last: at };
        self.schedule(key, second(entry.due()) + 1);
        self.cache.insert(key, entry);
    }

    fn schedule(&mut self, key: Key, second: u64) {
        if let Some(keys) = self.wheel.get_mut(place(second)) {
            keys.push(key);
        }
    }

    /// Has what has timed out wait to be sent.
    fn age(&mut self, at: Micros) {
        let now = second(at);
        let keys = self.wheel.get_mut(place(now)).map(std::mem::take).unwrap_or_default();
        for key in keys {
            let Some(due) = self.cache.get(&key).map(Entry::due) else { continue };
            if due <= at {
                self.waiting.extend(self.cache.remove(&key).map(|entry| entry.flow));
            } else {
                self.schedule(key, second(due) + 1);
            }
        }
    }

    /// Has the flows of one place of the wheel wait to be sent, whether they have timed out or not.
    fn give_up(&mut self, place: usize) {
        let keys = self.wheel.get_mut(place).map(std::mem::take).unwrap_or_default();
        let given = keys.iter().filter_map(|key| self.cache.remove(key));
        self.waiting.extend(given.map(|entry| entry.flow));
    }
}

impl Entry {
    fn due(&self) -> Micros {
        (self.first + ACTIVE).min(self.last + INACTIVE)
    }
}

fn second(at: Micros) -> u64 {
    at / SECOND
}

/// Where a second is on the wheel.
fn place(second: u64) -> usize {
    usize::try_from(second % 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::vector::{Assault, Vector};
    use super::super::wire::Shape;
    use super::*;
    use schemas::counter::Direction;

    fn probe(behaviour: Behaviour) -> Probe {
        Probe::new(0, Telemetry { behaviour, interval: 1, loss: 0.0 }, 1)
    }

    /// Plays packets of one flow at these moments; answers the records with their moments of arrival, in seconds.
    fn play(probe: &mut Probe, moments: &[f64], until: f64) -> Vec<(f64, u64)> {
        let mut shape = Assault::new(Vector::NtpAmplification, 1, "10.0.0.7".parse().unwrap(), Direction::Incoming);
        let flow = shape.packet(&mut Random::new(1));
        let mut told = Vec::new();
        let mut take = |delivery: &Delivery<'_>| {
            let seconds = delivery.at.since(stamp(0)) as f64 / 1_000.0;
            told.extend(delivery.flows.iter().map(|flow| (seconds, flow.packets)));
        };
        let mut moments = moments.iter().map(|seconds| super::super::wire::micros(*seconds)).peekable();
        let end = super::super::wire::micros(until);
        while probe.due() < end || moments.peek().is_some() {
            if let Some(at) = moments.next_if(|at| *at <= probe.due()) {
                probe.packet(Flow { start: stamp(at), end: stamp(at), ..flow }, at, &mut take);
            } else {
                probe.act(probe.due(), &mut take);
            }
        }
        told
    }

    /// A flow that goes on is told of after 60 s, and what is left of it 15 s after its last packet; the cache looks once a second.
    #[test]
    fn a_cache_tells_after_its_timeouts() {
        let moments: Vec<f64> = (0..90).map(f64::from).collect();
        let told = play(&mut probe(Behaviour::Netflow9), &moments, 200.0);
        let [(first, before), (second, after)] = told.as_slice() else { panic!("{told:?}") };
        assert!((60.0..62.5).contains(first) && (104.0..106.5).contains(second), "{told:?}");
        assert!(before + after == 90 && (60..=62).contains(before), "{told:?}");
    }

    #[test]
    fn an_agent_tells_within_a_tenth_of_a_second_and_a_full_datagram_at_once() {
        let moments: Vec<f64> = (0..50).map(|number| f64::from(number) * 0.3).collect();
        let told = play(&mut probe(Behaviour::Sflow), &moments, 30.0);
        let waited = told.iter().zip(&moments).map(|((told, _), sent)| told - sent);
        assert!(told.len() == 50 && waited.clone().all(|waited| (-0.001..0.101).contains(&waited)), "{told:?}");
        let burst: Vec<f64> = (0..12).map(|number| 1.0 + f64::from(number) / 1e4).collect();
        assert!(play(&mut probe(Behaviour::Sflow), &burst, 30.0).iter().all(|(told, _)| *told < 1.01));
    }

    /// What a router had to tell in a stall of 30 s comes at its end.
    #[test]
    fn what_waited_in_a_stall_comes_at_once() {
        let mut probe = probe(Behaviour::Ipfix);
        probe.stall(10 * SECOND, 40 * SECOND);
        let told = play(&mut probe, &[5.0, 30.0], 100.0);
        assert!(told.len() == 2 && told.iter().all(|(told, _)| (40.0..41.1).contains(told)), "{told:?}");
    }

    #[test]
    fn one_datagram_in_ten_is_lost() {
        let mut probe = Probe::new(0, Telemetry { behaviour: Behaviour::Sflow, interval: 1, loss: 0.1 }, 1);
        let moments: Vec<f64> = (0..2_000).map(|number| f64::from(number) * 0.2).collect();
        // 2,000 datagrams of one sample; 3.5 errors of 13.4 are 47.
        assert!(play(&mut probe, &moments, 500.0).len().abs_diff(1_800) < 47);
    }
}
