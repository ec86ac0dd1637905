//! A step of the spawner's that would change the spawner itself, done in a process of its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::child::NeverReturns;
use super::report::{AtStep, StepError};
use super::sys::{self, Cloned};
use super::wire;

/// How long it may take, in seconds; it takes a millisecond.
const PATIENCE_SECONDS: i64 = 5;
/// Longest answer, in bytes.
const ANSWER_BYTES: usize = 1024;

/// What is done; it may give a descriptor.
pub(super) type Done = Result<Option<OwnedFd>, StepError>;

/// Does `step` in a copy of this process, in the new namespaces of `flags`, and waits for it.
pub(super) fn apart(flags: u64, step: impl FnOnce() -> Done) -> Done {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .at(|| "make a socket".into())?;
    let pidfd = match sys::clone3(flags, None).at(|| "clone a helper".into())? {
        Cloned::Child => {
            let _guard = NeverReturns;
            let done = step();
            let fd = done.as_ref().ok().and_then(Option::as_ref).map(AsFd::as_fd);
            let answer = done.as_ref().map(drop).map_err(Clone::clone);
            sys::exit(i32::from(wire::send(theirs.as_fd(), &answer, fd.as_slice()).is_err()))
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(theirs);
    let answer = answer_of(&ours);
    // It has ended or is about to; one that hangs at a mount is not waited for any longer.
    pidfd_send_signal(&pidfd, Signal::KILL).unwrap_or_default();
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).at(|| "reap a helper".into())?;
    answer
}

fn answer_of(socket: &OwnedFd) -> Done {
    let patience = Timespec { tv_sec: PATIENCE_SECONDS, tv_nsec: 0 };
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    if poll(&mut fds, Some(&patience)).at(|| "await a helper".into())? == 0 {
        return Err(StepError::new("await a helper", io::ErrorKind::TimedOut));
    }
    let mut buffer = vec![0; ANSWER_BYTES];
    let received = wire::receive::<Result<(), StepError>>(socket.as_fd(), &mut buffer);
    let received = received.at(|| "hear a helper".into())?;
    let gone = || StepError::new("hear a helper", io::ErrorKind::UnexpectedEof);
    let (answer, fds) = received.ok_or_else(gone)?;
    answer.map(|()| fds.into_iter().next())
}
