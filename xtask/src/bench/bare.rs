//! A runtime with its bootstrap and nothing around it: no sandbox, no daemon, no HTTP. The baseline of first calls.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::io::{DupFlags, dup2, dup3, fcntl_dupfd_cloexec};

use super::child::Running;
use super::frames::{self, Wire};
use super::language::Language;
use super::stats::Round;
use crate::shell;

/// The descriptor on which bootstraps find their socket (`runtimes/PROTOCOL.md`).
const BOOTSTRAP_FD: i32 = 3;
/// How long a bootstrap may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Descriptor 3 of this process, reserved to be handed on: [`std::process::Command`] hands on 0 to 2 only, and a shell in between
/// would be measured as well.
#[derive(Debug)]
pub(crate) struct Slot {
    place: OwnedFd,
    nothing: File,
}

impl Slot {
    /// Takes descriptor 3.
    ///
    /// # Errors
    ///
    /// If whoever started this process left something open there.
    pub(crate) fn reserve() -> Result<Self> {
        let nothing = File::open("/dev/null").context("cannot open /dev/null")?;
        // That open may have got 3 itself; then its copy gets another number.
        if nothing.as_raw_fd() == BOOTSTRAP_FD {
            let copy = nothing.try_clone().context("cannot copy a descriptor")?;
            return Ok(Self { place: nothing.into(), nothing: copy });
        }
        let place = fcntl_dupfd_cloexec(&nothing, BOOTSTRAP_FD)?;
        if place.as_raw_fd() != BOOTSTRAP_FD {
            bail!("descriptor {BOOTSTRAP_FD} is taken: start with `3>&-` after the command");
        }
        Ok(Self { place, nothing })
    }
}

/// What is started bare.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    language: &'a Language,
    interpreter: PathBuf,
    bootstrap: PathBuf,
}

impl<'a> Program<'a> {
    /// The runtime of this version, which is the daemon's, with the daemon's bootstrap.
    pub(crate) fn new(language: &'a Language, version: &str) -> Result<Self> {
        let interpreter = language.interpreter(version)?;
        Ok(Self { language, interpreter, bootstrap: language.bootstrap()? })
    }
}

/// When the stages of a start were over, from its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) hello: Duration,
    pub(crate) ready: Duration,
}

/// A running bootstrap with its code loaded.
#[derive(Debug)]
pub(crate) struct Bare {
    wire: Wire<UnixStream>,
    pub(crate) start: Start,
    _running: Running,
}

impl Bare {
    /// Starts `program` on the code in `folder`, which needs an absolute path.
    pub(crate) fn start(slot: &mut Slot, program: &Program<'_>, folder: &Path) -> Result<Self> {
        let Program { language, interpreter, bootstrap } = program;
        let begin = Instant::now();
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        ours.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut command = shell::command(interpreter);
        command.args(language.flags).arg(bootstrap).args(language.main).current_dir(folder);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.env("LAMBDA_TASK_ROOT", folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // The copy stays open across exec; putting nothing back right after keeps it from any later child.
        dup2(&theirs, &mut slot.place).context("cannot place the socket")?;
        let running = Running::start(&mut command);
        dup3(&slot.nothing, &mut slot.place, DupFlags::CLOEXEC).context("cannot take it back")?;
        let running = running?;
        drop(theirs);
        let mut wire = Wire::new(ours);
        wire.send_init(language.handler, &folder.to_string_lossy())?;
        wire.expect_hello()?;
        let hello = begin.elapsed();
        wire.expect_ready()?;
        let start = Start { hello, ready: begin.elapsed() };
        Ok(Self { wire, start, _running: running })
    }

    /// One call.
    pub(crate) fn call(&mut self, event: &[u8]) -> Result<Vec<u8>> {
        self.wire.call(&frames::invoke(event)?)
    }

    /// One call after the other for `duration`.
    pub(crate) fn load(&mut self, event: &[u8], duration: Duration) -> Result<Round> {
        let invoke = frames::invoke(event)?;
        let mut round = Round::default();
        let start = Instant::now();
        let mut sent = start;
        while round.elapsed < duration {
            self.wire.call(&invoke)?;
            let now = Instant::now();
            round.latencies.push(now - sent);
            round.elapsed = now - start;
            sent = now;
        }
        Ok(round)
    }
}
