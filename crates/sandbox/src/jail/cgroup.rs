//! Control groups: a memory, process and CPU limit for an instance as a whole, where the host lets us.
//!
//! [`Groups::open`] finds out what there is, once; [`Groups::create`] makes a [`Group`] per instance. Version 2 is used where the memory controller
//! is delegated to the daemon's own group, else version 1 hierarchies that the daemon may write to, else nothing: then an instance is
//! limited by `setrlimit` alone and what is lost stands in [`Groups::features`].
//! An ordinary user gets version 2 where the daemon's group is delegated to it, as systemd does for the services of a user.
//!
//! All calls here are file operations on a kernel file system. Making and removing groups takes the kernel's locks, so it is kept off async
//! threads; [`Group::memory`] reads counters, which waits for nothing.

mod detect;
mod features;
mod group;
mod hurry;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use group::{Group, GroupLimits, MemoryUse};
use hurry::Lane;

/// Names of the daemon's parent groups start so; its process id follows.
const PARENT_PREFIX: &str = "hanshu-";

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
    /// Where processor time is shared out.
    lane: Option<Arc<Lane>>,
}

impl Groups {
    /// Finds out what the host offers, makes the daemon's parent group there and removes those of daemons that are gone.
    pub(crate) fn open() -> Self {
        Self::new(detect::detect(Path::new("/proc")))
    }

    fn new(layout: Layout) -> Self {
        let lane = match &layout {
            Layout::V2 { parent, cpu: true, .. } => Some(Lane::new(parent.clone(), true)),
            Layout::V1 { cpu: Some(cpu), .. } => Some(Lane::new(cpu.clone(), false)),
            _ => None,
        };
        Self { layout, lane: lane.map(Arc::new) }
    }

    /// Whether memory is limited for an instance as a whole.
    pub(crate) fn limits_memory(&self) -> bool {
        !matches!(self.layout, Layout::None { .. })
    }

    /// Makes a group; `None` where there are none to be had.
    pub(crate) fn create(&self, name: &str, limits: GroupLimits) -> io::Result<Option<Group>> {
        Group::make(&self.layout, self.lane.as_ref(), name, limits)
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
