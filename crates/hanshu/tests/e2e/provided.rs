//! Functions that bring their own runtime, by the official clients as they are: Go by the command line and a URL; Rust as the example stands.

use std::path::Path;

use serde_json::json;

use crate::harness::{Cli, Daemon, packages};

/// A daemon with the function in Go.
fn go() -> Daemon {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("main.go", include_str!("provided/main.go")),
        ("go.mod", include_str!("provided/go.mod")),
        ("go.sum", include_str!("provided/go.sum")),
        ("hanshu.toml", "url_auth = 'none'\ntimeout_ms = 2000\n"),
    ];
    packages::write(dir.path(), &files);
    let path = dir.path().to_str().unwrap();
    let view = daemon.cli(&["deploy", path, "--name", "gopher", "--output", "json"]).json();
    assert_eq!(view["config"]["runtime"], "provided.al2023");
    assert_eq!(view["config"]["handler"], "bootstrap");
    daemon
}

fn invoke(daemon: &Daemon, event: &str) -> Cli {
    daemon.cli(&["invoke", "gopher", "--payload", event, "--logs", "--timings"])
}

#[test]
fn go_round_trip() {
    let daemon = go();
    let called = invoke(&daemon, r#"{"op":"twice","n":20}"#);
    assert!(called.err.contains("computing 20") && called.err.contains("cold"), "{called:?}");
    assert_eq!(called.json(), json!({ "twice": 40 }));

    let context = invoke(&daemon, r#"{"op":"context"}"#);
    assert!(context.err.contains("warm"), "{context:?}");
    let context = context.json();
    assert_eq!(context["name"], "gopher");
    assert_eq!(context["version"], "$LATEST");
    assert_eq!(context["api"], "127.0.0.1:9001");
    assert!(context["arn"].as_str().unwrap().ends_with(":function:gopher"), "{context}");
    assert!((1..=2_000).contains(&context["left"].as_i64().unwrap()), "{context}");

    let url = daemon.http.get("/fn/default/gopher/?op=query&x=1");
    assert_eq!((url.status, url.json()), (200, json!({ "op": "query", "x": "1" })));
    let streamed = daemon.http.get("/fn/default/gopher/?op=stream");
    assert_eq!((streamed.status, streamed.header("x-said")), (201, Some("before")));
    assert_eq!(streamed.text(), "piece ".repeat(50_000));

    let failed = invoke(&daemon, r#"{"op":"fail"}"#);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("no more biscuits"), "{failed:?}");
    assert!(invoke(&daemon, r#"{"op":"twice","n":1}"#).err.contains("warm"));

    // The client reports what panicked, and ends the process: the next call finds a fresh one.
    let panicked = invoke(&daemon, r#"{"op":"panic"}"#);
    assert!(panicked.code == 1 && panicked.err.contains("overboard"), "{panicked:?}");
    let after = invoke(&daemon, r#"{"op":"twice","n":2}"#);
    assert!(after.err.contains("cold"), "{after:?}");
    assert_eq!(after.json(), json!({ "twice": 4 }));

    let late = invoke(&daemon, r#"{"op":"sleep"}"#);
    assert!(late.code == 1 && late.err.contains("timed out after 2.00 seconds"), "{late:?}");
    assert_eq!(invoke(&daemon, r#"{"op":"twice","n":3}"#).json(), json!({ "twice": 6 }));
}

#[test]
fn rust_as_the_example_stands() {
    let daemon = Daemon::start();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello-rust");
    daemon.cli(&["deploy", example.to_str().unwrap(), "--name", "ferris"]).ok();
    for name in ["Ada", "Ferris"] {
        let url = daemon.http.get(&format!("/fn/default/ferris/?name={name}"));
        assert_eq!((url.status, url.text()), (200, format!("Hello {name}, from ferris\n")));
    }
    // What is no request of a URL: its fields are missing, and the handler says so to nobody.
    let called = daemon.cli(&["invoke", "ferris", "--payload", "{}"]).json();
    assert_eq!(called["body"], "Hello world, from ferris\n");
}

#[test]
fn a_package_without_an_executable_says_so() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("notes.txt", "nothing")]);
    let path = dir.path().to_str().unwrap();
    daemon.cli(&["deploy", path, "--name", "empty", "--runtime", "provided"]).ok();
    let called = daemon.cli(&["invoke", "empty"]);
    let words = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]";
    assert!(called.code == 1 && called.err.contains(words), "{called:?}");
}
