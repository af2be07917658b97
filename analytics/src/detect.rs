//! Judges targets: what crosses its limit, whether that is an attack at all, of which kind it is, whether a host or its prefix is meant, and
//! whether the sources are real.

pub mod answer;
pub mod carpet;
pub mod cover;
pub mod family;
pub mod limit;
pub mod peace;
pub mod spoof;
pub mod window;
