//! What an instance sends to the daemon.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sandbox::fuzz::frames(bytes));
