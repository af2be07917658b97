//! Merges counters, detects attacks, plans and announces rules.
