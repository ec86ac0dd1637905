//! `init`, `deploy`, `invoke`: each starter function runs as it is made, and so do the examples that it is made of.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Cli, Daemon, componentize, hanshu, packages};

/// An example's folder.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Makes a starter, deploys it and calls it by the command line, which has to answer this to its test event, and by its URL.
fn runs(daemon: &Daemon, dir: &Path, runtime: &str, template: &str, expected: &Value) {
    let name = format!("{}-{template}", runtime.split('.').next().unwrap());
    let path = dir.join(&name);
    let path = path.to_str().unwrap();
    let init = ["init", path, "--runtime", runtime, "--template", template];
    Cli::run(&mut hanshu(&init)).ok();
    let mut deploy = daemon.command(&["deploy", path, "--output", "json"]);
    if template == "rust" {
        // Where the example is built: dependencies are compiled once.
        let built = if runtime == "wasm" { "wasm-rust/target" } else { "hello-rust/target" };
        deploy.env("CARGO_TARGET_DIR", example(built));
    }
    if ["js", "python"].contains(&template) {
        deploy.env("PATH", componentize::path());
    }
    let view = Cli::run(&mut deploy).json();
    assert_eq!((&view["name"], &view["config"]["runtime"]), (&json!(name), &json!(runtime)));
    let event = format!("@{path}/event.json");
    let answer = daemon.cli(&["invoke", &name, "--payload", &event]).json();
    assert_eq!(&answer, expected, "{name}");
    let reply = daemon.http.get(&format!("/fn/default/{name}/?name=Ada"));
    assert_eq!(reply.status, 200, "{name}: {reply:?}");
    assert!(reply.text().contains("Hello") || template == "c", "{name}: {}", reply.text());

    let again = Cli::run(&mut hanshu(&init));
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.err.contains("overwritten"), "{again:?}");
}

#[test]
fn every_starter_runs() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    let hello = json!({ "message": "Hello, Ada" });
    for template in ["rust", "go"] {
        runs(&daemon, dir.path(), "wasm", template, &hello);
    }
    let rust = json!({
        "statusCode": 200, "headers": { "content-type": "text/plain" },
        "body": "Hello Ada, from provided-rust\n",
    });
    runs(&daemon, dir.path(), "provided.al2023", "rust", &rust);
    let received = json!({ "received": { "name": "Ada" } });
    runs(&daemon, dir.path(), "provided.al2023", "c", &received);
    for (runtime, template) in [
        ("nodejs20", "handler"),
        ("python3.11", "handler"),
        ("java17", "plain"),
        ("java17", "maven"),
        ("provided.al2023", "go"),
        ("web", "express"),
        ("web", "fastapi"),
        ("web", "go"),
    ] {
        runs(&daemon, dir.path(), runtime, template, &hello);
    }
    // Maven has built in a copy.
    assert!(!dir.path().join("java17-maven/target").exists());
    let refused = Cli::run(&mut hanshu(&["init", "x", "--runtime", "web", "--template", "c"]));
    assert!(refused.err.contains("express, fastapi, go"), "{refused:?}");
}

/// One behind the other: the daemon gives each compiler 120 s.
#[test]
fn components_in_javascript_and_python_run() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    for template in ["js", "python"] {
        runs(&daemon, dir.path(), "wasm", template, &json!({ "message": "Hello, Ada" }));
    }
}

#[test]
fn a_build_script_of_npm_is_run() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    let script = "mkdir -p dist && sed s/NAME/Ada/ index.js > dist/index.js";
    let project = json!({ "private": true, "scripts": { "build": script } }).to_string();
    packages::write(
        dir.path(),
        &[
            ("index.js", "exports.handler = async () => 'Hello NAME';"),
            ("package.json", &project),
            ("hanshu.toml", "name = 'built'\nhandler = 'dist/index.handler'\n"),
            (".gitignore", "dist\n"),
        ],
    );
    let path = dir.path().to_str().unwrap();
    daemon.cli(&["deploy", path]).ok();
    assert_eq!(daemon.cli(&["invoke", "built"]).json(), "Hello Ada");
    assert!(!dir.path().join("dist").exists(), "built in the folder itself");
    let plain = ["deploy", path, "--no-build", "--handler", "index.handler"];
    daemon.cli(&plain).ok();
    assert_eq!(daemon.cli(&["invoke", "built"]).json(), "Hello NAME");
}

#[test]
fn a_missing_tool_is_named_and_the_function_is_left_out() {
    let daemon = Daemon::start();
    for (name, tool) in [
        ("hello-c", "cc"),
        ("hello-java", "javac"),
        ("hello-java-aws", "mvn"),
        ("hello-rust", "cargo"),
        ("wasm-go", "go"),
        ("wasm-js", "componentize-js"),
        ("wasm-python", "componentize-py"),
        ("web-express", "npm"),
        ("web-fastapi", "pip"),
    ] {
        let path = example(name);
        let mut deploy = daemon.command(&["deploy", path.to_str().unwrap()]);
        let refused = Cli::run(deploy.env("PATH", "/no/such/folder")).refused();
        for part in [&format!("{tool} is not installed"), "hint: ", "and deploy again"] {
            assert!(refused.contains(part), "{name}: {refused}");
        }
    }
    // `up` goes on: here with a program that is there already, which does nothing.
    let program = "\0asm\u{1}\0\0\0\u{1}\u{4}\u{1}\u{60}\0\0\u{3}\u{2}\u{1}\0\u{5}\u{3}\u{1}\0\u{1}\
        \u{7}\u{13}\u{2}\u{6}memory\u{2}\0\u{6}_start\0\0\u{a}\u{4}\u{1}\u{2}\0\u{b}";
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("made/done.wasm", program),
        ("made/hanshu.toml", ""),
        ("unmade/app.py", ""),
        ("unmade/hanshu.toml", "runtime = 'wasm'\n"),
    ];
    packages::write(&dir.path().join("all"), &files);
    let (all, data) = (dir.path().join("all"), dir.path().join("data"));
    let (all, data) = (all.to_str().unwrap(), data.to_str().unwrap());
    let up = ["up", all, "--exit", "--listen", "127.0.0.1:0", "--data", data, "--output", "json"];
    let rows = Cli::run(hanshu(&up).env("PATH", "/no/such/folder")).json();
    assert_eq!((&rows[0]["ok"], &rows[0]["left_out"]), (&json!(true), &json!(false)), "{rows}");
    assert_eq!((&rows[1]["ok"], &rows[1]["left_out"]), (&json!(false), &json!(true)), "{rows}");
    let status = rows[1]["status"].as_str().unwrap();
    assert!(status.contains("componentize-py is not installed"), "{rows}");
}
