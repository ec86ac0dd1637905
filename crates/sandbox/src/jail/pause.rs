//! Stops and continues all processes of an instance by signals, where no control group freezes them.
//!
//! Pid 1 does it when the daemon asks by the status socket: its `kill(-1)` reaches every other process of its namespace at once, also one that is
//! being forked meanwhile (kernel/fork.c, `delayed` signals), and nobody but pid 1 is left to run. What control groups do and this does not: a
//! function can have the kernel send it `SIGCONT` later, by a timer, and processes that it had stopped itself go on with the others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Pid, Signal};

use super::companions::Companions;
use super::sys::{self, ChildSignals};

/// Stop.
const STOP: u8 = b's';
/// Go on.
const CONTINUE: u8 = b'c';

/// Asks the first process behind `status` to stop all others, or to let them go on. Does not wait for it.
pub(super) fn ask(status: &OwnedFd, stop: bool) -> io::Result<()> {
    let message = [if stop { STOP } else { CONTINUE }];
    send(status, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// The first process's side.
#[derive(Debug)]
pub(super) struct Pauses<'a> {
    status: BorrowedFd<'a>,
    children: ChildSignals,
    /// What runs beside the runtime, and the runtime, if anything does.
    companions: Option<(&'a Companions<'a>, Pid)>,
}

impl<'a> Pauses<'a> {
    /// To be made before any child is reaped, and after the last that shall inherit this process's signal mask.
    pub(super) fn new(
        status: BorrowedFd<'a>,
        companions: Option<(&'a Companions<'a>, Pid)>,
    ) -> io::Result<Self> {
        Ok(Self { status, children: ChildSignals::block()?, companions })
    }

    /// Returns when a child may have ended; serves the daemon meanwhile. An error if nobody is left who could ask.
    pub(super) fn wait(&self) -> io::Result<()> {
        loop {
            // Without companions the status socket twice.
            let frames = self.companions.map_or(self.status, |(companions, _)| companions.fd());
            let mut fds = [
                PollFd::from_borrowed_fd(self.children.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.status, PollFlags::IN),
                PollFd::from_borrowed_fd(frames, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            let [children, status, frames] = fds;
            if !frames.revents().is_empty()
                && let Some((companions, runtime)) = self.companions
            {
                companions.serve(runtime)?;
            }
            if !status.revents().is_empty() {
                self.serve()?;
            }
            if !children.revents().is_empty() {
                return self.children.take();
            }
        }
    }

    fn serve(&self) -> io::Result<()> {
        let mut message = [0_u8];
        let signal = match recv(self.status, &mut message[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Ok(_) if message == [STOP] => Signal::STOP,
            Ok(_) if message == [CONTINUE] => Signal::CONT,
            Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        // The only error is that there is none.
        sys::signal_all(signal).unwrap_or_default();
        Ok(())
    }
}
