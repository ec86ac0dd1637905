//! `cargo x tidy`: the rules of the house that no compiler knows.
//!
//! One module a rule: [`arrows`] (which crate may depend on which), [`lengths`] (files that grew too long), [`words`] (names we do not
//! use), [`pages`] (error codes, decision records), [`links`] (Markdown), [`leftovers`] (unfinished work, machine paths, licence).
//! Each is a function from the [`Tree`] to [`Finding`]s, so that its tests need no disk.

mod arrows;
mod leftovers;
mod lengths;
mod links;
mod pages;
mod tree;
mod words;

use std::fmt;

use anyhow::{Result, bail};

use crate::say::say;
use tree::Tree;

/// A rule that is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// From 1; 0 means the file as a whole.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }

    /// About a file as a whole.
    fn of_file(path: &str, message: impl Into<String>) -> Self {
        Self::new(path, 0, message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// A rule: everything in the tree that breaks it.
type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[Rule] = &[
    arrows::check,
    lengths::check,
    words::check,
    pages::check_errors,
    pages::check_decisions,
    links::check,
    leftovers::check,
];

/// Checks the whole tree and prints what breaks a rule.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::of_checkout()?;
    let mut findings: Vec<_> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    findings.sort();
    for finding in &findings {
        say!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings in {} files checked", findings.len(), tree.len());
    }
    say!("{} files are tidy", tree.len());
    Ok(())
}
