//! Packets of a mirror port or a capture: an AF_PACKET socket a shard and interface, and a row a packet.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use schemas::counter::SamplingSource;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::ledger::Ledger;
use schemas::net::Address;
use schemas::time::Timestamp;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::ring::Message;
use super::udp::{length_of, set_number, set_option};
use crate::decode::frame::{Link, dissect};

/// Octets of a frame that are kept: enough for every header that is read.
pub const SNAP_OCTETS: u32 = 256;
/// `::1`, which stands for this machine where packets are seen and not exported.
pub const OBSERVER: Address = Address(1);

/// The columns of a packet's row.
const COLUMNS: ColumnSet = ColumnSet::of(&[
    Column::SourceAddress,
    Column::DestinationAddress,
    Column::SourcePort,
    Column::DestinationPort,
    Column::ProtocolIdentifier,
    Column::TcpControlBits,
    Column::OctetDeltaCount,
    Column::PacketDeltaCount,
    Column::LinkLayerOctets,
    Column::SamplingInterval,
    Column::FlowStartMilliseconds,
    Column::FlowEndMilliseconds,
    Column::IngressInterface,
    Column::Fragment,
    Column::IcmpTypeCode,
    Column::IpClassOfService,
    Column::IpTtl,
    Column::FlowLabel,
    Column::VlanId,
    Column::SourceMacAddress,
    Column::DestinationMacAddress,
]);

/// A frame as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its link layer; `None` if Weir cannot read it.
    pub link: Option<Link>,
    /// Its first octets.
    pub octets: &'a [u8],
    /// Its length on the wire.
    pub original_octets: u32,
    /// When it was seen.
    pub arrival: Timestamp,
    /// The VLAN whose tag the network card took off, 0 if none.
    pub vlan_id: u16,
}

/// Writes a row for each frame that carries IP, at most 65,536, and counts every one.
///
/// For the ledger a frame is a datagram with one set. The caller keeps room for 65,536 rows.
pub fn decode<'a>(frames: impl Iterator<Item = Frame<'a>>, interface: u32, ledger: &mut Ledger, batch: &mut FlowBatch) {
    let mut rows = 0;
    let mut arrival = Timestamp::default();
    for frame in frames.take(1 << 16) {
        arrival = frame.arrival;
        ledger.datagrams_received += 1;
        ledger.sets_seen += 1;
        let Some(headers) = frame.link.and_then(|link| dissect(link, frame.octets)) else {
            ledger.datagrams_malformed += 1;
            ledger.sets_malformed += 1;
            continue;
        };
        ledger.datagrams_decoded += 1;
        ledger.sets_decoded += 1;
        if !headers.is_ip() {
            ledger.sets_of_unknown_kind += 1;
            continue;
        }
        let row = batch.rows() + rows;
        macro_rules! put {
            ($($column:ident = $value:expr),* $(,)?) => {
                $(if let Some(place) = batch.$column.get_mut(row) { *place = $value; })*
            };
        }
        put!(
            source_address = headers.source_address,
            destination_address = headers.destination_address,
            source_port = headers.source_port,
            destination_port = headers.destination_port,
            protocol_identifier = headers.protocol_identifier,
            tcp_control_bits = headers.tcp_control_bits,
            octet_delta_count = u64::from(frame.original_octets),
            packet_delta_count = 1,
            link_layer_octets = headers.link_layer_octets(frame.original_octets),
            sampling_interval = 1,
            flow_start_milliseconds = frame.arrival.milliseconds(),
            flow_end_milliseconds = frame.arrival.milliseconds(),
            ingress_interface = interface,
            fragment = headers.fragment,
            icmp_type_code = headers.icmp_type_code,
            ip_class_of_service = headers.ip_class_of_service,
            ip_ttl = headers.ip_ttl,
            flow_label = headers.flow_label,
            vlan_id = if frame.vlan_id != 0 { frame.vlan_id } else { headers.vlan_id },
            source_mac_address = headers.source_mac_address,
            destination_mac_address = headers.destination_mac_address,
        );
        rows += 1;
    }
    ledger.records_decoded += rows as u64;
    let origin = Origin {
        exporter: OBSERVER,
        source_port: 0,
        version: Version::Packet,
        observation_domain_id: interface,
        template_id: 0,
        arrival_milliseconds: arrival.milliseconds(),
        export_milliseconds: arrival.milliseconds(),
        clock_offset_milliseconds: 0,
        time_resolution_milliseconds: 1,
        sampling_source: SamplingSource::Record,
        present: COLUMNS,
        derived: ColumnSet::default(),
    };
    batch.commit(rows, origin);
}

/// Why a mirror interface cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// There is no such interface.
    #[error("there is no network interface {name}")]
    Unknown {
        /// Its name in the config.
        name: String,
    },
    /// The system refuses; reading packets needs CAP_NET_RAW.
    #[error("cannot read packets of {name}: {source}")]
    Refused {
        /// Its name in the config.
        name: String,
        /// What the system says.
        source: io::Error,
    },
}

/// One socket of one shard on one interface.
#[derive(Debug)]
pub struct Mirror {
    socket: Socket,
    interface: u32,
    drops: u64,
}

/// Opens `shards` sockets on an interface, over which the kernel spreads flows.
///
/// # Errors
///
/// If there is no such interface or packets may not be read.
pub fn mirror(name: &str, shards: usize, buffer_octets: usize) -> Result<Vec<Mirror>, MirrorError> {
    let unknown = || MirrorError::Unknown { name: name.to_owned() };
    let c_name = CString::new(name).map_err(|_| unknown())?;
    #[expect(unsafe_code, reason = "if_nametoindex has no safe wrapper")]
    // SAFETY: the name is a C string that outlives the call.
    let interface = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
    if interface == 0 {
        return Err(unknown());
    }
    let open = || Mirror::open(interface, shards > 1, buffer_octets);
    (0..shards).map(|_| open().map_err(|source| MirrorError::Refused { name: name.to_owned(), source })).collect()
}

impl Mirror {
    fn open(interface: u32, spread: bool, buffer_octets: usize) -> io::Result<Self> {
        // Protocol 0 receives nothing until the socket is bound to its interface.
        let socket = Socket::new(Domain::from(libc::AF_PACKET), Type::from(libc::SOCK_RAW), Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        if set_number(&socket, libc::SO_RCVBUFFORCE, i32::try_from(buffer_octets).unwrap_or(i32::MAX)).is_err() {
            socket.set_recv_buffer_size(buffer_octets)?;
        }
        // One instruction, "accept so many octets": the rest of a frame is never copied.
        let mut keep = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: SNAP_OCTETS };
        let program = libc::sock_fprog { len: 1, filter: &raw mut keep };
        set_option(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32)?;
        set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1i32)?;
        bind(&socket, interface)?;
        let promiscuous = libc::packet_mreq { mr_ifindex: interface.cast_signed(), mr_type: PROMISCUOUS, mr_alen: 0, mr_address: [0; 8] };
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)?;
        if spread {
            // Sockets of this process on this interface make one group; a flow stays with one of them.
            let group = (std::process::id() ^ interface << 10) & 0xffff;
            set_option(
                &socket,
                libc::SOL_PACKET,
                libc::PACKET_FANOUT,
                &(group | (libc::PACKET_FANOUT_HASH | FANOUT_IGNORE_OUTGOING) << 16),
            )?;
        }
        Ok(Self { socket, interface, drops: 0 })
    }

    /// The interface's index.
    #[must_use]
    pub fn interface(&self) -> u32 {
        self.interface
    }

    /// Frames that the kernel dropped here for want of room, so far.
    pub fn drops(&mut self) -> u64 {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = length_of::<libc::tpacket_stats>();
        #[expect(unsafe_code, reason = "PACKET_STATISTICS has no safe wrapper")]
        // SAFETY: both pointers lead to values of this frame, of the size that `length` says.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            // Each reading starts the kernel's count anew.
            self.drops += u64::from(statistics.tp_drops);
        }
        self.drops
    }
}

impl AsFd for Mirror {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `AF_PACKET`, `ETH_P_ALL` and `PACKET_MR_PROMISC` in the 16 bits that their fields have.
const PACKET_FAMILY: u16 = 17;
const EVERY_PROTOCOL: u16 = 3;
const PROMISCUOUS: u16 = 1;
/// `PACKET_IGNORE_OUTGOING` of linux/if_packet.h.
const PACKET_IGNORE_OUTGOING: i32 = 23;
/// `PACKET_FANOUT_FLAG_IGNORE_OUTGOING` of linux/if_packet.h: a group does not heed its sockets' own setting.
const FANOUT_IGNORE_OUTGOING: u32 = 0x4000;
/// `TP_STATUS_VLAN_VALID` of linux/if_packet.h.
const VLAN_VALID: u32 = 1 << 4;

fn bind(socket: &Socket, interface: u32) -> io::Result<()> {
    let mut storage = SockAddrStorage::zeroed();
    #[expect(unsafe_code, reason = "socket2 has no constructor for packet addresses")]
    // SAFETY: `sockaddr_ll` is the form of an AF_PACKET address and fits the storage, as the call checks.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = PACKET_FAMILY;
    address.sll_protocol = EVERY_PROTOCOL.to_be();
    address.sll_ifindex = interface.cast_signed();
    #[expect(unsafe_code, reason = "socket2 has no constructor for packet addresses")]
    // SAFETY: the storage holds a whole `sockaddr_ll`, and the length is its.
    let address = unsafe { SockAddr::new(storage, length_of::<libc::sockaddr_ll>()) };
    socket.bind(&address)
}

impl<'a> Frame<'a> {
    /// The frame of a mirror socket's message.
    #[must_use]
    pub fn of(message: &Message<'a>, arrival: Timestamp) -> Self {
        let link = match message.hardware_type() {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(Link::Ethernet),
            libc::ARPHRD_NONE | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT => Some(Link::Ip),
            libc::ARPHRD_PPP => Some(Link::Ppp),
            _ => None,
        };
        // tpacket_auxdata: status, length, kept octets, two offsets, VLAN.
        let auxiliary = message.control(libc::SOL_PACKET, libc::PACKET_AUXDATA).unwrap_or_default();
        let word = |offset: usize| auxiliary.get(offset..)?.first_chunk().copied().map(u32::from_ne_bytes);
        let tag = || auxiliary.get(16..)?.first_chunk().copied().map(u16::from_ne_bytes);
        let tagged = word(0).is_some_and(|status| status & VLAN_VALID != 0);
        let original_octets = word(4).unwrap_or(u32::try_from(message.octets.len()).unwrap_or(u32::MAX));
        let vlan_id = if tagged { tag().unwrap_or(0) & 0x0fff } else { 0 };
        Self { link, octets: message.octets, original_octets, arrival, vlan_id }
    }
}

#[cfg(test)]
mod tests;
