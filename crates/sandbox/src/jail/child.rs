//! The instance's first process: locks itself in, starts the runtime, then stays as pid 1 to reap.
//!
//! **Why the runtime is not pid 1 itself.** The kernel drops signals that pid 1 has no handler for, when they come from inside its
//! namespace. A runtime as pid 1 would survive `process.kill(process.pid, 'SIGTERM')` and end on a false signal in `abort()`; it would also
//! collect as zombies what its children leave behind. So a copy of the spawner stays: it costs one `clone` (50–100 µs) and some
//! 100 KiB, and makes the exit status exact. It cannot be reached from inside: pid 1 takes no signals it has no handler for, and it is not dumpable,
//! so it cannot be traced nor its `/proc` files read by processes of the same user. When it ends the kernel kills the rest.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::rc::Rc;

use ::zygote::rights;
use rustix::fs::{Gid, Uid, fchown};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{
    DumpableBehavior, Pid, Signal, set_dumpable_behavior, set_parent_process_death_signal, setsid,
};
use rustix::thread::{
    CapabilitiesSecureBits, UnshareFlags, set_capabilities_secure_bits, set_thread_groups,
    set_thread_res_uid,
};

use super::companions::{Companions, Told};
use super::network::{self, HostSide};
use super::pause::Pauses;
use super::report::{self, AtStep, EXECUTE, Report, StepError};
use super::seccomp::Filter;
use super::spec::{Born, INNER_GID, INNER_UID, Limits, Owner, Program, Speaks, Spec};
use super::steps::{Step, Steps};
use super::{attach, landlock, listener, networks, root, sockets, sys, zygote};

/// Where the runtime finds the frame socket: `runtimes/PROTOCOL.md`.
const FRAME_FD: RawFd = 3;
/// Where the status socket lies in the child; closed by `exec`.
pub(super) const STATUS_FD: RawFd = 4;
/// Where the template of the root lies in the child until it is entered.
const TEMPLATE_FD: RawFd = 5;
/// Where a zygote's control socket lies until it is executed; then it has the place of the status socket.
pub(super) const CONTROL_FD: RawFd = 6;
/// The process id of the runtime in its instance, however it came up.
const RUNTIME_PID: i32 = 2;
/// Above every number that the runtime inherits.
const SPARE_FD: RawFd = 10;
/// inotify instances of all processes of an instance where all instances are one user; a user has 128 (`fs.inotify.max_user_instances`).
const INOTIFY_INSTANCES: &str = "16";
/// Watches of those together.
const INOTIFY_WATCHES: &str = "4096";

/// The descriptors of a runtime.
#[derive(Debug)]
pub(super) struct RuntimeFds {
    /// Frames.
    pub(super) frames: OwnedFd,
    /// Standard output.
    pub(super) stdout: OwnedFd,
    /// Standard error.
    pub(super) stderr: OwnedFd,
}

/// What was made before the instance and need not be made with it.
#[derive(Debug)]
pub(super) struct Ahead {
    /// A network namespace of its own, with loopback up.
    pub(super) network: Option<OwnedFd>,
    /// The template of its root.
    pub(super) template: Option<Rc<OwnedFd>>,
    /// A zygote's end of the socket by which it is told what to make.
    pub(super) control: Option<OwnedFd>,
}

/// Ends the process instead of letting a panic unwind into the copied spawner's loop.
pub(super) struct NeverReturns;

impl Drop for NeverReturns {
    fn drop(&mut self) {
        sys::exit(101);
    }
}

/// Runs in the fresh clone. Every error goes to the spawner with the step it happened at.
pub(super) fn run(
    spec: &Spec,
    filter: &Filter,
    fds: &RuntimeFds,
    ahead: &Ahead,
    status: &OwnedFd,
    mut steps: Steps,
) -> ! {
    let _guard = NeverReturns;
    // If an error cannot be told, the spawner still sees the process end before it started.
    if let Err(e) = arrange(fds, ahead, status, spec.speaks == Speaks::Frames) {
        let error = StepError::new("arrange descriptors", e);
        report::tell(status, &Report::Failed(error)).unwrap_or_default();
        sys::exit(1);
    }
    let status = sys::installed(STATUS_FD);
    steps.mark(Step::Descriptors);
    let locked = lock_in(spec, ahead, status, &mut steps);
    let started = |()| match spec.born {
        Born::ByZygote(_) => {
            zygote::expect_child(spec, steps)?;
            let pid = Pid::from_raw(RUNTIME_PID);
            let pid =
                pid.ok_or_else(|| StepError::new("know the child", io::ErrorKind::InvalidData))?;
            Ok((pid, None))
        }
        Born::ByExec | Born::AsZygote => start(spec, filter, status, steps),
    };
    match locked.and_then(started) {
        Ok((runtime, companions)) => {
            sys::exit(reap(runtime, companions.as_ref(), status, spec.pauses))
        }
        Err(error) => {
            report::tell(status, &Report::Failed(error)).unwrap_or_default();
            sys::exit(1);
        }
    }
}

fn lock_in(
    spec: &Spec,
    ahead: &Ahead,
    status: BorrowedFd<'_>,
    steps: &mut Steps,
) -> Result<(), StepError> {
    join(&spec.attach.join)?;
    if let Owner::Daemon { .. } = spec.owner {
        await_maps(status)?;
        limit_namespace();
        steps.mark(Step::User);
    }
    let host = spec.leaves_the_hosts_network().then(HostSide::leave).transpose()?;
    // Only now, so that the group just joined is the namespace's root.
    sys::unshare(UnshareFlags::NEWCGROUP).at(|| "new cgroup namespace".into())?;
    steps.mark(Step::Join);
    if ahead.template.is_some() {
        enter_template(spec, steps)?;
    } else {
        root::enter(&spec.root, spec.owner, steps)?;
    }
    let hostname = spec.program.hostname.as_bytes();
    rustix::system::sethostname(hostname).at(|| "set the host name".into())?;
    if ahead.network.is_none() {
        networks::loopback_up().at(|| "loopback up".into())?;
    }
    if let Some(network) = &spec.network {
        network::connect(network, host.as_ref(), status)?;
    }
    match spec.speaks {
        Speaks::Frames => {}
        Speaks::Http => {
            listener::hand_over(sys::installed(FRAME_FD)).at(|| "listen".into())?;
        }
        Speaks::Sockets(count) => {
            sockets::hand_over(sys::installed(FRAME_FD), count).at(|| "make sockets".into())?;
        }
    }
    steps.mark(Step::Network);
    if let Owner::Stranger { uid, gid } = spec.owner {
        // A pipe belongs to whoever made it, and `/dev/stdout` opens it anew.
        for pipe in [1, 2] {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            fchown(sys::installed(pipe), Some(uid), Some(gid)).at(|| "give output away".into())?;
        }
        become_stranger(uid).at(|| "become the instance's user".into())?;
        sys::unshare(UnshareFlags::NEWUSER).at(|| "new user namespace".into())?;
        await_maps(status)?;
        // An ordinary user may not: a group could be a way to deny access.
        set_thread_groups(&[]).at(|| "drop groups".into())?;
        steps.mark(Step::User);
    }
    rights::limit(&limits(&spec.limits)).map_err(error).at(|| "set limits".into())?;
    rights::drop_all(INNER_UID, INNER_GID).map_err(error).at(|| "drop rights".into())?;
    tie_to_spawner(status).at(|| "tie to the spawner".into())?;
    steps.mark(Step::Rights);
    Ok(())
}

/// Enters the template that [`arrange`] has put in its place, and lets go of it.
pub(super) fn enter_template(spec: &Spec, steps: &mut Steps) -> Result<(), StepError> {
    let template = sys::installed(TEMPLATE_FD);
    root::enter_template(&spec.root, spec.owner, template, steps)?;
    sys::close_range(TEMPLATE_FD.unsigned_abs(), TEMPLATE_FD.unsigned_abs())
        .at(|| "let go of the template".into())
}

/// Joins version 1 groups by their `tasks`.
pub(super) fn join(groups: &[PathBuf]) -> Result<(), StepError> {
    groups
        .iter()
        .try_for_each(|group| fs::write(group, "0").at(|| format!("join {}", group.display())))
}

/// Becomes the instance's user on the host, keeping all capabilities until the new user namespace takes them.
///
/// What the kernel counts by user (inotify instances, pending signals and timers, processes) it counts in the user namespace *and* for
/// whoever made that namespace. Made by root, every instance's would count for root, and one function could take the share of all.
fn become_stranger(uid: u32) -> io::Result<()> {
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(Some(uid), Some(uid), Some(uid)).map_err(Into::into)
}

/// Bounds what instances of one user take from each other: [`become_stranger`] is not to be had without root.
fn limit_namespace() {
    // Where the daemon's own `/proc/sys` is read-only, instances share the user's whole share: that ends none of them.
    for (count, most) in
        [("inotify_instances", INOTIFY_INSTANCES), ("inotify_watches", INOTIFY_WATCHES)]
    {
        fs::write(format!("/proc/sys/user/max_{count}"), most).unwrap_or_default();
    }
}

/// 0 `/dev/null`, 1 and 2 the pipes, 3 the frames, 4 the status socket, 5 the root's template if there is one; everything else closed. A network made ahead
/// is entered, so that its descriptor can go as well. Whether the runtime inherits the frames is said by `framed`.
pub(super) fn arrange(
    fds: &RuntimeFds,
    ahead: &Ahead,
    status: &OwnedFd,
    framed: bool,
) -> io::Result<()> {
    if let Some(network) = &ahead.network {
        networks::enter(network)?;
    }
    let null = fcntl_dupfd_cloexec(File::open("/dev/null")?, SPARE_FD)?;
    let stdout = fcntl_dupfd_cloexec(&fds.stdout, SPARE_FD)?;
    let stderr = fcntl_dupfd_cloexec(&fds.stderr, SPARE_FD)?;
    let frames = fcntl_dupfd_cloexec(&fds.frames, SPARE_FD)?;
    let status = fcntl_dupfd_cloexec(status, SPARE_FD)?;
    let template = ahead.template.as_ref();
    let template = template.map(|fd| fcntl_dupfd_cloexec(fd, SPARE_FD)).transpose()?;
    let control = ahead.control.as_ref();
    let control = control.map(|fd| fcntl_dupfd_cloexec(fd, SPARE_FD)).transpose()?;
    sys::install(&null, 0, true)?;
    sys::install(&stdout, 1, true)?;
    sys::install(&stderr, 2, true)?;
    sys::install(&frames, FRAME_FD, framed)?;
    sys::install(&status, STATUS_FD, false)?;
    let mut last = STATUS_FD;
    if let Some(template) = &template {
        sys::install(template, TEMPLATE_FD, false)?;
        last = TEMPLATE_FD;
    }
    if let Some(control) = &control {
        sys::install(control, CONTROL_FD, false)?;
        last = CONTROL_FD;
    }
    // The owners of what is closed here are never dropped.
    let rest = template.into_iter().chain(control);
    for fd in [null, stdout, stderr, frames, status].into_iter().chain(rest) {
        std::mem::forget(fd);
    }
    sys::close_range(last.unsigned_abs() + 1, u32::MAX)
}

fn await_maps(status: BorrowedFd<'_>) -> Result<(), StepError> {
    report::tell(status, &Report::MapIds).at(|| "ask for id maps".into())?;
    report::await_go(status).at(|| "await id maps".into())
}

/// Limits as [`rights`] takes them.
pub(super) fn limits(limits: &Limits) -> rights::Limits {
    rights::Limits {
        open_files: limits.open_files,
        processes: limits.processes,
        data_bytes: limits.data_bytes,
        core_bytes: model::limits::CORE_DUMP_BYTES,
    }
}

/// An error of [`rights`].
fn error(errno: ::zygote::sys::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

/// From here on the kernel kills this process, and so the instance, when the spawner ends. A change of credentials would clear the
/// signal, so this comes after the last one; a spawner that ended before is found by its closed socket.
fn tie_to_spawner(status: BorrowedFd<'_>) -> io::Result<()> {
    // The runtime gets it back by `exec`; pid 1 stays closed to it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if report::spawner_lives(status)? { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Arguments and environment of a program, as `exec` takes them.
pub(super) fn strings(program: &Program) -> Result<(Vec<CString>, Vec<CString>), StepError> {
    let of = |list: &[String]| -> Result<Vec<CString>, StepError> {
        let list: Result<Vec<_>, _> = list.iter().map(|s| CString::new(s.as_str())).collect();
        list.map_err(io::Error::from).at(|| "read the program".into())
    };
    Ok((of(&program.argv)?, of(program.environment.as_slice())?))
}

/// Starts the runtime, and before it what is to run beside it; returns once it has executed or failed to.
fn start(
    spec: &Spec,
    filter: &Filter,
    status: BorrowedFd<'_>,
    mut steps: Steps,
) -> Result<(Pid, Option<Companions<'static>>), StepError> {
    let program = &spec.program;
    let (argv, environment) = strings(program)?;
    rustix::process::chdir(&program.directory).at(|| format!("enter {}", program.directory))?;
    let mut companions = None;
    if !spec.companions.is_empty() {
        let mut live = Vec::new();
        for path in &spec.companions {
            let argv = CString::new(path.as_str()).map_err(io::Error::from);
            let argv = [argv.at(|| "read a program".into())?];
            live.push((execute(spec, filter, status, &argv, &environment)?, path.clone()));
        }
        let all = Companions::new(sys::installed(FRAME_FD), live);
        all.await_go()?;
        companions = Some(all);
    }
    let runtime = execute(spec, filter, status, &argv, &environment)?;
    steps.mark(Step::Execute);
    let namespaces = if spec.takes_mounts { attach::own(spec.owner)? } else { Vec::new() };
    report::tell_with(status, &Report::Started(steps), &namespaces).at(|| "report".into())?;
    Ok((runtime, companions))
}

/// Clones a process and executes a program in it.
fn execute(
    spec: &Spec,
    filter: &Filter,
    status: BorrowedFd<'_>,
    argv: &[CString],
    environment: &[CString],
) -> Result<Pid, StepError> {
    // With CLONE_VFORK this process sleeps until the other has executed or ended, so what is reported after it is true.
    match sys::clone3(sys::VFORK, None).at(|| "clone the runtime".into())? {
        sys::Cloned::Parent { pid, .. } => Ok(pid),
        sys::Cloned::Child => {
            let Err(error) = fence_in(spec, filter).and_then(|()| {
                let path = argv.first().map(|path| path.to_string_lossy()).unwrap_or_default();
                sys::execute(argv, environment).at(|| format!("{EXECUTE}{path}"))
            });
            report::tell(status, &Report::Failed(error)).unwrap_or_default();
            sys::exit(127);
        }
    }
}

/// The last steps, in the runtime's process alone: pid 1 stays outside of what the function is fenced in by, and so out of its reach.
fn fence_in(spec: &Spec, filter: &Filter) -> Result<(), StepError> {
    setsid().at(|| "begin a session".into())?;
    landlock::enforce(&spec.root.mounts).at(|| "enforce Landlock".into())?;
    // From here on only `exec`, or the report why not.
    filter.load().at(|| "load the system call filter".into())
}

/// Reaps until the runtime has ended, reports how, and returns the exit code of pid 1.
fn reap(
    runtime: Pid,
    companions: Option<&Companions<'_>>,
    status: BorrowedFd<'_>,
    pauses: bool,
) -> i32 {
    // The daemon shall see the ends of socket and pipes close with the runtime.
    let last = if companions.is_some() { FRAME_FD - 1 } else { FRAME_FD };
    if sys::close_range(0, last.unsigned_abs()).is_err() {
        return 1;
    }
    let listens = pauses || companions.is_some();
    let orders = companions.map(|companions| (companions, runtime));
    let Ok(pauses) = listens.then(|| Pauses::new(status, orders)).transpose() else { return 1 };
    let mut end = None;
    loop {
        match next_ended(pauses.as_ref()) {
            Ok(ended) => {
                let lost = companions.is_some_and(|all| all.lose(ended.pid, ended.wait_status));
                if ended.pid == runtime
                    && let Some(all) = companions.filter(|all| !all.are_through())
                {
                    all.tell(&Told::RuntimeEnded);
                }
                if ended.pid == runtime || lost {
                    end = Some(ended);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return 1,
        }
        if let Some(sys::Ended { wait_status, max_rss_kib, .. }) = end
            && companions.is_none_or(Companions::are_through)
        {
            let report = Report::Ended { wait_status, max_rss_kib };
            return i32::from(report::tell(status, &report).is_err());
        }
    }
}

/// The next child that has ended; asked to pause meanwhile, it pauses the others.
fn next_ended(pauses: Option<&Pauses<'_>>) -> io::Result<sys::Ended> {
    let Some(pauses) = pauses else { return sys::wait_for_any_child() };
    loop {
        if let Some(ended) = sys::reap_any_child()? {
            return Ok(ended);
        }
        pauses.wait()?;
    }
}
