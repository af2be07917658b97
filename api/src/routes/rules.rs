//! `/api/v1/mitigation/rules`: what is announced, was announced, and should be.

use analytics::mitigate::driver::Ended;
use analytics::mitigate::guard::Refusal;
use analytics::mitigate::plan::Intent;
use axum::routing::MethodFilter;
use serde_json::json;

use schemas::rule::{IntentType, Rule, RuleOwner};

use crate::auth::{Access, Role};
use crate::error::ApiError;
use crate::input;
use crate::server::{Answer, Call, Route, listed};
use crate::state::audit::{self, Entry};
use crate::state::rules;

const PATH: &str = "/api/v1/mitigation/rules";
const TTL_MAX: u64 = 31_536_000;
const REASON_CHARACTERS_MAX: usize = 500;

/// Seconds after which there is room among the rules of a minute again.
const MINUTE: u64 = 60;

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: PATH,
        access: Access::Least(Role::Readonly),
        parameters: &["limit", "offset"],
        handler: |call| Box::pin(list(call, false)),
    },
    Route {
        method: MethodFilter::POST,
        path: PATH,
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(announce(call)),
    },
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/mitigation/rules/history",
        access: Access::Least(Role::Readonly),
        parameters: &["limit", "offset"],
        handler: |call| Box::pin(list(call, true)),
    },
    Route {
        method: MethodFilter::DELETE,
        path: "/api/v1/mitigation/rules/{id}",
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(withdraw(call)),
    },
];

async fn list(mut call: Call, history: bool) -> Result<Answer, ApiError> {
    let page = call.query.page(100, 500);
    call.query.finish()?;
    let workspace = call.caller()?.workspace;
    let found = call.app.state.read(move |connection| rules::list(connection, workspace, history, page)).await.map_err(ApiError::from)?;
    Ok(listed("rules", found.entries.iter().map(|rule| json!(rule)).collect(), found.total, page))
}

async fn announce(mut call: Call) -> Result<Answer, ApiError> {
    let mut form = call.form()?;
    let target = form.need("target_ip", input::prefix);
    let intent_type = form.need("intent_type", |value| match value.as_str().ok_or("must be a text")? {
        "blackhole" => Ok(IntentType::Blackhole),
        "flowspec" => Ok(IntentType::Flowspec),
        "scrubbing" => Ok(IntentType::Scrubbing),
        _ => Err("must be one of blackhole, flowspec, scrubbing".to_owned()),
    });
    let adapter_id = form.need("adapter_id", input::text(REASON_CHARACTERS_MAX));
    let ttl = form.take("ttl", input::number(0..=TTL_MAX)).unwrap_or(0);
    let reason = form.take("reason", input::text(REASON_CHARACTERS_MAX));
    form.finish()?;
    let (Some(target), Some(intent_type), Some(adapter_id)) = (target, intent_type, adapter_id) else {
        return Err(ApiError::validation("", "target_ip, intent_type and adapter_id are required"));
    };
    let caller = call.caller()?.clone();
    let reason = reason.unwrap_or_else(|| format!("announced by {}", caller.name));
    let intent = Intent { target, intent_type, adapter_id, owner: RuleOwner::Manual, incident_uuid: None, reason, ttl };
    let rule = call.app.mitigation.announce(intent).await.map_err(ended)?.map_err(refused)?;
    record(&call, "announce", None, Some(&rule)).await?;
    Ok(Answer::created(json!({ "rule": rule })))
}

async fn withdraw(call: Call) -> Result<Answer, ApiError> {
    let (workspace, uuid) = (call.caller()?.workspace, call.uuid("rule")?);
    let rule = call.app.state.read(move |connection| rules::get(connection, workspace, uuid)).await.map_err(ApiError::from)?;
    let rule = rule.ok_or(ApiError::NotFound("rule"))?;
    // A rule that is gone already is no rule that could be withdrawn.
    if !call.app.mitigation.withdraw(uuid).await.map_err(ended)? {
        return Err(ApiError::NotFound("rule"));
    }
    record(&call, "withdraw", Some(&rule), None).await?;
    Ok(Answer::Nothing)
}

async fn record(call: &Call, action: &'static str, before: Option<&Rule>, after: Option<&Rule>) -> Result<(), ApiError> {
    let (actor, now) = (call.caller()?.actor(), call.now);
    let id = before.or(after).map(|rule| rule.uuid.to_string()).unwrap_or_default();
    let (before, after) = (before.map(|rule| json!(rule)), after.map(|rule| json!(rule)));
    let entry = Entry { action, resource: "rule", id, before, after };
    let work = move |transaction: &rusqlite::Transaction<'_>| audit::add(transaction, now, &actor, &entry);
    call.app.state.write(work).await.map_err(ApiError::from)
}

pub(super) fn ended(_: Ended) -> ApiError {
    ApiError::Unavailable("mitigation has ended".to_owned())
}

/// What the guard's refusal is to a client: a field at fault, a conflict, or a bound.
fn refused(refusal: Refusal) -> ApiError {
    let message = refusal.to_string();
    match refusal {
        Refusal::Frozen | Refusal::DryRun | Refusal::RulesMax { .. } => ApiError::PermissionDenied(message),
        Refusal::NoNetworks | Refusal::OutsideNetworks { .. } | Refusal::Allowlisted { .. } | Refusal::TooWide { .. } => {
            ApiError::validation("target_ip", message)
        }
        Refusal::UnknownAdapter { .. } => ApiError::validation("adapter_id", message),
        Refusal::Unsupported { .. } => ApiError::validation("intent_type", message),
        Refusal::Duplicate { .. } => ApiError::Duplicate(message),
        Refusal::RulesPerMinute { .. } => ApiError::RateLimited(MINUTE),
    }
}
