//! What kind of traffic a record is: protocol, what its TCP flags tell, fragments, amplification.

use schemas::amplification;
use schemas::counter::Volume;
use schemas::flow::fragment;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;
/// Bits of `tcpControlBits(6)`.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// What kinds of traffic a record is of: its class in five bits, and amplification.
///
/// A class is a protocol, for TCP with what its flags tell, and whether it is fragments: what no two limits tell apart is one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    /// How many classes there may be.
    pub(super) const CLASSES: usize = 32;

    const UDP: u8 = 1;
    const ICMP: u8 = 2;
    /// TCP; the three bits below tell what its flags are.
    const TCP: u8 = 8;
    const SYN: u8 = 1;
    const SYN_ACK: u8 = 2;
    const RESET: u8 = 3;
    const ODD: u8 = 4;
    const ODD_SYN: u8 = 5;
    const FLAGS: u8 = 7;
    const FRAGMENT: u8 = 16;
    const AMPLIFICATION: u8 = 32;

    /// The kind of a record; without a branch, since nobody foresees the next record's protocol.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "there are as many protocols as octets, and six bits of flags")]
    pub(super) fn of(protocol: u8, flags: Flags, source_port: u16, fragment: u8, ports: &Ports) -> Self {
        static PROTOCOLS: [[u8; 2]; 256] = protocols();
        static FLAGS: [u8; 128] = flags_table();
        let [own, possible] = PROTOCOLS[usize::from(protocol)];
        let is_fragment = u8::from(fragment & fragment::FRAGMENT != 0);
        // A later fragment of a TCP packet has no flags, and that is nothing odd.
        let flags = FLAGS[usize::from((flags.0 | is_fragment << 6) & 127)];
        let amplification = u8::from(ports.hold(source_port)) * Self::AMPLIFICATION;
        Self(own | (flags | amplification) & possible | (is_fragment * Self::FRAGMENT))
    }

    /// The number of the class.
    #[inline]
    pub(super) const fn class(self) -> u8 {
        self.0 & 31
    }

    /// The kind of a class, without amplification.
    pub(super) const fn of_class(class: u8) -> Self {
        Self(class & 31)
    }

    /// 1 for each kind that a compact entry adds up and the traffic is of, else 0: packets of TCP, UDP, ICMP, SYN, fragments and
    /// amplification, octets of TCP and UDP.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a kind has six bits")]
    pub(super) fn factors(self) -> &'static [f32; 8] {
        static FACTORS: [[f32; 8]; 64] = factors();
        &FACTORS[usize::from(self.0 & 63)]
    }

    /// What one packet, and one octet, of this kind adds to each count of a volume.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a kind has six bits")]
    pub(super) fn counts(self) -> &'static [[f64; Volume::COUNTS]; 2] {
        static COUNTS: [[[f64; Volume::COUNTS]; 2]; 64] = counts();
        &COUNTS[usize::from(self.0 & 63)]
    }

    /// The counts of so many packets and octets, but for flows and samples.
    const fn volume(self, packets: f64, octets: f64) -> Volume {
        const fn only(is: bool, count: f64) -> f64 {
            if is { count } else { 0.0 }
        }
        Volume {
            packets,
            octets,
            flows: 0.0,
            tcp_packets: only(self.is_tcp(), packets),
            udp_packets: only(self.is_udp(), packets),
            icmp_packets: only(self.is_icmp(), packets),
            syn_packets: only(self.is_syn(), packets),
            fragment_packets: only(self.is_fragment(), packets),
            amplification_packets: only(self.is_amplification(), packets),
            tcp_octets: only(self.is_tcp(), octets),
            udp_octets: only(self.is_udp(), octets),
            amplification_octets: only(self.is_amplification(), octets),
            icmp_octets: only(self.is_icmp(), octets),
            syn_ack_packets: only(self.is_syn_ack(), packets),
            reset_packets: only(self.is_reset(), packets),
            odd_packets: only(self.is_odd(), packets),
            samples: 0.0,
        }
    }

    const fn is_tcp(self) -> bool {
        self.0 & Self::TCP != 0
    }

    const fn is_udp(self) -> bool {
        self.0 & 15 == Self::UDP
    }

    const fn is_icmp(self) -> bool {
        self.0 & 15 == Self::ICMP
    }

    const fn is_syn(self) -> bool {
        self.is_tcp() && matches!(self.0 & Self::FLAGS, Self::SYN | Self::ODD_SYN)
    }

    const fn is_syn_ack(self) -> bool {
        self.is_tcp() && self.0 & Self::FLAGS == Self::SYN_ACK
    }

    const fn is_reset(self) -> bool {
        self.is_tcp() && self.0 & Self::FLAGS == Self::RESET
    }

    const fn is_odd(self) -> bool {
        self.is_tcp() && matches!(self.0 & Self::FLAGS, Self::ODD | Self::ODD_SYN)
    }

    const fn is_fragment(self) -> bool {
        self.0 & Self::FRAGMENT != 0
    }

    const fn is_amplification(self) -> bool {
        self.0 & Self::AMPLIFICATION != 0
    }
}

/// The TCP flags of a record in six bits; the bit above them is set where none is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flags(u8);

impl Flags {
    /// Of none that is told.
    pub(super) const UNTOLD: Self = Self(0x40);

    /// Those of `tcpControlBits(6)`.
    #[inline]
    pub(super) fn of(tcp_control_bits: u16) -> Self {
        Self(tcp_control_bits.to_le_bytes()[0] & 0x3f)
    }

    /// The same, or none if `other` says that none is told.
    #[inline]
    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The kind that a protocol is, and the bits of a kind that its records may have besides.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn protocols() -> [[u8; 2]; 256] {
    let mut protocols = [[0; 2]; 256];
    protocols[TCP as usize] = [Kind::TCP, Kind::FLAGS];
    protocols[UDP as usize] = [Kind::UDP, Kind::AMPLIFICATION];
    protocols[ICMP as usize] = [Kind::ICMP, 0];
    protocols[ICMP_V6 as usize] = [Kind::ICMP, 0];
    protocols
}

/// What the flags of a TCP record tell, the seventh bit set where none may be told.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn flags_table() -> [u8; 128] {
    let mut table = [0; 128];
    let mut index = 0u8;
    while index < 128 {
        let flags = index & 0x3f;
        // A flow record's flags are those of all its packets: with an ACK among them, any may be there.
        let is_odd = flags & ACK == 0 && (flags & (FIN | PSH | URG) != 0 || index == 0);
        let is_syn = flags & (SYN | ACK) == SYN;
        table[index as usize] = match flags {
            _ if is_odd && is_syn => Kind::ODD_SYN,
            _ if is_odd => Kind::ODD,
            _ if is_syn => Kind::SYN,
            flags if flags == SYN | ACK => Kind::SYN_ACK,
            flags if flags & !ACK == RST => Kind::RESET,
            _ => 0,
        };
        index += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn counts() -> [[[f64; Volume::COUNTS]; 2]; 64] {
    let mut counts = [[[0.0; Volume::COUNTS]; 2]; 64];
    let mut bits = 0u8;
    while bits < 64 {
        let kind = Kind(bits);
        counts[bits as usize] = [kind.volume(1.0, 0.0).to_array(), kind.volume(0.0, 1.0).to_array()];
        bits += 1;
    }
    counts
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn factors() -> [[f32; 8]; 64] {
    let mut factors = [[0.0; 8]; 64];
    let mut bits = 0u8;
    while bits < 64 {
        let kind = Kind(bits);
        let (tcp, udp) = (kind.is_tcp(), kind.is_udp());
        let is = [tcp, udp, kind.is_icmp(), kind.is_syn(), kind.is_fragment(), kind.is_amplification(), tcp, udp];
        let mut count = 0;
        while count < 8 {
            if is[count] {
                factors[bits as usize][count] = 1.0;
            }
            count += 1;
        }
        bits += 1;
    }
    factors
}

/// The ports of the amplification registry, each in a slot of its own: a table of eight cache lines, where a bit for each port that
/// there is would be 128, of which few are at hand.
pub(super) struct Ports {
    /// Odd, and such that no two ports fall into the same slot.
    multiplier: u16,
    slots: [u16; 256],
}

impl Ports {
    /// # Panics
    ///
    /// If the registry has so many ports that no multiplier tells them apart.
    pub(super) fn new() -> Self {
        (0..=u16::MAX / 2).find_map(|half| Self::by(half * 2 + 1)).expect("few ports fall into different slots")
    }

    fn by(multiplier: u16) -> Option<Self> {
        // Port 0 belongs into slot 0, so that no other slot is taken for its; and slot 0 holds one that belongs elsewhere, if nothing else.
        let mut slots = [0; 256];
        for service in amplification::SERVICES {
            let slot = slots.get_mut(slot(multiplier, service.port)).filter(|slot| **slot == 0)?;
            *slot = service.port;
        }
        let [first, ..] = &mut slots;
        if *first == 0 {
            *first = amplification::SERVICES.first()?.port;
        }
        Some(Self { multiplier, slots })
    }

    #[inline]
    fn hold(&self, port: u16) -> bool {
        self.slots.get(slot(self.multiplier, port)) == Some(&port)
    }
}

#[inline]
fn slot(multiplier: u16, port: u16) -> usize {
    usize::from(port.wrapping_mul(multiplier) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_those_of_the_registry_and_no_others() {
        let ports = Ports::new();
        for port in 0..=u16::MAX {
            assert_eq!(ports.hold(port), amplification::service_of(port).is_some(), "{port}");
        }
    }

    #[test]
    fn flags_are_odd_only_if_no_stack_sends_them_even_in_sum() {
        let ports = Ports::new();
        let kinds = |flags: &[u8], fragment: u8| -> Vec<Kind> {
            flags.iter().map(|flags| Kind::of(TCP, Flags::of(u16::from(*flags)), 80, fragment, &ports)).collect()
        };
        // A whole connection, one that was reset, a packet of it, an opening that was given up, one with ECN.
        let normal = kinds(&[SYN | ACK | PSH | FIN, SYN | ACK | RST, ACK, SYN | RST, SYN | 0xc0, PSH | ACK, FIN | ACK], 0);
        assert!(normal.iter().all(|kind| !kind.is_odd() && !kind.is_syn_ack() && !kind.is_reset() && kind.is_tcp()));
        let odd = kinds(&[0, FIN, SYN | FIN, FIN | PSH | URG, PSH, URG], 0);
        assert!(odd.iter().all(|kind| kind.is_odd()));
        assert_eq!(odd.iter().map(|kind| kind.is_syn()).collect::<Vec<_>>(), [false, false, true, false, false, false]);
        assert!(kinds(&[SYN, SYN | 0xc0], 0).iter().all(|kind| kind.is_syn() && !kind.is_odd()));
        assert!(kinds(&[SYN | ACK], 0).iter().all(|kind| kind.is_syn_ack() && !kind.is_syn()));
        assert!(kinds(&[RST, RST | ACK], 0).iter().all(|kind| kind.is_reset()));
        // Later fragments have no flags; and who tells of none says nothing.
        assert!(kinds(&[0], fragment::FRAGMENT).iter().all(|kind| !kind.is_odd() && kind.is_fragment()));
        assert!(!Kind::of(TCP, Flags::UNTOLD, 80, 0, &ports).is_odd());
        assert_eq!(Kind::of(UDP, Flags::of(u16::from(SYN)), 443, 0, &ports), Kind(Kind::UDP));
    }
}
