//! The program: serves, decodes, replays; REST.
#![forbid(unsafe_code)]
