//! System calls that no function needs, by number and by every door there is.

use super::promise::{KERNEL, RIGHTS};
use super::{Attack, CLOSED, Must, NO, Program};

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new(
        "mounts",
        RIGHTS,
        Program::C("mounts"),
        Must::Say(&[
            ("mount tmpfs", NO),
            ("mount proc", NO),
            ("bind", NO),
            ("remount code", NO),
            ("unmask proc", NO),
            ("umount code", NO),
            ("umount root", NO),
            ("pivot_root", NO),
            ("chroot", NO),
            ("open_tree", NO),
            ("move_mount", NO),
            ("fsopen", NO),
            ("fspick", NO),
            ("mount_setattr", NO),
            ("swapon", NO),
            ("swapoff", NO),
            ("quotactl", NO),
        ]),
    ),
    Attack::new(
        "namespaces",
        RIGHTS,
        Program::C("namespaces"),
        Must::Say(&[
            ("unshare user", NO),
            ("unshare mount", NO),
            ("unshare pid", NO),
            ("unshare network", NO),
            ("unshare ipc", NO),
            ("unshare uts", NO),
            ("unshare cgroup", NO),
            ("unshare time", NO),
            ("clone user", NO),
            ("clone user and network", NO),
            ("clone user, high bits set", NO),
            ("clone3 user", NO),
            ("clone3 user, mount and network", NO),
            ("clone3 time", NO),
            ("two roots shed", NO),
        ]),
    ),
    Attack::new(
        "other_namespaces",
        RIGHTS,
        Program::C("other_namespaces"),
        Must::Say(&[
            ("mount of 1", CLOSED),
            ("user of 1", CLOSED),
            ("own mount", NO),
            ("own network", NO),
            ("own user", NO),
            ("all of 1", NO),
            ("owner of the own mounts", "EPERM"),
            ("parent of the own user", "EPERM"),
        ]),
    ),
    // The tables of other architectures are closed as a whole, harmless calls with them: by the filter's end of the process or an error.
    Attack::new(
        "doors",
        KERNEL,
        Program::C("doors"),
        Must::Say(if cfg!(target_arch = "x86_64") {
            &[
                ("int80 unshare", "SIGSYS|EPERM|ENOSYS|SIGSEGV"),
                ("int80 ptrace", "SIGSYS|EPERM|ENOSYS|SIGSEGV"),
                ("int80 personality", "SIGSYS|EPERM|ENOSYS|SIGSEGV"),
                ("int80 getpid", "SIGSYS|EPERM|ENOSYS|SIGSEGV"),
                ("x32 unshare", "SIGSYS|EPERM|ENOSYS"),
                ("x32 ptrace", "SIGSYS|EPERM|ENOSYS"),
                ("x32 getpid", "SIGSYS|EPERM|ENOSYS"),
                ("no such call", NO),
            ]
        } else {
            &[("no such call", NO)]
        }),
    ),
    Attack::new(
        "kernel",
        KERNEL,
        Program::C("kernel"),
        Must::Say(&[
            ("bpf", NO),
            ("perf_event_open", NO),
            ("io_uring_setup", NO),
            ("userfaultfd", NO),
            ("kexec_load", NO),
            ("init_module", NO),
            ("finit_module", NO),
            ("delete_module", NO),
            ("fanotify_init", NO),
            ("syslog", NO),
            ("acct", NO),
            ("reboot", NO),
            ("vhangup", NO),
            ("personality", NO),
            #[cfg(target_arch = "x86_64")]
            ("iopl", NO),
            #[cfg(target_arch = "x86_64")]
            ("ioperm", NO),
            #[cfg(target_arch = "x86_64")]
            ("modify_ldt", NO),
        ]),
    ),
    Attack::new(
        "keys",
        KERNEL,
        Program::C("keys"),
        Must::Say(&[
            ("add_key", NO),
            ("request_key", NO),
            ("keyctl join", NO),
            ("keyctl user", NO),
        ]),
    ),
    Attack::new(
        "clocks",
        RIGHTS,
        Program::C("clocks"),
        Must::Say(&[
            ("clock_settime", NO),
            ("settimeofday", NO),
            ("adjtimex", NO),
            ("clock_adjtime", NO),
            ("sethostname", NO),
            ("setdomainname", NO),
        ]),
    ),
];
