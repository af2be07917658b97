//! `/api/v1/analytics/flows`: single flows of a range, paged as JSON, or as a CSV or Parquet file of the engine's own making.

use axum::body::Body;
use serde_json::{Map, Value, json};

use schemas::time::Timestamp;

use crate::error::ApiError;
use crate::query::level::{self, Span};
use crate::query::question::{Measure, Question};
use crate::query::records::{COLUMNS, Records, Shape};
use crate::query::window;
use crate::server::{Answer, Call};

const LIMIT: (u32, u32) = (100, 1_000);

/// A format of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Parquet,
}

pub(super) async fn get(mut call: Call) -> Result<Answer, ApiError> {
    let words = [("json", Format::Json), ("csv", Format::Csv), ("parquet", Format::Parquet)];
    let asked = call.query.take("format", |text| {
        words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, format)| *format)
            .ok_or_else(|| "must be one of json, csv, parquet".to_owned())
    });
    let format = asked.unwrap_or_else(|| accepted(&call.accept));
    let filter = super::read_filter(&mut call.query, &call.app.desk.config().bounds());
    let rows_max = call.app.desk.config().export_rows_max;
    let page = match format {
        Format::Json => call.query.page(LIMIT.0, LIMIT.1),
        _ => {
            let most = u32::try_from(rows_max).unwrap_or(u32::MAX);
            call.query.page(most, most)
        }
    };
    let span = super::read_span(&mut call)?;
    let (limit, offset) = (page.limit.into(), page.offset.into());
    let records = Records { span, filter, limit, offset, is_sorted: format == Format::Json, is_for_spreadsheets: format == Format::Csv };
    let desk = &call.app.desk;
    let (engine_format, media_type, ending) = match format {
        Format::Csv => ("CSVWithNames", "text/csv; charset=utf-8; header=present", "csv"),
        Format::Parquet => ("Parquet", "application/vnd.apache.parquet", "parquet"),
        Format::Json => return list(&call, &records).await,
    };
    let stream = desk.export(&records.list(), engine_format, rows_max).await?;
    let name = format!("flows-{}-{}.{ending}", compact(span.from), compact(span.to));
    Ok(Answer::Stream(media_type, name, Body::from_stream(stream)))
}

async fn list(call: &Call, records: &Records) -> Result<Answer, ApiError> {
    let desk = &call.app.desk;
    let counted = desk.ask(&records.count()).await?;
    let total = counted.data.first().and_then(|row| row.first()).and_then(Value::as_u64).unwrap_or(0);
    let rows = if records.offset < total { desk.ask(&records.list()).await?.data } else { Vec::new() };
    let flows: Vec<Value> = rows.into_iter().map(|row| Value::Object(flow(row))).collect();
    // Only single flows are single flows: what they no longer cover is missing.
    let question =
        Question { measure: Measure::Flows, group_by: vec![crate::query::dimension::Field::SourceAddress], filter: None, top: 0 };
    let plan = level::ranking(&question.fields(), records.span, &*desk.coverage().await?);
    let range = |span: Span| json!({ "from": window::shown(span.from), "to": window::shown(span.to) });
    Ok(Answer::ok(json!({
        "from": window::shown(records.span.from), "to": window::shown(records.span.to), "flows": flows, "total": total,
        "limit": records.limit, "offset": records.offset, "missing": plan.missing.map(range),
    })))
}

fn flow(row: Vec<Value>) -> Map<String, Value> {
    let shown = |shape: Shape, value: Value| match shape {
        Shape::Second | Shape::Millisecond => {
            value.as_str().and_then(|text| text.parse::<Timestamp>().ok()).map_or(Value::Null, |moment| json!(moment))
        }
        _ => value,
    };
    COLUMNS.iter().zip(row).map(|((name, shape), value)| ((*name).to_owned(), shown(*shape, value))).collect()
}

/// The first media type of `Accept` that can be had; JSON otherwise.
fn accepted(accept: &str) -> Format {
    let known = |part: &str| match part.split(';').next().unwrap_or("").trim() {
        "text/csv" => Some(Format::Csv),
        "application/vnd.apache.parquet" | "application/parquet" => Some(Format::Parquet),
        "application/json" | "*/*" => Some(Format::Json),
        _ => None,
    };
    accept.split(',').find_map(known).unwrap_or(Format::Json)
}

/// A second without signs that file systems do not like.
fn compact(seconds: u64) -> String {
    window::shown(seconds).to_string().replace([':', '-'], "").replace(".000", "")
}
