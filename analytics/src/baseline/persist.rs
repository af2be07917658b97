//! What is learned, as octets: so that a restart does not have to learn it anew.
//!
//! A mark, the format, the time; then records, each with a letter in front; then an end and the CRC-32 of all before it. Numbers are little-endian.
//! Whatever is not whole is not taken at all.

use std::io::{self, Write};

use schemas::counter::{Direction, Target};
use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;

use super::cell::{Cell, WORDS};
use super::level::Level;
use super::table::Key;
use super::week::{Hour, Week};
use super::{Baselines, Learned, clock_of, lock};

const MARK: &[u8; 8] = b"WEIRBASE";
const FORMAT: u32 = 1;

const CELL: u8 = b'c';
const WEEK: u8 = b'w';
const TAUGHT: u8 = b't';
const NODES: u8 = b'n';
const END: u8 = b'.';

/// Why what was saved is not taken up.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BaselineError {
    /// It was written by something else.
    #[error("not a file of baselines")]
    Foreign,
    /// It was written by another version.
    #[error("format {0} is not known")]
    Format(u32),
    /// Octets were changed or are missing.
    #[error("damaged: the checksum is {found:08x} where it was {written:08x}")]
    Damaged {
        /// That of the octets.
        found: u32,
        /// That behind them.
        written: u32,
    },
    /// The checksum is right, and what it covers is not.
    #[error("octet {0} begins no record")]
    Record(usize),
}

/// A writer that sums up what passes.
struct Sum<'a, W> {
    output: &'a mut W,
    sum: crc32fast::Hasher,
}

impl<W: Write> Sum<'_, W> {
    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        self.sum.update(octets);
        self.output.write_all(octets)
    }

    fn target(&mut self, kind: u8, target: Target) -> io::Result<()> {
        self.put(&[kind, target.prefix.length(), u8::from(target.direction == Direction::Outgoing)])?;
        self.put(&target.prefix.first().0.to_le_bytes())
    }

    fn words(&mut self, words: &[u16]) -> io::Result<()> {
        words.iter().try_for_each(|word| self.put(&word.to_le_bytes()))
    }
}

impl Baselines {
    /// Writes all that was learned; other threads go on meanwhile.
    ///
    /// # Errors
    ///
    /// What the output says.
    pub fn write(&self, now: Timestamp, output: &mut impl Write) -> io::Result<()> {
        let mut sum = Sum { output, sum: crc32fast::Hasher::new() };
        sum.put(MARK)?;
        sum.put(&FORMAT.to_le_bytes())?;
        sum.put(&now.milliseconds().to_le_bytes())?;
        let mut failure = Ok(());
        let mut cell = |target, cell: Cell| {
            if failure.is_ok() && cell.has_learned() {
                failure = sum.target(CELL, target).and_then(|()| sum.words(&cell.to_words()));
            }
        };
        self.v4.each(&mut cell);
        self.v6.each(&mut cell);
        failure?;
        let weeks: Vec<(Target, Week)> = lock(&self.weeks).iter().map(|(target, week)| (*target, week.clone())).collect();
        for (target, week) in weeks {
            sum.target(WEEK, target)?;
            sum.words(&week.cell.to_words())?;
            for hour in week.hours.iter() {
                let Hour { location: [packets, bits], spread: [first, second], minutes } = *hour;
                sum.words(&[packets.0, bits.0, first, second, minutes])?;
            }
        }
        let taught = lock(&self.taught).clone();
        for (target, (learned, at)) in taught {
            sum.target(TAUGHT, target)?;
            for rate in [learned.packets_per_second, learned.bits_per_second] {
                sum.put(&rate.to_bits().to_le_bytes())?;
            }
            sum.put(&at.milliseconds().to_le_bytes())?;
        }
        let nodes = lock(&self.nodes).to_json().map_err(io::Error::other)?;
        sum.put(&[NODES])?;
        sum.put(&u32::try_from(nodes.len()).map_err(io::Error::other)?.to_le_bytes())?;
        sum.put(&nodes)?;
        sum.put(&[END])?;
        let Sum { output, sum } = sum;
        output.write_all(&sum.finalize().to_le_bytes())
    }

    /// Takes up what was written; returns the number of hosts and prefixes. The time since then is no silence: nothing is learned of it.
    ///
    /// # Errors
    ///
    /// [`BaselineError`]; then nothing was taken up, unless a record is none.
    pub fn read(&self, octets: &[u8], now: Timestamp) -> Result<usize, BaselineError> {
        let (body, written) = octets.split_last_chunk::<4>().ok_or(BaselineError::Foreign)?;
        let mut input = Input { octets: body, at: 0 };
        if input.take::<8>() != Some(*MARK) {
            return Err(BaselineError::Foreign);
        }
        let format = input.take().map(u32::from_le_bytes).ok_or(BaselineError::Foreign)?;
        if format != FORMAT {
            return Err(BaselineError::Format(format));
        }
        let (found, written) = (crc32fast::hash(body), u32::from_le_bytes(*written));
        if found != written {
            return Err(BaselineError::Damaged { found, written });
        }
        let wrong = |input: &Input<'_>| BaselineError::Record(input.at);
        input.take::<8>().ok_or(wrong(&input))?;
        let mut targets = 0;
        while input.octets.get(input.at..) != Some(&[END]) {
            self.take_up(&mut input, now).ok_or_else(|| wrong(&input))?;
            targets += 1;
        }
        // The nodes are a record too.
        Ok(targets - usize::from(targets > 0))
    }

    fn take_up(&self, input: &mut Input<'_>, now: Timestamp) -> Option<()> {
        let [kind] = input.take()?;
        let clock = clock_of(now);
        match kind {
            CELL => {
                let (target, saved) = (input.target()?, input.cell()?);
                let key = Key::of(target.prefix)?;
                let resume = |cell: &mut Cell| {
                    *cell = saved;
                    cell.resume(clock);
                };
                // What finds no room is counted where it is reported again.
                let never = |_: &Cell| false;
                if key.is_v4() {
                    self.v4.change(key, target.direction, clock, never, resume);
                } else {
                    self.v6.change(key, target.direction, clock, never, resume);
                }
            }
            WEEK => {
                let (target, mut cell) = (input.target()?, input.cell()?);
                cell.resume(clock);
                let mut week = Week { cell, ..Week::default() };
                for hour in week.hours.iter_mut() {
                    let [packets, bits, first, second, minutes] = input.words()?;
                    *hour = Hour { location: [Level(packets), Level(bits)], spread: [first, second], minutes };
                }
                if let Some(own) = lock(&self.weeks).entry(target, clock) {
                    *own = week;
                }
            }
            TAUGHT => {
                let target = input.target()?;
                let [packets_per_second, bits_per_second] =
                    [f64::from_bits(u64::from_le_bytes(input.take()?)), f64::from_bits(u64::from_le_bytes(input.take()?))];
                let at = Timestamp(u64::from_le_bytes(input.take()?));
                let mut taught = lock(&self.taught);
                if taught.len() < self.taught_max {
                    taught.insert(target, (Learned { packets_per_second, bits_per_second }, at));
                }
            }
            NODES => {
                let length = usize::try_from(u32::from_le_bytes(input.take()?)).ok()?;
                let json = input.octets.get(input.at..input.at.checked_add(length)?)?;
                lock(&self.nodes).restore(json).ok()?;
                input.at += length;
            }
            _ => return None,
        }
        Some(())
    }
}

/// What is left to read.
struct Input<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn take<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let chunk = *self.octets.get(self.at..)?.first_chunk()?;
        self.at += LENGTH;
        Some(chunk)
    }

    fn target(&mut self) -> Option<Target> {
        let [length, outgoing] = self.take()?;
        let address = Address(u128::from_le_bytes(self.take()?));
        let direction = if outgoing == 0 { Direction::Incoming } else { Direction::Outgoing };
        Some(Target { prefix: Prefix::of(address, length), direction })
    }

    fn words<const COUNT: usize>(&mut self) -> Option<[u16; COUNT]> {
        let mut words = [0; COUNT];
        for word in &mut words {
            *word = u16::from_le_bytes(self.take()?);
        }
        Some(words)
    }

    fn cell(&mut self) -> Option<Cell> {
        self.words::<WORDS>().map(Cell::from_words)
    }
}
