//! Random flow records as the store keeps them, and what a plain reading of them says: the other side of every comparison.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use bench::synthesize::Random;
use schemas::net::{Address, Prefix};

/// A record, or one direction of a two-way record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Unix seconds.
    pub time: u64,
    /// 0 = not known.
    pub sampling_interval: u64,
    /// The sender.
    pub exporter: Address,
    /// What belongs to the source and to the destination.
    pub ends: [End; 2],
    /// IANA's number.
    pub protocol: u64,
    /// TCP's control bits.
    pub flags: u64,
    /// From source to destination.
    pub octets: u64,
    /// From source to destination.
    pub packets: u64,
    /// From destination to source.
    pub reverse: (u64, u64),
    /// 0 or 1.
    pub direction: u64,
    /// Counted elsewhere.
    pub is_repeat: bool,
    /// What it is for.
    pub application: &'static str,
}

/// What belongs to one end.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Where.
    pub address: Address,
    /// The length of its prefix.
    pub prefix_length: u8,
    /// The port.
    pub port: u64,
    /// The interface.
    pub interface: u64,
    /// 0 undefined, 1 external, 2 internal.
    pub boundary: u64,
    /// The autonomous system.
    pub system: u64,
    /// The country.
    pub country: &'static str,
    /// The city.
    pub city: &'static str,
    /// The customer.
    pub customer: &'static str,
    /// The site.
    pub site: &'static str,
}

/// Countries of ends.
pub const COUNTRIES: &[&str] = &["", "DE", "FR", "US", "JP"];
/// Cities of ends.
pub const CITIES: &[&str] = &["", "Köln", "Aix-en-Provence", "東京"];
/// Customers of ends, and some that would break out of a text that was pasted.
pub const CUSTOMERS: &[&str] = &["", "acme", "O'Neill", "a\\b", "x\" OR 1=1 --"];
/// Sites of ends.
pub const SITES: &[&str] = &["", "north", "{p0:String}"];
/// Applications.
pub const APPLICATIONS: &[&str] = &["", "dns", "https", "ntp"];
/// Ports of ends.
pub const PORTS: &[u64] = &[0, 53, 80, 123, 443, 1_024, 40_000, 65_535];
/// Protocols.
pub const PROTOCOLS: &[u64] = &[1, 6, 17, 47, 255];

/// One of several.
pub fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(u32::try_from(of.len()).unwrap())).unwrap()]
}

impl End {
    fn random(random: &mut Random) -> Self {
        let host = u128::from(random.below(16));
        let (address, prefix_length) = match random.below(4) {
            0 => (0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(random.below(4)) << 80 | host, pick(random, &[32, 48, 64])),
            1 => (0xffff_0a00_0000 | u128::from(random.below(4)) << 16 | host, pick(random, &[8, 16, 24])),
            _ => (0xffff_cb00_7100 | u128::from(random.below(2)) << 8 | host, pick(random, &[24, 25, 32])),
        };
        Self {
            address: Address(address),
            prefix_length,
            port: pick(random, PORTS),
            interface: u64::from(random.below(4)),
            boundary: u64::from(random.below(3)),
            system: pick(random, &[0, 64_496, 64_500, 4_200_000_000]),
            country: pick(random, COUNTRIES),
            city: pick(random, CITIES),
            customer: pick(random, CUSTOMERS),
            site: pick(random, SITES),
        }
    }

    /// Its prefix.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        Prefix::of(self.address, self.prefix_length)
    }
}

impl Record {
    /// A record of one of the `seconds` from `start` on.
    #[must_use]
    pub fn random(random: &mut Random, start: u64, seconds: u32) -> Self {
        let packets = u64::from(random.below(1_000));
        let octets = packets * u64::from(random.within(40, 1_500));
        let reverse_packets = u64::from(if random.chance(15) { random.below(50) } else { 0 });
        Self {
            time: start + u64::from(random.below(seconds)),
            sampling_interval: pick(random, &[0, 1, 1, 100, 1_000]),
            exporter: Address(if random.chance(50) { 0xffff_c000_0201 } else { 0x2001_0db8_ffff_0000_0000_0000_0000_0001 }),
            ends: [End::random(random), End::random(random)],
            protocol: pick(random, PROTOCOLS),
            flags: u64::from(random.below(64)),
            octets,
            packets,
            reverse: (reverse_packets * 64, reverse_packets),
            direction: u64::from(random.below(2)),
            is_repeat: random.chance(10),
            application: pick(random, APPLICATIONS),
        }
    }

    /// What each direction of it adds, as records of one direction.
    #[must_use]
    pub fn directions(&self) -> Vec<Self> {
        let mut all = vec![Self { reverse: (0, 0), ..self.clone() }];
        if self.reverse != (0, 0) {
            let [source, destination] = self.ends.clone();
            let (octets, packets) = self.reverse;
            all.push(Self { ends: [destination, source], octets, packets, reverse: (0, 0), ..self.clone() });
        }
        all
    }

    /// What one packet or octet stands for.
    #[must_use]
    pub fn scale(&self) -> u64 {
        self.sampling_interval.max(1)
    }

    fn row(&self, text: &mut String) {
        let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let address = |address: Address| quoted(&Ipv6Addr::from(address.0).to_string());
        let (octets, packets) = self.reverse;
        write!(
            text,
            "({},{},{},{},{},{},{},{octets},{packets},{},{},{}",
            self.time,
            address(self.exporter),
            self.sampling_interval,
            self.protocol,
            self.flags,
            self.octets,
            self.packets,
            self.direction,
            self.is_repeat,
            quoted(self.application)
        )
        .unwrap();
        for end in &self.ends {
            let texts = [end.country, end.city, end.customer, end.site].map(quoted).join(",");
            let (address, length) = (address(end.address), end.prefix_length);
            write!(text, ",{address},{length},{},{},{},{},{texts}", end.port, end.interface, end.boundary, end.system).unwrap();
        }
        text.push_str("),");
    }
}

/// The statement that stores records.
#[must_use]
pub fn insert(records: &[Record]) -> String {
    let mut text =
        "INSERT INTO flows (time, exporter, sampling_interval, protocol_identifier, tcp_control_bits, octets, packets, reverse_octets, \
         reverse_packets, flow_direction, is_repeat, application, source_address, source_prefix_length, source_port, ingress_interface, \
         ingress_boundary, bgp_source_as_number, source_country, source_city, source_customer, source_site, destination_address, \
         destination_prefix_length, destination_port, egress_interface, egress_boundary, bgp_destination_as_number, destination_country, \
         destination_city, destination_customer, destination_site) SETTINGS async_insert = 0 VALUES "
            .to_owned();
    records.iter().for_each(|record| record.row(&mut text));
    text.trim_end_matches(',').to_owned()
}
