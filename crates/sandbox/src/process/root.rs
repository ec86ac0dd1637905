//! What a function sees as `/`: an explicit list, nothing of the host besides.
//!
//! The root is a *skeleton*, a folder with the empty mount points, links and generated files of `/etc`, written once per runtime and shared, read-only, by all
//! its instances; upon it lie binds of exactly those host folders a runtime needs. A skeleton saves the forty system calls that building the
//! same tree in a fresh tmpfs would cost at every start.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::ids::Digest;
use model::limits;
use serde::Serialize;

use super::runtimes::Runtime;
use crate::jail::{Mount, Root};

/// Stands in a bind for a folder that is empty; replaced when the root is laid out.
pub(super) const EMPTY: &str = "/empty";
/// Where the scratch space lies, relative to the root.
pub(super) const TMP: &str = "tmp";
/// Size limit of `/dev/shm`, in MiB. It counts towards the memory limit as well.
const SHM_MB: u32 = 64;
/// Device nodes; reading and writing them touches nothing of the host.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Folders and files below `/proc` that tell or do what concerns the whole host. What is left is what runtimes size themselves by (`meminfo`,
/// `cpuinfo`, `stat`, `loadavg`, `sys`) and, with `/proc` being read-only, harmless. A mask costs 4 µs of every start, so those are left out that
/// this kernel does not have, or that are closed to all but the host's root.
const PROC_MASKS: [&str; 22] = [
    "acpi",
    "asound",
    "bus",
    "fs",
    "interrupts",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
];
/// An empty folder and an empty file of every root, mounted over what is to be hidden.
const MASK_FOLDER: &str = "var/empty";
const MASK_FILE: &str = "var/empty-file";

/// Folders of certificates and time zones that are the host's.
const SHARED: [&str; 5] = [
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
];
/// Where the bootstraps lie.
const RUNTIME: &str = "var/runtime";
/// What an instance that gets its code later has there until then.
const LATER: [&str; 2] = ["var/task", "opt"];
/// Folders in which the dynamic loader looks for libraries below those of `LD_LIBRARY_PATH` (ld.so(8), "Hardware capabilities"). One that is not there when
/// the runtime is executed it would never look into.
const LIBRARY_FOLDERS: [&str; 4] =
    ["", "glibc-hwcaps/x86-64-v2", "glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v4"];

/// Files of `/etc`, made here: the host's say who uses it and what it is called.
const ETC: [(&str, &str); 5] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/usr/sbin/nologin\nsbx_user:x:993:990:function:/tmp:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\nsbx_user:x:990:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/resolv.conf", "# no name server is within reach of this function\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    ),
];

/// A laid out root.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The skeleton, on the host.
    pub(super) skeleton: PathBuf,
    /// What lies upon it, all but the code.
    pub(super) mounts: Vec<Mount>,
    /// The whole root of an instance that gets its code later, put together at this folder: with something to be covered by the code and the layers.
    pub(super) ahead: Arc<Root>,
    /// The folder that is `/var/runtime`, on the host.
    pub(super) bootstraps: PathBuf,
}

/// Everything that decides what a skeleton looks like.
#[derive(Debug, Default, Serialize)]
struct Plan {
    mounts: Vec<Mount>,
    links: BTreeMap<String, PathBuf>,
    folders: Vec<String>,
    files: Vec<(String, String)>,
}

/// Lays out the root of a runtime below `cache`, to be put together at `at`. `bootstraps` is the folder that becomes `/var/runtime`; `as_root` says whether
/// the host takes instances for its root.
pub(super) fn lay_out(
    cache: &Path,
    at: &Path,
    bootstraps: &Path,
    runtime: &Runtime,
    as_root: bool,
) -> io::Result<Layout> {
    let mut plan = system();
    plan.mounts.extend(runtime.mounts.iter().cloned());
    plan.mounts.push(Mount::bind(bootstraps, RUNTIME));
    plan.mounts.extend(DEVICES.map(Mount::device));
    plan.mounts.push(Mount::Memory { to: "dev/shm".into(), megabytes: SHM_MB });
    plan.mounts.push(Mount::Memory { to: TMP.into(), megabytes: limits::TMP_DEFAULT_MB });
    plan.mounts.push(Mount::Proc { to: "proc".into() });
    plan.mounts.extend(PROC_MASKS.iter().filter_map(|name| mask(name, as_root)));
    plan.files.push((MASK_FILE.into(), String::new()));
    plan.folders.extend(["var/task", "opt", MASK_FOLDER].map(String::from));
    let roots = cache.join("roots");
    let empty = roots.join("empty");
    make_folder(&empty)?;
    for mount in &mut plan.mounts {
        if let Mount::Bind(bind) = mount
            && bind.from == Path::new(EMPTY)
        {
            bind.from.clone_from(&empty);
        }
    }
    let skeleton = roots.join(plan.name()?);
    if !skeleton.exists() {
        let draft = roots.join("draft");
        remove_tree(&draft)?;
        plan.write(&draft)?;
        fs::rename(&draft, &skeleton)?;
    }
    let later = roots.join("later");
    for folder in [Path::new("lib"), Path::new("")] {
        for capable in LIBRARY_FOLDERS {
            make_folder(&later.join(folder).join(capable))?;
        }
    }
    let mut mounts = plan.mounts.clone();
    mounts.extend(LATER.map(|to| Mount::bind(later.clone(), to)));
    let ahead = Root { skeleton: skeleton.clone(), at: at.to_owned(), mounts };
    let bootstraps = bootstraps.to_owned();
    Ok(Layout { skeleton, mounts: plan.mounts, bootstraps, ahead: Arc::new(ahead) })
}

/// The host's folder of what becomes `/var/runtime` in a root.
pub(super) fn bootstraps(root: &Root) -> Option<&Path> {
    root.mounts.iter().find_map(|mount| match mount {
        Mount::Bind(bind) if bind.to == RUNTIME => Some(bind.from.as_path()),
        _ => None,
    })
}

/// An empty folder of the host that a root may show.
pub(super) fn empty(root: &Root) -> PathBuf {
    root.skeleton.join(MASK_FOLDER)
}

/// What hides a part of `/proc`, if this kernel has it and would show it.
fn mask(name: &str, as_root: bool) -> Option<Mount> {
    let meta = fs::symlink_metadata(Path::new("/proc").join(name)).ok()?;
    if meta.permissions().mode() & 0o007 == 0 && !as_root {
        return None;
    }
    let by = if meta.is_dir() { MASK_FOLDER } else { MASK_FILE };
    Some(Mount::Mask { to: format!("proc/{name}"), by: by.into() })
}

/// What every runtime needs of the host: libraries, a shell, certificates, time zones.
fn system() -> Plan {
    let mut plan = Plan::default();
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "usr/lib32", "usr/lib64"] {
        // Merged or not, a link of the host is a link here.
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            let target = target.strip_prefix("/").map(Path::to_owned).unwrap_or(target);
            plan.links.insert(name.into(), target);
        }
    }
    for folder in library_folders() {
        plan.share(&folder);
    }
    // What the standard libraries themselves run: `os.system`, `child_process.exec`, and the first line of scripts.
    for tool in ["bin/sh", "usr/bin/env"] {
        let to = match tool.split_once('/') {
            Some((folder, name)) if plan.links.contains_key(folder) => format!("usr/bin/{name}"),
            _ => tool.to_owned(),
        };
        if let Ok(from) = fs::canonicalize(Path::new("/").join(tool)) {
            plan.mounts.push(Mount::bind(from, to));
        }
    }
    for folder in SHARED {
        plan.share(Path::new(folder));
    }
    if Path::new("/usr/lib/ssl").is_dir() {
        // Where Debian's OpenSSL looks for certificates.
        plan.links.insert("usr/lib/ssl/certs".into(), "/etc/ssl/certs".into());
    }
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        plan.links.insert(format!("dev/{name}"), Path::new("/proc/self").join(target));
    }
    plan.links.insert("var/tmp".into(), "/tmp".into());
    plan.files = ETC.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    plan
}

/// Folders with the system's shared libraries and the dynamic loader, by the two conventions there are: `/usr/lib/TRIPLET` and `/usr/lib64`. Where
/// neither is followed, `/usr/lib` itself.
fn library_folders() -> Vec<PathBuf> {
    let real = |path: &&str| fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    let mut folders: Vec<PathBuf> = ["/lib", "/lib32", "/lib64", "/usr/lib32", "/usr/lib64"]
        .iter()
        .copied()
        .filter(real)
        .map(PathBuf::from)
        .collect();
    let before = folders.len();
    let entries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.extend(entries.map(|e| e.path()).filter(|path| {
        path.file_name().is_some_and(|n| n.to_string_lossy().contains("-linux-")) && path.is_dir()
    }));
    if folders.len() == before && !folders.contains(&PathBuf::from("/usr/lib64")) {
        folders.push("/usr/lib".into());
    }
    folders.sort();
    folders
}

/// Whether a shared library lies in one of the folders that every root has.
pub(super) fn is_system_library(path: &Path) -> bool {
    library_folders().iter().any(|folder| path.starts_with(folder))
}

/// Whether a path of the host is in every root, where it is on the host.
pub(super) fn is_shared(path: &Path) -> bool {
    is_system_library(path) || SHARED.iter().any(|folder| path.starts_with(folder))
}

impl Plan {
    /// Binds a folder of the host at the same place, if there is one.
    fn share(&mut self, folder: &Path) {
        if let (Ok(to), true) = (folder.strip_prefix("/"), folder.is_dir()) {
            self.mounts.push(Mount::bind(folder, to.to_string_lossy()));
        }
    }

    /// A name that changes with everything a skeleton is made from.
    fn name(&self) -> io::Result<String> {
        let digest = Digest::of(&serde_json::to_vec(self)?).to_string();
        Ok(digest.chars().take(16).collect())
    }

    fn write(&self, into: &Path) -> io::Result<()> {
        make_folder(into)?;
        for (name, target) in &self.links {
            make_parent(into, name)?;
            symlink(target, into.join(name))?;
        }
        for folder in &self.folders {
            make_parents(into, folder)?;
        }
        for (name, text) in &self.files {
            make_parent(into, name)?;
            make_file(&into.join(name), text)?;
        }
        for (i, mount) in self.mounts.iter().enumerate() {
            let to = mount.target();
            // A mount inside another finds its mount point there.
            let inside = |m: &Mount| Path::new(to).starts_with(m.target());
            if self.mounts.iter().take(i).any(inside) {
                continue;
            }
            match mount {
                Mount::Bind(bind) if !bind.from.is_dir() => {
                    make_parent(into, to)?;
                    make_file(&into.join(to), "")?;
                }
                _ => make_parents(into, to)?,
            }
        }
        Ok(())
    }
}

/// Makes a folder that everybody may enter, whatever the umask; one that exists is left alone.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_folder(path.parent().ok_or(e)?)?;
            make_folder(path)
        }
        Err(e) => Err(e),
    }
}

/// Writes a file that everybody may read, whatever the umask.
pub(super) fn make_file(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn make_parents(into: &Path, folder: &str) -> io::Result<()> {
    make_folder(&into.join(folder))
}

fn make_parent(into: &Path, name: &str) -> io::Result<()> {
    match Path::new(name).parent() {
        Some(parent) => make_folder(&into.join(parent)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_root_may_read_is_hidden_from_root_alone() {
        let hidden = |as_root| {
            let masks = PROC_MASKS.iter().filter_map(|name| mask(name, as_root));
            masks.map(|mask| mask.target().to_owned()).collect::<Vec<_>>()
        };
        let (from_all, from_root) = (hidden(false), hidden(true));
        for name in PROC_MASKS {
            let meta = fs::symlink_metadata(Path::new("/proc").join(name));
            let target = format!("proc/{name}");
            assert_eq!(from_root.contains(&target), meta.is_ok(), "{name}");
            let open = meta.is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0);
            assert_eq!(from_all.contains(&target), open, "{name}");
        }
        assert!(from_all.len() >= 4, "{from_all:?}");
    }

    #[test]
    fn folders_are_hidden_by_a_folder_and_files_by_a_file() {
        let by = |name| match mask(name, true) {
            Some(Mount::Mask { by, .. }) => by,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(by("irq"), MASK_FOLDER);
        assert_eq!(by("interrupts"), MASK_FILE);
    }
}
