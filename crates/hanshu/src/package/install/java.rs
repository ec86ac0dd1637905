//! Java: a Maven project is packaged, a folder of sources compiled, in a copy of the folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::tool::{command, execute};
use crate::cli::failure::CliError;
use crate::cli::progress::Progress;
use crate::package::collect::Entry;

/// The version that class files are made for where the runtime names none.
const RELEASE: u32 = 17;
/// Plug-ins that put the libraries into the project's own jar.
const SHADING: &[&str] =
    &["maven-shade-plugin", "maven-assembly-plugin", "spring-boot-maven-plugin"];
/// Jars of `target` that are not what is to be run.
const NOT_THE_PROJECT: &[&str] =
    &["-sources.jar", "-javadoc.jar", "-tests.jar", "-test-sources.jar"];

/// Refuses a folder that only Gradle can build.
pub(super) fn refuse_gradle(root: &Path) -> Result<(), CliError> {
    let gradle = ["build.gradle", "build.gradle.kts"].iter().any(|name| root.join(name).exists());
    if !gradle || root.join("pom.xml").exists() {
        return Ok(());
    }
    Err(CliError::new("this folder is built by Gradle, which deploy does not run")
        .hint("build it, then deploy the jar: hanshu deploy build/libs/NAME.jar --name NAME"))
}

/// Whether sources have to be compiled: those of a folder that is nobody's project.
pub(crate) fn wants_compiler(root: &Path, runtime: Option<&str>, entries: &[Entry]) -> bool {
    let other =
        ["pom.xml", "package.json", "requirements.txt"].iter().any(|f| root.join(f).exists());
    let java = match runtime {
        Some(runtime) => runtime.starts_with("java") && !root.join("pom.xml").exists(),
        None => !other && entries.iter().all(|e| e.name.contains('/') || !e.name.ends_with(".py")),
    };
    java && entries.iter().any(|e| e.name.ends_with(".java"))
}

/// Has Maven package the project in `folder`, libraries beside it.
pub(super) fn maven(folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    let _step = progress.step("packaging with Maven (mvn package)");
    let mut mvn = command("mvn");
    mvn.args(["--quiet", "--batch-mode", "-DskipTests", "package"]);
    if !is_shaded(folder)? {
        mvn.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    }
    execute(mvn.current_dir(folder), "mvn").map(drop)
}

fn is_shaded(folder: &Path) -> anyhow::Result<bool> {
    let pom = fs::read_to_string(folder.join("pom.xml")).context("reading pom.xml")?;
    Ok(SHADING.iter().any(|plugin| pom.contains(plugin)))
}

/// What of a packaged project makes the function: its jar, and its libraries in `lib`.
pub(crate) fn packaged(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let target = folder.join("target");
    let own = jars(&target)?;
    if own.is_empty() {
        return Err(CliError::new("mvn package has left no jar in target")
            .hint("a function's project has the packaging `jar`; of several modules, deploy the one that holds the handler")
            .into());
    }
    let named = |path: &Path, folder: &str| {
        let name =
            path.file_name().and_then(OsStr::to_str).context("a jar's name is not valid UTF-8")?;
        Entry::of_file(&format!("{folder}{name}"), path)
    };
    let mut entries = own.iter().map(|p| named(p, "")).collect::<anyhow::Result<Vec<_>>>()?;
    for path in jars(&target.join("dependency"))? {
        entries.push(named(&path, "lib/")?);
    }
    Ok(entries)
}

/// The jars of a folder that are to be run, sorted; none if it is missing.
fn jars(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        for entry in
            fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let project = !name.starts_with("original-")
                && !NOT_THE_PROJECT.iter().any(|end| name.ends_with(end));
            if name.ends_with(".jar") && project {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Compiles the sources in `folder`, against the jars in its `lib`, and leaves classes in their place.
pub(crate) fn compile(
    folder: &Path,
    entries: &[Entry],
    runtime: Option<&str>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let _step = progress.step("compiling (javac)");
    let sources: Vec<&str> =
        entries.iter().map(|e| e.name.as_str()).filter(|n| n.ends_with(".java")).collect();
    let wanted = release(runtime);
    let release = installed().filter(|own| *own < wanted).unwrap_or(wanted).to_string();
    let mut javac = command("javac");
    javac.args(["--release", &release, "-g", "-parameters", "-encoding", "UTF-8"]);
    javac.args(["-nowarn", "-proc:none", "-d", ".", "-cp", "lib/*"]).args(&sources);
    execute(javac.current_dir(folder), "javac")?;
    for source in sources {
        fs::remove_file(folder.join(source))
            .with_context(|| format!("removing a copy of {source}"))?;
    }
    Ok(())
}

/// The version that a runtime's name says: 17 of `java17`, 8 of `java8.al2`.
fn release(runtime: Option<&str>) -> u32 {
    let version = runtime.and_then(|r| r.strip_prefix("java")).unwrap_or_default();
    version.split('.').next().and_then(|v| v.parse().ok()).unwrap_or(RELEASE)
}

/// The compiler's own version. What an older one makes runs in newer runtimes as well.
fn installed() -> Option<u32> {
    let said = command("javac").arg("-version").output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.strip_prefix("javac ")?.trim().split(['.', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> (tempfile::TempDir, Vec<Entry>) {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &&str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            Entry::of_file(name, &path).unwrap()
        };
        let entries = files.iter().map(make).collect();
        (dir, entries)
    }

    #[test]
    fn only_a_folder_of_sources_is_compiled() {
        for (files, runtime, expected) in [
            (&["Hello.java"][..], None, true),
            (&["a/Hello.java", "package.json"], None, false),
            (&["a/Hello.java", "package.json"], Some("java17"), true),
            (&["Hello.java", "main.py"], None, false),
            (&["Hello.java"], Some("nodejs20"), false),
            (&["src/main/java/Hello.java", "pom.xml"], Some("java17"), false),
            (&["Hello.class"], None, false),
        ] {
            let (dir, entries) = folder(files);
            assert_eq!(wants_compiler(dir.path(), runtime, &entries), expected, "{files:?}");
        }
    }

    #[test]
    fn the_projects_jar_and_its_libraries_are_taken() {
        let (dir, _) = folder(&[
            "target/app-1.jar",
            "target/original-app-1.jar",
            "target/app-1-sources.jar",
            "target/classes/A.class",
            "target/dependency/gson.jar",
        ]);
        let entries = packaged(dir.path()).unwrap();
        let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["app-1.jar", "lib/gson.jar"]);
        let (none, _) = folder(&["target/classes/A.class"]);
        assert!(packaged(none.path()).unwrap_err().to_string().contains("no jar"));
    }

    #[test]
    fn gradle_is_named_and_releases_are_read() {
        let (gradle, _) = folder(&["build.gradle.kts"]);
        let e = refuse_gradle(gradle.path()).unwrap_err();
        assert!(e.hint_text().unwrap().contains("build/libs"), "{e}");
        refuse_gradle(folder(&["build.gradle", "pom.xml"]).0.path()).unwrap();
        for (runtime, expected) in
            [(None, 17), (Some("java"), 17), (Some("java21"), 21), (Some("java8.al2"), 8)]
        {
            assert_eq!(release(runtime), expected);
        }
    }
}
