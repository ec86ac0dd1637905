//! Executables that bring their own runtime: a Go module or a Cargo package is compiled where it lies, and what comes of it is the function's `bootstrap`.
//!
//! Where it lies, because both may name other folders beside it. Go writes nothing there; Cargo its own `target`, as it does for whoever works in that folder.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Step, command, execute};
use crate::cli::failure::CliError;
use crate::cli::progress::Progress;
use crate::package::collect::Entry;

/// The executable's name in the package.
pub(crate) const BOOTSTRAP: &str = "bootstrap";
/// Files that make a folder another language's.
const OTHERS: [&str; 3] = ["package.json", "requirements.txt", "pom.xml"];

/// What compiles the folder at `root`, if it is to be compiled.
pub(super) fn step(root: &Path, runtime: Option<&str>) -> Option<Step> {
    let has = |name: &str| root.join(name).exists();
    let ours = runtime.map_or_else(|| !OTHERS.into_iter().any(has), |r| r.starts_with("provided"));
    // One that is there already was made by somebody who knows better.
    if !ours || has(BOOTSTRAP) {
        return None;
    }
    if has("go.mod") { Some(Step::Go) } else { has("Cargo.toml").then_some(Step::Cargo) }
}

/// Compiles the folder at `root`; the executable, which may lie in `scratch`.
pub(crate) fn compile(
    step: &Step,
    root: &Path,
    scratch: &Path,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let program = if *step == Step::Go {
        let _step = progress.step("compiling (go build)");
        let program = scratch.join(BOOTSTRAP);
        let mut go = command("go");
        go.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&program);
        // Of a program that needs nothing of the machine.
        go.env("CGO_ENABLED", "0").env("GOOS", "linux").current_dir(root);
        execute(&mut go, "go")?;
        program
    } else {
        let _step = progress.step("compiling (cargo build --release)");
        cargo(root)?
    };
    Entry::of_file(BOOTSTRAP, &program)
}

/// As much of what Cargo says as is read.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

fn cargo(root: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = command("cargo");
    cargo.args(["build", "--release", "--bins", "--message-format=json-render-diagnostics"]);
    let said = execute(cargo.current_dir(root), "cargo")?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let programs: Vec<PathBuf> = messages.filter_map(|message| message.executable).collect();
    let named = programs.iter().find(|path| path.file_name().is_some_and(|n| n == BOOTSTRAP));
    match (named, programs.as_slice()) {
        (Some(program), _) | (None, [program]) => Ok(program.clone()),
        (None, []) => Err(CliError::new("cargo build has made no executable")
            .hint("a function is a package with a src/main.rs")
            .into()),
        (None, all) => {
            Err(CliError::new(format!("cargo build has made {} executables", all.len()))
                .hint(format!(
                    "call the function's own `{BOOTSTRAP}`: [[bin]] name = \"{BOOTSTRAP}\""
                ))
                .into())
        }
    }
}

/// The hint where a compiler is missing.
pub(super) fn hint(tool: &str) -> String {
    let package = if tool == "go" { "golang-go" } else { "cargo" };
    format!(
        "install {tool} (on Debian: apt-get install {package}) and deploy again, or deploy a .zip with the executable `{BOOTSTRAP}`"
    )
}
