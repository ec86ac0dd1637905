//! Packs files into a zip: sorted, with one fixed time, so that equal files give equal bytes and so the same digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor};

use anyhow::Context as _;
use model::limits;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::collect::Entry;
use crate::cli::failure::CliError;
use crate::cli::screen;

/// Packs `entries`, which are sorted by name. Refuses what the daemon would refuse, before anything is sent.
pub(crate) fn zip(entries: &[Entry]) -> anyhow::Result<Vec<u8>> {
    refuse_unpacked(entries)?;
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for entry in entries {
        // Only the bit that matters is kept: the rest is the umask of whoever packs.
        let mode = if entry.executable { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(mode);
        writer
            .start_file(entry.name.as_str(), options)
            .with_context(|| format!("packing {}", entry.name))?;
        let mut file =
            File::open(&entry.path).with_context(|| format!("reading {}", entry.path.display()))?;
        io::copy(&mut file, &mut writer)
            .with_context(|| format!("packing {}", entry.path.display()))?;
    }
    let zip = writer.finish().context("packing")?.into_inner();
    refuse_too_large(zip.len())?;
    Ok(zip)
}

/// How many entries a zip has.
pub(crate) fn count(zip: &[u8]) -> zip::result::ZipResult<usize> {
    zip::ZipArchive::new(Cursor::new(zip)).map(|archive| archive.len())
}

/// Refuses a zip over the upload limit.
pub(crate) fn refuse_too_large(packed_bytes: usize) -> Result<(), CliError> {
    if packed_bytes <= limits::PACKAGE_BYTES {
        return Ok(());
    }
    Err(too_large(format!(
        "package is too large: {packed_bytes} bytes packed, expected at most {}",
        limits::PACKAGE_BYTES
    )))
}

fn refuse_unpacked(entries: &[Entry]) -> Result<(), CliError> {
    if entries.len() > limits::PACKAGE_ENTRIES {
        return Err(too_large(format!(
            "package has too many files: {}, expected at most {}",
            entries.len(),
            limits::PACKAGE_ENTRIES
        )));
    }
    let total: u64 = entries.iter().map(|e| e.bytes).sum();
    if total <= limits::UNPACKED_BYTES {
        return Ok(());
    }
    Err(too_large(format!(
        "package is too large: {total} bytes unpacked, expected at most {}; the largest parts: {}",
        limits::UNPACKED_BYTES,
        largest_parts(entries)
    )))
}

fn too_large(message: String) -> CliError {
    CliError::new(message).code("package-too-large").hint(
        "leave files out by `exclude` in hanshu.toml, or fetch large data when the function starts",
    )
}

/// The three largest files or folders, folders cut at two levels: enough to see what to leave out.
fn largest_parts(entries: &[Entry]) -> String {
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    for entry in entries {
        let part: Vec<&str> = entry.name.split('/').take(2).collect();
        *parts.entry(part.join("/")).or_default() += entry.bytes;
    }
    let mut parts: Vec<(String, u64)> = parts.into_iter().collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.1));
    let parts: Vec<String> =
        parts.iter().take(3).map(|(p, n)| format!("{p} ({})", screen::bytes(*n))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn entry(name: &str, bytes: u64) -> Entry {
        Entry { name: name.into(), path: "/dev/null".into(), executable: false, bytes }
    }

    #[test]
    fn the_limit_names_what_is_large() {
        let e = refuse_unpacked(&[
            entry("node_modules/big/a", 200 << 20),
            entry("node_modules/big/b", 60 << 20),
            entry("index.js", 1),
        ])
        .unwrap_err();
        assert_eq!(e.code_text(), Some("package-too-large"));
        assert!(e.to_string().contains("node_modules/big (260.0 MiB)"), "{e}");
        refuse_too_large(limits::PACKAGE_BYTES).unwrap();
        refuse_too_large(limits::PACKAGE_BYTES + 1).unwrap_err();
    }

    #[test]
    fn modes_are_kept_and_contents_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bootstrap");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        let mut run = Entry::of_file("bootstrap", &path).unwrap();
        assert!(!run.executable);
        run.executable = true;
        let zip = zip(&[run]).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let mut file = archive.by_name("bootstrap").unwrap();
        assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "#!/bin/sh\n");
    }
}
