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
    /// A text that somebody else has written: a name.
    Text,
    /// One of few words, as text in every format.
    Word,
    /// `02:00:5e:10:00:01`; nothing of none.
    Mac,
    /// The label of an entry of an MPLS stack, RFC 3032 section 2.1.
    Label,
    /// BGP communities as `64500:100`, RFC 1997.
    Communities,
}

/// The columns of an answer, which are those of the table.
pub const COLUMNS: &[(&str, Shape)] = &[
    ("time", Shape::Second),
    ("received_at", Shape::Millisecond),
    ("flow_start_milliseconds", Shape::Millisecond),
    ("flow_end_milliseconds", Shape::Millisecond),
    ("exporter", Shape::Address),
    ("observation_domain_id", Shape::Plain),
    ("version", Shape::Word),
    ("sampling_interval", Shape::Plain),
    ("sampling_source", Shape::Word),
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
    ("ingress_interface_name", Shape::Text),
    ("egress_interface_name", Shape::Text),
    ("ingress_boundary", Shape::Word),
    ("egress_boundary", Shape::Word),
    ("flow_direction", Shape::Plain),
    ("is_repeat", Shape::Plain),
    ("source_as", Shape::Plain),
    ("destination_as", Shape::Plain),
    ("source_country", Shape::Text),
    ("destination_country", Shape::Text),
    ("source_city", Shape::Text),
    ("destination_city", Shape::Text),
    ("source_customer", Shape::Text),
    ("destination_customer", Shape::Text),
    ("source_site", Shape::Text),
    ("destination_site", Shape::Text),
    ("source_prefix", Shape::Address),
    ("source_prefix_length", Shape::Plain),
    ("destination_prefix", Shape::Address),
    ("destination_prefix_length", Shape::Plain),
    ("application", Shape::Text),
    ("fragment", Shape::Plain),
    ("icmp_type_code", Shape::Plain),
    ("ip_class_of_service", Shape::Plain),
    ("ip_ttl", Shape::Plain),
    ("vlan_id", Shape::Plain),
    ("next_hop", Shape::Address),
    ("forwarding_status", Shape::Plain),
    ("template_id", Shape::Plain),
    ("communities", Shape::Communities),
    ("bgp_next_hop", Shape::Address),
    ("post_vlan_id", Shape::Plain),
    ("source_mac_address", Shape::Mac),
    ("destination_mac_address", Shape::Mac),
    ("mpls_top_label", Shape::Label),
    ("mpls_label_2", Shape::Label),
    ("mpls_label_3", Shape::Label),
    ("ingress_vrf_id", Shape::Plain),
    ("egress_vrf_id", Shape::Plain),
    ("nat_event", Shape::Plain),
    ("firewall_event", Shape::Plain),
    ("post_nat_source_address", Shape::Address),
    ("post_nat_destination_address", Shape::Address),
    ("post_napt_source_port", Shape::Plain),
    ("post_napt_destination_port", Shape::Plain),
    ("flow_label", Shape::Plain),
    ("flow_end_reason", Shape::Plain),
];

/// What a spreadsheet takes for the beginning of a formula.
const FORMULAS: &str = "'=', '+', '-', '@', '\\t', '\\r', '\\n', '＝', '＋', '－', '＠'";

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
    /// Whether it is for spreadsheets: names that they would take for formulas get an apostrophe in front, and lists are one text.
    pub is_for_spreadsheets: bool,
}

impl Records {
    /// The flows themselves.
    #[must_use]
    pub fn list(&self) -> Statement {
        let mut statement = Statement::default();
        let shown: Vec<String> = COLUMNS.iter().map(|(name, shape)| self.shown(name, *shape)).collect();
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

    fn shown(&self, name: &str, shape: Shape) -> String {
        match shape {
            Shape::Address => format!(
                "if(c_{name} BETWEEN toIPv6('::ffff:0.0.0.0') AND toIPv6('::ffff:255.255.255.255'), substring(toString(c_{name}), 8), toString(c_{name})) AS {name}"
            ),
            Shape::Text if self.is_for_spreadsheets => {
                let text = format!("toString(c_{name})");
                format!("if(substringUTF8({text}, 1, 1) IN ({FORMULAS}), concat('\\'', {text}), {text}) AS {name}")
            }
            Shape::Word => format!("toString(c_{name}) AS {name}"),
            Shape::Mac => format!("if(c_{name} = 0, '', lower(MACNumToString(c_{name}))) AS {name}"),
            Shape::Label => format!("bitShiftRight(c_{name}, 4) AS {name}"),
            Shape::Communities => {
                let each = format!("arrayMap(one -> concat(toString(intDiv(one, 65536)), ':', toString(one % 65536)), c_{name})");
                if self.is_for_spreadsheets { format!("arrayStringConcat({each}, ' ') AS {name}") } else { format!("{each} AS {name}") }
            }
            _ => format!("c_{name} AS {name}"),
        }
    }
}
