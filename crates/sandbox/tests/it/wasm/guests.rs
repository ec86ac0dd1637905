//! Programs for the tests, built from `tests/guests` by this toolchain, which `cargo x test` has fetch what WebAssembly needs.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use bytes::Bytes;

use crate::support::zip_of;

/// The kinds of programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// WASI preview 1.
    Command,
    /// `wasi:cli/command` 0.2.
    Run,
    /// `wasi:http/proxy` 0.2.
    Component,
}

static BUILT: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    // Where there is no toolchain, as for a user without a home, whoever copied this program copied them as well.
    let beside = ["command.wasm", "run.wasm", "guests.wasm"].map(|file| std::fs::read(file).ok());
    if let [Some(command), Some(run), Some(component)] = beside {
        return [command, run, component];
    }
    [
        build("wasm32-wasip1", &["--bin", "command"], "command.wasm"),
        build("wasm32-wasip2", &["--bin", "command"], "command.wasm"),
        build("wasm32-wasip2", &["--lib", "--features", "proxy"], "guests.wasm"),
    ]
});

impl Guest {
    /// For the names of tests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Run => "run",
            Self::Component => "component",
        }
    }

    /// The program.
    pub(crate) fn wasm(self) -> &'static [u8] {
        let [command, run, component] = &*BUILT;
        match self {
            Self::Command => command,
            Self::Run => run,
            Self::Component => component,
        }
    }

    /// A package with nothing else, in `guest.wasm`.
    pub(crate) fn package(self) -> Bytes {
        zip_of(&[("guest.wasm", self.wasm())])
    }
}

#[expect(clippy::disallowed_methods, reason = "builds what the tests run")]
fn build(target_name: &str, what: &[&str], file: &str) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let target = crate::support::guests();
    let built = Command::new("cargo")
        .args(["build", "--locked", "--quiet", "--target", target_name, "--target-dir"])
        .arg(&target)
        .args(what)
        .current_dir(source)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("`cargo` runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "the guest for {target_name} is not built: {said}");
    std::fs::read(target.join(target_name).join("debug").join(file)).unwrap()
}
