//! Receives what an exporter sends, by the collector's own sockets, and records it as a capture.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use collector::receive::{Burst, Config, Sources, open};

use crate::capture::{self, Packet};
use crate::packet;

/// How long nothing must have come before an exporter may be held for done.
const SILENCE: Duration = Duration::from_millis(300);

/// A datagram that came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Unix microseconds.
    pub microseconds: u64,
    /// Who sent it.
    pub sender: SocketAddr,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A socket that stands where a collector would.
#[derive(Debug)]
pub struct Sink {
    sources: Sources,
    heard: Vec<Heard>,
}

impl Sink {
    /// Listens on a free port of the loopback.
    ///
    /// # Panics
    ///
    /// If no socket can be had.
    #[must_use]
    pub fn new() -> Self {
        let netflow = vec!["127.0.0.1:0".parse().unwrap()];
        let config = Config { netflow, ipfix: Vec::new(), sflow: Vec::new(), ..Config::default() };
        Self { sources: open(&config, 1).unwrap().pop().unwrap(), heard: Vec::new() }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.sources.listeners()[0].address()
    }

    /// Receives until nothing comes and `done` says so of the datagrams so far.
    ///
    /// # Panics
    ///
    /// If that takes longer than `within`, or the kernel had no room for a datagram.
    pub fn listen(&mut self, within: Duration, mut done: impl FnMut(&[Heard]) -> bool) {
        let (began, mut last) = (Instant::now(), Instant::now());
        loop {
            self.sources.wait(Duration::from_millis(20)).unwrap();
            let heard = &mut self.heard;
            let came = self.sources.round(|arrival, burst| {
                let Burst::Datagrams(ring) = burst else { return };
                heard.extend(ring.messages().map(|message| {
                    let (address, port) = message.sender().unwrap();
                    let sender = SocketAddr::new(address.ip(), port);
                    Heard { microseconds: arrival.milliseconds() * 1_000, sender, payload: message.octets.to_vec() }
                }));
            });
            if came.unwrap().messages > 0 {
                last = Instant::now();
            } else if last.elapsed() > SILENCE && done(&self.heard) {
                assert_eq!(self.sources.drops(), 0, "the kernel had no room");
                return;
            }
            assert!(began.elapsed() < within, "the exporter was not done within {within:?}; {} datagrams came", self.heard.len());
        }
    }

    /// The datagrams so far, oldest first.
    #[must_use]
    pub fn heard(&self) -> &[Heard] {
        &self.heard
    }

    /// Writes what was heard as a capture of UDP packets.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    pub fn record(&self, path: &Path) {
        let packets = self
            .heard
            .iter()
            .map(|heard| Packet { microseconds: heard.microseconds, octets: packet::udp(heard.sender, self.address(), &heard.payload) });
        capture::write(path, &packets.collect::<Vec<_>>());
    }
}

impl Default for Sink {
    fn default() -> Self {
        Self::new()
    }
}
