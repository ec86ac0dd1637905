//! The child's way into its instance: what `exec` in a fresh sandbox would have made of it, done to a copy of a running process.

use crate::descriptors::{self, Own};
use crate::order::Order;
use crate::rights;
use crate::sys::{self, EINVAL, Result, call, nr, numbers, word};
use crate::text::Line;

/// Where the runtime finds the frames: `runtimes/PROTOCOL.md`.
const FRAME_FD: i32 = 3;
/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWNET`.
const NAMESPACES: usize = 0x2_0000 | 0x200_0000 | 0x400_0000 | 0x800_0000 | 0x4000_0000;
/// `CLONE_NEWUSER`.
const USER_NAMESPACE: usize = 0x1000_0000;
/// Of `open`.
const READ_WRITE: usize = 2;
/// How often it is asked whether the helper has ended, and how long it sleeps each time, in microseconds: a second in all. It takes some 20.
const HELPER_ASKED: u32 = 50_000;
const HELPER_PAUSE: u32 = 20;
/// What the spawner reads once the child is in its place.
const BORN: &[u8] = b"\"Born\"";

/// The descriptors that came with an order.
#[derive(Clone, Copy, Debug)]
pub struct Brought {
    /// The instance's first process.
    pub first: i32,
    /// Standard output and error, and the frames.
    pub stdout: i32,
    /// Standard error.
    pub stderr: i32,
    /// The frames.
    pub frames: i32,
    /// Where the spawner is told.
    pub status: i32,
    /// Landlock's rules.
    pub ruleset: Option<i32>,
}

/// Goes into the instance; afterwards this process is its runtime, with one thread. An error has been told, and the process has to end.
pub fn enter(order: &Order, filter: &[u8], brought: &Brought, own: &Own) -> Result<()> {
    let mut step: &[u8] = b"enter the instance's namespaces";
    let entered = steps(order, filter, brought, own, &mut step);
    let told = match entered {
        Ok(()) => say(brought.status, BORN),
        Err(e) => fail(brought.status, step, e),
    };
    sys::close(brought.status);
    entered.and(told)
}

fn steps(
    order: &Order,
    filter: &[u8],
    brought: &Brought,
    own: &Own,
    step: &mut &[u8],
) -> Result<()> {
    let first = word(brought.first);
    numbers(nr::SETNS, &[first, NAMESPACES])?;
    *step = b"drop groups in a child";
    rights::leave_groups()?;
    *step = b"enter the instance's user namespace";
    numbers(nr::SETNS, &[first, USER_NAMESPACE])?;
    *step = b"begin a session in a child";
    rights::begin_session()?;
    *step = b"enter the working directory of a child";
    // SAFETY: the path is live and ends with a zero byte, as every decoded order's does.
    unsafe { call(nr::CHDIR, [order.directory.as_ptr().addr(), 0, 0, 0, 0, 0]) }?;
    let null = sys::open(b"/dev/null\0", READ_WRITE)?;
    *step = b"limit a child";
    rights::limit(&order.limits)?;
    *step = b"drop rights of a child";
    rights::drop_all(order.uid, order.gid)?;
    // As `exec` leaves it.
    rights::set_dumpable(true)?;
    *step = b"fence a child in";
    if let Some(ruleset) = brought.ruleset {
        numbers(nr::LANDLOCK_RESTRICT_SELF, &[word(ruleset), 0])?;
    }
    *step = b"arrange a child's descriptors";
    sys::renumber(null, 0, false)?;
    sys::renumber(brought.stdout, 1, false)?;
    sys::renumber(brought.stderr, 2, false)?;
    sys::renumber(brought.frames, FRAME_FD, false)?;
    descriptors::refresh(own)?;
    descriptors::close_others(own, FRAME_FD, brought.status)?;
    *step = b"load a child's filter";
    load(filter)?;
    // Before anything is told: the first process shall find that it has a child.
    *step = b"become the first process's child";
    await_adoption()
}

/// Puts this process behind a filter of system calls; an empty one is none.
fn load(filter: &[u8]) -> Result<()> {
    const SET_MODE_FILTER: usize = 1;
    const INSTRUCTION_BYTES: usize = 8;
    /// `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u8,
    }
    if filter.is_empty() {
        return Ok(());
    }
    let length = u16::try_from(filter.len() / INSTRUCTION_BYTES).map_err(|_| EINVAL)?;
    let program = Program { length, instructions: filter.as_ptr() };
    // SAFETY: the program has the kernel's layout; it and its instructions are live, and as many as is said. The kernel copies them from any address.
    unsafe { call(nr::SECCOMP, [SET_MODE_FILTER, 0, (&raw const program).addr(), 0, 0, 0]) }
        .map(drop)
}

/// Until the helper has ended, and with it the last process that shares memory with the zygote: then the parent is the instance's first process.
fn await_adoption() -> Result<()> {
    for _ in 0..HELPER_ASKED {
        if numbers(nr::GETPPID, &[])? == 1 {
            return Ok(());
        }
        sys::sleep_micros(HELPER_PAUSE);
    }
    Err(EINVAL)
}

/// Tells the spawner at which step what went wrong.
pub fn fail(status: i32, step: &[u8], error: sys::Errno) -> Result<()> {
    let line =
        Line::<160>::new().text(b"{\"Failed\":{\"step\":\"").text(step).text(b"\",\"errno\":");
    let line = line.number(error.0.unsigned_abs().into()).text(b"}}");
    say(status, line.as_bytes())
}

fn say(status: i32, words: &[u8]) -> Result<()> {
    const NOSIGNAL: usize = 0x4000;
    const DONTWAIT: usize = 0x40;
    let (at, flags) = (words.as_ptr().addr(), NOSIGNAL | DONTWAIT);
    // SAFETY: the words are live and as long as is said; null and zero name no address.
    unsafe { call(nr::SENDTO, [word(status), at, words.len(), flags, 0, 0]) }.map(drop)
}
