//! `cargo x test`: installs what the tests need and runs all of them. Nothing is skipped silently.
//!
//! The suites: the Rust workspace, the bootstraps in their own languages, and the sandbox a second time as an ordinary user,
//! because root and everybody else reach the same isolation on different ways ([ADR 2](../../docs/adr/0002-spawner-process.md)).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::counts::{Counts, Reader};
use crate::say::say;
use crate::stage::Stages;
use crate::{shell, tools};

/// Whom the sandbox's tests run as the second time: a number that no account of the machine has.
const ORDINARY_USER: u32 = 59_871;
/// What that user finds programs by: the machine's own, none from somebody's home. Go's own packages unpack to a folder of theirs.
const ORDINARY_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin";

/// Runs every suite; the last line sums up.
pub(crate) fn run() -> Result<()> {
    let mut stages = Stages::new();
    let mut sum = Counts::default();
    stages.run("tools", tools::ensure);
    let built = stages.run("build tests", build);
    let mut suite = |name, suite: &dyn Fn() -> Result<Vec<Command>>| {
        let mut counts = Counts::default();
        stages.run(name, || run_suite(suite()?, &mut counts));
        sum += counts;
    };
    suite("rust", &rust);
    suite("nodejs bootstrap", &nodejs);
    suite("python bootstrap", &python);
    suite("java bootstrap", &java);
    if !tools::is_root() {
        say!("the sandbox's tests ran as an ordinary user already: nobody to be second");
    } else if let Some(built) = built {
        let home = tempfile::tempdir().context("cannot make a temporary folder")?;
        suite("sandbox, ordinary user", &|| Ok(vec![as_ordinary_user(&built, home.path())?]));
    }
    let result = stages.finish();
    say!("tests: {sum}");
    result
}

/// Runs the commands of a suite, all of them also when one fails, and counts their tests. Running none is a failure.
fn run_suite(commands: Vec<Command>, counts: &mut Counts) -> Result<()> {
    let mut reader = Reader::default();
    let mut result = Ok(());
    for command in commands {
        result = result.and(shell::tee(command, |line| reader.line(line)));
    }
    *counts = reader.counts();
    if result.is_ok() && counts.ran() == 0 {
        bail!("no test ran");
    }
    result
}

/// Builds all tests and returns the path of the sandbox's `it` binary.
fn build() -> Result<PathBuf> {
    let arguments =
        "test --workspace --all-features --no-run --message-format=json-render-diagnostics";
    let messages = shell::capture(&mut shell::cargo(arguments))?;
    test_binary(&messages, "sandbox", "it").context("crates/sandbox has no test binary `it`")
}

/// The executable of one test target in cargo's messages (the Cargo Book, "External tools", "Artifact messages").
fn test_binary(messages: &str, package: &str, target: &str) -> Option<PathBuf> {
    let folder = format!("/{package}/Cargo.toml");
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let found = message["reason"] == "compiler-artifact"
            && message["target"]["name"] == target
            && message["target"]["kind"][0] == "test"
            && message["manifest_path"].as_str()?.ends_with(&folder);
        found.then(|| message["executable"].as_str().map(PathBuf::from))?
    })
}

fn rust() -> Result<Vec<Command>> {
    if shell::succeeds(&mut shell::cargo("nextest --version")) {
        return Ok(vec![
            shell::cargo("nextest run --workspace --all-features --no-fail-fast"),
            // nextest leaves the examples in the documentation out.
            shell::cargo("test --workspace --all-features --doc --no-fail-fast"),
        ]);
    }
    Ok(vec![shell::cargo("test --workspace --all-features --no-fail-fast")])
}

/// Files are named one by one: Node.js 20 takes a folder, Node.js 22 does not.
fn nodejs() -> Result<Vec<Command>> {
    let folder = shell::root().join("runtimes/nodejs/test");
    let mut node = shell::command("node");
    node.arg("--test").args(files(&folder, &[".test.js", ".test.mjs", ".test.cjs"])?);
    Ok(vec![node])
}

fn python() -> Result<Vec<Command>> {
    let mut python = shell::command("python3");
    python.args(["-m", "unittest", "discover", "runtimes/python/test"]);
    Ok(vec![python])
}

/// The bootstrap with its native part and its tests, the functions that they load, those with AWS Lambda's library (which Maven fetches); then the tests.
fn java() -> Result<Vec<Command>> {
    let (source, made) = (shell::root().join("runtimes/java"), shell::root().join("target/java"));
    let classes = made.join("classes");
    let compile = |into: &str, folders: &[&str]| -> Result<Command> {
        let mut javac = shell::command("javac");
        javac.args(["-Xlint:all", "-Werror", "-XDignore.symbol.file", "-d"]).arg(made.join(into));
        for folder in folders {
            javac.args(files(&source.join(folder), &[".java"])?);
        }
        Ok(javac)
    };
    let aws = made.join("aws");
    let define = |name: &str, path: &Path| format!("-D{name}={}", path.display());
    let mut mvn = shell::command("mvn");
    mvn.args(["--quiet", "--batch-mode", "--file"]).arg(source.join("test/aws/pom.xml"));
    mvn.args(["package", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
    mvn.arg(define("out", &aws)).arg(define("outputDirectory", &aws.join("classes/lib")));
    let mut tests = shell::command("java");
    tests.arg("-cp").arg(&classes).arg("Tests").args([made.join("functions"), aws.join("classes")]);
    let functions = compile("functions", &["test/functions", "test/functions/parts"])?;
    let mut native = shell::command("cc");
    native.args(["-shared", "-fPIC", "-nostdlib", "-Wall", "-Wextra", "-Werror", "-o"]);
    native.arg(classes.join("ahead.so")).arg(source.join("native/ahead.c"));
    let bootstrap = compile("classes", &["src/hanshu", "src/ahead", "test"])?;
    Ok(vec![bootstrap, native, functions, mvn, tests])
}

/// The files of `folder` whose names end in one of `endings`, sorted; none is an error.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if endings.iter().any(|e| name.ends_with(e)) {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("{} has no file that ends in {}", folder.display(), endings.join(" or "));
    }
    found.sort();
    Ok(found)
}

/// What the sandbox's tests have built: that user has no toolchain (`crates/sandbox/tests/it/{wasm/guests,wasm/languages,provided/clients}.rs`).
fn guests() -> [(PathBuf, &'static str); 6] {
    [
        ("wasm32-wasip1/debug/command.wasm", "command.wasm"),
        ("wasm32-wasip2/debug/command.wasm", "run.wasm"),
        ("wasm32-wasip2/debug/guests.wasm", "guests.wasm"),
        ("c.wasm", "c.wasm"),
        ("go.wasm", "go.wasm"),
        ("client-node.zip", "client-node.zip"),
    ]
    .map(|(file, name)| (shell::root().join("target/guests").join(file), name))
}

/// The sandbox's tests, copied to where an ordinary user may read and write, and started as one.
fn as_ordinary_user(binary: &Path, home: &Path) -> Result<Command> {
    let copy = home.join("sandbox-tests");
    fs::copy(binary, &copy).context("cannot copy the test binary")?;
    for path in [home, &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        chown(path, Some(ORDINARY_USER), Some(ORDINARY_USER))?;
    }
    for (guest, name) in guests() {
        // World-readable; not there if their own tests have failed, which these will say again.
        drop(fs::copy(&guest, home.join(name)));
    }
    let id = ORDINARY_USER.to_string();
    let mut tests = shell::command("setpriv");
    tests.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(&copy);
    tests.current_dir(home).env_clear();
    tests.env("PATH", ORDINARY_PATH).env("HOME", home).env("TMPDIR", home);
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_binary_is_found_in_cargos_messages() {
        let messages = r#"
{"reason":"compiler-artifact","manifest_path":"/x/crates/store/Cargo.toml","target":{"kind":["test"],"name":"it"},"executable":"/t/store"}
{"reason":"compiler-artifact","manifest_path":"/x/crates/sandbox/Cargo.toml","target":{"kind":["lib"],"name":"sandbox"},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/x/crates/sandbox/Cargo.toml","target":{"kind":["test"],"name":"it"},"executable":"/t/sandbox"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(test_binary(messages, "sandbox", "it").unwrap(), Path::new("/t/sandbox"));
        assert_eq!(test_binary(messages, "engine", "it"), None);
    }

    #[test]
    fn a_suite_that_runs_nothing_fails_and_one_that_fails_still_counts() {
        let sh = |script: &str| {
            let mut sh = shell::command("sh");
            sh.args(["-c", script]);
            sh
        };
        let mut counts = Counts::default();
        run_suite(vec![sh("echo '# fail 2'; exit 1"), sh("echo '# pass 3'")], &mut counts)
            .unwrap_err();
        assert_eq!(counts.to_string(), "3 passed, 2 failed");
        let error = run_suite(vec![sh("true")], &mut counts).unwrap_err();
        assert!(error.to_string().contains("no test ran"));
    }

    #[test]
    fn the_copy_runs_as_an_ordinary_user_in_a_folder_of_its_own() {
        let home = tempfile::tempdir().unwrap();
        if !tools::is_root() {
            // Only root may become somebody else.
            as_ordinary_user(Path::new("/usr/bin/id"), home.path()).unwrap_err();
            return;
        }
        let mut id = as_ordinary_user(Path::new("/usr/bin/id"), home.path()).unwrap();
        let said = shell::capture(&mut id).unwrap();
        assert_eq!(
            said.trim(),
            format!("uid={ORDINARY_USER} gid={ORDINARY_USER} groups={ORDINARY_USER}")
        );
        assert_eq!(id.get_current_dir(), Some(home.path()));
        assert!(
            id.get_envs()
                .all(|(key, _)| ["PATH", "HOME", "TMPDIR"].contains(&&*key.to_string_lossy()))
        );
    }

    #[test]
    fn test_files_are_listed_in_order_and_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.test.js", "a.test.mjs", "helper.js"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = files(folder.path(), &[".test.js", ".test.mjs"]).unwrap();
        let names: Vec<_> = found.iter().filter_map(|p| p.file_name()).collect();
        assert_eq!(names, ["a.test.mjs", "b.test.js"]);
        files(folder.path(), &[".test.cjs"]).unwrap_err();
    }
}
