//! Receives, decodes and counts flow telemetry: one thread a shard, from the socket to the snapshot.

pub mod config;
pub mod connections;
pub mod count;
pub mod decode;
pub mod enrich;
pub mod exporter;
pub mod metrics;
pub mod receive;
pub mod replay;
pub mod shard;
mod start;
pub mod store;

pub use start::{Collector, StartError};
