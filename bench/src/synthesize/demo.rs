//! The simulated routers of `weir serve --demo`: one of each protocol, and an attack every three minutes.

use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;

use super::{Attack, Hosts, Layout, Popularity, Protocol, Router, Traffic, Vector};

/// When the first attack begins, counted from the start.
const FIRST_ATTACK_MILLISECONDS: u64 = 60_000;
/// From one attack's begin to the next one's.
const ATTACK_EVERY_MILLISECONDS: u64 = 180_000;
/// How long each lasts.
const ATTACK_MILLISECONDS: u64 = 60_000;
/// Attacks in all: a day of them.
const ATTACKS: u64 = 480;
/// Packets a second of each attack: four times the default limit of a host.
const ATTACK_PACKETS_PER_SECOND: u32 = 400_000;

/// Protocol, sampling interval and peaceful flows a second of each router.
const ROUTERS: [(Protocol, u32, u32); 4] =
    [(Protocol::Netflow9, 100, 300), (Protocol::Ipfix, 100, 300), (Protocol::Sflow5, 200, 200), (Protocol::Netflow5, 100, 100)];

/// Where the demo's hosts are when the operator has named no networks of the family.
const V4: &str = "203.0.113.0/24";
const V6: &str = "2001:db8::/32";

/// The routers, whose hosts are the first of `networks`; each attack passes one of them.
///
/// # Panics
///
/// Never: the built-in prefixes are sound.
#[must_use]
pub fn demo(seed: u64, networks: &[Prefix], now: Timestamp) -> Vec<Router> {
    let first = |v4: bool, default: &str| {
        let own = networks.iter().copied().find(|network| network.is_v4() == v4);
        own.unwrap_or_else(|| default.parse().expect("a built-in prefix is sound"))
    };
    let (v4, v6) = (first(true, V4), first(false, V6));
    let room = |prefix: Prefix| u32::try_from(prefix.last().0 - prefix.first().0).map_or(u32::MAX, |last| last.saturating_add(1));
    let hosts = Hosts { v4, v6: Some(v6), count: room(v4).min(room(v6)).min(4_096), popularity: Popularity::Skewed };
    let mut routers: Vec<Router> = (1u32..)
        .zip(ROUTERS)
        .map(|(number, (protocol, sampling_interval, flows_per_second))| {
            let layout = Layout { agent: Address::from_v4(0x0a00_0000 + number), ..Layout::new(protocol, sampling_interval) };
            let traffic = Traffic::new(seed ^ u64::from(number) << 32, hosts, 60_000).sampled(sampling_interval);
            Router::new(layout, traffic, flows_per_second, now)
        })
        .collect();
    let (vectors, mut passing) = (Vector::ALL, 0);
    for (number, vector) in (0..ATTACKS).zip(vectors.iter().cycle().skip(5)) {
        let begins = now.plus(FIRST_ATTACK_MILLISECONDS + number * ATTACK_EVERY_MILLISECONDS);
        // The first one hits host 70, as in the documents; later ones move on.
        let victim = Hosts::address(v4, u32::try_from(70 + number).unwrap_or(0) % hosts.count);
        let attack =
            Attack::new(seed ^ number, *vector, victim.host(), ATTACK_PACKETS_PER_SECOND, begins, begins.plus(ATTACK_MILLISECONDS));
        if let Some(router) = routers.get_mut(passing) {
            router.add(attack);
        }
        passing = (passing + 1) % ROUTERS.len();
    }
    routers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_minute_is_peaceful_and_the_second_is_not() {
        let now = Timestamp(1_700_000_000_000);
        let mut routers = demo(1, &["198.51.100.0/24".parse().unwrap()], now);
        let mut minutes = [0, 0];
        for second in 1..=120 {
            let flows: u64 = routers.iter_mut().map(|router| router.advance(now.plus(second * 1_000), &mut |_| {}).flows).sum();
            minutes[usize::from(second > 60)] += flows;
        }
        // 900 flows/s but for version 5's quarter of IPv6: 60 × 875. The attack passes version 9: 4,000 sampled packets a second,
        // in 1,000 records a step at most: 60 × 1,000.
        assert!((52_000..53_000).contains(&minutes[0]), "{minutes:?}");
        assert!((52_000 + 60_000..53_000 + 60_000).contains(&minutes[1]), "{minutes:?}");
    }
}
