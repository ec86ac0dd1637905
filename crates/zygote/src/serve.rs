//! The zygote's loop: an order comes, a child goes.

use core::cell::UnsafeCell;

use crate::birth::{self, Brought};
use crate::order::{FIXED_FDS, ORDER_BYTES, ORDER_FDS, Order};
use crate::sys::{
    self, CloneArgs, EINTR, EINVAL, ENOTSUP, Errno, INTO_CGROUP, Result, call, nr, numbers, word,
};
use crate::{descriptors, memory, threads};

/// Process ids in the instance: the runtime has the one that `exec` would have given it; the helper has the next.
const CHILD_PID: i32 = 2;
const HELPER_PID: i32 = 3;
/// `CLONE_NEWPID`.
const PID_NAMESPACE: usize = 0x2000_0000;
/// `__WALL`: whatever signal a child ends with.
const WAIT_ALL: usize = 0x4000_0000;
/// Bytes of the helper's stack.
const STACK_BYTES: usize = 64 * 1024;

/// Memory of the library that one thread uses: the one that waits.
#[repr(align(64))]
pub(crate) struct Place<T>(UnsafeCell<T>);

// SAFETY: needed for a static. Only the thread that called `wait` touches it, and the helper while that thread sleeps.
unsafe impl<T> Sync for Place<T> {}

impl<T> Place<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Where it lies.
    pub(crate) const fn at(&self) -> *mut T {
        self.0.get()
    }
}

static MESSAGE: Place<[u8; ORDER_BYTES]> = Place::new([0; ORDER_BYTES]);
static STACK: Place<[u8; STACK_BYTES]> = Place::new([0; STACK_BYTES]);

/// Why a process cannot be a zygote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What was tried.
    pub step: &'static str,
    /// What the kernel said, or a number that helps.
    pub error: Errno,
}

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// A start that waits for it.
    Hurries,
    /// To lie ready: it has time to become warm.
    Rests,
}

/// What entries return to the bootstrap (`runtimes/PROTOCOL.md`).
pub(crate) fn told(waited: core::result::Result<Child, Unfit>) -> i32 {
    match waited {
        Ok(Child::Hurries) => 0,
        Err(_) => 1,
        Ok(Child::Rests) => 2,
    }
}

/// Waits for orders on a socket and forks for each. Returns in children alone, each the runtime of its instance: whether somebody waits for it. Ends the process
/// when the socket is closed.
///
/// An error says that this process cannot be forked so. It has to end, for some of its threads may be parked.
pub fn wait(control: i32) -> core::result::Result<Child, Unfit> {
    let at = |step: &'static str| move |error| Unfit { step, error };
    if !threads::can() {
        return Err(at("support this processor")(ENOTSUP));
    }
    let pid = numbers(nr::GETPID, &[]).map_err(at("ask for the pid"))?;
    // What reseeds by a change of process id has to see one.
    if [CHILD_PID, HELPER_PID].iter().any(|taken| word(*taken) == pid) {
        return Err(at("have a pid that no child has")(EINVAL));
    }
    memory::follow().map_err(at("have all memory follow"))?;
    let home = sys::open(b"/proc/self/ns/pid\0", 0).map_err(at("open the pid namespace"))?;
    let own = descriptors::scan(&[control, home]).map_err(at("know every descriptor"))?;
    threads::park().map_err(at("park every thread"))?;
    loop {
        // SAFETY: this thread alone uses the place, and the slice ends with this round.
        let message = unsafe { &mut *MESSAGE.at() };
        let mut fds = [-1; ORDER_FDS];
        let length = match receive(control, message, &mut fds) {
            Ok(0) | Err(_) => sys::exit(0),
            Ok(length) => length,
        };
        let order = Order::decode(message.get(..length).unwrap_or_default());
        if let Some((order, filter)) = order
            && let Some(errand) = Errand::new(&order, &fds)
            && fork(&errand, home)
        {
            if birth::enter(&order, filter, &errand.brought, own).is_err() {
                sys::exit(1);
            }
            if threads::recreate().is_err() {
                sys::exit(1);
            }
            return Ok(if order.rests { Child::Rests } else { Child::Hurries });
        }
        if order.is_none_or(|(order, _)| {
            fds.iter().take_while(|fd| **fd >= 0).count() < order.descriptors()
        }) && let [_, _, _, _, status, ..] = fds
            && status >= 0
        {
            birth::fail(status, b"read an order", EINVAL).unwrap_or_default();
        }
        for fd in fds.into_iter().filter(|fd| *fd >= 0) {
            sys::close(fd);
        }
    }
}

/// What the helper is told.
struct Errand {
    brought: Brought,
    group: Option<i32>,
    joins: [i32; ORDER_FDS],
}

impl Errand {
    /// `None` if a descriptor did not arrive: this process is out of them.
    fn new(order: &Order, fds: &[i32; ORDER_FDS]) -> Option<Self> {
        let count = order.descriptors();
        if fds.get(..count)?.iter().any(|fd| *fd < 0) {
            return None;
        }
        let [first, stdout, stderr, frames, status, ..] = *fds;
        let mut rest = fds.get(FIXED_FDS..count)?.iter().copied();
        let ruleset = if order.ruleset { rest.next() } else { None };
        let group = if order.group { rest.next() } else { None };
        let mut joins = [-1; ORDER_FDS];
        for (to, from) in joins.iter_mut().zip(rest) {
            *to = from;
        }
        let brought = Brought { first, stdout, stderr, frames, status, ruleset };
        Some(Self { brought, group, joins })
    }
}

/// Receives a message and descriptors; the message's length, 0 at the end.
fn receive(control: i32, message: &mut [u8], fds: &mut [i32; ORDER_FDS]) -> Result<usize> {
    const RIGHTS: u32 = 1;
    const SOL_SOCKET: u32 = 1;
    const CMSG_CLOEXEC: usize = 0x4000_0000;
    /// `struct cmsghdr` with its data.
    #[repr(C)]
    struct Control {
        length: usize,
        level: u32,
        kind: u32,
        fds: [i32; ORDER_FDS],
    }
    const HEADER_BYTES: usize = 16;
    /// `struct msghdr`.
    #[repr(C)]
    struct Header {
        name: usize,
        name_length: usize,
        vectors: usize,
        vector_count: usize,
        control: usize,
        control_length: usize,
        flags: usize,
    }
    let mut control_data = Control { length: 0, level: 0, kind: 0, fds: [-1; ORDER_FDS] };
    let vector = [message.as_mut_ptr().addr(), message.len()];
    let mut header = Header {
        name: 0,
        name_length: 0,
        vectors: (&raw const vector).addr(),
        vector_count: 1,
        control: (&raw mut control_data).addr(),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    let length = loop {
        // SAFETY: the header has the kernel's layout on 64 bits; what it points to is live, writable and as long as is said.
        let got = unsafe {
            call(nr::RECVMSG, [word(control), (&raw mut header).addr(), CMSG_CLOEXEC, 0, 0, 0])
        };
        match got {
            Err(EINTR) => {}
            other => break other?,
        }
    };
    if control_data.level == SOL_SOCKET && control_data.kind == RIGHTS {
        let count = control_data.length.saturating_sub(HEADER_BYTES) / 4;
        for (to, from) in fds.iter_mut().zip(control_data.fds).take(count) {
            *to = from;
        }
    }
    Ok(length)
}

/// Forks; whether this is the child. What goes wrong is told to the spawner.
fn fork(errand: &Errand, home: i32) -> bool {
    let status = errand.brought.status;
    let told = |step: &[u8], e| birth::fail(status, step, e).unwrap_or_default();
    if let Err(e) = numbers(nr::SETNS, &[word(errand.brought.first), PID_NAMESPACE]) {
        told(b"enter the instance's pid namespace", e);
        return false;
    }
    let cloned = clone_helper(errand);
    if cloned == Ok(None) {
        return true;
    }
    // Of an error here the next order hears: it is cloned into the wrong namespace and fails.
    numbers(nr::SETNS, &[word(home), PID_NAMESPACE]).unwrap_or_default();
    match cloned {
        // It has ended: this thread slept until then.
        Ok(Some(helper)) => {
            numbers(nr::WAIT4, &[helper, 0, WAIT_ALL, 0]).unwrap_or_default();
        }
        Ok(None) => {}
        Err(e) => told(b"clone a helper", e),
    }
    false
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Clones the helper, which shares this process's memory while this thread sleeps, so that page tables are copied once and not twice. Its process id, or
/// `None` in the child that the helper has made.
#[cfg(target_arch = "x86_64")]
fn clone_helper(errand: &Errand) -> Result<Option<usize>> {
    const CLONE_VM: u64 = 0x100;
    const CLONE_VFORK: u64 = 0x4000;
    let pid = HELPER_PID;
    let mut args = CloneArgs {
        flags: CLONE_VM | CLONE_VFORK,
        stack: wide(STACK.at().addr()),
        stack_size: wide(STACK_BYTES),
        set_tid: wide((&raw const pid).addr()),
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    if let Some(group) = errand.group {
        args.flags |= INTO_CGROUP;
        args.cgroup = wide(word(group));
    }
    let result: isize;
    // SAFETY: needed because a child on a stack of its own cannot come from a function. `args` and what it points to are live. The helper runs
    // `help` on a stack that nothing else uses, while this thread sleeps in the kernel (CLONE_VFORK); it ends there. In the helper's child `help` returns, with
    // the callee-saved registers as they were; its memory is a copy in which this frame is untouched, so it goes on here upon the saved stack pointer.
    unsafe {
        core::arch::asm!(
            "mov r14, rsp",
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, r12",
            "call r13",
            "mov rsp, r14",
            "xor eax, eax",
            "2:",
            inlateout("rax") nr::CLONE3 => result,
            in("rdi") &raw mut args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") errand,
            in("r13") help as extern "C" fn(&Errand),
            out("r14") _,
            clobber_abi("C"),
        );
    }
    match result {
        0 => Ok(None),
        1.. => usize::try_from(result).map(Some).map_err(|_| EINVAL),
        _ => Err(Errno(i32::try_from(result.unsigned_abs()).unwrap_or(i32::MAX))),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn clone_helper(errand: &Errand) -> Result<Option<usize>> {
    let (_, _) = (errand.group, help as extern "C" fn(&Errand));
    Err(ENOTSUP)
}

/// In the helper: joins the groups, makes the child, ends. Returns in the child.
extern "C" fn help(errand: &Errand) {
    for group in errand.joins.into_iter().take_while(|fd| *fd >= 0) {
        if let Err(e) = sys::write(group, b"0") {
            birth::fail(errand.brought.status, b"join a child's groups", e).unwrap_or_default();
            sys::exit(1);
        }
    }
    let pid = CHILD_PID;
    const SIGCHLD: u64 = 17;
    let args = CloneArgs {
        exit_signal: SIGCHLD,
        set_tid: wide((&raw const pid).addr()),
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    // SAFETY: `args` and what it points to are live. Without CLONE_VM and without a stack the child is a copy that returns here as after fork; this process
    // has one thread, and the sleeping one holds nothing.
    let child =
        unsafe { call(nr::CLONE3, [(&raw const args).addr(), size_of::<CloneArgs>(), 0, 0, 0, 0]) };
    match child {
        Ok(0) => return,
        Ok(_) => sys::exit(0),
        Err(e) => birth::fail(errand.brought.status, b"clone a child", e).unwrap_or_default(),
    }
    sys::exit(1)
}

/// Says on standard error why a process cannot be a zygote.
pub fn complain(unfit: &Unfit) {
    let line = crate::text::Line::<160>::new().text(b"this process cannot ");
    let line = line.text(unfit.step.as_bytes()).text(b": error ");
    let line = line.number(unfit.error.0.unsigned_abs().into()).text(b"\n");
    // Where nobody reads it, nothing is lost.
    sys::write(2, line.as_bytes()).unwrap_or_default();
}
