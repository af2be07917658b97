//! `weir check` and `weir token …`: what an operator does at the machine, without the REST API.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use clap::Subcommand;
use uuid::Uuid;

use schemas::time::Timestamp;

use crate::auth::{Role, Secret};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::check::read_named_files;
use crate::notify;
use crate::state::audit::{self, Actor, Entry};
use crate::state::tokens::{self, Token};
use crate::state::{self, Page, StateError, workspaces};

/// Tells what is wrong with a configuration; with `notify`, also sends a `test` event to its webhook.
///
/// # Errors
///
/// Every fault of the file and of the files that it names; what the webhook said.
pub fn check(file: &Path, notify: bool) -> anyhow::Result<()> {
    let config = Config::load(Some(file))?;
    read_named_files(file, &config)?;
    if notify {
        let webhook = &config.api.notify.webhook;
        if webhook.url.is_empty() {
            bail!("{}: api.notify.webhook.url is not set: nobody is told", file.display());
        }
        notify::test(webhook, Clock::default().now()).map_err(|reason| anyhow!("api.notify.webhook: {reason}"))?;
        println!("api.notify.webhook: {} took the test event", webhook.url);
    }
    Ok(())
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token and prints it, this once
    Create {
        /// Display name
        name: String,
        /// owner, operator, analyst, readonly or deploy
        #[arg(long, default_value = "operator")]
        role: Role,
        /// When it ends, like 2026-12-31T00:00:00Z
        #[arg(long)]
        expires_at: Option<Timestamp>,
    },
    /// Lists the tokens, never their secrets
    List,
    /// Revokes a token
    Revoke {
        /// Its id, as `list` shows it
        id: Uuid,
    },
}

/// Does it.
///
/// # Errors
///
/// What the state says, an id that is not there, an end that is past.
pub fn token(config: &Config, command: TokenCommand) -> anyhow::Result<()> {
    let now = Clock::default().now();
    let mut connection = state::connect(&config.data_dir)?;
    let workspace = workspaces::ensure_default(&mut connection, now)?;
    let actor = Actor { workspace, token: None, name: "command line".to_owned(), address: None };
    let shown = |token: &Token| serde_json::json!({ "id": token.uuid, "name": token.name, "role": token.role.name() });
    match command {
        TokenCommand::Create { name, role, expires_at } => {
            if expires_at.is_some_and(|end| end <= now) {
                bail!("--expires-at must be in the future");
            }
            let secret = Secret::generate()?;
            let token = Token { uuid: Uuid::new_v4(), workspace, name, role, created_at: now, expires_at, last_used_at: None };
            state::in_transaction(&mut connection, |transaction| {
                tokens::insert(transaction, &token, &secret, false)?;
                let id = token.uuid.to_string();
                let entry = Entry { action: "create", resource: "token", id, before: None, after: Some(shown(&token)) };
                audit::add(transaction, now, &actor, &entry)
            })?;
            println!("{}", secret.text());
        }
        TokenCommand::List => {
            let everything = Page { limit: u32::MAX, offset: 0 };
            for token in tokens::list(&connection, workspace, everything)?.entries {
                let ends = token.expires_at.map_or_else(|| "never".to_owned(), |end| end.to_string());
                println!("{}\t{}\t{}\tends {ends}", token.uuid, token.role.name(), token.name);
            }
        }
        TokenCommand::Revoke { id } => {
            let token = tokens::get(&connection, workspace, id)?.with_context(|| format!("no token {id}"))?;
            state::in_transaction::<_, StateError>(&mut connection, |transaction| {
                tokens::delete(transaction, id)?;
                let entry = Entry { action: "delete", resource: "token", id: id.to_string(), before: Some(shown(&token)), after: None };
                audit::add(transaction, now, &actor, &entry)
            })?;
        }
    }
    Ok(())
}
