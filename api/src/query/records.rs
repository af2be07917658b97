//! Single flows as they are listed and exported.

use super::compile::{Bound, Column, Statement};
use super::filter::Filter;
use super::level::Span;

/// What a column of `flows` is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Plain,
    /// A moment to the second.
    Second,
    /// A moment to the millisecond.
    Millisecond,
    /// An address, in its own family's text.
    Address,
}

/// The columns of an answer, which are those of the table.
pub const COLUMNS: &[(&str, Shape)] = &[
    ("time", Shape::Second),
    ("received_at", Shape::Millisecond),
    ("flow_start_milliseconds", Shape::Millisecond),
    ("flow_end_milliseconds", Shape::Millisecond),
    ("exporter", Shape::Address),
    ("observation_domain_id", Shape::Plain),
    ("version", Shape::Plain),
    ("sampling_interval", Shape::Plain),
    ("sampling_source", Shape::Plain),
    ("source_address", Shape::Address),
    ("destination_address", Shape::Address),
    ("source_port", Shape::Plain),
    ("destination_port", Shape::Plain),
    ("protocol_identifier", Shape::Plain),
    ("tcp_control_bits", Shape::Plain),
    ("octets", Shape::Plain),
    ("packets", Shape::Plain),
    ("reverse_octets", Shape::Plain),
    ("reverse_packets", Shape::Plain),
    ("ingress_interface", Shape::Plain),
    ("egress_interface", Shape::Plain),
    ("ingress_interface_name", Shape::Plain),
    ("egress_interface_name", Shape::Plain),
    ("ingress_boundary", Shape::Plain),
    ("egress_boundary", Shape::Plain),
    ("flow_direction", Shape::Plain),
    ("is_repeat", Shape::Plain),
    ("source_as", Shape::Plain),
    ("destination_as", Shape::Plain),
    ("source_country", Shape::Plain),
    ("destination_country", Shape::Plain),
    ("source_city", Shape::Plain),
    ("destination_city", Shape::Plain),
    ("source_customer", Shape::Plain),
    ("destination_customer", Shape::Plain),
    ("source_site", Shape::Plain),
    ("destination_site", Shape::Plain),
    ("source_prefix", Shape::Address),
    ("source_prefix_length", Shape::Plain),
    ("destination_prefix", Shape::Address),
    ("destination_prefix_length", Shape::Plain),
    ("application", Shape::Plain),
    ("fragment", Shape::Plain),
    ("icmp_type_code", Shape::Plain),
    ("ip_class_of_service", Shape::Plain),
    ("ip_ttl", Shape::Plain),
    ("vlan_id", Shape::Plain),
    ("next_hop", Shape::Address),
    ("forwarding_status", Shape::Plain),
];

/// The newest first; behind the time, what makes the order one that pages can rely on.
const ORDER: &str =
    "time DESC, received_at DESC, exporter, source_address, destination_address, source_port, destination_port, octets, packets";

/// A part of the flows of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// When.
    pub span: Span,
    /// What is let through; records count as they are, two-way ones from their own end.
    pub filter: Option<Filter>,
    /// How many.
    pub limit: u64,
    /// How many are passed over.
    pub offset: u64,
    /// Whether the newest go first; a file is in no order, since sorting so much would need memory.
    pub is_sorted: bool,
}

impl Records {
    /// The flows themselves.
    #[must_use]
    pub fn list(&self) -> Statement {
        let mut statement = Statement::default();
        let shown: Vec<String> = COLUMNS.iter().map(|(name, shape)| shown(name, *shape)).collect();
        let inner: Vec<String> = COLUMNS.iter().map(|(name, _)| format!("{name} AS c_{name}")).collect();
        statement.push(&format!("SELECT {} FROM (SELECT {} FROM flows", shown.join(", "), inner.join(", ")));
        self.condition(&mut statement);
        if self.is_sorted {
            // Whole rows are read of those alone that are new enough to be on the page.
            statement.push(" AND time >= (SELECT min(time) FROM (SELECT time FROM flows");
            self.condition(&mut statement);
            statement.push(" ORDER BY time DESC LIMIT ").bind("UInt64", Bound::Number(self.limit.saturating_add(self.offset)));
            statement.push(&format!(")) ORDER BY {ORDER}"));
        }
        statement.push(" LIMIT ").bind("UInt64", Bound::Number(self.limit));
        statement.push(" OFFSET ").bind("UInt64", Bound::Number(self.offset)).push(")");
        statement
    }

    /// How many there are in all.
    #[must_use]
    pub fn count(&self) -> Statement {
        let mut statement = Statement::default();
        statement.push("SELECT count() FROM flows");
        self.condition(&mut statement);
        statement
    }

    fn condition(&self, statement: &mut Statement) {
        statement.push(" WHERE time >= toDateTime(").bind("UInt32", Bound::Number(self.span.from));
        statement.push(") AND time < toDateTime(").bind("UInt32", Bound::Number(self.span.to)).push(")");
        if let Some(filter) = &self.filter {
            let length = |name| match name {
                "source_prefix" => "source_prefix_length",
                _ => "destination_prefix_length",
            };
            statement.push(" AND ").filter(filter, &|field| Column { name: field.column(), length: length(field.column()) });
        }
    }
}

fn shown(name: &str, shape: Shape) -> String {
    match shape {
        Shape::Address => format!(
            "if(c_{name} BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255'), substring(toString(c_{name}), 8), toString(c_{name})) AS {name}"
        ),
        _ => format!("c_{name} AS {name}"),
    }
}
