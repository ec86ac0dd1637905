//! Versions on the command line: published, listed, compared, downloaded, gone back to, deleted; and what the history says of it.

use std::io::{Cursor, Read as _};
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use zip::ZipArchive;

use crate::harness::{Cli, Daemon, packages};

/// A folder with a function that answers `text` and its variable LEVEL.
fn folder(text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), text);
    dir
}

fn write(folder: &Path, text: &str) {
    let code = format!("exports.handler = async () =>\n  ['{text}', process.env.LEVEL];\n");
    packages::write(folder, &[("index.js", &code), ("lib/kept.js", "exports.a = 1;\n")]);
}

/// `f` with two versions and the alias `live` to the second; `$LATEST` is the second.
fn two_versions(daemon: &Daemon) -> TempDir {
    let dir = folder("one");
    let path = dir.path().to_str().unwrap();
    let deploy = |level: &str, reason: &str| {
        let args = ["deploy", path, "--name", "f", "--publish", "--env", level, "--reason", reason];
        daemon.cli(&args).ok();
    };
    deploy("LEVEL=low", "release 1");
    write(dir.path(), "two");
    packages::write(dir.path(), &[("new.txt", "here\n")]);
    deploy("LEVEL=high", "release 2");
    daemon.cli(&["alias", "set", "f:live", "--to", "2", "--reason", "go live"]).ok();
    dir
}

fn unzipped(zip: &[u8]) -> Vec<(String, String)> {
    let mut archive = ZipArchive::new(Cursor::new(zip)).unwrap();
    let mut files: Vec<_> = (0..archive.len())
        .map(|at| {
            let mut file = archive.by_index(at).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            (file.name().to_owned(), text)
        })
        .filter(|(name, _)| !name.ends_with('/'))
        .collect();
    files.sort();
    files
}

#[test]
fn versions_are_listed_shown_and_called() {
    let daemon = Daemon::start();
    let _folder = two_versions(&daemon);
    let listed = daemon.cli(&["versions", "f"]).ok();
    let rows: Vec<Vec<&str>> = listed.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["VERSION", "PUBLISHED", "SIZE", "ALIASES"]);
    assert_eq!((rows[1][0], *rows[1].last().unwrap()), ("1", "-"), "{listed}");
    assert_eq!((rows[2][0], *rows[2].last().unwrap()), ("2", "live"), "{listed}");
    let versions = daemon.cli(&["versions", "list", "f", "--output", "json"]).json();
    assert_eq!((&versions[0]["version"], &versions[1]["version"]), (&json!(1), &json!(2)));
    assert_eq!(versions[1]["aliases"], json!(["live"]));

    assert_eq!(daemon.invoke("f?qualifier=1", "{}").result(), json!(["one", "low"]));
    assert_eq!(daemon.cli(&["invoke", "f:live"]).ok(), r#"["two","high"]"#);
    let shown = daemon.cli(&["versions", "show", "f:1", "--output", "json"]).json();
    assert_eq!(shown["config"]["environment"], json!({ "LEVEL": "low" }));
    let text = daemon.cli(&["versions", "show", "f:1"]).ok();
    assert!(text.contains("LEVEL") && !text.contains("low"), "values are not told: {text}");

    let same = daemon.cli(&["versions", "publish", "f"]).ok();
    assert_eq!(same.trim(), "f:2 is what $LATEST is already: nothing published");
    daemon.cli(&["config", "set", "f", "memory_mb=200"]).ok();
    let new = daemon.cli(&["versions", "publish", "f", "--reason", "more memory"]).ok();
    assert_eq!(new.trim(), "published f:3");
    let json = daemon.cli(&["versions", "publish", "f", "--output", "json"]).json();
    assert_eq!((&json["version"], &json["name"]), (&json!("3"), &json!("f")));
}

#[test]
fn versions_are_compared_file_by_file() {
    let daemon = Daemon::start();
    let dir = two_versions(&daemon);
    let text = daemon.cli(&["versions", "diff", "f", "1", "2"]).ok();
    for line in [
        r#"~ config.environment.LEVEL: "low" → "high""#,
        "-  ['one', process.env.LEVEL];",
        "+  ['two', process.env.LEVEL];",
        " exports.handler = async () =>",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    assert!(text.contains("added new.txt (5 B)") && text.contains("modified index.js"), "{text}");
    assert!(!text.contains("kept.js"), "{text}");
    let diff = daemon.cli(&["versions", "diff", "f", "2", "1", "--output", "json"]).json();
    assert_eq!((&diff["from"], &diff["to"]), (&json!("2"), &json!("1")));
    let files: Vec<_> = diff["files"].as_array().unwrap().iter().map(|f| &f["change"]).collect();
    assert_eq!(files, ["modified", "removed"]);

    let same = daemon.cli(&["versions", "diff", "f", "2"]).ok();
    assert_eq!(same.trim(), "versions 2 and $LATEST are the same");
    write(dir.path(), "three");
    daemon.cli(&["deploy", dir.path().to_str().unwrap(), "--name", "f"]).ok();
    let against = daemon.cli(&["versions", "diff", "f", "2"]).ok();
    assert!(against.contains("+  ['three'"), "{against}");
    let missing = daemon.cli(&["versions", "diff", "f", "1", "9"]).refused();
    assert!(missing.contains("default/f:9") && missing.contains("not-found"), "{missing}");
}

#[test]
fn versions_are_downloaded_as_they_were() {
    let daemon = Daemon::start();
    let _folder = two_versions(&daemon);
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| Cli::run(daemon.command(args).current_dir(dir.path()));
    let said = run(&["versions", "download", "f:1"]).noted();
    assert!(said.contains("wrote f-1.zip ("), "{said}");
    let zip = std::fs::read(dir.path().join("f-1.zip")).unwrap();
    let expected = [
        ("index.js", "exports.handler = async () =>\n  ['one', process.env.LEVEL];\n"),
        ("lib/kept.js", "exports.a = 1;\n"),
    ];
    assert_eq!(unzipped(&zip), expected.map(|(n, t)| (n.to_owned(), t.to_owned())));
    let again = run(&["versions", "download", "f:1"]).refused();
    assert!(again.contains("nothing is overwritten") && again.contains("hint: "), "{again}");
    let json = run(&["versions", "download", "f:2", "--to", "x.zip", "--output", "json"]).json();
    assert_eq!(json["file"], "x.zip");
    let second = std::fs::read(dir.path().join("x.zip")).unwrap();
    assert_eq!(json["size_bytes"], second.len());
    assert_eq!(unzipped(&second).len(), 3);
    let piped = daemon.command(&["versions", "download", "f:1", "--to", "-"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout == zip, "the same bytes come by a pipe");
    run(&["versions", "download", "f:7"]).refused();
    assert!(!dir.path().join("f-7.zip").exists());
}

#[test]
fn latest_goes_back_to_a_version() {
    let daemon = Daemon::start();
    let _folder = two_versions(&daemon);
    let said = daemon.cli(&["rollback", "f", "1", "--reason", "two was bad"]).ok();
    assert!(said.starts_with("f:$LATEST is as version 1 again, at revision "), "{said}");
    assert_eq!(daemon.invoke("f", "{}").result(), json!(["one", "low"]));
    assert_eq!(daemon.cli(&["invoke", "f:live"]).ok(), r#"["two","high"]"#, "aliases stay");
    let same = daemon.cli(&["versions", "diff", "f", "1"]).ok();
    assert_eq!(same.trim(), "versions 1 and $LATEST are the same");
    assert!(daemon.cli(&["versions", "publish", "f"]).ok().starts_with("f:1 is what"));
    let missing = daemon.cli(&["rollback", "f", "9"]).refused();
    assert!(missing.contains("f:9"), "{missing}");
    let unsaid = daemon.cli(&["rollback", "f"]).refused();
    assert!(unsaid.contains("expected f VERSION, or f:ALIAS"), "{unsaid}");
    assert!(unsaid.contains("hint: its versions: hanshu versions f"), "{unsaid}");
    let newest = &daemon.cli(&["history", "f", "--output", "json"]).json()[0];
    assert_eq!((&newest["what"], &newest["reason"]), (&json!("rollback"), &json!("two was bad")));
}

#[test]
fn a_version_in_use_is_not_deleted_and_no_number_comes_again() {
    let daemon = Daemon::start();
    let dir = two_versions(&daemon);
    let refused = daemon.cli(&["versions", "delete", "f:2", "--yes"]).refused();
    assert!(refused.contains("'live'") && refused.contains("(conflict)"), "{refused}");
    assert!(refused.contains("hint: change or delete these aliases first"), "{refused}");
    let refused = daemon.cli(&["versions", "delete", "f:2", "--yes", "--output", "json"]);
    let error: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!((refused.code, &error["error"]["code"]), (2, &json!("conflict")));
    let unasked = daemon.cli(&["versions", "delete", "f:1"]).refused();
    assert!(unasked.contains("pass --yes"), "{unasked}");

    daemon.cli(&["alias", "delete", "f:live", "--yes"]).ok();
    assert_eq!(daemon.cli(&["versions", "delete", "f:2", "--yes"]).noted().trim(), "deleted f:2");
    for args in [&["versions", "show", "f:2"][..], &["invoke", "f:2"], &["rollback", "f", "2"]] {
        let gone = daemon.cli(args).refused();
        assert!(gone.contains("not-found"), "{gone}");
    }
    // The content of the deleted version is published anew, under a new number.
    assert_eq!(daemon.cli(&["versions", "publish", "f"]).ok().trim(), "published f:3");
    daemon.cli(&["delete", "f", "--yes"]).ok();
    let left = daemon.cli(&["history", "f", "--limit", "1"]).ok();
    assert!(left.lines().nth(1).is_some_and(|row| row.contains("delete")), "{left}");
    let path = dir.path().to_str().unwrap();
    daemon.cli(&["deploy", path, "--name", "f", "--publish"]).ok();
    let versions = daemon.cli(&["versions", "f", "--output", "json"]).json();
    assert_eq!((versions.as_array().unwrap().len(), &versions[0]["version"]), (1, &json!(4)));
    let changes = daemon.cli(&["history", "f", "--output", "json"]).json();
    let what: Vec<_> = changes.as_array().unwrap().iter().map(|c| &c["what"]).take(3).collect();
    assert_eq!(what, ["create", "delete", "publish"]);
    assert_eq!(changes[0]["revision"].as_u64(), Some(changes.as_array().unwrap().len() as u64));
    let none = daemon.cli(&["invoke", "f:3"]).refused();
    assert!(none.contains("not-found"), "{none}");
}

#[test]
fn publish_always_makes_a_version_of_every_change() {
    let daemon = Daemon::start();
    let dir = folder("one");
    packages::write(dir.path(), &[("hanshu.toml", "name = \"f\"\npublish = \"always\"\n")]);
    let path = dir.path().to_str().unwrap();
    let numbers = || -> Vec<u64> {
        let versions = daemon.cli(&["versions", "f", "--output", "json"]).json();
        versions.as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect()
    };
    daemon.cli(&["deploy", path]).ok();
    assert_eq!(numbers(), [1]);
    daemon.cli(&["deploy", path]).ok();
    assert_eq!(numbers(), [1], "nothing changed");
    daemon.cli(&["config", "set", "f", "env.LEVEL=high"]).ok();
    assert_eq!(numbers(), [1, 2]);
    assert_eq!(daemon.invoke("f?qualifier=2", "{}").result(), json!(["one", "high"]));
    daemon.cli(&["rollback", "f", "1"]).ok();
    assert_eq!(numbers(), [1, 2], "that is version 1 already");
    daemon.cli(&["config", "set", "f", "publish=on-request", "env.LEVEL=low"]).ok();
    assert_eq!(numbers(), [1, 2]);
}

#[test]
fn the_history_says_who_what_and_why() {
    let daemon = Daemon::start();
    let _folder = two_versions(&daemon);
    daemon.cli(&["alias", "rollback", "f:live"]).refused();
    daemon.cli(&["alias", "set", "f:live", "--to", "1", "--reason", "back"]).ok();
    daemon.cli(&["rollback", "f:live", "--reason", "forth"]).ok();
    let changes = daemon.cli(&["history", "f", "--output", "json"]).json();
    let told: Vec<String> = changes.as_array().unwrap().iter().rev().map(line).collect();
    let expected = [
        "1 create dev 127.0.0.1 1 release 1",
        "2 deploy dev 127.0.0.1 2 release 2",
        "3 create dev 127.0.0.1 live go live",
        "4 configure dev 127.0.0.1 live back",
        "5 rollback dev 127.0.0.1 live forth",
    ];
    assert_eq!(told, expected);
    let of_alias = daemon.cli(&["history", "f:live", "--output", "json"]).json();
    assert_eq!(of_alias.as_array().unwrap().len(), 3);
    let text = daemon.cli(&["history", "f:live", "--limit", "1"]).ok();
    let row = text.lines().nth(1).unwrap();
    assert!(
        row.starts_with('5') && row.contains(r#"forth · targets[0].version: "1" → "2""#),
        "{row}"
    );
    let one = daemon.cli(&["history", "f", "--revision", "2"]).ok();
    for part in ["reason       release 2", "~ config.environment.LEVEL", "what         deploy"] {
        assert!(one.contains(part), "{part}: {one}");
    }
    let whole = daemon.cli(&["history", "f", "--revision", "4", "--output", "json"]).json();
    assert_eq!(whole["before"]["targets"][0]["version"], "2", "{whole}");
    assert_eq!(whole["after"]["targets"][0]["version"], "1");
    let missing = daemon.cli(&["history", "f", "--revision", "99"]).refused();
    assert!(missing.contains("99"), "{missing}");
    let bad = daemon.cli(&["config", "set", "f", "memory_mb=130", "--reason", "a\nb"]).refused();
    assert!(bad.contains("reason"), "{bad}");
}

fn line(change: &Value) -> String {
    let text = |name: &str| change[name].as_str().unwrap_or("-").to_owned();
    let parts = ["what", "who", "from", "of", "reason"].map(text);
    format!("{} {}", change["revision"], parts.join(" "))
}
