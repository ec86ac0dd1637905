//! Data folders as they come: one that a daemon of before wrote, one that is named by a relative path.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::needle::files;
use crate::harness::packages::private_file;
use crate::harness::{Start, hanshu};

/// Puts the documents of format 2 into a folder of format 2, as its daemon did.
const FILL: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute(\"DELETE FROM document WHERE key = 'function/default/hello'\")
for revision, line in enumerate(open(sys.argv[2]), 6):
    key, value = line.rstrip('\\n').split(' ', 1)
    db.execute('INSERT INTO document VALUES (?, ?, ?)', (key, revision, value.encode()))
db.commit()
";

#[test]
fn a_folder_of_format_2_goes_on() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/fixtures");
    let (from, dir) = (fixtures.join("format-2"), tempfile::tempdir().unwrap());
    let data = dir.path().join("data");
    for file in files(&from) {
        let to = data.join(file.strip_prefix(&from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, &to).unwrap();
    }
    // What was checked out of a repository has lost its mode.
    let key = fs::read_to_string(from.join("secrets.key")).unwrap();
    private_file(&data.join("secrets.key"), &key);
    let args = [data.join("catalog.db"), fixtures.join("documents-2.txt")];
    let filled = Command::new("python3").args(["-c", FILL]).args(args).status().unwrap();
    assert!(filled.success());

    let daemon = Start::dev().on(&data).start();
    let shown = daemon.cli(&["list", "-n", "team", "--output", "json"]).json();
    assert_eq!(shown[0]["name"], "greet", "{shown}");
    let versions = daemon.cli(&["versions", "greet", "-n", "team", "--output", "json"]).json();
    assert_eq!((&versions[0]["version"], &versions[1]["version"]), (&json!(1), &json!(2)));
    let first = daemon.cli(&["show", "greet:1", "-n", "team", "--output", "json"]).json();
    assert_eq!(first["config"]["environment"]["TOKEN"], json!({ "secret": true }), "{first}");
    let team = daemon.cli(&["namespaces", "show", "team", "--output", "json"]).json();
    assert_eq!((&team["quotas"]["instances"], &team["used"]["functions"]), (&json!(5), &json!(1)));
    // Its history begins with the next change.
    assert_eq!(
        daemon.cli(&["history", "greet", "-n", "team", "--output", "json"]).json(),
        json!([])
    );
    daemon
        .cli(&["alias", "set", "greet:live", "--to", "2", "-n", "team", "--reason", "first"])
        .ok();
    let history = daemon.cli(&["history", "greet", "-n", "team", "--output", "json"]).json();
    assert_eq!((&history[0]["revision"], &history[0]["reason"]), (&json!(1), &json!("first")));
}

#[test]
fn a_data_folder_may_be_named_by_a_relative_path() {
    let dir = tempfile::tempdir().unwrap();
    let mut command =
        hanshu(&["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "some/where"]);
    command.current_dir(dir.path()).stdin(Stdio::null());
    let daemon = Start::by(command, &dir.path().join("some/where"));
    daemon.node("f", "exports.handler = async () => require('layered');", &json!({}));
    daemon.invoke("f", "{}").failed("handler");
    let layer = dir.path().join("l/nodejs/node_modules/layered");
    fs::create_dir_all(&layer).unwrap();
    fs::write(layer.join("index.js"), "module.exports = 'from a layer';").unwrap();
    daemon.cli(&["layer", "publish", "l", dir.path().join("l").to_str().unwrap()]).ok();
    daemon.cli(&["config", "set", "f", "layers=l:1"]).ok();
    assert_eq!(daemon.invoke("f", "{}").result(), "from a layer");
    assert!(dir.path().join("some/where/catalog.db").exists());
}
