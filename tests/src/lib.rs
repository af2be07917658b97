//! What the end-to-end tests share: namespaces, processes, packets, captures, exporters, the program under test.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

pub mod capture;
pub mod corpus;
pub mod engine;
pub mod exporters;
pub mod far;
pub mod filters;
pub mod flood;
pub mod flows;
pub mod fuzz;
pub mod gobgp;
pub mod isolation;
pub mod kept;
pub mod load;
pub mod memory;
pub mod packet;
pub mod process;
pub mod reader;
pub mod rest;
pub mod server;
pub mod sink;
pub mod traffic;
pub mod webhook;
pub mod weir;
