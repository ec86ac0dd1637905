//! Files that grew too long to be read in one sitting.

use super::{Finding, Tree};

/// Most lines of a Rust file, not counting its test modules.
const MAX_LINES: usize = 600;

/// Rust files over [`MAX_LINES`]. Folders named `tests` are left out: a scenario may be long.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let product = |path: &str| !path.split('/').any(|part| part == "tests" || part == "tests.rs");
    tree.ending(".rs")
        .filter(|(path, _)| product(path))
        .filter_map(|(path, text)| {
            let lines = lines_without_tests(text);
            (lines > MAX_LINES).then(|| {
                let message = format!(
                    "{lines} lines without its tests, expected at most {MAX_LINES}: split it"
                );
                Finding::of_file(path, message)
            })
        })
        .collect()
}

/// Counts the lines that lie outside of `#[cfg(test)] mod … { … }`.
///
/// Relies on rustfmt: the closing brace of a module stands alone, as deep as the attribute.
fn lines_without_tests(text: &str) -> usize {
    let mut count = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            count += 1;
            continue;
        }
        let Some(indent) = line.strip_suffix("#[cfg(test)]") else {
            continue;
        };
        let end = format!("{indent}}}");
        let mut item = lines.by_ref().skip_while(|l| l.trim().starts_with("#["));
        if item.next().is_some_and(|l| l.trim_end().ends_with('{')) {
            // Skips up to and with the closing brace.
            lines.by_ref().find(|l| *l == end);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTED: &str = "fn a() {}\n\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";

    #[test]
    fn test_modules_do_not_count() {
        assert_eq!(lines_without_tests(TESTED), 3);
        assert_eq!(lines_without_tests("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 1);
        assert_eq!(lines_without_tests("mod m {\n    #[cfg(test)]\n    mod t {\n    }\n}\n"), 2);
        assert_eq!(lines_without_tests("fn a() {\n}\n"), 2);
    }

    #[test]
    fn only_product_code_over_the_cap_is_found() {
        let long = "// line\n".repeat(MAX_LINES + 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let fits = "// line\n".repeat(MAX_LINES);
        let tree = Tree::of(&[
            ("crates/a/src/long.rs", &long),
            ("crates/a/src/fits.rs", &fits),
            ("crates/a/src/tested.rs", &tests),
            ("crates/a/tests/it/long.rs", &long),
            ("docs/long.md", &long),
        ]);
        let found = check(&tree);
        assert!(matches!(&*found, [f] if f.path == "crates/a/src/long.rs"), "{found:?}");
    }
}
