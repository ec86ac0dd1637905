//! Control groups: a memory, process and CPU limit for an instance as a whole, where the host lets us.
//!
//! [`Groups::open`] finds out what there is, once; [`Groups::create`] makes a [`Group`] per instance. Version 2 is used where the memory controller
//! is delegated to the daemon's own group, else version 1 hierarchies that the daemon may write to, else nothing: then an instance is
//! limited by `setrlimit` alone and what is lost stands in [`Groups::features`].
//! An ordinary user gets version 2 where the daemon's group is delegated to it, as systemd does for the services of a user.
//! Beside version 1, a hierarchy of version 2 without controllers freezes idle instances ([`Group::freezer`]), where the host has one.
//!
//! Groups are made ahead ([`Groups::refill`], [`Groups::take`]).
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
use std::sync::{Arc, Mutex, PoisonError};

use model::ids::RequestId;
use tokio::sync::Notify;

pub(crate) use group::{Group, GroupLimits, MemoryUse};
use hurry::Lane;

/// Names of the daemon's parent groups start so; its process id follows.
const PARENT_PREFIX: &str = "hanshu-";
/// The file that freezes a version 2 group (Documentation/admin-guide/cgroup-v2.rst).
const FREEZE: &str = "cgroup.freeze";
/// How many groups lie ready: a burst of so many starts finds one. Making one takes 250 µs.
const READY: usize = 8;

/// Where groups are made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// One folder, under the unified hierarchy.
    V2 { parent: PathBuf, cpu: bool, pids: bool },
    /// A folder per controller.
    V1 { memory: PathBuf, pids: Option<PathBuf>, cpu: Option<PathBuf>, freezer: Option<PathBuf> },
    /// Nowhere; why.
    None { reason: String },
}

/// The daemon's groups.
#[derive(Debug)]
pub(crate) struct Groups {
    layout: Layout,
    /// Where processor time is shared out.
    lane: Option<Arc<Lane>>,
    ready: Mutex<Ready>,
    /// Told when one that was ready has been taken.
    taken: Arc<Notify>,
}

/// Groups made ahead. Each is used once: what the kernel has counted in a group is nothing for another instance.
#[derive(Debug, Default)]
struct Ready {
    groups: Vec<Group>,
    /// The limits that were asked for last, so that most are found as they are wanted.
    limits: Option<GroupLimits>,
}

impl Groups {
    /// Finds out what the host offers, makes the daemon's parent group there and removes those of daemons that are gone. `into`: whether the kernel
    /// has processes be born in a version 2 group.
    pub(crate) fn open(into: bool) -> Self {
        Self::new(detect::detect(Path::new("/proc"), into))
    }

    fn new(layout: Layout) -> Self {
        let lane = match &layout {
            Layout::V2 { parent, cpu: true, .. } => Some(Lane::new(parent.clone(), true)),
            Layout::V1 { cpu: Some(cpu), .. } => Some(Lane::new(cpu.clone(), false)),
            _ => None,
        };
        Self { layout, lane: lane.map(Arc::new), ready: Mutex::default(), taken: Arc::default() }
    }

    /// Whether memory is limited for an instance as a whole.
    pub(crate) fn limits_memory(&self) -> bool {
        !matches!(self.layout, Layout::None { .. })
    }

    /// A group that nobody had before, if one is ready. Fast enough for an async thread: it writes to files of an empty group, and to none if the
    /// last one had the same limits.
    pub(crate) fn take(&self, limits: GroupLimits) -> io::Result<Option<Group>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.limits = Some(limits);
        let group = ready.groups.pop();
        drop(ready);
        self.taken.notify_one();
        let Some(mut group) = group else { return Ok(None) };
        // One that cannot be changed is dropped, and so removed.
        group.change(limits)?;
        Ok(Some(group))
    }

    /// Makes a group; `None` where there are none to be had.
    pub(crate) fn create(&self, name: &str, limits: GroupLimits) -> io::Result<Option<Group>> {
        Group::make(&self.layout, self.lane.as_ref(), name, limits)
    }

    /// Told when one that was ready has been taken, or was looked for, and when the groups are given up.
    pub(crate) fn taken(&self) -> Arc<Notify> {
        Arc::clone(&self.taken)
    }

    /// Whether so few lie ready that [`Groups::refill`] should not wait for a pause between starts.
    pub(crate) fn runs_short(&self) -> bool {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).groups.len() < READY / 2
    }

    /// Makes groups until [`READY`] of them lie ready, with the limits of the one that was taken last; none before the first was.
    pub(crate) fn refill(&self) -> io::Result<()> {
        loop {
            let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            let (count, limits) = (ready.groups.len(), ready.limits);
            drop(ready);
            let Some(limits) = limits.filter(|_| count < READY) else { return Ok(()) };
            let name = RequestId::generate().to_string();
            let Some(group) = self.create(&name, limits)? else { return Ok(()) };
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).groups.push(group);
        }
    }
}

impl Groups {
    /// Removes those that lie ready, and the parent groups. For a daemon that stops, when no instance is left; no group can be made any more.
    pub(crate) fn close(&self) {
        // Whoever refills shall see that this is the end.
        self.taken.notify_one();
        // They remove themselves, as soon as nobody holds the lock.
        let ready = std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        drop(ready);
        let parents: Vec<&PathBuf> = match &self.layout {
            Layout::V2 { parent, .. } => vec![parent],
            Layout::V1 { memory, pids, cpu, freezer } => {
                let others = [pids, cpu, freezer].into_iter().filter_map(Option::as_ref);
                [memory].into_iter().chain(others).collect()
            }
            Layout::None { .. } => Vec::new(),
        };
        for parent in parents {
            // Instances that are ending still lie in it: then the next daemon removes it.
            fs::remove_dir(parent).unwrap_or_default();
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.close();
    }
}
