//! A burst of datagrams or frames by one system call into buffers that are made once.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::udp::length_of;

/// Datagrams that one call takes at most.
pub const BURST_MAX: usize = MESSAGES_MAX as usize;
const MESSAGES_MAX: libc::c_uint = 64;
/// The largest datagram that IP can carry.
pub const DATAGRAM_OCTETS_MAX: usize = 65_535;
/// From one buffer to the next. Buffers a power of two apart would fall into the same cache sets.
const STRIDE: usize = DATAGRAM_OCTETS_MAX + 1 + 2_112;
const NAME_OCTETS: usize = 32;
const CONTROL_OCTETS: usize = 64;

/// A socket's address as the kernel writes it: `sockaddr_in`, `sockaddr_in6` or `sockaddr_ll`.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
struct Name([u8; NAME_OCTETS]);

#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
struct Control([u8; CONTROL_OCTETS]);

#[derive(Clone, Copy, Debug, Default)]
struct Length {
    octets: usize,
    control: usize,
    flags: i32,
}

/// Room for one burst, about 4 MiB; pages are touched only as far as datagrams reach.
#[derive(Debug)]
pub struct Ring {
    octets: Box<[u8]>,
    names: Box<[Name; BURST_MAX]>,
    controls: Box<[Control; BURST_MAX]>,
    lengths: [Length; BURST_MAX],
    filled: usize,
}

/// One datagram or frame of a burst.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What was received.
    pub octets: &'a [u8],
    /// Whether it was longer than its buffer.
    pub is_cut: bool,
    name: &'a [u8; NAME_OCTETS],
    control: &'a [u8],
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// An empty ring.
    #[must_use]
    pub fn new() -> Self {
        Self {
            octets: vec![0; STRIDE * BURST_MAX].into_boxed_slice(),
            names: Box::new([Name([0; NAME_OCTETS]); BURST_MAX]),
            controls: Box::new([Control([0; CONTROL_OCTETS]); BURST_MAX]),
            lengths: [Length::default(); BURST_MAX],
            filled: 0,
        }
    }

    /// Takes what the socket holds, at most [`BURST_MAX`] messages, without waiting; answers how many.
    ///
    /// # Errors
    ///
    /// What the kernel says, but for "nothing there" and "interrupted", which are 0 messages.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.filled = 0;
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BURST_MAX];
        let buffers = self.octets.chunks_exact_mut(STRIDE);
        for (vector, buffer) in vectors.iter_mut().zip(buffers) {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: DATAGRAM_OCTETS_MAX };
        }
        #[expect(unsafe_code, reason = "msghdr has private padding on some platforms")]
        // SAFETY: `mmsghdr` is plain numbers and pointers; all zeros is an empty message.
        let mut headers: [libc::mmsghdr; BURST_MAX] = unsafe { std::mem::zeroed() };
        let places = vectors.iter_mut().zip(self.names.iter_mut()).zip(self.controls.iter_mut());
        for (header, ((vector, name), control)) in headers.iter_mut().zip(places) {
            header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = length_of::<Name>();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_OCTETS;
        }
        #[expect(unsafe_code, reason = "recvmmsg has no safe wrapper")]
        // SAFETY: the descriptor is open while borrowed. Every pointer in `headers` leads to memory of `self` or to
        // `vectors`, both borrowed here for longer than the call, of the length that stands beside it; no two overlap.
        let received =
            unsafe { libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), MESSAGES_MAX, libc::MSG_DONTWAIT, std::ptr::null_mut()) };
        let Ok(filled) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(filled) {
            *length = Length {
                octets: (header.msg_len as usize).min(DATAGRAM_OCTETS_MAX),
                control: header.msg_hdr.msg_controllen.min(CONTROL_OCTETS),
                flags: header.msg_hdr.msg_flags,
            };
        }
        self.filled = filled;
        Ok(filled)
    }

    /// The messages of the last burst, in the order of arrival.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = Message<'_>> + ExactSizeIterator {
        let buffers = self.octets.chunks_exact(STRIDE).zip(self.names.iter()).zip(self.controls.iter()).zip(&self.lengths);
        buffers.take(self.filled).map(|(((buffer, name), control), length)| Message {
            octets: buffer.get(..length.octets).unwrap_or_default(),
            is_cut: length.flags & libc::MSG_TRUNC != 0,
            name: &name.0,
            control: control.0.get(..length.control).unwrap_or_default(),
        })
    }
}

impl Message<'_> {
    /// The sender's address and port in network order, IPv4 as v4-mapped; `None` if the sender is no internet socket.
    #[must_use]
    pub fn sender(&self) -> Option<(schemas::net::Address, u16)> {
        let [f0, f1, p0, p1, rest @ ..] = self.name;
        let port = u16::from_be_bytes([*p0, *p1]);
        match i32::from(u16::from_ne_bytes([*f0, *f1])) {
            libc::AF_INET => Some((schemas::net::Address::from_v4(u32::from_be_bytes(*rest.first_chunk()?)), port)),
            // Four octets of flow label stand in front of the address.
            libc::AF_INET6 => Some((schemas::net::Address(u128::from_be_bytes(*rest.get(4..)?.first_chunk()?)), port)),
            _ => None,
        }
    }

    /// The kind of interface that a packet socket's frame came by, an ARPHRD number.
    #[must_use]
    pub fn hardware_type(&self) -> u16 {
        let [_, _, _, _, _, _, _, _, h0, h1, ..] = *self.name;
        u16::from_ne_bytes([h0, h1])
    }

    /// The data of a control message.
    #[must_use]
    pub fn control(&self, level: i32, kind: i32) -> Option<&[u8]> {
        const HEADER: usize = size_of::<usize>() + 8;
        let mut rest = self.control;
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = usize::from_ne_bytes(*length);
            let (own_level, behind) = behind.split_first_chunk()?;
            let (own_kind, _) = behind.split_first_chunk()?;
            if (i32::from_ne_bytes(*own_level), i32::from_ne_bytes(*own_kind)) == (level, kind) {
                return rest.get(HEADER..length);
            }
            rest = rest.get(length.next_multiple_of(size_of::<usize>()).max(HEADER)..)?;
        }
        None
    }
}
