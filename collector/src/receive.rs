//! Where datagrams and packets come from: sockets, mirror interfaces, capture files.

pub mod capture;
pub mod gather;
pub mod holder;
pub mod packet;
pub mod reassembly;
pub mod ring;
pub mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime};

use schemas::net::Prefix;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Faults;
use gather::Gather;
use packet::{Mirror, MirrorError};
use ring::{BURST_MAX, Ring};
use udp::{ListenError, Listener};

/// `[collector.receive]`: where exports and packets are received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses and ports for NetFlow. Every socket takes every protocol: versions are told apart by their datagrams.
    pub netflow: Vec<SocketAddr>,
    /// Addresses and ports for IPFIX.
    pub ipfix: Vec<SocketAddr>,
    /// Addresses and ports for sFlow.
    pub sflow: Vec<SocketAddr>,
    /// Interfaces whose packets are read.
    pub mirror: Vec<String>,
    /// Prefixes whose exporters are heard; empty: any.
    pub exporters_allowed: Vec<Prefix>,
    /// Exporters that a shard knows at most; datagrams of others are counted as refused.
    pub exporters_max: usize,
    /// Threads that receive, decode and count; 0: one a core.
    pub shards: usize,
    /// Room for waiting datagrams that each socket asks the kernel for, in octets.
    pub socket_buffer_octets: usize,
    /// Snapshots that wait for the analysts at most; those over it are counted and lost.
    pub snapshots_waiting_max: usize,
    /// How long a shard lets datagrams gather in the socket at most, in microseconds; 0: it looks again at once.
    ///
    /// Many datagrams, the end of a slot and a small socket buffer make it shorter ([`Sources::gather`]).
    pub gather_microseconds: u64,
    /// How long a stop goes on taking what the kernel holds, in milliseconds.
    pub drain_milliseconds_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)];
        Self {
            netflow: any(2055),
            ipfix: any(4739),
            sflow: any(6343),
            mirror: Vec::new(),
            exporters_allowed: Vec::new(),
            exporters_max: 4_096,
            shards: 0,
            socket_buffer_octets: 32 << 20,
            snapshots_waiting_max: 256,
            gather_microseconds: 10_000,
            drain_milliseconds_max: 2_000,
        }
    }
}

impl Config {
    /// Checks what the types do not.
    pub(crate) fn check(&self, faults: &mut Faults<'_>) {
        faults.range("exporters_max", self.exporters_max, 1, 1 << 20);
        faults.range("shards", self.shards, 0, 256);
        // The kernel takes 31 bits and doubles them.
        faults.range("socket_buffer_octets", self.socket_buffer_octets, 4_096, 1 << 30);
        faults.range("snapshots_waiting_max", self.snapshots_waiting_max, 1, 65_536);
        // A slot: a shard that sleeps longer tells nothing in time.
        faults.range("gather_microseconds", self.gather_microseconds, 0, 100_000);
        faults.range("drain_milliseconds_max", self.drain_milliseconds_max, 0, 600_000);
    }

    /// Every address that is listened on, each once.
    pub fn listen(&self) -> impl Iterator<Item = SocketAddr> {
        let all = [&self.netflow, &self.ipfix, &self.sflow];
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for &address in all.into_iter().flatten() {
            if address.port() == 0 || !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.into_iter()
    }

    /// The number of shards: as configured, or the cores that this process may use.
    #[must_use]
    pub fn shards(&self) -> usize {
        match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        }
    }
}

/// Why the sources cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// A listening socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A mirror interface.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

/// What one shard receives from.
#[derive(Debug)]
pub struct Sources {
    listeners: Vec<Listener>,
    mirrors: Vec<Mirror>,
    ring: Ring,
}

/// What a round has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Messages of all sockets.
    pub messages: usize,
    /// Whether a socket gave as many as one call takes: it may have more.
    pub is_more: bool,
}

/// A burst of one socket; the messages are in the ring.
#[derive(Debug)]
pub enum Burst<'a> {
    /// Export datagrams.
    Datagrams(&'a Ring),
    /// Frames of the interface with this index.
    Frames(u32, &'a Ring),
}

/// Opens all that the config names, for each of `shards`.
///
/// # Errors
///
/// If an address is in use or refused, or an interface cannot be read.
pub fn open(config: &Config, shards: usize) -> Result<Vec<Sources>, ReceiveError> {
    let mut sources: Vec<Sources> =
        (0..shards).map(|_| Sources { listeners: Vec::new(), mirrors: Vec::new(), ring: Ring::new() }).collect();
    for address in config.listen() {
        // `[::]` takes IPv4 as well, unless that has a socket of its own.
        let only_v6 = config.listen().any(|other| other.is_ipv4() && other.port() == address.port());
        let listeners = udp::listen(address, only_v6, shards, config.socket_buffer_octets)?;
        sources.iter_mut().zip(listeners).for_each(|(source, listener)| source.listeners.push(listener));
    }
    for interface in &config.mirror {
        let mirrors = packet::mirror(interface, shards, config.socket_buffer_octets)?;
        sources.iter_mut().zip(mirrors).for_each(|(source, mirror)| source.mirrors.push(mirror));
    }
    Ok(sources)
}

impl Sources {
    /// The listening sockets.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The pauses in which datagrams gather: of `longest` at most, and no longer than the sockets have room for.
    ///
    /// A datagram of 1,500 octets takes 2,304 of the room, so that 250,000 a second fill a good half of it in a nanosecond for each octet.
    #[must_use]
    pub fn gather(&self, longest: Duration) -> Gather {
        let room = self.listeners.iter().map(Listener::buffer_octets).min();
        Gather::new(room.map_or(longest, |octets| longest.min(Duration::from_nanos(octets as u64))))
    }

    /// Datagrams and frames that the kernel dropped for want of room, as far as it has told.
    pub fn drops(&mut self) -> u64 {
        self.listeners.iter().map(Listener::drops).sum::<u64>() + self.mirrors.iter_mut().map(Mirror::drops).sum::<u64>()
    }

    /// Waits until a socket has something or `limit` is over.
    ///
    /// # Errors
    ///
    /// What the kernel says, but for an interruption.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        // A poll structure is eight octets; a shard has a handful of sockets.
        let mut polls = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; POLLED_MAX];
        let sockets = self.listeners.iter().map(|listener| listener.as_fd().as_raw_fd());
        let sockets = sockets.chain(self.mirrors.iter().map(|mirror| mirror.as_fd().as_raw_fd()));
        let count = polls.iter_mut().zip(sockets).map(|(poll, fd)| poll.fd = fd).count();
        let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        #[expect(unsafe_code, reason = "poll has no safe wrapper")]
        // SAFETY: `polls` outlives the call and has at least `count` elements.
        let result = unsafe { libc::poll(polls.as_mut_ptr(), count as libc::nfds_t, limit) };
        let error = io::Error::last_os_error();
        if result < 0 && error.kind() != io::ErrorKind::Interrupted { Err(error) } else { Ok(()) }
    }

    /// Takes one burst of each socket and gives each to `take` with the moment of its arrival.
    ///
    /// # Errors
    ///
    /// What the kernel says; a socket whose interface has gone down is passed over.
    pub fn round(&mut self, mut take: impl FnMut(Timestamp, Burst<'_>)) -> io::Result<Taken> {
        let Self { listeners, mirrors, ring } = self;
        let mut taken = Taken::default();
        for listener in listeners {
            let received = ring.receive(listener.as_fd())?;
            if received == 0 {
                continue;
            }
            taken.add(received);
            if let Some(last) = ring.messages().next_back() {
                listener.note_overflow(&last);
            }
            take(SystemTime::now().into(), Burst::Datagrams(ring));
        }
        for mirror in mirrors {
            let received = match ring.receive(mirror.as_fd()) {
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => 0,
                received => received?,
            };
            if received != 0 {
                taken.add(received);
                take(SystemTime::now().into(), Burst::Frames(mirror.interface(), ring));
            }
        }
        Ok(taken)
    }
}

impl Taken {
    fn add(&mut self, received: usize) {
        self.messages += received;
        self.is_more |= received == BURST_MAX;
    }
}

/// Sockets of one shard that are waited for; those over it are read at every tick.
const POLLED_MAX: usize = 64;

#[cfg(test)]
mod tests;
