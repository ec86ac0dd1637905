//! npm, in a copy of the folder: packages, and the project's own build script.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::tool::{command, execute};
use crate::cli::failure::CliError;
use crate::cli::progress::Progress;

/// What npm has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Npm {
    /// How packages come, if any has to: `ci` exactly as the lock says, `install` by what `package.json` allows.
    verb: Option<&'static str>,
    /// Whether the script `build` is run, between the installation and the removal of what only it needs.
    build: bool,
}

impl Npm {
    /// For the folder at `root`, which may have no need of it.
    pub(super) fn of(root: &Path) -> anyhow::Result<Option<Self>> {
        let has = |name: &str| root.join(name).exists();
        if !has("package.json") {
            return Ok(None);
        }
        let project = read(&root.join("package.json"))?;
        let build = project["scripts"]["build"].is_string();
        let filled = |field: &str| project[field].as_object().is_some_and(|d| !d.is_empty());
        let wants = filled("dependencies")
            || filled("optionalDependencies")
            || build && filled("devDependencies");
        let verb = if has("package-lock.json") || has("npm-shrinkwrap.json") {
            Some("ci")
        } else {
            // Modules that are there serve a function; a build also needs their programs, which stay behind.
            (wants && (build || !has("node_modules"))).then_some("install")
        };
        Ok((verb.is_some() || build).then_some(Self { verb, build }))
    }

    /// Whether it makes `node_modules` anew.
    pub(crate) fn fills_node_modules(self) -> bool {
        self.verb.is_some()
    }

    /// Does it in `folder`, which is ours.
    pub(super) fn run(self, folder: &Path, progress: &Progress) -> anyhow::Result<()> {
        let npm = |what: &str, arguments: &[&str]| {
            let _step = progress.step(what);
            let quiet = ["--no-audit", "--no-fund", "--no-progress"];
            let mut npm = command("npm");
            execute(npm.args(arguments).args(quiet).current_dir(folder), "npm").map(drop)
        };
        if let Some(verb) = self.verb {
            let needed = if self.build { "--include=dev" } else { "--omit=dev" };
            npm(&format!("installing npm packages (npm {verb})"), &[verb, needed])?;
        }
        if self.build {
            npm("building (npm run build)", &["run", "build"])?;
            if self.verb.is_some() {
                npm("removing what only the build needed (npm prune)", &["prune", "--omit=dev"])?;
            }
        }
        Ok(())
    }
}

fn read(package_json: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(package_json)
        .with_context(|| format!("reading {}", package_json.display()))?;
    let refused = |e| CliError::new(format!("{} is not valid JSON: {e}", package_json.display()));
    Ok(serde_json::from_str(&text).map_err(refused)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_a_build_script_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            fs::write(dir.path().join("package.json"), text).unwrap();
            Npm::of(dir.path()).unwrap()
        };
        let some = |verb, build| Some(Npm { verb, build });
        let (needs, builds) = (r#"{"dependencies":{"a":"1"}}"#, r#"{"scripts":{"build":"tsc"}}"#);
        let both = r#"{"devDependencies":{"a":"1"},"scripts":{"build":"tsc"}}"#;
        assert_eq!(of(r#"{"type":"module"}"#), None);
        assert_eq!(of(r#"{"devDependencies":{"a":"1"}}"#), None);
        assert_eq!(of(needs), some(Some("install"), false));
        assert_eq!(of(builds), some(None, true));
        assert_eq!(of(both), some(Some("install"), true));
        fs::create_dir(dir.path().join("node_modules")).unwrap();
        assert_eq!(of(needs), None);
        assert_eq!(of(both), some(Some("install"), true));
        fs::write(dir.path().join("package-lock.json"), "").unwrap();
        assert_eq!(of("{}"), some(Some("ci"), false));
        fs::write(dir.path().join("package.json"), "no").unwrap();
        assert!(Npm::of(dir.path()).unwrap_err().to_string().contains("not valid JSON"));
    }
}
