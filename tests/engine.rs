//! The embedded engine: what it answers, and what becomes of it when it is killed, stopped, out of memory or an orphan.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use tests::engine::Alone;

#[test]
fn a_statement_is_answered_and_the_end_is_clean() {
    let engine = Alone::start();
    assert_eq!(engine.query("SELECT currentDatabase(), 1 + 1"), "weir\t2");
    assert_eq!(engine.stop(), "exit code 0");
}
