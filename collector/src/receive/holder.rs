//! Who holds a UDP or TCP port, by /proc.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name as the kernel knows it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (pid {})", self.name, self.pid)
    }
}

/// What a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Sockets that receive datagrams.
    Udp,
    /// Sockets that listen for connections.
    Tcp,
}

impl Transport {
    /// The kernel's tables of its sockets.
    fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Udp => ["/proc/net/udp", "/proc/net/udp6"],
            Self::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        }
    }

    /// Whether a socket in this state of the table stands in the way of another: of TCP those that listen, `TCP_LISTEN` = 10.
    fn holds(self, state: &str) -> bool {
        self == Self::Udp || state == "0A"
    }
}

/// The process whose socket stands in the way of `address`; `None` if its owner hides it or it has gone.
#[must_use]
pub fn find(address: SocketAddr, transport: Transport) -> Option<Holder> {
    let inodes: Vec<u64> = transport
        .tables()
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| conflicting(&table, address, transport))
        .collect();
    processes().find(|holder| has_socket(holder.pid, &inodes))
}

/// Inodes of the table's sockets on the same port, whose address is the same or covers it or is covered.
fn conflicting(table: &str, address: SocketAddr, transport: Transport) -> Vec<u64> {
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let Some((own, port)) = fields.nth(1).and_then(socket_address) else { continue };
        let meet = own == address.ip() || own.is_unspecified() || address.ip().is_unspecified();
        // The peer stands before the state.
        if port == address.port() && meet && fields.nth(1).is_some_and(|state| transport.holds(state)) {
            // tx:rx, timer, retransmits, user and timeout stand between the state and the inode.
            inodes.extend(fields.nth(5).and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    inodes
}

/// An address and port of /proc/net: each 32 bits of the address in the machine's order, the port as a number.
fn socket_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::new();
    for place in (0..address.len()).step_by(8) {
        octets.extend(u32::from_str_radix(address.get(place..place + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match *octets.as_slice() {
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)).to_canonical(),
    };
    Some((address, port))
}

fn processes() -> impl Iterator<Item = Holder> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim_end().to_owned();
        Some(Holder { pid, name })
    })
}

fn has_socket(pid: u32, inodes: &[u64]) -> bool {
    let files = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| {
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode| inodes.contains(&inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_names_the_inode_of_a_conflicting_socket() {
        // Port 2055 is 0x0807; 127.0.0.1 is 0x7f000001, read in the machine's order.
        let loopback = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
              17: {loopback}:0807 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000 0\n\
              18: 00000000:18EB 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000 0\n"
        );
        assert_eq!(conflicting(&table, "127.0.0.1:2055".parse().unwrap(), Transport::Udp), [4711]);
        assert_eq!(conflicting(&table, "0.0.0.0:2055".parse().unwrap(), Transport::Udp), [4711]);
        assert_eq!(conflicting(&table, "127.0.0.2:2055".parse().unwrap(), Transport::Udp), [0; 0]);
        assert_eq!(conflicting(&table, "192.0.2.1:6379".parse().unwrap(), Transport::Udp), [4712]);
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let holder = find(socket.local_addr().unwrap(), Transport::Udp).unwrap();
        assert_eq!(holder.pid, std::process::id());
    }

    #[test]
    fn of_tcp_only_who_listens_holds_a_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(find(address, Transport::Tcp).unwrap().pid, std::process::id());
        assert_eq!(find(client.local_addr().unwrap(), Transport::Tcp), None);
    }
}
