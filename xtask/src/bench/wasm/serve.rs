//! `wasmtime serve` of a component: wasmtime's own server, of the release that the daemon is built on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;

use crate::bench::child::Running;
use crate::bench::http::Connection;
use crate::say::say;
use crate::shell;

/// What it is installed with: what it needs to serve, and the settings that it has by itself.
const INSTALL: &str = "install wasmtime-cli --version 48.0.8 --locked --no-default-features \
    --features run,serve,component-model-async,cranelift,pooling-allocator,parallel-compilation --root";

/// Starts it, if there is one or it may be built, which takes about ten minutes of a processor.
pub(super) fn start(component: &Path, build: bool) -> Result<Option<(Running, SocketAddr)>> {
    let Some(program) = program(build)? else { return Ok(None) };
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = shell::command(program);
    // It says of each connection that is cut off that it was.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.args(["serve", "-S", "cli", "--addr", &address.to_string()]).arg(component);
    let running = Running::start(&mut command)?;
    let mut patience = 100;
    while Connection::open(address).is_err() && patience > 0 {
        std::thread::sleep(Duration::from_millis(50));
        patience -= 1;
    }
    Ok(Some((running, address)))
}

/// The program: kept below `target`, where it stays for the next run.
fn program(build: bool) -> Result<Option<PathBuf>> {
    let root = shell::root().join("target/baselines");
    let program = root.join("bin/wasmtime");
    if !program.exists() {
        if !build {
            return Ok(None);
        }
        say!("building wasmtime-cli, once");
        shell::run(shell::cargo(INSTALL).arg(&root))?;
    }
    Ok(Some(program))
}
