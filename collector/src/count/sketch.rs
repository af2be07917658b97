//! What the traffic of a suspect is made of: sketches of bounded size, told as a detail.

use schemas::counter::Detail;
use schemas::net::Address;

use super::clock::Clock;
use super::heavy::{Distinct, Heavy};
use super::sample::Sample;
use super::spread::Parts;
use super::table::{Key, Seeds};
use super::traffic::{Amount, Traffic};

/// Records of one suspect between two ticks that are all sketched; of what comes above it, one in [`SKETCH_STRIDE`].
const SKETCHED_ALL_MAX: u32 = 32;
const SKETCH_STRIDE: u32 = 16;
/// How often the picture is told at least, while there is traffic.
const DETAIL_MILLISECONDS: u64 = 1_000;
const TCP: u8 = 6;
/// Bits of `tcpControlBits(6)`.
const SYN: u16 = 0x02;
const ACK: u16 = 0x10;

/// What the traffic of a suspect is made of.
#[derive(Debug)]
pub(super) struct Sketch {
    packets: f64,
    octets: f64,
    /// Packets when the detail was last told.
    told_packets: f64,
    told_at: u64,
    pub(super) faded_at: u64,
    /// Records since the last tick.
    pub(super) records: u32,
    peers: Heavy<Address>,
    population: Population,
    peer_sample: Sample,
    source_ports: Heavy<(u8, u16)>,
    destination_ports: Heavy<(u8, u16)>,
    protocols: Heavy<u8>,
    tcp_flags: Heavy<u16>,
    packet_lengths: Heavy<u16>,
    ttls: Heavy<u8>,
    exporters: Heavy<Address>,
    /// Of a prefix: where in it the traffic lies.
    parts: Option<Parts>,
}

impl Sketch {
    pub(super) fn new() -> Self {
        Self {
            packets: 0.0,
            octets: 0.0,
            told_packets: 0.0,
            told_at: 0,
            faded_at: 0,
            records: 0,
            peers: Heavy::new(64),
            population: Population::new(),
            peer_sample: Sample::default(),
            source_ports: Heavy::new(32),
            destination_ports: Heavy::new(32),
            protocols: Heavy::new(8),
            tcp_flags: Heavy::new(16),
            packet_lengths: Heavy::new(24),
            ttls: Heavy::new(32),
            exporters: Heavy::new(16),
            parts: None,
        }
    }

    pub(super) fn begin(&mut self, key: Key, clock: &Clock) {
        self.parts = (!key.is_host()).then(|| Parts::of(key.target().prefix));
        (self.packets, self.octets, self.told_packets, self.records) = (0.0, 0.0, 0.0, 0);
        (self.told_at, self.faded_at) = (0, clock.now);
        self.peers.clear();
        self.population.clear(clock);
        self.peer_sample.clear();
        self.source_ports.clear();
        self.destination_ports.clear();
        self.protocols.clear();
        self.tcp_flags.clear();
        self.packet_lengths.clear();
        self.ttls.clear();
        self.exporters.clear();
    }

    pub(super) fn add(&mut self, traffic: &Traffic, [own, peer]: [Address; 2], exporter: Address, seeds: &Seeds) {
        if let Some(parts) = &mut self.parts {
            parts.add(own, traffic.amount.packets, traffic.amount.octets);
        }
        let hash = seeds.hash_address(peer);
        self.population.add(hash, traffic);
        self.peer_sample.add(hash);
        self.records += 1;
        if self.records > SKETCHED_ALL_MAX && !self.records.is_multiple_of(SKETCH_STRIDE) {
            return;
        }
        let Amount { packets, octets, .. } = traffic.amount;
        self.packets += packets;
        self.octets += octets;
        self.peers.add(peer, packets, octets);
        self.source_ports.add((traffic.protocol, traffic.source_port), packets, octets);
        self.destination_ports.add((traffic.protocol, traffic.destination_port), packets, octets);
        self.protocols.add(traffic.protocol, packets, octets);
        self.exporters.add(exporter, packets, octets);
        if traffic.protocol == 6 {
            self.tcp_flags.add(traffic.tcp_flags, packets, octets);
        }
        if traffic.ttl != 0 {
            self.ttls.add(traffic.ttl, packets, octets);
        }
        if packets > 0.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean length is not negative, and saturates")]
            let length = (octets / packets) as u16;
            self.packet_lengths.add(length / 64 * 64, packets, octets);
        }
    }

    pub(super) fn fade(&mut self, clock: &Clock) {
        self.faded_at = clock.now;
        self.packets /= 2.0;
        self.octets /= 2.0;
        self.told_packets /= 2.0;
        self.peers.fade();
        self.population.fade(clock);
        self.peer_sample.fade();
        self.source_ports.fade();
        self.destination_ports.fade();
        self.protocols.fade();
        self.tcp_flags.fade();
        self.packet_lengths.fade();
        self.ttls.fade();
        self.exporters.fade();
    }

    /// The detail, if it is due: each second, and at once when the traffic has doubled since it was last told.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are not negative, and saturate")]
    pub(super) fn detail(&mut self, clock: &Clock) -> Option<Box<Detail>> {
        if clock.now < self.told_at + DETAIL_MILLISECONDS && self.packets < 2.0 * self.told_packets {
            return None;
        }
        (self.told_at, self.told_packets) = (clock.now, self.packets);
        Some(Box::new(Detail {
            packets: self.packets.round() as u64,
            octets: self.octets.round() as u64,
            peers: self.peers.ranking(32),
            peer_count: self.population.different.estimate(),
            peer_records: self.population.records.iter().sum(),
            connections: self.population.connections.iter().sum::<f64>().round() as u64,
            peer_milliseconds: clock.now.saturating_sub(self.population.begun[1]),
            peer_sample: self.peer_sample.hashes(),
            source_ports: self.source_ports.ranking(16),
            destination_ports: self.destination_ports.ranking(16),
            protocols: self.protocols.ranking(8),
            tcp_flags: self.tcp_flags.ranking(16),
            packet_lengths: self.packet_lengths.ranking(24),
            ttls: self.ttls.ranking(16),
            exporters: self.exporters.ranking(16),
            spread: self.parts.as_mut().map(|parts| Box::new(parts.take())),
        }))
    }
}

/// How many peers there are, and how many connections they opened, over two generations.
#[derive(Debug)]
struct Population {
    different: Distinct,
    records: [u64; 2],
    connections: [f64; 2],
    /// When the generations began, in unix milliseconds; the last one's is that of all that is held.
    begun: [u64; 2],
}

impl Population {
    fn new() -> Self {
        Self { different: Distinct::new(), records: [0; 2], connections: [0.0; 2], begun: [0; 2] }
    }

    fn add(&mut self, hash: u64, traffic: &Traffic) {
        self.different.add(hash);
        let [records, _] = &mut self.records;
        *records += 1;
        let Traffic { protocol, tcp_flags, amount, .. } = traffic;
        // SYN and ACK alone is an answer to one that opens.
        if *protocol == TCP && tcp_flags & SYN != 0 && tcp_flags & 0x3f != SYN | ACK {
            let [connections, _] = &mut self.connections;
            // The flags of a whole connection's record are those of all its packets.
            *connections += if tcp_flags & ACK == 0 { amount.packets } else { amount.rate() };
        }
    }

    fn fade(&mut self, clock: &Clock) {
        self.different.fade();
        self.records = [0, self.records[0]];
        self.connections = [0.0, self.connections[0]];
        self.begun = [clock.now, self.begun[0]];
    }

    fn clear(&mut self, clock: &Clock) {
        self.different.clear();
        (self.records, self.connections, self.begun) = ([0; 2], [0.0; 2], [clock.now; 2]);
    }
}
