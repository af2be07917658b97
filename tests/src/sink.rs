//! Receives what an exporter sends and records it as a capture.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::capture::{self, Packet};
use crate::packet;

/// A socket that stands where a collector would.
#[derive(Debug)]
pub struct Sink {
    socket: UdpSocket,
    heard: Vec<(u64, SocketAddr, Vec<u8>)>,
}

impl Sink {
    /// Listens on a free port of the loopback.
    ///
    /// # Panics
    ///
    /// If no socket can be had.
    #[must_use]
    pub fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self { socket, heard: Vec::new() }
    }

    /// Where it listens.
    ///
    /// # Panics
    ///
    /// Never: the socket is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Receives until `done` says so of the datagrams so far, and then until nothing has come for a while.
    ///
    /// # Panics
    ///
    /// If that takes longer than `within`.
    pub fn listen(&mut self, within: Duration, mut done: impl FnMut(&[(u64, SocketAddr, Vec<u8>)]) -> bool) {
        let began = Instant::now();
        let mut last = Instant::now();
        let mut buffer = vec![0; 65_536];
        loop {
            if let Ok((length, sender)) = self.socket.recv_from(&mut buffer) {
                let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                self.heard.push((u64::try_from(moment.as_micros()).unwrap(), sender, buffer[..length].to_vec()));
                last = Instant::now();
            } else if last.elapsed() > Duration::from_millis(300) && done(&self.heard) {
                return;
            }
            assert!(began.elapsed() < within, "the exporter was not done within {within:?}; {} datagrams came", self.heard.len());
        }
    }

    /// The datagrams so far, oldest first.
    #[must_use]
    pub fn datagrams(&self) -> Vec<&[u8]> {
        self.heard.iter().map(|(_, _, payload)| payload.as_slice()).collect()
    }

    /// Writes what was heard as a capture of UDP packets.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    pub fn record(&self, path: &Path) {
        let packets = self.heard.iter().map(|(microseconds, sender, payload)| Packet {
            microseconds: *microseconds,
            octets: packet::udp(*sender, self.address(), payload),
        });
        capture::write(path, &packets.collect::<Vec<_>>());
    }
}

impl Default for Sink {
    fn default() -> Self {
        Self::new()
    }
}
