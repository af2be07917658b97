//! Judges targets: what crosses its limit, of which kind it is, and whether a host or its prefix is meant.

pub mod carpet;
pub mod family;
pub mod limit;
pub mod window;
