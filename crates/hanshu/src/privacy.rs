//! Keeps the memory of the daemon, its spawner and its instances out of core dumps, and the daemon's out of debuggers: secrets are in it.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// A limit of one byte, not of none: a kernel whose core pattern is a program does not ask for the limit, but takes this one value
/// as "no dump" (`do_coredump` in fs/coredump.c). For a core file it is too little as well.
const NO_CORE_BYTES: u64 = 1;

/// To be called once, before anything is started: the limit is inherited by every process that comes from this one. What does not
/// succeed is said in the log; the daemon runs on.
pub(crate) fn keep_memory_private() {
    let bytes = getrlimit(Resource::Core).maximum.map_or(NO_CORE_BYTES, |m| m.min(NO_CORE_BYTES));
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        tracing::warn!(%error, "core dumps cannot be switched off: a crash may write secrets to the disk");
    }
    // Its own users' debuggers and /proc/PID/mem are kept out too; a program that is executed, as the spawner is, gets the usual again.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the daemon's memory can be read by other processes of its user");
    }
}
