//! What an instance is made of besides its socket, and what becomes of it: its processes, its control group, its user id, its code on disk.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use super::freeze::Means;
use super::image::Shared;
use super::packages::Unpacked;
use super::slots::Slot;
use crate::jail::cgroup::{Group, GroupLimits, MemoryUse};
use crate::jail::network::Lease;
use crate::jail::{Exit, InstanceId, Killer, Mount, Process, StartError, Steps};

/// How long a killed instance may take to be gone before it is hurried along, if somebody waits for its end. An idle one takes a millisecond.
const HURRY_AFTER: Duration = Duration::from_millis(2);
/// The same if nobody does: then it would only take the processors from those that have calls.
const HURRY_AT_LEISURE_AFTER: Duration = Duration::from_millis(100);
/// How often a control group is tried to be removed: the kernel may hold on to it a moment longer than to its processes.
const GROUP_REMOVALS: u32 = 12;
/// How long to wait after the first attempt; twice as long after each further one, so 10 s in all.
const GROUP_REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// What has to be cleared up after an instance: its processes, then its control group, then its user id.
///
/// Dropping it kills the processes at once and leaves the waiting to a task.
#[derive(Debug)]
pub(super) struct Remains {
    shared: Arc<Shared>,
    /// `None` before the spawner was asked.
    pub(super) process: Option<Process>,
    slot: Option<Slot>,
    group: Option<Group>,
    oom: Option<OomWatch>,
    /// Its address, where it has one of its own.
    lease: Option<Lease>,
    /// Keeps its code on disk.
    unpacked: Option<Arc<Unpacked>>,
    /// What it used, once it is gone.
    pub(super) memory: Option<MemoryUse>,
    /// Whether the task that clears up has it.
    in_task: bool,
}

impl Remains {
    pub(super) fn new(
        shared: &Arc<Shared>,
        slot: Option<Slot>,
        group: Option<Group>,
        lease: Option<Lease>,
        unpacked: Option<Arc<Unpacked>>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            process: None,
            slot,
            group,
            oom: None,
            lease,
            unpacked,
            memory: None,
            in_task: false,
        }
    }

    /// Takes the process over and watches its memory.
    pub(super) fn watch(&mut self, process: Process) -> std::io::Result<()> {
        let killer = process.killer();
        // First of all, so that it is killed whatever fails below.
        self.process = Some(process);
        let oom = self.group.as_mut().map(Group::take_oom).transpose()?.flatten();
        self.oom = oom.map(|oom| OomWatch::start(&self.shared, oom, killer));
        Ok(())
    }

    /// Gives it other limits than those it was started with.
    pub(super) fn limit(&mut self, limits: GroupLimits) -> std::io::Result<()> {
        self.group.as_mut().map_or(Ok(()), |group| group.change(limits))
    }

    /// Gives it another weight for a while.
    pub(super) fn weigh(&self, cpu_weight: u32) -> std::io::Result<()> {
        self.group.as_ref().map_or(Ok(()), |group| group.weigh(cpu_weight))
    }

    /// How it can be frozen, once it has started; `None` if it cannot.
    pub(super) fn freezer(&self) -> Option<Means> {
        let group = self.group.as_ref().and_then(Group::freezer).map(Means::Group);
        group.or_else(|| self.process.as_ref()?.pauses().map(Means::Signals))
    }

    /// Mounts something while it runs: [`Process::attach`].
    pub(super) async fn attach(&mut self, mounts: Vec<Mount>) -> Result<(), StartError> {
        match &mut self.process {
            Some(process) => process.attach(mounts).await,
            None => Ok(()),
        }
    }

    /// Keeps code on disk that was mounted later.
    pub(super) fn keep(&mut self, unpacked: Arc<Unpacked>) {
        self.unpacked = Some(unpacked);
    }

    pub(super) async fn started(&mut self) -> Result<Steps, StartError> {
        match &mut self.process {
            Some(process) => process.started().await,
            None => Ok(Steps::default()),
        }
    }

    /// What the spawner knows it by.
    pub(super) fn id(&self) -> Option<InstanceId> {
        self.process.as_ref().map(Process::id)
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        self.process.as_ref().and_then(Process::exit)
    }

    pub(super) async fn gone(&mut self) -> Exit {
        match &mut self.process {
            Some(process) => process.gone().await,
            None => Exit::Killed,
        }
    }

    /// Kills every process, waits until they are gone and takes the last figures. `awaited`: whether a call waits for that.
    pub(super) async fn destroy(&mut self, awaited: bool) -> (Exit, MemoryUse) {
        let hurry_after = if awaited { HURRY_AFTER } else { HURRY_AT_LEISURE_AFTER };
        let exit = match &mut self.process {
            Some(process) => destroy(process, self.group.as_ref(), hurry_after).await,
            None => Exit::Killed,
        };
        let mut memory = self.group.as_ref().map(Group::memory).unwrap_or_default();
        let rss = self.process.as_ref().and_then(Process::max_rss_bytes);
        memory.peak_bytes = memory.peak_bytes.or(rss);
        if self.oom.as_ref().is_some_and(|oom| oom.fired.load(Ordering::Acquire)) {
            // It may have been killed by us before the kernel chose a process and counted it.
            memory.oom_kills = memory.oom_kills.max(1);
        }
        self.memory = Some(memory);
        (exit, memory)
    }

    async fn clear_up(mut self) {
        self.destroy(false).await;
        // Nothing is left for `drop` to do.
        self.process = None;
        if let Some(group) = self.group.take() {
            remove(group).await;
        }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if self.process.is_none() && self.group.is_none() {
            return;
        }
        if let Some(process) = &self.process {
            process.kill();
        }
        // Off a runtime the daemon is ending, and what is left ends with it. The same goes for a runtime that drops the task unfinished: it would drop
        // the next one as well, and that the next.
        if self.in_task || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let remains = Self {
            shared: Arc::clone(&self.shared),
            process: self.process.take(),
            slot: self.slot.take(),
            group: self.group.take(),
            oom: self.oom.take(),
            lease: self.lease.take(),
            unpacked: self.unpacked.take(),
            memory: None,
            in_task: true,
        };
        self.shared.tasks.clone().spawn("instance end", remains.clear_up());
    }
}

/// Kills a process tree and waits until it is gone. One that takes its time is put before everything else.
async fn destroy(process: &mut Process, group: Option<&Group>, hurry_after: Duration) -> Exit {
    if let Ok(exit) = tokio::time::timeout(hurry_after, process.destroy()).await {
        return exit;
    }
    let hurry = group.map(Group::hurry).transpose().unwrap_or_else(|error| {
        tracing::debug!(%error, "an instance has to die in its own share of processor time");
        None
    });
    let exit = process.destroy().await;
    drop(hurry);
    exit
}

/// Removes a control group. No thread is held while it waits.
async fn remove(group: Group) {
    let group = Arc::new(group);
    let mut pause = GROUP_REMOVAL_PAUSE;
    for attempt in 1..=GROUP_REMOVALS {
        let own = Arc::clone(&group);
        match tokio::task::spawn_blocking(move || own.remove()).await {
            Ok(Err(error)) if attempt == GROUP_REMOVALS => {
                // The next start of the daemon tries again.
                tracing::warn!(%error, "a control group could not be removed");
            }
            Ok(Err(_)) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Ok(Ok(())) | Err(_) => return,
        }
    }
}

/// Kills an instance when its memory has run out and the kernel would only kill one process of it.
#[derive(Debug)]
struct OomWatch {
    task: AbortHandle,
    fired: Arc<AtomicBool>,
}

impl OomWatch {
    fn start(shared: &Shared, oom: AsyncFd<OwnedFd>, killer: Killer) -> Self {
        let fired = Arc::new(AtomicBool::new(false));
        let said = Arc::clone(&fired);
        let task = shared.tasks.spawn("memory watch", async move {
            // An error would only say that the descriptor cannot be waited for, and it can.
            if oom.readable().await.is_ok() {
                said.store(true, Ordering::Release);
                killer.kill();
            }
        });
        Self { task: task.abort_handle(), fired }
    }
}

impl Drop for OomWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
