//! The baseline: the same program with the same descriptors, started by the operating system alone.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;

/// HELLO and READY.
const FRAMES_BYTES: usize = 16;

/// How the process is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// `fork`, then `exec`.
    Fork,
    /// `posix_spawn`, which shares the memory until `exec`, as `vfork` does.
    Spawn,
}

/// From nothing to READY, with a socket and two pipes made for it. The process is gone afterwards.
#[expect(clippy::disallowed_methods, reason = "the baseline is a bare process")]
pub(crate) fn start(program: &Path, how: How) -> Fallible<Duration> {
    let begun = Instant::now();
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").stdin(Stdio::null());
    command.stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stderr(Stdio::piped());
    if let How::Fork = how {
        // Whoever asks for a user gets `fork` from std, as `posix_spawn` cannot change it.
        command.uid(rustix::process::geteuid().as_raw());
    }
    let mut child = command.spawn()?;
    // Its end of the socket lives in the command.
    drop(command);
    let mut frames = [0; FRAMES_BYTES];
    ours.read_exact(&mut frames)?;
    let took = begun.elapsed();
    drop(ours);
    child.wait()?;
    Ok(took)
}
