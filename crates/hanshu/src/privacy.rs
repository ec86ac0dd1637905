//! Keeps the memory of the daemon, its spawner and its instances out of core dumps, and the daemon's out of debuggers: secrets are in it.

use model::limits;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// To be called once, before anything is started: the limit is inherited by every process that comes from this one. What does not
/// succeed is said in the log; the daemon runs on.
pub(crate) fn keep_memory_private() {
    let most = getrlimit(Resource::Core).maximum.unwrap_or(u64::MAX);
    let bytes = most.min(limits::CORE_DUMP_BYTES);
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    if let Err(error) = setrlimit(Resource::Core, limit) {
        tracing::warn!(%error, "core dumps cannot be switched off: a crash may write secrets to the disk");
    }
    // Its own users' debuggers and /proc/PID/mem are kept out too; a program that is executed, as the spawner is, gets the usual again.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the daemon's memory can be read by other processes of its user");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn this_process_is_neither_dumped_nor_traced() {
        keep_memory_private();
        let core = getrlimit(Resource::Core);
        assert!(core.maximum.unwrap() <= 1 && core.current.unwrap() <= 1, "{core:?}");
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        // Again, as `up` may after `serve` in one process of tests.
        keep_memory_private();
    }
}
