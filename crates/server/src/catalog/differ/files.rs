//! Which files of two packages differ, and how.
//!
//! Packages were checked when they were uploaded, but they are strangers' all the same: what is read, compared and answered is bounded.
//! Files of equal size and checksum count as equal, so most of a package is never unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::Result;
use model::api::{FileChange, FileDiff};
use model::clock::Clock;
use model::error::Error;
use similar::TextDiff;
use zip::ZipArchive;

/// Most files that are listed.
const LISTED: usize = 1_000;
/// Largest file whose lines are compared, in bytes.
const TEXT_BYTES: u64 = 256 * 1024;
/// Most lines that are answered, of all files together, in bytes.
const UNIFIED_BYTES: usize = 1024 * 1024;
/// Equal lines around those that differ.
const CONTEXT_LINES: usize = 3;
/// After that no more lines are compared, and those that are being compared are compared roughly.
const PATIENCE: Duration = Duration::from_secs(3);

/// The files that differ.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The first of them, by path.
    pub listed: Vec<FileDiff>,
    /// How many there are beyond.
    pub more: usize,
}

/// Compares two packages. Blocks, for some seconds at worst.
pub(super) fn compare(before: Bytes, after: Bytes, clock: &dyn Clock) -> Result<Changes> {
    compare_within(PATIENCE, before, after, clock)
}

fn compare_within(
    patience: Duration,
    before: Bytes,
    after: Bytes,
    clock: &dyn Clock,
) -> Result<Changes> {
    let (mut before, mut after) = (Package::open(before)?, Package::open(after)?);
    let paths: BTreeSet<&String> = before.files.keys().chain(after.files.keys()).collect();
    let changed = paths.into_iter().filter_map(|path| {
        let (old, new) = (before.files.get(path), after.files.get(path));
        let differ = old.map(File::content) != new.map(File::content);
        differ.then(|| (path.clone(), old.copied(), new.copied()))
    });
    let mut changed: Vec<_> = changed.collect();
    let more = changed.len().saturating_sub(LISTED);
    changed.truncate(LISTED);

    let deadline = clock.instant() + patience;
    let mut left = UNIFIED_BYTES;
    let mut listed = Vec::with_capacity(changed.len());
    for (path, old, new) in changed {
        let mut unified = None;
        if left > 0 && clock.instant() < deadline {
            let texts = (before.text(old)?, after.text(new)?);
            unified = lines(&path, texts, deadline).filter(|unified| unified.len() <= left);
        }
        left -= unified.as_ref().map_or(0, String::len);
        listed.push(FileDiff {
            path,
            change: match (old, new) {
                (None, _) => FileChange::Added,
                (_, None) => FileChange::Removed,
                _ => FileChange::Modified,
            },
            size_before: old.map(|file| file.size_bytes),
            size_after: new.map(|file| file.size_bytes),
            unified,
        });
    }
    Ok(Changes { listed, more })
}

/// A package and the files in it by path.
struct Package {
    archive: ZipArchive<Cursor<Bytes>>,
    files: BTreeMap<String, File>,
}

#[derive(Clone, Copy)]
struct File {
    index: usize,
    size_bytes: u64,
    crc: u32,
}

impl File {
    fn content(&self) -> (u64, u32) {
        (self.size_bytes, self.crc)
    }
}

/// What is compared of a file.
enum Text {
    /// There is no such file.
    Missing,
    /// No text, or too long.
    Unfit,
    Lines(String),
}

impl Package {
    fn open(bytes: Bytes) -> Result<Self> {
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(Error::internal)?;
        let mut files = BTreeMap::new();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(Error::internal)?;
            if !entry.is_dir() {
                let file = File { index, size_bytes: entry.size(), crc: entry.crc32() };
                files.insert(path(entry.name_raw()), file);
            }
        }
        Ok(Self { archive, files })
    }

    fn text(&mut self, file: Option<File>) -> Result<Text> {
        let Some(file) = file else { return Ok(Text::Missing) };
        if file.size_bytes > TEXT_BYTES {
            return Ok(Text::Unfit);
        }
        let entry = self.archive.by_index(file.index).map_err(Error::internal)?;
        let mut bytes = Vec::new();
        entry.take(TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(Error::internal)?;
        let fits = bytes.len() as u64 <= TEXT_BYTES && !bytes.contains(&0);
        let text = String::from_utf8(bytes).ok().filter(|_| fits);
        Ok(text.map_or(Text::Unfit, Text::Lines))
    }
}

/// Where an entry is unpacked to.
fn path(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}

/// The lines that differ, in the unified format; `None` if there are no lines to compare.
fn lines(path: &str, texts: (Text, Text), deadline: Instant) -> Option<String> {
    let (old, new) = match &texts {
        (Text::Lines(old), Text::Lines(new)) => (old.as_str(), new.as_str()),
        (Text::Missing, Text::Lines(new)) => ("", new.as_str()),
        (Text::Lines(old), Text::Missing) => (old.as_str(), ""),
        _ => return None,
    };
    let name = |text: &Text, side: &str| match text {
        Text::Missing => "/dev/null".to_owned(),
        // A name may hold line feeds, which would pass for lines of the file.
        _ if path.contains(char::is_control) => format!("{:?}", format!("{side}/{path}")),
        _ => format!("{side}/{path}"),
    };
    let diff = TextDiff::configure().deadline(deadline).diff_lines(old, new);
    let unified = diff
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(&name(&texts.0, "a"), &name(&texts.1, "b"))
        .to_string();
    Some(unified)
}

#[cfg(test)]
mod tests;
