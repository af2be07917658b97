//! What an application is called, by protocol and port.

mod service;

use super::config::{Application, Transport};
use service::{PROTOCOLS, SERVICES};

/// Ports of a protocol.
const PORTS: usize = 1 << 16;

/// Names by protocol and port: one load each for both ports, and one for the name.
#[derive(Clone, Debug)]
pub struct Applications {
    names: Vec<Box<str>>,
    /// Index of the name by port, for TCP, UDP and SCTP; 0 = none.
    ports: [Box<[u16]>; 3],
    /// Index of the name by protocol, of those without ports.
    protocols: [u16; 256],
}

impl Default for Applications {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Applications {
    /// The built-in names, and over them those of the config.
    #[must_use]
    pub fn new(own: &[Application]) -> Self {
        let empty = || vec![0; PORTS].into_boxed_slice();
        let mut sum = Self { names: vec![Box::default()], ports: [empty(), empty(), empty()], protocols: [0; 256] };
        for (name, protocol) in PROTOCOLS {
            let number = sum.number(name);
            if let Some(cell) = sum.protocols.get_mut(usize::from(*protocol)) {
                *cell = number;
            }
        }
        for (name, transports, ports) in SERVICES {
            let number = sum.number(name);
            transports.iter().for_each(|transport| sum.set(*transport, ports, number));
        }
        for Application { name, protocol, ports } in own {
            let number = sum.number(name);
            sum.set(*protocol, ports, number);
        }
        sum
    }

    /// What the application of a flow is called; empty if nobody knows.
    ///
    /// Of two known ports the lower one is taken for the service: it is the other end that was given one from above.
    #[must_use]
    pub fn name(&self, protocol: u8, source_port: u16, destination_port: u16) -> &str {
        let ports = match protocol {
            6 => &self.ports[0],
            17 => &self.ports[1],
            132 => &self.ports[2],
            other => return self.text(self.protocols.get(usize::from(other)).copied().unwrap_or(0)),
        };
        let number = |port: u16| ports.get(usize::from(port)).copied().unwrap_or(0);
        let (lower, higher) = (source_port.min(destination_port), source_port.max(destination_port));
        self.text(match number(lower) {
            0 => number(higher),
            known => known,
        })
    }

    fn text(&self, number: u16) -> &str {
        self.names.get(usize::from(number)).map_or("", |name| name)
    }

    fn number(&mut self, name: &str) -> u16 {
        let known = self.names.iter().position(|own| **own == *name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        // There are as many numbers as ports; a name behind the last one stays unknown.
        u16::try_from(index).unwrap_or(0)
    }

    fn set(&mut self, transport: Transport, ports: &[u16], number: u16) {
        let own = match transport {
            Transport::Tcp => &mut self.ports[0],
            Transport::Udp => &mut self.ports[1],
            Transport::Sctp => &mut self.ports[2],
        };
        for port in ports {
            if let Some(cell) = own.get_mut(usize::from(*port)) {
                *cell = number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_known_port_names_the_application_and_of_two_the_lower() {
        let applications = Applications::default();
        assert_eq!(applications.name(6, 51_234, 443), "https");
        assert_eq!(applications.name(17, 443, 51_234), "quic");
        assert_eq!(applications.name(17, 53, 123), "dns");
        assert_eq!(applications.name(17, 50_001, 50_002), "");
        // Port 0 is no service, and a flow of a protocol without ports is known by that.
        assert_eq!(applications.name(6, 0, 443), "https");
        assert_eq!(applications.name(1, 0, 2_048), "icmp");
        assert_eq!(applications.name(47, 0, 0), "gre");
        assert_eq!(applications.name(255, 0, 0), "");
    }

    #[test]
    fn the_config_names_over_what_is_built_in() {
        let own = Application { name: "game".to_owned(), protocol: Transport::Udp, ports: vec![443, 30_120] };
        let applications = Applications::new(&[own]);
        assert_eq!(applications.name(17, 443, 51_234), "game");
        assert_eq!(applications.name(17, 30_120, 51_234), "game");
        assert_eq!(applications.name(6, 443, 51_234), "https");
    }

    #[test]
    fn no_port_of_a_protocol_is_named_twice() {
        let mut seen = BTreeSet::new();
        for (name, transports, ports) in SERVICES {
            assert!(!name.is_empty() && !transports.is_empty() && !ports.is_empty(), "{name}");
            for transport in *transports {
                for port in *ports {
                    assert!(seen.insert((*transport as u8, *port)), "{name}: {transport:?} {port} is named before");
                }
            }
        }
        assert!(SERVICES.len() >= 140, "{}", SERVICES.len());
    }
}
