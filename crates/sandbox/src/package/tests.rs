//! Good packages, each bad one, and thousands of spoiled ones.

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::*;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::*;

/// An entry as a test wants it, true or not.
#[derive(Clone)]
struct Raw {
    name: Vec<u8>,
    data: Vec<u8>,
    method: u16,
    mode: u32,
    flags: u16,
    size: Option<u32>,
    crc: Option<u32>,
}

impl Raw {
    fn file(name: impl AsRef<[u8]>, data: &[u8]) -> Self {
        let (name, data) = (name.as_ref().to_vec(), data.to_vec());
        Self { name, data, method: 0, mode: 0o100_644, flags: 0, size: None, crc: None }
    }
}

fn short(n: usize) -> [u8; 2] {
    u16::try_from(n).unwrap().to_le_bytes()
}

fn long(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap().to_le_bytes()
}

/// A zip of exactly these entries, written by hand.
fn raw_zip(entries: &[Raw]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut central = Vec::new();
    for e in entries {
        let at = out.len();
        let mut crc = Crc::new();
        crc.update(&e.data);
        let mut shared = Vec::new();
        shared.extend(short(20));
        shared.extend(e.flags.to_le_bytes());
        shared.extend(e.method.to_le_bytes());
        shared.extend([0; 4]);
        shared.extend(e.crc.unwrap_or(crc.sum()).to_le_bytes());
        shared.extend(long(e.data.len()));
        shared.extend(e.size.map_or(long(e.data.len()), u32::to_le_bytes));
        shared.extend(short(e.name.len()));
        shared.extend(short(0));
        out.extend([b"PK\x03\x04", shared.as_slice(), &e.name, &e.data].concat());
        central.extend(b"PK\x01\x02\x14\x03");
        central.extend(&shared);
        central.extend([0; 6]);
        central.extend((e.mode << 16).to_le_bytes());
        central.extend(long(at));
        central.extend(&e.name);
    }
    finish(out, &central, entries.len())
}

fn finish(mut out: Vec<u8>, central: &[u8], count: usize) -> Vec<u8> {
    let at = out.len();
    out.extend(central);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(short(count));
    out.extend(short(count));
    out.extend(long(central.len()));
    out.extend(long(at));
    out.extend(short(0));
    out
}

/// A zip as an ordinary tool makes it.
fn tool_zip(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data, mode) in files {
        let options = SimpleFileOptions::default().unix_permissions(*mode);
        writer.start_file(*name, options).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Unpacks into a folder of its own, with another one around it to see that nothing is written outside.
fn unpack_in(folder: &TempDir, zip: &[u8]) -> Result<PackageInfo> {
    unpack_bounded(folder, zip, &TIGHT)
}

/// Bounds that tests reach in milliseconds.
const TIGHT: Bounds = Bounds { entries: 1000, unpacked_bytes: 4 << 20 };

fn unpack_bounded(folder: &TempDir, zip: &[u8], bounds: &Bounds) -> Result<PackageInfo> {
    let into = folder.path().join("package");
    fs::create_dir(&into).unwrap();
    let result = unpack_within(bounds, zip, &into);
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["package"], "something was written outside");
    result
}

#[track_caller]
fn refusal(zip: &[u8]) -> (Code, String) {
    let e = unpack_in(&tempfile::tempdir().unwrap(), zip).unwrap_err();
    (e.code(), e.message().to_owned())
}

/// The package is refused as invalid, and the message holds each of `words`.
#[track_caller]
fn assert_invalid(zip: &[u8], words: &[&str]) {
    let (code, message) = refusal(zip);
    assert_eq!(code, Code::InvalidPackage, "{message}");
    for word in words {
        assert!(message.contains(word), "expected {word:?} in: {message}");
    }
}

/// Path → mode and content, folders without content.
fn tree(folder: &Path, below: &str, out: &mut BTreeMap<String, (u32, Option<Vec<u8>>)>) {
    for entry in fs::read_dir(folder.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}{}", entry.file_name().into_string().unwrap());
        let meta = entry.metadata().unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            out.insert(path.clone(), (mode, None));
            tree(folder, &format!("{path}/"), out);
        } else {
            out.insert(path, (mode, Some(fs::read(entry.path()).unwrap())));
        }
    }
}

#[test]
fn files_come_out_as_they_went_in() {
    let big = b"hello world ".repeat(50_000);
    let zip = tool_zip(&[
        ("index.js", b"exports.handler = 1", 0o600),
        ("bin/tool", b"#!/bin/sh", 0o700),
        ("lib/a/b.txt", &big, 0o644),
        ("lib/a/empty", b"", 0o644),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let info = unpack_in(&folder, &zip).unwrap();
    assert_eq!(info.digest, Digest::of(&zip));
    assert_eq!(info.unpacked_bytes, u64::try_from(19 + 9 + big.len()).unwrap());
    assert_eq!(info.entries, 7);
    let mut found = BTreeMap::new();
    tree(&folder.path().join("package"), "", &mut found);
    let file = |mode, data: &[u8]| (mode, Some(data.to_vec()));
    let expected = BTreeMap::from([
        ("bin".to_owned(), (0o755, None)),
        ("bin/tool".to_owned(), file(0o755, b"#!/bin/sh")),
        ("index.js".to_owned(), file(0o644, b"exports.handler = 1")),
        ("lib".to_owned(), (0o755, None)),
        ("lib/a".to_owned(), (0o755, None)),
        ("lib/a/b.txt".to_owned(), file(0o644, &big)),
        ("lib/a/empty".to_owned(), file(0o644, b"")),
    ]);
    assert!(found == expected, "{:?}", found.keys());
}

#[test]
fn folders_may_be_named_before_after_and_twice() {
    let folder = |name: &str| Raw { mode: 0o040_755, ..Raw::file(name, b"") };
    let zip = raw_zip(&[
        folder("./"),
        folder("a/"),
        Raw::file("./a/b/c", b"1"),
        folder("a/b/"),
        folder("a/"),
        Raw { mode: 0, ..Raw::file("plain", b"2") },
    ]);
    assert_eq!(unpack_in(&tempfile::tempdir().unwrap(), &zip).unwrap().entries, 4);
}

#[test]
fn bytes_before_the_zip_and_a_comment_after_it_are_allowed() {
    let mut zip = b"#!/bin/sh\nexit\n".to_vec();
    zip.extend(raw_zip(&[Raw::file("a", b"1")]));
    let length_at = zip.len() - 2;
    zip[length_at] = 5;
    zip.extend(b"hello");
    assert_eq!(unpack_in(&tempfile::tempdir().unwrap(), &zip).unwrap().unpacked_bytes, 1);
}

#[test]
fn zip64_is_read() {
    let mut plain = raw_zip(&[Raw::file("a", b"1")]);
    let end_at = plain.len() - END_RECORD;
    let mut end = plain.split_off(end_at);
    let (size, offset) = (end[12..16].to_vec(), end[16..20].to_vec());
    plain.extend(b"PK\x06\x06");
    plain.extend([0; 28]);
    plain.extend(1_u64.to_le_bytes());
    plain.extend([&size[..], &[0; 4], &offset, &[0; 4]].concat());
    plain.extend(b"PK\x06\x07");
    plain.extend([0; 16]);
    end[8..12].fill(0xff);
    plain.extend(end);
    assert_eq!(unpack_in(&tempfile::tempdir().unwrap(), &plain).unwrap().unpacked_bytes, 1);
}

/// Bytes of an end record without a comment.
const END_RECORD: usize = 22;

#[test]
fn what_is_no_zip_is_refused() {
    for bytes in [&b""[..], b"PK", b"hello", &[0; 4096], b"PK\x03\x04 only a head"] {
        assert_invalid(bytes, &["not a zip"]);
    }
    let whole = tool_zip(&[("index.js", b"hello", 0o644)]);
    assert_invalid(&whole[..whole.len() - 1], &["not a zip"]);
    // The list of entries is said to lie elsewhere.
    let mut spoiled = whole.clone();
    let at = whole.len() - 10;
    spoiled[at] ^= 1;
    assert_invalid(&spoiled, &["damaged"]);
}

#[test]
fn empty_packages_are_refused_with_a_hint() {
    for zip in [raw_zip(&[]), raw_zip(&[Raw { mode: 0, ..Raw::file("./", b"") }])] {
        let e = unpack_in(&tempfile::tempdir().unwrap(), &zip).unwrap_err();
        assert_eq!(e.code(), Code::InvalidPackage);
        assert!(e.message().contains("empty") && e.hint().is_some());
    }
}

#[test]
fn paths_that_lead_outside_are_refused() {
    for (name, rule) in [
        ("../evil", "'..'"),
        ("a/../../evil", "'..'"),
        ("/etc/evil", "absolute"),
        ("a\\..\\..\\evil", "backslash"),
        ("..\\evil", "backslash"),
        ("nul\0.js", "NUL"),
    ] {
        let shown = name.escape_debug().to_string();
        assert_invalid(&raw_zip(&[Raw::file(name, b"x")]), &[&shown, rule]);
    }
    assert_invalid(&raw_zip(&[Raw::file("a/".repeat(600) + "b", b"x")]), &["1024"]);
    assert_invalid(&raw_zip(&[Raw::file([b'a', 0xff], b"x")]), &["UTF-8"]);
}

#[test]
fn links_and_devices_are_refused() {
    for (mode, rule) in [
        (0o120_777, "symbolic link"),
        (0o020_666, "device"),
        (0o060_666, "device"),
        (0o010_666, "pipe"),
        (0o140_777, "socket"),
    ] {
        let entry = Raw { mode, ..Raw::file("link", b"/etc/passwd") };
        assert_invalid(&raw_zip(&[entry]), &["'link'", rule]);
    }
}

#[test]
fn entries_that_collide_are_refused() {
    let file = |name: &str| Raw::file(name, b"x");
    let folder = |name: &str| Raw::file(name, b"");
    for (first, second, rule) in [
        (file("a"), file("a"), "twice"),
        (file("a"), file("./a"), "twice"),
        (file("a"), file("a/b"), "file"),
        (file("a"), file("a/b/c"), "file"),
        (file("a"), folder("a/"), "twice"),
        (file("a/b"), file("a"), "folder"),
        (folder("a/"), file("a"), "folder"),
    ] {
        assert_invalid(&raw_zip(&[first, second]), &["entry", rule]);
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let entry = Raw::file("a", b"hello");
    assert_invalid(&raw_zip(&[Raw { flags: 1, ..entry.clone() }]), &["'a'", "encrypted"]);
    assert_invalid(&raw_zip(&[Raw { method: 12, ..entry.clone() }]), &["'a'", "method 12"]);
    assert_invalid(&raw_zip(&[Raw { method: 8, ..entry.clone() }]), &["'a'", "inflated"]);
    assert_invalid(&raw_zip(&[Raw { crc: Some(1), ..entry.clone() }]), &["'a'", "checksum"]);
    assert_invalid(&raw_zip(&[Raw { size: Some(4), ..entry.clone() }]), &["'a'", "size"]);
    assert_invalid(&raw_zip(&[Raw { mode: 0o040_755, ..entry.clone() }]), &["'a'", "'/'"]);
    assert_invalid(&raw_zip(&[Raw::file("a/", b"hello")]), &["'a/'", "folder with a content"]);
    let mut zip = raw_zip(&[entry]);
    zip[0] = b'X';
    assert_invalid(&zip, &["'a'", "not in the package"]);
}

#[test]
fn a_bomb_is_stopped_by_what_comes_out_of_it() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let zeros = vec![0; 1 << 20];
    for name in ["a", "b"] {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        for _ in 0..3 {
            writer.write_all(&zeros).unwrap();
        }
    }
    let mut zip = writer.finish().unwrap().into_inner();
    assert!(zip.len() < 1 << 20);
    // It even claims to be small.
    let central = zip.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    zip[central + 24..central + 28].copy_from_slice(&long(5));
    let (code, message) = refusal(&zip);
    assert_eq!(code, Code::PackageTooLarge);
    assert!(message.contains("'b'") && message.contains("4194304"), "{message}");
}

#[test]
fn the_platforms_bounds_are_those_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let zip = tool_zip(&[("big", &vec![b'x'; 5 << 20], 0o644)]);
    assert_eq!(unpack(&zip, folder.path()).unwrap().unpacked_bytes, 5 << 20);
    assert_eq!(Bounds::PLATFORM.unpacked_bytes, limits::UNPACKED_BYTES);
    assert_eq!(Bounds::PLATFORM.entries, limits::PACKAGE_ENTRIES);
}

#[test]
fn packages_over_the_packed_limit_are_refused() {
    let e = unpack(&vec![0; limits::PACKAGE_BYTES + 1], Path::new("/nonexistent")).unwrap_err();
    assert_eq!(e.code(), Code::PackageTooLarge);
}

#[test]
fn entries_that_share_their_bytes_are_refused() {
    let data = vec![b'x'; 10_000];
    let one = raw_zip(&[Raw::file("a", &data)]);
    let central_at = one.len() - END_RECORD - 47;
    let (body, central) = (&one[..central_at], &one[central_at..central_at + 47]);
    let mut list = Vec::new();
    for name in b'a'..b'd' {
        list.extend(&central[..46]);
        list.push(name);
    }
    assert_invalid(&finish(body.to_vec(), &list, 3), &["'b'", "overlaps"]);
}

#[test]
fn too_many_entries_are_refused_whether_listed_or_implied() {
    let mut claims = raw_zip(&[Raw::file("a", b"1")]);
    let end_at = claims.len() - END_RECORD;
    claims[end_at + 8..end_at + 12].copy_from_slice(&[0xfe; 4]);
    assert_invalid(&claims, &["damaged"]);
    // Few files, but each below hundreds of folders of its own.
    let deep: Vec<_> =
        (0..210).map(|i| Raw::file(format!("{i:03}{}", "/d".repeat(500)), b"x")).collect();
    assert_invalid(&raw_zip(&deep), &["one too many", "1000 files"]);
}

#[test]
fn a_full_disk_is_said() {
    let entry = Entry::of_name(b"a");
    let e = cannot_write(io::Error::from_raw_os_error(libc::ENOSPC), &entry);
    assert_eq!(e.code(), Code::StorageFull);
    let e = cannot_write(io::Error::from_raw_os_error(libc::EDQUOT), &entry);
    assert_eq!(e.code(), Code::StorageFull);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn spoiled_packages_never_panic_nor_write_outside(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        tool in any::<bool>(),
    ) {
        let mut zip = if tool {
            tool_zip(&[("index.js", b"hello hello hello", 0o644), ("a/b", b"x", 0o755)])
        } else {
            raw_zip(&[Raw::file("a/b", b"hello"), Raw::file("../c", b"1"), Raw::file("d", b"2")])
        };
        for (at, to) in changes {
            let at = at.index(zip.len());
            zip[at] = to;
        }
        if let Some(cut) = cut {
            zip.truncate(cut.index(zip.len()));
        }
        if let Err(e) = unpack_in(&tempfile::tempdir().unwrap(), &zip) {
            prop_assert!(matches!(e.code(), Code::InvalidPackage | Code::PackageTooLarge), "{e}");
        }
    }
}
