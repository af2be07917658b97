//! What a million hosts cost the analysts' thread: `cargo bench -p bench --bench analyst`.
//!
//! A shard reports each host and direction once in ten seconds, a hundredth of them in each snapshot of 100 ms, at a rate that wanders. Eleven
//! minutes of that: the first ten fill the table and teach, the last is told, by CPU time of the thread for each snapshot with its tick. Nobody is a suspect. At the end
//! what the tables of hosts hold, and what saving them takes.
#![expect(clippy::cast_possible_truncation, reason = "a bench of fixed sizes")]

use std::time::Duration;

use analytics::{Analyst, Config};
use schemas::counter::{Direction, HostReport, Snapshot, Target, Volume};
use schemas::net::Address;
use schemas::time::Timestamp;

const HOSTS: u32 = 1_000_000;
const START: u64 = 1_800_000_000_000;
/// Snapshots in ten seconds.
const TURN: u32 = 100;
const TOLD: usize = 600;

/// What the thread has spent on a processor: others may use the machine at the same time.
fn thread_time() -> Duration {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own, which the call fills.
    #[expect(unsafe_code, reason = "the standard library has no clock of a thread's time")]
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut spent);
    }
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// The reports of one snapshot: a hundredth of the hosts, spread over all of them.
fn reports(number: u32, is_v4: bool) -> Vec<HostReport> {
    let hosts = (number % TURN..HOSTS).step_by(TURN as usize);
    let report = |host: u32, direction| {
        let address =
            if is_v4 { Address::from_v4((10 << 24) + host) } else { Address((0x2001_0db8_u128 << 96) + (u128::from(host) << 64) + 1) };
        let mixed = u64::from(host).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number / TURN).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let packets = 1.0 + (mixed >> 48) as f64 / 64.0;
        let volume = Volume { packets, octets: packets * 700.0, flows: 1.0, tcp_packets: packets, ..Volume::default() };
        HostReport { target: Target { prefix: address.host(), direction }, volume }
    };
    hosts.flat_map(|host| [report(host, Direction::Incoming), report(host, Direction::Outgoing)]).collect()
}

fn main() {
    for is_v4 in [true, false] {
        let mut config = Config::default();
        config.baseline.hosts_max = HOSTS as usize + HOSTS as usize / 20;
        let mut analyst = Analyst::new(&config, analytics::metrics::Metrics::default());
        let mut spent = Vec::new();
        for number in 0..11 * 6 * TURN {
            let taken_at = Timestamp(START + u64::from(number) * 100);
            let snapshot = Snapshot { taken_at, hosts: reports(number, is_v4), ..Snapshot::default() };
            let begun = thread_time();
            analyst.observe(snapshot);
            analyst.tick(taken_at);
            spent.push(thread_time() - begun);
        }
        let mut told = spent.split_off(spent.len() - TOLD);
        told.sort();
        let mean = told.iter().sum::<Duration>() / TOLD as u32;
        let baselines = analyst.baselines();
        let (octets, hosts) = baselines.size();
        let begun = thread_time();
        let mut saved = Vec::new();
        let outcome = baselines.write(Timestamp(START), &mut saved);
        println!(
            "{}: {hosts} hosts, 2 directions: a snapshot of 20,000 reports and its tick take {mean:?}, at most {:?}; tables for {} hosts of either family take {octets} octets; saved as {} octets in {:?} ({outcome:?})",
            if is_v4 { "IPv4" } else { "IPv6" },
            told.last().copied().unwrap_or_default(),
            config.baseline.hosts_max,
            saved.len(),
            thread_time() - begun,
        );
    }
}
