//! The words that every part of Weir shares: addresses, flows, counters, incidents and rules.
//!
//! Values only: no I/O, no threads, no clock.
#![forbid(unsafe_code)]

pub mod alarm;
pub mod amplification;
pub mod counter;
pub mod flow;
pub mod incident;
pub mod interface;
pub mod ledger;
pub mod limit;
pub mod net;
pub mod place;
pub mod rule;
pub mod time;
