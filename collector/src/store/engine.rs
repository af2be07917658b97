//! The embedded engine: a child process that is the ClickHouse engine, and the thread that keeps it running.
//!
//! The child (`weir engine run`) loads the engine as a library, opens one folder and answers the part of ClickHouse's HTTP
//! interface that we use, on loopback. A crash or an end by the kernel's out-of-memory killer takes nothing else along.

pub mod child;
pub mod front;
pub mod heart;
pub mod install;
pub mod library;
pub mod metrics;
pub mod request;
pub mod run;
pub mod session;
pub mod statement;

/// The engine that this version is built and tested with.
pub const VERSION: &str = "26.7.3-stable.1";
/// Who we are to the child.
pub const USER: &str = "weir";

pub use child::{Engine, Start};
