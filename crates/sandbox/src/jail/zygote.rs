//! Instances whose runtime is no program that is executed but a copy of a process that runs: the spawner's part of it, and how a zygote comes up.
//!
//! ```text
//! spawner ──clone──▶ pid 1: locks itself in, as ever ──Locked, Landlock's rules──▶ spawner ──Order──▶ zygote ──clone──▶ the runtime
//!    │ ◀───────────────────────────────────── Born ───────────────────────────────────────────────────────────────────────┘
//!    └──go──▶ pid 1: reaps, as ever
//! ```
//!
//! A zygote ([`become_one`]) is a process of the spawner's rights, for it has to enter what the spawner makes: in the root that instances of its runtime have,
//! without network, in a control group of its own. It runs the runtime and our bootstrap, and never anything of a function: nothing that belongs to one
//! reaches it but descriptors, which it hands on. What a child gives up and is fenced in by is made here and in [`super::child`] and goes with the order; the
//! crate `zygote` only carries it out.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Signal, set_parent_process_death_signal};
use zygote::order::{DIRECTORY_BYTES, ORDER_BYTES, ORDER_FDS, Order};

use super::child::{self, Ahead, NeverReturns, RuntimeFds};
use super::report::{self, AtStep, Report, StepError};
use super::seccomp::Filter;
use super::spec::{INNER_GID, INNER_UID, Limits, Spec};
use super::steps::{Step, Steps};
use super::sys;
use super::wire::InstanceId;

/// New namespaces of a zygote: all but that of process ids, for it enters those of instances, which has to lie below its own; and none of users.
pub(super) const NAMESPACES: u64 = sys::NAMESPACES & !(libc::CLONE_NEWPID as u64);

/// An instance that is to be born by a zygote, until its first process is ready for it.
#[derive(Debug)]
pub(super) struct Expected {
    /// By which.
    pub(super) zygote: InstanceId,
    /// How long what took so far.
    pub(super) steps: Steps,
    fds: RuntimeFds,
    /// Where the child reports.
    status: OwnedFd,
    /// Version 2 group.
    group: Option<OwnedFd>,
    /// Version 1 groups.
    joins: Vec<PathBuf>,
    limits: Limits,
    directory: String,
    /// Whether it is for later.
    rests: bool,
}

impl Expected {
    /// What is kept of a request for such an instance.
    pub(super) fn new(
        spec: &Spec,
        zygote: InstanceId,
        fds: RuntimeFds,
        status: OwnedFd,
        group: Option<OwnedFd>,
    ) -> Self {
        Self {
            zygote,
            steps: Steps::default(),
            fds,
            status,
            group,
            joins: spec.attach.join.clone(),
            limits: spec.limits,
            directory: spec.program.directory.clone(),
            rests: spec.takes_mounts,
        }
    }

    /// Orders it from the zygote at the other end of `control`, which takes it at once or not at all.
    pub(super) fn order(
        &self,
        control: BorrowedFd<'_>,
        first: BorrowedFd<'_>,
        ruleset: Option<&OwnedFd>,
        filter: &Filter,
    ) -> io::Result<()> {
        let open = |path: &PathBuf| {
            rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        };
        let joins = self.joins.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut directory = [0; DIRECTORY_BYTES];
        let path = self.directory.as_bytes();
        let room = directory.get_mut(..path.len()).filter(|room| room.len() < DIRECTORY_BYTES);
        room.ok_or(io::ErrorKind::InvalidFilename)?.copy_from_slice(path);
        let order = Order {
            ruleset: ruleset.is_some(),
            group: self.group.is_some(),
            rests: self.rests,
            joins: joins.len(),
            uid: INNER_UID,
            gid: INNER_GID,
            limits: child::limits(&self.limits),
            directory,
        };
        let mut bytes = vec![0; ORDER_BYTES];
        let length = order.encode(&filter.bytes(), &mut bytes);
        bytes.truncate(length.ok_or(io::ErrorKind::InvalidInput)?);
        let RuntimeFds { frames, stdout, stderr } = &self.fds;
        let mut fds = vec![first];
        fds.extend([stdout, stderr, frames, &self.status].map(AsFd::as_fd));
        fds.extend(ruleset.into_iter().chain(&self.group).chain(&joins).map(AsFd::as_fd));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ORDER_FDS))];
        let mut control_data = SendAncillaryBuffer::new(&mut space);
        if !control_data.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // One that does not read must not hold up what others ask for.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(control, &[IoSlice::new(&bytes)], &mut control_data, flags)?;
        Ok(())
    }
}

/// Runs in the fresh clone that becomes a zygote.
pub(super) fn become_one(
    spec: &Spec,
    fds: &RuntimeFds,
    ahead: &Ahead,
    status: &OwnedFd,
    mut steps: Steps,
) -> ! {
    let _guard = NeverReturns;
    let Err(error) = child::arrange(fds, ahead, status, true)
        .at(|| "arrange descriptors".into())
        .and_then(|()| execute(spec, &mut steps));
    // The status socket may be gone: then the spawner sees the process end.
    report::tell(sys::installed(child::STATUS_FD), &Report::Failed(error)).unwrap_or_default();
    sys::exit(1)
}

fn execute(spec: &Spec, steps: &mut Steps) -> Result<std::convert::Infallible, StepError> {
    let status = sys::installed(child::STATUS_FD);
    child::join(&spec.attach.join)?;
    child::enter_template(spec, steps)?;
    set_parent_process_death_signal(Some(Signal::KILL)).at(|| "tie to the spawner".into())?;
    if !report::spawner_lives(status).at(|| "look for the spawner".into())? {
        return Err(StepError::new("tie to the spawner", io::ErrorKind::BrokenPipe));
    }
    let (argv, environment) = child::strings(&spec.program)?;
    // Java takes the folder that it is started in for given.
    let folder = &spec.program.directory;
    rustix::process::chdir(folder).at(|| format!("enter {folder}"))?;
    let namespaces = super::attach::own(spec.owner)?;
    report::tell_with(status, &Report::Started(steps.clone()), &namespaces)
        .at(|| "report".into())?;
    drop(namespaces);
    // In the place of the status socket, which has no more to say.
    let control = sys::installed(child::CONTROL_FD);
    sys::install(control, child::STATUS_FD, true).at(|| "install the control socket".into())?;
    sys::close_range(child::CONTROL_FD.unsigned_abs(), u32::MAX).at(|| "close the rest".into())?;
    sys::execute(&argv, &environment).at(|| "execute a zygote".into())
}

/// In the first process of an instance that is born by a zygote: hands over what fences its child in, and waits until that is there.
pub(super) fn expect_child(spec: &Spec, mut steps: Steps) -> Result<(), StepError> {
    let status = sys::installed(child::STATUS_FD);
    let mut fds = super::attach::own(spec.owner)?;
    let ruleset =
        super::landlock::ruleset(&spec.root.mounts).at(|| "make Landlock's rules".into())?;
    fds.extend(ruleset);
    steps.mark(Step::Execute);
    report::tell_with(status, &Report::Locked(steps), &fds).at(|| "report".into())?;
    report::await_go(status).at(|| "await the child".into())
}
