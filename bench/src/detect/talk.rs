//! Peaceful traffic: what hosts say all day, and single conversations, each with what is answered.

use bench::synthesize::{Flow, Random};
use schemas::net::Address;

use super::vector::{flow, stranger};
use super::wire::{Shape, unit};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody's line: most comes in.
    Client,
    /// A web server: most goes out.
    Server,
    /// A resolver, asked by many and asking many.
    Resolver,
    /// A time server.
    TimeServer,
    /// A node of a content network: nearly all goes out, half of it QUIC.
    Content,
    /// A game or voice server: small packets both ways.
    Game,
}

impl Kind {
    /// The word for it in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Client => "clients",
            Self::Server => "servers",
            Self::Resolver => "name servers",
            Self::TimeServer => "time servers",
            Self::Content => "content nodes",
            Self::Game => "game servers",
        }
    }
}

/// One kind of packet of a host: its share, whether it comes in, protocol, flags, which end has the fixed port, and octets.
struct Part {
    share: u32,
    incoming: bool,
    protocol: u8,
    flags: u8,
    /// The well-known port.
    port: u16,
    /// Whether our host is the one at that port.
    ours: bool,
    octets: (u32, u32),
}

const fn part(share: u32, incoming: bool, protocol: u8, flags: u8, (port, ours): (u16, bool), octets: (u32, u32)) -> Part {
    Part { share, incoming, protocol, flags, port, ours, octets }
}

const IN: bool = true;
const OUT: bool = false;
const OURS: bool = true;
const THEIRS: bool = false;

/// Shares of packets, of a thousand; answers have their questions.
const CLIENT: [Part; 11] = [
    part(330, IN, TCP, ACK, (443, THEIRS), (1_300, 1_500)),
    part(60, IN, TCP, PSH | ACK, (443, THEIRS), (80, 1_400)),
    part(200, OUT, TCP, ACK, (443, THEIRS), (52, 64)),
    part(40, OUT, TCP, PSH | ACK, (443, THEIRS), (120, 900)),
    part(5, OUT, TCP, SYN, (443, THEIRS), (60, 60)),
    part(5, IN, TCP, SYN | ACK, (443, THEIRS), (60, 60)),
    part(220, IN, UDP, 0, (443, THEIRS), (900, 1_350)),
    part(100, OUT, UDP, 0, (443, THEIRS), (60, 110)),
    part(10, OUT, UDP, 0, (53, THEIRS), (60, 90)),
    part(10, IN, UDP, 0, (53, THEIRS), (90, 500)),
    part(20, IN, UDP, 0, (3_074, THEIRS), (80, 300)),
];
const SERVER: [Part; 9] = [
    part(480, OUT, TCP, ACK, (443, OURS), (1_200, 1_500)),
    part(90, OUT, TCP, PSH | ACK, (443, OURS), (80, 1_400)),
    part(290, IN, TCP, ACK, (443, OURS), (52, 64)),
    part(70, IN, TCP, PSH | ACK, (443, OURS), (120, 900)),
    part(15, IN, TCP, SYN, (443, OURS), (60, 60)),
    part(15, OUT, TCP, SYN | ACK, (443, OURS), (60, 60)),
    part(15, IN, TCP, FIN | ACK, (443, OURS), (52, 52)),
    part(13, OUT, UDP, 0, (53, THEIRS), (60, 90)),
    part(12, IN, UDP, 0, (53, THEIRS), (90, 400)),
];
const RESOLVER: [Part; 5] = [
    part(440, IN, UDP, 0, (53, OURS), (56, 90)),
    part(430, OUT, UDP, 0, (53, OURS), (80, 420)),
    part(60, OUT, UDP, 0, (53, THEIRS), (60, 90)),
    part(50, IN, UDP, 0, (53, THEIRS), (80, 500)),
    // Signed answers of a server upstream.
    part(20, IN, UDP, 0, (53, THEIRS), (600, 1_260)),
];
const TIME_SERVER: [Part; 2] = [part(500, IN, UDP, 0, (123, OURS), (76, 76)), part(500, OUT, UDP, 0, (123, OURS), (76, 76))];
const CONTENT: [Part; 8] = [
    part(330, OUT, TCP, ACK, (443, OURS), (1_440, 1_500)),
    part(20, OUT, TCP, PSH | ACK, (443, OURS), (600, 1_500)),
    part(140, IN, TCP, ACK, (443, OURS), (52, 64)),
    part(20, IN, TCP, PSH | ACK, (443, OURS), (300, 900)),
    part(5, IN, TCP, SYN, (443, OURS), (60, 60)),
    part(5, OUT, TCP, SYN | ACK, (443, OURS), (60, 60)),
    part(330, OUT, UDP, 0, (443, OURS), (1_200, 1_350)),
    part(150, IN, UDP, 0, (443, OURS), (60, 110)),
];
const GAME: [Part; 2] = [part(450, IN, UDP, 0, (27_015, OURS), (60, 160)), part(550, OUT, UDP, 0, (27_015, OURS), (80, 420))];

/// What a host says to many others.
pub(super) struct Mix {
    parts: &'static [Part],
    host: Address,
    seed: u64,
    peers: u32,
    asked: u16,
}

impl Mix {
    /// A host of this kind; those that it talks to come of the seed.
    pub(super) fn new(kind: Kind, host: Address, seed: u64) -> Self {
        let (parts, peers): (&[Part], u32) = match kind {
            Kind::Client => (&CLIENT, 60),
            Kind::Server => (&SERVER, 800),
            Kind::Resolver => (&RESOLVER, 8_000),
            Kind::TimeServer => (&TIME_SERVER, 50_000),
            Kind::Content => (&CONTENT, 20_000),
            Kind::Game => (&GAME, 120),
        };
        Self { parts, host, seed, peers, asked: 0 }
    }

    /// The same with other peers than by default.
    pub(super) fn with_peers(self, peers: u32) -> Self {
        Self { peers, ..self }
    }
}

impl Shape for Mix {
    fn packet(&mut self, random: &mut Random) -> Flow {
        let mut share = random.below(1_000);
        let drawn = self.parts.iter().find(|part| {
            let found = share < part.share;
            share = share.saturating_sub(part.share);
            found
        });
        let Some(part) = drawn.or(self.parts.first()) else { return flow((self.host, self.host), (0, 0), TCP, 0, 60) };
        // Few peers have most of it: the square of an even share.
        let even = unit(random);
        let rank = super::wire::micros(even * even * f64::from(self.peers) / 1e6);
        let peer = stranger(self.seed ^ rank << 20, self.host.is_v4());
        // The few ports of a client at a time.
        self.asked = self.asked.wrapping_add(1);
        let client = 32_768 + u16::try_from((rank * 31 + u64::from(self.asked / 4_096 % 8)) % 28_000).unwrap_or(0);
        let fixed = part.port;
        // Of our host's end and the other's.
        let ports = if part.ours { (fixed, client) } else { (client, fixed) };
        let octets = random.within(part.octets.0, part.octets.1) + if self.host.is_v4() { 0 } else { 20 };
        if part.incoming {
            flow((peer, self.host), (ports.1, ports.0), part.protocol, part.flags, octets)
        } else {
            flow((self.host, peer), ports, part.protocol, part.flags, octets)
        }
    }
}

/// One direction of few conversations with one peer: data, or what acknowledges it.
#[derive(Clone, Copy)]
pub(super) struct Talk {
    /// Who sends these packets, and who gets them.
    pub(super) ends: (Address, Address),
    /// UDP for QUIC.
    pub(super) protocol: u8,
    /// The service's port.
    pub(super) port: u16,
    /// Whether the sender of these packets is at it.
    pub(super) is_server: bool,
    /// Conversations side by side.
    pub(super) streams: u16,
    /// Whether these are the packets with the data.
    pub(super) is_data: bool,
    /// The client's first port.
    pub(super) client: u16,
}

impl Talk {
    /// Octets of a packet of data.
    pub(super) fn data_octets(protocol: u8) -> u32 {
        if protocol == UDP { 1_350 } else { 1_480 }
    }

    /// The other direction: what acknowledges it.
    pub(super) fn answer(self) -> Self {
        Self { ends: (self.ends.1, self.ends.0), is_server: !self.is_server, is_data: false, ..self }
    }
}

impl Shape for Talk {
    fn packet(&mut self, random: &mut Random) -> Flow {
        let client = self.client + random.port(0, self.streams.max(1) - 1);
        let ports = if self.is_server { (self.port, client) } else { (client, self.port) };
        let (flags, octets) = match (self.is_data, self.protocol) {
            (true, protocol) => (if random.chance(6) { PSH | ACK } else { ACK }, Self::data_octets(protocol)),
            (false, UDP) => (0, random.within(60, 90)),
            (false, _) => (ACK, random.within(52, 72)),
        };
        flow(self.ends, ports, self.protocol, if self.protocol == TCP { flags } else { 0 }, octets)
    }
}
