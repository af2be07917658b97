//! The program's parts: configuration, state, REST, notifications, and the wiring of the pipe.
#![forbid(unsafe_code)]

pub mod app;
pub mod auth;
pub mod clock;
pub mod commands;
pub mod config;
pub mod decode;
pub mod error;
pub mod input;
pub mod limit;
pub mod live;
pub mod metrics;
pub mod notify;
pub mod routes;
pub mod serve;
pub mod server;
pub mod state;
