//! Random filters: their text, and beside it what they mean, in plain Rust that knows nothing of the parser or the engine.

use bench::synthesize::Random;
use schemas::net::{Address, Prefix};

use crate::flows::{APPLICATIONS, CITIES, COUNTRIES, CUSTOMERS, End, PORTS, Record, SITES, pick};

/// Whether a record of one direction is let through.
pub type Holds = Box<dyn Fn(&Record) -> bool>;

/// A filter and its meaning.
pub struct Meant {
    /// As it is written.
    pub text: String,
    /// What it means.
    pub holds: Holds,
}

/// A filter with parts within parts, at most `depth` deep.
pub fn random(random: &mut Random, depth: u32) -> Meant {
    if depth == 0 || random.chance(30) {
        return comparison(random);
    }
    match random.below(4) {
        0 => {
            let part = self::random(random, depth - 1);
            Meant { text: format!("not ({})", part.text), holds: Box::new(move |record| !(part.holds)(record)) }
        }
        1 => {
            let (one, two, three) = (comparison(random), comparison(random), comparison(random));
            // Without parentheses: `and` binds more tightly.
            let text = format!("{} or {} and {}", one.text, two.text, three.text);
            Meant { text, holds: Box::new(move |record| (one.holds)(record) || (two.holds)(record) && (three.holds)(record)) }
        }
        two => {
            let (one, other) = (self::random(random, depth - 1), self::random(random, depth - 1));
            let word = if two == 2 { "and" } else { "OR" };
            let text = format!("({}) {word}\n\t({})", one.text, other.text);
            let is_and = two == 2;
            let holds = move |record: &Record| {
                if is_and { (one.holds)(record) && (other.holds)(record) } else { (one.holds)(record) || (other.holds)(record) }
            };
            Meant { text, holds: Box::new(holds) }
        }
    }
}

fn comparison(random: &mut Random) -> Meant {
    if random.chance(15) {
        return if random.chance(60) { addresses(random) } else { numbers(random) };
    }
    match random.below(6) {
        0 | 1 => address(random),
        2 => text(random),
        3 => prefix(random),
        _ => number(random),
    }
}

/// `word` of one end or of either, and the ends that it is of.
fn ends(random: &mut Random, word: &str) -> (String, Vec<usize>) {
    match random.below(3) {
        0 => (format!("src_{word}"), vec![0]),
        1 => (format!("dst_{word}"), vec![1]),
        _ => (word.to_owned(), vec![0, 1]),
    }
}

fn of_ends(ends: Vec<usize>, is_negated: bool, fits: impl Fn(&End) -> bool + 'static) -> Holds {
    Box::new(move |record| ends.iter().any(|end| fits(&record.ends[*end])) != is_negated)
}

fn some_prefix(random: &mut Random) -> Prefix {
    let texts = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "203.0.113.0/24",
        "203.0.113.8/29",
        "0.0.0.0/0",
        "::/0",
        "2001:db8::/32",
        "2001:db8:1::/48",
        "203.0.113.7",
    ];
    pick(random, &texts).parse().unwrap()
}

fn written(prefix: Prefix) -> String {
    if prefix.is_host() { prefix.first().to_string() } else { prefix.to_string() }
}

fn address(random: &mut Random) -> Meant {
    let is_negated = random.chance(25);
    if random.chance(15) {
        let exporter = pick(random, &["192.0.2.1", "2001:db8:ffff::1"]);
        let own: Address = exporter.parse().unwrap();
        let sign = if is_negated { "!=" } else { "=" };
        return Meant {
            text: format!("exporter {sign} {exporter}"),
            holds: Box::new(move |record| (record.exporter == own) != is_negated),
        };
    }
    let (word, ends) = ends(random, "address");
    let list: Vec<Prefix> = (0..random.within(1, 3)).map(|_| some_prefix(random)).collect();
    let sign = if is_negated { "not in" } else { "in" };
    let texts: Vec<String> = list.iter().map(|prefix| written(*prefix)).collect();
    let text =
        if let [only] = texts.as_slice() { format!("{word} {sign} {only}") } else { format!("{word} {sign} ({})", texts.join(", ")) };
    let holds = of_ends(ends, is_negated, move |end| {
        list.iter().any(|prefix| prefix.is_v4() == end.address.is_v4() && prefix.contains(end.address))
    });
    Meant { text, holds }
}

/// A list longer than what is compared one by one: prefixes, ranges and single addresses, of one family or both, around those of the records.
fn addresses(random: &mut Random) -> Meant {
    let is_negated = random.chance(25);
    let kind = if random.chance(30) { "prefix" } else { "address" };
    let (word, ends) = ends(random, kind);
    let of_prefixes = kind == "prefix";
    let (has_v4, has_v6) = pick(random, &[(true, false), (false, true), (true, true)]);
    // Of /64s alone, of finer ones, of both.
    let kinds: [&[u8]; 3] = [&[48, 62, 64], &[100, 124, 126, 127], &[32, 64, 123, 125]];
    let lengths = pick(random, &kinds);
    let mut list = Vec::new();
    for number in 0..random.within(20, 40) {
        let is_v4 = has_v4 && (!has_v6 || number % 2 == 0);
        let low = u128::from(random.below(20));
        let (address, length) = if is_v4 {
            let base = pick(random, &[0xffff_0a00_0000, 0xffff_0a02_0000, 0xffff_cb00_7100, 0xffff_cb00_7200]);
            (base + low, pick(random, &[24, 28, 29, 30, 31, 32]))
        } else {
            (
                0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(random.below(5)) << 80 | u128::from(random.below(3)) << 64 | low,
                pick(random, lengths),
            )
        };
        let prefix = Prefix::of(Address(address), length);
        let last = Address(prefix.last().0 + u128::from(random.below(3)));
        let is_range = !of_prefixes && random.chance(30);
        list.push((prefix, is_range.then_some(last)));
    }
    let sign = if is_negated { "not in" } else { "in" };
    let shown = |(prefix, last): &(Prefix, Option<Address>)| match last {
        Some(last) => format!("{}..{last}", prefix.first()),
        None => written(*prefix),
    };
    let text = format!("{word} {sign} ({})", list.iter().map(shown).collect::<Vec<_>>().join(","));
    let fits = move |end: &End| {
        list.iter().any(|(prefix, last)| match last {
            _ if of_prefixes => prefix.is_v4() == end.prefix().is_v4() && prefix.covers(end.prefix()),
            Some(last) => prefix.is_v4() == end.address.is_v4() && (prefix.first()..=*last).contains(&end.address),
            None => prefix.is_v4() == end.address.is_v4() && prefix.contains(end.address),
        })
    };
    Meant { text, holds: of_ends(ends, is_negated, fits) }
}

/// A long list of ranges of numbers, as far as the last there is.
fn numbers(random: &mut Random) -> Meant {
    let is_negated = random.chance(25);
    let fields: [(&str, Read, u64, &[u64]); 4] = [
        ("dst_port", |record| record.ends[1].port, 65_535, PORTS),
        ("src_as", |record| record.ends[0].system, 4_294_967_295, &[0, 64_496, 64_500, 4_200_000_000]),
        ("in_if", |record| record.ends[0].interface, 4_294_967_295, &[0, 1, 2, 3]),
        ("octets", |record| record.octets, u64::MAX, &[0, 64, 10_000, 500_000]),
    ];
    let (word, read, max, values) = pick(random, &fields);
    let mut list: Vec<(u64, u64)> = (0..random.within(18, 40))
        .map(|_| {
            let first =
                pick(random, values).saturating_sub(u64::from(random.below(3))).saturating_add(100 * u64::from(random.below(50))).min(max);
            (first, first.saturating_add(u64::from(random.below(5))).min(max))
        })
        .collect();
    if random.chance(30) {
        list.push((max - 10, max));
    }
    let sign = if is_negated { "not in" } else { "in" };
    let text = format!("{word} {sign} ({})", list.iter().map(|(first, last)| format!("{first}..{last}")).collect::<Vec<_>>().join(", "));
    let holds = move |record: &Record| list.iter().any(|(first, last)| (*first..=*last).contains(&read(record))) != is_negated;
    Meant { text, holds: Box::new(holds) }
}

fn prefix(random: &mut Random) -> Meant {
    let (is_negated, is_equal, prefix) = (random.chance(25), random.chance(50), some_prefix(random));
    let (word, ends) = ends(random, "prefix");
    let sign = match (is_equal, is_negated) {
        (true, false) => "=",
        (true, true) => "!=",
        (false, false) => "in",
        (false, true) => "not in",
    };
    let fits = move |end: &End| {
        if is_equal { end.prefix() == prefix } else { prefix.is_v4() == end.prefix().is_v4() && prefix.covers(end.prefix()) }
    };
    Meant { text: format!("{word} {sign} {}", written(prefix)), holds: of_ends(ends, is_negated, fits) }
}

fn text(random: &mut Random) -> Meant {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let is_negated = random.chance(25);
    let (kind, texts) =
        pick(random, &[("country", COUNTRIES), ("city", CITIES), ("customer", CUSTOMERS), ("site", SITES), ("application", APPLICATIONS)]);
    let list: Vec<&'static str> = (0..random.within(1, 3)).map(|_| pick(random, texts)).collect();
    let sign = if is_negated { "not in" } else { "in" };
    let values = list.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    if kind == "application" {
        let holds = move |record: &Record| list.contains(&record.application) != is_negated;
        return Meant { text: format!("application {sign} ({values})"), holds: Box::new(holds) };
    }
    let (word, ends) = ends(random, kind);
    let fits = move |end: &End| {
        let own = match kind {
            "country" => end.country,
            "city" => end.city,
            "customer" => end.customer,
            _ => end.site,
        };
        list.contains(&own)
    };
    Meant { text: format!("{word} {sign} ({values})"), holds: of_ends(ends, is_negated, fits) }
}

/// What a field of numbers is in a record.
type Read = fn(&Record) -> u64;

fn number(random: &mut Random) -> Meant {
    if random.chance(15) {
        let (is_negated, bits) = (random.chance(30), random.within(1, 31));
        let names: Vec<&str> = [("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 16)]
            .iter()
            .filter(|(_, bit)| bits & bit != 0)
            .map(|(name, _)| *name)
            .collect();
        let text = format!("tcp_flags {}has {}", if is_negated { "not " } else { "" }, names.join("+"));
        return Meant { text, holds: Box::new(move |record| (record.flags & u64::from(bits) == u64::from(bits)) != is_negated) };
    }
    let ports: &[u64] = PORTS;
    let fields: [(&str, Read, &[u64]); 11] = [
        ("src_port", |record| record.ends[0].port, ports),
        ("dst_port", |record| record.ends[1].port, ports),
        ("src_as", |record| record.ends[0].system, &[0, 64_496, 64_500, 4_200_000_000]),
        ("dst_as", |record| record.ends[1].system, &[0, 64_496, 64_500]),
        ("in_if", |record| record.ends[0].interface, &[0, 1, 2, 3]),
        ("out_if", |record| record.ends[1].interface, &[0, 1, 2, 3]),
        ("octets", |record| record.octets, &[0, 64, 10_000, 500_000]),
        ("packets", |record| record.packets, &[0, 1, 100, 900]),
        ("protocol", |record| record.protocol, &[1, 6, 17, 47]),
        ("in_boundary", |record| record.ends[0].boundary, &[0, 1, 2]),
        ("out_boundary", |record| record.ends[1].boundary, &[0, 1, 2]),
    ];
    let (word, read, values) = pick(random, &fields);
    let (one, other) = (pick(random, values), pick(random, values));
    let shown = move |value: u64| match (word, value) {
        ("protocol", 6) => "tcp".to_owned(),
        ("protocol", 17) => "UDP".to_owned(),
        ("src_as" | "dst_as", _) => format!("AS{value}"),
        ("in_boundary" | "out_boundary", _) => ["undefined", "external", "internal"][usize::try_from(value).unwrap()].to_owned(),
        ("octets", 10_000) => "10k".to_owned(),
        _ => value.to_string(),
    };
    let is_ordered = !matches!(word, "protocol" | "in_boundary" | "out_boundary");
    let (least, most) = (one.min(other), one.max(other));
    match random.below(if is_ordered { 8 } else { 4 }) {
        0 => Meant { text: format!("{word}={}", shown(one)), holds: Box::new(move |record| read(record) == one) },
        1 => Meant { text: format!("{word} != {}", shown(one)), holds: Box::new(move |record| read(record) != one) },
        2 => Meant {
            text: format!("{word} in ({}, {})", shown(one), shown(other)),
            holds: Box::new(move |record| [one, other].contains(&read(record))),
        },
        3 => Meant {
            text: format!("{word} not in ({},{})", shown(one), shown(other)),
            holds: Box::new(move |record| ![one, other].contains(&read(record))),
        },
        4 => Meant { text: format!("{word} < {}", shown(one)), holds: Box::new(move |record| read(record) < one) },
        5 => Meant { text: format!("{word} <= {}", shown(one)), holds: Box::new(move |record| read(record) <= one) },
        6 => Meant { text: format!("{word} >= {}", shown(one)), holds: Box::new(move |record| read(record) >= one) },
        _ => Meant {
            text: format!("{word} in {}..{}", shown(least), shown(most)),
            holds: Box::new(move |record| (least..=most).contains(&read(record))),
        },
    }
}
