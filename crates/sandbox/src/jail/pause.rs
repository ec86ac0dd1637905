//! Stops and continues all processes of an instance by signals, where no control group freezes them.
//!
//! Pid 1 does it when the daemon asks by the status socket: its `kill(-1)` reaches every other process of its namespace at once, also one that is
//! being forked meanwhile (kernel/fork.c, `delayed` signals). A process that is amid a `kill(-1, SIGCONT)` of its own ends that call before it stops, and
//! others may go on by it: so pid 1 stops them again some times, and after one of these nobody but pid 1 is left to run. What control groups do and this
//! does not: a function can have the kernel send it `SIGCONT` later, by a timer, and processes that it had stopped itself go on with the others.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Pid, Signal};

use super::companions::Companions;
use super::sys::{self, ChildSignals};

/// Stop.
const STOP: u8 = b's';
/// Go on.
const CONTINUE: u8 = b'c';

/// When all are stopped again after a stop, each time after the last: soon, as the call that lets others go on is a matter of microseconds; and later, as whoever
/// makes it may have to wait for a processor first.
const AGAIN_AFTER_MILLIS: [u16; 7] = [0, 1, 4, 16, 64, 256, 1_024];

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
    /// After what times all are to be stopped again; none while they shall run.
    again: Cell<&'static [u16]>,
    /// What runs beside the runtime, and the runtime, if anything does.
    companions: Option<(&'a Companions<'a>, Pid)>,
}

impl<'a> Pauses<'a> {
    /// To be made before any child is reaped, and after the last that shall inherit this process's signal mask.
    pub(super) fn new(
        status: BorrowedFd<'a>,
        companions: Option<(&'a Companions<'a>, Pid)>,
    ) -> io::Result<Self> {
        Ok(Self { status, children: ChildSignals::block()?, again: Cell::default(), companions })
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
            match poll(&mut fds, self.again.get().first().map(millis).as_ref()) {
                Ok(0) => self.stop_again(),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
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
        self.again.set(if signal == Signal::STOP { &AGAIN_AFTER_MILLIS } else { &[] });
        signal_others(signal);
        Ok(())
    }

    fn stop_again(&self) {
        self.again.set(self.again.get().get(1..).unwrap_or_default());
        signal_others(Signal::STOP);
    }
}

fn signal_others(signal: Signal) {
    // The only error is that there is none.
    sys::signal_all(signal).unwrap_or_default();
}

fn millis(millis: &u16) -> Timespec {
    let (seconds, rest) = (millis / 1_000, millis % 1_000);
    Timespec { tv_sec: seconds.into(), tv_nsec: i64::from(rest) * 1_000_000 }
}
