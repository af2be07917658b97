//! The words that traffic is grouped and filtered by: what each holds, where it lies, and what it is seen from the other end.

use serde::{Serialize, Serializer};

/// What a word holds, and so which values it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 or IPv6.
    Address,
    /// A network with its length.
    Prefix,
    /// A whole number up to this one.
    Number(u64),
    /// A whole number with `k`, `M`, `G` or `T`.
    Volume,
    /// `AS64500` or its number.
    System,
    /// ISO 3166-1 alpha-2.
    Country,
    /// Any text.
    Text,
    /// A name of the IANA's, or its number.
    Protocol,
    /// TCP flags, `syn+ack`.
    Flags,
    /// `undefined`, `external` or `internal`.
    Boundary,
    /// `ingress` or `egress`.
    Direction,
}

impl Kind {
    /// Whether values are more or less than each other.
    #[must_use]
    pub fn is_ordered(self) -> bool {
        matches!(self, Self::Number(_) | Self::Volume | Self::System)
    }

    /// The largest number that it holds.
    #[must_use]
    pub fn max(self) -> u64 {
        match self {
            Self::Number(max) => max,
            Self::System => u32::MAX.into(),
            Self::Protocol | Self::Boundary | Self::Direction => u8::MAX.into(),
            Self::Flags => u16::MAX.into(),
            _ => u64::MAX,
        }
    }
}

const PORT: Kind = Kind::Number(65_535);
const INTERFACE: Kind = Kind::Number(4_294_967_295);

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident $word:literal $column:literal $mirror:ident $kind:expr,)*) => {
        /// A word of `group_by` and of filters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field { $($(#[$doc])* $field,)* }

        impl Field {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$field),*];

            /// As it is written.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$field => $word,)* }
            }

            /// Its column in `flows`, and in the rollups that have it.
            #[must_use]
            pub fn column(self) -> &'static str {
                match self { $(Self::$field => $column,)* }
            }

            /// What it is in a two-way record seen from the other end.
            #[must_use]
            pub fn mirrored(self) -> Self {
                match self { $(Self::$field => Self::$mirror,)* }
            }

            /// What it holds.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Self::$field => $kind,)* }
            }
        }
    };
}

fields! {
    /// Where it came from.
    SourceAddress "src_address" "source_address" DestinationAddress Kind::Address,
    /// Where it went.
    DestinationAddress "dst_address" "destination_address" SourceAddress Kind::Address,
    /// The routed or assigned prefix of the source.
    SourcePrefix "src_prefix" "source_prefix" DestinationPrefix Kind::Prefix,
    /// The routed or assigned prefix of the destination.
    DestinationPrefix "dst_prefix" "destination_prefix" SourcePrefix Kind::Prefix,
    /// `sourceTransportPort(7)`.
    SourcePort "src_port" "source_port" DestinationPort PORT,
    /// `destinationTransportPort(11)`.
    DestinationPort "dst_port" "destination_port" SourcePort PORT,
    /// The autonomous system of the source.
    SourceAs "src_as" "source_as" DestinationAs Kind::System,
    /// The autonomous system of the destination.
    DestinationAs "dst_as" "destination_as" SourceAs Kind::System,
    /// The country of the source.
    SourceCountry "src_country" "source_country" DestinationCountry Kind::Country,
    /// The country of the destination.
    DestinationCountry "dst_country" "destination_country" SourceCountry Kind::Country,
    /// The city of the source.
    SourceCity "src_city" "source_city" DestinationCity Kind::Text,
    /// The city of the destination.
    DestinationCity "dst_city" "destination_city" SourceCity Kind::Text,
    /// The customer whose prefix the source is in.
    SourceCustomer "src_customer" "source_customer" DestinationCustomer Kind::Text,
    /// The customer whose prefix the destination is in.
    DestinationCustomer "dst_customer" "destination_customer" SourceCustomer Kind::Text,
    /// The site whose prefix the source is in.
    SourceSite "src_site" "source_site" DestinationSite Kind::Text,
    /// The site whose prefix the destination is in.
    DestinationSite "dst_site" "destination_site" SourceSite Kind::Text,
    /// `protocolIdentifier(4)`.
    Protocol "protocol" "protocol_identifier" Protocol Kind::Protocol,
    /// The application, by port or by the exporter's word.
    Application "application" "application" Application Kind::Text,
    /// Who sent the record.
    Exporter "exporter" "exporter" Exporter Kind::Address,
    /// `ingressInterface(10)`.
    IngressInterface "in_if" "ingress_interface" EgressInterface INTERFACE,
    /// `egressInterface(14)`.
    EgressInterface "out_if" "egress_interface" IngressInterface INTERFACE,
    /// What lies behind the ingress interface.
    IngressBoundary "in_boundary" "ingress_boundary" EgressBoundary Kind::Boundary,
    /// What lies behind the egress interface.
    EgressBoundary "out_boundary" "egress_boundary" IngressBoundary Kind::Boundary,
    /// `flowDirection(61)`: at which interface it was counted.
    Direction "direction" "flow_direction" Direction Kind::Direction,
    /// `tcpControlBits(6)`.
    TcpFlags "tcp_flags" "tcp_control_bits" TcpFlags Kind::Flags,
    /// Octets of the record, before sampling is undone.
    Octets "octets" "octets" Octets Kind::Volume,
    /// Packets of the record, before sampling is undone.
    Packets "packets" "packets" Packets Kind::Volume,
}

impl Field {
    /// The field with this word, whatever its case.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.word().eq_ignore_ascii_case(word))
    }

    /// Whether traffic can be grouped by it; what is different in nearly every record cannot.
    #[must_use]
    pub fn groups(self) -> bool {
        !matches!(self, Self::Octets | Self::Packets)
    }

    /// Its column in a record of `flows`, read from one end or the other.
    #[must_use]
    pub fn record_column(self, is_mirrored: bool) -> &'static str {
        match (self, is_mirrored) {
            (Self::Octets, true) => "reverse_octets",
            (Self::Packets, true) => "reverse_packets",
            (field, true) => field.mirrored().column(),
            (field, false) => field.column(),
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// A word that stands for either end: `port in (53, 123)` is `src_port in (53, 123) or dst_port in (53, 123)`.
#[must_use]
pub fn either_end(word: &str) -> Option<(Field, Field)> {
    let lower = word.to_ascii_lowercase();
    EITHER.iter().find(|(own, _, _)| *own == lower).map(|(_, source, destination)| (*source, *destination))
}

/// The words of [`either_end`].
pub const EITHER: &[(&str, Field, Field)] = &[
    ("address", Field::SourceAddress, Field::DestinationAddress),
    ("prefix", Field::SourcePrefix, Field::DestinationPrefix),
    ("port", Field::SourcePort, Field::DestinationPort),
    ("as", Field::SourceAs, Field::DestinationAs),
    ("country", Field::SourceCountry, Field::DestinationCountry),
    ("city", Field::SourceCity, Field::DestinationCity),
    ("customer", Field::SourceCustomer, Field::DestinationCustomer),
    ("site", Field::SourceSite, Field::DestinationSite),
    ("interface", Field::IngressInterface, Field::EgressInterface),
];

/// The word nearest to one that is not known, if it is near at all.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower: String = word.chars().take(40).flat_map(char::to_lowercase).collect();
    let near = (lower.chars().count() / 3).max(1);
    known
        .map(|own| (distance(&lower, &own.to_lowercase()), own))
        .filter(|(far, _)| *far <= near)
        .min_by_key(|(far, _)| *far)
        .map(|(_, own)| own)
}

/// Letters to insert, remove, change or exchange with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let mut previous = None;
    for (row, letter) in (1..).zip(one.chars()) {
        let mut line = vec![row];
        for (column, own) in other.iter().enumerate() {
            let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX / 2);
            let change = at(&last, column) + usize::from(*own != letter);
            let mut least = change.min(at(&last, column + 1) + 1).min(at(&line, column) + 1);
            let exchanged = column > 0 && other.get(column - 1) == Some(&letter) && previous == Some(*own);
            if exchanged {
                least = least.min(at(&before, column - 1) + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_itself_again_when_seen_twice_from_the_other_end() {
        for field in Field::ALL {
            assert_eq!(field.mirrored().mirrored(), *field);
            assert_eq!(field.mirrored().kind(), field.kind());
            assert_eq!(Field::of(field.word()), Some(*field));
        }
    }

    #[test]
    fn a_word_that_is_nearly_right_is_recognised() {
        let words = || Field::ALL.iter().map(|field| field.word());
        assert_eq!(nearest("scr_port", words()), Some("src_port"));
        assert_eq!(nearest("dst_adress", words()), Some("dst_address"));
        assert_eq!(nearest("protocols", words()), Some("protocol"));
        assert_eq!(nearest("banana", words()), None);
    }
}
