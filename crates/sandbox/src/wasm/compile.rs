//! The daemon's side of compiling: starts a [`super::compiler`], and says what became of it in words for the function's owner.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use model::{Code, Error};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::compiler::{COMPILER_ARGUMENT, MEMORY_BYTES};

/// As much as is kept of what a compiler says, in bytes.
const SAID_BYTES: u64 = 4096;

/// Why there is no code.
#[derive(Debug)]
pub(super) enum NotCompiled {
    /// The program is at fault: in words for its owner.
    Program(String),
    /// The host is.
    Platform(Error),
}

/// What compiles, and in what time at most.
#[derive(Clone, Debug)]
pub(super) struct Compiler {
    /// An executable that calls [`crate::jail::main_if_spawner`] first in its `main`.
    pub(super) executable: PathBuf,
    /// As time, and as processor time.
    pub(super) time_limit: Duration,
}

/// Compiles `program` into `code`, within the compiler's limits. Blocks as long.
pub(super) fn compile(compiler: &Compiler, program: File, code: File) -> Result<(), NotCompiled> {
    let Compiler { executable, time_limit } = compiler;
    let seconds = time_limit.as_secs().max(1).to_string();
    #[expect(clippy::disallowed_methods, reason = "only sandbox starts processes")]
    let mut command = Command::new(executable);
    command
        .arg0("hanshu-compiler")
        .arg(COMPILER_ARGUMENT)
        .args([std::process::id().to_string(), seconds]);
    command.env_clear().current_dir("/").stdin(program).stdout(code).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| not_started(&e))?;
    let ended = match in_time(&child, *time_limit) {
        Ok(true) => child.wait(),
        Ok(false) => {
            end(&mut child);
            return Err(NotCompiled::Program(too_long(*time_limit)));
        }
        Err(e) => {
            end(&mut child);
            Err(e)
        }
    };
    let status = ended.map_err(|e| not_started(&e))?;
    if status.success() {
        Ok(())
    } else {
        Err(NotCompiled::Program(reason(&mut child, status, *time_limit)))
    }
}

/// Whether it ends within its time. What it says meanwhile fits into the pipe.
fn in_time(compiler: &Child, limit: Duration) -> io::Result<bool> {
    let pid = i32::try_from(compiler.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process without an id"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec::try_from(limit).map_err(io::Error::other)?;
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            ended => return Ok(ended? > 0),
        }
    }
}

fn end(compiler: &mut Child) {
    // It may have ended by itself meanwhile.
    drop(compiler.kill());
    drop(compiler.wait());
}

fn reason(compiler: &mut Child, status: ExitStatus, limit: Duration) -> String {
    let mut said = Vec::new();
    if let Some(pipe) = compiler.stderr.take() {
        // Half of the words are better than none.
        drop(pipe.take(SAID_BYTES).read_to_end(&mut said));
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let megabytes = MEMORY_BYTES >> 20;
    match (status.signal(), said.is_empty()) {
        (Some(libc::SIGXCPU | libc::SIGKILL), _) => too_long(limit),
        (Some(libc::SIGXFSZ), _) => "its compiled code is too large".to_owned(),
        // What an allocator does that has no more to give.
        (Some(libc::SIGABRT), _) => format!("it takes more than {megabytes} MB to compile"),
        (Some(signal), _) => format!("the compiler ended by signal {signal}"),
        (None, false) => said,
        (None, true) => format!("the compiler ended with {status}"),
    }
}

fn too_long(limit: Duration) -> String {
    format!("it takes longer than {} s to compile", limit.as_secs())
}

fn not_started(error: &io::Error) -> NotCompiled {
    let message = format!("the compiler cannot be run: {error}");
    NotCompiled::Platform(Error::platform(Code::SandboxFailed, message))
}
