//! A single source file as a package: the smallest deploy there is.

use std::io::{Cursor, Write as _};

use bytes::Bytes;
use model::Result;
use model::error::{Code, Error};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Longest name of a file on the usual file systems, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Permissions of the file: the owner writes, everybody reads.
const MODE: u32 = 0o644;

/// The name of a single source file: no folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceName(String);

impl SourceName {
    /// Validates `name`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let plain = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name != "."
            && name != ".."
            && !name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control());
        if plain {
            return Ok(Self(name.to_owned()));
        }
        Err(Error::caller(
            Code::InvalidParameter,
            format!(
                "filename is not valid: expected 1 to {NAME_BYTES_MAX} bytes without '/', '\\' or control characters"
            ),
        ))
    }
}

/// A zip with that one file in it. Equal inputs give equal bytes: the entry's time is fixed (1980-01-01, the least a zip can say).
pub(super) fn zip(name: &SourceName, source: &[u8]) -> Result<Bytes> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(MODE);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(&*name.0, options).map_err(Error::internal)?;
    zip.write_all(source).map_err(Error::internal)?;
    Ok(zip.finish().map_err(Error::internal)?.into_inner().into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn names_have_no_folders() {
        for good in ["index.js", "a b.py", "..x", "ä.mjs"] {
            SourceName::new(good).unwrap();
        }
        let long = "x".repeat(256);
        for bad in ["", ".", "..", "a/b", "/a", "a\\b", "a\0", "a\n", &long] {
            assert_eq!(SourceName::new(bad).unwrap_err().code(), Code::InvalidParameter, "{bad:?}");
        }
    }

    #[test]
    fn the_zip_holds_the_file_and_is_always_the_same() {
        let name = SourceName::new("index.js").unwrap();
        let zipped = zip(&name, b"exports.handler = 1").unwrap();
        assert_eq!(zipped, zip(&name, b"exports.handler = 1").unwrap());

        let mut archive = zip::ZipArchive::new(Cursor::new(zipped)).unwrap();
        assert_eq!(archive.len(), 1);
        let mut file = archive.by_name("index.js").unwrap();
        assert_eq!(file.unix_mode().unwrap() & 0o777, MODE);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "exports.handler = 1");
    }
}
