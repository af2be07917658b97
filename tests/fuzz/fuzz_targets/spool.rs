//! Feeds `tests::fuzz::spool`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::fuzz::spool(input));
