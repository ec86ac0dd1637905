//! What turns a folder into a package, a tool each, in a copy of the folder: [`npm`], [`pip`], [`java`] (Maven and javac); where it lies: [`provided`] (Go, Cargo, and C) and
//! [`wasm`]. [`tool`] starts them.

pub(crate) mod java;
pub(crate) mod npm;
mod pip;
pub(crate) mod provided;
pub(crate) mod tool;
pub(crate) mod wasm;

use std::path::Path;

use self::npm::Npm;
use super::guess;
use crate::cli::progress::Progress;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// npm: packages, and the script `build`.
    Npm(Npm),
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
    /// The C compiler, statically.
    C,
    /// WebAssembly.
    Wasm(wasm::Compiler),
}

impl Step {
    /// Whether it makes `node_modules` anew.
    pub(crate) fn fills_node_modules(&self) -> bool {
        matches!(self, Self::Npm(npm) if npm.fills_node_modules())
    }

    /// Whether it makes `target` anew, and what is deployed is made of that.
    pub(crate) fn fills_target(&self) -> bool {
        *self == Self::Maven
    }

    /// Whether it makes one executable.
    pub(crate) fn makes_executable(&self) -> bool {
        matches!(self, Self::Go | Self::Cargo | Self::C)
    }
}

/// What has to be done for the folder at `root`.
pub(crate) fn steps(root: &Path, runtime: Option<&str>) -> anyhow::Result<Vec<Step>> {
    let has = |name: &str| root.join(name).exists();
    if let Some(step) = wasm::step(root, runtime)? {
        return Ok(vec![step]);
    }
    let mut steps: Vec<Step> = Npm::of(root)?.map(Step::Npm).into_iter().collect();
    if has("requirements.txt") && runtime != Some(guess::WASM) {
        steps.push(Step::Pip { python: pip::version(runtime) });
    }
    if runtime.is_none_or(|r| r.starts_with("java")) {
        java::refuse_gradle(root)?;
        if has("pom.xml") {
            steps.push(Step::Maven);
        }
    }
    steps.extend(provided::step(root, runtime)?);
    Ok(steps)
}

/// Does one step in `folder`, which is ours.
pub(crate) fn run(step: &Step, folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    match step {
        Step::Npm(npm) => npm.run(folder, progress),
        Step::Pip { python } => pip::install(folder, python, progress),
        Step::Maven => java::maven(folder, progress),
        // Made where the folder lies.
        Step::Go | Step::Cargo | Step::C | Step::Wasm(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        assert_eq!(
            steps(locked.path(), None).unwrap(),
            [Step::Npm(Npm::of(locked.path()).unwrap().unwrap())]
        );
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
}
