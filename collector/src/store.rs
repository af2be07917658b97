//! Where every flow is kept: ClickHouse, in a child process of ours or at a URL.

pub mod account;
pub mod config;
pub mod engine;
pub mod handover;
pub mod link;
pub mod names;
pub mod recovered;
pub mod schema;
pub mod spool;
pub mod statement;
