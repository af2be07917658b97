//! Feeds `tests::fuzz::netflow9`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::fuzz::netflow9(input));
