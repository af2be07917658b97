//! Flows that can be told apart in the store: each from a source address of its own, sent by several exporters at a steady pace.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use bench::synthesize::{Exporter, Flow, Fragment, Layout, Protocol};
use schemas::net::Address;
use schemas::time::Timestamp;

use crate::flood::now;

/// Between two bursts.
const PERIOD: Duration = Duration::from_millis(20);
/// The first source address, 10.0.0.0.
const FIRST: u32 = 0x0a00_0000;

/// Exporters at work, each at an address of its own: 127.0.1.1 and on.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Load {
    /// Begins with flow number `first`, `flows_per_second` of all `exporters` together.
    ///
    /// # Panics
    ///
    /// If no socket can be had.
    #[must_use]
    pub fn begin(collector: SocketAddr, exporters: u8, flows_per_second: u32, first: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let started = Timestamp(now().0 - 60_000);
        let exporter = |number: u8| {
            let socket = UdpSocket::bind((format!("127.0.1.{number}"), 0)).unwrap();
            socket.connect(collector).unwrap();
            (socket, Exporter::new(Layout::new(Protocol::Netflow9, 1), started))
        };
        let mut exporters: Vec<_> = (1..=exporters).map(exporter).collect();
        let burst = flows_per_second / 50 / u32::try_from(exporters.len()).unwrap();
        let thread = spawn(move || {
            let mut next = FIRST + first;
            while !ended.load(Ordering::Relaxed) {
                for (socket, exporter) in &mut exporters {
                    let moment = now();
                    let flows: Vec<Flow> = (next..next + burst).map(|source| flow(source, moment)).collect();
                    next += burst;
                    // Nobody may listen while the collector is being started again.
                    exporter.export(moment, &flows, &mut |draft| drop(socket.send(draft.octets())));
                }
                sleep(PERIOD);
            }
            u64::from(next - FIRST - first)
        });
        Self { over, thread: Some(thread) }
    }

    /// Ends it; how many flows were sent.
    ///
    /// # Panics
    ///
    /// If the thread has panicked.
    #[must_use]
    pub fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A flow of TCP from this IPv4 address to one of 203.0.113.0/24, which has just ended.
#[must_use]
pub fn flow(source: u32, now: Timestamp) -> Flow {
    Flow {
        source: Address::from_v4(source),
        destination: Address::from_v4(0xcb00_7100 | (source & 0xff)),
        source_port: 443,
        destination_port: 40_000,
        protocol: 6,
        tcp_control_bits: 0x10,
        fragment: Fragment::Whole,
        packets: 3,
        octets: 1_500,
        start: Timestamp(now.0 - 1_000),
        end: now,
        ingress_interface: 1,
        egress_interface: 2,
        ttl: 60,
    }
}
