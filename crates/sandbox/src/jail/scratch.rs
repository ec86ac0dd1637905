//! Folders in memory with a size limit, for programs that run in the daemon itself: file systems of their own (tmpfs) that nobody else sees and that go with the
//! descriptor.
//!
//! They are made by a process that may mount, as an ordinary user in a user namespace of its own: this program once more, started with the first
//! folder. It ends with its socket, so with the daemon, and mounts nothing anywhere: what it answers with is attached to no path.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use rustix::net::RecvFlags;
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use super::{client, sys, wire};

/// The first argument that makes the daemon's executable what makes folders.
pub(super) const SCRATCH_ARGUMENT: &str = "__sandbox-scratch";
/// Longest message, in bytes.
const MESSAGE_BYTES: usize = 256;
/// Files and folders in one file system: each takes about a kilobyte of the kernel's memory, which its size does not count.
const FILES: &str = "8192";

/// What is asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Wish {
    size_mb: u32,
}

/// What is answered: with a descriptor, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    failed: Option<String>,
}

/// Makes folders in memory.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// An executable that calls [`super::main_if_spawner`] first in its `main`.
    executable: PathBuf,
    /// One question at a time.
    maker: Mutex<Option<Maker>>,
}

impl Scratch {
    /// Starts nothing yet.
    pub(crate) fn new(executable: PathBuf) -> Self {
        Self { executable, maker: Mutex::default() }
    }

    /// An empty folder that holds at most so many MiB. It is gone with what is returned and with what was opened in it.
    pub(crate) async fn folder(&self, size_mb: u32) -> io::Result<OwnedFd> {
        let mut maker = self.maker.lock().await;
        // One that has ended, and one whose answer nobody waited for, are no more use.
        let asked = match maker.take() {
            Some(mut old) => old.ask(size_mb).await.map(|folder| (old, folder)),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let (kept, folder) = match asked {
            Ok(asked) => asked,
            Err(_) => {
                let mut new = Maker::start(&self.executable)?;
                let folder = new.ask(size_mb).await?;
                (new, folder)
            }
        };
        *maker = Some(kept);
        Ok(folder)
    }
}

/// The process.
#[derive(Debug)]
struct Maker {
    socket: AsyncFd<OwnedFd>,
    child: Child,
}

impl Drop for Maker {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Maker {
    fn start(executable: &Path) -> io::Result<Self> {
        let (ours, child) = client::helper(executable, "hanshu-scratch", SCRATCH_ARGUMENT)?;
        let socket = sys::register(ours, Interest::READABLE)?;
        Ok(Self { socket, child })
    }

    async fn ask(&mut self, size_mb: u32) -> io::Result<OwnedFd> {
        wire::send(self.socket.get_ref().as_fd(), &Wish { size_mb }, &[])?;
        loop {
            let mut ready = self.socket.readable().await?;
            let mut buffer = [0; MESSAGE_BYTES];
            let received = ready.try_io(|socket| {
                wire::receive_with(socket.get_ref().as_fd(), &mut buffer, RecvFlags::DONTWAIT)
            });
            let Ok(received) = received else { continue };
            let (made, fds): (Made, _) = received?.ok_or(io::ErrorKind::BrokenPipe)?;
            return match (made.failed, fds.into_iter().next()) {
                (None, Some(folder)) => Ok(folder),
                (why, _) => Err(io::Error::other(why.unwrap_or_else(|| "no descriptor".into()))),
            };
        }
    }
}

/// The process's whole life: until the daemon closes its end. To be called while there is one thread.
pub(super) fn run() -> io::Result<()> {
    let socket = rustix::stdio::stdin();
    let privileged = match folder(1) {
        Err(e) if e.raw_os_error() == Some(Errno::PERM.raw_os_error()) => false,
        tried => tried.is_ok(),
    };
    if !privileged {
        own_namespaces()?;
    }
    let mut buffer = [0; MESSAGE_BYTES];
    while let Some((wish, _)) = wire::receive::<Wish>(socket, &mut buffer)? {
        answer(socket, folder(wish.size_mb))?;
    }
    Ok(())
}

fn answer(socket: BorrowedFd<'_>, folder: io::Result<OwnedFd>) -> io::Result<()> {
    match folder {
        Ok(folder) => wire::send(socket, &Made { failed: None }, &[folder.as_fd()]),
        Err(e) => wire::send(socket, &Made { failed: Some(e.to_string()) }, &[]),
    }
}

/// Where an ordinary user may mount. Files keep their owner: the daemon's user.
fn own_namespaces() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{0} {0} 1\n", user.as_raw()))?;
    std::fs::write("/proc/self/gid_map", format!("{0} {0} 1\n", group.as_raw()))
}

fn folder(size_mb: u32) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "size", format!("{size_mb}M"))?;
    fsconfig_set_string(context, "nr_inodes", FILES)?;
    fsconfig_set_string(context, "mode", "0700")?;
    fsconfig_create(context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
