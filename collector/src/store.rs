//! Where every flow is kept: ClickHouse, in a child process of ours or at a URL.

pub mod config;
pub mod engine;
pub mod link;
pub mod names;
pub mod schema;
pub mod statement;
