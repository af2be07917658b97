//! Hosts at peace: a provider's mix of them over days, and what happens that looks like an attack and is none.

use bench::synthesize::Random;
use schemas::net::{Address, Prefix};

use super::judge::Alarm;
use super::probe::Probe;
use super::scenario::{Limits, Peace, Scenario};
use super::talk::{Kind, Mix, Talk};
use super::transfer::{self, Line, Sessions, Transfer};
use super::vector::stranger;
use super::wire::{Micros, Rate, SECOND, Stream, Wire, micros, normal, stamp, unit};

/// Hosts of a block: half of them share an IPv4 /24, half an IPv6 /48 with a /64 each.
const BLOCK: u32 = 100;
/// Hosts of a rack that loads at night.
const RACK: u32 = 40;
/// How long after its end something may still raise an alarm.
const LATE: Micros = 150 * SECOND;

/// A host at peace.
#[derive(Clone, Copy, Debug)]
struct Host {
    address: Address,
    kind: Kind,
    exporter: usize,
}

/// Something that happens to a host or prefix of the world, or to all behind an exporter.
#[derive(Clone, Debug)]
struct Happening {
    class: &'static str,
    prefix: Option<Prefix>,
    exporter: usize,
    begins: Micros,
    ends: Micros,
}

/// The hosts, and what happens.
#[derive(Debug)]
pub(super) struct World {
    hosts: Vec<Host>,
    happenings: Vec<Happening>,
    /// When the run ends.
    pub(super) ends: Micros,
}

/// Lays out the peace of a scenario.
pub(super) fn lay(scenario: &Scenario, peace: &Peace, wire: &mut Wire, probes: &mut [Probe]) -> World {
    let random = Random::new(scenario.seed ^ 0x7065_6163);
    let intervals = scenario.telemetry.iter().map(|telemetry| telemetry.interval).collect();
    let ends = micros(peace.hours * 3_600.0);
    let world = World { hosts: Vec::new(), happenings: Vec::new(), ends };
    let mut layer = Layer { world, random, intervals, limits: scenario.limits, wire };
    layer.hosts(peace);
    layer.conversations(peace);
    for _ in 0..peace.flash_crowds {
        layer.flash_crowd();
    }
    for _ in 0..peace.nightly_jobs {
        layer.nightly_job();
    }
    for number in 0..peace.restarts {
        let caches: Vec<usize> =
            (0..probes.len()).filter(|own| scenario.telemetry.get(*own).is_some_and(|own| own.behaviour.is_cache())).collect();
        let Some(exporter) = caches.get(number as usize % caches.len().max(1)) else { break };
        let (begins, ends) = layer.moment(60.0);
        probes.get_mut(*exporter).into_iter().for_each(|probe| probe.stall(begins, ends));
        layer.happens("router restarts", None, *exporter, begins, ends);
    }
    layer.world
}

struct Layer<'a> {
    world: World,
    random: Random,
    intervals: Vec<u32>,
    limits: Limits,
    wire: &'a mut Wire,
}

impl Layer<'_> {
    fn hosts(&mut self, peace: &Peace) {
        // One host of each of the first blocks is a busy one, so that each passes another exporter; every second one is of IPv6.
        let busy = |number: u32| if number % BLOCK == number / BLOCK % 2 { number / BLOCK } else { u32::MAX };
        for number in 0..peace.hosts {
            let kind = match busy(number) {
                place if place < peace.content_nodes => Kind::Content,
                place if place < peace.content_nodes + peace.resolvers => {
                    if place % 2 == 0 {
                        Kind::Resolver
                    } else {
                        Kind::TimeServer
                    }
                }
                _ => match self.random.below(100) {
                    0..78 => Kind::Client,
                    78..98 => Kind::Server,
                    _ => Kind::Game,
                },
            };
            let exporter = (number / BLOCK) as usize % self.intervals.len();
            let host = Host { address: address(number), kind, exporter };
            self.world.hosts.push(host);
            self.ordinary(host);
        }
    }

    /// What a host says all day: small talk as one stream, and for clients and servers transfers, one after the other, for half of it.
    fn ordinary(&mut self, host: Host) {
        let lognormal = |median: f64, spread: f64, random: &mut Random| (median * (spread * normal(random)).exp()).min(6e7);
        let seed = self.random.number();
        // Bits a second in both directions, and octets of a packet in the mean.
        let (bits, octets, spread) = match host.kind {
            Kind::Client => (lognormal(3.5e5, 1.2, &mut self.random), 800.0, 0.6),
            Kind::Server => (lognormal(8e5, 1.5, &mut self.random), 750.0, 0.4),
            Kind::Game => (lognormal(2e6, 0.8, &mut self.random), 180.0, 0.3),
            Kind::Resolver => (0.15 * self.limits.packets_per_second * 160.0 * 8.0, 160.0, 0.15),
            Kind::TimeServer => (0.2 * self.limits.packets_per_second * 76.0 * 8.0, 76.0, 0.1),
            Kind::Content => (0.32 * self.limits.bits_per_second, 970.0, 0.08),
        };
        let has_sessions = matches!(host.kind, Kind::Client | Kind::Server);
        let talk = if has_sessions { bits / 2.0 } else { bits };
        let rate = Rate::Noisy { mean: talk / 8.0 / octets, spread, step: 60 * SECOND, daily: true, seed };
        let line = self.line(host);
        let shape = Box::new(Mix::new(host.kind, host.address, seed));
        self.wire.add(Box::new(Stream { begins: 0, ends: self.world.ends, rate, shape, ..line.stream() }), 0);
        if has_sessions {
            // What a line can carry at most: with Ethernet around it, 1 Gbit/s is 0.95 of IP.
            let access = [5e7, 1e8, 2.5e8, 5e8, 9.5e8].get(self.random.below(5) as usize).copied().unwrap_or(1e8);
            let is_in = host.kind == Kind::Client;
            let sessions = Sessions { line, host: host.address, is_in, bits: talk, access, ends: self.world.ends, busy_until: 0 };
            self.wire.add(Box::new(sessions), 0);
        }
    }

    fn line(&self, host: Host) -> Line {
        Line { exporter: host.exporter, interval: self.intervals.get(host.exporter).copied().unwrap_or(1) }
    }

    fn happens(&mut self, class: &'static str, prefix: Option<Prefix>, exporter: usize, begins: Micros, ends: Micros) {
        self.world.happenings.push(Happening { class, prefix, exporter, begins, ends });
    }

    /// A stretch of so many seconds, somewhere in the run.
    fn moment(&mut self, seconds: f64) -> (Micros, Micros) {
        let length = micros(seconds).min(self.world.ends / 3);
        let free = self.world.ends - length;
        let begins = micros((0.02 + 0.9 * unit(&mut self.random)) * free as f64 / 1e6);
        (begins, begins + length)
    }

    /// A host of these kinds.
    fn host_of(&mut self, kinds: &[Kind]) -> Host {
        let fallback = Host { address: address(0), kind: Kind::Client, exporter: 0 };
        for _ in 0..1_000 {
            let number = self.random.below(u32::try_from(self.world.hosts.len()).unwrap_or(0)) as usize;
            if let Some(host) = self.world.hosts.get(number).filter(|host| kinds.contains(&host.kind)) {
                return *host;
            }
        }
        fallback
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * unit(&mut self.random)
    }

    /// Speed tests, backups, downloads: few conversations that carry more than the limit.
    fn conversations(&mut self, peace: &Peace) {
        let ours = [Kind::Client, Kind::Server];
        for _ in 0..peace.speed_tests {
            let host = self.host_of(&[Kind::Client]);
            let streams = if self.random.chance(30) { 1 } else { self.random.port(4, 8) };
            let (ratio, seconds) = (self.between(2.0, 5.0), self.between(10.0, 15.0));
            let peer = stranger(self.random.number(), host.address.is_v4());
            let (begins, ends) = self.moment(2.0 * seconds);
            let middle = begins.midpoint(ends);
            for (is_in, begins, ends) in [(true, begins, middle), (false, middle, ends)] {
                self.transfer(host, peer, is_in, (ratio, transfer::TCP, 8_080, streams), (begins, ends));
            }
            self.happens("speed tests", Some(host.address.host()), host.exporter, begins, ends);
        }
        // Protocol and port, how many times the limit, and how many seconds.
        let lists = [
            ("backups", peace.backups, (transfer::TCP, 22), (1.3, 3.0), (3_600.0, 9_000.0)),
            ("downloads", peace.downloads, (transfer::TCP, 443), (1.2, 4.0), (60.0, 600.0)),
            ("QUIC downloads", peace.quic_downloads, (transfer::UDP, 443), (1.2, 4.0), (60.0, 600.0)),
        ];
        for (class, count, (protocol, port), ratios, lengths) in lists {
            for _ in 0..count {
                let host = self.host_of(&ours);
                let (ratio, seconds) = (self.between(ratios.0, ratios.1), self.between(lengths.0, lengths.1));
                let (begins, ends) = self.moment(seconds);
                // A backup may come or go, and has one other end; what is downloaded comes from one to three.
                let is_backup = class == "backups";
                let is_in = !is_backup || self.random.chance(50);
                let peers = if is_backup { 1 } else { self.random.within(1, 3) };
                for _ in 0..peers {
                    let peer = stranger(self.random.number(), host.address.is_v4());
                    let streams = self.random.port(1, 4);
                    self.transfer(host, peer, is_in, (ratio / f64::from(peers), protocol, port, streams), (begins, ends));
                }
                self.happens(class, Some(host.address.host()), host.exporter, begins, ends);
            }
        }
    }

    /// A transfer of so many times the limit in bits.
    fn transfer(
        &mut self,
        host: Host,
        peer: Address,
        is_in: bool,
        (ratio, protocol, port, streams): (f64, u8, u16, u16),
        (begins, ends): (Micros, Micros),
    ) {
        let ends_of = if is_in { (peer, host.address) } else { (host.address, peer) };
        let client = self.random.port(32_768, 60_000);
        let data = Talk { ends: ends_of, protocol, port, is_server: is_in, streams, is_data: true, client };
        let bits = ratio * self.limits.bits_per_second;
        let line = self.line(host);
        for stream in (Transfer { line, data, bits, begins, ends, seed: self.random.number() }).streams() {
            self.wire.add(Box::new(stream), 0);
        }
    }

    /// Thousands of clients at one server: whole connections, small requests, large answers, over the limit in both directions.
    fn flash_crowd(&mut self) {
        let host = self.host_of(&[Kind::Server]);
        let (minutes, ratio, growing) = (self.between(20.0, 40.0), self.between(1.5, 3.0), self.between(60.0, 300.0));
        let (begins, ends) = self.moment(minutes * 60.0);
        let seed = self.random.number();
        // A packet of either direction stands for 715 octets that go out.
        let to = ratio * self.limits.bits_per_second / 8.0 / 715.0;
        let rate = Rate::Ramp { to, begins, ends: (begins + micros(growing)).min(ends) };
        let peers = self.random.within(4_000, 20_000);
        let shape = Box::new(Mix::new(Kind::Server, host.address, seed).with_peers(peers));
        self.wire.add(Box::new(Stream { begins, ends, rate, shape, ..self.line(host).stream() }), 0);
        self.happens("flash crowds", Some(host.address.host()), host.exporter, begins, ends);
    }

    /// Forty hosts of a /24 load from the same four servers, each at less than half of its limit, together over that of the prefix.
    fn nightly_job(&mut self) {
        let blocks = u32::try_from(self.world.hosts.len()).unwrap_or(0) / BLOCK;
        let block = self.random.below(blocks);
        let minutes = self.between(10.0, 20.0);
        let (begins, ends) = self.moment(minutes * 60.0);
        let servers: Vec<Address> = (0..4).map(|_| stranger(self.random.number(), true)).collect();
        let first = (block * BLOCK) as usize;
        let rack: Vec<Host> =
            self.world.hosts.iter().skip(first).take(BLOCK as usize).filter(|host| host.address.is_v4()).copied().collect();
        for host in rack.iter().take(RACK as usize) {
            let server = servers.get(self.random.below(4) as usize).copied().unwrap_or(host.address);
            let ratio = self.between(0.35, 0.45);
            self.transfer(*host, server, true, (ratio, transfer::TCP, 443, 2), (begins, ends));
        }
        let prefix = rack.first().map(|host| Prefix::of(host.address, 24));
        self.happens("nightly jobs", prefix, rack.first().map_or(0, |host| host.exporter), begins, ends);
    }
}

/// The address of a host.
fn address(number: u32) -> Address {
    let (block, place) = (number / BLOCK, number % BLOCK);
    if place.is_multiple_of(2) {
        Address::from_v4(0x0a80_0000 + block * 256 + 10 + place / 2)
    } else {
        Address(0x2001_0db8_u128 << 96 | u128::from(0x8000 + block) << 80 | u128::from(place) << 64 | 0x10)
    }
}

impl World {
    /// Days that its hosts lived, all together.
    pub(super) fn host_days(&self) -> f64 {
        self.hosts.len() as f64 * self.ends as f64 / (86_400.0 * SECOND as f64)
    }

    /// Every class of what could raise an alarm, with how many there are of it.
    pub(super) fn classes(&self) -> Vec<(&'static str, usize)> {
        let mut classes: Vec<(&'static str, usize)> = Vec::new();
        let kinds = self.hosts.iter().map(|host| host.kind.name());
        for class in self.happenings.iter().map(|happening| happening.class).chain(kinds) {
            match classes.iter_mut().find(|(own, _)| *own == class) {
                Some((_, count)) => *count += 1,
                None => classes.push((class, 1)),
            }
        }
        classes.push(("prefixes", 0));
        classes
    }

    /// What raised an alarm.
    pub(super) fn class_of(&self, alarm: &Alarm) -> &'static str {
        let is_then = |happening: &&Happening| {
            let late = happening.ends + LATE;
            alarm.opened >= stamp(happening.begins) && alarm.opened <= stamp(late)
        };
        // One that stands for a host: an address, or the /64 of one.
        let is_of_host = alarm.target.is_host() || (!alarm.target.is_v4() && alarm.target.length() >= 64);
        let host = self.hosts.iter().find(|host| is_of_host && alarm.target.contains(host.address));
        let concerns = |happening: &&Happening| match happening.prefix {
            Some(prefix) => prefix.covers(alarm.target) || alarm.target.covers(prefix),
            None => host.is_some_and(|host| host.exporter == happening.exporter),
        };
        let then: Vec<&Happening> = self.happenings.iter().filter(is_then).filter(concerns).collect();
        // What happens to the host itself explains more than what happens to its exporter.
        let own = then.iter().find(|happening| happening.prefix.is_some()).or(then.first());
        match (own, host) {
            (Some(happening), _) => happening.class,
            (None, Some(host)) => host.kind.name(),
            (None, None) => "prefixes",
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::counter::Direction;

    use super::*;

    #[test]
    fn an_alarm_belongs_to_what_happens_then_or_to_its_host() {
        let host = |number, kind| Host { address: address(number), kind, exporter: 0 };
        let hosts = vec![host(0, Kind::Client), host(1, Kind::Server)];
        let happening =
            |class, prefix, begins, ends| Happening { class, prefix, exporter: 0, begins: begins * SECOND, ends: ends * SECOND };
        let happenings = vec![
            happening("router restarts", None, 1_000, 1_060),
            happening("downloads", Some(address(0).host()), 1_000, 1_100),
            happening("nightly jobs", Some(Prefix::of(address(0), 24)), 5_000, 6_000),
        ];
        let world = World { hosts, happenings, ends: 10_000 * SECOND };
        let class = |target: Prefix, second: u64| world.class_of(&Alarm::of(target, Direction::Incoming, stamp(second * SECOND)));
        let (client, server) = (address(0).host(), address(1).host());
        assert_eq!([class(client, 1_050), class(server, 1_050)], ["downloads", "router restarts"]);
        assert_eq!([class(client, 900), class(server, 900), class(Prefix::of(address(0), 24), 900)], ["clients", "servers", "prefixes"]);
        assert_eq!(class(Prefix::of(address(0), 24), 5_500), "nightly jobs");
        assert_eq!(class(Prefix::of(address(1), 64), 900), "servers");
    }
}
