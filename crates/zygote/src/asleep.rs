//! Whether a thread sleeps: what the kernel says of it from outside, and where it stood when a signal caught it.

/// Numbers of the system calls in which a thread counts as asleep: futex, `epoll_wait`, `epoll_pwait`.
#[cfg(target_arch = "x86_64")]
const CALLS: [u64; 3] = [202, 232, 281];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: [u64; 1] = [98];

/// Whether a thread in this system call waits to be woken by another one, or for its time.
pub fn in_call(number: u64) -> bool {
    CALLS.contains(&number)
}

/// Whether the thread of this saved context (`ucontext_t`) was caught in such a call, and nowhere behind it.
///
/// The kernel has the call made again, so that the instruction pointer is at the instruction for system calls and the call's number in its register, or, where there is a
/// timeout, has it end as interrupted: then it is behind that instruction.
#[cfg(target_arch = "x86_64")]
pub fn at(context: usize) -> bool {
    /// Where the context has its registers `rax` and `rip`: `struct sigcontext` behind flags, link and stack.
    const RAX_AT: usize = 40 + 13 * 8;
    const RIP_AT: usize = 40 + 16 * 8;
    if context == 0 {
        return false;
    }
    let register = |at: usize| {
        // SAFETY: the context lies on the stack of a thread that stays in its handler.
        unsafe { core::ptr::with_exposed_provenance::<usize>(context + at).read_volatile() }
    };
    let (rax, rip) = (register(RAX_AT), register(RIP_AT));
    // SAFETY: a thread that is caught stands at code, behind code, and that can be read; nobody writes to it while all threads are parked.
    let code =
        |at: usize| unsafe { core::ptr::with_exposed_provenance::<[u8; 2]>(at).read_unaligned() };
    caught(rax, code(rip), code(rip.wrapping_sub(2)))
}

/// Not reached: nothing is parked on other processors.
#[cfg(not(target_arch = "x86_64"))]
pub fn at(_: usize) -> bool {
    false
}

/// What was in the register, the instruction that comes next, and the one before.
#[cfg(target_arch = "x86_64")]
fn caught(rax: usize, next: [u8; 2], before: [u8; 2]) -> bool {
    /// `syscall`.
    const CALL: [u8; 2] = [0x0f, 0x05];
    /// `-EINTR`.
    const INTERRUPTED: usize = 4_usize.wrapping_neg();
    let again = next == CALL && u64::try_from(rax).is_ok_and(in_call);
    again || before == CALL && rax == INTERRUPTED
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn who_is_about_to_be_woken_does_not_sleep() {
        const CALL: [u8; 2] = [0x0f, 0x05];
        const OTHER: [u8; 2] = [0x48, 0x3d];
        assert!(caught(202, CALL, OTHER), "the call is made again");
        assert!(caught(usize::MAX - 3, OTHER, CALL), "it was interrupted");
        assert!(!caught(0, OTHER, CALL), "it was woken");
        assert!(!caught(usize::MAX - 109, OTHER, CALL), "its time had come");
        assert!(!caught(0, CALL, OTHER), "it is about to read");
        assert!(!caught(202, OTHER, OTHER), "it is on its way");
        assert!(!at(0));
    }
}
