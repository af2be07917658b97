//! The route table: every path that is served, who may call it, and the file that answers; one file a resource.

use crate::server::Route;

mod allowlist;
mod analytics;
mod billing;
mod deploy;
mod exporters;
mod freeze;
mod health;
mod incidents;
mod interfaces;
mod maintenance;
mod nodes;
mod openapi;
mod rules;
mod status;
mod tokens;

/// Every route.
pub fn all() -> impl Iterator<Item = Route> {
    [
        health::ROUTES,
        openapi::ROUTES,
        deploy::ROUTES,
        status::ROUTES,
        nodes::ROUTES,
        incidents::ROUTES,
        exporters::ROUTES,
        interfaces::ROUTES,
        billing::ROUTES,
        rules::ROUTES,
        freeze::ROUTES,
        allowlist::ROUTES,
        maintenance::ROUTES,
        analytics::ROUTES,
        tokens::ROUTES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
