//! Layers with real modules: found by both languages, merged, read-only, unpacked once, rolled forward by their aliases.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Cli, Daemon, packages};

const NODE: &str = "const { execFileSync } = require('child_process');
const fs = require('fs');
const refused = (write) => { try { write(); return 'written'; } catch (e) { return e.code; } };
exports.handler = async () => ({
  greeting: require('greet'), common: require('common'), shared: fs.readFileSync('/opt/shared.txt', 'utf8'),
  tool: execFileSync('tool').toString(),
  make: refused(() => fs.writeFileSync('/opt/new', 'x')),
  change: refused(() => fs.appendFileSync('/opt/shared.txt', 'x')),
  remove: refused(() => fs.unlinkSync('/opt/shared.txt')),
});";

const PYTHON: &str = "
import os
def refused(write):
    try:
        write()
        return 'written'
    except OSError as e:
        return e.strerror
def handler(event, context):
    import greet, deep
    return {'greeting': greet.text, 'deep': deep.text, 'shared': open('/opt/shared.txt').read(),
            'make': refused(lambda: open('/opt/new', 'w')), 'change': refused(lambda: os.chmod('/opt/shared.txt', 0o777)),
            'remove': refused(lambda: os.remove('/opt/python/greet.py'))}
";

/// Publishes a layer from a folder of these files.
#[track_caller]
fn publish(daemon: &Daemon, name: &str, files: &[(&str, &str)]) -> Cli {
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), files);
    let tool = dir.path().join("bin/tool");
    if tool.exists() {
        fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    daemon.cli(&["layer", "publish", name, dir.path().to_str().unwrap()])
}

/// A version of `greet` that says `text` in both languages.
fn greet(daemon: &Daemon, text: &str) -> String {
    let node = format!("module.exports = '{text}';");
    let python = format!("text = '{text}'\n");
    let files = [
        ("nodejs/node_modules/greet/index.js", node.as_str()),
        ("python/greet.py", &python),
        ("bin/tool", "#!/bin/sh\nprintf tool\n"),
        ("shared.txt", "of greet"),
    ];
    publish(daemon, "greet", &files).ok()
}

fn common(daemon: &Daemon) {
    let files = [
        ("nodejs/node20/node_modules/common/index.js", "module.exports = 'common';"),
        ("python/lib/python3.11/site-packages/deep.py", "text = 'deep'\n"),
        ("shared.txt", "of common"),
    ];
    assert!(publish(daemon, "common", &files).ok().starts_with("published common:1 ("));
}

/// A folder with code, deployed with these layers.
fn deploy(
    daemon: &Daemon,
    name: &str,
    file: (&str, &str),
    layers: &[&str],
    more: &[&str],
) -> (TempDir, Cli) {
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[file]);
    let mut args = vec!["deploy", dir.path().to_str().unwrap(), "--name", name, "--timeout", "20s"];
    for layer in layers {
        args.extend(["--layer", layer]);
    }
    args.extend(more);
    let done = daemon.cli(&args);
    (dir, done)
}

fn in_folder(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn two_layers_are_merged_read_only_and_unpacked_once() {
    let daemon = Daemon::start();
    assert!(greet(&daemon, "hello").starts_with("published greet:1 ("));
    assert!(greet(&daemon, "hello").starts_with("greet:1 is the same already"));
    common(&daemon);
    let layers = ["greet:1", "common:1"];
    let expected = json!({
        "greeting": "hello", "common": "common", "shared": "of common", "tool": "tool",
        "make": "EROFS", "change": "EACCES", "remove": "EROFS"
    });
    for name in ["one", "two", "three"] {
        deploy(&daemon, name, ("index.js", NODE), &layers, &["--publish"]).1.ok();
        assert_eq!(daemon.invoke(name, "{}").result(), expected);
        assert_eq!(daemon.invoke(&format!("{name}?qualifier=1"), "{}").result(), expected);
    }
    deploy(&daemon, "python", ("main.py", PYTHON), &layers, &[]).1.ok();
    let read_only = "Read-only file system";
    assert_eq!(
        daemon.invoke("python", "{}").result(),
        json!({
            "greeting": "hello", "deep": "deep", "shared": "of common",
            "make": read_only, "change": read_only, "remove": read_only
        })
    );
    let cache = daemon.data.join("cache");
    // The code of both languages, and the two layers.
    assert_eq!(in_folder(&cache.join("packages")), 4);
    assert_eq!(in_folder(&cache.join("merged")), 1);
    // The other way round the other one is above; where it lay together before, nothing changes.
    deploy(&daemon, "one", ("index.js", NODE), &["common:1", "greet:1"], &[]).1.ok();
    assert_eq!(daemon.invoke("one", "{}").result()["shared"], "of greet");
    assert_eq!(daemon.invoke("two", "{}").result()["shared"], "of common");
    let shown = daemon.cli(&["show", "one", "--output", "json"]).json();
    let names: Vec<_> = shown["layers"].as_array().unwrap().iter().map(|l| &l["name"]).collect();
    assert_eq!(names, ["common", "greet"]);
    assert!(daemon.cli(&["show", "one"]).ok().contains("common:1"));
}

#[test]
fn an_alias_rolls_its_followers_forward() {
    let daemon = Daemon::start();
    let answer = "exports.handler = async () => require('greet');";
    greet(&daemon, "one");
    let alias = |to: &str| daemon.cli(&["layer", "alias", "greet:stable", "--to", to]).ok();
    assert_eq!(alias("1").trim(), "greet:stable leads to version 1");
    deploy(&daemon, "follows", ("index.js", answer), &["greet:stable"], &["--publish"]).1.ok();
    deploy(&daemon, "stays", ("index.js", answer), &["greet:1"], &[]).1.ok();
    let said = |at: &str| daemon.invoke(at, "{}").result();
    assert_eq!((said("follows"), said("stays")), (json!("one"), json!("one")));
    for text in ["two", "three"] {
        greet(&daemon, text);
        let number = if text == "two" { "2" } else { "3" };
        let moved = alias(number);
        assert_eq!(moved, format!("greet:stable leads to version {number}\nmoved follows\n"));
        assert_eq!(said("follows"), text, "the command returned");
        assert_eq!(said("stays"), "one");
        assert_eq!(said("follows?qualifier=1"), "one", "a published version never changes");
    }
    let newest = &daemon.cli(&["history", "follows", "--output", "json"]).json()[0];
    assert_eq!((&newest["what"], &newest["who"]), (&json!("follow-layer"), &json!("hanshu")));
    let of_layer = daemon.cli(&["history", "--layer", "greet:stable", "--output", "json"]).json();
    let told: Vec<&Value> = of_layer.as_array().unwrap().iter().map(|c| &c["what"]).collect();
    assert_eq!(told, ["configure", "configure", "create"]);
    assert_eq!(daemon.cli(&["versions", "publish", "follows"]).ok().trim(), "published follows:2");
    let diff = daemon.cli(&["versions", "diff", "follows", "1", "2"]).ok();
    assert!(diff.contains(r#""greet:1" → "greet:3""#), "{diff}");
    // Back to the version, back to its layer; until the alias moves again.
    daemon.cli(&["layer", "alias", "greet:stable", "--to", "1"]).ok();
    assert_eq!(said("follows"), "one");
}

#[test]
fn what_is_followed_is_not_deleted_and_what_is_deleted_stays_with_its_functions() {
    let daemon = Daemon::start();
    let answer = "exports.handler = async () => require('greet');";
    greet(&daemon, "one");
    greet(&daemon, "two");
    daemon.cli(&["layer", "alias", "greet:stable", "--to", "2"]).ok();
    deploy(&daemon, "follows", ("index.js", answer), &["greet:stable"], &[]).1.ok();
    deploy(&daemon, "stays", ("index.js", answer), &["greet:1"], &["--publish"]).1.ok();
    for args in [
        &["layer", "delete", "greet:2", "--yes"][..],
        &["layer", "alias", "greet:stable", "--delete"],
        &["layer", "delete", "greet", "--yes"],
    ] {
        let refused = daemon.cli(args).refused();
        assert!(
            refused.contains("(conflict)") && refused.contains("hint: "),
            "{args:?}: {refused}"
        );
    }
    daemon.cli(&["layer", "delete", "greet:1", "--yes"]).noted();
    assert_eq!(daemon.invoke("stays", "{}").result(), "one");
    daemon.cli(&["config", "set", "stays", "env.A=b"]).ok();
    assert_eq!(daemon.invoke("stays", "{}").result(), "one");
    assert_eq!(daemon.invoke("stays?qualifier=1", "{}").result(), "one");
    daemon.cli(&["rollback", "stays", "1"]).ok();
    daemon.cli(&["layer", "alias", "greet:next", "--to", "2"]).ok();
    let missing = deploy(&daemon, "new", ("index.js", answer), &["greet:1"], &[]).1.refused();
    assert!(missing.contains("greet:1") && missing.contains("hanshu layer versions"), "{missing}");

    daemon.cli(&["delete", "follows", "--yes"]).noted();
    daemon.cli(&["layer", "delete", "greet", "--yes"]).noted();
    assert_eq!(daemon.invoke("stays", "{}").result(), "one");
    assert!(greet(&daemon, "again").starts_with("published greet:3 ("), "no number comes again");
    let versions = daemon.cli(&["layer", "versions", "greet", "--output", "json"]).json();
    assert_eq!(versions.as_array().unwrap().len(), 1, "{versions}");
}

#[test]
fn a_layer_is_downloaded_as_it_was() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    let zip = packages::zip(&[("lib/a.txt", "a"), ("b.txt", "b")]);
    let file = dir.path().join("l.zip");
    fs::write(&file, &zip).unwrap();
    let publish = [
        "layer",
        "publish",
        "l",
        file.to_str().unwrap(),
        "--runtime",
        "python3.11",
        "--description",
        "letters",
    ];
    daemon.cli(&publish).ok();
    let piped = daemon.command(&["layer", "download", "l:1", "--to", "-"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout == zip);
    let shown = daemon.cli(&["layer", "show", "l"]).ok();
    for part in ["letters", "python3.11", "aliases      -"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let listed = daemon.cli(&["layer", "list", "--output", "json"]).json();
    assert_eq!((&listed[0]["name"], &listed[0]["latest"]["version"]), (&json!("l"), &json!(1)));
    daemon.cli(&["layer", "show", "l", "-n", "other"]).refused();
}

#[test]
fn too_much_is_refused_with_words() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    let publish = |name: &str, mib: usize| {
        let file = dir.path().join(format!("{name}.zip"));
        fs::write(&file, packages::bomb(mib)).unwrap();
        daemon.cli(&["layer", "publish", name, file.to_str().unwrap()])
    };
    let refused = publish("huge", 251).refused();
    assert!(refused.contains("(package-too-large)") && refused.contains("262144000"), "{refused}");
    publish("half", 126).ok();
    publish("other", 125).ok();
    let code = ("index.js", "exports.handler = async () => 1;");
    let layers = |layers: &[&str]| deploy(&daemon, "f", code, layers, &[]).1;
    let refused = layers(&["half:1", "other:1"]).refused();
    assert!(refused.contains("(package-too-large)") && refused.contains("together"), "{refused}");
    layers(&["half:1"]).ok();
    assert_eq!(daemon.invoke("f", "{}").result(), 1);
    for n in 1..=5 {
        greet_as(&daemon, n);
    }
    let six: Vec<String> =
        (1..=5).map(|n| format!("l{n}:1")).chain(["half:1".to_owned()]).collect();
    let six: Vec<&str> = six.iter().map(String::as_str).collect();
    let refused = layers(&six).refused();
    assert!(refused.contains("layers") && refused.contains("at most 5"), "{refused}");
    layers(&six[..5]).ok();
    assert_eq!(daemon.invoke("f", "{}").result(), 1);
    let twice = layers(&["l1:1", "l1:1"]).refused();
    assert!(twice.contains("l1"), "{twice}");
    let unknown = layers(&["nowhere:1"]).refused();
    assert!(unknown.contains("nowhere") && unknown.contains("(not-found)"), "{unknown}");
    let bad = dir.path().join("bad.zip");
    fs::write(&bad, "no zip").unwrap();
    let refused = daemon.cli(&["layer", "publish", "bad", bad.to_str().unwrap()]).refused();
    assert!(refused.contains("bad.zip is no zip archive"), "{refused}");
}

fn greet_as(daemon: &Daemon, n: u32) {
    publish(daemon, &format!("l{n}"), &[("n.txt", &n.to_string())]).ok();
}
