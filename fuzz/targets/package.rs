//! An uploaded package.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    sandbox::fuzz::package(bytes, folder.path());
});
