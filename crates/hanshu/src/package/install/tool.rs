//! Starts the tools that build, as the person who deploys, and tells what is missing.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, anyhow};

use crate::cli::failure::CliError;

/// The code of the error that says which tool is missing.
pub(crate) const MISSING: &str = "missing-tool";
/// Lines of a failed tool's output that are shown.
const SHOWN_LINES: usize = 30;
/// How much of each stream of a tool is kept, in bytes: the end. Cargo's messages of some hundred crates are below 1 MiB.
const KEPT_BYTES: usize = 16 << 20;
/// What is read at once, in bytes.
const PIECE_BYTES: usize = 1 << 16;

/// A command without standard input.
#[expect(
    clippy::disallowed_methods,
    reason = "deploy runs the person's own tools as that person, not a function"
)]
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end; the end of what it says on standard output.
pub(super) fn execute(command: &mut Command, tool: &str) -> anyhow::Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => missing(tool),
        _ => CliError::new(format!("{tool} cannot be started: {e}")),
    })?;
    let errors = child.stderr.take().map(|stream| thread::spawn(move || end_of(stream)));
    let said = child.stdout.take().map(end_of).transpose();
    let status = child.wait().with_context(|| format!("waiting for {tool}"))?;
    let said = said.with_context(|| format!("reading what {tool} says"))?.unwrap_or_default();
    if status.success() {
        return Ok(said);
    }
    let errors = match errors {
        Some(reader) => reader.join().map_err(|_| anyhow!("reading what {tool} says"))??,
        None => String::new(),
    };
    let lines: Vec<&str> =
        said.lines().chain(errors.lines()).filter(|l| !l.trim().is_empty()).collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES));
    let shown: Vec<String> = shown.map(|l| format!("  {l}")).collect();
    Err(CliError::new(format!("{tool} failed ({status}):\n{}", shown.join("\n"))).into())
}

/// The last [`KEPT_BYTES`] of a stream, or up to twice as many.
fn end_of(mut stream: impl Read) -> io::Result<String> {
    let mut kept = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        kept.extend(piece.iter().take(count));
        if kept.len() > 2 * KEPT_BYTES {
            kept.drain(..kept.len() - KEPT_BYTES);
        }
    }
}

/// The error where a tool is not there: which one, and how to get it.
pub(super) fn missing(tool: &str) -> CliError {
    let (get, else_deploy) = match tool {
        "npm" => (
            "on Debian: apt-get install npm",
            "with --no-build a folder that holds its node_modules",
        ),
        "pip" => (
            "on Debian: apt-get install python3-pip",
            "with --no-build a folder that holds its packages",
        ),
        "javac" | "mvn" => ("on Debian: apt-get install default-jdk-headless maven", "a .jar"),
        "go" => ("https://go.dev/dl, or on Debian: apt-get install golang-go", EXECUTABLE),
        "cargo" => ("https://rustup.rs, or on Debian: apt-get install cargo", EXECUTABLE),
        "cc" => ("on Debian: apt-get install gcc libc6-dev", EXECUTABLE),
        "componentize-js" => ("npm install --global @bytecodealliance/componentize-js", "a .wasm"),
        "componentize-py" => ("pip install componentize-py", "a .wasm"),
        _ => ("see its own documentation", "what it makes"),
    };
    CliError::new(format!("{tool} is not installed, and this folder needs it"))
        .code(MISSING)
        .hint(format!("install {tool} ({get}) and deploy again, or deploy {else_deploy}"))
}

/// What to deploy instead of what a compiler makes.
const EXECUTABLE: &str = "a .zip with the executable `bootstrap`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named() {
        let e = execute(&mut command("no-such-tool-at-all"), "npm").unwrap_err();
        assert!(e.to_string().contains("npm is not installed"), "{e}");
        let e = e.downcast_ref::<CliError>().unwrap();
        assert_eq!(e.code_text(), Some(MISSING));
        assert!(e.hint_text().unwrap().contains("apt-get install npm"), "{e:?}");
    }

    #[test]
    fn a_failing_tool_is_quoted() {
        let script = "for n in $(seq 100); do echo out $n; done; echo why >&2; exit 3";
        let e = execute(command("sh").args(["-c", script]), "npm").unwrap_err();
        let text = e.to_string();
        assert!(text.contains("why") && text.contains('3'), "{text}");
        assert_eq!(text.lines().count(), SHOWN_LINES + 1);
    }

    #[test]
    fn only_the_end_of_much_output_is_kept() {
        let bytes = u64::try_from(5 * KEPT_BYTES).unwrap();
        let kept = end_of(io::repeat(b'x').take(bytes).chain(&b"end"[..])).unwrap();
        assert!(kept.len() <= 2 * KEPT_BYTES && kept.ends_with("xend"), "{}", kept.len());
    }
}
