//! Picks the files that go into a package.
//!
//! A `.hanshuignore` at the top of the folder decides alone; without one, `.gitignore` files do. Either way `exclude` of
//! `hanshu.toml` counts too, and `node_modules` stays in (a package without its modules does not run) unless npm fills it anew.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ignore::overrides::{Override, OverrideBuilder};
use ignore::{DirEntry, WalkBuilder};

use super::manifest;
use crate::cli::failure::CliError;

const OWN_IGNORE_FILE: &str = ".hanshuignore";

/// Never part of a package: version control, caches that differ on every machine, our own files, a daemon's data folder.
const NEVER: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".DS_Store",
    ".gitignore",
    "__pycache__",
    "hanshu-data",
    manifest::FILE_NAME,
    OWN_IGNORE_FILE,
];

/// One file of a package.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its path in the package, with slashes.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Whether it may be executed.
    pub executable: bool,
    /// Its size.
    pub bytes: u64,
}

impl Entry {
    /// The file at `path`, to be called `name` in the package.
    pub(crate) fn of_file(name: &str, path: &Path) -> anyhow::Result<Self> {
        let meta = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        if !meta.is_file() {
            return Err(CliError::new(format!("{} is no regular file", path.display())).into());
        }
        let executable = meta.permissions().mode() & 0o111 != 0;
        Ok(Self { name: name.to_owned(), path: path.to_owned(), executable, bytes: meta.len() })
    }
}

/// What is left out of the sources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// Patterns of `hanshu.toml`.
    pub exclude: &'a [String],
    /// Leave `node_modules` at the top out.
    pub without_node_modules: bool,
}

/// The files a person wants in the package, sorted by name.
pub(crate) fn sources(root: &Path, rules: &Rules<'_>) -> anyhow::Result<Vec<Entry>> {
    let overrides = overrides(root, rules.exclude)?;
    let own = root.join(OWN_IGNORE_FILE).is_file();
    let mut walk = plain_walk(root, &overrides);
    if own {
        walk.add_custom_ignore_filename(OWN_IGNORE_FILE);
    } else {
        walk.git_ignore(true).require_git(false);
    }
    let modules = root.join("node_modules");
    let top_modules = modules.clone();
    walk.filter_entry(move |e| wanted(e) && e.path() != top_modules);
    let mut entries = entries(root, &walk)?;
    if !rules.without_node_modules && modules.is_dir() {
        let mut walk = plain_walk(&modules, &overrides);
        walk.filter_entry(wanted);
        entries.extend(self::entries(root, &walk)?);
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Every file of a folder that holds a copy with its packages installed, sorted by name.
pub(crate) fn everything(root: &Path, exclude: &[String]) -> anyhow::Result<Vec<Entry>> {
    let mut walk = plain_walk(root, &overrides(root, exclude)?);
    walk.filter_entry(wanted);
    let mut entries = entries(root, &walk)?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Copies files into a folder of ours, modes included.
pub(crate) fn copy(entries: &[Entry], to: &Path) -> anyhow::Result<()> {
    for entry in entries {
        let target = to.join(&entry.name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        fs::copy(&entry.path, &target)
            .with_context(|| format!("copying {}", entry.path.display()))?;
    }
    Ok(())
}

fn overrides(root: &Path, exclude: &[String]) -> anyhow::Result<Override> {
    let mut builder = OverrideBuilder::new(root);
    for pattern in exclude {
        // In an override a leading `!` means: leave out.
        builder.add(&format!("!{pattern}")).map_err(|e| {
            CliError::new(format!("{}: exclude {pattern:?} is not valid: {e}", manifest::FILE_NAME))
        })?;
    }
    Ok(builder.build()?)
}

/// A walk that knows no ignore files, follows links and sees hidden files.
fn plain_walk(root: &Path, overrides: &Override) -> WalkBuilder {
    let mut walk = WalkBuilder::new(root);
    walk.standard_filters(false).follow_links(true).overrides(overrides.clone());
    walk
}

fn wanted(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let is_bin_of_modules = || {
        let parent = entry.path().parent().and_then(Path::file_name);
        // Links to scripts for a shell's PATH; copies of them would not find their siblings.
        name == ".bin" && parent == Some(OsStr::new("node_modules"))
    };
    entry.depth() == 0 || !(NEVER.iter().any(|n| name == *n) || is_bin_of_modules())
}

fn entries(root: &Path, walk: &WalkBuilder) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for found in walk.build() {
        let found = found.with_context(|| format!("reading {}", root.display()))?;
        if found.file_type().is_none_or(|t| t.is_dir()) {
            if found.path_is_symlink() {
                refuse_outside(root, found.path())?;
            }
            continue;
        }
        if found.path_is_symlink() {
            refuse_outside(root, found.path())?;
        }
        let relative = found.path().strip_prefix(root).unwrap_or(found.path());
        let name = relative.to_str().with_context(|| {
            format!("the name of {} is not valid UTF-8", found.path().display())
        })?;
        entries.push(Entry::of_file(name, found.path())?);
    }
    Ok(entries)
}

/// A link may lead to another place of the folder: the package then holds a copy. Beyond it lie files nobody meant to deploy.
fn refuse_outside(root: &Path, link: &Path) -> anyhow::Result<()> {
    let target = fs::canonicalize(link).with_context(|| format!("following {}", link.display()))?;
    let root = fs::canonicalize(root).with_context(|| format!("reading {}", root.display()))?;
    if target.starts_with(&root) {
        return Ok(());
    }
    Err(CliError::new(format!("{} is a link to a place outside the folder", link.display()))
        .hint("copy what it leads to into the folder, or leave it out by `exclude` in hanshu.toml")
        .into())
}
