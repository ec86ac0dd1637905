//! The files of the checkout, read once for all rules.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

use crate::shell;

/// Every file that is or would be committed, by its path from the root; `None` for what is no text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads what git tracks, and what it would take in: new files are checked before they are committed.
    pub(crate) fn of_checkout() -> Result<Self> {
        let mut git = shell::command("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let list = shell::capture(&mut git)?;
        let mut files = BTreeMap::new();
        for path in list.split('\0').filter(|p| !p.is_empty()) {
            let file = shell::root().join(path);
            // Deleted but not yet from the index, or a link, which has no text of its own.
            if !fs::symlink_metadata(&file).is_ok_and(|m| m.is_file()) {
                continue;
            }
            let bytes = fs::read(&file).with_context(|| format!("cannot read {path}"))?;
            files.insert(path.to_owned(), String::from_utf8(bytes).ok());
        }
        Ok(Self { files })
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is such a file, or a folder with a file in it.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .range(folder.clone()..)
                .next()
                .is_some_and(|(p, _)| p.starts_with(&folder))
    }

    /// All text files with their text, by path.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text files whose path ends in `ending`.
    pub(crate) fn ending<'a>(
        &'a self,
        ending: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts().filter(move |(path, _)| path.ends_with(ending))
    }
}

#[cfg(test)]
impl Tree {
    /// A tree for a test.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), Some((*text).to_owned()));
        Self { files: files.iter().map(own).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_there_when_a_file_is_in_them() {
        let tree = Tree::of(&[("docs/adr/README.md", ""), ("docs/adr-x.md", "")]);
        assert!(tree.has("docs") && tree.has("docs/adr/") && tree.has("docs/adr/README.md"));
        assert!(!tree.has("doc") && !tree.has("docs/adr/README") && !tree.has("docs/ad"));
    }

    #[test]
    fn the_checkout_has_this_file() {
        let tree = Tree::of_checkout().unwrap();
        assert!(
            tree.text("xtask/src/tidy/tree.rs").unwrap().contains("fn the_checkout_has_this_file")
        );
        assert!(tree.texts().all(|(path, _)| !path.starts_with("target/")));
    }
}
