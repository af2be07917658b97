//! Feeds `tests::fuzz::netflow5`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::fuzz::netflow5(input));
