//! Two rules of the field on the same input, to be measured against: an average by arrival, and sums of a minute.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use bench::synthesize::Flow;
use schemas::counter::Direction;
use schemas::net::Address;
use schemas::time::Timestamp;

use super::judge::Alarm;
use super::probe::Delivery;
use super::scenario::Limits;
use super::wire::is_ours;

/// A map whose order is the same in every run.
type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Octets and packets of one record, sampling undone.
fn volume(flow: &Flow, interval: u32) -> (f64, f64) {
    let interval = f64::from(interval);
    (flow.packets as f64 * interval, flow.octets as f64 * interval)
}

/// FastNetMon's rule: for each host and direction an exponential average over 5 s of the rates by arrival, renewed each second, against a limit.
///
/// `average = speed + e^(-1/5) × (average − speed)`, as its `average_calculation_time` of 5 s and recalculation each second have it. A host
/// that is over the limit is banned for 1,900 s (`ban_time`), or for as long as it stays over: in that time it raises no other alarm.
pub(super) struct Average {
    packets_per_second: f64,
    bits_per_second: f64,
    hosts: Map<(Address, Direction), Host>,
    turned_at: Timestamp,
    /// What it has raised.
    pub(super) alarms: Vec<Alarm>,
}

#[derive(Default)]
struct Host {
    /// Packets and octets of this second.
    current: [f64; 2],
    average: [f64; 2],
    /// Its alarm, and until when it is banned at least.
    ban: Option<(usize, Timestamp)>,
}

const AVERAGE_SECONDS: f64 = 5.0;
const BAN_MILLISECONDS: u64 = 1_900_000;

impl Average {
    /// The rule with the limit that all hosts have.
    pub(super) fn new(limit: Limits) -> Self {
        let Limits { packets_per_second, bits_per_second } = limit;
        Self { packets_per_second, bits_per_second, hosts: Map::default(), turned_at: Timestamp::default(), alarms: Vec::new() }
    }

    /// Counts what has arrived.
    pub(super) fn take(&mut self, delivery: &Delivery<'_>) {
        for flow in delivery.flows {
            let (packets, octets) = volume(flow, delivery.interval);
            for (address, direction) in [(flow.destination, Direction::Incoming), (flow.source, Direction::Outgoing)] {
                if is_ours(address) {
                    let [own_packets, own_octets] = &mut self.hosts.entry((address, direction)).or_default().current;
                    *own_packets += packets;
                    *own_octets += octets;
                }
            }
        }
    }

    /// Renews the averages when a second is over.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if now.0 / 1_000 <= self.turned_at.0 / 1_000 {
            return;
        }
        self.turned_at = now;
        let kept = (-1.0 / AVERAGE_SECONDS).exp();
        let Self { packets_per_second, bits_per_second, alarms, .. } = self;
        self.hosts.retain(|(address, direction), host| {
            for (average, current) in host.average.iter_mut().zip(std::mem::take(&mut host.current)) {
                *average = current + kept * (*average - current);
            }
            let [packets, octets] = host.average;
            let over = packets > *packets_per_second || octets * 8.0 > *bits_per_second;
            match host.ban {
                None if over => {
                    alarms.push(Alarm::of(address.host(), *direction, now));
                    host.ban = Some((alarms.len() - 1, now.plus(BAN_MILLISECONDS)));
                }
                Some((alarm, until)) if now >= until && !over => {
                    alarms.get_mut(alarm).into_iter().for_each(|alarm| alarm.ended = Some(now));
                    host.ban = None;
                }
                _ => {}
            }
            host.ban.is_some() || packets > 0.01
        });
    }
}

/// The rule of a minute, as stacks on ClickHouse ask for it: for each destination of ours and minute of the clock, by arrival, UDP of over
/// 200 Mbit/s, or over 1 Gbit/s in all, or over 100 Mbit/s from over 20 sources or over 10 countries; asked at the end of the minute.
///
/// Where a scenario has another limit than 1 Gbit/s, all its figures are as many times smaller. Minutes in a row are one alarm.
pub(super) struct Minute {
    scale: f64,
    sums: Map<Address, Sums>,
    open: BTreeMap<Address, usize>,
    turned_at: Timestamp,
    /// What it has raised.
    pub(super) alarms: Vec<Alarm>,
}

#[derive(Default)]
struct Sums {
    octets: f64,
    udp_octets: f64,
    /// Different sources, no more than are asked for.
    sources: Vec<Address>,
    /// Different countries, a bit each.
    countries: u64,
}

const UDP: u8 = 17;
const SOURCES: usize = 20;
const COUNTRIES: u32 = 10;

impl Minute {
    /// The rule, scaled to the scenario's limit.
    pub(super) fn new(limit: Limits) -> Self {
        let scale = limit.bits_per_second / 1e9;
        Self { scale, sums: Map::default(), open: BTreeMap::new(), turned_at: Timestamp::default(), alarms: Vec::new() }
    }

    /// Counts what has arrived.
    pub(super) fn take(&mut self, delivery: &Delivery<'_>) {
        for flow in delivery.flows.iter().filter(|flow| is_ours(flow.destination)) {
            let (_, octets) = volume(flow, delivery.interval);
            let sums = self.sums.entry(flow.destination).or_default();
            sums.octets += octets;
            sums.udp_octets += if flow.protocol == UDP { octets } else { 0.0 };
            sums.countries |= 1 << country(flow.source);
            if sums.sources.len() <= SOURCES && !sums.sources.contains(&flow.source) {
                sums.sources.push(flow.source);
            }
        }
    }

    /// Asks when a minute is over.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if now.0 / 60_000 <= self.turned_at.0 / 60_000 {
            return;
        }
        self.turned_at = now;
        let mut open = BTreeMap::new();
        for (address, sums) in std::mem::take(&mut self.sums) {
            let megabits = |octets: f64| octets * 8.0 / 60.0 / 1e6 / self.scale;
            let (all, udp) = (megabits(sums.octets), megabits(sums.udp_octets));
            let many = sums.sources.len() > SOURCES || sums.countries.count_ones() > COUNTRIES;
            if udp > 200.0 || all > 1_000.0 || (all > 100.0 && many) {
                let before = self.open.remove(&address);
                open.insert(
                    address,
                    before.unwrap_or_else(|| {
                        self.alarms.push(Alarm::of(address.host(), Direction::Incoming, now));
                        self.alarms.len() - 1
                    }),
                );
            }
        }
        for (_, alarm) in std::mem::replace(&mut self.open, open) {
            self.alarms.get_mut(alarm).into_iter().for_each(|alarm| alarm.ended = Some(now));
        }
    }
}

/// The country that an address lies in, of 60 made-up ones: the same for all of an IPv4 /16 or IPv6 /32.
fn country(address: Address) -> u64 {
    let block = if address.is_v4() { address.0 >> 16 } else { address.0 >> 96 };
    u64::try_from(block & 0xffff_ffff).unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 60
}

#[cfg(test)]
mod tests {
    use bench::synthesize::Random;

    use super::super::vector::{Assault, Vector, stranger};
    use super::super::wire::{Shape, stamp};
    use super::*;

    const LIMITS: Limits = Limits { packets_per_second: 100_000.0, bits_per_second: 1e9 };

    fn flow(packets: u64) -> Flow {
        let mut shape = Assault::new(Vector::NtpAmplification, 1, "10.0.0.7".parse().unwrap(), Direction::Incoming);
        let flow = shape.packet(&mut Random::new(1));
        Flow { packets, octets: packets * 468, ..flow }
    }

    fn deliver(at: u64, flows: &[Flow], mut take: impl FnMut(&Delivery<'_>)) {
        take(&Delivery { exporter: Address(9), at: stamp(at), datagram: None, flows, interval: 10 });
    }

    /// At 1.5 times the limit the average passes it after n seconds, when 1.5 × (1 − e^(−n/5)) > 1: n > 5 × ln 3 = 5.49, so after 6.
    #[test]
    fn an_average_of_five_seconds_takes_six_to_see_half_more_than_the_limit() {
        let mut average = Average::new(LIMITS);
        average.tick(stamp(0));
        for second in 0..10u64 {
            deliver(second * 1_000_000, &[flow(15_000)], |delivery| average.take(delivery));
            average.tick(stamp((second + 1) * 1_000_000));
        }
        let opened: Vec<u64> = average.alarms.iter().map(|alarm| alarm.opened.since(stamp(0))).collect();
        assert_eq!(opened, [6_000]);
    }

    /// 200 Mbit/s of UDP for a minute are 3,205,129 packets of 468 octets; more from one source is an alarm, less is none, at the minute's end.
    #[test]
    fn a_minute_is_asked_at_its_end() {
        for (packets, alarms) in [(320_500, 0), (320_600, 1)] {
            let mut minute = Minute::new(LIMITS);
            minute.tick(stamp(0));
            deliver(30_000_000, &[flow(packets)], |delivery| minute.take(delivery));
            minute.tick(stamp(59_900_000));
            assert!(minute.alarms.is_empty());
            minute.tick(stamp(60_000_000));
            assert_eq!(minute.alarms.len(), alarms, "{packets}");
        }
        // 120 Mbit/s of TCP from 20 sources of 10 countries at the most, and from many.
        for (sources, alarms) in [(8, 0), (40, 1)] {
            let mut minute = Minute::new(LIMITS);
            minute.tick(stamp(0));
            let flows: Vec<Flow> =
                (0..sources).map(|number| Flow { protocol: 6, source: stranger(number, true), ..flow(1_923_077 / 10 / sources) }).collect();
            deliver(30_000_000, &flows, |delivery| minute.take(delivery));
            minute.tick(stamp(60_000_000));
            assert_eq!(minute.alarms.len(), alarms, "{sources}");
        }
    }
}
