//! Feeds `tests::fuzz::capture`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::fuzz::capture(input));
