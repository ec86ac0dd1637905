//! The programs that the tests need, and how they come to the machine.
//!
//! What is missing is installed from Debian's packages by root; anybody else is told what to install. Nothing is skipped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::say::say;
use crate::shell;

/// A program the tests start.
#[derive(Debug)]
struct Tool {
    /// What it is for.
    purpose: &'static str,
    /// Ends with 0 if the tool is there.
    probe: &'static [&'static str],
    /// The Debian package that has it.
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { purpose: "the nodejs runtimes", probe: &["node", "--version"], package: "nodejs" },
    Tool { purpose: "npm packages", probe: &["npm", "--version"], package: "npm" },
    Tool {
        purpose: "native parts of npm packages: the headers of Node.js",
        probe: &[
            "node",
            "-e",
            "fs.accessSync(path.resolve(process.execPath, '../../include/node/node_api.h'))",
        ],
        package: "libnode-dev",
    },
    Tool {
        purpose: "native parts of npm packages",
        probe: &["cmake", "--version"],
        package: "cmake",
    },
    Tool {
        purpose: "native parts of npm packages",
        probe: &["make", "--version"],
        package: "make",
    },
    Tool { purpose: "native parts of npm packages", probe: &["c++", "--version"], package: "g++" },
    Tool { purpose: "the python runtimes", probe: &["python3", "--version"], package: "python3" },
    Tool {
        purpose: "Python packages",
        probe: &["python3", "-m", "pip", "--version"],
        package: "python3-pip",
    },
    Tool {
        purpose: "Python environments",
        probe: &["python3", "-m", "venv", "--help"],
        package: "python3-venv",
    },
    Tool {
        purpose: "the java runtimes",
        probe: &["javac", "-version"],
        package: "default-jdk-headless",
    },
    Tool { purpose: "Java packages", probe: &["mvn", "--version"], package: "maven" },
    Tool { purpose: "programs in Go", probe: &["go", "version"], package: "golang-go" },
    Tool {
        purpose: "programs in C: the attack suite's, and what the sandbox's bench starts",
        probe: &["cc", "--version"],
        package: "gcc",
    },
    Tool {
        purpose: "the C library of those programs, static too",
        probe: &["sh", "-c", "test -e \"$(cc -print-file-name=libc.a)\""],
        package: "libc6-dev",
    },
    Tool {
        purpose: "tests as an ordinary user",
        probe: &["setpriv", "--version"],
        package: "util-linux",
    },
    Tool { purpose: "networks for tests", probe: &["ip", "-Version"], package: "iproute2" },
    Tool {
        purpose: "networks of an ordinary user's functions",
        probe: &["pasta", "--version"],
        package: "passt",
    },
];

/// What the programs of the tests in WebAssembly are compiled for.
const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];
/// The device that pasta makes interfaces with. udev opens it to everybody; a machine without udev does not.
const TUN: &str = "/dev/net/tun";

/// What the fuzzers need beside Rust: libFuzzer is built from its C++ source.
const FUZZING: &[Tool] =
    &[Tool { purpose: "libFuzzer", probe: &["c++", "--version"], package: "g++" }];

/// Whether xtask runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes sure that every tool of the tests is there.
///
/// # Errors
///
/// If one is missing and cannot be installed; the message says what to do.
pub(crate) fn ensure() -> Result<()> {
    ensure_all(TOOLS)?;
    ensure_targets()
}

/// Makes sure that this toolchain compiles for WebAssembly. Only tests need that, so `rust-toolchain.toml` does not ask everybody for it.
fn ensure_targets() -> Result<()> {
    let rustup = || shell::command("rustup");
    let there = shell::capture(rustup().args(["target", "list", "--installed"]))?;
    let lacks = |target: &&&str| !there.lines().any(|line| line == **target);
    let missing: Vec<&&str> = TARGETS.iter().filter(lacks).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say!("this toolchain does not compile for {missing:?}: rustup fetches them");
    shell::run(rustup().args(["target", "add"]).args(missing))
}

/// Makes sure that what the fuzzers need is there; errors as of [`ensure`].
pub(crate) fn ensure_fuzzing() -> Result<()> {
    ensure_all(FUZZING)
}

fn ensure_all(tools: &'static [Tool]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        say!("all {} tools are there", tools.len());
        return open_to_all(Path::new(TUN));
    }
    for tool in &missing {
        say!("{} ({}) is missing", tool.probe.join(" "), tool.purpose);
    }
    let packages: Vec<_> = missing.iter().map(|t| t.package).collect();
    if !is_root() || !shell::succeeds(shell::command("apt-get").arg("--version")) {
        bail!("{}", advice(&packages));
    }
    shell::run(&mut apt_get(&["update"]))?;
    // npm alone recommends several hundred packages that no test needs.
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends"]);
    shell::run(install.args(&packages))?;
    let still: Vec<_> = self::missing(tools).iter().map(|t| t.package).collect();
    if !still.is_empty() {
        bail!("still missing after the installation: {}", still.join(" "));
    }
    open_to_all(Path::new(TUN))
}

/// Lets ordinary users open a device.
fn open_to_all(device: &Path) -> Result<()> {
    let metadata = fs::metadata(device)
        .with_context(|| format!("{} is missing: load the kernel module tun", device.display()))?;
    if metadata.permissions().mode() & 0o006 == 0o006 {
        return Ok(());
    }
    say!("opening {} to ordinary users, as udev does", device.display());
    fs::set_permissions(device, fs::Permissions::from_mode(0o666))
        .with_context(|| format!("run `sudo chmod 666 {}`", device.display()))
}

fn missing(tools: &'static [Tool]) -> Vec<&'static Tool> {
    let there = |tool: &Tool| match tool.probe {
        [program, arguments @ ..] => shell::succeeds(shell::command(program).args(arguments)),
        [] => true,
    };
    tools.iter().filter(|t| !there(t)).collect()
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut apt = shell::command("apt-get");
    // Packages that ask questions would wait for ever: there is no standard input.
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    apt
}

fn advice(packages: &[&str]) -> String {
    format!(
        "more is needed than is installed: on Debian or Ubuntu run `sudo apt-get install {0}`, elsewhere install the \
         equivalents of {0}",
        packages.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_a_command_to_paste() {
        assert!(advice(&["nodejs", "npm"]).contains("`sudo apt-get install nodejs npm`"));
    }

    #[test]
    fn devices_are_opened_to_all() {
        let device = tempfile::NamedTempFile::new().unwrap();
        let mode = || fs::metadata(device.path()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        open_to_all(device.path()).unwrap();
        assert_eq!(mode(), 0o666);
        open_to_all(Path::new("/dev/no-such-device")).unwrap_err();
    }

    #[test]
    fn every_tool_has_a_probe() {
        assert!(TOOLS.iter().chain(FUZZING).all(|t| !t.probe.is_empty() && !t.purpose.is_empty()));
    }
}
