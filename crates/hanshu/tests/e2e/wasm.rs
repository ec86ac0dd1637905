//! WebAssembly by the command line and by function URLs: the programs of `crates/sandbox/tests/guests`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Daemon, Start};

/// Builds a guest; see `crates/sandbox/tests/it/wasm/guests.rs`.
fn guest(target_name: &str, what: &[&str], file: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sandbox/tests/guests");
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap().join("guests");
    let built = Command::new("cargo")
        .args(["build", "--locked", "--quiet", "--target", target_name, "--target-dir"])
        .arg(&target)
        .args(what)
        .current_dir(source)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("`cargo` runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join(target_name).join("debug").join(file)
}

pub(crate) fn component() -> PathBuf {
    guest("wasm32-wasip2", &["--lib", "--features", "proxy"], "guests.wasm")
}

/// Deploys a program under this name, with this timeout, and answers with what the daemon says of it.
pub(crate) fn deploy(daemon: &Daemon, program: &Path, name: &str, time: &str) -> Value {
    let path = program.to_str().unwrap();
    daemon.cli(&["deploy", path, "--name", name, "--timeout", time, "--output", "json"]).json()
}

#[test]
fn a_component_is_deployed_and_called_by_its_url() {
    let daemon = Daemon::start();
    let view = deploy(&daemon, &component(), "hello", "60s");
    assert_eq!(view["config"]["runtime"], "wasm");
    assert_eq!(view["config"]["handler"], "guests.wasm");

    let path = "/fn/default/hello/request?a=1&b=%20";
    let reply = daemon.http.send("PUT", path, &[("x-own", "mine"), ("cookie", "c=1")], "hello");
    assert_eq!((reply.status, reply.header("x-seen")), (200, Some("yes")), "{}", reply.text());
    let seen = reply.json();
    assert_eq!((&seen["method"], &seen["body"]), (&json!("PUT"), &json!("hello")));
    assert_eq!(seen["target"], "/request?a=1&b=%20");
    assert_eq!(
        (&seen["headers"]["x-own"], &seen["headers"]["cookie"]),
        (&json!("mine"), &json!("c=1"))
    );

    let big = json!({"op": "big", "bytes": 20 << 20}).to_string();
    let long = daemon.http.send("POST", "/fn/default/hello/", &[], &big);
    assert_eq!((long.status, long.body.len()), (200, (20 << 20) + 2));
    let thrown = json!({"op": "throw", "text": "no"}).to_string();
    assert_eq!(daemon.http.send("POST", "/fn/default/hello/", &[], &thrown).status, 500);
}

#[test]
fn calls_that_are_no_requests_are_answered_as_by_any_function() {
    let daemon = Daemon::start();
    deploy(&daemon, &component(), "component", "5s");
    deploy(
        &daemon,
        &guest("wasm32-wasip1", &["--bin", "command"], "command.wasm"),
        "command",
        "5s",
    );
    for name in ["component", "command"] {
        let call = |event: Value| daemon.http.invoke(name, event.to_string().as_bytes(), &[]);
        assert_eq!(call(json!({"op": "echo", "value": [1, "ä"]})).result(), json!([1, "ä"]));
        let failed = call(json!({"op": "throw", "text": "no more"})).failed("handler");
        assert_eq!(failed["errorMessage"], "no more", "{failed}");
        call(json!({"op": "memory"})).failed("memory-exceeded");
        call(json!({"op": "busy"})).failed("timeout");
        assert_eq!(call(json!({"op": "count"})).result(), json!(1));
    }
    let called = daemon.cli(&[
        "invoke",
        "component",
        "--payload",
        r#"{"op":"print","text":"a line"}"#,
        "--logs",
    ]);
    assert!(called.err.contains("a line"), "{called:?}");
}

#[test]
fn code_that_cannot_be_loaded_is_refused() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("bad.wasm");
    fs::write(&program, "no program at all").unwrap();
    let refused = daemon.cli(&["deploy", program.to_str().unwrap()]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.err.contains("init-failed") && refused.err.contains("no WebAssembly"),
        "{refused:?}"
    );
    daemon.cli(&["deploy", program.to_str().unwrap(), "--force"]).ok();
    assert_eq!(
        daemon.http.invoke("bad", b"1", &[]).failed("init")["errorType"],
        "Runtime.NotCompiled"
    );
}

#[test]
fn code_is_found_again_by_the_next_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::dev().on(&data).start();
    deploy(&daemon, &component(), "hello", "60s");
    let event = json!({"op": "echo", "value": 1}).to_string();
    let call = |daemon: &Daemon| daemon.http.invoke("hello", event.as_bytes(), &[]).result();
    assert_eq!(call(&daemon), json!(1));
    let cache = data.join("cache/wasm");
    let made = files(&cache);
    assert_eq!(made.len(), 1, "{made:?}");
    daemon.kill();
    let daemon = Start::dev().on(&data).start();
    assert_eq!(call(&daemon), json!(1));
    assert_eq!(files(&cache), made);
}

/// Files below a folder, with when they were written.
fn files(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push((entry.path(), entry.metadata().unwrap().modified().unwrap())),
        }
    }
    found
}
