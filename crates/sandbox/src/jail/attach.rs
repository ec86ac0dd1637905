//! Mounts a function's code into an instance that was started before anybody knew which function it would run.
//!
//! The instance's first process hands the spawner its mount namespace ([`own`]) when the runtime has been executed. Later, once, the spawner takes
//! detached, read-only copies of the code's folders, enters that namespace, puts them in their places, and leaves it again ([`Namespaces::attach`]):
//! about 60 µs. The function has no part in it and no right to it; Landlock looks at where a file lies when it is opened, so its rules for the root cover what
//! comes later.
//!
//! As root the spawner enters and leaves by itself: the namespace belongs to the user namespace above. An ordinary user has the right to mount in the
//! instance's user namespace alone, and nobody leaves one: there a process of its own does it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{WaitId, WaitIdOptions, chroot, fchdir, waitid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::apart::apart;
use super::child::NeverReturns;
use super::report::{AtStep, StepError};
use super::spec::{Mount, Owner};
use super::sys::{self, Cloned};
use super::{root, wire};

/// Longest message of a target of [`attempt`], in bytes.
const ATTEMPT_BYTES: usize = 64;
/// A process's own namespaces.
const OWN_MOUNT: &str = "/proc/self/ns/mnt";
const OWN_USER: &str = "/proc/self/ns/user";

/// The namespaces of the calling process that [`Namespaces::of`] wants.
pub(super) fn own(owner: Owner) -> Result<Vec<OwnedFd>, StepError> {
    open(match owner {
        Owner::Stranger { .. } => &[OWN_MOUNT],
        Owner::Daemon { .. } => &[OWN_MOUNT, OWN_USER],
    })
}

fn open(paths: &[&str]) -> Result<Vec<OwnedFd>, StepError> {
    let open = |path: &&str| File::open(path).at(|| format!("open {path}")).map(OwnedFd::from);
    paths.iter().map(open).collect()
}

/// Tries it with a process in new namespaces; `user` is the flag of [`sys::clone3`] for a user namespace, or none.
pub(super) fn attempt(user: u64) -> Result<(), StepError> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .at(|| "make a socket".into())?;
    let cloned = sys::clone3(user | sys::MOUNT_NAMESPACE, None).at(|| "clone a target".into())?;
    let Cloned::Parent { pidfd, .. } = cloned else {
        let _guard = NeverReturns;
        drop(ours);
        let paths: &[&str] = if user == 0 { &[OWN_MOUNT] } else { &[OWN_MOUNT, OWN_USER] };
        let fds = mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .at(|| "keep mounts in".into())
            .and_then(|()| open(paths))
            .unwrap_or_default();
        let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
        wire::send(theirs.as_fd(), &(), &fds).unwrap_or_default();
        // Until the other end is closed.
        recv(&theirs, &mut [0_u8; 1], RecvFlags::empty()).map(drop).unwrap_or_default();
        sys::exit(0)
    };
    drop(theirs);
    let received = wire::receive::<()>(ours.as_fd(), &mut [0; ATTEMPT_BYTES]);
    let namespaces = received.map(|got| got.and_then(|(_, fds)| Namespaces::of(fds)));
    let home = Home::open().at(|| "find home".into())?;
    let tried = match namespaces {
        Ok(Some(namespaces)) => {
            namespaces.attach(&home, &[Mount::bind("/dev", "dev")]).unwrap_or_else(|e| {
                // The prober is lost as well, but has nothing else to do.
                Err(StepError::new("find home again", e))
            })
        }
        _ => Err(StepError::new("take hold of a mount namespace", io::ErrorKind::Unsupported)),
    };
    drop(ours);
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).at(|| "reap a target".into())?;
    tried
}

/// Where an instance takes mounts.
#[derive(Debug)]
pub(super) struct Namespaces {
    mount: OwnedFd,
    /// The one that has to be entered for the right to mount.
    user: Option<OwnedFd>,
}

impl Namespaces {
    /// From what [`own`] gave; `None` if it did not arrive.
    pub(super) fn of(fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        Some(Self { mount: fds.next()?, user: fds.next() })
    }

    /// Mounts them. The outer error says that the spawner has lost its way and must end.
    pub(super) fn attach(self, home: &Home, mounts: &[Mount]) -> io::Result<Result<(), StepError>> {
        let Some(user) = &self.user else {
            let trees = match detached(mounts) {
                Ok(trees) => trees,
                Err(error) => return Ok(Err(error)),
            };
            let placed = enter(&self.mount).and_then(|()| place(mounts, &trees));
            home.enter()?;
            return Ok(placed);
        };
        let in_the_users_name = || {
            move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
                .at(|| "enter the user namespace".into())?;
            // Copies of the host's mounts, over which that user namespace has the right.
            sys::unshare(UnshareFlags::NEWNS).at(|| "copy the host's mounts".into())?;
            let trees = detached(mounts)?;
            enter(&self.mount)?;
            place(mounts, &trees).map(|()| None)
        };
        Ok(apart(0, in_the_users_name).map(drop))
    }
}

/// Where the spawner lives.
#[derive(Debug)]
pub(super) struct Home {
    mount: OwnedFd,
    /// Not always that of the mount namespace.
    root: OwnedFd,
}

impl Home {
    /// The calling process's, which has `/` as its working directory.
    pub(super) fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty())?;
        Ok(Self { mount: File::open(OWN_MOUNT)?.into(), root })
    }

    fn enter(&self) -> io::Result<()> {
        move_into_link_name_space(self.mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
        fchdir(&self.root)?;
        chroot(".")?;
        Ok(())
    }
}

/// What is to be seen of the host, attached nowhere yet; nothing for what is none of the host's.
fn detached(mounts: &[Mount]) -> Result<Vec<Option<OwnedFd>>, StepError> {
    let tree = |mount: &Mount| match mount {
        Mount::Bind(bind) => root::bound(bind).map(Some),
        _ => Ok(None),
    };
    mounts.iter().map(tree).collect()
}

/// Afterwards `/`, which is the working directory as well, is the instance's.
fn enter(mount: &OwnedFd) -> Result<(), StepError> {
    move_into_link_name_space(mount.as_fd(), Some(LinkNameSpaceType::Mount))
        .at(|| "enter the mount namespace".into())
}

fn place(mounts: &[Mount], trees: &[Option<OwnedFd>]) -> Result<(), StepError> {
    for (mount, tree) in mounts.iter().zip(trees) {
        match (mount, tree) {
            (_, Some(tree)) => root::attach(tree, Path::new(mount.target()))?,
            (Mount::Memory { to, megabytes }, None) => root::resize(to, *megabytes)?,
            _ => return Err(StepError::new("mount later", io::ErrorKind::InvalidInput)),
        }
    }
    Ok(())
}
