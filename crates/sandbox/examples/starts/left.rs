//! What there is of everything that an instance could leave behind.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// Counts, of this process and its spawner alone, so that nobody else's work on the machine shows in them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Left {
    /// Descendants of this process.
    processes: usize,
    /// Open descriptors of this process and its descendants.
    descriptors: usize,
    /// Mounts in the mount namespaces of this process and its descendants.
    mounts: usize,
    /// Control groups that this process made.
    groups: usize,
    /// Files and folders in the cache.
    files: usize,
}

impl Left {
    /// As of now.
    pub(crate) fn now(cache: &Path) -> io::Result<Self> {
        let mut family = vec![std::process::id().to_string()];
        family.extend(descendants(&family[0])?);
        let mut left = Self {
            processes: family.len() - 1,
            descriptors: 0,
            mounts: 0,
            groups: groups()?,
            files: entries(cache)?,
        };
        for pid in &family {
            left.descriptors += fs::read_dir(format!("/proc/{pid}/fd"))?.count();
            left.mounts += fs::read_to_string(format!("/proc/{pid}/mountinfo"))?.lines().count();
        }
        Ok(left)
    }
}

fn descendants(pid: &str) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(task?.path().join("children"))?;
        for child in children.split_whitespace() {
            all.push(child.to_owned());
            all.extend(descendants(child)?);
        }
    }
    Ok(all)
}

/// Folders below those control groups whose name says that they are this process's.
fn groups() -> io::Result<usize> {
    let prefix = format!("hanshu-{}-", std::process::id());
    let mut count = 0;
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        if !right.starts_with("cgroup") {
            continue;
        }
        let at = Path::new(left.split(' ').nth(4).unwrap_or("/"));
        count += named(at, &prefix);
    }
    Ok(count)
}

/// Folders somewhere below `at` whose name starts with `prefix`, with the folders in them.
fn named(at: &Path, prefix: &str) -> usize {
    let folders = fs::read_dir(at).into_iter().flatten().flatten();
    let folders = folders.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .map(|e| match e.file_name().to_string_lossy().starts_with(prefix) {
            true => 1 + named(&e.path(), ""),
            false if prefix.is_empty() => 1 + named(&e.path(), ""),
            false => named(&e.path(), prefix),
        })
        .sum()
}

fn entries(folder: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += 1;
        if entry.file_type()?.is_dir() {
            count += entries(&entry.path())?;
        }
    }
    Ok(count)
}
