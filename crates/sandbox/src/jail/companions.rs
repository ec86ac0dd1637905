//! Programs that run beside the runtime, and are there before it: the first process's side, and what the daemon says to it about them.
//!
//! ```text
//! pid 1 starts them ──▶ they register with the daemon ──go──▶ pid 1 starts the runtime ──▶ …
//!       … ──end──▶ pid 1 sends the runtime SIGTERM, and stays until all have ended, or the daemon kills it
//! ```
//!
//! One that ends before that takes the instance along: pid 1 says which it was ([`Told`]), and ends. All of it goes over the frame socket, which neither they
//! nor the runtime inherit.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::report::StepError;
use super::{sys, wire};

/// The runtime may start.
const GO: u8 = b'g';
/// The instance is to end.
const END: u8 = b'e';
/// How often it is looked whether one has ended while they register, in nanoseconds: 5 ms.
const LOOK_NANOS: i64 = 5_000_000;
/// Longest message about a fallen one, in bytes.
const MESSAGE_BYTES: usize = 1024;

/// What the first process tells the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// One of them ended before its time.
    Fallen {
        /// Its program.
        program: String,
        /// As `wait` gives it.
        wait_status: i32,
    },
    /// The runtime has ended, as it was asked to; others go on.
    RuntimeEnded,
}

/// The daemon: lets the runtime start.
pub(crate) fn go(socket: BorrowedFd<'_>) -> io::Result<()> {
    say(socket, GO)
}

/// The daemon: asks the runtime to end, and lets the others.
pub(crate) fn end(socket: BorrowedFd<'_>) -> io::Result<()> {
    say(socket, END)
}

fn say(socket: BorrowedFd<'_>, word: u8) -> io::Result<()> {
    send(socket, &[word], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// The daemon: what it is told, if it is told anything at this moment.
pub(crate) fn told(socket: BorrowedFd<'_>) -> io::Result<Told> {
    let mut buffer = [0; MESSAGE_BYTES];
    let received = wire::receive_with::<Told>(socket, &mut buffer, RecvFlags::DONTWAIT)?;
    received.map(|(told, _)| told).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// Those of an instance, in its first process.
#[derive(Debug)]
pub(super) struct Companions<'a> {
    frames: BorrowedFd<'a>,
    /// Those that run.
    live: RefCell<Vec<(Pid, String)>>,
    /// Whether the instance is to end.
    ending: Cell<bool>,
}

impl<'a> Companions<'a> {
    pub(super) fn new(frames: BorrowedFd<'a>, live: Vec<(Pid, String)>) -> Self {
        Self { frames, live: RefCell::new(live), ending: Cell::new(false) }
    }

    /// Waits until the runtime may start.
    pub(super) fn await_go(&self) -> Result<(), StepError> {
        let failed = |e: io::Error| StepError::new("await the extensions", e);
        loop {
            let mut fds = [PollFd::from_borrowed_fd(self.frames, PollFlags::IN)];
            let look = Timespec { tv_sec: 0, tv_nsec: LOOK_NANOS };
            match poll(&mut fds, Some(&look)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => match self.word() {
                    Ok(Some(GO)) => return Ok(()),
                    Ok(_) => {}
                    Err(e) => return Err(failed(e)),
                },
                Err(e) => return Err(failed(e.into())),
            }
            while let Some(ended) = sys::reap_any_child().map_err(failed)? {
                if self.lose(ended.pid, ended.wait_status) {
                    return Err(failed(io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
    }

    /// What the daemon says, if it says anything.
    fn word(&self) -> io::Result<Option<u8>> {
        let mut word = [0_u8];
        match recv(self.frames, &mut word[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(io::ErrorKind::BrokenPipe.into()),
            Ok(_) => Ok(Some(word[0])),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Where the daemon's words come from.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.frames.as_fd()
    }

    /// Does what the daemon says. An error if nobody is left who could say anything.
    pub(super) fn serve(&self, runtime: Pid) -> io::Result<()> {
        if self.word()? == Some(END) {
            self.ending.set(true);
            // The only error is that it has ended.
            kill_process(runtime, Signal::TERM).unwrap_or_default();
        }
        Ok(())
    }

    /// A child has ended. Whether it was one of them, before its time: then the daemon is told.
    pub(super) fn lose(&self, pid: Pid, wait_status: i32) -> bool {
        let mut live = self.live.borrow_mut();
        let Some(at) = live.iter().position(|(own, _)| *own == pid) else { return false };
        let (_, program) = live.swap_remove(at);
        if self.ending.get() {
            return false;
        }
        self.tell(&Told::Fallen { program, wait_status });
        true
    }

    /// The runtime has ended. Whether the instance ends with it: at once, unless it was asked to and others go on.
    pub(super) fn are_through(&self) -> bool {
        !self.ending.get() || self.live.borrow().is_empty()
    }

    /// Tells the daemon something, which finds out that the instance has ended in any case.
    pub(super) fn tell(&self, told: &Told) {
        wire::send(self.frames, told, &[]).unwrap_or_default();
    }
}
