//! The programs that `bench runtimes` measures: one of each kind, the smallest there is, most of them examples.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::super::language::{JAVA, Language, NODE, PYTHON};
use crate::shell;

/// Pause before each first call: what the last one left behind is gone, and instances lie ready again. A virtual machine needs longer to be ready.
const PAUSE: Duration = Duration::from_millis(150);
const JAVA_PAUSE: Duration = Duration::from_millis(600);
/// The server in JavaScript.
const SERVER: &str = "require('http').createServer((q, s) => s.end('Hello world')).listen(process.env.PORT, '127.0.0.1')";

/// What is measured of a runtime.
#[derive(Debug)]
pub(super) struct Subject {
    /// The start of its functions' names.
    pub(super) name: &'static str,
    /// For people.
    pub(super) title: &'static str,
    runtime: &'static str,
    handler: &'static str,
    /// In MiB.
    memory_mb: u32,
    /// The language that the daemon may fork instances of.
    pub(super) language: Option<&'static Language>,
    program: Program,
}

/// Where a program comes from.
#[derive(Debug)]
enum Program {
    /// The language's hello.
    Hello(&'static Language),
    /// A file of this name and text.
    Text(&'static str, &'static str),
    /// An example, compiled by Cargo: the folder, arguments, and what comes of it below `target`.
    Cargo(&'static str, &'static [&'static str], &'static str),
    /// An example, compiled by Go: the folder, system and processor.
    Go(&'static str, &'static str, Option<&'static str>),
}

/// All of them, in the order of the table.
pub(super) const SUBJECTS: &[Subject] = &[
    Subject {
        name: "nodejs",
        title: "Node.js handler",
        runtime: "nodejs20",
        handler: "index.handler",
        memory_mb: 128,
        language: Some(&NODE),
        program: Program::Hello(&NODE),
    },
    Subject {
        name: "python",
        title: "Python handler",
        runtime: "python3",
        handler: "index.handler",
        memory_mb: 128,
        language: Some(&PYTHON),
        program: Program::Hello(&PYTHON),
    },
    Subject {
        name: "java",
        title: "Java handler",
        runtime: "java17",
        handler: "Hello::handle",
        memory_mb: 128,
        language: Some(&JAVA),
        program: Program::Hello(&JAVA),
    },
    Subject {
        name: "rust",
        title: "provided, Rust",
        runtime: "provided.al2023",
        handler: "bootstrap",
        memory_mb: 128,
        language: None,
        program: Program::Cargo("hello-rust", &[], "release/hello-rust"),
    },
    Subject {
        name: "go",
        title: "provided, Go",
        runtime: "provided.al2023",
        handler: "bootstrap",
        memory_mb: 128,
        language: None,
        program: Program::Go("hello-go", "linux", None),
    },
    Subject {
        name: "web-node",
        title: "web, Node.js",
        runtime: "web",
        handler: "node server.js",
        memory_mb: 256,
        language: None,
        program: Program::Text("server.js", SERVER),
    },
    Subject {
        name: "web-go",
        title: "web, Go",
        runtime: "web",
        handler: "bootstrap",
        memory_mb: 128,
        language: None,
        program: Program::Go("web-go", "linux", None),
    },
    Subject {
        name: "wasm-component",
        title: "wasm, component in Rust",
        runtime: "wasm",
        handler: "main.wasm",
        memory_mb: 64,
        language: None,
        program: Program::Cargo(
            "wasm-rust",
            &["--target", "wasm32-wasip2"],
            "wasm32-wasip2/release/wasm_rust.wasm",
        ),
    },
    Subject {
        name: "wasm-command",
        title: "wasm, command in Go",
        runtime: "wasm",
        handler: "main.wasm",
        memory_mb: 64,
        language: None,
        program: Program::Go("wasm-go", "wasip1", Some("wasm")),
    },
];

impl Subject {
    /// Puts the built program and its `hanshu.toml` into `folder`.
    pub(super) fn make(&self, folder: &Path) -> Result<()> {
        let Self { runtime, handler, memory_mb, .. } = self;
        let text = format!(
            "runtime = \"{runtime}\"\nhandler = \"{handler}\"\nmemory_mb = {memory_mb}\nurl_auth = \"none\"\n"
        );
        fs::write(folder.join("hanshu.toml"), text)?;
        let example = |name: &str| shell::root().join("examples").join(name);
        match &self.program {
            Program::Hello(language) => {
                fs::write(folder.join(language.file), language.hello("runtimes")?)?;
            }
            Program::Text(name, text) => fs::write(folder.join(name), text)?,
            Program::Cargo(name, arguments, made) => {
                let mut cargo = shell::cargo("build --release --locked");
                shell::run(cargo.args(*arguments).current_dir(example(name)))?;
                let made = example(name).join("target").join(made);
                fs::copy(&made, folder.join(handler))
                    .with_context(|| format!("cannot copy {}", made.display()))?;
            }
            Program::Go(name, system, processor) => {
                let mut go = go(system, *processor);
                shell::run(go.arg(folder.join(handler)).current_dir(example(name)))?;
            }
        }
        Ok(())
    }

    /// How long it is left alone before its first call.
    pub(super) fn pause(&self) -> Duration {
        if self.runtime == JAVA.runtime { JAVA_PAUSE } else { PAUSE }
    }
}

/// As `hanshu deploy` has Go compile; the program's path is still to come.
fn go(system: &str, processor: Option<&str>) -> Command {
    let mut go = shell::command("go");
    go.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]);
    go.env("CGO_ENABLED", "0").env("GOOS", system);
    go.envs(processor.map(|processor| ("GOARCH", processor)));
    go
}
