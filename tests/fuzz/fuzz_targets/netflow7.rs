//! Feeds `tests::fuzz::netflow7`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::fuzz::netflow7(input));
