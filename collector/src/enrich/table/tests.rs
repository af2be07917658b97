//! The table against a plain scan, against the shared longest-prefix table, and at its edges.

use proptest::prelude::*;
use schemas::net::{Address, Prefix, PrefixTable};

use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn numbers(table: &Table, addresses: &[&str]) -> Vec<u32> {
    let addresses: Vec<Address> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let mut numbers = vec![u32::MAX; addresses.len()];
    table.fill(&addresses, &mut numbers);
    assert_eq!(numbers, addresses.iter().map(|address| table.get(*address)).collect::<Vec<_>>(), "one by one as in a batch");
    numbers
}

#[test]
fn an_empty_table_knows_nothing_and_takes_no_memory() {
    let table = Table::default();
    assert!(table.is_empty() && table.memory_octets() == 0);
    assert_eq!(numbers(&table, &["192.0.2.1", "2001:db8::1", "::", "255.255.255.255"]), [0; 4]);
}

#[test]
fn the_longest_prefix_holds_to_its_edges() {
    let table = Table::of_prefixes([
        (prefix("192.0.2.0/24"), 1),
        (prefix("192.0.2.128/25"), 2),
        (prefix("192.0.2.129"), 3),
        (prefix("255.255.255.255"), 4),
        (prefix("0.0.0.0"), 5),
        (prefix("2001:db8::/32"), 6),
        (prefix("2001:db8:0:1::/64"), 7),
        (prefix("ffff::/16"), 8),
    ]);
    let v4 = ["192.0.1.255", "192.0.2.0", "192.0.2.127", "192.0.2.128", "192.0.2.129", "192.0.2.130", "192.0.3.0"];
    assert_eq!(numbers(&table, &v4), [0, 1, 1, 2, 3, 2, 0]);
    assert_eq!(numbers(&table, &["255.255.255.255", "255.255.255.254", "0.0.0.0", "0.0.0.1"]), [4, 0, 5, 0]);
    let v6 = ["2001:db8::1", "2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:2::", "2001:db9::", "ffff::1", "::"];
    assert_eq!(numbers(&table, &v6), [6, 7, 7, 6, 0, 8, 0]);
}

#[test]
fn all_of_ipv6_is_nothing_of_ipv4() {
    let table = Table::of_prefixes([(prefix("::/0"), 1)]);
    assert_eq!(numbers(&table, &["192.0.2.1", "::", "2001:db8::1"]), [0, 1, 1]);
    let table = Table::of_prefixes([(prefix("0.0.0.0/0"), 1)]);
    assert_eq!(numbers(&table, &["192.0.2.1", "::", "2001:db8::1"]), [1, 0, 0]);
}

#[test]
fn a_crowded_cell_of_ipv6_is_looked_up_by_its_page() {
    // 4,096 prefixes /28 of 2001::/16, every other one: more than a page is made for.
    let prefixes = (0..4_096u32).step_by(2).map(|number| {
        let first = 0x2001u128 << 112 | u128::from(number) << 100;
        (Prefix::of(Address(first), 28), number + 1)
    });
    let table = Table::of_prefixes(prefixes);
    for number in 0..4_096u32 {
        let inside = Address(0x2001u128 << 112 | u128::from(number) << 100 | 0xabcd);
        assert_eq!(table.get(inside), if number % 2 == 0 { number + 1 } else { 0 });
    }
}

#[test]
fn crowded_cells_answer_what_the_shared_table_answers() {
    // Numbers that look like chance: the high bits of multiples of a large odd one.
    let chance = |index: u64, bound: u64| ((u128::from(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(bound)) >> 64) as u64;
    let mut entries: Vec<(Prefix, u32)> = Vec::new();
    for index in 0..700u64 {
        let number = u32::try_from(index).unwrap() + 1;
        // A page of IPv6 with cells of one and of hundreds, some of them deeper than the 64 bits that are compared at once.
        let bits =
            u128::from(chance(index, 1 << 6)) << 96 | u128::from(chance(index + 7, 1 << 20)) << 56 | u128::from(chance(index, 1 << 50));
        let length = 20 + u8::try_from(chance(index + 3, if index % 9 == 0 { 108 } else { 44 })).unwrap();
        entries.push((Prefix::of(Address(0x2001u128 << 112 | bits), length), number));
        // Hundreds in one cell of IPv4.
        let bits = 0xc000_0000 | u32::try_from(chance(index, 1 << 17)).unwrap();
        entries.push((Prefix::of(Address::from_v4(bits), 16 + u8::try_from(chance(index + 5, 17)).unwrap()), number));
    }
    let (table, oracle) = (Table::of_prefixes(entries.clone()), PrefixTable::new(entries.clone()));
    let mut addresses = Vec::new();
    for (prefix, _) in &entries {
        let (first, last) = (prefix.first().0, prefix.last().0);
        addresses.extend([first.wrapping_sub(1), first, first / 2 + last / 2, last, last.wrapping_add(1)].map(Address));
    }
    let mut numbers = vec![u32::MAX; addresses.len()];
    table.fill(&addresses, &mut numbers);
    for (address, number) in addresses.into_iter().zip(numbers) {
        assert_eq!(number, oracle.get(address).map_or(0, |(_, value)| *value), "{address}");
    }
}

/// Prefixes that often nest: few different bits, all lengths.
fn v4_prefix() -> impl Strategy<Value = Prefix> {
    (prop::sample::select(vec![0u32, 0x0a00_0000, 0xc000_0200, 0xffff_ff00]), 0u32..1 << 12, 0u32..20, 0u8..=32)
        .prop_map(|(base, bits, shift, length)| Prefix::of(Address::from_v4(base ^ bits << shift), length))
}

/// None of them holds the addresses of IPv4, which the shared table would take it for.
fn v6_prefix() -> impl Strategy<Value = Prefix> {
    (prop::sample::select(vec![0x2001u128, 0x2a00, 0xfe80]), 0u128..1 << 12, 0u32..112, 3u8..=128)
        .prop_map(|(top, bits, shift, length)| Prefix::of(Address(top << 112 ^ bits << shift), length))
}

proptest! {
    #[test]
    fn it_answers_what_a_scan_and_the_shared_table_answer(
        prefixes in prop::collection::vec(prop_oneof![v4_prefix(), v6_prefix()], 0..60),
        others in prop::collection::vec(prop_oneof![v4_prefix(), v6_prefix()], 0..20),
    ) {
        let entries: Vec<(Prefix, u32)> = prefixes.into_iter().zip(1..).collect();
        let table = Table::of_prefixes(entries.clone());
        let oracle = PrefixTable::new(entries.clone());
        let edges = entries.iter().map(|(prefix, _)| *prefix).chain(others).flat_map(|prefix| {
            let (first, last) = (prefix.first(), prefix.last());
            let [before, behind] = [Address(first.0.wrapping_sub(1)), Address(last.0.wrapping_add(1))];
            [before, first, Address(first.0 / 2 + last.0 / 2), last, behind]
        });
        let addresses: Vec<Address> = edges.collect();
        let mut numbers = vec![u32::MAX; addresses.len()];
        table.fill(&addresses, &mut numbers);
        for (address, number) in addresses.into_iter().zip(numbers) {
            // The later of two equal ones: `max_by_key` answers the last of several.
            let longest = entries.iter().filter(|(prefix, _)| prefix.contains(address)).max_by_key(|(prefix, _)| prefix.length());
            prop_assert_eq!(number, longest.map_or(0, |(_, value)| *value), "{}", address);
            prop_assert_eq!(number, oracle.get(address).map_or(0, |(_, value)| *value), "{}", address);
            prop_assert_eq!(number, table.get(address));
        }
    }
}
