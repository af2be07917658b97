//! Attacks: floods of a given rate on a host or a prefix, as the flows that a sampling router makes of them.

use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;

use super::traffic::peer;
use super::{Flow, Fragment, Random};

/// What an attack is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vector {
    /// UDP to random ports.
    Udp,
    /// TCP packets with SYN alone, from spoofed sources.
    Syn,
    /// TCP packets with ACK alone.
    Ack,
    /// Echo requests.
    Icmp,
    /// Answers from UDP port 53.
    DnsAmplification,
    /// Answers from UDP port 123.
    NtpAmplification,
    /// Answers from UDP port 389.
    CldapAmplification,
    /// Answers from UDP port 11211.
    MemcachedAmplification,
    /// Later fragments of large UDP packets.
    Fragments,
    /// GRE packets.
    Gre,
}

impl Vector {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Udp,
        Self::Syn,
        Self::Ack,
        Self::Icmp,
        Self::DnsAmplification,
        Self::NtpAmplification,
        Self::CldapAmplification,
        Self::MemcachedAmplification,
        Self::Fragments,
        Self::Gre,
    ];

    /// IP protocol, TCP flags, the source port where it is fixed, IP octets of a packet.
    fn shape(self) -> (u8, u8, Option<u16>, u32) {
        match self {
            Self::Udp => (17, 0, None, 1_028),
            Self::Syn => (6, 0x02, None, 44),
            Self::Ack => (6, 0x10, None, 40),
            Self::Icmp => (1, 0, Some(0), 84),
            Self::DnsAmplification => (17, 0, Some(53), 1_400),
            Self::NtpAmplification => (17, 0, Some(123), 468),
            Self::CldapAmplification => (17, 0, Some(389), 1_480),
            Self::MemcachedAmplification => (17, 0, Some(11_211), 1_428),
            Self::Fragments => (17, 0, Some(0), 1_500),
            Self::Gre => (47, 0, Some(0), 540),
        }
    }
}

/// A flood of constant rate.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What it is made of.
    pub vector: Vector,
    /// The host it hits, or the prefix whose hosts it hits alike (carpet bombing).
    pub target: Prefix,
    /// Packets on the wire.
    pub packets_per_second: u32,
    /// When it begins.
    pub begins: Timestamp,
    /// When it ends; the moment itself is peaceful.
    pub ends: Timestamp,
    /// Number of sending addresses.
    pub sources: u32,
    /// Most records that a call of [`Attack::flows`] makes; more packets make larger records.
    pub records_max: u32,
    seed: u64,
    /// Packets × milliseconds × interval not yet given to a flow.
    owed: u64,
    random: Random,
}

impl Attack {
    /// An attack by 10,000 sources, whose records stay under 1,000 a call.
    #[must_use]
    pub fn new(seed: u64, vector: Vector, target: Prefix, packets_per_second: u32, begins: Timestamp, ends: Timestamp) -> Self {
        let random = Random::new(seed);
        Self { vector, target, packets_per_second, begins, ends, sources: 10_000, records_max: 1_000, seed, owed: 0, random }
    }

    /// IP octets of each of its packets.
    #[must_use]
    pub fn packet_octets(&self) -> u32 {
        self.vector.shape().3
    }

    /// What a router that samples one in `interval` packets sees of the attack from `from` up to `to`.
    ///
    /// All calls together hold the sampled packets of the time they cover exactly: what is no whole packet is carried over.
    /// With `single` every packet is a flow of its own (sFlow).
    pub fn flows(&mut self, from: Timestamp, to: Timestamp, interval: u32, single: bool, flows: &mut Vec<Flow>) {
        let (from, to) = (from.max(self.begins), to.min(self.ends));
        let span = to.since(from);
        self.owed += u64::from(self.packets_per_second) * span;
        let unit = 1_000 * u64::from(interval.max(1));
        let packets = self.owed / unit;
        self.owed %= unit;
        let records = if single { packets } else { packets.min(u64::from(self.records_max.max(1))) };
        for record in 0..records {
            let share = packets / records + u64::from(record < packets % records);
            let start = Timestamp(from.0 + span * record / records);
            let end = if share == 1 { start } else { Timestamp(to.0.saturating_sub(1).max(start.0)) };
            let flow = self.flow(share, start, end);
            flows.push(flow);
        }
    }

    fn flow(&mut self, packets: u64, start: Timestamp, end: Timestamp) -> Flow {
        let (protocol, tcp_control_bits, fixed_port, octets) = self.vector.shape();
        // Each source is an address drawn from its own seed, so that the set of sources is bounded.
        let number = self.random.below(self.sources.max(1));
        let mut own = Random::new(self.seed ^ (u64::from(number) << 20));
        let source = peer(&mut own, self.target);
        let ttl = 40 + u8::try_from(own.below(80)).unwrap_or(0);
        let icmp = protocol == 1;
        let portless = matches!(self.vector, Vector::Fragments | Vector::Gre);
        Flow {
            source,
            destination: self.destination(),
            source_port: fixed_port.unwrap_or_else(|| self.random.port(1_024, 65_535)),
            destination_port: if icmp {
                0x0800
            } else if portless {
                0
            } else {
                self.random.port(1, 65_535)
            },
            protocol: if icmp && !self.target.is_v4() { 58 } else { protocol },
            tcp_control_bits,
            fragment: if self.vector == Vector::Fragments { Fragment::Later } else { Fragment::Whole },
            packets,
            octets: packets * u64::from(octets),
            start,
            end,
            ingress_interface: 10 + own.below(4),
            egress_interface: 100,
            ttl,
        }
    }

    fn destination(&mut self) -> Address {
        let width = self.target.last().0 - self.target.first().0;
        let bound = u32::try_from(width).map_or(u32::MAX, |last| last.saturating_add(1));
        Address(self.target.first().0 + u128::from(self.random.below(bound)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp(1_700_000_000_000 + seconds * 1_000)
    }

    #[test]
    fn the_sampled_packets_of_an_attack_add_up_whatever_the_steps() {
        for step in [7, 100, 1_000] {
            let mut attack = Attack::new(3, Vector::Udp, "203.0.113.7".parse().unwrap(), 123_457, seconds(2), seconds(5));
            let mut flows = Vec::new();
            let mut at = seconds(0);
            while at < seconds(8) {
                attack.flows(at, at.plus(step), 1_000, false, &mut flows);
                at = at.plus(step);
            }
            // 123,457 packets/s × 3 s / 1,000 = 370.371, cut to whole packets.
            assert_eq!(flows.iter().map(|flow| flow.packets).sum::<u64>(), 370);
            assert_eq!(flows.iter().map(|flow| flow.octets).sum::<u64>(), 370 * 1_028);
            assert!(flows.iter().all(|flow| flow.start >= seconds(2) && flow.end < seconds(5)));
        }
    }

    #[test]
    fn a_carpet_hits_the_whole_prefix_and_a_host_only_itself() {
        let carpet: Prefix = "203.0.113.0/24".parse().unwrap();
        let mut attack = Attack::new(3, Vector::DnsAmplification, carpet, 100_000, seconds(0), seconds(1));
        let mut flows = Vec::new();
        attack.flows(seconds(0), seconds(1), 1, false, &mut flows);
        let hit: std::collections::HashSet<Address> = flows.iter().map(|flow| flow.destination).collect();
        // 1,000 records over 256 hosts: each is missed with probability (255/256)^1000 = 2 %, so about 251 are hit.
        assert!(hit.len() > 235 && hit.iter().all(|address| carpet.contains(*address)));
        assert_eq!(flows.len(), 1_000);
    }
}
