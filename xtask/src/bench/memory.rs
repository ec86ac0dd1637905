//! What processes hold of the memory, and what the kernel charges their control groups with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Where control groups are: of memory in version 1, all in version 2.
const GROUPS: [(&str, &str, &str); 2] = [
    ("memory", "/sys/fs/cgroup/memory", "memory.usage_in_bytes"),
    ("", "/sys/fs/cgroup", "memory.current"),
];

/// A process's part, by its `/proc/PID/smaps_rollup` (proc(5)), in MB (10^6 bytes).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// Resident pages, those that several processes share divided among them.
    pub(super) pss_mb: f64,
    /// Of these what it has alone and has written to.
    pub(super) dirty_mb: f64,
    /// Of these what it has alone and could be read from a file again.
    pub(super) clean_mb: f64,
}

impl Held {
    /// A process's; nothing for one that ends just now.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let file = format!("/proc/{pid}/smaps_rollup");
        match fs::read_to_string(&file) {
            Ok(text) if text.is_empty() => Ok(Self::default()),
            Ok(text) => Self::parse(&text),
            // A process that has ended and was not waited for has no memory.
            Err(e) if e.raw_os_error() == Some(3) => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read {file}")),
        }
    }

    fn parse(rollup: &str) -> Result<Self> {
        let field = |name: &str| {
            let line = rollup.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
            let kib: u32 = line
                .and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok())
                .with_context(|| format!("/proc/PID/smaps_rollup has no {name}"))?;
            // It counts in KiB.
            Ok::<f64, anyhow::Error>(f64::from(kib) * 1024.0 / 1e6)
        };
        Ok(Self {
            pss_mb: field("Pss")?,
            dirty_mb: field("Private_Dirty")?,
            clean_mb: field("Private_Clean")?,
        })
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            pss_mb: self.pss_mb + other.pss_mb,
            dirty_mb: self.dirty_mb + other.dirty_mb,
            clean_mb: self.clean_mb + other.clean_mb,
        }
    }
}

/// All that a process has started and what that has started.
pub(super) fn descendants(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut waiting = children(pid).context("the process is gone")?;
    while let Some(child) = waiting.pop() {
        found.push(child);
        // It may end while it is looked at.
        waiting.extend(children(child).unwrap_or_default());
    }
    Ok(found)
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let listed = fs::read_to_string(task?.path().join("children"))?;
        children.extend(listed.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    Ok(children)
}

/// What the kernel charges the control groups of these processes with, in MB, and how many groups they are; `except` is the group of somebody else.
pub(super) fn charged_mb(pids: &[u32], except: u32) -> Result<(f64, usize)> {
    let other = group(except);
    let groups: BTreeSet<PathBuf> = pids.iter().filter_map(|pid| group(*pid)).collect();
    let groups: Vec<&PathBuf> = groups.iter().filter(|g| Some(*g) != other.as_ref()).collect();
    let mut bytes: u64 = 0;
    for group in &groups {
        let text = fs::read_to_string(group).with_context(|| format!("{}", group.display()))?;
        bytes += text.trim().parse::<u64>().context("expected a number of bytes")?;
    }
    // In KiB, which are exact.
    Ok((f64::from(u32::try_from(bytes >> 10)?) * 1024.0 / 1e6, groups.len()))
}

/// The file with the charge of a process's control group.
fn group(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    GROUPS.iter().find_map(|(controller, root, file)| {
        let path = text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (of, path) = (parts.next()?, parts.next()?);
            of.split(',').any(|c| c == *controller).then_some(path)
        })?;
        let file = Path::new(root).join(path.trim_start_matches('/')).join(file);
        file.exists().then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::child::Running;
    use crate::shell;

    #[test]
    fn memory_is_read_in_mb() {
        let text = "Rss:  50000 kB\nPss:               39062 kB\nPss_Dirty: 1 kB\n\
                    Private_Clean: 1000 kB\nPrivate_Dirty: 2000 kB\n";
        let held = Held::parse(text).unwrap();
        assert!((held.pss_mb - 40.0).abs() < 0.01 && held.dirty_mb > 2.0, "{held:?}");
        Held::parse("Rss: 1 kB\n").unwrap_err();
    }

    #[test]
    fn children_of_children_are_found() {
        let mut sh = shell::command("sh");
        // The child itself says that it runs: while it still executes its program it has next to no memory.
        sh.args(["-c", "sh -c 'sleep 60 & echo $$; while :; do :; done' & wait"]);
        let (running, child) = Running::start_server(&mut sh).unwrap();
        let all = descendants(running.id()).unwrap();
        assert!(all.len() == 2 && all.contains(&child.parse().unwrap()), "{all:?}");
        assert!(Held::of(child.parse().unwrap()).unwrap().pss_mb > 0.1);
        for pid in all {
            assert!(shell::succeeds(shell::command("kill").arg(pid.to_string())));
        }
    }
}
