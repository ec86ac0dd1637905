use std::io::Write as _;

use model::clock::SystemClock;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

fn package(files: &[(&str, &[u8])]) -> Bytes {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        if name.ends_with('/') {
            zip.add_directory(*name, SimpleFileOptions::default()).unwrap();
            continue;
        }
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner().into()
}

fn changes(before: &[(&str, &[u8])], after: &[(&str, &[u8])]) -> Changes {
    compare(package(before), package(after), &SystemClock).unwrap()
}

#[test]
fn files_are_added_removed_and_modified() {
    let found = changes(
        &[("lib/", b""), ("lib/b.js", b"1\n2\n3\n4\n5\n6\n"), ("./same", b"s"), ("z", b"old\n")],
        &[("a\nb", b"new"), ("lib/b.js", b"1\n2\n3\n4\n5\nsix\n"), ("same", b"s"), ("empty/", b"")],
    );
    let all: Vec<_> = found
        .listed
        .iter()
        .map(|f| (f.path.as_str(), f.change, f.size_before, f.size_after))
        .collect();
    assert_eq!(
        all,
        [
            ("a\nb", FileChange::Added, None, Some(3)),
            ("lib/b.js", FileChange::Modified, Some(12), Some(14)),
            ("z", FileChange::Removed, Some(4), None),
        ]
    );
    let unified: Vec<&str> = found.listed.iter().map(|f| f.unified.as_deref().unwrap()).collect();
    assert_eq!(
        unified,
        [
            "--- /dev/null\n+++ \"b/a\\nb\"\n@@ -0,0 +1 @@\n+new\n\\ No newline at end of file\n",
            "--- a/lib/b.js\n+++ b/lib/b.js\n@@ -3,4 +3,4 @@\n 3\n 4\n 5\n-6\n+six\n",
            "--- a/z\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n",
        ]
    );
    assert_eq!(found.more, 0);
}

#[test]
fn only_texts_of_a_bounded_size_are_compared_by_line() {
    let long = vec![b'x'; 256 * 1024 + 1];
    let found = changes(
        &[("binary", b"a\0"), ("latin", b"\xe4"), ("long", &long), ("grows", b"a\n")],
        &[("binary", b"b\0"), ("latin", b"\xf6"), ("long", b"short"), ("grows", &long)],
    );
    assert_eq!(found.listed.len(), 4);
    assert!(found.listed.iter().all(|file| file.unified.is_none()));
}

#[test]
fn what_is_listed_and_answered_is_bounded() {
    let names: Vec<String> = (0..1_100).map(|n| format!("{n:04}")).collect();
    let line = "0123456789abcde\n".repeat(256);
    let files: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), line.as_bytes())).collect();
    let found = changes(&[], &files);
    assert_eq!((found.listed.len(), found.more), (1_000, 100));
    assert_eq!(found.listed[999].path, "0999");
    let unified = || found.listed.iter().filter_map(|file| file.unified.as_ref());
    assert!(unified().count() > 10);
    assert!(unified().map(String::len).sum::<usize>() <= UNIFIED_BYTES);
}

#[test]
fn no_text_takes_long() {
    let mut seed = 1_u64;
    let mut noise = |kinds: u64| {
        let line = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{}\n", (seed >> 33) % kinds)
        };
        (0..85_000).map(line).collect::<String>()
    };
    let blank = "\n".repeat(256 * 1024);
    let pairs = [
        (noise(2), noise(2)),
        (noise(9), noise(9)),
        (blank.clone(), "a\n\n".repeat(85_000)),
        (blank, noise(2)),
        ("a\n\n".repeat(85_000), "\na\na".repeat(64_000)),
    ];
    for (at, (old, new)) in pairs.iter().enumerate() {
        let (old, new) = (package(&[("f", old.as_bytes())]), package(&[("f", new.as_bytes())]));
        let begun = SystemClock.instant();
        let found = compare_within(Duration::from_millis(100), old, new, &SystemClock).unwrap();
        let took = SystemClock.instant() - begun;
        // The rest is what a busy machine needs for the work that is linear.
        assert!(took < Duration::from_secs(10), "{at}: {took:?}");
        assert_eq!(found.listed.len(), 1);
    }
}

#[test]
fn what_is_no_package_is_our_fault() {
    assert!(compare(Bytes::from_static(b"PK"), package(&[]), &SystemClock).is_err());
}
