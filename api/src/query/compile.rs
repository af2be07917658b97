//! From the typed tree to SQL: the text is ours alone, every value is a bound parameter.

use std::collections::BTreeMap;

use serde::Serialize;

use schemas::net::{Address, Prefix};

use super::dimension::{Field, Kind};
use super::filter::{Filter, Set};
use super::value::of_one_family;

mod ranges;

/// SQL, and the values that are bound to it as `{p0:Type}`, `{p1:Type}` and so on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    /// Our own words only.
    pub sql: String,
    /// The values, by their number.
    pub values: Vec<Bound>,
}

/// A value that is bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Bound {
    /// A number or moment.
    Number(u64),
    /// Numbers.
    Numbers(Vec<u64>),
    /// A text or address.
    Text(String),
    /// Texts or addresses.
    Texts(Vec<String>),
}

impl Statement {
    /// Writes our own words.
    pub fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Writes the place of a value of the engine's type `of`, and binds it.
    pub fn bind(&mut self, of: &str, value: Bound) -> &mut Self {
        let number = self.values.len();
        self.sql.push_str(&format!("{{p{number}:{of}}}"));
        self.values.push(value);
        self
    }

    /// The statement that ends as [`AskError::Groups`](super::ask::AskError::Groups) when it has more groups than that.
    #[must_use]
    pub fn with_groups_max(mut self, groups_max: u64) -> Self {
        self.push(&format!(" SETTINGS max_rows_to_group_by = {groups_max}, group_by_overflow_mode = 'throw'"));
        self
    }

    /// Writes `parts` with `between` them, in parentheses; of none, `nothing`.
    fn join<T>(&mut self, parts: &[T], between: &str, nothing: &str, mut write: impl FnMut(&mut Self, &T)) {
        if parts.is_empty() {
            self.push(nothing);
            return;
        }
        self.push("(");
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                self.push(between);
            }
            write(self, part);
        }
        self.push(")");
    }

    /// Writes the condition that a filter is; `column` says where a field lies.
    pub fn filter(&mut self, filter: &Filter, column: &dyn Fn(Field) -> Column) {
        match filter {
            Filter::All(parts) => self.join(parts, " AND ", "1", |own, part| own.filter(part, column)),
            Filter::Any(parts) => self.join(parts, " OR ", "0", |own, part| own.filter(part, column)),
            Filter::Not(part) => {
                self.push("NOT ").filter_in_parentheses(part, column);
            }
            Filter::Test(field, set) => self.test(*field, &column(*field), set),
        }
    }

    fn filter_in_parentheses(&mut self, filter: &Filter, column: &dyn Fn(Field) -> Column) {
        self.push("(");
        self.filter(filter, column);
        self.push(")");
    }

    fn test(&mut self, field: Field, column: &Column, set: &Set) {
        match set {
            Set::Numbers(ranges) => self.numbers(field, column.name, ranges),
            Set::Addresses(ranges) => self.addresses(field, column.name, ranges),
            Set::Prefixes(prefixes) => self.prefixes(column, prefixes),
            Set::Within(prefixes) => self.within(column, prefixes),
            Set::Texts(texts) => {
                self.push(column.name).push(" IN ").bind("Array(String)", Bound::Texts(texts.clone()));
            }
            Set::Bits(bits) => {
                self.push("bitAnd(").push(column.name).push(", ").bind("UInt64", Bound::Number(*bits)).push(") = ");
                self.bind("UInt64", Bound::Number(*bits));
            }
        }
    }

    fn numbers(&mut self, field: Field, column: &str, ranges: &[(u64, u64)]) {
        // Words of an enumeration are compared by their numbers.
        let column = if field.kind() == Kind::Boundary { format!("toUInt8({column})") } else { column.to_owned() };
        let (single, wide) = parted(ranges);
        let single: Vec<u64> = single.into_iter().map(|(first, _)| first).collect();
        let parts: Vec<Result<Ranges<u64>, Vec<u64>>> =
            (!wide.is_empty()).then_some(Ok(wide)).into_iter().chain((!single.is_empty()).then_some(Err(single))).collect();
        self.join(&parts, " OR ", "0", |own, part| match part {
            Ok(wide) => own.number_ranges(&column, wide),
            Err(single) => {
                own.push(&column).push(" IN ").bind("Array(UInt64)", Bound::Numbers(single.clone()));
            }
        });
    }

    fn addresses(&mut self, field: Field, column: &str, ranges: &[(Address, Address)]) {
        let (single, wide) = parted(ranges);
        let single: Vec<String> = single.into_iter().map(|(first, _)| mapped(first)).collect();
        let parts: Vec<Result<Ranges<Address>, Vec<String>>> =
            (!wide.is_empty()).then_some(Ok(wide)).into_iter().chain((!single.is_empty()).then_some(Err(single))).collect();
        self.join(&parts, " OR ", "0", |own, part| match part {
            Ok(wide) => own.address_ranges(column, wide, field == Field::Exporter),
            Err(single) => {
                own.push(column).push(" IN ").bind("Array(IPv6)", Bound::Texts(single.clone()));
            }
        });
    }

    /// A prefix is one of these: for each length that they have, one of the addresses.
    fn prefixes(&mut self, column: &Column, prefixes: &[Prefix]) {
        self.join(&by_length(prefixes), " OR ", "0", |own, (length, prefixes)| {
            let firsts = prefixes.iter().map(|prefix| mapped(prefix.first())).collect();
            own.push("(").push(column.name).push(" IN ").bind("Array(IPv6)", Bound::Texts(firsts));
            own.push(" AND ").push(column.length).push(" = ").bind("UInt8", Bound::Number((*length).into())).push(")");
        });
    }

    /// A prefix lies within another of its own family: it begins within and is not shorter.
    fn within(&mut self, column: &Column, prefixes: &[Prefix]) {
        self.join(&by_length(prefixes), " OR ", "0", |own, (length, prefixes)| {
            let ranges: Vec<_> = prefixes.iter().flat_map(|prefix| of_one_family((prefix.first(), prefix.last()))).collect();
            own.push("(").address_ranges(column.name, &ranges, false);
            own.push(" AND ").push(column.length).push(" >= ").bind("UInt8", Bound::Number((*length).into())).push(")");
        });
    }
}

/// Ranges with both of their ends.
type Ranges<T> = Vec<(T, T)>;

/// Single values, and ranges of several.
fn parted<T: Copy + Eq>(ranges: &[(T, T)]) -> (Ranges<T>, Ranges<T>) {
    ranges.iter().copied().partition(|(first, last)| first == last)
}

/// Prefixes by their family and length, which is of their own family.
fn by_length(prefixes: &[Prefix]) -> Vec<(u8, Vec<Prefix>)> {
    let mut found: BTreeMap<(bool, u8), Vec<Prefix>> = BTreeMap::new();
    for prefix in prefixes {
        found.entry((prefix.is_v4(), prefix.length())).or_default().push(*prefix);
    }
    found.into_iter().map(|((_, length), prefixes)| (length, prefixes)).collect()
}

/// Where a field lies in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its column.
    pub name: &'static str,
    /// Of a prefix, the column of its length; otherwise empty.
    pub length: &'static str,
}

fn text(address: Address) -> Bound {
    Bound::Text(mapped(address))
}

/// An address as the engine keeps all of them: of 128 bits.
pub(super) fn mapped(address: Address) -> String {
    std::net::Ipv6Addr::from(address.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{Bounds, parser::parse};
    use super::*;

    fn compiled(text: &str) -> Statement {
        let mut statement = Statement::default();
        let filter = parse(text, &Bounds::default()).unwrap().unwrap();
        statement.filter(&filter, &|field| Column { name: field.column(), length: "length" });
        statement
    }

    #[test]
    fn values_are_bound_and_never_pasted() {
        let statement =
            compiled("src_customer = 'x\\' OR 1=1 --' and not (dst_address in (203.0.113.0/24, 2001:db8::1) or src_port in (1..2, 53))");
        assert_eq!(
            statement.sql,
            "(source_customer IN {p0:Array(String)} AND NOT (((((toUInt128(destination_address) BETWEEN toUInt128({p1:IPv6}) AND toUInt128({p2:IPv6}))) OR \
             destination_address IN {p3:Array(IPv6)}) OR ((source_port BETWEEN {p4:UInt64} AND {p5:UInt64}) OR source_port IN {p6:Array(UInt64)}))))"
        );
        assert_eq!(statement.values[0], Bound::Texts(vec!["x' OR 1=1 --".to_owned()]));
        assert_eq!(statement.values[1], Bound::Text("::ffff:203.0.113.0".to_owned()));
    }

    /// `::/0` and whatever else IPv4 lies within as `::ffff:0:0/96`.
    #[test]
    fn a_prefix_of_ipv6_holds_no_address_of_ipv4() {
        let everything = compiled("src_address in ::/0");
        let text = |text: &str| Bound::Text(text.to_owned());
        let ends = ["::", "::fffe:ffff:ffff", "::1:0:0:0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"];
        assert_eq!(everything.values, ends.map(text));
        assert_eq!(compiled("src_address in ::/80").values, ["::", "::fffe:ffff:ffff"].map(text));
        assert_eq!(compiled("src_address in ::1..2001:db8::").values[1..3], ["::fffe:ffff:ffff", "::1:0:0:0"].map(text));
        assert_eq!(compiled("src_address in 0.0.0.0/0").values, ["::ffff:0.0.0.0", "::ffff:255.255.255.255"].map(text));
        assert_eq!(compiled("src_prefix in ::/0").values[..4], everything.values);
        assert_eq!(compiled("src_prefix in (2001:db8::/32, 0.0.0.0/0)").values.len(), 6);
        assert!(parse("src_address in 10.0.0.1..2001:db8::", &Bounds::default()).is_err());
    }

    /// However long a list is, the engine has a few conditions to understand.
    #[test]
    fn a_long_list_is_as_many_conditions_as_a_short_one() {
        let list = |each: &dyn Fn(u32) -> String| (0..400).map(each).collect::<Vec<_>>().join(",");
        for (text, values_max) in [
            (format!("src_address in ({})", list(&|at| format!("10.{}.{}.0/24", at / 100, at % 100 * 2))), 6),
            (format!("src_address in ({})", list(&|at| format!("2001:db8:{at}::/48"))), 6),
            (format!("src_address in ({})", list(&|at| format!("2001:db8::{at}:0/124"))), 3),
            (format!("src_address in ({})", list(&|at| format!("10.0.{}.{}", at / 200, at % 200))), 1),
            (format!("src_prefix in ({})", list(&|at| format!("10.{}.{}.0/24", at / 100, at % 100 * 2))), 7),
            (format!("src_prefix in ({})", list(&|at| format!("2001:db8:{at}:2::/64"))), 7),
            (format!("exporter in ({})", list(&|at| format!("10.{}.{}.0/24", at / 100, at % 100 * 2))), 6),
            (format!("src_port in ({})", list(&|at| format!("{}..{}", at * 3, at * 3 + 1))), 4),
            (format!("src_as in ({})", list(&|at| format!("{}..{}", at * 3, at * 3 + 1))), 4),
        ] {
            let statement = compiled(&text);
            assert!(statement.values.len() <= values_max, "{}: {}", statement.values.len(), statement.sql);
        }
    }

    #[test]
    fn ranges_that_overlap_or_touch_are_one() {
        assert_eq!(compiled("src_port in (5..9, 1..3, 4..6, 7..8)").values, [Bound::Number(1), Bound::Number(9)]);
        let values = compiled("src_address in (10.0.0.0/9, 10.128.0.0/9, 10.3.0.0/16)").values;
        assert_eq!(values, ["::ffff:10.0.0.0", "::ffff:10.255.255.255"].map(|text| Bound::Text(text.to_owned())));
    }

    #[test]
    fn no_text_of_a_client_reaches_the_sql() {
        for hostile in ["'; DROP TABLE flows --", "{p0:String}", "??", "\u{202e}\0\n", "\\'", "/* */"] {
            let quoted = hostile.replace('\\', "\\\\").replace('"', "\\\"");
            let statement = compiled(&format!("src_site = \"{quoted}\""));
            assert_eq!(statement.sql, "source_site IN {p0:Array(String)}");
            assert_eq!(statement.values, [Bound::Texts(vec![hostile.to_owned()])]);
        }
    }
}
