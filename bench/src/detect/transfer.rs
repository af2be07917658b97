//! Transfers: data one way and what acknowledges it the other, single ones and those of a host's day.

use bench::synthesize::Random;
use schemas::net::Address;

use super::talk::{Kind, Mix, Talk};
use super::vector::stranger;
use super::wire::{Acts, Micros, Rate, SECOND, Source, Stream, exponential, micros, unit};

/// TCP.
pub(super) const TCP: u8 = 6;
/// UDP.
pub(super) const UDP: u8 = 17;

/// Packets that acknowledge, for each of data.
const TCP_ANSWERS: f64 = 0.35;
const QUIC_ANSWERS: f64 = 0.15;

/// What a host's packets pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Number of the exporter.
    pub(super) exporter: usize,
    /// What it samples.
    pub(super) interval: u32,
}

impl Line {
    /// A stream on this line, of which everything else is to be filled in.
    pub(super) fn stream(self) -> Stream {
        let nobody = Box::new(Mix::new(Kind::Client, Address(0), 0));
        let Self { exporter, interval } = self;
        Stream { exporter, interval, begins: 0, ends: 0, rate: Rate::Constant(0.0), shape: nobody, together: 1 }
    }
}

/// One transfer.
#[derive(Clone, Copy)]
pub(super) struct Transfer {
    /// What it passes.
    pub(super) line: Line,
    /// The packets of data.
    pub(super) data: Talk,
    /// Bits a second of data.
    pub(super) bits: f64,
    /// Its first packet.
    pub(super) begins: Micros,
    /// Its last.
    pub(super) ends: Micros,
    /// What its unevenness comes of.
    pub(super) seed: u64,
}

impl Transfer {
    /// The data, and what acknowledges it.
    pub(super) fn streams(self) -> [Stream; 2] {
        let Self { line, data, bits, begins, ends, seed } = self;
        let packets = bits / 8.0 / f64::from(Talk::data_octets(data.protocol));
        let answers = packets * if data.protocol == UDP { QUIC_ANSWERS } else { TCP_ANSWERS };
        let stream = |talk, mean| Stream {
            begins,
            ends,
            rate: Rate::Noisy { mean, spread: 0.1, step: SECOND / 2, daily: false, seed },
            shape: Box::new(talk),
            ..line.stream()
        };
        [stream(data, packets), stream(data.answer(), answers)]
    }
}

/// The transfers of a host's day, one after the other: few large and many small ones.
pub(super) struct Sessions {
    /// What they pass.
    pub(super) line: Line,
    /// Whose.
    pub(super) host: Address,
    /// Whether the data comes in.
    pub(super) is_in: bool,
    /// Bits a second in the mean of a day.
    pub(super) bits: f64,
    /// What the host's line carries at most, in bits a second.
    pub(super) access: f64,
    /// When the run ends.
    pub(super) ends: Micros,
    /// When the one that is going on ends.
    pub(super) busy_until: Micros,
}

/// Octets of the smallest and of the largest, between which they are Pareto distributed with this exponent; and the mean of that.
const LEAST: f64 = 2e6;
const MOST: f64 = 8e9;
const EXPONENT: f64 = 1.3;
const MEAN: f64 = 7.96e6;

impl Source for Sessions {
    fn next(&mut self, from: Micros, random: &mut Random) -> Option<Micros> {
        let gap = exponential(random) * MEAN * 8.0 / self.bits.max(1.0);
        let at = from.max(self.busy_until) + micros(gap);
        (at < self.ends).then_some(at)
    }

    fn act(&mut self, at: Micros, random: &mut Random, acts: &mut Acts) {
        let octets = (LEAST * (1.0 - unit(random)).powf(-1.0 / EXPONENT)).min(MOST);
        // Some use all that the line has; most are held back by the other end.
        let bits = self.access * if random.chance(15) { 1.0 } else { 0.1 + 0.7 * unit(random) };
        let ends = at + micros(octets * 8.0 / bits).max(1);
        let peer = stranger((random.number() % 4_096) ^ 0x6364_6e00, self.host.is_v4());
        let ends_of = if self.is_in { (peer, self.host) } else { (self.host, peer) };
        let protocol = if random.chance(30) { UDP } else { TCP };
        let (streams, client) = (random.port(1, 3), random.port(32_768, 60_000));
        let data = Talk { ends: ends_of, protocol, port: 443, is_server: true, streams, is_data: true, client };
        let transfer = Transfer { line: self.line, data, bits, begins: at, ends: ends.min(self.ends), seed: random.number() };
        for stream in transfer.streams() {
            acts.born.push(Box::new(stream));
        }
        self.busy_until = ends;
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Wire;
    use super::*;

    /// The mean of a Pareto number that is cut off at `MOST`: by ∫ of its tail, LEAST × (1 + (1 − (LEAST / MOST)^0.3) / 0.3).
    #[test]
    fn the_mean_of_a_transfer_is_that_of_its_distribution() {
        let mean = LEAST * (1.0 + (1.0 - (LEAST / MOST).powf(EXPONENT - 1.0)) / (EXPONENT - 1.0));
        assert!((mean / MEAN - 1.0).abs() < 0.02, "{mean}");
    }

    /// 8 Mbit/s of TCP for 100 s are 67,568 packets of 1,480 octets, and 0.35 times as many ACKs, one in ten of which is sampled.
    #[test]
    fn data_goes_one_way_and_what_acknowledges_it_the_other() {
        let ends = (stranger(1, true), "10.0.0.7".parse().unwrap());
        let data = Talk { ends, protocol: TCP, port: 443, is_server: true, streams: 2, is_data: true, client: 40_000 };
        let line = Line { exporter: 0, interval: 10 };
        let mut wire = Wire::new(1);
        let transfer = Transfer { line, data, bits: 8e6, begins: 0, ends: 100 * SECOND, seed: 1 };
        transfer.streams().into_iter().for_each(|stream| wire.add(Box::new(stream), 0));
        let (mut forth, mut back) = (0u32, 0u32);
        while wire.next().is_some() {
            wire.step(|_, flow| {
                let is_forth = flow.destination == ends.1;
                assert_eq!((flow.source_port, is_forth), if is_forth { (443, true) } else { (flow.source_port, false) });
                *if is_forth { &mut forth } else { &mut back } += 1;
            });
        }
        // Their own unevenness of 0.1 is worth 1 % in 200 halves of a second.
        assert!(forth.abs_diff(6_757) < 400 && back.abs_diff(2_365) < 250, "{forth} {back}");
    }
}
