//! Bills as JSON and as CSV.

use std::fmt::Display;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use schemas::time::Timestamp;

use super::ask::{Bills, Question};
use super::{Bill, Charge, Missing, Observed, SLOT_SECONDS, Subject};

/// What an interface is called, if that is known.
pub type Name<'a> = &'a dyn Fn(&Subject) -> Option<String>;

fn zone_name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("UTC")
}

/// The month, its slots and gaps, and the bills of the page.
#[must_use]
pub fn json(bills: &Bills, question: &Question, name: Name<'_>) -> Value {
    let period = &bills.period;
    let missing: u64 = bills.gaps.iter().map(|gap| gap.to.since(gap.from) / (SLOT_SECONDS * 1_000)).sum();
    let shown: Vec<Value> = bills.bills.iter().map(|bill| one(bill, name)).collect();
    json!({
        "month": question.month.to_string(),
        "timezone": zone_name(&question.zone),
        "by": question.by.name(),
        "percentile": question.percentile.percent(),
        "from": period.from,
        "to": period.to,
        "until": period.until(),
        "is_complete": period.slots_elapsed() == period.slots(),
        "slots": {
            "seconds": SLOT_SECONDS,
            "month": period.slots(),
            "elapsed": period.slots_elapsed(),
            "missing": missing,
            "missing_counts_as": if question.missing == Missing::Zero { "zero" } else { "nothing" },
        },
        "gaps": bills.gaps,
        "months": { "first": bills.months.0.to_string(), "last": bills.months.1.to_string() },
        "bills": shown,
        "total": bills.total,
        "limit": question.limit,
        "offset": question.offset,
    })
}

fn one(bill: &Bill, name: Name<'_>) -> Value {
    let (customer, exporter, interface) = match &bill.subject {
        Subject::Customer(customer) => (Some(customer), None, None),
        Subject::Interface(exporter, interface) => (None, Some(exporter), Some(interface)),
    };
    let charge = |(charge, observed): &(Charge, Observed)| {
        let mut shown = json!(charge);
        if let (Value::Object(fields), Subject::Interface(..)) = (&mut shown, &bill.subject) {
            fields.insert("observed_at".to_owned(), json!(observed));
        }
        shown
    };
    let mut shown = json!({
        "rate_bps": bill.rate_bps,
        "in": charge(&bill.into),
        "out": charge(&bill.out),
        "slots": bill.slots,
        "slots_missing": bill.slots_missing,
        "is_understated": bill.into.0.unknown_flows + bill.out.0.unknown_flows > 0,
    });
    if let Value::Object(fields) = &mut shown {
        if let Some(customer) = customer {
            fields.insert("customer".to_owned(), json!(customer));
        } else {
            fields.insert("exporter".to_owned(), json!(exporter));
            fields.insert("interface".to_owned(), json!(interface));
            fields.insert("interface_name".to_owned(), json!(name(&bill.subject)));
        }
    }
    shown
}

/// Columns in front of those of the charges.
const WHAT: [&str; 4] = ["month", "timezone", "percentile", "until"];
const WHO: [&str; 4] = ["customer", "exporter", "interface", "interface_name"];
/// Columns of a charge, for each direction.
const CHARGE: [&str; 9] =
    ["rate_bps", "rate_error_bps", "rate_at", "peak_bps", "peak_at", "mean_bps", "octets", "octets_error", "unknown_flows"];

/// A line a bill behind a line of names, by RFC 4180; every line says what it is of, so that files can be joined.
///
/// # Errors
///
/// None that can happen: it is written to memory.
pub fn csv(bills: &Bills, question: &Question, name: Name<'_>) -> csv::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let directed = |direction: &'static str| CHARGE.iter().map(move |column| format!("{direction}_{column}"));
    let names = WHAT.iter().chain(&WHO).chain(&["rate_bps"]).map(|column| (*column).to_owned());
    let tail = ["in_observed_at", "out_observed_at", "slots", "slots_missing"].map(str::to_owned);
    writer.write_record(names.chain(directed("in")).chain(directed("out")).chain(tail))?;
    let until = bills.period.until().to_string();
    let percent = question.percentile.percent().to_string();
    for bill in &bills.bills {
        let mut fields = vec![question.month.to_string(), cell(zone_name(&question.zone)), percent.clone(), until.clone()];
        fields.extend(match &bill.subject {
            Subject::Customer(customer) => [cell(customer), String::new(), String::new(), String::new()],
            Subject::Interface(exporter, interface) => {
                let name = name(&bill.subject).unwrap_or_default();
                [String::new(), exporter.to_string(), interface.to_string(), cell(&name)]
            }
        });
        fields.push(bill.rate_bps.to_string());
        fields.extend(charge(&bill.into.0));
        fields.extend(charge(&bill.out.0));
        let observed = |observed| if matches!(bill.subject, Subject::Interface(..)) { word(observed) } else { "" };
        fields.extend([observed(bill.into.1), observed(bill.out.1)].map(str::to_owned));
        fields.extend([bill.slots, bill.slots_missing].map(|count| count.to_string()));
        writer.write_record(fields)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

fn charge(charge: &Charge) -> [String; 9] {
    let moment = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string()).unwrap_or_default();
    let number = |number: &dyn Display| number.to_string();
    [
        number(&charge.rate_bps),
        number(&charge.rate_error_bps),
        moment(charge.rate_at),
        number(&charge.peak_bps),
        moment(charge.peak_at),
        number(&charge.mean_bps),
        number(&charge.octets),
        number(&charge.octets_error),
        number(&charge.unknown_flows),
    ]
}

fn word(observed: Observed) -> &'static str {
    match observed {
        Observed::Ingress => "ingress",
        Observed::Egress => "egress",
        Observed::Both => "both",
    }
}

/// A text that no spreadsheet takes for a formula: what looks like one gets an apostrophe in front, which spreadsheets do not show.
fn cell(text: &str) -> String {
    let looks_like_a_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    if looks_like_a_formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_a_formula_stays_a_name() {
        assert_eq!(cell("=HYPERLINK(\"http://192.0.2.1\")"), "'=HYPERLINK(\"http://192.0.2.1\")");
        for name in ["+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(cell(name), format!("'{name}"));
        }
        for name in ["Example, Inc.", "a=b", "", "'quoted'"] {
            assert_eq!(cell(name), name);
        }
    }
}
