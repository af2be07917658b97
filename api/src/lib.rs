//! The program's parts: configuration, state, REST, notifications, and the wiring of the pipe.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod app;
pub mod auth;
pub mod backtest;
pub mod baselines;
pub mod billing;
pub mod clock;
pub mod commands;
pub mod config;
pub mod crosscheck;
pub mod decode;
pub mod demo;
pub mod engine;
pub mod error;
pub mod hindsight;
pub mod input;
pub mod limit;
pub mod live;
pub mod metrics;
pub mod mitigation;
pub mod notify;
pub mod origin;
pub mod pipe;
pub mod query;
pub mod replay;
pub mod routes;
pub mod serve;
pub mod server;
pub mod state;
pub mod store;
