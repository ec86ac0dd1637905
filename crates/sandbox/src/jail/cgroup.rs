//! Control groups: a memory, process and CPU limit for an instance as a whole, where the host lets us.
//!
//! [`Groups::open`] finds out what there is, once; [`Groups::create`] makes a [`Group`] per instance. Version 2 is used where the memory controller
//! is delegated to the daemon's own group, else version 1 hierarchies that the daemon may write to, else nothing: then an instance is
//! limited by `setrlimit` alone and what is lost stands in [`Groups::features`].
//!
//! All calls here are file operations on a kernel file system. Making and removing groups takes the kernel's locks, so it is kept off async
//! threads; [`Group::memory`] reads counters, which waits for nothing.

mod detect;
mod features;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::spec::Attach;

/// Names of the daemon's parent groups start so; its process id follows.
const PARENT_PREFIX: &str = "hanshu-";
/// CPU weight of a group of [`CPU_FULL_MB`]: the default weight of version 1 (`cpu.shares`).
const CPU_SHARES_FULL: u64 = 1024;
/// Memory for which an instance gets the weight of one ordinary process, in MiB (AWS Lambda gives one CPU at 1 769 MB).
const CPU_FULL_MB: u64 = 1769;

/// The limits of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    /// Memory of everything in the group, swap and `/tmp` included, in MiB.
    pub(crate) memory_mb: u32,
    /// Processes and threads.
    pub(crate) processes: u32,
}

/// What a group used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// Most memory ever, in bytes.
    pub(crate) peak_bytes: Option<u64>,
    /// How often the kernel killed a process of it for being over the limit.
    pub(crate) oom_kills: u64,
}

/// Where groups are made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// One folder, under the unified hierarchy.
    V2 { parent: PathBuf, cpu: bool, pids: bool },
    /// A folder per controller.
    V1 { memory: PathBuf, pids: Option<PathBuf>, cpu: Option<PathBuf> },
    /// Nowhere; why.
    None { reason: String },
}

/// The daemon's groups.
#[derive(Debug)]
pub(crate) struct Groups {
    layout: Layout,
}

impl Groups {
    /// Finds out what the host offers, makes the daemon's parent group there and removes those of daemons that are gone.
    pub(crate) fn open() -> Self {
        Self { layout: detect::detect(Path::new("/proc")) }
    }

    /// Whether memory is limited for an instance as a whole.
    pub(crate) fn limits_memory(&self) -> bool {
        !matches!(self.layout, Layout::None { .. })
    }

    /// Makes a group; `None` where there are none to be had.
    pub(crate) fn create(&self, name: &str, limits: GroupLimits) -> io::Result<Option<Group>> {
        let group = match &self.layout {
            Layout::None { .. } => return Ok(None),
            Layout::V2 { parent, .. } => {
                Group { memory: parent.join(name), others: Vec::new(), unified: true }
            }
            Layout::V1 { memory, pids, cpu } => Group {
                memory: memory.join(name),
                others: [pids, cpu].into_iter().flatten().map(|p| p.join(name)).collect(),
                unified: false,
            },
        };
        match self.fill(&group, limits) {
            Ok(()) => Ok(Some(group)),
            Err(e) => {
                // The first error is the one to report.
                group.remove().unwrap_or_default();
                Err(e)
            }
        }
    }

    fn fill(&self, group: &Group, limits: GroupLimits) -> io::Result<()> {
        for folder in group.folders() {
            fs::create_dir(folder)?;
        }
        let bytes = (u64::from(limits.memory_mb) << 20).to_string();
        let processes = limits.processes.to_string();
        let shares = (CPU_SHARES_FULL * u64::from(limits.memory_mb) / CPU_FULL_MB).max(16);
        match &self.layout {
            Layout::V2 { cpu, pids, .. } => {
                let at = &group.memory;
                fs::write(at.join("memory.max"), &bytes)?;
                write_if_there(&at.join("memory.swap.max"), "0")?;
                if *pids {
                    fs::write(at.join("pids.max"), &processes)?;
                }
                if *cpu {
                    // The range is 1 to 10 000 with 100 for an ordinary process.
                    let weight = (shares * 100 / CPU_SHARES_FULL).clamp(1, 10_000);
                    fs::write(at.join("cpu.weight"), weight.to_string())?;
                }
            }
            Layout::V1 { pids, cpu, .. } => {
                fs::write(group.memory.join("memory.limit_in_bytes"), &bytes)?;
                // Memory and swap together; absent where the kernel does not account for swap.
                write_if_there(&group.memory.join("memory.memsw.limit_in_bytes"), &bytes)?;
                let name = group.memory.file_name().unwrap_or_default();
                if let Some(pids) = pids {
                    fs::write(pids.join(name).join("pids.max"), &processes)?;
                }
                if let Some(cpu) = cpu {
                    fs::write(cpu.join(name).join("cpu.shares"), shares.to_string())?;
                }
            }
            Layout::None { .. } => {}
        }
        Ok(())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let parents: Vec<&PathBuf> = match &self.layout {
            Layout::V2 { parent, .. } => vec![parent],
            Layout::V1 { memory, pids, cpu } => {
                [Some(memory), pids.as_ref(), cpu.as_ref()].into_iter().flatten().collect()
            }
            Layout::None { .. } => Vec::new(),
        };
        for parent in parents {
            // Instances that are ending still lie in it: then the next daemon removes it.
            fs::remove_dir(parent).unwrap_or_default();
        }
    }
}

/// One instance's group. Dropping it removes it if it is empty: one that was made for a start that was given up. Otherwise
/// [`Group::remove`] has to be called, when the last process is gone.
#[derive(Debug)]
pub(crate) struct Group {
    /// The folder of the memory controller.
    memory: PathBuf,
    /// Those of the other controllers, where they are folders of their own.
    others: Vec<PathBuf>,
    unified: bool,
}

impl Group {
    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.memory].into_iter().chain(&self.others)
    }

    /// How a process gets into it.
    pub(crate) fn attach(&self) -> Attach {
        if self.unified {
            return Attach { born_in: Some(self.memory.clone()), join: Vec::new() };
        }
        // Not `cgroup.procs`: moving a whole thread group takes a lock over all of the kernel's forks and exits and waits for a grace period, 12 ms
        // measured here. A process of one thread that moves itself by `tasks` does without (kernel/cgroup, `cgroup_procs_write_start`).
        let join = self.folders().map(|folder| folder.join("tasks")).collect();
        Attach { born_in: None, join }
    }

    /// What it used so far.
    pub(crate) fn memory(&self) -> MemoryUse {
        let (peak, events) = if self.unified {
            ("memory.peak", "memory.events")
        } else {
            ("memory.max_usage_in_bytes", "memory.oom_control")
        };
        let read = |name: &str| fs::read_to_string(self.memory.join(name)).unwrap_or_default();
        MemoryUse {
            peak_bytes: read(peak).trim().parse().ok(),
            oom_kills: keyed(&read(events), "oom_kill").unwrap_or(0),
        }
    }

    /// Removes it. Fails with `ResourceBusy` while the kernel still counts something in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for folder in self.folders() {
            match fs::remove_dir(folder) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => result = Err(e),
                _ => {}
            }
        }
        result
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Mostly it is removed already.
        self.remove().unwrap_or_default();
    }
}

/// The number after `key` in a file of `key number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(k, _)| *k == key)
        .and_then(|(_, n)| n.trim().parse().ok())
}

fn write_if_there(path: &Path, value: &str) -> io::Result<()> {
    match fs::write(path, value) {
        // An ordinary open for writing creates nothing in this file system: it is refused.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_numbers_are_found() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "max"), None);
    }
}
