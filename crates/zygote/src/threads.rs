//! Threads follow no fork. Here each is sent into a signal handler that stays, and that has noted where its context lies; in a child, a new thread takes
//! its place: on its stack, as its entry in the C library, with its thread-local memory, and returns from that handler.
//!
//! Threads are taken asleep alone, so that none holds a lock of the allocator or of the engine. Some wake by themselves now and then, a virtual machine's four
//! times a second, so where each was caught is looked at ([`asleep`]); one that was not asleep lets all go on, and it is tried again.

use core::ffi::{c_char, c_void};
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use crate::asleep;
use crate::serve::Place;
use crate::sys::{self, EAGAIN, EINVAL, ENOSPC, ENOTSUP, Errno, Result, call, nr, numbers, word};
use crate::text::{self, Line};

/// Most threads of a runtime besides the one that waits.
const MOST: usize = 64;
/// A real-time signal that runtimes do not use.
const SIGNAL: usize = 41;
/// How often it is looked whether all threads sleep, or are parked, and how long it takes in between, in microseconds: 2 s in all.
const LOOKS: u32 = 2_000;
const LOOK_PAUSE: u32 = 1_000;
/// How often it is tried to catch all of them asleep. One try in some hundred fails.
const TRIES: u32 = 20;
/// Added to the number of a thread that cannot be parked, to be told from an error of the kernel.
pub const UNKNOWN: i32 = 100_000;
/// Where the kernel names the threads of this process.
const TASKS: &[u8] = b"/proc/self/task\0";
/// Threads that block all signals and are left behind: Node.js has one, which waits for the signal that starts its debugger. Children do without.
const LEFT_BEHIND: usize = 1;
/// What a thread is made again of.
struct Parked {
    /// Where its saved context lies (`ucontext_t`); 0: none yet.
    context: AtomicUsize,
    /// Its thread-local memory.
    thread_pointer: AtomicUsize,
    /// Where the C library keeps its id.
    id_at: AtomicUsize,
    /// Its list of robust mutexes.
    robust: AtomicUsize,
}

static PARKED: [Parked; MOST] = [const {
    Parked {
        context: AtomicUsize::new(0),
        thread_pointer: AtomicUsize::new(0),
        id_at: AtomicUsize::new(0),
        robust: AtomicUsize::new(0),
    }
}; MOST];
/// Threads that came into the handler in this round, and those that left it.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// The word that parked threads sleep at: which round it is.
static ROUND: AtomicI32 = AtomicI32::new(0);

/// What the thread that waits has in common with them.
struct Waiting {
    id_at: usize,
    robust: usize,
    rseq_offset: Option<isize>,
}

static WAITING: Place<Waiting> = Place::new(Waiting { id_at: 0, robust: 0, rseq_offset: None });

/// Whether threads can be made again on this processor.
pub fn can() -> bool {
    cfg!(target_arch = "x86_64")
}

/// Parks every other thread of this process, once it sleeps.
pub fn park() -> Result<()> {
    // SAFETY: the one thread that waits uses it.
    let waiting = unsafe { &mut *WAITING.at() };
    waiting.id_at = id_place(thread_pointer())?;
    waiting.robust = robust_list();
    waiting.rseq_offset = rseq_offset();
    for _ in 0..TRIES {
        let mut threads = [0; MOST];
        let (count, all) = await_sleep(&mut threads)?;
        let threads = threads.get(..count).ok_or(ENOSPC)?;
        if threads.is_empty() {
            return Ok(());
        }
        stop(threads)?;
        let caught = PARKED.get(..count).ok_or(ENOSPC)?;
        if !caught.iter().all(|parked| parked.id_at.load(Ordering::Relaxed) != 0) {
            return Err(ENOTSUP);
        }
        let slept = caught.iter().all(|p| asleep::at(p.context.load(Ordering::Relaxed)));
        if slept && population()? == all {
            return Ok(());
        }
        let_go(count)?;
    }
    Err(EAGAIN)
}

/// Waits until all other threads sleep; how many are to be parked, and how many there are in all.
fn await_sleep(threads: &mut [usize; MOST]) -> Result<(usize, usize)> {
    let mut last = 0;
    for _ in 0..LOOKS {
        let (count, all) = list(threads)?;
        match threads.iter().take(count).find(|tid| !sleeps(**tid)) {
            None => return Ok((count, all)),
            Some(tid) => last = *tid,
        }
        sys::sleep_micros(LOOK_PAUSE);
    }
    Err(unknown(last))
}

/// Sends threads into the handler, and waits until they are in it.
fn stop(threads: &[usize]) -> Result<()> {
    on_signal(Some(stay))?;
    let pid = numbers(nr::GETPID, &[])?;
    for tid in threads {
        numbers(nr::TGKILL, &[pid, *tid, SIGNAL])?;
    }
    let parked = PARKED.get(..threads.len()).ok_or(ENOSPC)?;
    await_that(|| parked.iter().all(|one| one.context.load(Ordering::Acquire) != 0))
}

/// Lets the threads in the handler go on where they were, and waits until they do.
fn let_go(count: usize) -> Result<()> {
    const WAKE_PRIVATE: usize = 129;
    const ALL: usize = 0x7fff_ffff;
    ROUND.fetch_add(1, Ordering::Release);
    // SAFETY: the word is a static.
    unsafe { call(nr::FUTEX, [ROUND.as_ptr().addr(), WAKE_PRIVATE, ALL, 0, 0, 0]) }?;
    await_that(|| LEFT.load(Ordering::Acquire) == count)?;
    for parked in PARKED.iter().take(count) {
        parked.context.store(0, Ordering::Relaxed);
        parked.id_at.store(0, Ordering::Relaxed);
    }
    LEFT.store(0, Ordering::Relaxed);
    COUNT.store(0, Ordering::Release);
    Ok(())
}

fn await_that(holds: impl Fn() -> bool) -> Result<()> {
    for _ in 0..LOOKS {
        if holds() {
            return Ok(());
        }
        sys::sleep_micros(LOOK_PAUSE);
    }
    Err(EINVAL)
}

fn unknown(tid: usize) -> Errno {
    Errno(i32::try_from(tid).unwrap_or_default().saturating_add(UNKNOWN))
}

/// How many threads this process has.
fn population() -> Result<usize> {
    let mut count = 0;
    crate::descriptors::names(TASKS, |_, _| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// All other threads that are to be parked; how many those are, and how many there are in all.
fn list(threads: &mut [usize; MOST]) -> Result<(usize, usize)> {
    let own = numbers(nr::GETTID, &[])?;
    let (mut count, mut left_behind) = (0, 0);
    crate::descriptors::names(TASKS, |tid, _| {
        let tid = usize::try_from(tid).map_err(|_| EINVAL)?;
        if tid == own {
            return Ok(());
        }
        if blocks_signal(tid)? {
            left_behind += 1;
            return if left_behind <= LEFT_BEHIND { Ok(()) } else { Err(unknown(tid)) };
        }
        *threads.get_mut(count).ok_or(ENOSPC)? = tid;
        count += 1;
        Ok(())
    })?;
    Ok((count, count + left_behind + 1))
}

fn of_task(tid: usize, file: &[u8], take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let number = u64::try_from(tid).map_err(|_| EINVAL)?;
    let path = Line::<64>::new().text(b"/proc/self/task/").number(number).text(file);
    text::lines(path.as_bytes(), take)
}

fn blocks_signal(tid: usize) -> Result<bool> {
    let mut blocks = false;
    of_task(tid, b"/status\0", |line| {
        if let Some(rest) = text::after(line, b"SigBlk:") {
            let (mask, _) = text::number(rest, 16).ok_or(EINVAL)?;
            blocks = mask >> (SIGNAL - 1) & 1 != 0;
        }
        Ok(())
    })?;
    Ok(blocks)
}

/// Whether a thread waits to be woken by another one.
fn sleeps(tid: usize) -> bool {
    let mut sleeps = false;
    let read = of_task(tid, b"/syscall\0", |line| {
        sleeps = text::number(line, 10).is_some_and(|(number, _)| asleep::in_call(number));
        Ok(())
    });
    read.is_ok() && sleeps
}

/// What a parked thread does: for good, or until it is let go.
extern "C" fn stay(_: i32, _: *mut c_void, context: *mut c_void) {
    let round = ROUND.load(Ordering::Acquire);
    let place = COUNT.fetch_add(1, Ordering::AcqRel);
    if let Some(parked) = PARKED.get(place) {
        let pointer = thread_pointer();
        parked.thread_pointer.store(pointer, Ordering::Relaxed);
        parked.id_at.store(id_place(pointer).unwrap_or_default(), Ordering::Relaxed);
        parked.robust.store(robust_list(), Ordering::Relaxed);
        parked.context.store(context.expose_provenance(), Ordering::Release);
    }
    while ROUND.load(Ordering::Acquire) == round {
        const WAIT_PRIVATE: usize = 128;
        let value = usize::try_from(round).unwrap_or_default();
        // SAFETY: the word is a static, and null is no timeout.
        unsafe { call(nr::FUTEX, [ROUND.as_ptr().addr(), WAIT_PRIVATE, value, 0, 0, 0]) }
            .unwrap_or_default();
    }
    LEFT.fetch_add(1, Ordering::AcqRel);
}

/// Where the handler returns to: the kernel puts everything back as it was (`rt_sigreturn`).
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn leave() {
    core::arch::naked_asm!("mov eax, 15", "syscall", "ud2")
}

/// Not reached: nothing is parked on other processors ([`can`]).
#[cfg(not(target_arch = "x86_64"))]
extern "C" fn leave() {}

/// The start of the calling thread's entry in the C library.
#[cfg(target_arch = "x86_64")]
fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: needed to read a register. The word at its start is the pointer itself, by the processor's ABI for thread-local memory.
    unsafe {
        core::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags));
    }
    pointer
}

#[cfg(not(target_arch = "x86_64"))]
fn thread_pointer() -> usize {
    0
}

/// Where the C library keeps the id of the calling thread: the kernel knows the place, for it clears it when the thread ends.
fn id_place(pointer: usize) -> Result<usize> {
    const PR_GET_TID_ADDRESS: usize = 40;
    /// How far from its start a thread's entry is searched where the kernel does not say, in bytes; glibc has it at 720.
    const ENTRY: core::ops::Range<usize> = 0x100..0x900;
    let tid = numbers(nr::GETTID, &[])?;
    let holds = |place: usize| {
        // SAFETY: the place is one that the kernel was told by the C library, or lies within the thread's entry, which is larger (glibc: 2 304 bytes).
        let found = unsafe { core::ptr::with_exposed_provenance::<i32>(place).read_volatile() };
        word(found) == tid
    };
    let mut place = 0_usize;
    // SAFETY: one word, live and writable.
    let told =
        unsafe { call(nr::PRCTL, [PR_GET_TID_ADDRESS, (&raw mut place).addr(), 0, 0, 0, 0]) };
    if told.is_ok() && place != 0 && holds(place) {
        return Ok(place);
    }
    if pointer == 0 {
        return Err(ENOTSUP);
    }
    let mut places = ENTRY.step_by(4).map(|offset| pointer + offset);
    places.find(|place| holds(*place)).ok_or(ENOTSUP)
}

/// The calling thread's list of robust mutexes; 0: none.
fn robust_list() -> usize {
    let (mut head, mut length) = (0_usize, 0_usize);
    let (at, length_at) = ((&raw mut head).addr(), (&raw mut length).addr());
    // SAFETY: two words, live and writable.
    let got = unsafe { call(nr::GET_ROBUST_LIST, [0, at, length_at, 0, 0, 0]) };
    if got.is_ok() { head } else { 0 }
}

/// Where a thread's area for restartable sequences lies, seen from its thread pointer, if the C library has registered one.
fn rseq_offset() -> Option<isize> {
    let offset = symbol(c"__rseq_offset").cast::<isize>();
    let size = symbol(c"__rseq_size").cast::<u32>();
    if offset.is_null() || size.is_null() {
        return None;
    }
    // SAFETY: the C library's constants of these names have these types (rseq.h).
    let (offset, size) = unsafe { (offset.read(), size.read()) };
    (size > 0).then_some(offset)
}

unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// A symbol of the process that this library was loaded into; null if it has none.
pub(crate) fn symbol(name: &core::ffi::CStr) -> *mut c_void {
    // SAFETY: null stands for all that is loaded (RTLD_DEFAULT), and the name ends with a zero byte.
    unsafe { dlsym(core::ptr::null_mut(), name.as_ptr()) }
}

/// Sets what the signal does; nothing: its default.
fn on_signal(handler: Option<extern "C" fn(i32, *mut c_void, *mut c_void)>) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    const RT_SIGACTION: usize = 13;
    #[cfg(not(target_arch = "x86_64"))]
    const RT_SIGACTION: usize = 134;
    const SIGINFO: usize = 4;
    const RESTART: usize = 0x1000_0000;
    const RESTORER: usize = 0x0400_0000;
    let handler = handler.map_or(0, |handler| (handler as *const ()).addr());
    let restorer = (leave as *const ()).addr();
    // The kernel's `struct sigaction`.
    let action = [handler, SIGINFO | RESTART | RESTORER, restorer, usize::MAX];
    // SAFETY: the action has the kernel's layout and is live; null asks for no old one. A set of signals has 8 bytes.
    unsafe { call(RT_SIGACTION, [SIGNAL, (&raw const action).addr(), 0, 8, 0, 0]) }.map(drop)
}

/// In a child: this thread takes the identity of the one that it is a copy of, and every parked one is made again.
pub fn recreate() -> Result<()> {
    // SAFETY: the one thread there is uses it.
    let waiting = unsafe { &*WAITING.at() };
    let tid = numbers(nr::GETTID, &[])?;
    let id = i32::try_from(tid).map_err(|_| EINVAL)?;
    // SAFETY: the place was found in this thread's entry, which no other thread reads now.
    unsafe { core::ptr::with_exposed_provenance_mut::<i32>(waiting.id_at).write_volatile(id) };
    const HEAD_BYTES: usize = 24;
    // SAFETY: both lie in this thread's entry in the C library, for as long as it runs.
    unsafe {
        call(nr::SET_TID_ADDRESS, [waiting.id_at, 0, 0, 0, 0, 0])?;
        if waiting.robust != 0 {
            call(nr::SET_ROBUST_LIST, [waiting.robust, HEAD_BYTES, 0, 0, 0, 0])?;
        }
    }
    let parked = || PARKED.iter().filter(|parked| parked.context.load(Ordering::Acquire) != 0);
    if parked().next().is_some() {
        on_signal(None)?;
    }
    for one in parked() {
        one.again(waiting.rseq_offset)?;
    }
    Ok(())
}

impl Parked {
    #[cfg(target_arch = "x86_64")]
    fn again(&self, rseq_offset: Option<isize>) -> Result<()> {
        /// `CLONE_VM`, `FS`, `FILES`, `SIGHAND`, `THREAD`, `SYSVSEM`, `SETTLS`, `PARENT_SETTID`, `CHILD_CLEARTID`, as the C library has it.
        const FLAGS: usize =
            0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000 | 0x8_0000 | 0x10_0000 | 0x20_0000;
        const CLONE: usize = 56;
        let pointer = self.thread_pointer.load(Ordering::Relaxed);
        let id_at = self.id_at.load(Ordering::Relaxed);
        let rseq = rseq_offset.and_then(|offset| pointer.checked_add_signed(offset)).unwrap_or(0);
        let result: isize;
        // SAFETY: needed because a thread on another one's stack cannot come from a function. The stack pointer is the saved context in the
        // frame of the handler at which that thread stood, which nothing else uses in this process. The new thread registers what the C library
        // registers (robust mutexes 273, restartable sequences 334; without success it does without) and returns from the handler (`rt_sigreturn` 15,
        // which takes the context at the stack pointer); it uses no other memory before that.
        unsafe {
            core::arch::asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "test r12, r12",
                "jz 3f",
                "mov rdi, r12",
                "mov esi, 24",
                "mov eax, 273",
                "syscall",
                "3:",
                "test r13, r13",
                "jz 4f",
                "mov rdi, r13",
                "mov esi, 32",
                "xor edx, edx",
                "mov r10d, 0x53053053",
                "mov eax, 334",
                "syscall",
                "4:",
                "mov eax, 15",
                "syscall",
                "ud2",
                "2:",
                inlateout("rax") CLONE => result,
                in("rdi") FLAGS,
                in("rsi") self.context.load(Ordering::Relaxed),
                in("rdx") id_at,
                in("r10") id_at,
                in("r8") pointer,
                in("r12") self.robust.load(Ordering::Relaxed),
                in("r13") rseq,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        if result > 0 {
            Ok(())
        } else {
            Err(Errno(i32::try_from(result.unsigned_abs()).unwrap_or(i32::MAX)))
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn again(&self, _: Option<isize>) -> Result<()> {
        Err(ENOTSUP)
    }
}
