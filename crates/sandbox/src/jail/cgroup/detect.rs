//! Finds the control groups that the daemon may use, and cleans up after daemons that are gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::group::write_if_there;
use super::{FREEZE, Layout, PARENT_PREFIX};

/// What to do where the daemon's group is not its own to divide: systemd.resource-control(5), "Delegate=".
const DELEGATE: &str = "start the daemon as a service of its own with Delegate=yes, for instance by `systemd-run --user --scope -p Delegate=yes`";

/// What there is, with the daemon's parent groups made. `proc` is `/proc`; `into`: whether processes can be born in a version 2 group.
pub(super) fn detect(proc: &Path, into: bool) -> Layout {
    let read = |name: &str| fs::read_to_string(proc.join("self").join(name)).unwrap_or_default();
    let found = Found::parse(&read("mountinfo"), &read("cgroup"));
    let v2 = match found.unified.as_deref().map(|own| open_v2(own, proc)) {
        Some(Ok(layout)) => return layout,
        Some(Err(e)) => format!("version 2: {e}"),
        None => "version 2 is not mounted".to_owned(),
    };
    match open_v1(&found, proc, into) {
        Ok(layout) => layout,
        Err(e) => Layout::None { reason: format!("{v2}; version 1: {e}") },
    }
}

/// The daemon's own groups.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Found {
    /// From the text of `/proc/self/mountinfo` and `/proc/self/cgroup`: proc(5), cgroups(7).
    fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(at)) = (left.next(), left.next()) else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            let own = |controller: &str| {
                let path = own_group(cgroup, controller)?;
                // The mount may show a subtree only, as it does in a container.
                let path = Path::new(path).strip_prefix(root).ok()?;
                Some(Path::new(at).join(path))
            };
            match kind {
                Some("cgroup2") => found.unified = found.unified.or_else(|| own("")),
                Some("cgroup") => {
                    for option in options.split(',') {
                        let slot = match option {
                            "memory" => &mut found.memory,
                            "pids" => &mut found.pids,
                            "cpu" => &mut found.cpu,
                            _ => continue,
                        };
                        if slot.is_none() {
                            *slot = own(option);
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// The path of the own group in the hierarchy of a controller; `""` means version 2.
fn own_group<'a>(cgroup: &'a str, controller: &str) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|c| c == controller).then_some(path)
    })
}

/// A fresh name: the process id tells whose it is, a number tells sandboxes of one process apart.
fn parent_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PARENT_PREFIX}{}-{n}", std::process::id())
}

/// Whether a version 2 group may hand a controller down.
fn has(group: &Path, controller: &str) -> io::Result<bool> {
    let list = fs::read_to_string(group.join("cgroup.controllers"))?;
    Ok(list.split_whitespace().any(|c| c == controller))
}

fn open_v2(own: &Path, proc: &Path) -> io::Result<Layout> {
    if !has(own, "memory")? {
        return Err(io::Error::other("the memory controller is not delegated to the daemon"));
    }
    divide(own, proc).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy => {
            io::Error::new(e.kind(), format!("{e}: {DELEGATE}"))
        }
        _ => e,
    })
}

/// Makes the parent group and hands the controllers down to it.
fn divide(own: &Path, proc: &Path) -> io::Result<Layout> {
    clean(own, proc);
    let enable = |at: &Path| -> io::Result<()> {
        for controller in ["memory", "pids", "cpu"] {
            if has(at, controller)? {
                fs::write(at.join("cgroup.subtree_control"), format!("+{controller}"))?;
            }
        }
        Ok(())
    };
    let name = parent_name();
    let parent = own.join(&name);
    make(&parent)?;
    if enable(own).is_err() {
        // A group with processes of its own may not hand controllers down: the daemon makes room by moving below.
        let daemon = own.join(format!("{name}-daemon"));
        make(&daemon)?;
        fs::write(daemon.join("cgroup.procs"), "0")?;
        if let Err(e) = enable(own) {
            fs::write(own.join("cgroup.procs"), "0")?;
            fs::remove_dir(&daemon)?;
            fs::remove_dir(&parent)?;
            return Err(e);
        }
    }
    enable(&parent)?;
    // For all instances together is for each of them; absent where the kernel does not account for swap.
    write_if_there(&parent.join("memory.swap.max"), "0")?;
    let (cpu, pids) = (has(&parent, "cpu")?, has(&parent, "pids")?);
    Ok(Layout::V2 { parent, cpu, pids })
}

fn open_v1(found: &Found, proc: &Path, into: bool) -> io::Result<Layout> {
    let name = parent_name();
    let open = |own: &Option<PathBuf>| -> io::Result<PathBuf> {
        let own = own.as_ref().ok_or_else(|| io::Error::other("the controller is not mounted"))?;
        clean(own, proc);
        let parent = own.join(&name);
        make(&parent)?;
        Ok(parent)
    };
    let memory = open(&found.memory)?;
    // Groups made below take it over. Were there swap, the limit on memory and swap together would still hold.
    write_if_there(&memory.join("memory.swappiness"), "0")?;
    let unified = if into { open(&found.unified).ok() } else { None };
    // Since Linux 5.2.
    let freezer = unified.filter(|parent| {
        let freezes = parent.join(FREEZE).exists();
        if !freezes {
            fs::remove_dir(parent).unwrap_or_default();
        }
        freezes
    });
    Ok(Layout::V1 { memory, pids: open(&found.pids).ok(), cpu: open(&found.cpu).ok(), freezer })
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Removes the groups of daemons that are gone. Their instances are gone too: they die with their spawner.
fn clean(own: &Path, proc: &Path) {
    for parent in folders(own) {
        let name = parent.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(pid) = name.strip_prefix(PARENT_PREFIX) else { continue };
        let pid = pid.split('-').next().unwrap_or_default();
        let number = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
        if !number || proc.join(pid).exists() {
            continue;
        }
        for group in folders(&parent) {
            fs::remove_dir(group).unwrap_or_default();
        }
        if let Err(error) = fs::remove_dir(&parent) {
            tracing::debug!(group = %parent.display(), %error, "an old control group stays");
        }
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn version_1_hierarchies_are_found() {
        let found = Found::parse(V1, "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n");
        assert_eq!(found.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory/a/b")));
        assert_eq!(found.cpu.as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/")));
        assert_eq!(found.pids, None);
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified/")));
    }

    #[test]
    fn a_mount_of_a_subtree_is_followed() {
        let mountinfo =
            "30 23 0:26 /docker/x /sys/fs/cgroup rw shared:9 - cgroup2 cgroup rw,nsdelegate\n";
        let found = Found::parse(mountinfo, "0::/docker/x/y\n");
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/y")));
    }

    #[test]
    fn groups_of_dead_daemons_are_removed_and_others_kept() {
        let (proc, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(proc.path().join("10")).unwrap();
        for name in ["hanshu-10-1", "hanshu-11-1", "hanshu-11-1-daemon", "hanshu-x", "other"] {
            fs::create_dir_all(own.path().join(name).join("1")).unwrap();
        }
        clean(own.path(), proc.path());
        let mut left: Vec<_> = folders(own.path())
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["hanshu-10-1", "hanshu-x", "other"]);
    }

    #[test]
    fn version_2_without_the_memory_controller_is_refused() {
        let own = tempfile::tempdir().unwrap();
        fs::write(own.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        open_v2(own.path(), Path::new("/proc")).unwrap_err();
        assert_eq!(folders(own.path()), Vec::<PathBuf>::new());
    }
}
