//! Executables: a Go module or a Cargo package is compiled where it lies, C in a folder of ours, and what comes of it is the function's `bootstrap`.
//!
//! Where it lies, because both may name other folders beside it. Go writes nothing there; Cargo its own `target`, as it does for whoever works in that folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use model::function::WEB;
use serde::Deserialize;

use super::Step;
use super::tool::{MISSING, command, execute};
use crate::cli::failure::CliError;
use crate::cli::progress::Progress;
use crate::package::collect::Entry;

/// The executable's name in the package.
pub(crate) const BOOTSTRAP: &str = "bootstrap";
/// Files that make a folder another language's.
const OTHERS: [&str; 3] = ["package.json", "requirements.txt", "pom.xml"];

/// What compiles the folder at `root`, if it is to be compiled.
pub(super) fn step(root: &Path, runtime: Option<&str>) -> anyhow::Result<Option<Step>> {
    let has = |name: &str| root.join(name).exists();
    let others = OTHERS.into_iter().any(has);
    let ours = runtime.map_or(!others, |r| r.starts_with("provided") || r == WEB && !others);
    // One that is there already was made by somebody who knows better.
    if !ours || has(BOOTSTRAP) {
        return Ok(None);
    }
    if has("go.mod") {
        return Ok(Some(Step::Go));
    }
    if has("Cargo.toml") {
        return Ok(Some(Step::Cargo));
    }
    // Without a runtime named, C beside other files is likelier a part of something else.
    Ok((runtime.is_some() && !c_files(root)?.is_empty()).then_some(Step::C))
}

/// Compiles the folder at `root`; the executable, which may lie in `scratch`.
pub(crate) fn compile(
    step: &Step,
    root: &Path,
    scratch: &Path,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let program = scratch.join(BOOTSTRAP);
    let program = match step {
        Step::Go => {
            let _step = progress.step("compiling (go build)");
            go(root, &program, "linux", None).map(|()| program)?
        }
        Step::C => {
            let _step = progress.step("compiling (cc)");
            let mut cc = command("cc");
            // Static: it needs nothing of the machine.
            cc.args(["-O2", "-static", "-pthread", "-o"]).arg(&program).args(c_files(root)?);
            execute(cc.current_dir(root), "cc").map(|_| program)?
        }
        _ => {
            let _step = progress.step("compiling (cargo build --release)");
            executable(root)?
        }
    };
    Entry::of_file(BOOTSTRAP, &program)
}

/// The names of the C sources at the top, sorted.
fn c_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let reading = || format!("reading {}", root.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(reading)? {
        let name = entry.with_context(reading)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".c") && !name.starts_with(['-', '.']) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// Has Go compile the module at `root` into `program`, for this system and, if it is not the machine's own, this processor.
pub(super) fn go(
    root: &Path,
    program: &Path,
    system: &str,
    processor: Option<&str>,
) -> anyhow::Result<()> {
    let mut go = command("go");
    go.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(program);
    // Of a program that needs nothing of the machine.
    go.env("CGO_ENABLED", "0").env("GOOS", system).current_dir(root);
    go.envs(processor.map(|processor| ("GOARCH", processor)));
    execute(&mut go, "go").map(drop)
}

/// As much of what Cargo says as is read.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn executable(root: &Path) -> anyhow::Result<PathBuf> {
    let programs = cargo(root, &["--bins"])?.into_iter().filter_map(|m| m.executable).collect();
    the_one(programs, BOOTSTRAP)
}

/// Has Cargo compile the package at `root` for WebAssembly: the program, or else the library that is one.
pub(super) fn wasm(root: &Path, target: &str) -> anyhow::Result<PathBuf> {
    let made = cargo(root, &["--target", target]).map_err(|e| match e.to_string() {
        text if text.contains("target may not be installed") => CliError::new(format!(
            "cargo does not compile for {target} yet, and this folder needs it"
        ))
        .code(MISSING)
        .hint(format!("run `rustup target add {target}` and deploy again, or deploy a .wasm"))
        .into(),
        _ => e,
    })?;
    let is_wasm = |path: &PathBuf| path.extension().is_some_and(|e| e == "wasm");
    let files = made.into_iter().flat_map(|m| m.filenames).filter(is_wasm).collect();
    the_one(files, "main.wasm")
}

/// What Cargo says of all that it has made.
fn cargo(root: &Path, what: &[&str]) -> anyhow::Result<Vec<Message>> {
    let mut cargo = command("cargo");
    cargo.args(["build", "--release", "--message-format=json-render-diagnostics"]).args(what);
    let said = execute(cargo.current_dir(root), "cargo")?;
    Ok(said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The only program, or the one with this name.
fn the_one(programs: Vec<PathBuf>, name: &str) -> anyhow::Result<PathBuf> {
    let named = programs.iter().find(|path| path.file_name().is_some_and(|n| n == name));
    match (named, programs.as_slice()) {
        (Some(program), _) | (None, [program]) => Ok(program.clone()),
        (None, []) => Err(CliError::new("cargo build has made no program")
            .hint("a function is a package with a src/main.rs; of WebAssembly also a library with crate-type = [\"cdylib\"]")
            .into()),
        (None, all) => {
            let stem = name.split('.').next().unwrap_or(name);
            Err(CliError::new(format!("cargo build has made {} programs", all.len()))
                .hint(format!("call the function's own `{stem}`: [[bin]] name = \"{stem}\""))
                .into())
        }
    }
}
