//! `/api/v1/analytics/traffic`: rates over time, as a whole or of the largest groups.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::{ApiError, Fault};
use crate::query::ask::AskError;
use crate::query::dimension::Field;
use crate::query::level::{self, Plan};
use crate::query::names::{self, Names};
use crate::query::question::{Measure, Question, width};
use crate::query::volume::{Volume, rounded};
use crate::query::window;
use crate::server::{Answer, Call};

const TOP: (u64, u64) = (10, 100);

pub(super) async fn get(mut call: Call) -> Result<Answer, ApiError> {
    let words = [("bps", Measure::Octets), ("pps", Measure::Packets), ("fps", Measure::Flows)];
    let measure = super::read_word(&mut call.query, "metric", &words).unwrap_or(Measure::Octets);
    let group_by = super::read_group(&mut call.query);
    let desk = &call.app.desk;
    let filter = super::read_filter(&mut call.query, &desk.config().bounds());
    let top = super::read_count(&mut call.query, "top", TOP.0, TOP.1);
    let step = call.query.take("step", |text| if text == "auto" { Ok(None) } else { window::length(text).map(Some) }).flatten();
    if step.is_some_and(|step| step > window::STEP_SECONDS_MAX) {
        return Err(ApiError::InvalidParameter(vec![Fault::new("step", "at most 366 days")]));
    }
    let points_max = desk.config().points_max;
    let span = super::read_span(&mut call)?;
    if step.is_some_and(|step| span.seconds() / step >= points_max) {
        let message = format!("at most {points_max} points (api.query.points_max): ask for a longer step");
        return Err(ApiError::InvalidParameter(vec![Fault::new("step", message)]));
    }
    let desk = &call.app.desk;
    let question = Question { measure, group_by, filter, top };
    let plan = level::chart(&question.fields(), span, step, &*desk.coverage().await?);
    let values_max = desk.config().chart_values_max;
    let limit = || AskError::Limit { what: "more values of a chart", key: "chart_values_max", value: values_max };
    let answered = desk.ask_for(&question.series(&plan), values_max).await.map_err(|error| match error {
        AskError::Limit { key: "rows_result_max", .. } if values_max < desk.config().rows_result_max => limit(),
        other => other,
    })?;
    let mut chart = Chart::new(&plan, measure, call.now.milliseconds() / 1_000);
    for row in &answered.data {
        chart.take(row, &question.group_by);
        if chart.values() > values_max {
            return Err(limit().into());
        }
    }
    let metric = words.iter().find(|(_, own)| *own == measure).map(|(word, _)| *word);
    let mut answer = json!({
        "from": window::shown(plan.span.from), "to": window::shown(plan.span.to), "step": plan.step, "metric": metric, "group_by": question.group_by,
        "points": chart.points.iter().map(|second| window::shown(*second)).collect::<Vec<_>>(),
        "source": super::source(&plan, &question),
    });
    if let Value::Object(fields) = &mut answer {
        chart.write(fields, &question.group_by, desk.names());
    }
    Ok(Answer::ok(answer))
}

/// Sums by point and group on their way to an answer.
struct Chart {
    measure: Measure,
    step: u64,
    /// The second with which each point begins.
    points: Vec<u64>,
    /// How many seconds each point has had so far.
    seconds: Vec<u64>,
    /// Whether of each point everything is kept.
    are_covered: Vec<bool>,
    /// By the columns of the group as text; of the others together, nothing.
    groups: BTreeMap<Option<String>, Line>,
}

/// One group over time.
struct Line {
    key: Vec<Value>,
    volumes: Vec<Volume>,
}

impl Chart {
    fn new(plan: &Plan, measure: Measure, now: u64) -> Self {
        let step = usize::try_from(plan.step).unwrap_or(usize::MAX);
        let points: Vec<u64> = (plan.span.from..plan.span.to).step_by(step.max(1)).collect();
        // The point that is going on has had only a part of its step.
        let had = |start: &u64| if now > *start { (now - start).min(plan.step) } else { plan.step };
        let seconds = points.iter().map(had).collect();
        let are_covered = points.iter().map(|start| plan.missing.is_none_or(|missing| *start >= missing.to)).collect();
        Self { measure, step: plan.step, points, seconds, are_covered, groups: BTreeMap::new() }
    }

    /// Values that it has by now, a group's of every point.
    fn values(&self) -> u64 {
        u64::try_from(self.groups.len().saturating_mul(self.points.len())).unwrap_or(u64::MAX)
    }

    fn take(&mut self, row: &[Value], group_by: &[Field]) {
        let keys: usize = group_by.iter().map(|field| width(*field)).sum();
        let Some((start, rest)) = row.split_first() else { return };
        let (key, is_top, sums) = if group_by.is_empty() {
            (Vec::new(), true, rest)
        } else {
            let is_top = rest.first().is_some_and(|flag| flag.as_u64() == Some(1) || flag.as_bool() == Some(true));
            let key = rest.get(1..=keys).unwrap_or_default().to_vec();
            (key, is_top, rest.get(keys + 1..).unwrap_or_default())
        };
        let first = self.points.first().copied().unwrap_or(0);
        let behind = start.as_u64().and_then(|point| point.checked_mul(self.step)?.checked_sub(first));
        let index = behind.and_then(|seconds| usize::try_from(seconds / self.step).ok());
        let name = is_top.then(|| Value::Array(key.clone()).to_string());
        let line = self.groups.entry(name).or_insert_with(|| Line { key, volumes: vec![Volume::default(); self.points.len()] });
        if let Some(volume) = index.and_then(|index| line.volumes.get_mut(index)) {
            *volume += Volume::read(sums);
        }
    }

    fn write(mut self, answer: &mut Map<String, Value>, group_by: &[Field], names: &dyn Names) {
        let empty = || Line { key: Vec::new(), volumes: vec![Volume::default(); self.points.len()] };
        let mut total = empty();
        for line in self.groups.values() {
            total.volumes.iter_mut().zip(&line.volumes).for_each(|(sum, part)| *sum += *part);
        }
        let other = self.groups.remove(&None).unwrap_or_else(empty);
        let mut lines: Vec<Line> = std::mem::take(&mut self.groups).into_values().collect();
        lines.sort_by_key(|line| std::cmp::Reverse(self.amount(&sum(&line.volumes))));
        let series: Vec<Value> = lines
            .iter()
            .map(|line| {
                let mut fields = self.shown(line);
                names::write(&mut fields, group_by, &line.key, names);
                Value::Object(fields)
            })
            .collect();
        answer.insert("series".to_owned(), Value::Array(series));
        let other = if group_by.is_empty() { Value::Null } else { Value::Object(self.shown(&other)) };
        answer.insert("other".to_owned(), other);
        answer.insert("total".to_owned(), Value::Object(self.shown(&total)));
    }

    fn shown(&self, line: &Line) -> Map<String, Value> {
        let mut fields = sum(&line.volumes).shown();
        let each = |rate: &dyn Fn(&Volume) -> f64| {
            let points = line.volumes.iter().zip(&self.seconds).zip(&self.are_covered);
            // Of what is kept no more nothing is known, and least of all that it was nothing.
            let shown = |((volume, seconds), is_covered): ((&Volume, &u64), &bool)| {
                if *is_covered { rounded(rate(volume) / real(*seconds)) } else { Value::Null }
            };
            Value::Array(points.map(shown).collect())
        };
        let (values, errors) = match self.measure {
            Measure::Octets => (each(&|volume| real(volume.octets) * 8.0), each(&|volume| volume.octets_error() * 8.0)),
            Measure::Packets => (each(&|volume| real(volume.packets)), each(&|volume| volume.packets_error())),
            // What sampling misses of flows altogether cannot be told from those that it sees.
            Measure::Flows => (each(&|volume| real(volume.flows)), Value::Null),
        };
        fields.insert("values".to_owned(), values);
        fields.insert("errors".to_owned(), errors);
        fields
    }

    fn amount(&self, volume: &Volume) -> u64 {
        match self.measure {
            Measure::Octets => volume.octets,
            Measure::Packets => volume.packets,
            Measure::Flows => volume.flows,
        }
    }
}

fn sum(volumes: &[Volume]) -> Volume {
    volumes.iter().fold(Volume::default(), |mut sum, volume| {
        sum += *volume;
        sum
    })
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
fn real(number: u64) -> f64 {
    number as f64
}
