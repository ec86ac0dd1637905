//! Starts the real binary and talks to it.
//!
//! [`Daemon`] is a running daemon, ended by process id when it goes out of scope; [`Cli`] runs one command;
//! [`componentize`] has compilers for WebAssembly; [`http`] is the client; [`packages`] makes packages, good and bad; [`needle`] is a secret that is searched for.

pub(crate) mod componentize;
mod daemon;
pub(crate) mod http;
pub(crate) mod needle;
pub(crate) mod packages;

use std::ffi::OsStr;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use self::daemon::{Daemon, Start};

/// The binary under test.
pub(crate) const HANSHU: &str = env!("CARGO_BIN_EXE_hanshu");

/// One command of the binary, with nothing of the surrounding configuration.
pub(crate) fn hanshu<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(HANSHU);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HANSHU_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Cli {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Cli {
    /// Runs a command to its end.
    pub(crate) fn run(command: &mut Command) -> Self {
        command.stdin(std::process::Stdio::null());
        command.output().expect("the binary under test starts").into()
    }

    /// Standard output of a command that has to succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Standard error of a command that has to succeed, and has nothing to print.
    #[track_caller]
    pub(crate) fn noted(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (0, ""), "{self:?}");
        self.err
    }

    /// Standard output of a command that has to succeed and print JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// Standard error of a command that has to be refused.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (2, ""), "{self:?}");
        self.err
    }
}

impl From<Output> for Cli {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Asks until the answer is there; fails after `patience`.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < patience, "{what}: not within {patience:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
