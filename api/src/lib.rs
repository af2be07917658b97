//! The program: serves, decodes, replays; REST.
