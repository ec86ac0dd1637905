//! What every process of an instance gives up, for good: the only home of these rules, for the process that sets an instance up and for a forked runtime.

use crate::sys::{EINVAL, Result, call, nr, numbers};

/// What the function's files may not be at first: the usual, whatever the daemon was started with.
const UMASK: usize = 0o022;
/// Signals that wait to be taken and timers of an instance together. The kernel holds memory for each, and a user has some ten thousand.
const PENDING_SIGNALS: u64 = 1024;

/// `prctl`: removes a capability from the bounding set.
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_SECUREBITS: usize = 28;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const PR_CAP_AMBIENT: usize = 47;
const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;
/// `SECBIT_NOROOT`, `NO_SETUID_FIXUP` with their locks, `KEEP_CAPS_LOCKED`, `NO_CAP_AMBIENT_RAISE` with its lock: neither user id 0, nor a change of user ids, nor
/// the ambient set brings any capability.
const NO_CAPABILITIES: usize = 0b1110_1111;
/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Numbers of capabilities that a kernel may have.
const CAPABILITIES: usize = 64;

const RLIMIT_DATA: usize = 2;
const RLIMIT_CORE: usize = 4;
const RLIMIT_NPROC: usize = 6;
const RLIMIT_NOFILE: usize = 7;
const RLIMIT_SIGPENDING: usize = 11;
const SCHED_BATCH: usize = 3;

/// Limits of one process of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files.
    pub open_files: u64,
    /// Processes and threads of its user.
    pub processes: u64,
    /// Private writable memory in bytes; `None`: no limit.
    pub data_bytes: Option<u64>,
    /// Core dumps in bytes.
    pub core_bytes: u64,
}

/// Sets limits, the mask of new files and the scheduling policy for this process, and all it will start.
pub fn limit(limits: &Limits) -> Result<()> {
    numbers(nr::UMASK, &[UMASK])?;
    // More than this process may have, which is what the daemon may have, cannot be given.
    set_limit(RLIMIT_NOFILE, limits.open_files.min(most(RLIMIT_NOFILE)?))?;
    set_limit(RLIMIT_NPROC, limits.processes)?;
    set_limit(RLIMIT_CORE, limits.core_bytes.min(most(RLIMIT_CORE)?))?;
    set_limit(RLIMIT_SIGPENDING, PENDING_SIGNALS.min(most(RLIMIT_SIGPENDING)?))?;
    if let Some(bytes) = limits.data_bytes {
        set_limit(RLIMIT_DATA, bytes)?;
    }
    // A function that is woken then does not take the processor from the daemon between two of its system calls: 32 connections on two
    // cores get 40 000 calls a second instead of 28 000, with a lower p99. A function may set itself back, which harms nobody. Where
    // the policy cannot be set, functions run all the same.
    let priority = 0_i32;
    // SAFETY: a sched_param is one number, which is live.
    unsafe {
        call(nr::SCHED_SETSCHEDULER, [0, SCHED_BATCH, (&raw const priority).addr(), 0, 0, 0])
    }
    .unwrap_or_default();
    Ok(())
}

/// The hard limit of a resource.
fn most(resource: usize) -> Result<u64> {
    let mut limit = [0_u64; 2];
    // SAFETY: a rlimit64 is two 64-bit numbers, which are live and writable.
    unsafe { call(nr::PRLIMIT64, [0, resource, 0, (&raw mut limit).addr(), 0, 0]) }?;
    Ok(limit[1])
}

fn set_limit(resource: usize, value: u64) -> Result<()> {
    let limit = [value; 2];
    // SAFETY: a rlimit64 is two 64-bit numbers, which are live; null asks for no old ones.
    unsafe { call(nr::PRLIMIT64, [0, resource, (&raw const limit).addr(), 0, 0, 0]) }.map(drop)
}

/// Becomes the unprivileged user of the own user namespace and gives up every capability. For a process of one thread.
pub fn drop_all(uid: u32, gid: u32) -> Result<()> {
    for capability in 0..CAPABILITIES {
        match numbers(nr::PRCTL, &[PR_CAPBSET_DROP, capability, 0, 0, 0]) {
            Ok(_) => {}
            // The first number that this kernel does not know.
            Err(EINVAL) => break,
            Err(e) => return Err(e),
        }
    }
    numbers(nr::PRCTL, &[PR_SET_SECUREBITS, NO_CAPABILITIES, 0, 0, 0])?;
    let (uid, gid) = (usize::try_from(uid), usize::try_from(gid));
    let (uid, gid) = (uid.map_err(|_| EINVAL)?, gid.map_err(|_| EINVAL)?);
    numbers(nr::SETRESGID, &[gid, gid, gid])?;
    numbers(nr::SETRESUID, &[uid, uid, uid])?;
    numbers(nr::PRCTL, &[PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0])?;
    let header = [CAPABILITY_VERSION, 0];
    let none = [0_u32; 6];
    // SAFETY: version 3 has a header of two numbers and two times three of data; all are live.
    unsafe {
        call(nr::CAPSET, [(&raw const header).addr(), (&raw const none).addr(), 0, 0, 0, 0])
    }?;
    numbers(nr::PRCTL, &[PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0])?;
    Ok(())
}

/// Leaves every supplementary group.
pub fn leave_groups() -> Result<()> {
    numbers(nr::SETGROUPS, &[0, 0]).map(drop)
}

/// Begins a session, so that no terminal and no process group is shared.
pub fn begin_session() -> Result<()> {
    numbers(nr::SETSID, &[]).map(drop)
}

/// Whether others of the same user may look into this process.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    const PR_SET_DUMPABLE: usize = 4;
    numbers(nr::PRCTL, &[PR_SET_DUMPABLE, usize::from(dumpable), 0, 0, 0]).map(drop)
}
