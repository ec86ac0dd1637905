//! The instance's root: puts it together from mounts, makes it `/`, drops the host's.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::report::{AtStep, StepError};
use super::spec::{Bind, INNER_GID, INNER_UID, Mount, Owner, Root};
use super::steps::{Step, Steps};
use super::sys;

/// Builds the root and enters it. The working directory is `/` of it afterwards.
///
/// Runs in a mount namespace of its own. Everything of the host is attached as a detached, already read-only copy, so at no moment does a
/// writable view of it lie in the new root.
pub(super) fn enter(root: &Root, owner: Owner, steps: &mut Steps) -> Result<(), StepError> {
    // Else mounts made here would propagate to the host, whose root is a shared mount under systemd.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .at(|| "make mounts private".into())?;
    let skeleton = detached(&root.skeleton, sys::MountFlags::ReadOnly)?;
    attach(&skeleton, &root.at)?;
    chdir(&root.at).at(|| format!("enter {}", root.at.display()))?;
    for mount in &root.mounts {
        place(mount, owner)?;
    }
    steps.mark(Step::Root);
    // The new root over the old one at the same place, then the old one, which is on top, away: pivot_root(2), "pivot_root(".", ".")".
    pivot_root(".", ".").at(|| "pivot_root".into())?;
    unmount(".", UnmountFlags::DETACH).at(|| "unmount the host's root".into())?;
    chdir("/").at(|| "enter /".into())?;
    steps.mark(Step::Pivot);
    Ok(())
}

fn place(mount: &Mount, owner: Owner) -> Result<(), StepError> {
    match mount {
        Mount::Bind(Bind { from, to, device }) => {
            let flags = if *device { sys::MountFlags::Device } else { sys::MountFlags::ReadOnly };
            attach(&detached(from, flags)?, Path::new(to))
        }
        Mount::Memory { to, megabytes } => memory(to, *megabytes, owner),
        Mount::Proc { to } => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            self::mount("proc", to, "proc", flags, None).at(|| format!("mount /{to}"))
        }
    }
}

fn memory(to: &str, megabytes: u32, owner: Owner) -> Result<(), StepError> {
    // The ids are those of the user namespace that mounts.
    let (uid, gid) = match owner {
        Owner::Stranger { uid, gid } => (uid, gid),
        Owner::Daemon { .. } => (INNER_UID, INNER_GID),
    };
    let options = format!("size={megabytes}m,mode=1777,uid={uid},gid={gid}\0");
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", to, "tmpfs", flags, Some(options)).at(|| format!("mount /{to}"))
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

fn attach(tree: &OwnedFd, to: &Path) -> Result<(), StepError> {
    move_mount(tree, "", CWD, to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at(|| format!("mount at {}", to.display()))
}
