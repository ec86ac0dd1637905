//! Compiles the one part of a bootstrap that is native code: `runtimes/java/native/ahead.c`, a shared library of the target's.

use std::error::Error;
use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "by its variables cargo speaks to a build script")]
fn main() -> Result<(), Box<dyn Error>> {
    let source = "../../runtimes/java/native/ahead.c";
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={source}");
    let library = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("ahead.so");
    let compiler = cc::Build::new().opt_level(2).pic(true).warnings(true).try_get_compiler()?;
    let mut command = compiler.to_command();
    // What it calls is found in the C library that the virtual machine has loaded.
    command.args(["-shared", "-nostdlib", "-s", "-Wl,-z,noexecstack", "-o"]).arg(library);
    match command.arg(source).status()? {
        status if status.success() => Ok(()),
        status => Err(format!("the C compiler failed on {source}: {status}").into()),
    }
}
