//! Programs that other compilers made: C by the one in `ziglang` (PyPI), Go by its own. What they make is WASI preview 1, with libraries of their own for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::run::{AMPLE, sandboxes, start, version};
use crate::support::{self, World, guests, invocation, zip_of};
use crate::{Place, Test};

/// Its release: what comes with it compiles for WASI.
const ZIG: &str = "ziglang==0.15.1";

pub(super) fn tests() -> Vec<Test> {
    vec![Test {
        name: "wasm-languages::c_and_go_have_their_files".into(),
        place: Place::Shared,
        run: Box::new(|world| Box::pin(async move { c_and_go(&world).await })),
    }]
}

async fn c_and_go(world: &World) {
    for (language, build) in [("c", c as fn(&Path)), ("go", go)] {
        let wasm = tokio::task::spawn_blocking(move || program(language, build)).await.unwrap();
        let package = zip_of(&[("guest.wasm", &wasm), ("words.txt", b"some words")]);
        let sandbox = sandboxes(world).await;
        let mut version = version(&sandbox, package, 64).await;
        version.config.files = Some(true);
        let mut instance = start(&sandbox, version).await.unwrap();
        let outcome = support::run(&mut *instance, &invocation(r#"{"a":1}"#.into(), AMPLE)).await;
        let answer = outcome.result.unwrap_or_else(|failure| panic!("{language}: {failure:?}"));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, json!([{"a": 1}, "some words", "kept", "named"]), "{language}");
    }
}

/// The program in this language. As with the other guests, whoever copied the tests to where there are no compilers copied it as well.
fn program(language: &str, build: fn(&Path)) -> Vec<u8> {
    let name = format!("{language}.wasm");
    std::fs::read(&name).unwrap_or_else(|_| {
        let program = guests().join(name);
        build(&program);
        std::fs::read(program).unwrap()
    })
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/languages").join(name)
}

fn c(program: &Path) {
    let zig = ziglang();
    let mut compiler = command("python3", &["-m", "ziglang", "cc", "--target=wasm32-wasi", "-Os"]);
    // Its own libraries are compiled with the first program.
    compiler.env("PYTHONPATH", &zig).env("ZIG_GLOBAL_CACHE_DIR", zig.join("cache"));
    run(compiler.arg(source("main.c")).arg("-o").arg(program));
}

fn go(program: &Path) {
    let mut compiler = command("go", &["build", "-ldflags", "-s -w", "-o"]);
    compiler.env("GOOS", "wasip1").env("GOARCH", "wasm").env("GO111MODULE", "off");
    run(compiler.arg(program).arg(source("main.go")));
}

/// Where the compiler is, installed if it is missing; kept. A folder gets its name when it is whole.
fn ziglang() -> PathBuf {
    let folder = guests().join("ziglang");
    if !folder.exists() {
        let draft = tempfile::tempdir_in(folder.parent().unwrap()).unwrap();
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let mut pip = command("python3", &pip);
        run(pip.args(["--root-user-action", "ignore", "--target"]).arg(draft.path()).arg(ZIG));
        std::fs::rename(draft.keep(), &folder).unwrap();
    }
    folder
}

#[expect(clippy::disallowed_methods, reason = "builds what the tests run")]
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
