//! Load, capacity and speed measurements.
//!
//! The library makes telemetry: exporters, hosts and attacks from a seed, as bytes. The program measures with it.

pub mod synthesize;
