//! Roots put together ahead: what all instances of a runtime see of the host, mounted once, in a mount namespace that has nothing else.
//!
//! An instance's first process enters the template and copies it ([`enter`]), which is one system call where 17 binds, `pivot_root` and the unmounting
//! of the host's root would be 75. It mounts what is its own upon its copy alone: nothing that an instance does reaches the template, of which no
//! process is ever a part.
//!
//! Only where the daemon is root: the mount namespace of an ordinary user's instance belongs to a user namespace of its own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::process::chdir;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::apart::apart;
use super::report::{AtStep, StepError};
use super::spec::{Mount, Root};
use super::{root, sys};

/// Most templates: one for each installed runtime, and some for those of before a host's upgrade.
const TEMPLATES: usize = 32;

/// The templates of a spawner, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Templates(Vec<Template>);

#[derive(Debug)]
struct Template {
    /// What it was made of.
    skeleton: PathBuf,
    mounts: Vec<Mount>,
    /// Device and inode of each of these when it was made.
    seen: Vec<(u64, u64)>,
    /// Its mount namespace.
    namespace: Rc<OwnedFd>,
}

impl Templates {
    /// The template of a root: made now if it is new, or if the host has since put another file or folder in the place of one that it shows.
    pub(super) fn get(&mut self, root: &Root) -> Result<Rc<OwnedFd>, StepError> {
        let (shared, _) = root.parts();
        let seen = identities(root)?;
        let same = |t: &Template| t.mounts == shared && t.skeleton == root.skeleton;
        if let Some(found) = self.0.iter().find(|t| same(t) && t.seen == seen) {
            return Ok(Rc::clone(&found.namespace));
        }
        let namespace = Rc::new(make(root)?);
        self.0.retain(|t| !same(t));
        if self.0.len() >= TEMPLATES {
            self.0.remove(0);
        }
        self.0.push(Template {
            skeleton: root.skeleton.clone(),
            mounts: shared.to_vec(),
            seen,
            namespace: Rc::clone(&namespace),
        });
        Ok(namespace)
    }
}

/// Which files and folders of the host a root shows.
fn identities(root: &Root) -> Result<Vec<(u64, u64)>, StepError> {
    let (shared, _) = root.parts();
    let binds = shared.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) => Some(bind.from.as_path()),
        _ => None,
    });
    let identity = |path: &Path| {
        let stat = rustix::fs::stat(path).at(|| format!("find {}", path.display()))?;
        Ok((stat.st_dev, stat.st_ino))
    };
    [root.skeleton.as_path()].into_iter().chain(binds).map(identity).collect()
}

/// Has a process of its own put a template together; the namespace outlives it by its descriptor.
fn make(root: &Root) -> Result<OwnedFd, StepError> {
    let made = apart(sys::MOUNT_NAMESPACE, || put_together(root).map(Some))?;
    made.ok_or_else(|| StepError::new("receive a template", io::ErrorKind::UnexpectedEof))
}

/// In a mount namespace of its own: mounts what is shared and leaves the host's root.
fn put_together(root: &Root) -> Result<OwnedFd, StepError> {
    // Before the host's `/proc` is out of sight.
    let namespace = File::open("/proc/self/ns/mnt").at(|| "open the mount namespace".into())?;
    root::assemble(root)?;
    root::leave_the_host()?;
    Ok(namespace.into())
}

/// Makes a copy of a template this process's mount namespace. The working directory is `/` of it afterwards.
pub(super) fn enter(template: impl AsFd) -> Result<(), StepError> {
    move_into_link_name_space(template.as_fd(), Some(LinkNameSpaceType::Mount))
        .at(|| "enter the template".into())?;
    sys::unshare(UnshareFlags::NEWNS).at(|| "copy the template".into())?;
    chdir("/").at(|| "enter /".into())
}
