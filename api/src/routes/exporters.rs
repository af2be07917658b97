//! `/api/v1/exporters`: who sends us telemetry, and what became of it.

use std::collections::BTreeSet;

use axum::routing::MethodFilter;
use schemas::alarm::Alarm;
use serde_json::{Map, Value, json};

use crate::auth::{Access, Role};
use crate::error::ApiError;
use crate::live::ExporterNews;
use crate::server::{Answer, Call, Route, listed};

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/exporters",
        access: Access::Least(Role::Readonly),
        parameters: &["limit", "offset"],
        handler: |call| Box::pin(list(call)),
    },
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/exporters/{id}",
        access: Access::Least(Role::Readonly),
        parameters: &[],
        handler: |call| Box::pin(get(call)),
    },
];

async fn list(mut call: Call) -> Result<Answer, ApiError> {
    let page = call.query.page(50, 100);
    call.query.finish()?;
    let all = call.app.live.exporters();
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let alarms = call.app.live.alarms();
    let entries = all.iter().skip(skip).take(take).map(|news| shown(news, &alarms)).collect();
    Ok(listed("exporters", entries, u64::try_from(all.len()).unwrap_or(u64::MAX), page))
}

/// An exporter's id is its address.
async fn get(call: Call) -> Result<Answer, ApiError> {
    let news = call.path("id").parse().ok().and_then(|address| call.app.live.exporter(address));
    let news = news.ok_or(ApiError::NotFound("exporter"))?;
    let mut entry = shown(&news, &call.app.live.alarms());
    let snapshot = call.app.live.interfaces().snapshot();
    let device = snapshot.device(news.exporter);
    let mut indexes: BTreeSet<u32> = device.into_iter().flat_map(|device| device.iter().map(|(index, _)| index)).collect();
    indexes.extend(news.domains.iter().flat_map(|domain| domain.interfaces.iter().copied()));
    let interface = |index: u32| {
        let boundary = snapshot.interface(news.exporter, index).1;
        super::interfaces::shown(index, device.and_then(|device| device.interface(index)), boundary)
    };
    if let Value::Object(fields) = &mut entry {
        fields.insert("interfaces".to_owned(), indexes.into_iter().map(interface).collect());
    }
    Ok(Answer::ok(json!({ "exporter": entry })))
}

fn shown(news: &ExporterNews, alarms: &[Alarm]) -> Value {
    let alarms: Vec<&Alarm> = alarms.iter().filter(|alarm| alarm.exporter == Some(news.exporter)).collect();
    let ledger: Map<String, Value> = news.ledger.counts().map(|(name, count)| (name.to_owned(), Value::from(count))).collect();
    let store: Map<String, Value> = news.store.counts().map(|(name, count)| (name.to_owned(), Value::from(count))).collect();
    json!({
        "id": news.exporter, "address": news.exporter, "first_seen": news.first_seen, "last_seen": news.last_seen,
        "datagrams": news.ledger.datagrams_received, "records": news.ledger.records_decoded,
        "lost_by_sequence": news.ledger.lost_by_sequence, "records_sampling_unknown": news.ledger.records_sampling_unknown,
        "ledger": ledger, "store": store, "domains": news.domains, "alarms": alarms,
    })
}
