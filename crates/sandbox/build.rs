//! Compiles the native parts that the daemon holds for its runtimes, as shared libraries without dependencies of their own: what runtimes are forked with
//! (`crates/zygote`, by one call of the same compiler, so it needs neither a second cargo nor a network), and what Java's bootstrap cannot do by itself
//! (`runtimes/java/native/ahead.c`).

#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told by variables what to compile, and runs the compilers"
)]

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const ZYGOTE: &str = "../zygote/src";
const JAVA_AHEAD: &str = "../../runtimes/java/native/ahead.c";

type Fallible<T> = Result<T, Box<dyn Error>>;
/// What compiles a library into a folder.
type Compiler = fn(&Path) -> Fallible<Command>;

const LIBRARIES: [(&str, Compiler); 2] = [(ZYGOTE, zygote), (JAVA_AHEAD, java_ahead)];

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    for (source, compiler) in LIBRARIES {
        println!("cargo::rerun-if-changed={source}");
        if let Err(error) = compile(compiler) {
            println!("cargo::error={source} cannot be compiled: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compile(compiler: Compiler) -> Fallible<()> {
    let folder = PathBuf::from(variable("OUT_DIR")?);
    let mut command = compiler(&folder)?;
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("the compiler failed: {status}").into()) }
}

fn variable(name: &str) -> Fallible<OsString> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}").into())
}

fn zygote(folder: &Path) -> Fallible<Command> {
    let mut compiler = Command::new(variable("RUSTC")?);
    compiler.args(["--crate-name", "zygote", "--crate-type", "cdylib", "--edition", "2024"]);
    compiler.args(["-C", "panic=abort", "-C", "opt-level=2", "-C", "strip=symbols"]);
    // Linted as a crate of the workspace.
    compiler.args(["--cap-lints", "allow"]);
    compiler.arg("--target").arg(variable("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        compiler.arg("-C").arg(option);
    }
    compiler.arg("-o").arg(folder.join("zygote.so")).arg(Path::new(ZYGOTE).join("library.rs"));
    Ok(compiler)
}

fn java_ahead(folder: &Path) -> Fallible<Command> {
    let compiler = cc::Build::new().opt_level(2).pic(true).warnings(true).try_get_compiler()?;
    let mut command = compiler.to_command();
    // What it calls is found in the C library that the virtual machine has loaded.
    command.args(["-shared", "-nostdlib", "-s", "-Wl,-z,noexecstack", "-o"]);
    command.arg(folder.join("ahead.so")).arg(JAVA_AHEAD);
    Ok(command)
}
