//! The sender: ready datagrams by `sendmmsg`, paced to a rate of flows a second, over loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use bench::synthesize::{Draft, Exporter, Hosts, Layout, Pool, Protocol, Traffic};
use schemas::time::Timestamp;
use serde::Serialize;

/// Most datagrams of one system call.
const BURST_MAX: usize = 64;
/// How long the sender sleeps when nothing is due; bursts are what comes due meanwhile.
const NAP: Duration = Duration::from_micros(100);
/// When the sender itself was held up for longer, that time is given up instead of being caught up in one burst.
const LAG_MAX: Duration = Duration::from_millis(5);
/// How long templates get before data follows.
const TEMPLATE_HEAD_START: Duration = Duration::from_millis(50);

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The traffic's hosts.
    pub(crate) hosts: Hosts,
    /// Number of exporters; each sends from an address of its own, 127.0.1.1 and on.
    pub(crate) exporters: u8,
    /// The sampling interval that they tell.
    pub(crate) sampling_interval: u32,
    /// Ready datagrams of each exporter.
    pub(crate) datagrams: usize,
    /// The seed.
    pub(crate) seed: u64,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Datagrams that the kernel took, those with templates included.
    pub(crate) datagrams: u64,
    /// Flow records in them.
    pub(crate) flows: u64,
    /// Datagrams that nobody listened for.
    pub(crate) refused: u64,
    /// Time from the first to the last.
    pub(crate) seconds: f64,
    /// Flows a second that were reached.
    pub(crate) flows_per_second: f64,
}

/// Exporters with their sockets.
pub(crate) struct Sender {
    exporters: Vec<(UdpSocket, Pool)>,
    flows_per_datagram: f64,
}

impl Sender {
    /// Makes the datagrams and the sockets, connected to `target`.
    ///
    /// # Errors
    ///
    /// If a socket cannot be made or bound.
    pub(crate) fn new(plan: &Plan, target: SocketAddr) -> io::Result<Self> {
        let now = Timestamp::from(SystemTime::now());
        let mut exporters = Vec::new();
        for number in 1..=plan.exporters.max(1) {
            let own = if target.ip().is_loopback() && target.is_ipv4() {
                IpAddr::V4(Ipv4Addr::new(127, 0, 1, number))
            } else if target.is_ipv4() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            } else {
                IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
            };
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect(target)?;
            let layout = Layout::new(plan.protocol, plan.sampling_interval);
            let exporter = Exporter::new(layout, Timestamp(now.0.saturating_sub(3_600_000)));
            let mut traffic = Traffic::new(plan.seed ^ u64::from(number) << 32, plan.hosts, 60_000);
            exporters.push((socket, Pool::new(exporter, &mut traffic, plan.datagrams, now)));
        }
        let mean: f64 = exporters.iter().map(|(_, pool)| pool.flows_per_datagram()).sum();
        let flows_per_datagram = mean / exporters.len() as f64;
        Ok(Self { exporters, flows_per_datagram })
    }

    /// Points all exporters at another collector and makes their templates due.
    ///
    /// # Errors
    ///
    /// If a socket cannot be connected.
    pub(crate) fn aim(&mut self, target: SocketAddr) -> io::Result<()> {
        for (socket, pool) in &mut self.exporters {
            socket.connect(target)?;
            pool.restart();
        }
        Ok(())
    }

    /// Mean number of flows in a datagram.
    pub(crate) fn flows_per_datagram(&self) -> f64 {
        self.flows_per_datagram
    }

    /// Sends at `flows_per_second` (0 = as fast as it goes) for `length` or until `flows_max` flows are sent.
    ///
    /// # Errors
    ///
    /// What the kernel says, but for "connection refused", which is counted.
    pub(crate) fn run(&mut self, flows_per_second: f64, length: Duration, flows_max: u64) -> io::Result<Report> {
        let mut report = Report::default();
        if self.announce(&mut report)? {
            std::thread::sleep(TEMPLATE_HEAD_START);
        }
        let datagrams_per_second = flows_per_second / self.flows_per_datagram;
        let began = Instant::now();
        let mut paced_from = began;
        let mut paced = 0.0;
        let mut turn = 0;
        while began.elapsed() < length && report.flows < flows_max {
            let elapsed = paced_from.elapsed().as_secs_f64();
            let mut due = if flows_per_second > 0.0 { elapsed * datagrams_per_second - paced } else { BURST_MAX as f64 };
            if due < 1.0 {
                std::thread::sleep(NAP);
                continue;
            }
            let lag = due / datagrams_per_second;
            if flows_per_second > 0.0 && lag > LAG_MAX.as_secs_f64() {
                paced_from += Duration::from_secs_f64(lag) - LAG_MAX;
                due = LAG_MAX.as_secs_f64() * datagrams_per_second;
            }
            // An exporter's turn is one burst.
            turn = (turn + 1) % self.exporters.len();
            let sent = self.burst(turn, whole(due).clamp(1, BURST_MAX), &mut report)?;
            paced += sent as f64;
            if turn == 0 {
                self.announce(&mut report)?;
            }
        }
        report.seconds = began.elapsed().as_secs_f64();
        report.flows_per_second = report.flows as f64 / report.seconds;
        Ok(report)
    }

    fn announce(&mut self, report: &mut Report) -> io::Result<bool> {
        let now = Timestamp::from(SystemTime::now());
        let mut any = false;
        for (socket, pool) in &mut self.exporters {
            if let Some(draft) = pool.announcement(now) {
                any = true;
                send(socket, std::slice::from_ref(&draft), report)?;
            }
        }
        Ok(any)
    }

    fn burst(&mut self, turn: usize, count: usize, report: &mut Report) -> io::Result<usize> {
        let Some((socket, pool)) = self.exporters.get_mut(turn) else {
            return Ok(0);
        };
        let burst = pool.burst(Timestamp::from(SystemTime::now()), count);
        send(socket, burst, report)?;
        Ok(burst.len())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is wanted")]
fn whole(number: f64) -> usize {
    number as usize
}

/// Sends all of `drafts`; a refused datagram is counted and passed over.
fn send(socket: &UdpSocket, drafts: &[Draft], report: &mut Report) -> io::Result<()> {
    let mut rest = drafts;
    while !rest.is_empty() {
        match send_some(socket, rest) {
            Ok(count) => {
                let (sent, left) = rest.split_at(count.clamp(1, rest.len()));
                report.datagrams += sent.len() as u64;
                report.flows += sent.iter().map(|draft| u64::from(draft.flows())).sum::<u64>();
                rest = left;
            }
            // The error belongs to an earlier datagram: the socket is free for the next one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => report.refused += 1,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One `sendmmsg` of at most [`BURST_MAX`] datagrams; returns how many the kernel took.
#[expect(unsafe_code, reason = "sendmmsg has no safe form in the standard library")]
fn send_some(socket: &UdpSocket, drafts: &[Draft]) -> io::Result<usize> {
    let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut vectors = [none; BURST_MAX];
    // SAFETY: all-zero is a valid mmsghdr: null pointers with zero lengths.
    let mut messages: [libc::mmsghdr; BURST_MAX] = unsafe { std::mem::zeroed() };
    let mut count = 0;
    for ((draft, vector), message) in drafts.iter().zip(&mut vectors).zip(&mut messages) {
        let octets = draft.octets();
        *vector = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` messages point at vectors, and those at octets, that outlive the call; sendmmsg only reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
