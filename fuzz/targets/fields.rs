//! The event of a call whose alias names fields of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::fuzz::fields(bytes));
