//! Replays what the fuzzers found, in ordinary tests.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Least files of a corpus: fewer mean that it was not found, or was thrown away.
const FILES_MIN: usize = 10;

/// Runs `target` on every file of `fuzz/corpus/NAME`.
///
/// # Panics
///
/// If `target` does, with the file's name, or if the corpus is not there.
pub fn replay(name: &str, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(files.len() >= FILES_MIN, "{} has {} files", folder.display(), files.len());
    for file in files {
        let Ok(bytes) = fs::read(&file) else { panic!("{} cannot be read", file.display()) };
        let passed = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        assert!(passed.is_ok(), "{} does not pass", file.display());
    }
}
