//! What every host and prefix carries now, for the API's pages: shared between the analysts' thread and the readers.

use std::sync::Mutex;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use schemas::counter::{Direction, HOST_REPORT_MILLISECONDS, HostReport, Target};
use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;
use std::sync::Arc;

/// Mean rates of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Packets a second.
    pub packets_per_second: f64,
    /// Bits a second.
    pub bits_per_second: f64,
}

type Reports = DashMap<(Target, usize), (Timestamp, Rate)>;

/// The live rates: of suspects over their last second, of all others over ten seconds.
#[derive(Debug)]
pub struct Rates {
    /// Reports of this span and of the one before: what is reported no more is gone after two.
    reports: [ArcSwap<Reports>; 2],
    turned_at: Mutex<Timestamp>,
    suspects: ArcSwap<std::collections::BTreeMap<Target, Rate>>,
    shards: std::sync::atomic::AtomicUsize,
    now: std::sync::atomic::AtomicU64,
    hosts_max: usize,
}

impl Rates {
    /// Rates of at most `hosts_max` hosts and prefixes, each twice while spans overlap.
    #[must_use]
    pub fn new(hosts_max: usize) -> Self {
        Self {
            reports: [ArcSwap::default(), ArcSwap::default()],
            turned_at: Mutex::default(),
            suspects: ArcSwap::default(),
            shards: std::sync::atomic::AtomicUsize::new(0),
            now: std::sync::atomic::AtomicU64::new(0),
            hosts_max,
        }
    }

    /// What comes to `address`, and what comes from it.
    #[must_use]
    pub fn of(&self, address: Address) -> (Rate, Rate) {
        let of = |direction| self.of_target(Target { prefix: address.host(), direction });
        (of(Direction::Incoming), of(Direction::Outgoing))
    }

    /// What one target carries.
    #[must_use]
    pub fn of_target(&self, target: Target) -> Rate {
        if let Some(rate) = self.suspects.load().get(&target) {
            return *rate;
        }
        let folded = Target { prefix: Prefix::of(target.prefix.first(), 64), ..target };
        let reported = self.reported(target);
        // An IPv6 host may stand in its /64 where there are too many.
        if reported == Rate::default() && !target.prefix.is_v4() && target.prefix.is_host() { self.reported(folded) } else { reported }
    }

    fn reported(&self, target: Target) -> Rate {
        use std::sync::atomic::Ordering::Relaxed;
        let now = Timestamp(self.now.load(Relaxed));
        let mut sum = Rate::default();
        for shard in 0..self.shards.load(Relaxed) {
            let found = self.reports.iter().find_map(|reports| reports.load().get(&(target, shard)).map(|found| *found));
            // A host without traffic is not reported: its last word holds for a span and a half.
            if let Some((_, rate)) = found.filter(|(at, _)| now.since(*at) <= HOST_REPORT_MILLISECONDS * 3 / 2) {
                sum.packets_per_second += rate.packets_per_second;
                sum.bits_per_second += rate.bits_per_second;
            }
        }
        sum
    }

    /// Takes in a shard's reports.
    pub(crate) fn report(&self, shard: usize, hosts: &[HostReport], now: Timestamp) {
        use std::sync::atomic::Ordering::Relaxed;
        self.now.fetch_max(now.milliseconds(), Relaxed);
        self.shards.fetch_max(shard + 1, Relaxed);
        if let Ok(mut turned_at) = self.turned_at.lock()
            && now.since(*turned_at) >= HOST_REPORT_MILLISECONDS * 3 / 2
        {
            *turned_at = now;
            let [current, before] = &self.reports;
            before.store(current.swap(Arc::default()));
        }
        let [current, _] = &self.reports;
        let current = current.load();
        for report in hosts.iter().take(self.hosts_max.saturating_sub(current.len())) {
            let seconds = HOST_REPORT_MILLISECONDS as f64 / 1_000.0;
            let rate = Rate { packets_per_second: report.volume.packets / seconds, bits_per_second: report.volume.octets * 8.0 / seconds };
            current.insert((report.target, shard), (now, rate));
        }
    }

    /// Replaces the suspects' rates.
    pub(crate) fn show_suspects(&self, suspects: std::collections::BTreeMap<Target, Rate>, now: Timestamp) {
        self.now.fetch_max(now.milliseconds(), std::sync::atomic::Ordering::Relaxed);
        self.suspects.store(Arc::new(suspects));
    }
}

#[cfg(test)]
mod tests {
    use schemas::counter::Volume;

    use super::*;

    #[test]
    fn two_shards_make_one_rate_that_ages() {
        let rates = Rates::new(1_000);
        let address: Address = "203.0.113.7".parse().unwrap();
        let target = Target { prefix: address.host(), direction: Direction::Incoming };
        let report = HostReport { target, volume: Volume { packets: 1_000.0, octets: 100_000.0, ..Volume::default() } };
        rates.report(0, &[report], Timestamp(1_000_000));
        rates.report(1, &[report], Timestamp(1_005_000));
        // 1,000 packets in ten seconds on each of two shards.
        assert_eq!(rates.of(address).0, Rate { packets_per_second: 200.0, bits_per_second: 160_000.0 });
        assert_eq!(rates.of(address).1, Rate::default());
        rates.report(1, &[], Timestamp(1_016_000));
        assert_eq!(rates.of(address).0.packets_per_second, 100.0);
        rates.report(1, &[], Timestamp(1_040_000));
        assert_eq!(rates.of(address).0, Rate::default());
    }
}
