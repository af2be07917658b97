//! Receives, decodes and counts flow telemetry: one thread a shard, from the socket to the snapshot.

pub mod count;
pub mod decode;
pub mod exporter;
pub mod receive;
