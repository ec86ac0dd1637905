//! Runs the language's own package manager in a copy of the folder: `npm ci` / `npm install`, `pip install --target`, `mvn package`; [`provided`]: compilers.

pub(crate) mod java;
pub(crate) mod provided;

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::guess;
use crate::cli::failure::CliError;
use crate::cli::progress::Progress;

/// Lines of a failed tool's output that are shown.
const SHOWN_LINES: usize = 30;

/// One thing to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// npm, exactly as the lock says.
    NpmCi,
    /// npm, newest versions that `package.json` allows.
    NpmInstall,
    /// pip, for this minor version of Python, such as `3.11`.
    Pip {
        /// The version that wheels are chosen for.
        python: String,
    },
    /// Maven, with the libraries beside the project's jar.
    Maven,
    /// Go's own compiler, where the folder lies.
    Go,
    /// Cargo, where the folder lies.
    Cargo,
}

impl Step {
    /// Whether it makes `node_modules` anew.
    pub(crate) fn fills_node_modules(&self) -> bool {
        matches!(self, Self::NpmCi | Self::NpmInstall)
    }

    /// Whether it makes `target` anew, and what is deployed is made of that.
    pub(crate) fn fills_target(&self) -> bool {
        *self == Self::Maven
    }

    /// Whether it makes one executable, and that is all that is deployed.
    pub(crate) fn makes_executable(&self) -> bool {
        matches!(self, Self::Go | Self::Cargo)
    }
}

/// What has to be installed for the folder at `root`.
pub(crate) fn steps(root: &Path, runtime: Option<&str>) -> anyhow::Result<Vec<Step>> {
    let has = |name: &str| root.join(name).exists();
    let mut steps = Vec::new();
    if has("package.json") {
        if has("package-lock.json") || has("npm-shrinkwrap.json") {
            steps.push(Step::NpmCi);
        } else if !has("node_modules") && names_dependencies(&root.join("package.json"))? {
            steps.push(Step::NpmInstall);
        }
    }
    if has("requirements.txt") {
        let name = runtime.filter(|r| r.starts_with("python")).unwrap_or(guess::PYTHON);
        let python = name.trim_start_matches("python");
        // `python3` means whichever the daemon has: wheels are then chosen for the usual one.
        let python =
            if python.contains('.') { python } else { guess::PYTHON.trim_start_matches("python") };
        steps.push(Step::Pip { python: python.to_owned() });
    }
    if runtime.is_none_or(|r| r.starts_with("java")) {
        java::refuse_gradle(root)?;
        if has("pom.xml") {
            steps.push(Step::Maven);
        }
    }
    steps.extend(provided::step(root, runtime));
    Ok(steps)
}

fn names_dependencies(package_json: &Path) -> anyhow::Result<bool> {
    let text = fs::read_to_string(package_json)
        .with_context(|| format!("reading {}", package_json.display()))?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| CliError::new(format!("{} is not valid JSON: {e}", package_json.display())))?;
    let filled =
        |field: &str| value.get(field).and_then(|d| d.as_object()).is_some_and(|d| !d.is_empty());
    Ok(filled("dependencies") || filled("optionalDependencies"))
}

/// Runs one step in `folder`, which is ours.
pub(crate) fn run(step: &Step, folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    const QUIET: &[&str] = &["--omit=dev", "--no-audit", "--no-fund", "--no-progress"];
    match step {
        Step::NpmCi | Step::NpmInstall => {
            let verb = if *step == Step::NpmCi { "ci" } else { "install" };
            let _step = progress.step(&format!("installing npm packages (npm {verb})"));
            execute(command("npm").arg(verb).args(QUIET).current_dir(folder), "npm").map(drop)
        }
        Step::Pip { python } => {
            let _step = progress.step("installing Python packages (pip install)");
            let (program, own_version) = find_pip(python)?;
            let mut pip = command(&program);
            pip.args([
                "-m",
                "pip",
                "install",
                "--requirement",
                "requirements.txt",
                "--target",
                ".",
            ]);
            pip.args(["--no-input", "--disable-pip-version-check", "--no-compile", "--upgrade"]);
            if own_version != *python {
                // Another Python than the function's may only unpack wheels made for the function's.
                pip.args([
                    "--python-version",
                    python,
                    "--implementation",
                    "cp",
                    "--only-binary=:all:",
                ]);
            }
            execute(pip.current_dir(folder), "pip").map(drop)
        }
        Step::Maven => java::maven(folder, progress),
        // Made where the folder lies.
        Step::Go | Step::Cargo => Ok(()),
    }
}

/// A Python that has pip, and its own version; the function's own one if possible.
fn find_pip(python: &str) -> Result<(String, String), CliError> {
    let programs = [format!("python{python}"), "python3".to_owned(), "python".to_owned()];
    let mut found = None;
    for program in programs {
        let output = command(&program).args(["-m", "pip", "--version"]).output();
        let Ok(output) = output else { continue };
        // "pip 23.0.1 from /usr/lib/python3/dist-packages/pip (python 3.11)"
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.rsplit_once("(python ").map(|(_, v)| v.trim_end().trim_end_matches(')'));
        match version {
            Some(version) if output.status.success() && version == python => {
                return Ok((program, version.to_owned()));
            }
            Some(version) if output.status.success() => {
                found.get_or_insert((program, version.to_owned()));
            }
            _ => {}
        }
    }
    found.ok_or_else(|| {
        CliError::new("pip is not installed, and requirements.txt needs it").hint(
            "install Python with pip (on Debian: apt-get install python3-pip) and deploy again",
        )
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "deploy runs the person's own package manager as that person, not a function"
)]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end; what it says on standard output.
fn execute(command: &mut Command, tool: &str) -> anyhow::Result<String> {
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => CliError::new(format!(
            "{tool} is not installed, and this folder needs it"
        ))
        .hint(match tool {
            "javac" | "mvn" => format!(
                "install {tool} (on Debian: apt-get install default-jdk-headless maven) and deploy again, or deploy a .jar"
            ),
            "go" | "cargo" => provided::hint(tool),
            _ => format!(
                "install {tool} and deploy again, or put the packages into the folder yourself"
            ),
        }),
        _ => CliError::new(format!("{tool} cannot be started: {e}")),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES));
    let shown: Vec<String> = shown.map(|l| format!("  {l}")).collect();
    Err(CliError::new(format!("{tool} failed ({}):\n{}", output.status, shown.join("\n"))).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn the_folder_says_what_to_install() {
        let locked = folder(&[("package.json", "{}"), ("package-lock.json", "{}")]);
        assert_eq!(steps(locked.path(), None).unwrap(), [Step::NpmCi]);
        let unlocked = folder(&[("package.json", r#"{"dependencies":{"a":"1"}}"#)]);
        assert_eq!(steps(unlocked.path(), None).unwrap(), [Step::NpmInstall]);
        fs::create_dir(unlocked.path().join("node_modules")).unwrap();
        assert_eq!(steps(unlocked.path(), None).unwrap(), []);
        let plain = folder(&[("package.json", r#"{"type":"module"}"#)]);
        assert_eq!(steps(plain.path(), None).unwrap(), []);
        let python = folder(&[("requirements.txt", "")]);
        for (runtime, version) in
            [(None, "3.11"), (Some("python3"), "3.11"), (Some("python3.12"), "3.12")]
        {
            let expected = Step::Pip { python: version.into() };
            assert_eq!(steps(python.path(), runtime).unwrap(), [expected]);
        }
        let maven = folder(&[("pom.xml", "")]);
        assert_eq!(steps(maven.path(), None).unwrap(), [Step::Maven]);
        assert_eq!(steps(maven.path(), Some("nodejs20")).unwrap(), []);
        for (file, step) in [("go.mod", Step::Go), ("Cargo.toml", Step::Cargo)] {
            let program = folder(&[(file, "")]);
            for runtime in [None, Some("provided"), Some("provided.al2023")] {
                assert_eq!(steps(program.path(), runtime).unwrap(), std::slice::from_ref(&step));
            }
            assert_eq!(steps(program.path(), Some("nodejs20")).unwrap(), []);
            fs::write(program.path().join("bootstrap"), "").unwrap();
            assert_eq!(steps(program.path(), None).unwrap(), []);
        }
    }

    #[test]
    fn a_missing_tool_is_named() {
        let e = execute(&mut command("no-such-tool-at-all"), "npm").unwrap_err();
        assert!(e.to_string().contains("npm is not installed"), "{e}");
    }

    #[test]
    fn a_failing_tool_is_quoted() {
        let e = execute(command("sh").args(["-c", "echo why >&2; exit 3"]), "npm").unwrap_err();
        let text = e.to_string();
        assert!(text.contains("why") && text.contains('3'), "{text}");
    }
}
