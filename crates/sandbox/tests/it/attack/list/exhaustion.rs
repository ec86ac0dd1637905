//! Taking all there is: memory of every kind, processes, descriptors, files, and what the kernel counts by user.
//!
//! What an attack gets is of no account, so most words are allowed; what counts is that the neighbour and the host still get theirs while it is held.

use super::promise::{DISK, LOGS, MEMORY, WHOLE};
use super::{Attack, FailureKind, Lack, Must, Program};

/// Some limit of the instance's own, or a call that is refused altogether.
const BOUNDED: &str = "EMFILE|ENFILE|EAGAIN|ENOSPC|ENOMEM|ENOLCK|ETOOMANYREFS|EPERM|ENOSYS|EACCES";
const OUT_OF_MEMORY: Must = Must::End(&[FailureKind::MemoryExceeded]);
/// The bound of the attack itself: this host let it have everything.
const NO_END: Must = Must::Say(&[("memory", "no end")]);
const NO_SUM: &str = "memory is limited for each process alone, not for an instance as a whole";
const NO_SHARED: &str = "shared memory and files in memory are not limited";

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("anonymous_memory", MEMORY, Program::C("anonymous_memory"), OUT_OF_MEMORY).unless(
        Lack::MemoryGroups,
        Must::Say(&[("memory", "ENOMEM")]),
        NO_SUM,
    ),
    Attack::new("spread_memory", WHOLE, Program::C("spread_memory"), OUT_OF_MEMORY).unless(
        Lack::MemoryGroups,
        NO_END,
        NO_SUM,
    ),
    Attack::new("shared_memory", MEMORY, Program::C("shared_memory"), OUT_OF_MEMORY).unless(
        Lack::MemoryGroups,
        NO_END,
        NO_SHARED,
    ),
    Attack::new("sysv_memory", MEMORY, Program::C("sysv_memory"), OUT_OF_MEMORY).unless(
        Lack::MemoryGroups,
        NO_END,
        NO_SHARED,
    ),
    Attack::new("memfd_memory", MEMORY, Program::C("memfd_memory"), OUT_OF_MEMORY).unless(
        Lack::MemoryGroups,
        NO_END,
        NO_SHARED,
    ),
    Attack::new("tmpfs_memory", DISK, Program::C("tmpfs_memory"), OUT_OF_MEMORY).unless(
        Lack::MemoryGroups,
        Must::Say(&[("memory", "ENOSPC")]),
        NO_SHARED,
    ),
    Attack::new("shm_memory", MEMORY, Program::C("shm_memory"), Must::Say(&[("memory", "ENOSPC")])),
    Attack::new(
        "page_cache",
        MEMORY,
        Program::C("page_cache"),
        Must::Say(&[("page cache", "done")]),
    ),
    Attack::new("forks", MEMORY, Program::C("forks"), Must::Any),
    Attack::new(
        "descriptors",
        MEMORY,
        Program::C("descriptors"),
        Must::Say(&[("a hundred thousand", BOUNDED)]),
    ),
    Attack::new("pipes", MEMORY, Program::C("pipes"), Must::Any).unless_felt(
        Lack::Users,
        &["large pipe"],
        "pages of pipes are counted for the daemon's user: others get pipes of 8 KiB",
    ),
    Attack::new("sockets", MEMORY, Program::C("sockets"), Must::Any),
    Attack::new("in_flight", MEMORY, Program::C("in_flight"), Must::Any),
    Attack::new("inotify", MEMORY, Program::C("inotify"), Must::Say(&[("instances", BOUNDED)])),
    Attack::new("timers", MEMORY, Program::C("timers"), Must::Say(&[("timers", BOUNDED)])),
    Attack::new(
        "queued_signals",
        MEMORY,
        Program::C("queued_signals"),
        Must::Say(&[("queued signals", BOUNDED)]),
    ),
    Attack::new(
        "queues",
        MEMORY,
        Program::C("queues"),
        // Semaphores alone fill the memory of the instance.
        Must::Any,
    ),
    Attack::new("locks", MEMORY, Program::C("locks"), Must::Any),
    Attack::new(
        "locked_memory",
        MEMORY,
        Program::C("locked_memory"),
        Must::Say(&[("locked memory", BOUNDED), ("huge pages", BOUNDED)]),
    ),
    Attack::new(
        "tiny_files",
        DISK,
        Program::C("tiny_files"),
        Must::Say(&[("tiny files", "ENOSPC")]),
    ),
    // Beside the heap, which the virtual machine itself limits.
    Attack::new(
        "native_memory",
        MEMORY,
        Program::Java("memory"),
        Must::End(&[FailureKind::MemoryExceeded, FailureKind::Exited]),
    ),
    Attack::new(
        "flood_of_output",
        LOGS,
        Program::Python("import os\nwhile True: os.write(1, b'x' * 65536)"),
        Must::End(&[FailureKind::Timeout]),
    ),
    Attack::new(
        "flood_of_lines",
        LOGS,
        Program::Node("for (;;) require('fs').writeSync(2, '\\n'.repeat(65536));"),
        Must::End(&[FailureKind::Timeout]),
    ),
];
