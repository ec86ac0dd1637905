//! A secret that can be searched for, wherever it may have got to.

use std::fs;
use std::path::{Path, PathBuf};

/// What is searched for; the parts that follow it tell the values apart.
pub(crate) const NEEDLE: &str = "needle-Zq8vX2";

/// A secret of a test.
pub(crate) fn value(which: &str) -> String {
    format!("{NEEDLE}-{which}")
}

/// The same as a function tells it: a search does not find it.
pub(crate) fn backwards(which: &str) -> String {
    value(which).chars().rev().collect()
}

/// Whether bytes hold the needle: plain, in hexadecimal, or at any offset of a base64 text.
pub(crate) fn holds_needle(bytes: &[u8]) -> bool {
    let hex: String = NEEDLE.bytes().map(|b| format!("{b:02x}")).collect();
    // `needle-Zq8vX2` after 0, 1 and 2 other bytes, without the characters that those share.
    let base64 = ["bmVlZGxlLVpxOHZYM", "5lZWRsZS1acTh2WD", "uZWVkbGUtWnE4dlgy"];
    let found = |part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
    found(NEEDLE.as_bytes()) || found(hex.as_bytes()) || base64.iter().any(|b| found(b.as_bytes()))
}

/// All files of a folder and its folders.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// Checks that no file of a data folder holds the needle.
#[track_caller]
pub(crate) fn nothing_on_disk(data: &Path) {
    let files = files(data);
    assert!(files.iter().any(|f| f.ends_with("catalog.db")), "{files:?}");
    for file in files {
        assert!(!holds_needle(&fs::read(&file).unwrap_or_default()), "{}", file.display());
    }
}
