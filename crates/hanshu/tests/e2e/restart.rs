//! A daemon that is stopped and started again has everything.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Daemon, Start, eventually, packages};

/// The namespaces without what is used of them now: instances come and go.
fn namespaces(daemon: &Daemon) -> Value {
    let mut page = daemon.http.get("/v1/namespaces").json();
    for namespace in page["items"].as_array_mut().unwrap() {
        assert!(namespace.as_object_mut().unwrap().remove("used").is_some(), "{namespace}");
    }
    page
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::dev().on(&data).start();
    daemon.cli(&["namespaces", "create", "team", "--description", "ours"]).ok();
    let source = dir.path().join("f");
    packages::write(
        &source,
        &[(
            "index.js",
            "exports.handler = async () => { console.log('kept line'); return process.env.A; };",
        )],
    );
    let path = source.to_str().unwrap();
    daemon.cli(&["deploy", path, "--name", "f", "--env", "A=one", "--publish"]).ok();
    daemon.cli(&["deploy", path, "--name", "f", "--env", "A=two"]).ok();
    daemon.cli(&["deploy", path, "--name", "g", "-n", "team", "--env", "A=team"]).ok();
    assert_eq!(daemon.cli(&["invoke", "f"]).ok(), "\"two\"");
    eventually("the line is stored", Duration::from_secs(10), || {
        (!daemon.logs("f", "&contains=kept").is_empty()).then_some(())
    });
    let paths = [
        "/v1/namespaces/default/functions",
        "/v1/namespaces/team/functions",
        "/v1/namespaces/default/functions/f/versions",
        "/v1/namespaces/default/functions/f?qualifier=1",
        "/v1/namespaces/default/functions/f/logs",
    ];
    // Answers carry the daemon's address, and the port is another one.
    let seen = |daemon: &Daemon| {
        (namespaces(daemon), paths.map(|p| daemon.http.get(p).text().replace(daemon.url(), "URL")))
    };
    let before = seen(&daemon);
    daemon.stop();

    let daemon = Start::dev().on(&data).start();
    assert_eq!(seen(&daemon), before);
    assert_eq!(daemon.cli(&["invoke", "f"]).ok(), "\"two\"");
    assert_eq!(daemon.cli(&["invoke", "f:1"]).ok(), "\"one\"");
    assert_eq!(daemon.cli(&["invoke", "g", "-n", "team"]).ok(), "\"team\"");
    // Numbers are never used again.
    daemon.cli(&["deploy", path, "--name", "f", "--env", "A=three", "--publish"]).ok();
    assert_eq!(daemon.cli(&["invoke", "f:2"]).ok(), "\"three\"");
}

#[test]
fn publishing_the_same_again_gives_the_same_version() {
    let daemon = Start::dev().start();
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("main.py", "def handler(event, context):\n    return 1\n")]);
    let path = dir.path().to_str().unwrap();
    for _ in 0..3 {
        daemon.cli(&["deploy", path, "--name", "same", "--publish"]).ok();
    }
    let versions = daemon.cli(&["versions", "same", "--output", "json"]).json();
    assert_eq!(versions.as_array().unwrap().len(), 1, "{versions}");
    assert_eq!(
        daemon.http.get("/v1/namespaces/default/functions/same").json()["version"],
        json!("$LATEST")
    );
}
