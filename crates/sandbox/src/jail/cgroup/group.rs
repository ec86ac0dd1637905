//! One instance's group: its limits, what it used, its end.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::hurry::{Hurry, Lane};
use super::{FREEZE, Layout};
use crate::jail::spec::Attach;
use crate::jail::sys;

/// Version 1 weights (`cpu.shares`) for one of version 2 (`cpu.weight`): an ordinary process has 1 024 and 100.
const SHARES_PER_100_WEIGHT: u64 = 1024;
/// The least `cpu.shares` that is set, so that a small function next to a busy host still moves.
const SHARES_MIN: u64 = 16;
/// The file that makes a group idle, of either version (kernel/sched/core.c, `cpu_idle_write_s64`).
pub(super) const IDLE: &str = "cpu.idle";
/// The period of a ceiling on processor time, in microseconds (the kernel's default).
const PERIOD_US: u64 = 100_000;

/// The limits of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupLimits {
    /// Memory of everything in the group, swap and `/tmp` included, in MiB.
    pub(crate) memory_mb: u32,
    /// Processes and threads.
    pub(crate) processes: u32,
    /// Weight against the other instances when processors are short, in the unit of version 2.
    pub(crate) cpu_weight: u32,
    /// Most processor time, in thousandths of a processor.
    pub(crate) cpu_millis: Option<u32>,
    /// Whether it gets only what no other instance wants of the processors, and leaves them at once to one that wakes up. Where the kernel cannot do that
    /// (before Linux 5.15), it has the weight.
    pub(crate) idle: bool,
}

impl GroupLimits {
    fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_mb) << 20
    }

    /// Processor time in one period, in microseconds.
    fn quota_us(&self) -> Option<u64> {
        self.cpu_millis.map(|millis| u64::from(millis) * PERIOD_US / 1000)
    }
}

/// A weight in the unit of version 1.
fn shares(cpu_weight: u32) -> u64 {
    (u64::from(cpu_weight) * SHARES_PER_100_WEIGHT / 100).max(SHARES_MIN)
}

/// What a group used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// Most memory ever, in bytes.
    pub(crate) peak_bytes: Option<u64>,
    /// How often the kernel killed a process of it for being over the limit.
    pub(crate) oom_kills: u64,
}

/// One instance's group. Dropping it removes it if it is empty: one that was made for a start that was given up. Otherwise
/// [`Group::remove`] has to be called, when the last process is gone.
#[derive(Debug)]
pub(crate) struct Group {
    /// The folder of the memory controller.
    memory: PathBuf,
    /// Where the number of processes is limited.
    pids: Option<PathBuf>,
    /// Where processor time is limited.
    cpu: Option<PathBuf>,
    /// The version 2 group that freezes it.
    freezer: Option<PathBuf>,
    unified: bool,
    limits: GroupLimits,
    lane: Option<Arc<Lane>>,
    /// Told by the kernel that memory has run out, where the kernel does not end the whole group itself.
    oom: Option<OwnedFd>,
}

impl Group {
    /// Makes the folders and sets the limits. What was made goes again if that fails.
    pub(super) fn make(
        layout: &Layout,
        lane: Option<&Arc<Lane>>,
        name: &str,
        limits: GroupLimits,
    ) -> io::Result<Option<Self>> {
        let in_it = |folder: &PathBuf| folder.join(name);
        let mut group = match layout {
            Layout::None { .. } => return Ok(None),
            Layout::V2 { parent, cpu, pids } => {
                let folder = parent.join(name);
                Self {
                    pids: pids.then(|| folder.clone()),
                    cpu: cpu.then(|| folder.clone()),
                    freezer: Some(folder.clone()),
                    memory: folder,
                    unified: true,
                    limits,
                    lane: lane.cloned(),
                    oom: None,
                }
            }
            Layout::V1 { memory, pids, cpu, freezer } => Self {
                memory: in_it(memory),
                pids: pids.as_ref().map(in_it),
                cpu: cpu.as_ref().map(in_it),
                freezer: freezer.as_ref().map(in_it),
                unified: false,
                limits,
                lane: lane.cloned(),
                oom: None,
            },
        };
        for folder in group.folders() {
            fs::create_dir(folder)?;
        }
        if !group.unified {
            group.oom = Some(watch_oom(&group.memory)?);
        }
        group.fill(None)?;
        Ok(Some(group))
    }

    /// Gives it other limits. Fails where what is in it takes more already.
    pub(crate) fn change(&mut self, limits: GroupLimits) -> io::Result<()> {
        let before = std::mem::replace(&mut self.limits, limits);
        if before == limits { Ok(()) } else { self.fill(Some(before)) }
    }

    /// Sets the limits; `before` are those that it has: what stays as it is costs nothing then.
    fn fill(&self, before: Option<GroupLimits>) -> io::Result<()> {
        let now = &self.limits;
        if before.is_some_and(|before| before.cpu_millis.is_some()) {
            self.lift_ceiling()?;
        }
        if before.is_none_or(|before| before.memory_mb != now.memory_mb) {
            // Memory alone may never have a higher limit than memory and swap together.
            let raised = before.is_some_and(|before| before.memory_mb < now.memory_mb);
            if self.unified { self.fill_memory_v2()? } else { self.fill_memory_v1(raised)? }
        }
        if let Some(pids) = &self.pids
            && before.is_none_or(|before| before.processes != now.processes)
        {
            fs::write(pids.join("pids.max"), now.processes.to_string())?;
        }
        let Some(cpu) = &self.cpu else { return Ok(()) };
        let ceiling = now.quota_us().map(|quota| self.fill_ceiling(cpu, quota));
        ceiling.transpose()?;
        let was_idle = before.is_some_and(|before| before.idle);
        if was_idle != now.idle {
            write_if_there(&cpu.join(IDLE), if now.idle { "1" } else { "0" })?;
        }
        // The kernel refuses a weight for what is idle.
        if now.idle && cpu.join(IDLE).exists() {
            return Ok(());
        }
        self.weigh(now.cpu_weight)
    }

    /// Gives it another weight, until its limits are changed the next time. Not for one that is idle.
    pub(crate) fn weigh(&self, cpu_weight: u32) -> io::Result<()> {
        match &self.cpu {
            Some(cpu) if self.unified => fs::write(cpu.join("cpu.weight"), cpu_weight.to_string()),
            Some(cpu) => fs::write(cpu.join("cpu.shares"), shares(cpu_weight).to_string()),
            None => Ok(()),
        }
    }

    /// Most processor time in each period.
    fn fill_ceiling(&self, cpu: &Path, quota_us: u64) -> io::Result<()> {
        if self.unified {
            return fs::write(cpu.join("cpu.max"), format!("{quota_us} {PERIOD_US}"));
        }
        fs::write(cpu.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
        fs::write(cpu.join("cpu.cfs_quota_us"), quota_us.to_string())
    }

    fn fill_memory_v2(&self) -> io::Result<()> {
        // Swap is off for the parent, and so for all below it.
        fs::write(self.memory.join("memory.max"), self.limits.memory_bytes().to_string())?;
        // Out of memory ends the instance as a whole: what is left of it would be in no known state.
        write_if_there(&self.memory.join("memory.oom.group"), "1")
    }

    fn fill_memory_v1(&self, together_first: bool) -> io::Result<()> {
        let bytes = self.limits.memory_bytes().to_string();
        // Memory and swap together; absent where the kernel does not account for swap.
        let together = || write_if_there(&self.memory.join("memory.memsw.limit_in_bytes"), &bytes);
        if together_first {
            together()?;
        }
        fs::write(self.memory.join("memory.limit_in_bytes"), &bytes)?;
        if !together_first {
            together()?;
        }
        // Version 1 counts the buffers of TCP apart, and only once they have a limit.
        write_if_there(&self.memory.join("memory.kmem.tcp.limit_in_bytes"), &bytes)
    }

    /// Its folders, each once.
    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        let freezer = self.freezer.iter().filter(|_| !self.unified);
        self.controllers().chain(freezer)
    }

    /// Those that limit something, each once.
    fn controllers(&self) -> impl Iterator<Item = &PathBuf> {
        let others = [&self.pids, &self.cpu].into_iter().flatten();
        [&self.memory].into_iter().chain(others.filter(|_| !self.unified))
    }

    /// The file that freezes all of its processes: `1` stops them, `0` lets them go on. A frozen process can be killed. `None` where the host has none.
    pub(crate) fn freezer(&self) -> Option<PathBuf> {
        self.freezer.as_ref().map(|folder| folder.join(FREEZE))
    }

    /// How a process gets into it.
    pub(crate) fn attach(&self) -> Attach {
        if self.unified {
            return Attach { born_in: Some(self.memory.clone()), join: Vec::new() };
        }
        // Not `cgroup.procs`: moving a whole thread group takes a lock over all of the kernel's forks and exits and waits for a grace period, 12 ms
        // measured here. A process of one thread that moves itself by `tasks` does without (kernel/cgroup, `cgroup_procs_write_start`).
        let join = self.controllers().map(|folder| folder.join("tasks")).collect();
        Attach { born_in: self.freezer.clone(), join }
    }

    /// Readable once memory has run out; `None` where the kernel then ends the instance by itself, or if asked for before. Needs a tokio runtime.
    pub(crate) fn take_oom(&mut self) -> io::Result<Option<AsyncFd<OwnedFd>>> {
        self.oom.take().map(|fd| sys::register(fd, Interest::READABLE)).transpose()
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

    fn lift_ceiling(&self) -> io::Result<()> {
        match &self.cpu {
            Some(cpu) if self.unified => fs::write(cpu.join("cpu.max"), "max"),
            Some(cpu) => fs::write(cpu.join("cpu.cfs_quota_us"), "-1"),
            None => Ok(()),
        }
    }

    /// Puts its killed processes before everything else on the host, without a ceiling, until the answer is dropped; `None` where processor time is
    /// not shared out by groups.
    pub(crate) fn hurry(&self) -> io::Result<Option<Hurry>> {
        let lane = self.cpu.as_ref().zip(self.lane.as_ref());
        lane.map(|(cpu, lane)| lane.enter(cpu, self.limits.cpu_millis.is_some())).transpose()
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

/// An event descriptor that the kernel writes to when a version 1 group is out of memory (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM
/// Control"). The kernel then kills one process, which need not be the runtime.
fn watch_oom(folder: &Path) -> io::Result<OwnedFd> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = fs::File::open(folder.join("memory.oom_control"))?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    fs::write(folder.join("cgroup.event_control"), line)?;
    Ok(event)
}

/// The number after `key` in a file of `key number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(k, _)| *k == key)
        .and_then(|(_, n)| n.trim().parse().ok())
}

/// Writes to a file of the kernel's that not every kernel has.
pub(super) fn write_if_there(path: &Path, value: &str) -> io::Result<()> {
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

    const LIMITS: GroupLimits = GroupLimits {
        memory_mb: 128,
        processes: 50,
        cpu_weight: 7,
        cpu_millis: Some(50),
        idle: false,
    };

    fn read(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap_or_default()
    }

    #[test]
    fn keyed_numbers_are_found() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "max"), None);
    }

    #[test]
    fn limits_of_version_2_are_written_as_the_kernel_wants_them() {
        let parent = tempfile::tempdir().unwrap();
        let layout = Layout::V2 { parent: parent.path().to_owned(), cpu: true, pids: true };
        let group = Group::make(&layout, None, "a", LIMITS).unwrap().unwrap();
        let at = parent.path().join("a");
        for (file, value) in [
            ("memory.max", "134217728"),
            ("memory.oom.group", "1"),
            ("pids.max", "50"),
            ("cpu.weight", "7"),
            ("cpu.max", "5000 100000"),
        ] {
            assert_eq!(read(&at, file), value, "{file}");
        }
        assert!(group.hurry().unwrap().is_none());
        assert_eq!(group.attach().born_in, Some(at.clone()));
        assert_eq!(group.freezer(), Some(at.join("cgroup.freeze")));
        fs::write(at.join("memory.peak"), "4096\n").unwrap();
        fs::write(at.join("memory.events"), "low 0\noom 1\noom_kill 2\n").unwrap();
        assert_eq!(group.memory(), MemoryUse { peak_bytes: Some(4096), oom_kills: 2 });
    }

    #[test]
    fn a_group_that_cannot_be_limited_is_not_left_behind() {
        let parent = tempfile::tempdir().unwrap();
        let [memory, cpu] = ["memory", "cpu"].map(|name| parent.path().join(name));
        fs::create_dir(&memory).unwrap();
        let layout =
            Layout::V1 { memory: memory.clone(), pids: None, cpu: Some(cpu), freezer: None };
        Group::make(&layout, None, "a", LIMITS).unwrap_err();
        assert_eq!(fs::read_dir(&memory).unwrap().count(), 0);
    }

    #[test]
    fn weights_of_version_1_are_in_its_own_unit() {
        assert_eq!((shares(100), shares(7), shares(1)), (1024, 71, 16));
    }

    #[test]
    fn what_is_idle_has_no_weight_where_the_kernel_knows_that() {
        for (unified, weight, of_7) in [(true, "cpu.weight", "7"), (false, "cpu.shares", "71")] {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("a");
            fs::create_dir(&folder).unwrap();
            let mut group = Group {
                memory: folder.clone(),
                pids: None,
                cpu: Some(folder.clone()),
                freezer: None,
                unified,
                limits: LIMITS,
                lane: None,
                oom: None,
            };
            let idle = GroupLimits { idle: true, cpu_weight: 1, ..LIMITS };
            for file in ["cpu.max", "cpu.cfs_quota_us"] {
                fs::write(folder.join(file), "").unwrap();
            }
            fs::write(folder.join("cpu.idle"), "0").unwrap();
            fs::write(folder.join(weight), "100").unwrap();
            group.change(idle).unwrap();
            assert_eq!(
                (read(&folder, "cpu.idle"), read(&folder, weight)),
                ("1".into(), "100".into())
            );
            group.change(LIMITS).unwrap();
            assert_eq!(
                (read(&folder, "cpu.idle"), read(&folder, weight)),
                ("0".into(), of_7.into())
            );
        }
    }
}
