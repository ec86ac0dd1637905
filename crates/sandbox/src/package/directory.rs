//! A zip's central directory: the list of its entries.
//!
//! Figures: `PKWARE APPNOTE.TXT` 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 – 4.3.16 (its end, with zip64), 4.5.3
//! (zip64 extra field). Every field is little-endian.

use model::{Code, Error, Result, limits};

use super::refused;

/// Compression method: none.
pub(super) const STORED: u16 = 0;
/// Compression method: deflate.
const DEFLATED: u16 = 8;

const END: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: usize = 22;
const END64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR64: [u8; 4] = *b"PK\x06\x07";
const LOCATOR64_BYTES: usize = 20;
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const CENTRAL_BYTES: usize = 46;
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
/// Header id of the extra field with 64-bit figures.
const EXTRA64: u16 = 1;
/// Flag bit: the entry is encrypted.
const FLAG_ENCRYPTED: u16 = 1;

/// One entry, as the central directory describes it. Only its name is used before it has been checked.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// The raw name.
    pub(super) name: &'a [u8],
    /// Compression method.
    pub(super) method: u16,
    /// CRC-32 of the unpacked bytes.
    pub(super) crc: u32,
    /// Bytes unpacked.
    pub(super) size_bytes: u64,
    packed_bytes: u64,
    flags: u16,
    /// Unix mode, where the zip was made by something that knows modes; else 0.
    mode: u32,
    /// Where the local header starts.
    local: u64,
}

impl<'a> Entry<'a> {
    /// A plain, empty entry.
    #[cfg(test)]
    pub(super) fn of_name(name: &'a [u8]) -> Self {
        let (method, crc, size_bytes, packed_bytes) = (STORED, 0, 0, 0);
        Self { name, method, crc, size_bytes, packed_bytes, flags: 0, mode: 0, local: 0 }
    }

    /// Whether the entry is a folder: its name ends with a slash.
    pub(super) fn is_folder(&self) -> bool {
        self.name.ends_with(b"/")
    }

    /// Whether anybody may execute the file.
    pub(super) fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// Refuses what is neither a plain file nor a folder, and what cannot be read.
    pub(super) fn check_kind(&self) -> Result<()> {
        let refuse = |rule: &str| Err(refused(self.name, rule));
        if self.flags & FLAG_ENCRYPTED != 0 {
            return refuse("is encrypted: expected a package without a password");
        }
        match self.mode & libc::S_IFMT {
            0 | libc::S_IFREG | libc::S_IFDIR => {}
            libc::S_IFLNK => return refuse("is a symbolic link: expected files and folders only"),
            _ => return refuse("is a device, pipe or socket: expected files and folders only"),
        }
        let says_folder = self.mode & libc::S_IFMT == libc::S_IFDIR;
        if self.is_folder() {
            if self.size_bytes != 0 {
                return refuse("is a folder with a content");
            }
        } else if says_folder {
            return refuse("is a folder whose name does not end with '/'");
        }
        match self.method {
            STORED | DEFLATED => Ok(()),
            method => refuse(&format!(
                "is compressed by method {method}: expected deflate (8) or none (0)"
            )),
        }
    }

    /// The packed bytes.
    pub(super) fn data(&self, zip: &'a [u8]) -> Result<&'a [u8]> {
        let find = || {
            let local = zip.get(usize::try_from(self.local).ok()?..)?;
            let head = local.first_chunk::<LOCAL_BYTES>()?;
            if !head.starts_with(&LOCAL) {
                return None;
            }
            let around = usize::from(u16_at(head, 26)?) + usize::from(u16_at(head, 28)?);
            local.get(LOCAL_BYTES + around..)?.get(..usize::try_from(self.packed_bytes).ok()?)
        };
        find().ok_or_else(|| refused(self.name, "is damaged: its bytes are not in the package"))
    }
}

/// Reads the list of entries; at most `limits::PACKAGE_ENTRIES`.
pub(super) fn read(zip: &[u8]) -> Result<Vec<Entry<'_>>> {
    let end = find_end(zip).ok_or_else(no_zip)?;
    let place = Place::read(zip, end).ok_or_else(damaged)?;
    if place.entries == 0 {
        return Err(super::empty());
    }
    if place.entries > u64::try_from(limits::PACKAGE_ENTRIES).unwrap_or(u64::MAX) {
        return Err(Error::caller(
            Code::InvalidPackage,
            format!(
                "the package has {} entries: expected at most {}",
                place.entries,
                limits::PACKAGE_ENTRIES
            ),
        ));
    }
    let mut rest = zip.get(place.start..place.end).ok_or_else(damaged)?;
    let mut entries = Vec::new();
    let mut packed_bytes = 0_u64;
    for _ in 0..place.entries {
        let entry = take_entry(&mut rest, place.shift).ok_or_else(damaged)?;
        // Entries that share their bytes would be inflated again and again, at no cost to whoever made the zip.
        packed_bytes = packed_bytes.saturating_add(entry.packed_bytes);
        if packed_bytes > u64::try_from(zip.len()).unwrap_or(u64::MAX) {
            return Err(refused(
                entry.name,
                "overlaps others: the entries have more bytes than the package",
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn no_zip() -> Error {
    Error::caller(
        Code::InvalidPackage,
        "the package is not a zip file, or its end is missing: expected a whole zip file",
    )
    .with_hint("upload a zip of the function's files, or let `hanshu deploy` make it")
}

fn damaged() -> Error {
    Error::caller(
        Code::InvalidPackage,
        "the package is damaged: its list of entries cannot be read",
    )
}

/// Where the end record stands: the last one whose comment ends with the file.
fn find_end(zip: &[u8]) -> Option<usize> {
    let last = zip.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|&at| {
        zip.get(at..).is_some_and(|end| {
            end.starts_with(&END)
                && u16_at(end, 20).is_some_and(|n| END_BYTES + usize::from(n) == end.len())
        })
    })
}

/// Where the central directory lies, and how many entries it claims to have.
struct Place {
    start: usize,
    end: usize,
    entries: u64,
    /// Bytes before the zip proper, which its offsets do not count.
    shift: u64,
}

impl Place {
    fn read(zip: &[u8], end_at: usize) -> Option<Self> {
        let end = zip.get(end_at..)?;
        let mut entries = u64::from(u16_at(end, 10)?);
        let mut size = u64::from(u32_at(end, 12)?);
        let mut offset = u64::from(u32_at(end, 16)?);
        let mut stop = end_at;
        let full = u64::from(u32::MAX);
        if entries == u64::from(u16::MAX) || size == full || offset == full {
            // The locator's offset would count from the start of the zip proper; the record stands right before it in any case.
            let locator_at = end_at.checked_sub(LOCATOR64_BYTES)?;
            if zip.get(locator_at..)?.starts_with(&LOCATOR64) {
                stop = locator_at.checked_sub(56)?;
                let end64 = zip.get(stop..).filter(|e| e.starts_with(&END64))?;
                entries = u64_at(end64, 32)?;
                size = u64_at(end64, 40)?;
                offset = u64_at(end64, 48)?;
            }
        }
        let start = u64::try_from(stop).ok()?.checked_sub(size)?;
        let shift = start.checked_sub(offset)?;
        Some(Self { start: usize::try_from(start).ok()?, end: stop, entries, shift })
    }
}

/// Reads one entry and moves on to the next.
fn take_entry<'a>(rest: &mut &'a [u8], shift: u64) -> Option<Entry<'a>> {
    let (head, after) = rest.split_first_chunk::<CENTRAL_BYTES>()?;
    if !head.starts_with(&CENTRAL) {
        return None;
    }
    let (name, after) = after.split_at_checked(u16_at(head, 28)?.into())?;
    let (extra, after) = after.split_at_checked(u16_at(head, 30)?.into())?;
    let (_comment, after) = after.split_at_checked(u16_at(head, 32)?.into())?;
    *rest = after;

    let mut wide = Wide(extra64(extra));
    let size_bytes = wide.figure(u32_at(head, 24)?)?;
    let packed_bytes = wide.figure(u32_at(head, 20)?)?;
    let local = wide.figure(u32_at(head, 42)?)?.checked_add(shift)?;
    Some(Entry {
        name,
        method: u16_at(head, 10)?,
        crc: u32_at(head, 16)?,
        size_bytes,
        packed_bytes,
        flags: u16_at(head, 8)?,
        // The upper half holds a mode where Unix wrote it; elsewhere it is zero.
        mode: u32_at(head, 38)? >> 16,
        local,
    })
}

/// The 64-bit figures of an entry, in the order of the narrow ones they stand for.
struct Wide<'a>(&'a [u8]);

impl Wide<'_> {
    /// The figure itself, or the next wide one if it says that it did not fit.
    fn figure(&mut self, narrow: u32) -> Option<u64> {
        if narrow != u32::MAX {
            return Some(narrow.into());
        }
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }
}

/// The content of the extra field with the 64-bit figures; empty if there is none.
fn extra64(mut extra: &[u8]) -> &[u8] {
    while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((field, rest)) =
            extra.get(4..).and_then(|after| after.split_at_checked(length.into()))
        else {
            break;
        };
        if id == EXTRA64 {
            return field;
        }
        extra = rest;
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
