//! WebAssembly: programs in Rust, Go, JavaScript and Python become one file, by the compiler of their language.
//!
//! JavaScript and Python are compiled for the world `http` of [`WIT`], unless the folder brings a world of its own in `wit/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::super::{collect, guess};
use super::tool::{command, execute};
use super::{Step, pip, provided};
use crate::cli::progress::Progress;
use crate::package::collect::Entry;

/// What Rust is compiled for: its libraries and programs are components there.
const RUST_TARGET: &str = "wasm32-wasip2";
/// The world of programs that answer requests.
const WIT: &str = include_str!("http.wit");
/// That world's name.
const WORLD: &str = "http";
/// A world of the folder's own.
const OWN_WIT: &str = "wit";
/// Sources that may hold the handler, likeliest first.
const SCRIPTS: [&str; 5] = ["index.js", "index.mjs", "main.js", "app.js", "main.mjs"];
const MODULES: [&str; 4] = ["app.py", "main.py", "index.py", "handler.py"];

/// What makes the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// Cargo, where the folder lies.
    Cargo,
    /// Go, where the folder lies: a program for WASI preview 1.
    Go,
    /// componentize-js, of this file.
    JavaScript(&'static str),
    /// componentize-py, of this file.
    Python(&'static str),
}

/// What compiles the folder at `root`, if it is to be compiled for `runtime`.
pub(super) fn step(root: &Path, runtime: Option<&str>) -> anyhow::Result<Option<Step>> {
    let has = |name: &str| root.join(name).exists();
    // A program that is there already was made by somebody who knows better; so is what a build script makes.
    if runtime != Some(guess::WASM) || holds_program(root)? {
        return Ok(None);
    }
    let script = || SCRIPTS.into_iter().find(|name| has(name)).map(Compiler::JavaScript);
    let module = || MODULES.into_iter().find(|name| has(name)).map(Compiler::Python);
    let compiler = if has("Cargo.toml") {
        Some(Compiler::Cargo)
    } else if has("go.mod") {
        Some(Compiler::Go)
    } else if has("package.json") {
        None
    } else {
        script().or_else(module)
    };
    Ok(compiler.map(Step::Wasm))
}

fn holds_program(root: &Path) -> anyhow::Result<bool> {
    let reading = || format!("reading {}", root.display());
    for entry in fs::read_dir(root).with_context(reading)? {
        if entry.with_context(reading)?.path().extension().is_some_and(|e| e == "wasm") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Compiles the folder at `root`, of which `sources` are deployed, into the file `name` of the package; `scratch` is ours.
pub(crate) fn compile(
    compiler: &Compiler,
    root: &Path,
    sources: &[Entry],
    scratch: &Path,
    name: &str,
    progress: &Progress,
) -> anyhow::Result<Entry> {
    let program = scratch.join("program.wasm");
    let program = match compiler {
        Compiler::Cargo => {
            let what = format!("compiling (cargo build --release --target {RUST_TARGET})");
            let _step = progress.step(&what);
            provided::wasm(root, RUST_TARGET)?
        }
        Compiler::Go => {
            let _step = progress.step("compiling (go build for WASI)");
            provided::go(root, &program, "wasip1", Some("wasm")).map(|()| program)?
        }
        Compiler::JavaScript(file) => {
            let _step = progress.step("compiling (componentize-js)");
            let (wit, world) = world(root, scratch)?;
            let mut js = command(componentize_js(root));
            js.arg("--wit")
                .arg(wit)
                .args(world.map(|world| ["--world-name", world]).into_iter().flatten());
            js.arg("--out").arg(&program).arg(file);
            execute(js.current_dir(root), "componentize-js").map(|_| program)?
        }
        Compiler::Python(file) => {
            // A copy, as packages are installed beside the code.
            let copy = scratch.join("copy");
            collect::copy(sources, &copy)?;
            if copy.join("requirements.txt").exists() {
                pip::install(&copy, &pip::version(None), progress)?;
            }
            let _step = progress.step("compiling (componentize-py)");
            let (wit, world) = world(root, scratch)?;
            let mut py = command("componentize-py");
            py.arg("--wit-path")
                .arg(wit)
                .args(world.map(|world| ["--world", world]).into_iter().flatten());
            py.args([
                "componentize",
                file.trim_end_matches(".py"),
                "--python-path",
                ".",
                "--output",
            ]);
            execute(py.arg(&program).current_dir(&copy), "componentize-py").map(|_| program)?
        }
    };
    Entry::of_file(name, &program)
}

/// Where the interfaces are, and which world it is if the folder does not say.
fn world(root: &Path, scratch: &Path) -> anyhow::Result<(PathBuf, Option<&'static str>)> {
    let own = root.join(OWN_WIT);
    if own.is_dir() {
        return Ok((own, None));
    }
    let wit = scratch.join(OWN_WIT);
    fs::create_dir_all(&wit).with_context(|| format!("making {}", wit.display()))?;
    fs::write(wit.join("http.wit"), WIT).context("writing http.wit")?;
    Ok((wit, Some(WORLD)))
}

/// The project's own, else the one on the `PATH`.
fn componentize_js(root: &Path) -> PathBuf {
    let own = root.join("node_modules/.bin/componentize-js");
    if own.exists() { own } else { "componentize-js".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_seen_in_the_files() {
        for (files, expected) in [
            (&["Cargo.toml"][..], Some(Compiler::Cargo)),
            (&["go.mod", "main.go"], Some(Compiler::Go)),
            (&["index.js"], Some(Compiler::JavaScript("index.js"))),
            (&["app.py", "requirements.txt"], Some(Compiler::Python("app.py"))),
            (&["index.js", "package.json"], None),
            (&["Cargo.toml", "made.wasm"], None),
            (&["README.md"], None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
            let found = step(dir.path(), Some("wasm")).unwrap();
            assert_eq!(found, expected.map(Step::Wasm), "{files:?}");
            assert_eq!(step(dir.path(), None).unwrap(), None);
        }
    }
}
