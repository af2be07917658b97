//! `/api/v1/analytics`: what was stored, as charts, rankings and single flows, and what became of attacks.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::auth::{Access, Role};
use crate::error::{ApiError, Fault};
use crate::input::Query;
use crate::query::Bounds;
use crate::query::dimension::{Field, nearest};
use crate::query::filter::Filter;
use crate::query::level::{Plan, Span};
use crate::query::parser;
use crate::query::question::Question;
use crate::query::window;
use crate::server::{Call, Route};

mod flows;
mod summary;
mod top;
mod traffic;

/// Fields that traffic is grouped by at once.
const GROUP_FIELDS_MAX: usize = 6;

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/analytics/traffic",
        access: Access::Least(Role::Readonly),
        parameters: &["from", "to", "step", "metric", "group_by", "filter", "top"],
        handler: |call| Box::pin(traffic::get(call)),
    },
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/analytics/top",
        access: Access::Least(Role::Readonly),
        parameters: &["from", "to", "metric", "group_by", "filter", "limit"],
        handler: |call| Box::pin(top::get(call)),
    },
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/analytics/flows",
        access: Access::Least(Role::Readonly),
        parameters: &["from", "to", "filter", "format", "limit", "offset"],
        handler: |call| Box::pin(flows::get(call)),
    },
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/analytics/summary",
        access: Access::Least(Role::Readonly),
        parameters: &["range"],
        handler: |call| Box::pin(summary::get(call)),
    },
];

/// `from` and `to`, whose faults and those of all other parameters end the reading.
fn read_span(call: &mut Call) -> Result<Span, ApiError> {
    let now = call.now;
    let (from, to) = (call.query.take("from", window::moment(now)), call.query.take("to", window::moment(now)));
    call.query.finish()?;
    window::span(from, to, now).map_err(|(field, message)| ApiError::InvalidParameter(vec![Fault::new(field, message)]))
}

fn read_filter(query: &mut Query, bounds: &Bounds) -> Option<Filter> {
    query.take("filter", |text| parser::parse(text, bounds).map_err(|error| format!("{error}\n{}", error.picture))).flatten()
}

fn read_group(query: &mut Query) -> Vec<Field> {
    let words = || Field::ALL.iter().filter(|field| field.groups()).map(|field| field.word());
    let read = |text: &str| {
        let mut fields: Vec<Field> = Vec::new();
        for word in text.split(',').map(str::trim) {
            let field = Field::of(word).filter(|field| field.groups()).ok_or_else(|| {
                let meant = nearest(word, words()).map(|word| format!(", did you mean {word}?")).unwrap_or_default();
                let short: String = word.chars().take(40).filter(|character| !character.is_control()).collect();
                format!("there is no {short}{meant}; the words are {}", words().collect::<Vec<_>>().join(", "))
            })?;
            if fields.contains(&field) {
                return Err(format!("{word} stands there twice"));
            }
            fields.push(field);
        }
        if fields.len() > GROUP_FIELDS_MAX { Err(format!("at most {GROUP_FIELDS_MAX} words")) } else { Ok(fields) }
    };
    query.take("group_by", read).unwrap_or_default()
}

/// One of `words`, or the first of them.
fn read_word<T: Copy>(query: &mut Query, name: &str, words: &[(&str, T)]) -> Option<T> {
    let read = |text: &str| {
        let known = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        known.ok_or_else(|| format!("must be one of {}", words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")))
    };
    query.take(name, read).or_else(|| words.first().map(|(_, value)| *value))
}

fn read_count(query: &mut Query, name: &str, default: u64, max: u64) -> u64 {
    let read = |text: &str| {
        text.parse().ok().filter(|count| (1..=max).contains(count)).ok_or_else(|| format!("must be a whole number from 1 to {max}"))
    };
    query.take(name, read).unwrap_or(default)
}

/// Where an answer was read, and what of the range it covers.
fn source(plan: &Plan, question: &Question) -> Value {
    let range = |span: Span| json!({ "from": window::shown(span.from), "to": window::shown(span.to) });
    let parts: Vec<Value> = plan
        .parts
        .iter()
        .map(|part| json!({ "table": part.table.name(), "level": part.table.level(), "from": window::shown(part.span.from), "to": window::shown(part.span.to) }))
        .collect();
    // The table that most of the range is read from stands for all.
    let main = plan.parts.iter().max_by_key(|part| part.span.seconds());
    let covers = Span { from: plan.missing.map_or(plan.span.from, |missing| missing.to), to: plan.span.to };
    json!({
        "table": main.map(|part| part.table.name()), "level": main.map(|part| part.table.level()), "reason": plan.reason,
        "covers": (covers.from < covers.to).then(|| range(covers)), "missing": plan.missing.map(range), "parts": parts,
        "repeats": question.view().word(),
    })
}
