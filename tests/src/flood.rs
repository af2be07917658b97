//! A router that samples a flood and tells the server under test of it, over a real socket.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant, SystemTime};

use bench::synthesize::{Attack, Exporter, Flow, Fragment, Layout, Protocol, Vector};
use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;

use crate::server::{NETFLOW, SFLOW};

/// Our clock, as an exporter reads it.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// A flood of UDP among a little traffic, one in 1,000 packets sampled, told every 50 ms.
#[derive(Debug)]
pub struct Flood {
    peace: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Begins floods of the same rate on each of the hosts, seen by one router with sFlow.
    ///
    /// # Panics
    ///
    /// If a host is no address or no socket can be had.
    #[must_use]
    pub fn begin(hosts: &[&str], packets_per_second: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let began = now();
        let far = Timestamp(began.0 + 3_600_000);
        let targets = hosts.iter().map(|host| host.parse::<Address>().unwrap().host());
        let attack = |(seed, target): (u64, Prefix)| Attack::new(seed, Vector::Udp, target, packets_per_second, began, far);
        let mut attacks: Vec<Attack> = (1..).zip(targets).map(attack).collect();
        let mut exporter = Exporter::new(Layout::new(Protocol::Sflow5, 1_000), Timestamp(began.0 - 60_000));
        // Two thousand packets a second to somebody else, in peace as well: a router is never silent.
        let mut calm = Attack::new(0, Vector::Udp, "203.0.113.250".parse().unwrap(), 2_000, began, far);
        let (peace, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (calmed, ended) = (Arc::clone(&peace), Arc::clone(&over));
        let thread = spawn(move || {
            let mut last = began;
            while !ended.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(50));
                let moment = now();
                let mut flows = Vec::new();
                calm.flows(last, moment, 1_000, true, &mut flows);
                if !calmed.load(Ordering::Relaxed) {
                    attacks.iter_mut().for_each(|attack| attack.flows(last, moment, 1_000, true, &mut flows));
                }
                last = moment;
                exporter.export(moment, &flows, &mut |draft| {
                    // Nobody may listen while the server is being started again.
                    let _ = socket.send_to(draft.octets(), SFLOW);
                });
            }
        });
        Self { peace, over, thread: Some(thread) }
    }

    /// Ends the flood; the router goes on to tell of the rest.
    pub fn end(&self) {
        self.peace.store(true, Ordering::Relaxed);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A router with NetFlow v9 that tells of a whole flood in a single datagram.
#[derive(Debug)]
pub struct OneShot {
    socket: UdpSocket,
    exporter: Exporter,
}

impl OneShot {
    /// A router whose templates the server has heard.
    ///
    /// # Panics
    ///
    /// If no socket can be had.
    #[must_use]
    pub fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let moment = now();
        let mut layout = Layout::new(Protocol::Netflow9, 1);
        layout.refresh_milliseconds = 3_600_000;
        let mut exporter = Exporter::new(layout, Timestamp(moment.0 - 3_600_000));
        if let Some(draft) = exporter.announcement(moment) {
            socket.send_to(draft.octets(), NETFLOW).unwrap();
        }
        Self { socket, exporter }
    }

    /// Sends one datagram: the last second brought `packets` of 1,000 octets to the host, from eight sources. Returns the
    /// moment before it was sent.
    ///
    /// # Panics
    ///
    /// If the socket refuses it.
    pub fn send(&mut self, host: Address, packets: u64) -> Instant {
        let moment = now();
        let flow = |number: u32| Flow {
            source: if host.is_v4() {
                Address::from_v4(0xc633_6400 + number)
            } else {
                Address((0x2001_0db9_u128 << 96) + u128::from(number))
            },
            destination: host,
            source_port: 40_000,
            destination_port: 443,
            protocol: 17,
            tcp_control_bits: 0,
            fragment: Fragment::Whole,
            packets: packets / 8,
            octets: packets / 8 * 1_000,
            start: Timestamp(moment.0 - 1_000),
            end: moment,
            ingress_interface: 1,
            egress_interface: 2,
            ttl: 60,
        };
        let flows: Vec<Flow> = (1..=8).map(flow).collect();
        let mut draft = self.exporter.draft(moment, &flows);
        self.exporter.stamp(&mut draft, moment);
        let sent = Instant::now();
        self.socket.send_to(draft.octets(), NETFLOW).unwrap();
        sent
    }
}

impl Default for OneShot {
    fn default() -> Self {
        Self::new()
    }
}
