//! UDP listening sockets: one a shard and address, sharing the port, with as much room as the kernel gives.

use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::holder::{self, Holder, Transport};
use super::ring::Message;

/// Why a listening socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process, or another socket of this one, receives there.
    #[error("{address}/udp is in use by {}", .holder.as_ref().map_or_else(|| "a process that cannot be seen from here".to_owned(), Holder::to_string))]
    InUse {
        /// The address that was wanted.
        address: SocketAddr,
        /// Who may hold it.
        holder: Option<Holder>,
    },
    /// The system refuses.
    #[error("cannot listen on {address}/udp: {error}")]
    Refused {
        /// The address that was wanted.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

/// One socket of one shard.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
    /// What the kernel keeps for us, in octets of its own account.
    buffer_octets: usize,
    /// The last reading of the socket's drop count, 32 bits that wrap.
    overflow: u32,
    drops: u64,
}

/// Opens `shards` sockets on `address`, over which the kernel spreads senders.
///
/// The first try is without sharing the port, so that a second Weir, or anything else that shares ports, is an error and does
/// not silently take a part of the datagrams.
///
/// With `only_v6`, `[::]` leaves IPv4 to other sockets.
///
/// # Errors
///
/// [`ListenError::InUse`] with the holder, or what the system says.
pub fn listen(address: SocketAddr, only_v6: bool, shards: usize, buffer_octets: usize) -> Result<Vec<Listener>, ListenError> {
    let explain = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address, holder: holder::find(address, Transport::Udp) },
        _ => ListenError::Refused { address, error: source },
    };
    drop(open(address, only_v6, false).map_err(explain)?);
    let mut listeners: Vec<Listener> = Vec::with_capacity(shards);
    for _ in 0..shards {
        // With port 0 the first socket finds a port for all.
        let address = listeners.first().map_or(address, |first| first.address);
        let listener = open(address, only_v6, true).and_then(|socket| Listener::new(socket, address, buffer_octets)).map_err(explain)?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn open(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    set_number(&socket, libc::SO_REUSEPORT, shared.into())?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Listener {
    fn new(socket: Socket, wanted: SocketAddr, buffer_octets: usize) -> io::Result<Self> {
        let address = socket.local_addr()?.as_socket().unwrap_or(wanted);
        // SO_RCVBUFFORCE needs CAP_NET_ADMIN; without it the kernel gives at most net.core.rmem_max.
        if set_number(&socket, libc::SO_RCVBUFFORCE, i32::try_from(buffer_octets).unwrap_or(i32::MAX)).is_err() {
            socket.set_recv_buffer_size(buffer_octets)?;
        }
        set_number(&socket, libc::SO_RXQ_OVFL, 1)?;
        let buffer_octets = socket.recv_buffer_size()?;
        Ok(Self { socket, address, buffer_octets, overflow: 0, drops: 0 })
    }

    /// Where it listens, with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The room for datagrams that wait, in octets; twice what was asked for where all was given, since the kernel counts its own use.
    #[must_use]
    pub fn buffer_octets(&self) -> usize {
        self.buffer_octets
    }

    /// Datagrams that the kernel dropped here for want of room, as far as it has told.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// Takes the drop count that the kernel sends along with a datagram; the last one of a burst says all.
    pub fn note_overflow(&mut self, message: &Message<'_>) {
        if let Some(count) = message.control(libc::SOL_SOCKET, libc::SO_RXQ_OVFL).and_then(|data| data.first_chunk()) {
            let count = u32::from_ne_bytes(*count);
            self.drops += u64::from(count.wrapping_sub(self.overflow));
            self.overflow = count;
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sets an option of the socket level that is one number.
pub(super) fn set_number(socket: &impl AsRawFd, option: i32, value: i32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, option, &value)
}

/// Sets an option whose value is `T`, a plain C structure.
pub(super) fn set_option<T: Copy>(socket: &impl AsRawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    #[expect(unsafe_code, reason = "these options have no safe wrapper")]
    // SAFETY: the descriptor is open, and the pointer leads to `size_of::<T>()` readable octets that outlive the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length_of::<T>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The length of a C structure, as the socket calls want it.
#[expect(clippy::cast_possible_truncation, reason = "no structure of the kernel's is as large as 4 GiB")]
pub(super) const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}
