//! What a shard tells an operator besides its ledgers: one method an event, which logs and counts it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sketches_ddsketch::{Config, DDSketch};
use tracing::{error, info, warn};

/// Counts of one shard, read by others while it runs.
#[derive(Debug, Default)]
pub struct Metrics {
    bursts: AtomicU64,
    messages: AtomicU64,
    snapshots_lost: AtomicU64,
    receive_errors: AtomicU64,
    burst_p50_nanoseconds: AtomicU64,
    burst_p99_nanoseconds: AtomicU64,
    burst_max_nanoseconds: AtomicU64,
}

impl Metrics {
    /// A socket is open.
    pub fn listening(&self, address: SocketAddr, buffer_octets: usize, wanted_octets: usize) {
        info!(%address, buffer_octets, "listening");
        if buffer_octets < wanted_octets {
            warn!(
                %address, buffer_octets, wanted_octets,
                "the kernel gives less room for waiting datagrams than asked for: raise net.core.rmem_max or grant CAP_NET_ADMIN"
            );
        }
    }

    /// A burst was decoded and counted.
    pub fn burst(&self, messages: usize) {
        self.bursts.fetch_add(1, Ordering::Relaxed);
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// A snapshot found the analysts' queue full.
    pub fn snapshot_lost(&self, shard: usize) {
        if self.snapshots_lost.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
            error!(shard, "the analysts do not keep up: a snapshot is lost");
        }
    }

    /// A socket could not be read.
    pub fn receive_failed(&self, shard: usize, failure: &io::Error) {
        if self.receive_errors.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
            error!(shard, error = %failure, "cannot receive");
        }
    }

    /// A shard's thread ended in a panic.
    pub fn shard_panicked(shard: usize) {
        error!(shard, "the shard's thread has panicked");
    }

    /// How long bursts took in the last second.
    pub fn burst_times(&self, times: &BurstTimes) {
        let quantile = |quantile| nanoseconds(times.sketch.quantile(quantile).ok().flatten().unwrap_or(0.0));
        self.burst_p50_nanoseconds.store(quantile(0.5), Ordering::Relaxed);
        self.burst_p99_nanoseconds.store(quantile(0.99), Ordering::Relaxed);
        self.burst_max_nanoseconds.store(nanoseconds(times.sketch.max().unwrap_or(0.0)), Ordering::Relaxed);
    }

    /// Every count with its Prometheus name; those that end in `_total` only grow.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("weir_collector_bursts_total", read(&self.bursts)),
            ("weir_collector_messages_total", read(&self.messages)),
            ("weir_collector_snapshots_lost_total", read(&self.snapshots_lost)),
            ("weir_collector_receive_errors_total", read(&self.receive_errors)),
            ("weir_collector_burst_p50_nanoseconds", read(&self.burst_p50_nanoseconds)),
            ("weir_collector_burst_p99_nanoseconds", read(&self.burst_p99_nanoseconds)),
            ("weir_collector_burst_max_nanoseconds", read(&self.burst_max_nanoseconds)),
        ]
        .into_iter()
    }
}

/// How long the bursts of one second took, from the first datagram to the last count.
pub struct BurstTimes {
    sketch: DDSketch,
}

impl Default for BurstTimes {
    fn default() -> Self {
        Self { sketch: DDSketch::new(Config::defaults()) }
    }
}

impl BurstTimes {
    /// Takes one burst's time.
    pub fn add(&mut self, time: Duration) {
        self.sketch.add(time.as_secs_f64() * 1e9);
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
fn nanoseconds(value: f64) -> u64 {
    value.round() as u64
}
