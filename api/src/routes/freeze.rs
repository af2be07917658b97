//! `/api/v1/mitigation/freeze`: the kill switch.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use crate::auth::{Access, Role};
use crate::error::ApiError;
use crate::input;
use crate::server::{Answer, Call, Route};
use crate::state::audit::{self, Entry};
use crate::state::settings::{self, Freeze};

const PATH: &str = "/api/v1/mitigation/freeze";

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: PATH,
        access: Access::Least(Role::Readonly),
        parameters: &[],
        handler: |call| Box::pin(get(call)),
    },
    Route {
        method: MethodFilter::POST,
        path: PATH,
        access: Access::Least(Role::Operator),
        parameters: &[],
        handler: |call| Box::pin(turn(call)),
    },
];

async fn get(call: Call) -> Result<Answer, ApiError> {
    let freeze = call.app.state.read(settings::freeze).await.map_err(ApiError::from)?;
    Ok(Answer::ok(shown(&freeze)))
}

async fn turn(mut call: Call) -> Result<Answer, ApiError> {
    let mut form = call.form()?;
    let frozen = form.need("frozen", input::boolean);
    form.finish()?;
    let caller = call.caller()?.clone();
    let turned = Freeze { frozen: frozen.unwrap_or(true), changed_at: Some(call.now), changed_by: Some(caller.name.clone()) };
    let (stored, now) = (turned.clone(), call.now);
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let before = settings::freeze(transaction)?;
        settings::set_freeze(transaction, &stored)?;
        let entry = Entry {
            action: if stored.frozen { "freeze" } else { "unfreeze" },
            resource: "mitigation",
            id: "freeze".to_owned(),
            before: Some(shown(&before)),
            after: Some(shown(&stored)),
        };
        audit::add(transaction, now, &caller.actor(), &entry)
    };
    call.app.state.write(work).await.map_err(ApiError::from)?;
    call.app.mitigation.freeze(turned.frozen).await.map_err(super::rules::ended)?;
    Ok(Answer::ok(shown(&turned)))
}

fn shown(freeze: &Freeze) -> Value {
    json!({ "frozen": freeze.frozen, "changed_at": freeze.changed_at, "changed_by": freeze.changed_by })
}
