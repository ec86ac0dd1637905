//! The compilers of components in JavaScript and Python, from npm and PyPI, kept in the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Their versions.
const JAVASCRIPT: &str = "@bytecodealliance/componentize-js@0.23.0";
const PYTHON: &str = "componentize-py==0.25.1";

/// A `PATH` with componentize-js and componentize-py before what it has otherwise.
pub(crate) fn path() -> String {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(install);
    let programs = FOLDER.join("js/node_modules/.bin");
    let more = std::env::var("PATH").unwrap();
    format!("{}:{}:{more}", programs.display(), FOLDER.join("py/bin").display())
}

/// Installs what is missing; a folder is renamed to its place when it is whole.
fn install() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().nth(3).unwrap().join("componentize");
    let (js, py) = (folder.join("js"), folder.join("py"));
    if !js.exists() {
        fs::create_dir_all(&folder).unwrap();
        let made = tempfile::tempdir_in(&folder).unwrap();
        let npm = ["install", "--no-audit", "--no-fund", "--no-progress", "--prefix"];
        run(Command::new("npm").args(npm).arg(made.path()).arg(JAVASCRIPT));
        fs::rename(made.keep(), js).unwrap();
    }
    if !py.exists() {
        // Its programs name the folder that they were installed into, so that it cannot be renamed.
        run(Command::new("python3").args(["-m", "venv"]).arg(&py));
        run(pip(&py).arg(PYTHON));
    } else if !py.join("bin/componentize-py").exists() {
        run(pip(&py).arg(PYTHON));
    }
    folder
}

fn pip(environment: &Path) -> Command {
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    pip
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
