//! `/api/v1/analytics/billing`: the 95th percentile of a month by customer or by interface, as JSON and CSV.

use std::time::Duration;

use axum::routing::MethodFilter;

use crate::auth::{Access, Role};
use crate::billing::ask::{self, BillingError, Question};
use crate::billing::period::{self, Month};
use crate::billing::{By, Missing, Percentile, Subject, show};
use crate::error::{ApiError, Fault};
use crate::query::ask::AskError;
use crate::server::{Answer, Call, Route};

pub(super) const ROUTES: &[Route] = &[Route {
    method: MethodFilter::GET,
    path: "/api/v1/analytics/billing",
    access: Access::Least(Role::Readonly),
    parameters: &["month", "timezone", "by", "percentile", "missing", "format", "limit", "offset"],
    handler: |call| Box::pin(get(call)),
}];

/// Bills of a page: a bill run is one call for most, and bounded for all.
const LIMIT: (u32, u32) = (1_000, 10_000);

async fn get(mut call: Call) -> Result<Answer, ApiError> {
    let query = &mut call.query;
    let zone = query.take("timezone", period::zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let month = query.take("month", str::parse).unwrap_or_else(|| Month::of(call.now, &zone));
    let by = query.take("by", |text| one_of(text, &[("customer", By::Customer), ("interface", By::Interface)])).unwrap_or(By::Customer);
    let percentile = query.take("percentile", str::parse).unwrap_or(Percentile::USUAL);
    let missing = query.take("missing", |text| one_of(text, &[("zero", Missing::Zero), ("skip", Missing::Skip)])).unwrap_or(Missing::Zero);
    let is_csv = query.take("format", |text| one_of(text, &[("json", false), ("csv", true)])).unwrap_or(false);
    let page = query.page(LIMIT.0, LIMIT.1);
    query.finish()?;
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let question = Question { month, zone, by, percentile, missing, offset: count(page.offset), limit: count(page.limit) };
    let desk = &call.app.desk;
    let (client, _place) = desk.admit().await?;
    let seconds_max = desk.config().billing_seconds_max;
    let asked = ask::bills(&client, &question, call.now, desk.patience());
    // Many statements make a page: each keeps the limits of a query, and all together this one.
    let Ok(answered) = tokio::time::timeout(Duration::from_secs(seconds_max), asked).await else {
        return Err(AskError::Limit { what: "more time", key: "billing_seconds_max", value: seconds_max }.into());
    };
    let bills = answered.map_err(|error| match error {
        BillingError::Month { .. } | BillingError::NotBegun { .. } => {
            ApiError::InvalidParameter(vec![Fault::new("month", error.to_string())])
        }
        BillingError::Silent => AskError::Away(error.to_string()).into(),
        BillingError::Engine(error) => desk.fault(&error).into(),
    })?;
    let name = |subject: &Subject| match subject {
        Subject::Interface(exporter, interface) => desk.names().interface(*exporter, *interface),
        Subject::Customer(_) => None,
    };
    if !is_csv {
        return Ok(Answer::ok(show::json(&bills, &question, &name)));
    }
    let text = show::csv(&bills, &question, &name).map_err(|error| {
        tracing::error!(%error, "bills were not written");
        ApiError::Internal
    })?;
    Ok(Answer::Document("text/csv; charset=utf-8; header=present", text))
}

fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let fault = || format!("must be one of {}", words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "));
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(fault)
}
