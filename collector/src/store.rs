//! Where every flow is kept: ClickHouse, in a child process of ours or at a URL.

pub mod account;
pub mod block;
pub mod config;
pub mod engine;
mod folder;
pub mod gather;
pub mod handover;
pub mod insert;
pub mod link;
pub mod metrics;
pub mod names;
mod native;
pub mod once;
pub mod queue;
pub mod recovered;
pub mod retain;
pub mod room;
pub mod schema;
pub mod spool;
pub mod statement;
pub mod writer;
