//! What is asked, as typed values, and the SQL that answers it.

use super::compile::{Bound, Column, Statement};
use super::dimension::{Field, Kind};
use super::filter::Filter;
use super::level::{Family, Part, Plan, Table};
use super::ranking::BUCKETS;
use super::view::View;

/// What groups are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// IP octets.
    Octets,
    /// Packets.
    Packets,
    /// Flow records.
    Flows,
}

impl Measure {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Octets => "octets",
            Self::Packets => "packets",
            Self::Flows => "flows",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::Octets => "o",
            Self::Packets => "p",
            Self::Flows => "f",
        }
    }
}

/// What is asked of traffic, but for where it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is measured.
    pub measure: Measure,
    /// What it is grouped by.
    pub group_by: Vec<Field>,
    /// What is let through.
    pub filter: Option<Filter>,
    /// Groups that are told apart; the others are summed.
    pub top: u64,
}

/// The columns of every sum, behind those of the group.
pub const SUMS: &str = "sum(o) AS octets, sum(p) AS packets, sum(f) AS flows, sum(u) AS unknown_flows, sum(vo) AS octets_variance, sum(vp) AS packets_variance";

impl Question {
    /// Every field that a table must have.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = self.group_by.clone();
        if let Some(filter) = &self.filter {
            filter.fields(&mut |field| fields.push(field));
        }
        fields
    }

    /// Whether a packet that several interfaces report counts once in the network, or once for the interface that is asked about.
    #[must_use]
    pub fn view(&self) -> View {
        View::of(&self.group_by, self.filter.as_ref())
    }

    /// Columns of the group: one for each field, two for a prefix.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.group_by.iter().map(|field| width(*field)).sum()
    }

    fn key_list(&self) -> String {
        (0..self.keys()).map(|index| format!("k{index}")).collect::<Vec<_>>().join(", ")
    }

    /// The groups by their sums, the largest first, with the totals of all groups.
    #[must_use]
    pub fn ranking(&self, plan: &Plan) -> Statement {
        let mut statement = Statement::default();
        let keys = self.key_list();
        statement.push(&format!("SELECT {keys}, {SUMS} FROM "));
        self.rows(&mut statement, plan, false);
        statement.push(&format!(" GROUP BY {keys} WITH TOTALS ORDER BY {} DESC, {keys} LIMIT ", self.measure.word()));
        statement.bind("UInt64", Bound::Number(self.top));
        statement
    }

    /// The largest buckets of groups by their sums: number, an estimate of how many groups there are in all, sums; with the totals of all.
    #[must_use]
    pub fn buckets(&self, plan: &Plan, count: u64) -> Statement {
        let mut statement = Statement::default();
        let keys = self.key_list();
        statement.push(&format!("SELECT cityHash64({keys}) % {BUCKETS} AS bucket, (SELECT uniqCombined64({keys}) FROM "));
        self.rows(&mut statement, plan, false);
        statement.push(&format!(") AS groups, {SUMS} FROM "));
        self.rows(&mut statement, plan, false);
        statement.push(&format!(" GROUP BY bucket WITH TOTALS ORDER BY {} DESC, bucket LIMIT ", self.measure.word()));
        statement.bind("UInt64", Bound::Number(count));
        statement
    }

    /// The groups of some buckets by their sums, the largest first.
    #[must_use]
    pub fn ranking_within(&self, plan: &Plan, buckets: &[u64]) -> Statement {
        let mut statement = Statement::default();
        let keys = self.key_list();
        statement.push(&format!("SELECT {keys}, {SUMS} FROM "));
        self.rows(&mut statement, plan, false);
        statement.push(&format!(" WHERE cityHash64({keys}) % {BUCKETS} IN ")).bind("Array(UInt64)", Bound::Numbers(buckets.to_vec()));
        statement.push(&format!(" GROUP BY {keys} ORDER BY {} DESC, {keys} LIMIT ", self.measure.word()));
        statement.bind("UInt64", Bound::Number(self.top));
        statement
    }

    /// Sums of every step, as a whole or of each of the largest groups with the others in one: point, whether it is such a group, group.
    #[must_use]
    pub fn series(&self, plan: &Plan) -> Statement {
        let mut statement = Statement::default();
        if self.group_by.is_empty() {
            statement.push(&format!("SELECT t, {SUMS} FROM "));
            self.rows(&mut statement, plan, true);
            statement.push(" GROUP BY t ORDER BY t");
            return statement;
        }
        let keys = self.key_list();
        let nothing = self.group_by.iter().flat_map(|field| nothing(*field)).enumerate();
        let shown: Vec<String> = nothing.map(|(index, nothing)| format!("if(is_top, k{index}, {nothing}) AS g{index}")).collect();
        let groups: Vec<String> = (0..self.keys()).map(|index| format!("g{index}")).collect();
        statement.push(&format!("SELECT t, is_top, {}, {SUMS} FROM (SELECT *, ({keys}) IN (SELECT {keys} FROM ", shown.join(", ")));
        self.rows(&mut statement, plan, false);
        statement.push(&format!(" GROUP BY {keys} ORDER BY sum({}) DESC, {keys} LIMIT ", self.measure.column()));
        statement.bind("UInt64", Bound::Number(self.top)).push(") AS is_top FROM ");
        self.rows(&mut statement, plan, true);
        statement.push(&format!(") GROUP BY t, is_top, {} ORDER BY t", groups.join(", ")));
        statement
    }

    /// The rows of every part of the plan as `k0…, o, p, f, u, vo, vp`, and `t` in front if they are summed by step.
    fn rows(&self, statement: &mut Statement, plan: &Plan, by_step: bool) {
        statement.push("(");
        let mut is_first = true;
        for part in &plan.parts {
            for is_mirrored in [false, true] {
                if is_mirrored && part.table != Table::Flows {
                    continue;
                }
                statement.push(if is_first { "" } else { " UNION ALL " });
                is_first = false;
                self.arm(statement, plan, part, is_mirrored, by_step.then_some(plan.step));
            }
        }
        statement.push(")");
    }

    /// The rows of one table, of two-way records in one direction.
    fn arm(&self, statement: &mut Statement, plan: &Plan, part: &Part, is_mirrored: bool, step: Option<u64>) {
        let column = |field: Field| column(part.table, field, is_mirrored);
        statement.push("SELECT ");
        if let Some(step) = step {
            statement.push("intDiv(toUInt32(time), ").bind("UInt32", Bound::Number(step)).push(") AS t, ");
        }
        let keys = self.group_by.iter().flat_map(|field| key(*field, column(*field)));
        for (index, key) in keys.enumerate() {
            statement.push(&format!("{key} AS k{index}, "));
        }
        statement.push(sums(part.table, is_mirrored)).push(" FROM ").push(&part.table.name());
        statement.push(" WHERE time >= toDateTime(").bind("UInt32", Bound::Number(part.span.from));
        statement.push(") AND time < toDateTime(").bind("UInt32", Bound::Number(part.span.to)).push(")");
        if is_mirrored {
            statement.push(" AND (reverse_octets > 0 OR reverse_packets > 0)");
        }
        let has_repeats = matches!(part.table.family(), None | Some(Family::Traffic));
        if has_repeats {
            self.view().condition(statement, plan, self.filter.as_ref(), &|field| column(field).name);
        }
        match part.table.family() {
            Some(Family::SourcePrefix) => statement.push(" AND side = 'source'"),
            Some(Family::DestinationPrefix) => statement.push(" AND side = 'destination'"),
            _ => statement,
        };
        if let Some(filter) = &self.filter {
            statement.push(" AND ").filter(filter, &column);
        }
    }
}

/// What a row adds to the sums; of flows, with sampling undone, and with the variance that sampling one packet in n brings.
fn sums(table: Table, is_mirrored: bool) -> &'static str {
    match (table, is_mirrored) {
        (Table::Flows, false) => {
            "octets * greatest(sampling_interval, 1) AS o, packets * greatest(sampling_interval, 1) AS p, \
             toUInt64(greatest(sampling_interval, 1)) AS f, toUInt64(sampling_interval = 0) AS u, \
             toFloat64(f) * (f - 1) * octets * octets / greatest(packets, 1) AS vo, toFloat64(f) * (f - 1) * packets AS vp"
        }
        (Table::Flows, true) => {
            "reverse_octets * greatest(sampling_interval, 1) AS o, reverse_packets * greatest(sampling_interval, 1) AS p, \
             toUInt64(greatest(sampling_interval, 1)) AS f, toUInt64(sampling_interval = 0) AS u, \
             toFloat64(f) * (f - 1) * reverse_octets * reverse_octets / greatest(reverse_packets, 1) AS vo, toFloat64(f) * (f - 1) * reverse_packets AS vp"
        }
        _ => "octets AS o, packets AS p, flows AS f, unknown_flows AS u, octets_variance AS vo, packets_variance AS vp",
    }
}

/// Where a field lies in a table.
fn column(table: Table, field: Field, is_mirrored: bool) -> Column {
    if table != Table::Flows && field.kind() == Kind::Prefix {
        return Column { name: "prefix", length: "prefix_length" };
    }
    let name = field.record_column(is_mirrored);
    let length = match name {
        "source_prefix" => "source_prefix_length",
        "destination_prefix" => "destination_prefix_length",
        _ => "",
    };
    Column { name, length }
}

/// Columns of a group that a field takes.
#[must_use]
pub fn width(field: Field) -> usize {
    if field.kind() == Kind::Prefix { 2 } else { 1 }
}

fn key(field: Field, column: Column) -> Vec<String> {
    match field.kind() {
        Kind::Prefix => vec![column.name.to_owned(), column.length.to_owned()],
        Kind::Boundary | Kind::Country | Kind::Text => vec![format!("toString({})", column.name)],
        _ => vec![column.name.to_owned()],
    }
}

/// What stands in the place of a key where several groups are one.
fn nothing(field: Field) -> Vec<&'static str> {
    match field.kind() {
        Kind::Prefix => vec!["toIPv6('::')", "0"],
        Kind::Address => vec!["toIPv6('::')"],
        Kind::Boundary | Kind::Country | Kind::Text => vec!["''"],
        _ => vec!["0"],
    }
}
