//! `/api/v1/analytics/summary`: the incidents of a range, how fast they were seen and answered, and the traffic around them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use schemas::incident::{Incident, IncidentStatus};
use schemas::time::Timestamp;

use crate::error::ApiError;
use crate::query::ask::{AskError, Desk};
use crate::query::dimension::Field;
use crate::query::level::{self, Span};
use crate::query::names;
use crate::query::question::{Measure, Question, width};
use crate::query::volume::Volume;
use crate::query::window;
use crate::server::{Answer, Call};
use crate::state::incidents::{self, Filter};
use crate::state::{Listed, Page};

const DAY_MILLISECONDS: u64 = 86_400_000;
/// Incidents that are read for one summary, the newest first.
const INCIDENTS_MAX: u32 = 20_000;
/// Entries of a ranking.
const TOP: usize = 10;

/// The ranges, in days, and over how many seconds their peak is the mean.
const RANGES: &[(&str, (u64, u64))] = &[("7d", (7, 60)), ("30d", (30, 300)), ("90d", (90, 3_600)), ("365d", (365, 3_600))];

pub(super) async fn get(mut call: Call) -> Result<Answer, ApiError> {
    let (days, peak_seconds) = super::read_word(&mut call.query, "range", RANGES).unwrap_or((7, 60));
    call.query.finish()?;
    let workspace = call.caller()?.workspace;
    // A range ends now and begins with a day.
    let today = call.now.milliseconds() - call.now.milliseconds() % DAY_MILLISECONDS;
    let since = Timestamp(today.saturating_sub((days - 1) * DAY_MILLISECONDS));
    let filter = Filter { since: Some(since), ..Filter::default() };
    let page = Page { limit: INCIDENTS_MAX, offset: 0 };
    let found = call.app.state.read(move |connection| incidents::list(connection, workspace, &filter, page)).await;
    let found = found.map_err(ApiError::from)?;
    let mut answer = Map::new();
    let mut put = |name: &str, value: Value| drop(answer.insert(name.to_owned(), value));
    put("range", format!("{days}d").into());
    put("from", json!(since));
    put("to", json!(call.now));
    put("incidents", counted(&found, since, call.now));
    put("time_to_detect_seconds", quantiles(found.entries.iter().map(|incident| incident.detected_at.since(incident.started_at))));
    let mitigated = found.entries.iter().filter_map(|incident| Some(incident.mitigated_at?.since(incident.detected_at)));
    put("time_to_mitigate_seconds", quantiles(mitigated.clone()));
    put("mitigated_share", share(mitigated.count(), found.entries.len()));
    let span = Span { from: since.milliseconds() / 1_000, to: call.now.milliseconds() / 1_000 + 1 };
    let desk = &call.app.desk;
    let mut reasons: Vec<String> = Vec::new();
    let mut known = |answered: Result<Value, AskError>| {
        answered.unwrap_or_else(|error| {
            let reason = error.to_string();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
            Value::Null
        })
    };
    put("traffic", known(traffic(desk, span, peak_seconds).await));
    put("top_sources", known(top(desk, Field::SourcePrefix, span).await));
    put("top_asns", known(top(desk, Field::SourceAs, span).await));
    put("top_countries", known(top(desk, Field::SourceCountry, span).await));
    put("store", json!({ "available": reasons.is_empty(), "reason": (!reasons.is_empty()).then(|| reasons.join("; ")) }));
    Ok(Answer::ok(Value::Object(answer)))
}

fn counted(found: &Listed<Incident>, since: Timestamp, now: Timestamp) -> Value {
    let all = &found.entries;
    let mut days: BTreeMap<String, u64> = BTreeMap::new();
    let mut day = since;
    while day <= now {
        days.insert(day_of(day), 0);
        day = day.plus(DAY_MILLISECONDS);
    }
    for incident in all {
        *days.entry(day_of(incident.started_at)).or_default() += 1;
    }
    let by_day: Vec<Value> = days.into_iter().map(|(day, count)| json!({ "day": day, "count": count })).collect();
    let node = |incident: &Incident| incident.node.as_ref().map(|node| (node.uuid, node.name.clone()));
    let by_node: Vec<Value> = ranked(all.iter().filter_map(node))
        .into_iter()
        .map(|((uuid, name), count)| json!({ "uuid": uuid, "name": name, "count": count }))
        .collect();
    let named = |word: &str, counts: Vec<(String, u64)>| -> Vec<Value> {
        counts.into_iter().map(|(value, count)| json!({ word: value, "count": count })).collect()
    };
    json!({
        "total": found.total, "counted": all.len(),
        "active": all.iter().filter(|incident| incident.status == IncidentStatus::Active).count(),
        "by_day": by_day,
        "by_family": named("family", ranked(all.iter().map(|incident| incident.family.name().to_owned()))),
        "by_severity": named("severity", ranked(all.iter().map(|incident| incident.severity.name().to_owned()))),
        "by_target": named("target", ranked(all.iter().map(|incident| incident.target.to_string()))),
        "by_node": by_node,
    })
}

/// How often each occurs, the most frequent first.
fn ranked<T: Ord>(values: impl Iterator<Item = T>) -> Vec<(T, u64)> {
    let mut counts: BTreeMap<T, u64> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut ranked: Vec<(T, u64)> = counts.into_iter().collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    ranked.truncate(TOP);
    ranked
}

fn day_of(moment: Timestamp) -> String {
    moment.to_string().chars().take(10).collect()
}

/// Half of them took at most so long, and 95 of 100.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of a year need 35 bits")]
fn quantiles(milliseconds: impl Iterator<Item = u64>) -> Value {
    let mut sorted: Vec<u64> = milliseconds.collect();
    sorted.sort_unstable();
    // The nearest rank: the smallest value that so many are not above.
    let at =
        |hundredths: usize| sorted.get((sorted.len() * hundredths).div_ceil(100).saturating_sub(1)).map(|value| *value as f64 / 1_000.0);
    match (at(50), at(95)) {
        (Some(p50), Some(p95)) => json!({ "p50": p50, "p95": p95 }),
        _ => Value::Null,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of 20 000")]
fn share(part: usize, whole: usize) -> Value {
    if whole == 0 { Value::Null } else { Value::from((part as f64 / whole as f64 * 1e4).round() / 1e4) }
}

/// The total of a range, and the point at which most came.
async fn traffic(desk: &Desk, span: Span, peak_seconds: u64) -> Result<Value, AskError> {
    let question = Question { measure: Measure::Octets, group_by: Vec::new(), filter: None, top: 0 };
    let plan = level::chart(&[], span, Some(peak_seconds), &*desk.coverage().await?);
    let (mut total, mut peak, mut peak_at, mut most_packets) = (Volume::default(), Volume::default(), None, 0);
    for row in desk.ask(&question.series(&plan)).await?.data {
        let volume = Volume::read(row.get(1..).unwrap_or_default());
        total += volume;
        most_packets = most_packets.max(volume.packets);
        if volume.octets > peak.octets {
            peak_at = row.first().and_then(Value::as_u64).map(|point| window::shown(point.saturating_mul(plan.step)));
            peak = volume;
        }
    }
    let seconds = plan.step.max(1);
    let mut fields = total.shown();
    fields.insert("peak_bps".to_owned(), (peak.octets.saturating_mul(8) / seconds).into());
    fields.insert("peak_pps".to_owned(), (most_packets / seconds).into());
    fields.insert("peak_at".to_owned(), json!(peak_at));
    fields.insert("peak_seconds".to_owned(), seconds.into());
    fields.insert("source".to_owned(), super::source(&plan, &question));
    Ok(Value::Object(fields))
}

async fn top(desk: &Desk, field: Field, span: Span) -> Result<Value, AskError> {
    let top = u64::try_from(TOP).unwrap_or(u64::MAX);
    let question = Question { measure: Measure::Octets, group_by: vec![field], filter: None, top };
    let plan = level::ranking(&question.fields(), span, &*desk.coverage().await?);
    let rows = desk.ask(&question.ranking(&plan)).await?.data;
    let shown = rows.iter().map(|row| {
        let mut fields = Map::new();
        names::write(&mut fields, &question.group_by, row, desk.names());
        Volume::read(row.get(width(field)..).unwrap_or_default()).write(&mut fields);
        Value::Object(fields)
    });
    Ok(Value::Array(shown.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 1 to 20 s the tenth and the nineteenth.
    #[test]
    fn quantiles_are_by_the_nearest_rank() {
        assert_eq!(quantiles((1..=20).map(|second| second * 1_000)), json!({ "p50": 10.0, "p95": 19.0 }));
        assert_eq!(quantiles(std::iter::once(500)), json!({ "p50": 0.5, "p95": 0.5 }));
        assert_eq!(quantiles(std::iter::empty()), Value::Null);
    }
}
