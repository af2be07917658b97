//! `/api/v1/analytics/top`: groups by what they sent in a range, the largest first.

use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::query::dimension::Field;
use crate::query::level;
use crate::query::names;
use crate::query::question::{Measure, Question};
use crate::query::ranking;
use crate::query::volume::Volume;
use crate::query::window;
use crate::server::{Answer, Call};

const LIMIT: (u64, u64) = (10, 1_000);

pub(super) async fn get(mut call: Call) -> Result<Answer, ApiError> {
    let words = [("octets", Measure::Octets), ("packets", Measure::Packets), ("flows", Measure::Flows)];
    let measure = super::read_word(&mut call.query, "metric", &words).unwrap_or(Measure::Octets);
    let mut group_by = super::read_group(&mut call.query);
    if group_by.is_empty() {
        group_by.push(Field::SourceAs);
    }
    let filter = super::read_filter(&mut call.query, &call.app.desk.config().bounds());
    let top = super::read_count(&mut call.query, "limit", LIMIT.0, LIMIT.1);
    let span = super::read_span(&mut call)?;
    let question = Question { measure, group_by, filter, top };
    let desk = &call.app.desk;
    let plan = level::ranking(&question.fields(), span, &*desk.coverage().await?);
    let ranked = ranking::ranked(desk, &question, &plan).await?;
    let (answered, keys) = (&ranked.answered, question.keys());
    let sums = |row: &[Value]| Volume::read(row.get(keys..).unwrap_or_default());
    let total = sums(&answered.totals);
    let mut other = total;
    let rows: Vec<Value> = answered
        .data
        .iter()
        .map(|row| {
            let (mut fields, volume) = (Map::new(), sums(row));
            names::write(&mut fields, &question.group_by, row, desk.names());
            volume.write(&mut fields);
            other -= volume;
            Value::Object(fields)
        })
        .collect();
    Ok(Answer::ok(json!({
        "from": window::shown(plan.span.from), "to": window::shown(plan.span.to), "metric": measure.word(), "group_by": question.group_by,
        "groups": ranked.groups, "are_groups_estimated": ranked.are_groups_estimated, "missed_max": ranked.missed_max, "rows": rows, "other": other.shown(), "total": total.shown(),
        "source": super::source(&plan, &question),
    })))
}
