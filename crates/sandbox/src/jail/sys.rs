//! The system calls that have no safe wrapper in a crate we use. All `unsafe` of this crate is here, each piece with why it is
//! needed and why it is sound.
//!
//! [`clone3`], [`execute`] and [`exit`] are for the spawner and its children: processes of one thread.
#![expect(unsafe_code, reason = "the one file that makes raw system calls")]

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use ::zygote::sys::{CloneArgs, INTO_CGROUP};
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Which side of a [`clone3`] this is.
#[derive(Debug)]
pub(super) enum Cloned {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The new process.
        pid: Pid,
        /// A descriptor of it.
        pidfd: OwnedFd,
    },
}

/// For [`clone3`]: the parent sleeps until the child has executed or ended.
pub(super) const VFORK: u64 = libc::CLONE_VFORK as u64;
/// For [`clone3`]: new pid, mount, network, IPC and UTS namespaces.
pub(super) const NAMESPACES: u64 = (libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS)
    as u64
    | MOUNT_NAMESPACE
    | NETWORK_NAMESPACE;
/// Of [`NAMESPACES`]: the mount namespace.
pub(super) const MOUNT_NAMESPACE: u64 = libc::CLONE_NEWNS as u64;
/// Of [`NAMESPACES`]: the network namespace.
pub(super) const NETWORK_NAMESPACE: u64 = libc::CLONE_NEWNET as u64;
/// For [`clone3`]: a new user namespace, too.
pub(super) const USER_NAMESPACE: u64 = libc::CLONE_NEWUSER as u64;

/// Copies this process, as `fork` does, into the new namespaces of `flags` and, if given, straight into a version 2 control group.
///
/// Only for a process of one thread: the child is then a full copy and may run any code. Never pass `CLONE_VM`.
pub(super) fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    const VM: u64 = libc::CLONE_VM as u64;
    assert!(flags & VM == 0, "a child that shares memory would share this stack");
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: ptr::from_mut(&mut pidfd).expose_provenance() as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(group) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::try_from(group.as_raw_fd()).map_err(io::Error::other)?;
    }
    // SAFETY: needed because neither std, rustix nor libc wraps clone3. `args` has the kernel's layout and its true size is
    // passed; `pidfd` is live for the call and only written in the parent. Without CLONE_VM and without a stack of its own the
    // child is a copy-on-write copy that returns here like after fork; the caller is single-threaded, so no lock of another thread
    // can be held in the copy.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), size_of::<CloneArgs>())
    };
    match pid {
        0 => Ok(Cloned::Child),
        1.. => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| io::Error::other("clone3 gave no pid"))?;
            // SAFETY: needed to own what the kernel made. It succeeded with CLONE_PIDFD, so `pidfd` is a fresh descriptor of ours.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves this process into new namespaces.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared within the process");
    // SAFETY: needed because rustix marks it unsafe for UnshareFlags::FILES alone, which is excluded.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Makes descriptor `number` a copy of `fd`, closing what was there; it is inherited over `exec` if `inherited`.
///
/// Only for a child that arranges its descriptors before anything in it owns `number`.
pub(super) fn install(fd: impl AsFd, number: RawFd, inherited: bool) -> io::Result<()> {
    let flags = if inherited { 0 } else { libc::O_CLOEXEC };
    // SAFETY: needed because the safe wrappers want an OwnedFd for the target, and what stands at these fixed numbers has no owner. No memory is
    // involved; the caller's contract keeps I/O safety.
    let done = unsafe { libc::dup3(fd.as_fd().as_raw_fd(), number, flags) };
    check(done.into())
}

/// The descriptor `number`, which [`install`] has put there for the rest of the process's life.
pub(super) fn installed(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: needed because a fixed number has no owner to borrow from. The child installs it once and never closes it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Closes all descriptors from `first` to `last`, both included, whoever thinks to own them.
///
/// Only for a child that never returns and so never drops such an owner.
pub(super) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: needed because nothing wraps it. It touches no memory; the caller's contract rules out a second close.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) })
}

/// What [`set_mount_flags`] sets, as `MOUNT_ATTR_*` of linux/mount.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MountFlags {
    /// Read-only, no set-user-id, no devices.
    ReadOnly,
    /// No set-user-id, no execution: for a device node, which is written to.
    Device,
}

/// Sets flags on a detached mount and everything mounted below it. Never clears a flag, so it works on mounts that a more privileged
/// namespace has locked.
pub(super) fn set_mount_flags(tree: impl AsFd, flags: MountFlags) -> io::Result<()> {
    const RDONLY: u64 = 1;
    const NOSUID: u64 = 2;
    const NODEV: u64 = 4;
    const NOEXEC: u64 = 8;
    #[repr(C)]
    struct MountAttr {
        attr_set: u64,
        attr_clr: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attr_set = match flags {
        MountFlags::ReadOnly => RDONLY | NOSUID | NODEV,
        MountFlags::Device => NOSUID | NOEXEC,
    };
    let attr = MountAttr { attr_set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: needed because nothing wraps mount_setattr (Linux 5.12). The path is a C string, `attr` has the kernel's layout and its
    // true size is passed; the kernel only reads both.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    })
}

/// Whether the kernel takes filters of system calls that answer by killing the process (seccomp(2), Linux 4.14).
pub(super) fn has_seccomp() -> bool {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: needed because nothing wraps it. SECCOMP_GET_ACTION_AVAIL reads one u32, which is live, and changes nothing.
    let asked = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0_u32,
            ptr::from_ref(&action),
        )
    };
    asked == 0
}

/// Leaves the session keyring that this process was started with for an empty one of its own (keyrings(7)).
pub(super) fn leave_keyring() -> io::Result<()> {
    // SAFETY: needed because nothing wraps it. KEYCTL_JOIN_SESSION_KEYRING takes a name or null, and touches no memory for null.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<c_char>())
    })
}

/// Flags of an interface that is up, in the width that `struct ifreq` has for them (netdevice(7)).
#[expect(clippy::cast_possible_truncation, reason = "IFF_UP and IFF_RUNNING are 0x1 and 0x40")]
const INTERFACE_UP: libc::c_short = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;

/// Version of the kernel's Landlock interface (landlock(7)); an error where it has none, or where it is switched off.
pub(super) fn landlock_version() -> io::Result<u32> {
    const VERSION: libc::c_long = 1;
    // SAFETY: needed because nothing of ours wraps it. With LANDLOCK_CREATE_RULESET_VERSION the kernel wants a null pointer and no size, touches no
    // memory and makes nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    check(version)?;
    u32::try_from(version).map_err(io::Error::other)
}

/// Sets the loopback interface of the own network namespace up.
pub(super) fn loopback_up(socket: impl AsFd) -> io::Result<()> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: INTERFACE_UP },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed() as c_char;
    }
    // SAFETY: needed because no crate of ours wraps this ioctl. SIOCSIFFLAGS reads one ifreq, which is initialised and live; its name is
    // NUL-terminated because the array was zeroed and is longer than "lo".
    check(
        unsafe {
            libc::ioctl(
                socket.as_fd().as_raw_fd(),
                libc::SIOCSIFFLAGS as _,
                ptr::from_ref(&request),
            )
        }
        .into(),
    )
}

/// Sets every signal to its default and blocks none: both are inherited over `exec`, and the Rust runtime ignores `SIGPIPE`.
pub(super) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: needed because no safe wrapper exists. SIG_DFL installs no code; for numbers that cannot be changed the call fails, which is
        // what those numbers need.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: needed because no safe wrapper exists. A zeroed sigset_t is valid memory for sigemptyset, which initialises it; both pointers
    // are live for the calls. Neither call can fail with these arguments.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Replaces this process by a program; returns only if that fails.
pub(super) fn execute(argv: &[CString], environment: &[CString]) -> io::Result<Infallible> {
    let path: &CStr = argv.first().ok_or(io::ErrorKind::InvalidInput)?;
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, environment) = (pointers(argv), pointers(environment));
    // SAFETY: needed because std's exec does more than replace the process and cannot be given an exact environment this late. Both arrays
    // end with NULL and point to C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// One ended child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// Which.
    pub(super) pid: Pid,
    /// As `wait` gives it.
    pub(super) wait_status: i32,
    /// Most resident memory, its own or of any child it waited for, in KiB.
    pub(super) max_rss_kib: u64,
}

/// Waits until any child has ended and reaps it.
pub(super) fn wait_for_any_child() -> io::Result<Ended> {
    wait_for_child(0)?.ok_or_else(|| io::ErrorKind::Interrupted.into())
}

/// Reaps a child that has ended, if there is one.
pub(super) fn reap_any_child() -> io::Result<Option<Ended>> {
    wait_for_child(libc::WNOHANG)
}

fn wait_for_child(flags: libc::c_int) -> io::Result<Option<Ended>> {
    let mut wait_status = 0;
    // SAFETY: needed because only wait4 gives the child's resource usage and nothing wraps it. Zeroed bytes are a valid rusage (integers), and
    // both pointers are live for the call.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(-1, &raw mut wait_status, flags, &raw mut usage), usage)
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let max_rss_kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    Ok(Pid::from_raw(pid).map(|pid| Ended { pid, wait_status, max_rss_kib }))
}

/// Readable when a child has ended since it was last taken: SIGCHLD as a descriptor.
#[derive(Debug)]
pub(super) struct ChildSignals(OwnedFd);

impl ChildSignals {
    /// Blocks the signal in this process, which has one thread.
    pub(super) fn block() -> io::Result<Self> {
        // SAFETY: needed because nothing wraps signalfd. Zeroed bytes are storage for a set, which sigemptyset makes valid before it is used; all
        // pointers are live for the calls, and the descriptor that comes back is nobody else's.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()).into())?;
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            check(fd.into())?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Takes what is there.
    pub(super) fn take(&self) -> io::Result<()> {
        let mut one = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut one) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for ChildSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal to all processes that this one may signal, but for itself and pid 1 of its namespace; an error if there are none.
pub(super) fn signal_all(signal: Signal) -> io::Result<()> {
    // SAFETY: needed because rustix knows single processes and groups only. The call takes numbers alone. Only pid 1 of an instance calls it, so that what it
    // reaches is the instance.
    check(unsafe { libc::kill(-1, signal.as_raw()) }.into())
}

/// Makes a descriptor wait-able in async code.
pub(super) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: needed because tokio cannot know that a type keeps its descriptor open and the same while it is registered. OwnedFd does, and
    // the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}

/// Ends this process now: nothing is unwound, flushed or dropped.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: needed because std::process::exit would run the exit handlers of the process that this one is a copy of.
    unsafe { libc::_exit(code) }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
