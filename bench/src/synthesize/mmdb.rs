//! Writes MMDB files (MaxMind DB file format 2.0), as the makers of countries, cities and autonomous systems do.
//!
//! A search tree of addresses, bit by bit; behind it the records, each different one once; behind them what the file is.

use std::collections::HashMap;

use schemas::net::Prefix;

/// Octets of zero between the tree and the records.
const SEPARATOR: usize = 16;
const METADATA_MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// A value of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number of 16 bits at most.
    Short(u16),
    /// A number of 32 bits at most.
    Number(u32),
    /// A number of 64 bits at most.
    Long(u64),
    /// Values by name.
    Map(Vec<(&'static str, Value)>),
    /// Values in order.
    Array(Vec<Value>),
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                control(2, text.len(), into);
                into.extend_from_slice(text.as_bytes());
            }
            Self::Short(number) => number_of(5, &number.to_be_bytes(), into),
            Self::Number(number) => number_of(6, &number.to_be_bytes(), into),
            Self::Long(number) => number_of(9, &number.to_be_bytes(), into),
            Self::Map(entries) => {
                control(7, entries.len(), into);
                for (name, value) in entries {
                    Self::text(name).encode(into);
                    value.encode(into);
                }
            }
            Self::Array(values) => {
                control(11, values.len(), into);
                values.iter().for_each(|value| value.encode(into));
            }
        }
    }
}

/// The octets in front of a value: its type and its size.
fn control(kind: u8, size: usize, into: &mut Vec<u8>) {
    let (first, rest): (u8, Vec<u8>) = match size {
        0..=28 => (u8::try_from(size).unwrap_or(0), Vec::new()),
        29..=284 => (29, vec![u8::try_from(size - 29).unwrap_or(0)]),
        _ => (30, u16::try_from(size - 285).unwrap_or(u16::MAX).to_be_bytes().to_vec()),
    };
    // Types over 7 have an octet of their own.
    if kind <= 7 {
        into.push(kind << 5 | first);
    } else {
        into.extend([first, kind - 7]);
    }
    into.extend(rest);
}

/// A number without the zeroes in front of it.
fn number_of(kind: u8, octets: &[u8], into: &mut Vec<u8>) {
    let rest: Vec<u8> = octets.iter().copied().skip_while(|octet| *octet == 0).collect();
    control(kind, rest.len(), into);
    into.extend(rest);
}

/// Where a bit leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Record {
    #[default]
    Nothing,
    Node(usize),
    /// Offset into the section of records.
    Data(usize),
}

/// A file that is being made.
#[derive(Debug)]
pub struct Mmdb {
    nodes: Vec<[Record; 2]>,
    data: Vec<u8>,
    known: HashMap<Vec<u8>, usize>,
    is_v6: bool,
}

impl Mmdb {
    /// An empty file of both families, with IPv4 in `::/96`; or of IPv4 alone.
    #[must_use]
    pub fn new(is_v6: bool) -> Self {
        Self { nodes: vec![[Record::Nothing; 2]], data: Vec::new(), known: HashMap::new(), is_v6 }
    }

    /// A prefix and what is told of it; prefixes come before those that lie within them.
    ///
    /// # Panics
    ///
    /// If a prefix of IPv6 is put into a file of IPv4.
    pub fn insert(&mut self, prefix: Prefix, value: &Value) {
        let mut octets = Vec::new();
        value.encode(&mut octets);
        let data = &mut self.data;
        let offset = *self.known.entry(octets).or_insert_with_key(|octets| {
            data.extend_from_slice(octets);
            data.len() - octets.len()
        });
        let (bits, length) = self.path(prefix);
        self.set(bits, length, Record::Data(offset));
    }

    /// Makes 2002::/16 and ::ffff:0:0/96 lead to IPv4 as well, as the makers do.
    pub fn alias_v4(&mut self) {
        let mut node = 0;
        for _ in 0..96 {
            let Some([Record::Node(next), _]) = self.nodes.get(node) else {
                return;
            };
            node = *next;
        }
        self.set(0x2002 << 112, 16, Record::Node(node));
        self.set(0xffff << 32, 96, Record::Node(node));
    }

    /// The bits that lead to a prefix, the first of them the highest, and their number.
    fn path(&self, prefix: Prefix) -> (u128, u32) {
        let (first, length) = (prefix.first().0, u32::from(prefix.length()));
        let v4 = first & 0xffff_ffff;
        match (prefix.is_v4(), self.is_v6) {
            (true, true) => (v4, 96 + length),
            (true, false) => (v4 << 96, length),
            (false, true) => (first, length),
            (false, false) => panic!("a prefix of IPv6 in a file of IPv4"),
        }
    }

    fn set(&mut self, bits: u128, length: u32, record: Record) {
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            let room = self.nodes.len();
            let Some(slot) = self.nodes.get_mut(node).and_then(|slots| slots.get_mut(side)) else {
                return;
            };
            if depth + 1 == length {
                *slot = record;
            } else if let Record::Node(next) = *slot {
                node = next;
            } else {
                // What held for all of it holds for both halves, until one is told otherwise.
                let both = *slot;
                *slot = Record::Node(room);
                self.nodes.push([both; 2]);
                node = room;
            }
        }
    }

    /// The file's octets, with `record_bits` (24, 28 or 32) for each way of a node.
    ///
    /// # Panics
    ///
    /// If there are more nodes and records than so many bits can tell apart, or the number of bits is another.
    #[must_use]
    pub fn finish(self, database_type: &str, record_bits: u16) -> Vec<u8> {
        let count = self.nodes.len();
        let mut octets = Vec::with_capacity(count * 8 + self.data.len() + 1_024);
        for ways in &self.nodes {
            let [left, right] = ways.map(|record| match record {
                Record::Nothing => count,
                Record::Node(node) => node,
                Record::Data(offset) => count + SEPARATOR + offset,
            });
            node(left, right, record_bits, &mut octets);
        }
        octets.extend([0; SEPARATOR]);
        octets.extend(self.data);
        octets.extend(METADATA_MARKER);
        let number = |value: usize| Value::Number(u32::try_from(value).unwrap_or(u32::MAX));
        let metadata = Value::Map(vec![
            ("binary_format_major_version", Value::Short(2)),
            ("binary_format_minor_version", Value::Short(0)),
            ("build_epoch", Value::Long(1_800_000_000)),
            ("database_type", Value::text(database_type)),
            ("description", Value::Map(vec![("en", Value::text("made up"))])),
            ("ip_version", Value::Short(if self.is_v6 { 6 } else { 4 })),
            ("languages", Value::Array(vec![Value::text("en")])),
            ("node_count", number(count)),
            ("record_size", Value::Short(record_bits)),
        ]);
        metadata.encode(&mut octets);
        octets
    }
}

/// Writes both ways of a node.
fn node(left: usize, right: usize, record_bits: u16, into: &mut Vec<u8>) {
    let [left, right] = [left, right].map(|way| u32::try_from(way).unwrap_or(u32::MAX));
    assert!(u64::from(left.max(right)) < 1 << record_bits, "{record_bits} bits are too few");
    let ([l0, l1, l2, l3], [r0, r1, r2, r3]) = (left.to_be_bytes(), right.to_be_bytes());
    match record_bits {
        24 => into.extend([l1, l2, l3, r1, r2, r3]),
        28 => into.extend([l1, l2, l3, l0 << 4 | r0, r1, r2, r3]),
        32 => into.extend([l0, l1, l2, l3, r0, r1, r2, r3]),
        _ => panic!("{record_bits} is neither 24 nor 28 nor 32"),
    }
}
