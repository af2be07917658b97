//! The peaceful traffic of a provider's hosts: web, names, time, mail and the rest, with heavy tails.

use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;

use super::{Flow, Fragment, Random};

/// How the traffic is spread over the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Popularity {
    /// Every host alike: the worst case for caches, so the one for measuring tables.
    Even,
    /// Few hosts have most of the traffic, as in real networks.
    Skewed,
}

/// The monitored hosts: `count` addresses from the start of each prefix, one IPv6 host in each /64 where there is room.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    /// Where the IPv4 hosts are.
    pub v4: Prefix,
    /// Where the IPv6 hosts are; `None` for traffic of IPv4 only.
    pub v6: Option<Prefix>,
    /// Number of hosts in each family.
    pub count: u32,
    /// How the traffic is spread over them.
    pub popularity: Popularity,
}

impl Hosts {
    /// Address of a host of `prefix` by its number.
    #[must_use]
    pub fn address(prefix: Prefix, number: u32) -> Address {
        let shift = if !prefix.is_v4() && prefix.length() <= 32 { 64 } else { 0 };
        Address(prefix.first().0 | u128::from(number) << shift)
    }

    fn pick(&self, random: &mut Random, prefix: Prefix) -> Address {
        let number = match self.popularity {
            Popularity::Even => random.below(self.count),
            // A product of two even shares: half of the traffic falls on a fifth of the hosts.
            Popularity::Skewed => {
                let bound = random.below(self.count) + 1;
                random.below(bound)
            }
        };
        Self::address(prefix, number)
    }
}

/// One kind of traffic: a service, what share of the flows has it, and what its packets look like.
struct Service {
    per_mille: u32,
    protocol: u8,
    port: u16,
    packets_max: u32,
    octets: (u32, u32),
}

const fn service(per_mille: u32, protocol: u8, port: u16, packets_max: u32, octets: (u32, u32)) -> Service {
    Service { per_mille, protocol, port, packets_max, octets }
}

/// Shares of flows as an access provider sees them; they add up to 1,000.
const SERVICES: [Service; 9] = [
    service(420, 6, 443, 4_000, (60, 1_500)),
    service(220, 17, 443, 4_000, (80, 1_350)),
    service(150, 17, 53, 2, (60, 240)),
    service(80, 6, 80, 500, (52, 1_500)),
    service(30, 17, 123, 1, (76, 76)),
    service(30, 1, 0, 5, (84, 84)),
    service(30, 6, 25, 40, (60, 1_400)),
    service(20, 6, 22, 200, (52, 600)),
    service(20, 17, 3_074, 300, (60, 400)),
];

/// A source of peaceful flows.
#[derive(Clone, Debug)]
pub struct Traffic {
    random: Random,
    hosts: Hosts,
    active_timeout_milliseconds: u32,
    sampling_interval: u32,
}

impl Traffic {
    /// Traffic of `hosts` from a seed; no flow lasts longer than the active timeout.
    #[must_use]
    pub fn new(seed: u64, hosts: Hosts, active_timeout_milliseconds: u32) -> Self {
        Self { random: Random::new(seed), hosts, active_timeout_milliseconds, sampling_interval: 1 }
    }

    /// The same as seen by a sampler of one packet in `interval`: counts are of sampled packets, lengths of time are the flows' own.
    #[must_use]
    pub fn sampled(self, interval: u32) -> Self {
        Self { sampling_interval: interval.max(1), ..self }
    }

    /// A flow that ended within the second before `now`.
    pub fn flow(&mut self, now: Timestamp) -> Flow {
        let random = &mut self.random;
        let mut share = random.below(1_000);
        let service = SERVICES.iter().find(|service| {
            let found = share < service.per_mille;
            share = share.saturating_sub(service.per_mille);
            found
        });
        let service = service.unwrap_or(&SERVICES[0]);
        let prefix = match self.hosts.v6 {
            Some(v6) if random.chance(25) => v6,
            _ => self.hosts.v4,
        };
        let host = self.hosts.pick(random, prefix);
        let peer = peer(random, prefix);
        let incoming = random.chance(60);
        let packets = random.heavy_tail((service.packets_max / self.sampling_interval).max(1));
        let octets = u64::from(random.within(service.octets.0, service.octets.1)) * u64::from(packets);
        let end = Timestamp(now.0.saturating_sub(u64::from(random.below(1_000))));
        // Long flows are those of many packets, at 4 to 8,000 a second; a single packet takes no time.
        let sent = packets.saturating_mul(self.sampling_interval);
        let longest = (sent - 1).saturating_mul(250).min(self.active_timeout_milliseconds);
        let lasted = random.within((sent / 8).min(longest), longest);
        let (client_port, icmp) = (random.port(1_024, 65_535), service.protocol == 1);
        let ports = match (icmp, incoming) {
            (true, _) => (0, 0x0800),
            (false, true) => (service.port, client_port),
            (false, false) => (client_port, service.port),
        };
        Flow {
            source: if incoming { peer } else { host },
            destination: if incoming { host } else { peer },
            source_port: ports.0,
            destination_port: ports.1,
            protocol: if icmp && !prefix.is_v4() { 58 } else { service.protocol },
            tcp_control_bits: if service.protocol == 6 { if packets > 3 { 0x1b } else { 0x10 } } else { 0 },
            fragment: Fragment::Whole,
            packets: u64::from(packets),
            octets,
            start: Timestamp(end.0.saturating_sub(u64::from(lasted))),
            end,
            ingress_interface: if incoming { 10 + random.below(4) } else { 100 + random.below(40) },
            egress_interface: if incoming { 100 + random.below(40) } else { 10 + random.below(4) },
            ttl: 40 + u8::try_from(random.below(88)).unwrap_or(0),
        }
    }
}

/// An address of the same family somewhere else: 20.0.0.0 to 99.255.255.255, or 2400::/12.
pub(super) fn peer(random: &mut Random, prefix: Prefix) -> Address {
    if prefix.is_v4() {
        Address::from_v4(random.within(0x1400_0000, 0x63ff_ffff))
    } else {
        Address(0x240_u128 << 116 | u128::from(random.below(1 << 20)) << 80 | u128::from(random.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(popularity: Popularity) -> Hosts {
        Hosts { v4: "10.0.0.0/8".parse().unwrap(), v6: Some("2001:db8::/32".parse().unwrap()), count: 65_536, popularity }
    }

    #[test]
    fn every_flow_has_one_end_at_a_monitored_host_and_lies_in_the_past() {
        let hosts = hosts(Popularity::Skewed);
        let now = Timestamp(1_700_000_000_000);
        let mut traffic = Traffic::new(7, hosts, 60_000);
        for _ in 0..10_000 {
            let flow = traffic.flow(now);
            let inside = |address| hosts.v4.contains(address) || hosts.v6.is_some_and(|v6| v6.contains(address));
            assert!(inside(flow.source) ^ inside(flow.destination), "{flow:?}");
            assert_eq!(flow.source.is_v4(), flow.destination.is_v4());
            assert!(flow.start <= flow.end && flow.end <= now && now.since(flow.start) < 61_000);
            assert!(flow.packets >= 1 && flow.octets >= 52 * flow.packets && flow.octets <= 1_500 * flow.packets);
        }
    }

    #[test]
    fn even_traffic_reaches_nearly_every_host() {
        let mut traffic = Traffic::new(7, Hosts { count: 1_000, ..hosts(Popularity::Even) }, 60_000);
        let seen: std::collections::HashSet<Address> = (0..40_000)
            .map(|_| traffic.flow(Timestamp(1_700_000_000_000)))
            .flat_map(|flow| [flow.source, flow.destination])
            .filter(|address| address.0 >> 24 == Address::from_v4(0x0a00_0000).0 >> 24)
            .collect();
        // 30,000 IPv4 flows over 1,000 hosts: a host is missed with probability e^-30.
        assert_eq!(seen.len(), 1_000);
    }

    #[test]
    fn the_shares_of_the_services_add_up() {
        assert_eq!(SERVICES.iter().map(|service| service.per_mille).sum::<u32>(), 1_000);
    }
}
