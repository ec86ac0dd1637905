//! The programs that the tests need, and how they come to the machine.
//!
//! What is missing is installed from Debian's packages by root; anybody else is told what to install. Nothing is skipped.

use std::process::Command;

use anyhow::{Result, bail};

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
        purpose: "the static binary of the sandbox's bench",
        probe: &["cc", "--version"],
        package: "gcc",
    },
    Tool {
        purpose: "the static binary of the sandbox's bench",
        probe: &["sh", "-c", "test -e \"$(cc -print-file-name=libc.a)\""],
        package: "libc6-dev",
    },
    Tool {
        purpose: "tests as an ordinary user",
        probe: &["setpriv", "--version"],
        package: "util-linux",
    },
];

/// Whether xtask runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes sure that every tool is there.
///
/// # Errors
///
/// If one is missing and cannot be installed; the message says what to do.
pub(crate) fn ensure() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        say!("all {} tools are there", TOOLS.len());
        return Ok(());
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
    let still: Vec<_> = self::missing().iter().map(|t| t.package).collect();
    if !still.is_empty() {
        bail!("still missing after the installation: {}", still.join(" "));
    }
    Ok(())
}

fn missing() -> Vec<&'static Tool> {
    let there = |tool: &Tool| match tool.probe {
        [program, arguments @ ..] => shell::succeeds(shell::command(program).args(arguments)),
        [] => true,
    };
    TOOLS.iter().filter(|t| !there(t)).collect()
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut apt = shell::command("apt-get");
    // Packages that ask questions would wait for ever: there is no standard input.
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    apt
}

fn advice(packages: &[&str]) -> String {
    format!(
        "the tests need more than is installed: on Debian or Ubuntu run `sudo apt-get install {0}`, elsewhere install the \
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
    fn every_tool_has_a_probe() {
        assert!(TOOLS.iter().all(|t| !t.probe.is_empty() && !t.purpose.is_empty()));
    }
}
