//! Unfinished work, paths of somebody's machine, and a licence that went missing.

use super::{Finding, Tree};

/// Marks of unfinished work. Written in two parts, so that this file does not find itself.
const UNFINISHED: &[&str] =
    &[concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];
/// Folders that exist on one machine only.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];
/// Files that may name one of them, and why.
const MACHINE_PATHS_MEANT: &[(&str, &str)] =
    &[("crates/sandbox/tests/", "functions are shown not to see the home of root")];

/// Everything of the three kinds.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        let meant = MACHINE_PATHS_MEANT.iter().any(|(prefix, _)| path.starts_with(prefix));
        for (number, line) in (1..).zip(text.lines()) {
            for mark in UNFINISHED.iter().filter(|mark| line.contains(**mark)) {
                findings.push(Finding::new(path, number, format!("{mark} is unfinished work")));
            }
            for machine in MACHINE_PATHS.iter().filter(|m| !meant && starts_a_path(line, m)) {
                findings.push(Finding::new(
                    path,
                    number,
                    format!("{machine} is a path of one machine"),
                ));
            }
        }
    }
    if !tree.text("LICENSE").is_some_and(|text| text.contains("Apache License")) {
        findings.push(Finding::of_file("LICENSE", "expected the Apache License"));
    }
    findings
}

/// Whether `folder` occurs as the start of a path, not within a longer one.
fn starts_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        before.is_none_or(|c| !(c.is_alphanumeric() || "._-}/".contains(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LICENSE: (&str, &str) = ("LICENSE", "Apache License\n");

    #[test]
    fn each_kind_is_found_with_its_line() {
        for (text, word) in [
            (concat!("// FIX", "ME: later"), "unfinished"),
            (concat!("    todo", "!()"), "unfinished"),
            (concat!("unimplemented", "!(\"x\")"), "unfinished"),
            (concat!("see /wo", "rk/main"), "one machine"),
            (concat!("\"/ro", "ot/.cache\""), "one machine"),
        ] {
            let text = format!("fine\n{text}\n");
            let found = check(&Tree::of(&[LICENSE, ("a.rs", &text)]));
            assert!(matches!(&*found, [f] if f.line == 2 && f.message.contains(word)), "{found:?}");
        }
    }

    #[test]
    fn paths_within_paths_and_declared_files_pass() {
        let within = concat!("$tmp}/wo", "rk/x target/wo", "rk/y a/ro", "ot/b\n");
        let denied = concat!("\"/ro", "ot/.ssh\"\n");
        let tree =
            Tree::of(&[LICENSE, ("a.rs", within), ("crates/sandbox/tests/it/files.rs", denied)]);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn the_licence_has_to_be_there() {
        assert_eq!(check(&Tree::of(&[])).len(), 1);
        assert_eq!(check(&Tree::of(&[("LICENSE", "All rights reserved")])).len(), 1);
    }
}
