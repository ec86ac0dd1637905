//! The baseline of another platform: `workerd`, installed from npm, with a hello.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::child::Running;
use crate::shell;

/// The package, and the version that is compared with.
const PACKAGE: &str = "workerd@1.20261117.1";
const CONFIG: &str = include_str!("hello.capnp");
/// How long it may take until it listens.
const START: Duration = Duration::from_secs(30);

/// Starts it on a free port; `folder` is an empty one for its configuration.
///
/// # Errors
///
/// If npm cannot install it, or it does not listen within half a minute.
pub(crate) fn start(folder: &Path) -> Result<(Running, SocketAddr)> {
    let program = install()?;
    // Free again when this function has let go of it, and nobody else asks for ports of this machine meanwhile.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = folder.join("hello.capnp");
    std::fs::write(&config, CONFIG.replace("PORT", &address.port().to_string()))
        .with_context(|| format!("cannot write {}", config.display()))?;
    let running = Running::start(shell::command(program).arg("serve").arg(&config))?;
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > START {
            bail!("{PACKAGE} does not listen within {START:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((running, address))
}

/// The program, in a folder of the build's; installed once.
fn install() -> Result<PathBuf> {
    let folder = shell::root().join("target").join("bench-workerd");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let mut npm = shell::command("npm");
    npm.args(["install", "--prefer-offline", "--no-save", "--no-fund", "--no-audit", "--prefix"]);
    shell::run(npm.arg(&folder).arg(PACKAGE))?;
    let program = folder.join("node_modules/.bin/workerd");
    if !program.exists() {
        bail!("{PACKAGE} has no {}", program.display());
    }
    Ok(program)
}
