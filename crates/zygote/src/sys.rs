//! System calls, raw: the C library's wrappers keep state of their own (error number, cancellation, ids of all threads) that is not true after a raw clone.

use core::arch::asm;

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// Wrong argument.
pub const EINVAL: Errno = Errno(22);
/// Interrupted.
pub const EINTR: Errno = Errno(4);
/// Try again.
pub const EAGAIN: Errno = Errno(11);
/// Out of table space.
pub const ENOSPC: Errno = Errno(28);
/// Not supported.
pub const ENOTSUP: Errno = Errno(95);

/// What a call gives.
pub type Result<T> = core::result::Result<T, Errno>;

/// `struct clone_args` of linux/sched.h, version 2 (Linux 5.7).
#[derive(Debug, Default)]
#[repr(C, align(8))]
#[expect(missing_docs, reason = "named as the kernel's")]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// Of [`CloneArgs::flags`], `CLONE_INTO_CGROUP`: straight into the version 2 control group of `cgroup`.
pub const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Numbers of the system calls that are used.
#[cfg(target_arch = "x86_64")]
#[expect(missing_docs, reason = "named as the calls")]
pub mod nr {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const FSTAT: usize = 5;
    pub const LSEEK: usize = 8;
    pub const MADVISE: usize = 28;
    pub const NANOSLEEP: usize = 35;
    pub const GETPID: usize = 39;
    pub const SENDTO: usize = 44;
    pub const RECVMSG: usize = 47;
    pub const WAIT4: usize = 61;
    pub const FCNTL: usize = 72;
    pub const UMASK: usize = 95;
    pub const GETPPID: usize = 110;
    pub const SETSID: usize = 112;
    pub const SETGROUPS: usize = 116;
    pub const SETRESUID: usize = 117;
    pub const SETRESGID: usize = 119;
    pub const CAPSET: usize = 126;
    pub const SCHED_SETSCHEDULER: usize = 144;
    pub const PRCTL: usize = 157;
    pub const GETTID: usize = 186;
    pub const FUTEX: usize = 202;
    pub const GETDENTS64: usize = 217;
    pub const SET_TID_ADDRESS: usize = 218;
    pub const EXIT_GROUP: usize = 231;
    pub const EPOLL_CTL: usize = 233;
    pub const TGKILL: usize = 234;
    pub const OPENAT: usize = 257;
    pub const READLINKAT: usize = 267;
    pub const SET_ROBUST_LIST: usize = 273;
    pub const GET_ROBUST_LIST: usize = 274;
    pub const TEE: usize = 276;
    pub const EVENTFD2: usize = 290;
    pub const EPOLL_CREATE1: usize = 291;
    pub const DUP3: usize = 292;
    pub const PIPE2: usize = 293;
    pub const PRLIMIT64: usize = 302;
    pub const SETNS: usize = 308;
    pub const SECCOMP: usize = 317;
    pub const CHDIR: usize = 80;
    pub const CLONE3: usize = 435;
    pub const CLOSE_RANGE: usize = 436;
    pub const LANDLOCK_RESTRICT_SELF: usize = 446;
}

/// Numbers of the system calls that are used.
#[cfg(target_arch = "aarch64")]
#[expect(missing_docs, reason = "named as the calls")]
pub mod nr {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const LSEEK: usize = 62;
    pub const FSTAT: usize = 80;
    pub const MADVISE: usize = 233;
    pub const NANOSLEEP: usize = 101;
    pub const GETPID: usize = 172;
    pub const SENDTO: usize = 206;
    pub const RECVMSG: usize = 212;
    pub const WAIT4: usize = 260;
    pub const FCNTL: usize = 25;
    pub const UMASK: usize = 166;
    pub const GETPPID: usize = 173;
    pub const SETSID: usize = 157;
    pub const SETGROUPS: usize = 159;
    pub const SETRESUID: usize = 147;
    pub const SETRESGID: usize = 149;
    pub const CAPSET: usize = 91;
    pub const SCHED_SETSCHEDULER: usize = 119;
    pub const PRCTL: usize = 167;
    pub const GETTID: usize = 178;
    pub const FUTEX: usize = 98;
    pub const GETDENTS64: usize = 61;
    pub const SET_TID_ADDRESS: usize = 96;
    pub const EXIT_GROUP: usize = 94;
    pub const EPOLL_CTL: usize = 21;
    pub const TGKILL: usize = 131;
    pub const OPENAT: usize = 56;
    pub const READLINKAT: usize = 78;
    pub const SET_ROBUST_LIST: usize = 99;
    pub const GET_ROBUST_LIST: usize = 100;
    pub const TEE: usize = 77;
    pub const EVENTFD2: usize = 19;
    pub const EPOLL_CREATE1: usize = 20;
    pub const DUP3: usize = 24;
    pub const PIPE2: usize = 59;
    pub const PRLIMIT64: usize = 261;
    pub const SETNS: usize = 268;
    pub const SECCOMP: usize = 277;
    pub const CHDIR: usize = 49;
    pub const CLONE3: usize = 435;
    pub const CLOSE_RANGE: usize = 436;
    pub const LANDLOCK_RESTRICT_SELF: usize = 446;
}

/// One system call.
///
/// # Safety
///
/// Pointers among the arguments have to be what the call takes, for as long as it takes them.
#[cfg(target_arch = "x86_64")]
pub unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: needed because `core` has no system calls. The kernel changes rax, rcx, r11 and what the arguments point to, which the caller answers for.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    outcome(result)
}

/// One system call.
///
/// # Safety
///
/// Pointers among the arguments have to be what the call takes, for as long as it takes them.
#[cfg(target_arch = "aarch64")]
pub unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: needed because `core` has no system calls. The kernel changes x0 and what the arguments point to, which the caller answers for.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f, options(nostack));
    }
    outcome(result)
}

fn outcome(result: isize) -> Result<usize> {
    match usize::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) => Err(Errno(i32::try_from(result.unsigned_abs()).unwrap_or(i32::MAX))),
    }
}

/// A system call whose arguments are numbers alone: the kernel reads and writes nothing of this process's memory for it.
///
/// Only for calls of which that is true.
pub fn numbers(number: usize, arguments: &[usize]) -> Result<usize> {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(arguments) {
        *to = *from;
    }
    // SAFETY: no argument is a pointer, by this function's contract, which is kept within this crate.
    unsafe { call(number, all) }
}

/// A number as the kernel takes it: negative ones in two's complement.
pub fn word(n: i32) -> usize {
    isize::try_from(n).unwrap_or(-1).cast_unsigned()
}

/// A descriptor from what a call gave.
pub fn descriptor(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| EINVAL)
}

/// Ends this process.
pub fn exit(code: i32) -> ! {
    loop {
        // It does not return; the type does not know.
        numbers(nr::EXIT_GROUP, &[word(code)]).unwrap_or_default();
    }
}

/// Closes a descriptor; that it was none is no error.
pub fn close(fd: i32) {
    numbers(nr::CLOSE, &[word(fd)]).unwrap_or_default();
}

/// Opens a file by a path that ends with a zero byte, close-on-exec.
pub fn open(path: &[u8], flags: usize) -> Result<i32> {
    const AT_FDCWD: i32 = -100;
    const CLOEXEC: usize = 0o2_000_000;
    if path.last() != Some(&0) {
        return Err(EINVAL);
    }
    // SAFETY: the path is live and ends with a zero byte.
    let fd = unsafe {
        call(nr::OPENAT, [word(AT_FDCWD), path.as_ptr().addr(), flags | CLOEXEC, 0, 0, 0])
    };
    descriptor(fd?)
}

/// Reads into a buffer.
pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is live, writable and as long as is said.
    unsafe { call(nr::READ, [word(fd), buffer.as_mut_ptr().addr(), buffer.len(), 0, 0, 0]) }
}

/// Writes some of a buffer.
pub fn write(fd: i32, buffer: &[u8]) -> Result<usize> {
    // SAFETY: the buffer is live and as long as is said.
    unsafe { call(nr::WRITE, [word(fd), buffer.as_ptr().addr(), buffer.len(), 0, 0, 0]) }
}

/// Makes `to` a copy of `from`, closed by `exec` or not, and closes `from`.
pub fn renumber(from: i32, to: i32, closed_by_exec: bool) -> Result<()> {
    const CLOEXEC: usize = 0o2_000_000;
    if from == to {
        return Ok(());
    }
    numbers(nr::DUP3, &[word(from), word(to), if closed_by_exec { CLOEXEC } else { 0 }])?;
    close(from);
    Ok(())
}

/// Sleeps for some microseconds, below a second.
pub fn sleep_micros(micros: u32) {
    let time = [0_i64, i64::from(micros) * 1_000];
    // SAFETY: a timespec is two 64-bit numbers here; null asks for no remainder.
    unsafe { call(nr::NANOSLEEP, [(&raw const time).addr(), 0, 0, 0, 0, 0]) }.unwrap_or_default();
}
