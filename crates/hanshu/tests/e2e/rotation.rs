//! New keys for the secrets of aliases and of what the history keeps: going back gives the function its old secret.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::harness::needle::{backwards, nothing_on_disk, value};
use crate::harness::packages::private_file;
use crate::harness::{Cli, Daemon, Start, hanshu};

const BACKWARDS: &str =
    "exports.handler = async () => [...(process.env.TOKEN ?? '')].reverse().join('');";

fn rotate(data: &Path, key: &Path, new: &Path) -> Cli {
    let args = [
        "secrets",
        "rotate",
        "--data",
        data.to_str().unwrap(),
        "--new-key-file",
        new.to_str().unwrap(),
    ];
    Cli::run(hanshu(&args).env("HANSHU_SECRETS_KEY_FILE", key))
}

#[test]
fn going_back_finds_the_old_secret_under_the_new_key() {
    let dir = tempfile::tempdir().unwrap();
    let (data, old, new) =
        (dir.path().join("data"), dir.path().join("old.key"), dir.path().join("new.key"));
    let start = |key: &Path| {
        Start::dev().on(&data).set("HANSHU_SECRETS_KEY_FILE", key.to_str().unwrap()).start()
    };
    let said = |daemon: &Daemon, at: &str| daemon.invoke(at, "{}").result();
    let mut daemon = start(&old);
    let token = |which: &str| json!({ "TOKEN": { "secret": value(which) } });
    daemon.node("f", BACKWARDS, &json!({ "environment": token("version") }));
    daemon.publish("f");
    let file = dir.path().join("token");
    let mut revisions = Vec::new();
    for which in ["first", "second", "third"] {
        private_file(&file, &value(which));
        let secret = format!("TOKEN=@{}", file.display());
        let set = ["alias", "set", "f:live", "--to", "1", "--secret", &secret, "--output", "json"];
        revisions.push(daemon.cli(&set).json()["revision"].to_string());
        assert_eq!(said(&daemon, "f?qualifier=live"), backwards(which));
    }
    daemon
        .cli(&[
            "alias",
            "set",
            "f:gone",
            "--to",
            "1",
            "--secret",
            &format!("TOKEN=@{}", file.display()),
        ])
        .ok();
    daemon.cli(&["alias", "delete", "f:gone", "--yes"]).noted();
    daemon.cli(&["config", "set", "f", "--unset", "secret.TOKEN"]).ok();
    // With a change that only the function's own document holds, as after a kill.
    daemon.kill();

    rotate(&data, &old, &new).ok();
    fs::remove_file(&old).unwrap();
    let mut daemon = start(&new);
    assert_eq!(said(&daemon, "f?qualifier=live"), backwards("third"));
    assert_eq!(said(&daemon, "f"), "");
    daemon.cli(&["rollback", "f:live", "--revision", &revisions[0]]).ok();
    assert_eq!(said(&daemon, "f?qualifier=live"), backwards("first"));
    daemon.cli(&["rollback", "f:live", "--revision", &revisions[1]]).ok();
    assert_eq!(said(&daemon, "f?qualifier=live"), backwards("second"));
    daemon.cli(&["rollback", "f:gone"]).ok();
    assert_eq!(said(&daemon, "f?qualifier=gone"), backwards("third"));
    daemon.cli(&["rollback", "f", "1"]).ok();
    assert_eq!(said(&daemon, "f"), backwards("version"));
    // Nothing differs but the keys.
    let same = daemon.cli(&["versions", "publish", "f"]).ok();
    assert!(same.starts_with("f:1 is what $LATEST is already"), "{same}");
    daemon.stop();
    nothing_on_disk(&data);
}
