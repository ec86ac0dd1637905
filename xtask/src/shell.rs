//! Starting other programs: the only place of xtask that does.
//!
//! [`command`] makes one that runs at the root of the checkout without standard input; [`run`] shows its output, [`capture`]
//! and [`ask`] read it, [`tee`] does both.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, PipeReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::say::say;

/// How long the output of a program that has ended may stay open: a process it left behind may hold it.
const LEFT_OPEN: Duration = Duration::from_secs(5);
/// Lines read ahead of the one that is printed.
const LINES_AHEAD: usize = 1024;

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// A program to be run at the root of the checkout, without standard input.
#[expect(clippy::disallowed_methods, reason = "the one place of xtask that makes commands")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// `cargo` with `arguments`, separated by spaces.
pub(crate) fn cargo(arguments: &str) -> Command {
    let mut command = command("cargo");
    command.args(arguments.split_whitespace());
    command
}

/// Runs it with its output shown. Fails unless it ends with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| cannot_start(command))?;
    check(&line_of(command), status)
}

/// Runs it and returns what it wrote to standard output; its errors are shown. Fails unless it ends with 0.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let out = command.stderr(Stdio::inherit()).output().with_context(|| cannot_start(command))?;
    check(&line_of(command), out.status)?;
    String::from_utf8(out.stdout)
        .with_context(|| format!("`{}` wrote something that is not UTF-8", line_of(command)))
}

/// What it wrote to standard output if it can be run and ends with 0; its errors are dropped.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let out = command.stderr(Stdio::null()).output().ok().filter(|out| out.status.success())?;
    String::from_utf8(out.stdout).ok()
}

/// Whether it can be run and ends with 0; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Runs it, shows its output and errors, and hands each line to `on_line` as well. Fails unless it ends with 0.
pub(crate) fn tee(command: Command, on_line: impl FnMut(&str)) -> Result<()> {
    tee_within(command, LEFT_OPEN, on_line)
}

fn tee_within(
    mut command: Command,
    left_open: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<()> {
    announce(&command);
    let line = line_of(&command);
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| cannot_start(&command))?;
    // The command holds the pipe's writing end: while it lives, the reader never sees the end.
    drop(command);
    let (send, lines) = mpsc::sync_channel(LINES_AHEAD);
    std::thread::spawn(move || forward(reader, &send));
    let all = show_until_end(&mut child, &lines, left_open, &mut on_line)?;
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    check(&line, status)?;
    if !all {
        bail!("`{line}` ended and left a process behind that holds its output");
    }
    Ok(())
}

fn forward(reader: PipeReader, lines: &mpsc::SyncSender<String>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
        line.clear();
        if lines.send(text).is_err() {
            return;
        }
    }
}

/// Whether the output came to its end; `false` if somebody else still holds it `left_open` after the child's end.
fn show_until_end(
    child: &mut Child,
    lines: &mpsc::Receiver<String>,
    left_open: Duration,
    on_line: &mut impl FnMut(&str),
) -> Result<bool> {
    let mut ended: Option<Instant> = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                say!("{line}");
                on_line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if ended.is_none() && child.try_wait()?.is_some() {
            ended = Some(Instant::now());
        }
        if ended.is_some_and(|t| t.elapsed() > left_open) {
            return Ok(false);
        }
    }
}

fn announce(command: &Command) {
    say!("$ {}", line_of(command));
}

fn check(line: &str, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", line_of(command))
}

/// The command as one would type it.
fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut sh = command("sh");
        sh.args(["-c", script]);
        sh
    }

    #[test]
    fn tee_hands_over_output_and_errors() {
        let mut seen = Vec::new();
        tee(sh("echo one; echo two >&2; printf three"), |l| seen.push(l.to_owned())).unwrap();
        assert_eq!(seen, ["one", "two", "three"]);
    }

    #[test]
    fn failures_name_the_command() {
        for error in [
            tee(sh("exit 3"), |_| {}).unwrap_err(),
            run(&mut sh("exit 3")).unwrap_err(),
            capture(&mut sh("exit 3")).unwrap_err(),
        ] {
            assert!(error.to_string().contains("sh -c exit 3"), "{error}");
        }
        assert!(run(&mut command("no-such-program-here")).is_err());
        assert!(!succeeds(&mut command("no-such-program-here")));
        assert_eq!(ask(&mut command("no-such-program-here")), None);
        assert_eq!(ask(&mut sh("echo no; exit 3")), None);
        assert_eq!(ask(&mut sh("echo yes")).unwrap(), "yes\n");
    }

    #[test]
    fn a_process_left_behind_is_reported_and_not_waited_for() {
        let start = Instant::now();
        let mut pid = String::new();
        let left_open = Duration::from_millis(300);
        let result = tee_within(sh("sleep 60 & echo $!"), left_open, |l| pid = l.to_owned());
        assert!(succeeds(command("kill").arg(pid)));
        assert!(result.unwrap_err().to_string().contains("left a process behind"));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
