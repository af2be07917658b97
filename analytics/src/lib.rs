//! Merges counters, detects attacks, plans and announces rules.
#![forbid(unsafe_code)]
