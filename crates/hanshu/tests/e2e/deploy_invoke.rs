//! The usual way, by the command line: deploy, call, read the log, publish, delete.

use serde_json::json;

use crate::harness::{Cli, Daemon, packages};

/// Deploys from a folder, calls, reads the log and deletes, in one language.
fn round_trip(files: &[(&str, &str)], runtime: &str) {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), files);
    let path = dir.path().to_str().unwrap();
    let view = daemon.cli(&["deploy", path, "--name", "hello", "--output", "json"]).json();
    assert_eq!(view["config"]["runtime"], runtime);
    let url = view["url"].as_str().unwrap().to_owned();
    assert!(url.contains("/fn/default/hello"), "{url}");

    let called =
        daemon.cli(&["invoke", "hello", "--payload", r#"{"n":20}"#, "--logs", "--timings"]);
    assert!(called.err.contains("computing 20"), "{called:?}");
    assert!(called.err.contains("cold"), "{called:?}");
    // Each language spaces its JSON in its own way, and the command line shows it as it is.
    assert_eq!(called.json(), json!({ "twice": 40 }));
    let warm = daemon.cli(&["invoke", "hello", "--payload", r#"{"n":1}"#, "--timings"]);
    assert!(warm.err.contains("warm"), "{warm:?}");

    let logs = daemon.cli(&["logs", "hello", "--contains", "computing 20"]).ok();
    assert_eq!(logs.lines().count(), 1, "{logs}");
    daemon.cli(&["delete", "hello", "--yes"]).ok();
    let gone = daemon.cli(&["invoke", "hello"]);
    assert_eq!(gone.code, 2, "{gone:?}");
    assert!(gone.err.contains("not-found"), "{gone:?}");
    assert_eq!(daemon.cli(&["list", "--output", "json"]).json(), json!([]));
}

#[test]
fn node_round_trip() {
    let code = "exports.handler = async (event) => {
        console.log('computing', event.n);
        return { twice: event.n * 2 };
    };";
    round_trip(&[("index.js", code)], "nodejs20");
}

#[test]
fn python_round_trip() {
    let code = "def handler(event, context):
    print('computing', event['n'])
    return {'twice': event['n'] * 2}
";
    round_trip(&[("main.py", code)], "python3.11");
}

#[test]
fn modules_of_both_kinds_load() {
    let daemon = Daemon::start();
    let esm = "import { basename } from 'node:path';
        export const handler = async (event) => basename(event.path);";
    let config = json!({ "runtime": "nodejs20", "handler": "index.handler", "timeout_ms": 20_000 });
    assert_eq!(daemon.put("esm", &[("index.mjs", esm)], &config).status, 201);
    assert_eq!(daemon.invoke("esm", r#"{"path":"/a/b"}"#).result(), json!("b"));
    let typed = [("index.js", esm), ("package.json", r#"{"type":"module"}"#)];
    assert_eq!(daemon.put("typed", &typed, &config).status, 201);
    assert_eq!(daemon.invoke("typed", r#"{"path":"/a/c"}"#).result(), json!("c"));
    let nested = [
        (
            "src/main.js",
            "exports.run = (event, context, callback) => callback(null, require('left'));",
        ),
        ("node_modules/left/index.js", "module.exports = 'left';"),
    ];
    let config = json!({ "runtime": "nodejs20", "handler": "src/main.run", "timeout_ms": 20_000 });
    assert_eq!(daemon.put("nested", &nested, &config).status, 201);
    assert_eq!(daemon.invoke("nested", "{}").result(), json!("left"));
}

#[test]
fn the_context_is_the_one_people_know() {
    let daemon = Daemon::start();
    daemon.node(
        "context",
        "exports.handler = async (event, context) => ({
            name: context.functionName, version: context.functionVersion, arn: context.invokedFunctionArn,
            memory: context.memoryLimitInMB, request: context.awsRequestId, left: context.getRemainingTimeInMillis(),
            group: context.logGroupName, stream: context.logStreamName, waits: context.callbackWaitsForEmptyEventLoop,
            env: process.env.AWS_LAMBDA_FUNCTION_NAME, root: process.env.LAMBDA_TASK_ROOT, own: process.env.OWN,
        });",
        &json!({ "environment": { "OWN": "value" } }),
    );
    let reply = daemon.invoke("context", "{}");
    let seen = reply.result();
    assert_eq!(seen["name"], "context");
    assert_eq!(seen["version"], "$LATEST");
    assert_eq!(seen["memory"].to_string().trim_matches('"'), "256");
    assert_eq!(seen["request"], reply.header("x-hanshu-request-id").unwrap());
    assert!(
        seen["left"].as_f64().unwrap() > 1000.0 && seen["left"].as_f64().unwrap() <= 20_000.0,
        "{seen}"
    );
    assert_eq!(seen["waits"], true);
    assert_eq!(
        (&seen["env"], &seen["root"], &seen["own"]),
        (&json!("context"), &json!("/var/task"), &json!("value"))
    );
    assert!(seen["arn"].as_str().unwrap().ends_with(":function:context"), "{seen}");

    daemon.python(
        "pycontext",
        "import os\ndef handler(event, context):\n    return [context.function_name, context.function_version, context.aws_request_id,\n            context.get_remaining_time_in_millis() > 1000, int(context.memory_limit_in_mb), os.environ['LAMBDA_TASK_ROOT']]\n",
        &json!({}),
    );
    let reply = daemon.invoke("pycontext", "{}");
    let id = reply.header("x-hanshu-request-id").unwrap().to_owned();
    assert_eq!(reply.result(), json!(["pycontext", "$LATEST", id, true, 256, "/var/task"]));
}

#[test]
fn a_single_file_a_zip_and_a_version_are_deployed() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("adder.js", "exports.handler = async (e) => e.a + 1;")]);
    let file = dir.path().join("adder.js");
    daemon.cli(&["deploy", file.to_str().unwrap(), "--publish"]).ok();
    assert_eq!(daemon.cli(&["invoke", "adder", "--payload", r#"{"a":1}"#]).ok(), "2");

    let zip = dir.path().join("build.zip");
    std::fs::write(&zip, packages::zip(&[("index.js", "exports.handler = async () => 'new';")]))
        .unwrap();
    daemon.cli(&["deploy", zip.to_str().unwrap(), "--name", "adder"]).ok();
    assert_eq!(daemon.cli(&["invoke", "adder"]).ok(), "\"new\"");
    assert_eq!(daemon.cli(&["invoke", "adder:1", "--payload", r#"{"a":1}"#]).ok(), "2");
    assert_eq!(
        daemon.cli(&["invoke", "adder", "--qualifier", "1", "--payload", r#"{"a":4}"#]).ok(),
        "5"
    );
    let versions = daemon.cli(&["versions", "adder", "--output", "json"]).json();
    assert_eq!(versions.as_array().unwrap().len(), 1, "{versions}");
    assert_eq!(versions[0]["version"], 1);
}

#[test]
fn payloads_come_from_argument_file_and_stdin() {
    let daemon = Daemon::start();
    daemon.node("echo", "exports.handler = async (e) => e;", &json!({}));
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("e.json", r#"{"from":"file"}"#)]);
    let file = format!("@{}", dir.path().join("e.json").display());
    assert_eq!(daemon.cli(&["invoke", "echo", "--payload", &file]).ok(), r#"{"from":"file"}"#);
    let input = std::fs::File::open(dir.path().join("e.json")).unwrap();
    let mut command = daemon.command(&["invoke", "echo", "--payload", "-"]);
    let piped: Cli = command.stdin(input).output().unwrap().into();
    assert_eq!(piped.ok(), r#"{"from":"file"}"#);
    assert_eq!(daemon.cli(&["invoke", "echo"]).ok(), "{}");
    let dry = daemon.cli(&["invoke", "echo", "--dry-run"]);
    assert_eq!(dry.ok(), "");
}

#[test]
fn two_deploys_of_one_function_at_once_leave_one_whole() {
    let daemon = Daemon::start();
    daemon.node("contested", "exports.handler = async () => 'first';", &json!({}));
    for round in 0..10 {
        let replies: Vec<u16> = std::thread::scope(|scope| {
            let put = |side: &'static str| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let value = format!("{side}{round}");
                    let code =
                        format!("exports.handler = async () => '{value}' + process.env.SIDE;");
                    let config = json!({
                        "runtime": "nodejs20", "handler": "index.handler", "timeout_ms": 20_000,
                        "environment": { "SIDE": value }
                    });
                    daemon.put("contested", &[("index.js", &code)], &config).status
                })
            };
            let threads = [put("a"), put("b")];
            threads.map(|t| t.join().unwrap()).into()
        });
        // Each was carried out whole, or refused whole because the other came in between.
        assert!(replies.iter().all(|s| [200, 409].contains(s)), "{replies:?}");
        assert!(replies.contains(&200), "{replies:?}");
        // Code and configuration are of the same deploy.
        let seen = daemon.invoke("contested", "{}").result();
        let value = seen.as_str().unwrap();
        let (code, env) = value.split_at(value.len() / 2);
        assert_eq!(code, env);
        assert!(code.ends_with(&round.to_string()), "{code} in round {round}");
    }
}
