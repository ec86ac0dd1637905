//! The command line as a program among programs: JSON, exit codes, pipes, errors that say what to do next.

use std::io::Read as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Cli, Daemon, hanshu, packages};

#[test]
fn every_command_has_a_json_form() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    packages::write(
        dir.path(),
        &[("index.js", "exports.handler = async (e) => { console.log('hi'); return e; };")],
    );
    let path = dir.path().to_str().unwrap();
    let json = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        daemon.cli(&args).json()
    };
    assert_eq!(json(&["deploy", path, "--name", "f", "--publish"])["name"], "f");
    let called = json(&["invoke", "f", "--payload", "[1]", "--logs"]);
    assert_eq!((&called["status"], &called["result"]), (&json!("ok"), &json!([1])));
    assert!(called["timings"]["total_us"].as_u64().unwrap() > 0, "{called}");
    assert_eq!(called["logs"][0]["text"], "hi", "{called}");
    assert_eq!(json(&["invoke", "f", "--async"])["status"], "accepted");
    assert_eq!(json(&["list"])[0]["name"], "f");
    assert_eq!(json(&["show", "f"])["config"]["handler"], "index.handler");
    assert_eq!(json(&["versions", "f"])[0]["version"], 1);
    assert_eq!(json(&["config", "set", "f", "memory_mb=256"])["config"]["memory_mb"], 256);
    assert_eq!(json(&["config", "show", "f"])["config"]["memory_mb"], 256);
    assert_eq!(json(&["namespaces", "create", "team"])["name"], "team");
    assert_eq!(json(&["namespaces", "list"]).as_array().unwrap().len(), 2);
    assert_eq!(json(&["namespaces", "delete", "team", "--yes"])["deleted"], "team");
    let logs = daemon.cli(&["logs", "f", "--output", "json"]).ok();
    for line in logs.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["time"].is_string() && line["text"].is_string(), "{line}");
    }
    assert_eq!(json(&["delete", "f", "--yes"])["deleted"], "f");
    let refused = daemon.cli(&["show", "f", "--output", "json"]);
    let error: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(error["error"]["code"], "not-found");
}

#[test]
fn exit_codes_tell_the_functions_failure_from_ours() {
    let daemon = Daemon::start();
    daemon.node(
        "bad",
        "exports.handler = async () => { throw new TypeError('on purpose'); };",
        &json!({}),
    );
    let failed = daemon.cli(&["invoke", "bad"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{failed:?}");
    assert!(
        failed.err.contains("TypeError: on purpose") && failed.err.contains("index.js"),
        "{failed:?}"
    );
    assert_eq!(daemon.cli(&["invoke", "nowhere"]).code, 2);
    assert_eq!(daemon.cli(&["invoke"]).code, 2);
    assert_eq!(daemon.cli(&["invoke", "bad", "--payload", "{not json"]).code, 2);
    assert_eq!(daemon.cli(&["invoke", "bad", "--payload", "@/no/such/file"]).code, 2);
    assert_eq!(daemon.cli(&["no-such-command"]).code, 2);
    assert_eq!(daemon.cli(&["delete", "bad"]).code, 2, "there is nobody to say yes");
}

#[test]
fn a_missing_daemon_says_how_to_start_one() {
    // Port 1 of loopback: nothing listens there.
    let refused = Cli::run(&mut hanshu(&["list", "--url", "http://127.0.0.1:1"]));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("hanshu serve --dev"), "{refused:?}");
}

#[test]
fn a_bad_manifest_is_named_with_its_key() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    packages::write(
        dir.path(),
        &[("index.js", ""), ("hanshu.toml", "name = \"f\"\nmemory = 128\n")],
    );
    let refused = daemon.cli(&["deploy", dir.path().to_str().unwrap()]);
    assert_eq!(refused.code, 2, "{refused:?}");
    for part in ["hanshu.toml", "line 2", "memory"] {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut command = hanshu(&["completion", "bash"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
}

#[test]
fn nothing_moves_or_glows_in_a_pipe() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("index.js", "exports.handler = async () => 1;")]);
    let deployed = daemon.cli(&["deploy", dir.path().to_str().unwrap(), "--name", "plain"]);
    let shown = daemon.cli(&["show", "plain"]);
    for text in [&deployed.out, &deployed.err, &shown.out, &shown.err] {
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    }
}

#[test]
fn help_and_completion_are_there() {
    let help = Cli::run(&mut hanshu(&["--help"])).ok();
    for part in ["hanshu serve --dev", "deploy", "invoke", "logs", "Exit codes"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(Cli::run(&mut hanshu(&["deploy", "--help"])).ok().contains("package-lock.json"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(Cli::run(&mut hanshu(&["completion", shell])).ok().contains("hanshu"));
    }
    assert!(
        Cli::run(&mut hanshu(&["gen", "config-reference"])).ok().contains("keep_alive_seconds")
    );
    assert!(Cli::run(&mut hanshu(&["gen", "cli-reference"])).ok().contains("`hanshu invoke`"));
    assert!(Cli::run(&mut hanshu(&["--version"])).ok().starts_with("hanshu "));
}

#[test]
fn bad_settings_name_their_source() {
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("d.toml", "[engine]\nkeepalive = 1\n")]);
    let file = dir.path().join("d.toml");
    let refused = Cli::run(&mut hanshu(&["serve", "--config", file.to_str().unwrap()]));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.err.contains("d.toml") && refused.err.contains("engine.keepalive"),
        "{refused:?}"
    );
    let refused = Cli::run(hanshu(&["serve"]).env("HANSHU_ENGINE_KEEPALIVE", "1"));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("HANSHU_ENGINE_KEEPALIVE"), "{refused:?}");
}
