//! `cargo x gen`: the files of `docs/reference` that the program writes about itself.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::say::say;
use crate::shell;

/// What to do with the generated text.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail if a file is not what would be written
    #[arg(long)]
    pub(crate) check: bool,
}

/// File and the `hanshu gen` subcommand that prints it.
const GENERATED: &[(&str, &str)] = &[
    ("docs/reference/config.md", "config-reference"),
    ("docs/reference/cli.md", "cli-reference"),
    ("docs/reference/openapi.json", "openapi"),
];

/// Builds `hanshu`, and writes or compares every generated file.
pub(crate) fn run(options: &Options) -> Result<()> {
    // The features of the tests, so that neither build throws the other's away.
    shell::run(&mut shell::cargo("build --quiet --workspace --all-features --bin hanshu"))?;
    let mut stale = Vec::new();
    for (path, subcommand) in GENERATED {
        let mut hanshu = shell::command(shell::root().join("target/debug/hanshu"));
        let text = shell::capture(hanshu.args(["gen", subcommand]))?;
        if text.is_empty() {
            bail!("`hanshu gen {subcommand}` printed nothing");
        }
        let file = shell::root().join(path);
        if options.check {
            stale.extend(difference(&read(&file)?, &text).map(|d| format!("{path}: {d}")));
        } else {
            write(&file, &text)?;
            say!("wrote {path}");
        }
    }
    if !stale.is_empty() {
        bail!("generated files are stale, run `cargo x gen`: {}", stale.join("; "));
    }
    Ok(())
}

/// An absent file reads as empty: it differs from any generated text.
fn read(file: &Path) -> Result<String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The first line that differs.
fn difference(have: &str, want: &str) -> Option<String> {
    if have == want {
        return None;
    }
    let same = have.lines().zip(want.lines()).take_while(|(a, b)| a == b).count();
    let show = |text: &str| text.lines().nth(same).unwrap_or("the end").trim().to_owned();
    Some(format!("line {} is \"{}\", expected \"{}\"", same + 1, show(have), show(want)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_line_is_named() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        let line = difference("a\nb\n", "a\nc\n").unwrap();
        assert_eq!(line, "line 2 is \"b\", expected \"c\"");
        assert_eq!(difference("a\n", "a\nc\n").unwrap(), "line 2 is \"the end\", expected \"c\"");
    }

    #[test]
    fn an_absent_file_reads_as_empty() {
        assert_eq!(read(Path::new("/no/such/file")).unwrap(), "");
    }
}
