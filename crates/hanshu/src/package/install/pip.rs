//! pip, in a copy of the folder.

use std::path::Path;

use super::super::guess;
use super::tool::{command, execute, missing};
use crate::cli::failure::CliError;
use crate::cli::progress::Progress;

/// The minor version of Python whose wheels a runtime takes, such as `3.11`; of `python3` alone the usual one.
pub(super) fn version(runtime: Option<&str>) -> String {
    let usual = guess::PYTHON.trim_start_matches("python");
    let named = runtime.and_then(|r| r.strip_prefix("python")).filter(|v| v.contains('.'));
    named.unwrap_or(usual).to_owned()
}

/// Installs what `requirements.txt` in `folder` says beside the code, for this version of Python.
pub(super) fn install(folder: &Path, python: &str, progress: &Progress) -> anyhow::Result<()> {
    let _step = progress.step("installing Python packages (pip install)");
    let (program, own_version) = find(python)?;
    let mut pip = command(&program);
    pip.args(["-m", "pip", "install", "--requirement", "requirements.txt", "--target", "."]);
    pip.args(["--no-input", "--disable-pip-version-check", "--no-compile", "--upgrade"]);
    if own_version != *python {
        // Another Python than the function's may only unpack wheels made for the function's.
        pip.args(["--python-version", python, "--implementation", "cp", "--only-binary=:all:"]);
    }
    execute(pip.current_dir(folder), "pip").map(drop)
}

/// A Python that has pip, and its own version; the function's own one if possible.
fn find(python: &str) -> Result<(String, String), CliError> {
    let programs = [format!("python{python}"), "python3".to_owned(), "python".to_owned()];
    let mut found = None;
    for program in programs {
        let output = command(&program).args(["-m", "pip", "--version"]).output();
        let Ok(output) = output else { continue };
        // "pip 23.0.1 from /usr/lib/python3/dist-packages/pip (python 3.11)"
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.rsplit_once("(python ").map(|(_, v)| v.trim_end().trim_end_matches(')'));
        match version {
            Some(version) if output.status.success() && version == python => {
                return Ok((program, version.to_owned()));
            }
            Some(version) if output.status.success() => {
                found.get_or_insert((program, version.to_owned()));
            }
            _ => {}
        }
    }
    found.ok_or_else(|| missing("pip"))
}
