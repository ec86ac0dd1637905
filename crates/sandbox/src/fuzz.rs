//! What the fuzzers of this crate call (`fuzz/`, `cargo x fuzz`), and its tests replay over `fuzz/corpus`: one function a target, each with
//! what has to hold whatever the bytes are. Present in tests and with the feature `fuzzing`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use model::Code;
use model::ids::Digest;

use crate::frame::{self, Parsed};
use crate::package::{self, Bounds};

/// Bounds of a package that is unpacked for fuzzing: reached within milliseconds.
const BOUNDS: Bounds = Bounds { entries: 200, unpacked_bytes: 1 << 20 };

/// Reads frames until the bytes are used up, or are found to be none.
///
/// A frame takes more than nothing and at most what is there; cut short, it is waited for and not refused; what is waited for is within the
/// protocol's limits.
///
/// # Panics
///
/// If any of this does not hold.
pub fn frames(mut bytes: &[u8]) {
    while let Ok(parsed) = frame::parse(bytes) {
        match parsed {
            Parsed::Frame(frame, taken) => {
                assert!(taken >= frame::HEADER_BYTES && taken <= bytes.len(), "{taken} taken");
                let short = bytes.get(..taken - 1).unwrap_or_default();
                assert!(
                    matches!(frame::parse(short), Ok(Parsed::Partial(_))),
                    "cut short: {frame:?}"
                );
                bytes = bytes.get(taken..).unwrap_or_default();
            }
            Parsed::Partial(None) => {
                assert!(bytes.len() < frame::HEADER_BYTES, "a whole header is not read");
                return;
            }
            Parsed::Partial(Some(wanted)) => {
                let limit = frame::HEADER_BYTES + frame::PAYLOAD_BYTES;
                assert!(wanted > bytes.len() && wanted <= limit, "{wanted} wanted");
                return;
            }
        }
    }
}

/// Unpacks a package into a folder within `around`, an empty folder.
///
/// What comes out are plain files and folders within that folder, within the bounds, also when the package is refused half-way; of an accepted one
/// they are exactly what is reported. A refusal is the package's fault and never the platform's.
///
/// # Panics
///
/// If any of this does not hold, or if `around` cannot be written.
pub fn package(bytes: &[u8], around: &Path) {
    let into = around.join("package");
    assert!(fs::create_dir(&into).is_ok(), "the folder cannot be made");
    let unpacked = package::unpack_within(&BOUNDS, bytes, &into);
    assert_eq!(fs::read_dir(around).map_or(0, Iterator::count), 1, "written outside");
    let mut found = Found::default();
    found.look(&into);
    assert!(found.bytes <= BOUNDS.unpacked_bytes, "{} bytes came out", found.bytes);
    assert!(found.entries <= BOUNDS.entries, "{} entries came out", found.entries);
    match unpacked {
        Ok(info) => {
            assert_eq!(info.digest, Digest::of(bytes));
            assert_eq!((info.entries, info.unpacked_bytes), (found.entries, found.bytes));
            assert!(found.entries > 0, "nothing came out");
        }
        Err(e) => {
            assert!(matches!(e.code(), Code::InvalidPackage | Code::PackageTooLarge), "{e:?}");
            let message = e.message();
            assert!(message.len() <= 2_000, "{} bytes of message", message.len());
            assert!(!message.contains(char::is_control), "{message:?}");
        }
    }
}

/// What lies in a folder.
#[derive(Default)]
struct Found {
    entries: usize,
    bytes: u64,
}

impl Found {
    fn look(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            self.entries += 1;
            let Ok(meta) = fs::symlink_metadata(entry.path()) else {
                panic!("{} cannot be looked at", entry.path().display());
            };
            let mode = meta.permissions().mode() & 0o7777;
            assert!(mode == 0o755 || (meta.is_file() && mode == 0o644), "mode {mode:o}");
            if meta.is_dir() {
                self.look(&entry.path());
            } else {
                assert!(meta.is_file(), "{} is neither file nor folder", entry.path().display());
                self.bytes += meta.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_pass() {
        model::suites::corpus::replay("frames", frames);
        model::suites::corpus::replay("package", |bytes| {
            package(bytes, tempfile::tempdir().unwrap().path());
        });
    }
}
