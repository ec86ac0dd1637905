//! `init`, `deploy`, `invoke`: each starter function runs as it is made.

use serde_json::json;

use crate::harness::{Cli, Daemon, hanshu};

#[test]
fn every_starter_runs() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    for (runtime, name) in [
        ("nodejs20", "in-node"),
        ("python3.11", "in-python"),
        ("java17", "in-java"),
        ("provided.al2023", "in-go"),
    ] {
        let path = dir.path().join(name);
        let path = path.to_str().unwrap();
        Cli::run(&mut hanshu(&["init", path, "--runtime", runtime])).ok();
        let view = daemon.cli(&["deploy", path, "--output", "json"]).json();
        assert_eq!(view["name"], name);
        assert_eq!(view["config"]["runtime"], runtime);
        let event = format!("@{path}/event.json");
        let answer = daemon.cli(&["invoke", name, "--payload", &event]).json();
        assert_eq!(answer, json!({ "message": "Hello, Ada" }));
        let reply = daemon.http.get(&format!("/fn/default/{name}/"));
        assert_eq!((reply.status, reply.json()), (200, json!({ "message": "Hello, world" })));

        let again = Cli::run(&mut hanshu(&["init", path, "--runtime", runtime]));
        assert_eq!(again.code, 2, "{again:?}");
        assert!(again.err.contains("overwritten"), "{again:?}");
    }
}

/// With AWS Lambda's own interfaces, which Maven fetches.
#[test]
fn a_maven_project_is_packaged_with_its_libraries() {
    let daemon = Daemon::start();
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runtimes/java/test/aws");
    let handler = "aws.Handlers$Maps";
    let deploy = ["deploy", project, "--name", "maps", "--handler", handler, "--output", "json"];
    assert_eq!(daemon.cli(&deploy).json()["config"]["runtime"], "java17");
    let answer = daemon.cli(&["invoke", "maps", "--payload", r#"{"key":"value"}"#]).json();
    assert!(answer.as_str().unwrap().starts_with("value "), "{answer}");
    assert!(!std::path::Path::new(project).join("target").exists(), "built in the folder itself");
}
