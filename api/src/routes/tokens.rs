//! `/api/v1/tokens`: who may call; a token is shown once, when it is made.

use axum::routing::MethodFilter;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::{Access, Role, Secret};
use crate::error::ApiError;
use crate::input;
use crate::server::{Answer, Call, Route, listed};
use crate::state::audit::{self, Entry};
use crate::state::tokens::{self, Token};

const NAME_CHARACTERS_MAX: usize = 100;

pub(super) const ROUTES: &[Route] = &[
    Route {
        method: MethodFilter::GET,
        path: "/api/v1/tokens",
        access: Access::Least(Role::Owner),
        parameters: &["limit", "offset"],
        handler: |call| Box::pin(list(call)),
    },
    Route {
        method: MethodFilter::POST,
        path: "/api/v1/tokens",
        access: Access::Least(Role::Owner),
        parameters: &[],
        handler: |call| Box::pin(create(call)),
    },
    Route {
        method: MethodFilter::DELETE,
        path: "/api/v1/tokens/{id}",
        access: Access::Least(Role::Owner),
        parameters: &[],
        handler: |call| Box::pin(delete(call)),
    },
];

async fn list(mut call: Call) -> Result<Answer, ApiError> {
    let page = call.query.page(50, 100);
    call.query.finish()?;
    let workspace = call.caller()?.workspace;
    let found = call.app.state.read(move |connection| tokens::list(connection, workspace, page)).await.map_err(ApiError::from)?;
    Ok(listed("tokens", found.entries.iter().map(shown).collect(), found.total, page))
}

async fn create(mut call: Call) -> Result<Answer, ApiError> {
    let mut form = call.form()?;
    let name = form.need("name", input::text(NAME_CHARACTERS_MAX));
    let role = form.take("role", |value| value.as_str().ok_or("must be a text")?.parse::<Role>());
    let expires_at = form.take("expires_at", input::moment);
    if expires_at.is_some_and(|end| end <= call.now) {
        form.fault("expires_at", "must be in the future");
    }
    form.finish()?;
    let Some(name) = name else {
        return Err(ApiError::validation("name", "this field is required"));
    };
    let caller = call.caller()?.clone();
    let secret = Secret::generate()?;
    let token = Token {
        uuid: Uuid::new_v4(),
        workspace: caller.workspace,
        name,
        // As in the seeds, where one token works for installers and for the REST API.
        role: role.unwrap_or(Role::Operator),
        created_at: call.now,
        expires_at,
        last_used_at: None,
    };
    let (stored, stored_secret, now) = (token.clone(), secret.clone(), call.now);
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        tokens::insert(transaction, &stored, &stored_secret, false)?;
        let entry = Entry { action: "create", resource: "token", id: stored.uuid.to_string(), before: None, after: Some(shown(&stored)) };
        audit::add(transaction, now, &caller.actor(), &entry)
    };
    call.app.state.write(work).await.map_err(ApiError::from)?;
    let mut body = shown(&token);
    if let Value::Object(fields) = &mut body {
        fields.insert("token".to_owned(), Value::from(secret.text()));
    }
    Ok(Answer::created(json!({ "token": body })))
}

async fn delete(call: Call) -> Result<Answer, ApiError> {
    let (caller, uuid, now) = (call.caller()?.clone(), call.uuid("token")?, call.now);
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let token = tokens::get(transaction, caller.workspace, uuid)?.ok_or(ApiError::NotFound("token"))?;
        tokens::delete(transaction, uuid)?;
        let entry = Entry { action: "delete", resource: "token", id: uuid.to_string(), before: Some(shown(&token)), after: None };
        Ok::<_, ApiError>(audit::add(transaction, now, &caller.actor(), &entry)?)
    };
    call.app.state.write(work).await?;
    Ok(Answer::Nothing)
}

fn shown(token: &Token) -> Value {
    json!({
        "id": token.uuid, "name": token.name, "role": token.role.name(), "created_at": token.created_at,
        "expires_at": token.expires_at, "last_used_at": token.last_used_at,
    })
}
