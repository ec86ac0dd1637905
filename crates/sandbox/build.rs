//! Compiles the library that runtimes are forked with, `crates/zygote`, for the daemon to hold: a shared library without dependencies, made by one call
//! of the same compiler, so it needs neither a second cargo nor a network.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told by variables what to compile, and runs the compiler"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const SOURCES: &str = "../zygote/src";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={SOURCES}");
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error=the library of zygotes cannot be compiled: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name: &str| env::var_os(name).ok_or(format!("cargo did not set {name}"));
    let library = PathBuf::from(variable("OUT_DIR")?).join("zygote.so");
    let mut compiler = Command::new(variable("RUSTC")?);
    compiler.args(["--crate-name", "zygote", "--crate-type", "cdylib", "--edition", "2024"]);
    compiler.args(["-C", "panic=abort", "-C", "opt-level=2", "-C", "strip=symbols"]);
    // Linted as a crate of the workspace.
    compiler.args(["--cap-lints", "allow"]);
    compiler.arg("--target").arg(variable("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        compiler.arg("-C").arg(option);
    }
    compiler.arg("-o").arg(library).arg(Path::new(SOURCES).join("library.rs"));
    let status = compiler.status()?;
    if status.success() { Ok(()) } else { Err(format!("rustc ended with {status}").into()) }
}
