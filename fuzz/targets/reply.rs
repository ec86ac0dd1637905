//! A function's answer to a request to its URL.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzz::reply(bytes));
