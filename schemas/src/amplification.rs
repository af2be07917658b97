//! The registry of UDP services whose answers are larger than their questions, by the port they answer from.

/// A service that reflects and amplifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The UDP source port of its answers.
    pub port: u16,
    /// Its name; an attack by it has the subtype `<name>_amplification`.
    pub name: &'static str,
    /// IP octets from which on an answer is one that a client does not ask for, where the length tells.
    pub answer_octets_min: Option<u16>,
}

const fn service(port: u16, name: &'static str) -> Service {
    Service { port, name, answer_octets_min: None }
}

const fn answers(port: u16, name: &'static str, answer_octets_min: u16) -> Service {
    Service { port, name, answer_octets_min: Some(answer_octets_min) }
}

/// Every service, ascending by port.
pub const SERVICES: &[Service] = &[
    service(17, "qotd"),
    service(19, "chargen"),
    // Longer than what a client without EDNS takes: 512 octets (RFC 1035 §4.2.1) behind 28 of IPv4 and UDP.
    answers(53, "dns", 541),
    service(69, "tftp"),
    service(111, "portmap"),
    // A time answer is 48 octets (RFC 5905 §7.3), 76 with IPv4 and UDP; with a message digest of 20 octets and its key 100.
    answers(123, "ntp", 101),
    service(137, "netbios"),
    service(161, "snmp"),
    service(177, "xdmcp"),
    service(389, "cldap"),
    service(427, "slp"),
    service(500, "isakmp"),
    service(520, "rip"),
    service(623, "ipmi"),
    service(1194, "openvpn"),
    service(1434, "mssql"),
    service(1604, "citrix"),
    service(1900, "ssdp"),
    service(3283, "ard"),
    service(3389, "rdp"),
    service(3702, "wsd"),
    service(4500, "isakmp"),
    service(5060, "sip"),
    service(5093, "sentinel"),
    service(5353, "mdns"),
    service(5683, "coap"),
    service(10001, "ubiquiti"),
    service(11211, "memcached"),
    service(27015, "steam"),
    service(30120, "fivem"),
    service(32414, "plex"),
    service(33848, "jenkins"),
    service(37810, "dahua"),
    service(47808, "bacnet"),
];

/// The service that answers from a UDP port.
#[must_use]
pub fn service_of(source_port: u16) -> Option<&'static Service> {
    let index = SERVICES.binary_search_by_key(&source_port, |service| service.port).ok()?;
    SERVICES.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_ascends_so_that_every_service_is_found_by_its_port() {
        assert!(SERVICES.is_sorted_by(|left, right| left.port < right.port));
        for service in SERVICES {
            assert_eq!(service_of(service.port), Some(service));
        }
        assert_eq!(service_of(443), None);
        assert_eq!(service_of(4500).map(|service| service.name), Some("isakmp"));
    }
}
