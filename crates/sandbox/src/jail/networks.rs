//! Network namespaces made ahead: a fresh one costs 300 to 500 µs, more than everything else that a start does in the kernel.
//!
//! A process of its own makes them ([`Maker`]), so that neither the spawner nor a start waits: each has loopback and nothing else, and is
//! used by one instance, once: one whose function has no network, since what leads out of a namespace ([`super::network`]) begins in the host's, which
//! the instance's first process then leaves itself. It costs about 50 KiB of kernel memory. Whoever finds none ready ([`Networks::take`]) has the kernel make
//! one with the instance, as for a daemon without the right to make them ahead: namespaces of an ordinary user belong to the instance's user
//! namespace, which does not exist before the instance.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::event::Timespec;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
    socketpair,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, set_name};

use super::child::NeverReturns;
use super::sys::{self, Cloned};
use super::wire;

/// How many lie ready: a burst of so many starts finds them, and the maker follows at some 2 000 a second.
const READY: usize = 8;
/// What counts as a pause between starts, in nanoseconds: 5 ms, two starts and stops of the fastest there are.
const QUIET_NANOS: i64 = 5_000_000;
/// Longest answer of the maker, in bytes: the descriptor is the answer.
const ANSWER_BYTES: usize = 64;
/// A byte is a wish for one namespace.
const WISH: &[u8] = &[1];
/// Where the maker has its socket.
const SOCKET_FD: RawFd = 3;
/// Above it.
const SPARE_FD: RawFd = 10;
/// The maker's own network namespace.
const OWN: &str = "/proc/self/ns/net";

/// The spawner's side.
#[derive(Debug)]
pub(super) struct Networks(Option<Maker>);

/// The process that makes them, and the socket by which they come.
#[derive(Debug)]
struct Maker {
    socket: OwnedFd,
    pidfd: OwnedFd,
    /// How many were taken and not asked for again yet.
    owed: usize,
    buffer: Vec<u8>,
}

impl Networks {
    /// None is made ahead.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Starts to make them. Without the right to, none will ever be ready. Called while the spawner has no instances.
    pub(super) fn ahead() -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        match sys::clone3(0, None)? {
            Cloned::Child => {
                let _guard = NeverReturns;
                // Its end is seen by whoever takes.
                sys::exit(i32::from(make_all(&theirs).is_err()))
            }
            Cloned::Parent { pidfd, .. } => {
                rustix::io::ioctl_fionbio(&socket, true)?;
                let mut maker = Maker { socket, pidfd, owed: READY, buffer: vec![0; ANSWER_BYTES] };
                maker.wish()?;
                Ok(Self(Some(maker)))
            }
        }
    }

    /// One that nobody had before, if one is ready.
    pub(super) fn take(&mut self) -> Option<OwnedFd> {
        let taken = self.0.as_mut()?.take();
        taken.unwrap_or_else(|error| {
            self.give_up(&error);
            None
        })
    }

    /// When others should be made in the place of those that were taken: once the spawner has had nothing to do for so long, as starts shall have the
    /// processors to themselves; at once if half of them are taken.
    pub(super) fn refill_after(&self) -> Option<Timespec> {
        let owed = self.0.as_ref().map_or(0, |maker| maker.owed);
        let nanos = if owed > READY / 2 { 0 } else { QUIET_NANOS };
        (owed > 0).then_some(Timespec { tv_sec: 0, tv_nsec: nanos })
    }

    /// Has others made.
    pub(super) fn refill(&mut self) {
        if let Some(Err(error)) = self.0.as_mut().map(Maker::wish) {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(%error, "network namespaces are not made ahead any more");
        if let Some(maker) = self.0.take() {
            maker.end();
        }
    }
}

impl Maker {
    fn wish(&mut self) -> io::Result<()> {
        while self.owed > 0 {
            send(&self.socket, WISH, SendFlags::NOSIGNAL)?;
            self.owed -= 1;
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<Option<OwnedFd>> {
        match wire::receive::<()>(self.socket.as_fd(), &mut self.buffer) {
            Ok(Some(((), fds))) => {
                self.owed += 1;
                Ok(fds.into_iter().next())
            }
            Ok(None) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Its socket closes, so it ends, if it has not yet.
    fn end(self) {
        drop(self.socket);
        waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
            .map(drop)
            .unwrap_or_default();
    }
}

/// The maker: one namespace for each wish, until the spawner is gone.
fn make_all(socket: &OwnedFd) -> io::Result<()> {
    set_name(c"hanshu-networks")?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Of what the spawner holds it keeps this socket alone: the ends of all others shall be seen to close. The owners are never dropped.
    let spare = fcntl_dupfd_cloexec(socket, SPARE_FD)?;
    sys::install(&spare, SOCKET_FD, false)?;
    std::mem::forget(spare);
    sys::close_range(SOCKET_FD.unsigned_abs() + 1, u32::MAX)?;
    let socket = sys::installed(SOCKET_FD);
    let home = File::open(OWN)?;
    let mut wish = [0; WISH.len()];
    loop {
        match recv(socket, &mut wish[..], RecvFlags::empty()) {
            Ok((0, _)) => return Ok(()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let network = make()?;
        // Out of it again: it shall end with the instance that gets it.
        enter(&home)?;
        wire::send(socket, &(), &[network.as_fd()])?;
    }
}

fn make() -> io::Result<File> {
    sys::unshare(UnshareFlags::NEWNET)?;
    loopback_up()?;
    File::open(OWN)
}

/// Makes a network namespace this process's own.
pub(super) fn enter(network: impl AsFd) -> io::Result<()> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Sets the loopback interface of the own network namespace up.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::loopback_up(socket)
}
