//! A datagram whose content is done and whose sequence numbers and times are still open.

use schemas::time::Timestamp;

/// Something in a datagram that depends on when, and as the how-manieth, it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Open {
    /// 32 bits: the exporter's sequence number.
    Sequence,
    /// 32 bits: milliseconds since the exporter's start; wraps.
    Uptime,
    /// 32 bits: unix seconds.
    Seconds,
    /// 32 bits: nanoseconds of the second.
    Nanoseconds,
    /// 32 bits: the uptime so many milliseconds ago.
    UptimeBefore(u32),
    /// 64 bits: unix milliseconds, so many of them ago.
    MillisecondsBefore(u32),
    /// 32 bits: the sequence number of a sample (sFlow), and eight octets on the pool of packets it was drawn from.
    Sample,
}

/// The state of an exporter that fills in what is open.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// The next sequence number.
    pub(super) sequence: u32,
    /// The number of samples taken so far.
    pub(super) samples: u32,
    /// Packets that each sample stands for.
    pub(super) sampling_interval: u32,
    /// When the exporter started.
    pub(super) started: Timestamp,
}

/// A datagram that lacks only its sequence numbers and times.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    octets: Vec<u8>,
    open: Vec<(usize, Open)>,
    /// How far the datagram moves the exporter's sequence.
    pub(super) advance: u32,
    flows: u32,
}

impl Draft {
    /// The datagram; sound after the exporter has stamped it.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Number of flow records in it.
    #[must_use]
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// Number of octets written so far.
    pub(super) fn length(&self) -> usize {
        self.octets.len()
    }

    /// Counts a flow record.
    pub(super) fn flow(&mut self) {
        self.flows += 1;
    }

    /// A draft with room for a full datagram.
    pub(super) fn new() -> Self {
        Self { octets: Vec::with_capacity(super::PAYLOAD_OCTETS_MAX), open: Vec::with_capacity(64), ..Self::default() }
    }

    /// Appends the low `length` octets of `value`, big-endian.
    pub(super) fn put(&mut self, value: u128, length: usize) {
        let octets = value.to_be_bytes();
        self.octets.extend_from_slice(octets.get(octets.len().saturating_sub(length)..).unwrap_or(&octets));
    }

    /// Appends a number of 16 bits.
    pub(super) fn put_u16(&mut self, value: u16) {
        self.octets.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a number of 32 bits.
    pub(super) fn put_u32(&mut self, value: u32) {
        self.octets.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends octets as they are.
    pub(super) fn put_octets(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Appends what `write` appends.
    pub(super) fn put_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.octets);
    }

    /// Appends zeroes up to a multiple of `unit` octets.
    pub(super) fn pad(&mut self, unit: usize) {
        self.octets.resize(self.octets.len().next_multiple_of(unit), 0);
    }

    /// Leaves room for something that is filled in when the datagram is sent.
    pub(super) fn leave(&mut self, open: Open) {
        self.open.push((self.octets.len(), open));
        let length = if matches!(open, Open::MillisecondsBefore(_)) { 8 } else { 4 };
        self.octets.resize(self.octets.len() + length, 0);
    }

    /// Writes a 16-bit number at `offset`, for lengths and counts that are known only at the end.
    pub(super) fn set_u16(&mut self, offset: usize, value: usize) {
        write(&mut self.octets, offset, &u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes());
    }

    /// Fills in what is open, as of `now`, and moves the clock's sequence on.
    pub(super) fn stamp(&mut self, clock: &mut Clock, now: Timestamp) {
        let uptime = low(now.since(clock.started));
        let seconds = low(now.0 / 1_000);
        for &(offset, open) in &self.open {
            let number = match open {
                Open::Sequence => clock.sequence,
                Open::Uptime => uptime,
                Open::Seconds => seconds,
                Open::Nanoseconds => low(now.0 % 1_000 * 1_000_000),
                Open::UptimeBefore(milliseconds) => uptime.wrapping_sub(milliseconds),
                Open::MillisecondsBefore(milliseconds) => {
                    write(&mut self.octets, offset, &now.0.saturating_sub(u64::from(milliseconds)).to_be_bytes());
                    continue;
                }
                Open::Sample => {
                    clock.samples = clock.samples.wrapping_add(1);
                    let pool = clock.samples.wrapping_mul(clock.sampling_interval);
                    write(&mut self.octets, offset + 12, &pool.to_be_bytes());
                    clock.samples
                }
            };
            write(&mut self.octets, offset, &number.to_be_bytes());
        }
        clock.sequence = clock.sequence.wrapping_add(self.advance);
    }
}

fn write(octets: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = octets.get_mut(offset..offset + value.len()) {
        place.copy_from_slice(value);
    }
}

/// The low 32 bits: uptimes wrap after 49.7 days, seconds in 2106.
#[expect(clippy::cast_possible_truncation, reason = "cut to the field's width, as the protocols do")]
fn low(number: u64) -> u32 {
    number as u32
}
