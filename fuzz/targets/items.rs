//! The input of a map, in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::fuzz::items(bytes));
