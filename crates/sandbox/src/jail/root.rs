//! The instance's root: puts it together from mounts, makes it `/`, drops the host's.
//!
//! [`enter`] does so from the beginning, [`enter_template`] upon a copy of what is prepared ([`super::templates`]).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_bind, mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::report::{AtStep, StepError};
use super::spec::{Bind, INNER_GID, INNER_UID, Mount, Owner, Root};
use super::steps::{Step, Steps};
use super::{sys, templates};

/// Hides pid 1 and with it what the spawner is, down to its name (proc(5); the number is the word `invisible` of newer kernels).
const PROC_OPTIONS: Option<&std::ffi::CStr> = Some(c"hidepid=2");
/// One file or folder in memory for so many bytes of its size limit: they cost the kernel memory (about 1 KiB) that the limit does not count.
const BYTES_PER_INODE: u64 = 8 * 1024;
/// Of a file system in memory.
const MEMORY_FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Builds the root and enters it. The working directory is `/` of it afterwards.
///
/// Runs in a mount namespace of its own. Everything of the host is attached as a detached, already read-only copy, so at no moment does a
/// writable view of it lie in the new root.
pub(super) fn enter(root: &Root, owner: Owner, steps: &mut Steps) -> Result<(), StepError> {
    assemble(root)?;
    steps.mark(Step::Root);
    let (_, own) = root.parts();
    for mount in own {
        place(mount, owner)?;
    }
    steps.mark(Step::Own);
    leave_the_host()?;
    steps.mark(Step::Pivot);
    Ok(())
}

/// Enters a copy of a template of this root and adds what is the instance's own. The working directory is `/` of it afterwards.
pub(super) fn enter_template(
    root: &Root,
    owner: Owner,
    template: impl AsFd,
    steps: &mut Steps,
) -> Result<(), StepError> {
    let (_, own) = root.parts();
    // While the host is in sight.
    let of_host = |mount: &Mount| match mount {
        Mount::Bind(bind) => bound(bind).map(Some),
        _ => Ok(None),
    };
    let trees = own.iter().map(of_host).collect::<Result<Vec<_>, _>>()?;
    templates::enter(template)?;
    steps.mark(Step::Root);
    for (mount, tree) in own.iter().zip(trees) {
        match tree {
            Some(tree) => attach(&tree, Path::new(mount.target()))?,
            None => place(mount, owner)?,
        }
    }
    steps.mark(Step::Own);
    Ok(())
}

/// Mounts what all instances of a runtime share, in a mount namespace of the caller's own. The working directory is the root to be.
pub(super) fn assemble(root: &Root) -> Result<(), StepError> {
    // Else mounts made here would propagate to the host, whose root is a shared mount under systemd.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .at(|| "make mounts private".into())?;
    let skeleton = detached(&root.skeleton, sys::MountFlags::ReadOnly)?;
    attach(&skeleton, &root.at)?;
    chdir(&root.at).at(|| format!("enter {}", root.at.display()))?;
    let (shared, _) = root.parts();
    for mount in shared {
        if let Mount::Bind(bind) = mount {
            attach(&bound(bind)?, Path::new(&bind.to))?;
        }
    }
    Ok(())
}

/// Makes the working directory the root, which it is also afterwards.
pub(super) fn leave_the_host() -> Result<(), StepError> {
    // The new root over the old one at the same place, then the old one, which is on top, away: pivot_root(2), "pivot_root(".", ".")".
    pivot_root(".", ".").at(|| "pivot_root".into())?;
    unmount(".", UnmountFlags::DETACH).at(|| "unmount the host's root".into())?;
    chdir("/").at(|| "enter /".into())
}

fn place(mount: &Mount, owner: Owner) -> Result<(), StepError> {
    match mount {
        Mount::Bind(bind) => attach(&bound(bind)?, Path::new(&bind.to)),
        // The flags of what lies upon it come along.
        Mount::Mask { to, by } => mount_bind(by, to).at(|| format!("mask /{to}")),
        Mount::Memory { to, megabytes } => memory(to, *megabytes, owner),
        Mount::Proc { to } => {
            // Read-only: `/proc/sys`, `sysrq-trigger`, `irq` and what else takes orders from whoever writes.
            let flags =
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
            self::mount("proc", to, "proc", flags, PROC_OPTIONS).at(|| format!("mount /{to}"))
        }
    }
}

/// Gives a file system in memory, in sight as `to`, another size limit.
pub(super) fn resize(to: &str, megabytes: u32) -> Result<(), StepError> {
    let options = format!("{}\0", size(megabytes));
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).unwrap_or_default();
    mount_remount(to, MEMORY_FLAGS, options).at(|| format!("resize /{to}"))
}

fn size(megabytes: u32) -> String {
    let inodes = (u64::from(megabytes) << 20) / BYTES_PER_INODE;
    format!("size={megabytes}m,nr_inodes={inodes}")
}

fn memory(to: &str, megabytes: u32, owner: Owner) -> Result<(), StepError> {
    // The ids are those of the user namespace that mounts.
    let (uid, gid) = match owner {
        Owner::Stranger { uid, gid } => (uid, gid),
        Owner::Daemon { .. } => (INNER_UID, INNER_GID),
    };
    let options = format!("{},mode=1777,uid={uid},gid={gid}\0", size(megabytes));
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).unwrap_or_default();
    mount("tmpfs", to, "tmpfs", MEMORY_FLAGS, Some(options)).at(|| format!("mount /{to}"))
}

/// What a bind shows, attached nowhere yet.
pub(super) fn bound(bind: &Bind) -> Result<OwnedFd, StepError> {
    let flags = if bind.device { sys::MountFlags::Device } else { sys::MountFlags::ReadOnly };
    detached(&bind.from, flags)
}

/// A copy of what lies at `path`, with what is mounted below, attached nowhere yet.
fn detached(path: &Path, flags: sys::MountFlags) -> Result<OwnedFd, StepError> {
    let how = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, how).at(|| format!("bind {}", path.display()))?;
    sys::set_mount_flags(&tree, flags).at(|| format!("protect {}", path.display()))?;
    Ok(tree)
}

pub(super) fn attach(tree: &OwnedFd, to: &Path) -> Result<(), StepError> {
    move_mount(tree, "", CWD, to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at(|| format!("mount at {}", to.display()))
}
