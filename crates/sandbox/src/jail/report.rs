//! What the child tells the spawner while it sets itself up, and when the runtime has ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::{Deserialize, Serialize};

use super::steps::Steps;
use super::wire;

/// Longest report, in bytes; the one with text is cut to it.
const REPORT_BYTES: usize = 2048;
/// The spawner's answer to [`Report::MapIds`].
const GO: &[u8] = b"go";

/// One message over the status socket (`SOCK_SEQPACKET`: boundaries are kept).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// It is in a user namespace now and waits for its id maps: only the parent may write them.
    MapIds,
    /// It waits for an interface that pasta makes: [`super::network`].
    NeedLink,
    /// It gives up.
    Failed(StepError),
    /// The runtime has been executed, or has reported why not. With the descriptors of [`super::attach::own`], if the spec asks for them.
    Started(Steps),
    /// It is locked in and waits for a zygote's child. With the descriptors of [`super::attach::own`] and Landlock's rules, where the kernel has Landlock.
    Locked(Steps),
    /// A zygote's child is in its place: told by itself, before it runs anything of the runtime's.
    Born,
    /// The runtime ended.
    Ended {
        /// As `wait` gives it.
        wait_status: i32,
        /// Most resident memory of any one process, in KiB.
        max_rss_kib: u64,
    },
}

/// A step of the set-up that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepError {
    /// Which, as text: `mount /proc`.
    pub(crate) step: String,
    /// The system's error number.
    pub(crate) errno: i32,
}

impl StepError {
    /// `error` at `step`.
    pub(super) fn new(step: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self { step: step.into(), errno: error.into().raw_os_error().unwrap_or(libc::EIO) }
    }
}

impl StepError {
    /// Whether everything was set up, and the program itself could not be executed.
    pub(crate) fn is_execution(&self) -> bool {
        self.step.starts_with(EXECUTE)
    }
}

/// How the step of executing the program begins.
pub(super) const EXECUTE: &str = "execute ";

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for StepError {}

/// Names the step that an error came from.
pub(super) trait AtStep<T> {
    /// Turns the error into a [`StepError`].
    fn at(self, step: impl FnOnce() -> String) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> AtStep<T> for Result<T, E> {
    fn at(self, step: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|e| StepError::new(step(), e))
    }
}

/// Sends a report to the spawner.
pub(super) fn tell(status: impl AsFd, report: &Report) -> io::Result<()> {
    tell_with(status, report, &[])
}

/// Sends a report with descriptors.
pub(super) fn tell_with(status: impl AsFd, report: &Report, fds: &[OwnedFd]) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(report)?;
    if bytes.len() > REPORT_BYTES
        && let Report::Failed(e) = report
    {
        let short = StepError { step: e.step.chars().take(100).collect(), errno: e.errno };
        bytes = serde_json::to_vec(&Report::Failed(short))?;
    }
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    wire::send_bytes(status.as_fd(), &bytes, &fds)
}

/// The next report that is there already, and its descriptors; `None` if there is none, or none will come.
pub(super) fn next(status: impl AsFd) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    let mut buffer = [0_u8; REPORT_BYTES];
    match wire::receive_with(status.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
        Err(e)
            if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset) =>
        {
            Ok(None)
        }
        other => other,
    }
}

/// The spawner's answer to [`Report::MapIds`].
pub(super) fn go(status: impl AsFd) -> io::Result<()> {
    send(status, GO, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for [`go`]; an error if the spawner is gone.
pub(super) fn await_go(status: impl AsFd) -> io::Result<()> {
    let mut buffer = [0_u8; GO.len()];
    let (bytes, _) = recv(status, &mut buffer[..], RecvFlags::empty())?;
    if buffer.get(..bytes) == Some(GO) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Whether the spawner is still there: its end of the socket closes with it.
pub(super) fn spawner_lives(status: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(status, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    let [fd] = fds;
    Ok(!fd.revents().contains(PollFlags::HUP))
}
