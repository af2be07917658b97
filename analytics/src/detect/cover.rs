//! The smallest prefix that an attack covers: host, /29 … /24 and wider where customers have more, IPv6 /64 … /48.

use schemas::counter::{Detail, Spread};
use schemas::incident::{Metric, Unit};
use schemas::net::{Address, Prefix};

/// Part of the traffic that must lie in half of a prefix for this half to be the target.
///
/// What its other hosts carry all the time goes on beside an attack. The limit of a prefix is that of ten busy hosts: in a prefix that is over
/// it, more than a sixth that is someone else's would be an attack of its own.
const SHARE: f64 = 0.85;
/// The longest IPv4 prefix that is told: what is narrower are single hosts.
const LONGEST_V4: u8 = 29;
/// The longest IPv6 prefix that is told: a /64 is one link.
const LONGEST_V6: u8 = 64;

/// The smallest prefix within `watched` that holds 85 % of what the shards have last told of it; `watched` itself if nothing is known.
#[must_use]
pub fn smallest(watched: Prefix, details: &[(usize, Box<Detail>)], metric: Metric) -> Prefix {
    let mut spread = Spread::default();
    details.iter().filter_map(|(_, detail)| detail.spread.as_deref()).for_each(|own| spread.add(own));
    let narrower = descend(watched, &spread.parts, metric);
    // The finer parts are sums over all of the coarser: they tell of one only if all lies in it.
    let steps = u8::try_from(spread.parts.len().max(1).ilog2()).unwrap_or(0);
    if narrower.length() == watched.length().saturating_add(steps) { descend(narrower, &spread.finer, metric) } else { narrower }
}

/// Goes from a prefix to its heavier half while that holds enough of the whole.
fn descend(from: Prefix, parts: &[[f32; 2]], metric: Metric) -> Prefix {
    let longest = if from.is_v4() { LONGEST_V4 } else { LONGEST_V6 };
    let weigh = |parts: &[[f32; 2]]| {
        parts.iter().map(|[packets, octets]| f64::from(if metric.unit() == Unit::Bits { *octets } else { *packets })).sum::<f64>()
    };
    let whole = weigh(parts);
    let (mut prefix, mut parts) = (from, parts);
    while prefix.length() < longest && parts.len() > 1 && whole > 0.0 {
        let (low, high) = parts.split_at(parts.len() / 2);
        let (half, is_high) = if weigh(high) > weigh(low) { (high, true) } else { (low, false) };
        if weigh(half) < whole * SHARE {
            break;
        }
        (prefix, parts) = (half_of(prefix, is_high), half);
    }
    prefix
}

fn half_of(prefix: Prefix, is_high: bool) -> Prefix {
    let low = Prefix::of(prefix.first(), prefix.length() + 1);
    // The first address behind the low half.
    if is_high { Prefix::of(Address(low.last().0.saturating_add(1)), low.length()) } else { low }
}

/// The smallest prefix that holds both.
#[must_use]
pub fn joined(one: Prefix, other: Prefix) -> Prefix {
    let (mut wide, narrow) = if one.length() <= other.length() { (one, other) } else { (other, one) };
    while !wide.covers(narrow) && wide.length() > 0 {
        wide = Prefix::of(wide.first(), wide.length() - 1);
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of equal weight, and a hundredth of it everywhere.
    fn details(parts: impl IntoIterator<Item = usize>, finer: impl IntoIterator<Item = usize>) -> Vec<(usize, Box<Detail>)> {
        let sums = |heavy: Vec<usize>| -> Vec<[f32; 2]> {
            (0..256).map(|number| if heavy.contains(&number) { [100.0, 100_000.0] } else { [0.01, 10.0] }).collect()
        };
        let spread = Spread { parts: sums(parts.into_iter().collect()), finer: sums(finer.into_iter().collect()) };
        vec![(0, Box::new(Detail { spread: Some(Box::new(spread)), ..Detail::default() }))]
    }

    fn found(watched: &str, details: &[(usize, Box<Detail>)]) -> String {
        smallest(watched.parse().unwrap(), details, Metric::PacketsPerSecond).to_string()
    }

    #[test]
    fn a_carpet_is_the_block_that_it_covers() {
        let within = |parts: std::ops::Range<usize>| found("203.0.113.0/24", &details(parts, 0..0));
        assert_eq!(within(0..256), "203.0.113.0/24");
        assert_eq!(within(128..256), "203.0.113.128/25");
        assert_eq!(within(64..80), "203.0.113.64/28");
        assert_eq!(within(8..16), "203.0.113.8/29");
        // Narrower ones are hosts' own incidents, or the block around them.
        assert_eq!(within(8..10), "203.0.113.8/29");
        // Six of eight blocks of 32 addresses have no smaller block in common.
        assert_eq!(within(0..192), "203.0.113.0/24");
        // Parts of four addresses.
        assert_eq!(found("203.0.112.0/22", &details(64..128, 0..0)), "203.0.113.0/24");
    }

    #[test]
    fn ipv6_is_found_down_to_64_bits() {
        assert_eq!(found("2001:db8::/48", &details(0..256, 0..256)), "2001:db8::/48");
        assert_eq!(found("2001:db8::/48", &details(16..32, 0..256)), "2001:db8:0:1000::/52");
        assert_eq!(found("2001:db8::/48", &details([0x12], 0..256)), "2001:db8:0:1200::/56");
        assert_eq!(found("2001:db8::/48", &details([0x12], 0x30..0x40)), "2001:db8:0:1230::/60");
        assert_eq!(found("2001:db8::/48", &details([0x12], [0x34])), "2001:db8:0:1234::/64");
    }

    #[test]
    fn of_what_nothing_is_known_the_whole_is_meant() {
        assert_eq!(found("203.0.113.0/24", &[]), "203.0.113.0/24");
    }

    #[test]
    fn two_blocks_are_joined_in_the_smallest_that_holds_both() {
        let joined = |one: &str, other: &str| joined(one.parse().unwrap(), other.parse().unwrap()).to_string();
        assert_eq!(joined("203.0.113.0/28", "203.0.113.32/29"), "203.0.113.0/26");
        assert_eq!(joined("203.0.113.0/24", "203.0.113.32/29"), "203.0.113.0/24");
        assert_eq!(joined("2001:db8::/56", "2001:db8:0:100::/56"), "2001:db8::/55");
    }
}
