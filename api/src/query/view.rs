//! How often a packet counts that several interfaces report: once in the network, or once for the interface that is asked about.
//!
//! A router may tell of a packet where it comes in, where it goes out, or at both. Who asks about the network has the repeats left out, which
//! the collector has marked. Who asks about interfaces of an exporter, by filter or by group, sees every packet that crosses them once: what
//! comes in by an interface is taken from the records observed there, and where the interface reports nothing of that, from those observed
//! where the packets leave; what goes out likewise. Which of the two holds is chosen for each interface and each hour, in long ranges each
//! day, so that neither a stray record nor a change of a router's configuration spoils more.

use super::compile::{Bound, Statement};
use super::dimension::Field;
use super::filter::{Filter, Set};
use super::level::{Plan, Span};

/// An interface reports a direction itself if its own records have at least one in so many of the octets that those of others tell.
///
/// One stray record is less; what a router has left of an attack behind its filters is more.
pub const OWN_SHARE: u32 = 100;

const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;
/// Ranges of more than this are chosen for by the day: there are as many choices as interfaces and hours.
const HOURLY_SECONDS_MAX: u64 = 8 * DAY;

/// What a packet counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Once in the network.
    Network,
    /// Once for the interface that it comes in by.
    In,
    /// Once for the interface that it goes out by.
    Out,
    /// Once for these interfaces, by which it comes in or goes out.
    Either(Set),
    /// As often as it is told: who asks at which side of an interface it was observed wants to see all sides.
    Sightings,
}

impl View {
    /// What a question asks about: interfaces if it names the exporter and interfaces of it.
    #[must_use]
    pub fn of(group_by: &[Field], filter: Option<&Filter>) -> Self {
        let mut parts = Vec::new();
        if let Some(filter) = filter {
            filter.parts(&mut parts);
        }
        let is_of_one = |part: &&Filter| matches!(part, Filter::Test(Field::Exporter, Set::Addresses(ranges)) if is_one(ranges));
        if !group_by.contains(&Field::Exporter) && !parts.iter().any(is_of_one) {
            return Self::Network;
        }
        let view = Self::of_interfaces(group_by, &parts);
        let tells_sides =
            group_by.contains(&Field::Direction) || parts.iter().any(|part| matches!(part, Filter::Test(Field::Direction, _)));
        if tells_sides && view != Self::Network { Self::Sightings } else { view }
    }

    fn of_interfaces(group_by: &[Field], parts: &[&Filter]) -> Self {
        let tests = |wanted: Field| parts.iter().any(|part| matches!(part, Filter::Test(field, _) if *field == wanted));
        if tests(Field::IngressInterface) {
            Self::In
        } else if tests(Field::EgressInterface) {
            Self::Out
        } else if let Some(set) = parts.iter().find_map(|part| either(part)) {
            Self::Either(set.clone())
        } else if group_by.contains(&Field::IngressInterface) {
            Self::In
        } else if group_by.contains(&Field::EgressInterface) {
            Self::Out
        } else {
            Self::Network
        }
    }

    /// The word of answers.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Network => "left_out",
            Self::Sightings => "counted",
            _ => "by_interface",
        }
    }

    /// Writes the condition, behind others, by which the rows of a table are left out whose packets other rows tell of.
    pub fn condition(&self, statement: &mut Statement, plan: &Plan, filter: Option<&Filter>, column: &dyn Fn(Field) -> &'static str) {
        match self {
            Self::Network => {
                statement.push(" AND NOT is_repeat");
            }
            Self::Sightings => {}
            Self::In => chosen(statement.push(" AND "), Field::IngressInterface, plan.span, filter, column),
            Self::Out => chosen(statement.push(" AND "), Field::EgressInterface, plan.span, filter, column),
            Self::Either(set) => {
                let is_in = Filter::Test(Field::IngressInterface, set.clone());
                statement.push(" AND if(").filter(&is_in, &|field| super::compile::Column { name: column(field), length: "" });
                chosen(statement.push(", "), Field::IngressInterface, plan.span, filter, column);
                chosen(statement.push(", "), Field::EgressInterface, plan.span, filter, column);
                statement.push(")");
            }
        }
    }
}

fn is_one<T: PartialEq>(ranges: &[(T, T)]) -> bool {
    matches!(ranges, [(first, last)] if first == last)
}

/// `interface = 3`, which stands for `in_if = 3 or out_if = 3`.
fn either(part: &Filter) -> Option<&Set> {
    let Filter::Any(parts) = part else { return None };
    match parts.as_slice() {
        [Filter::Test(Field::IngressInterface, one), Filter::Test(Field::EgressInterface, other)] if one == other => Some(one),
        _ => None,
    }
}

/// Writes that a row is observed where its interface's traffic is taken from.
///
/// Sums by the hour tell of every range, however old; of an interface that is reported at one place only there is nothing to choose.
fn chosen(statement: &mut Statement, interface: Field, span: Span, filter: Option<&Filter>, column: &dyn Fn(Field) -> &'static str) {
    let seconds = if span.seconds() <= HOURLY_SECONDS_MAX { HOUR } else { DAY };
    let (stored, own) = (interface.column(), column(interface));
    statement.push(&format!("(exporter, {own}, toUInt8(flow_direction = 1), intDiv(toUInt32(time), {seconds})) GLOBAL NOT IN (SELECT "));
    // The side that is not taken: of what comes in egress, of what goes out ingress, unless there is all but nothing of the right one.
    let left_out = match interface {
        Field::EgressInterface => format!("at_egress * {OWN_SHARE} < at_ingress"),
        _ => format!("at_ingress * {OWN_SHARE} >= at_egress"),
    };
    statement.push(&format!(
        "exporter, {stored}, toUInt8({left_out}), span FROM (SELECT exporter, {stored}, intDiv(toUInt32(time), {seconds}) AS span, \
         sumIf(octets, flow_direction != 1) AS at_ingress, sumIf(octets, flow_direction = 1) AS at_egress FROM traffic_1h WHERE time >= toDateTime("
    ));
    statement.bind("UInt32", Bound::Number(span.from - span.from % seconds)).push(") AND time < toDateTime(");
    statement.bind("UInt32", Bound::Number(span.to.next_multiple_of(seconds))).push(")");
    let mut parts = Vec::new();
    if let Some(filter) = filter {
        filter.parts(&mut parts);
    }
    for part in parts.iter().filter(|part| matches!(part, Filter::Test(field, _) if *field == Field::Exporter || *field == interface)) {
        statement.push(" AND ").filter(part, &|field| super::compile::Column { name: field.column(), length: "" });
    }
    statement.push(&format!(" GROUP BY exporter, {stored}, span HAVING at_ingress > 0 AND at_egress > 0))"));
}

#[cfg(test)]
mod tests {
    use super::super::{Bounds, parser::parse};
    use super::*;

    #[test]
    fn who_names_an_exporter_and_its_interfaces_asks_about_these_and_everybody_else_about_the_network() {
        use Field::{EgressInterface, Exporter, IngressInterface, Protocol};
        let view = |group_by: &[Field], text: &str| View::of(group_by, parse(text, &Bounds::default()).unwrap().as_ref());
        let three = Set::Numbers(vec![(3, 3)]);
        for (group_by, text, expected) in [
            (&[][..], "exporter = 192.0.2.1 and in_if = 3", View::In),
            (&[], "in_if in (3, 4) and (protocol = udp and exporter = 192.0.2.1)", View::In),
            (&[], "exporter = 192.0.2.1 and out_if = 3", View::Out),
            (&[], "exporter = 192.0.2.1 and out_if = 3 and in_if = 4", View::In),
            (&[IngressInterface], "exporter = 192.0.2.1 and out_if = 3", View::Out),
            (&[], "exporter = 192.0.2.1 and interface = 3", View::Either(three)),
            (&[Exporter, IngressInterface], "", View::In),
            (&[Exporter, EgressInterface], "protocol = udp", View::Out),
            (&[EgressInterface], "exporter = 192.0.2.1", View::Out),
            (&[], "exporter = 192.0.2.1 and in_if = 3 and direction = egress", View::Sightings),
            (&[Exporter, EgressInterface, Field::Direction], "", View::Sightings),
            (&[Exporter, Field::Direction], "", View::Network),
            // Interface 3 of any exporter is not one.
            (&[], "in_if = 3", View::Network),
            (&[IngressInterface, Protocol], "", View::Network),
            (&[], "exporter = 192.0.2.1", View::Network),
            (&[], "exporter in (192.0.2.1, 192.0.2.2) and in_if = 3", View::Network),
            (&[], "exporter = 192.0.2.1 or in_if = 3", View::Network),
            (&[], "not (exporter = 192.0.2.1 and in_if = 3)", View::Network),
        ] {
            assert_eq!(view(group_by, text), expected, "{group_by:?} {text}");
        }
    }
}
