//! A table of routes like the Internet's: as many prefixes of each length, in the blocks where they are assigned.

use std::collections::HashSet;

use schemas::net::{Address, Prefix};

use super::Random;

/// Lengths of IPv4 and how many of a thousand routes have them, as in the tables that route collectors published in the last years.
const LENGTHS_V4: &[(u8, u32)] =
    &[(24, 600), (23, 100), (22, 112), (21, 50), (20, 45), (19, 28), (18, 16), (17, 11), (16, 18), (15, 3), (14, 3), (13, 2), (12, 2)];
/// The same of IPv6; a few in a hundred are more specific than is routed, as customers' are.
const LENGTHS_V6: &[(u8, u32)] =
    &[(48, 460), (47, 25), (46, 30), (45, 20), (44, 110), (42, 20), (40, 90), (36, 45), (33, 20), (32, 115), (29, 35), (56, 20), (64, 10)];
/// Blocks of IPv6 out of which registries assign.
const BLOCKS_V6: &[u16] = &[
    0x2001, 0x2400, 0x2401, 0x2402, 0x2403, 0x2404, 0x2405, 0x2406, 0x2407, 0x2409, 0x240e, 0x2600, 0x2602, 0x2604, 0x2605, 0x2606, 0x2607,
    0x2800, 0x2801, 0x2803, 0x2804, 0x2a00, 0x2a01, 0x2a02, 0x2a03, 0x2a04, 0x2a05, 0x2a06, 0x2a07, 0x2a09, 0x2a0a, 0x2a0b, 0x2a0c, 0x2a0d,
    0x2a0e, 0x2a0f, 0x2a10, 0x2c0f,
];
/// Blocks /32 within them that prefixes are in.
const ALLOCATIONS_V6: u32 = 1_200;
/// Autonomous systems that announce something.
const AUTONOMOUS_SYSTEMS: u32 = 80_000;

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its prefix.
    pub prefix: Prefix,
    /// Who announces it.
    pub autonomous_system: u32,
    /// Where that one is: one of 200 made-up countries, `AA` to `HR`.
    pub country: [u8; 2],
}

/// So many different routes of both families, wide ones first.
#[must_use]
pub fn routes(random: &mut Random, v4: usize, v6: usize) -> Vec<Route> {
    let mut seen = HashSet::with_capacity(v4 + v6);
    while seen.len() < v4 {
        // 1.0.0.0 to 223.255.255.255: what can be an end.
        let bits = random.within(1 << 24, (224 << 24) - 1);
        seen.insert(Prefix::of(Address::from_v4(bits), length(random, LENGTHS_V4)));
    }
    while seen.len() < v4 + v6 {
        let block = random.below(u32::try_from(BLOCKS_V6.len()).unwrap_or(1)) as usize;
        let block = u128::from(BLOCKS_V6.get(block).copied().unwrap_or(0x2001));
        let allocation = u128::from(random.below(ALLOCATIONS_V6) * 53);
        let rest = u128::from(random.number()) << 32;
        seen.insert(Prefix::of(Address(block << 112 | allocation << 96 | rest), length(random, LENGTHS_V6)));
    }
    let mut prefixes: Vec<Prefix> = seen.into_iter().collect();
    // By themselves first: the set gives them in an order of its own.
    prefixes.sort_unstable();
    prefixes.sort_by_key(|prefix| prefix.length());
    let route = |prefix| {
        let autonomous_system = 1 + random.below(AUTONOMOUS_SYSTEMS);
        let [first, second] = [autonomous_system % 200 / 26, autonomous_system % 200 % 26];
        let letter = |number: u32| u8::try_from(number).unwrap_or(0) + b'A';
        Route { prefix, autonomous_system, country: [letter(first), letter(second)] }
    };
    prefixes.into_iter().map(route).collect()
}

fn length(random: &mut Random, lengths: &[(u8, u32)]) -> u8 {
    let mut rest = random.below(lengths.iter().map(|(_, share)| share).sum());
    for (length, share) in lengths {
        if rest < *share {
            return *length;
        }
        rest -= share;
    }
    24
}
