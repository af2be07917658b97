//! Feeds `tests::fuzz::sflow5`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::fuzz::sflow5(input));
