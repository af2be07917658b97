//! Feeds `tests::fuzz::netflow1`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::fuzz::netflow1(input));
