//! Merges counters, detects attacks, plans and announces rules.
//!
//! [`analyst::Analyst`] is the pure core on one thread: snapshots of counters and the time go in, incidents come out.
//! [`mitigate`] answers incidents with rules; only its adapters touch the world.
#![forbid(unsafe_code)]

pub mod analyst;
pub mod baseline;
pub mod config;
pub mod detect;
pub mod group;
pub mod incident;
pub mod loss;
pub mod merge;
pub mod metrics;
pub mod mitigate;
pub mod planned;
pub mod sight;

pub use analyst::{Analyst, Event};
pub use config::Config;
