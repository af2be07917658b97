//! Feeds `tests::fuzz::plan_against_oracle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::fuzz::plan_against_oracle(input));
