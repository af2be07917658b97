//! The REST API over real HTTP: every route's answers, and what holds for all of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails here has failed")]

mod allowlist;
mod analytics;
mod billing;
mod document;
mod envelope;
mod exporters;
mod harness;
mod incidents;
mod maintenance;
mod nodes;
mod parameters;
mod roles;
mod rules;
mod tokens;
