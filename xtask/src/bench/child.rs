//! A child process that ends with the value that stands for it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(20);
/// How long a server may take to say where it listens, in seconds.
const START_SECONDS: i64 = 60;

/// A running child; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        Ok(Self { child })
    }

    /// Starts it and waits for the first line it prints; what it prints later is dropped.
    pub(crate) fn start_server(command: &mut Command) -> Result<(Self, String)> {
        let mut running = Self::start(command.stdout(Stdio::piped()))?;
        let stdout = running.child.stdout.take().context("the child has no output")?;
        let mut reader = BufReader::new(stdout);
        let line = first_line(&mut reader)?;
        std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        Ok((running, line))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits until it has; kills it if it does not.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot signal")?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > GRACE {
                bail!("process {} did not end within {GRACE:?}", self.id());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for already.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn first_line(reader: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut ready = [PollFd::new(reader.get_ref(), PollFlags::IN)];
    let timeout = Timespec { tv_sec: START_SECONDS, tv_nsec: 0 };
    if poll(&mut ready, Some(&timeout))? == 0 {
        bail!("the server said nothing within {START_SECONDS} s");
    }
    let mut line = String::new();
    reader.read_line(&mut line).context("cannot read what the server prints")?;
    if line.is_empty() {
        bail!("the server ended before it listened");
    }
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;

    fn sh(script: &str) -> Command {
        let mut sh = shell::command("sh");
        sh.args(["-c", script]);
        sh
    }

    #[test]
    fn the_first_line_is_read_and_the_rest_is_drained() {
        let script = "echo hello there; head -c 1000000 /dev/zero; exec sleep 60";
        let (running, line) = Running::start_server(&mut sh(script)).unwrap();
        assert_eq!(line, "hello there");
        running.stop().unwrap();
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error() {
        let error = Running::start_server(&mut sh("exit 1")).unwrap_err();
        assert!(error.to_string().contains("ended before"), "{error}");
    }

    #[test]
    fn dropping_kills() {
        let running = Running::start(&mut sh("exec sleep 60")).unwrap();
        let proc = format!("/proc/{}", running.id());
        assert!(std::path::Path::new(&proc).exists());
        drop(running);
        assert!(!std::path::Path::new(&proc).exists());
    }
}
