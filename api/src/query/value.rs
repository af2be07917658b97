//! Values of filters by the type of their field: from what was written to the set that is let through.

use std::ops::Range;

use schemas::net::{Address, Prefix};

use super::dimension::{Field, Kind, nearest};
use super::fault::{FilterFault, shown};
use super::filter::Set;

/// Names of IP protocols, with the IANA's numbers.
pub const PROTOCOLS: &[(&str, u64)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("etherip", 97),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// TCP's control bits, RFC 9293 section 3.1 and RFC 3540.
pub const FLAGS: &[(&str, u64)] =
    &[("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 16), ("urg", 32), ("ece", 64), ("cwr", 128), ("ns", 256), ("none", 0)];

/// What lies behind an interface, as the store numbers it.
pub const BOUNDARIES: &[(&str, u64)] = &[("undefined", 0), ("external", 1), ("internal", 2)];

/// `flowDirection(61)`.
pub const DIRECTIONS: &[(&str, u64)] = &[("ingress", 0), ("egress", 1)];

/// The first and the last IPv4 address.
const V4_FIRST: Address = Address::from_v4(0);
const V4_LAST: Address = Address::from_v4(u32::MAX);

/// Octets of a text that is compared with.
const TEXT_OCTETS_MAX: usize = 256;

/// How a field is compared; `!=`, `<=`, `>=` and `not in` are the opposites of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `>`
    More,
    /// `in`
    In,
    /// `has`: all of these flags are set.
    Has,
}

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Less => "< or >=",
            Self::More => "> or <=",
            Self::In => "in",
            Self::Has => "has",
        }
    }
}

/// A value, or a range of them, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value, or the first of the range.
    pub text: String,
    /// Whether it stood in quotes.
    pub is_quoted: bool,
    /// The last of the range.
    pub last: Option<String>,
    /// Where.
    pub span: Range<usize>,
}

type Fault = (Option<Range<usize>>, FilterFault);

/// The values that a comparison lets through; a fault without a place is the operator's.
pub fn set(field: Field, operator: Operator, items: &[Item]) -> Result<Set, Fault> {
    let kind = field.kind();
    let known = match kind {
        Kind::Flags => "=, !=, in, not in, has, not has",
        kind if kind.is_ordered() => "=, !=, <, <=, >, >=, in, not in",
        _ => "=, !=, in, not in",
    };
    let is_known = match operator {
        Operator::Equal | Operator::In => true,
        Operator::Less | Operator::More => kind.is_ordered(),
        Operator::Has => kind == Kind::Flags,
    };
    if !is_known {
        return Err((None, FilterFault::Operator { field: field.word(), operator: operator.sign(), known }));
    }
    let is_list = operator == Operator::In;
    match kind {
        Kind::Address => {
            let ranges: Vec<_> = items.iter().map(|item| address(field, item, is_list)).collect::<Result<_, _>>()?;
            Ok(Set::Addresses(ranges.into_iter().flat_map(of_one_family).collect()))
        }
        Kind::Prefix => {
            let prefixes = items.iter().map(|item| prefix(field, item)).collect::<Result<_, _>>()?;
            Ok(if is_list { Set::Within(prefixes) } else { Set::Prefixes(prefixes) })
        }
        Kind::Country | Kind::Text => items.iter().map(|item| text(field, item)).collect::<Result<_, _>>().map(Set::Texts),
        _ => numbers(field, operator, items),
    }
}

fn numbers(field: Field, operator: Operator, items: &[Item]) -> Result<Set, Fault> {
    let mut ranges = Vec::new();
    for item in items {
        let first = number(field, item, &item.text)?;
        match operator {
            Operator::Has => return Ok(Set::Bits(first)),
            Operator::Less => ranges.extend(first.checked_sub(1).map(|last| (0, last))),
            Operator::More => ranges.extend((first < field.kind().max()).then(|| (first + 1, field.kind().max()))),
            Operator::Equal | Operator::In => {
                let last = item.last.as_deref().map_or(Ok(first), |last| number(field, item, last))?;
                if last < first {
                    return Err((Some(item.span.clone()), FilterFault::Backwards));
                }
                if last > first && !field.kind().is_ordered() {
                    return Err(wrong(field, item, None));
                }
                ranges.push((first, last));
            }
        }
    }
    Ok(Set::Numbers(ranges))
}

fn address(field: Field, item: &Item, may_be_prefix: bool) -> Result<(Address, Address), Fault> {
    let read = |text: &str| text.parse::<Address>().map_err(|_| wrong(field, item, None));
    if let Some(last) = &item.last {
        let (first, last) = (read(&item.text)?, read(last)?);
        if first.is_v4() != last.is_v4() {
            return Err(wrong(field, item, None));
        }
        return if first <= last { Ok((first, last)) } else { Err((Some(item.span.clone()), FilterFault::Backwards)) };
    }
    if may_be_prefix {
        return prefix(field, item).map(|prefix| (prefix.first(), prefix.last()));
    }
    read(&item.text).map(|address| (address, address)).map_err(|fault| {
        let in_prefix = item.text.parse::<Prefix>().is_ok().then(|| format!("{} in {}", field.word(), item.text));
        if in_prefix.is_some() { wrong(field, item, in_prefix) } else { fault }
    })
}

/// The ranges that hold of a range what is of the family of its ends: IPv4 lies in the midst of IPv6's numbers.
pub(super) fn of_one_family((first, last): (Address, Address)) -> Vec<(Address, Address)> {
    if first.is_v4() || first > V4_FIRST || last < V4_FIRST {
        return vec![(first, last)];
    }
    vec![(first, Address(V4_FIRST.0 - 1)), (Address(V4_LAST.0 + 1), last)].into_iter().filter(|(first, last)| first <= last).collect()
}

fn prefix(field: Field, item: &Item) -> Result<Prefix, Fault> {
    if item.last.is_some() {
        return Err(wrong(field, item, None));
    }
    item.text.parse().map_err(|error| match error {
        schemas::net::PrefixError::HostBits(_, meant) => wrong(field, item, Some(meant)),
        schemas::net::PrefixError::Syntax(_) => wrong(field, item, None),
    })
}

fn text(field: Field, item: &Item) -> Result<String, Fault> {
    let is_country = field.kind() == Kind::Country;
    let fits = if is_country {
        item.text.is_empty() || item.text.len() == 2 && item.text.bytes().all(|octet| octet.is_ascii_alphabetic())
    } else {
        item.text.len() <= TEXT_OCTETS_MAX
    };
    if item.last.is_some() || !fits {
        return Err(wrong(field, item, None));
    }
    Ok(if is_country { item.text.to_ascii_uppercase() } else { item.text.clone() })
}

fn number(field: Field, item: &Item, text: &str) -> Result<u64, Fault> {
    let kind = field.kind();
    let names = names(kind);
    let named = |word: &str| names.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, number)| *number);
    let plain = |digits: &str| if digits.bytes().all(|octet| octet.is_ascii_digit()) { digits.parse::<u64>().ok() } else { None };
    let read = if item.is_quoted {
        None
    } else {
        match kind {
            Kind::Flags => plain(text).or_else(|| text.split('+').try_fold(0, |bits, word| Some(bits | named(word)?))),
            Kind::System => plain(text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text)),
            Kind::Volume => volume(text, plain),
            _ => plain(text).or_else(|| named(text)),
        }
    };
    read.filter(|number| *number <= kind.max()).ok_or_else(|| {
        let meant = nearest(text, names.iter().map(|(name, _)| *name)).map(str::to_owned);
        wrong(field, item, meant)
    })
}

/// A whole number with `k`, `M`, `G` or `T` for thousands.
fn volume(text: &str, plain: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let scale = match text.chars().last()? {
        'k' | 'K' => 1_000,
        'M' => 1_000_000,
        'G' => 1_000_000_000,
        'T' => 1_000_000_000_000,
        _ => return plain(text),
    };
    plain(text.get(..text.len() - 1)?)?.checked_mul(scale)
}

/// The names that numbers of this kind have.
#[must_use]
pub fn names(kind: Kind) -> &'static [(&'static str, u64)] {
    match kind {
        Kind::Protocol => PROTOCOLS,
        Kind::Flags => FLAGS,
        Kind::Boundary => BOUNDARIES,
        Kind::Direction => DIRECTIONS,
        _ => &[],
    }
}

fn wrong(field: Field, item: &Item, nearest: Option<String>) -> Fault {
    let expected = match field.kind() {
        Kind::Address => "an address, or behind `in` a prefix or a range of addresses".to_owned(),
        Kind::Prefix => "a prefix".to_owned(),
        Kind::Number(max) => format!("a number to {max}"),
        Kind::Volume => "a number, with k, M, G or T if you like".to_owned(),
        Kind::System => "an AS number like AS64500".to_owned(),
        Kind::Country => "a country's code of two letters".to_owned(),
        Kind::Text => format!("a text of at most {TEXT_OCTETS_MAX} octets"),
        Kind::Protocol => "a protocol's name or its number to 255".to_owned(),
        Kind::Flags => "TCP flags like syn+ack, or their number".to_owned(),
        Kind::Boundary => "one of undefined, external, internal".to_owned(),
        Kind::Direction => "ingress or egress".to_owned(),
    };
    let found = item.last.as_ref().map_or_else(|| shown(&item.text), |last| shown(&format!("{}..{last}", item.text)));
    (Some(item.span.clone()), FilterFault::Value { field: field.word(), expected, found, nearest })
}
