//! A key for one namespace: the others are not there.

use serde_json::json;

use crate::harness::{Cli, Daemon, Start, packages};

/// A daemon that asks for keys, with the root key in its client.
fn with_root() -> (Daemon, String) {
    let mut daemon = Start::with_keys().start();
    let line = daemon.next_line().unwrap();
    let root = line.strip_prefix("root key: ").unwrap().to_owned();
    daemon.http = daemon.http.with_key(&root);
    (daemon, root)
}

fn with(daemon: &Daemon, key: &str, args: &[&str]) -> Cli {
    Cli::run(daemon.command(args).env("HANSHU_KEY", key))
}

#[test]
fn a_key_of_one_namespace_sees_nothing_of_the_others() {
    let (daemon, root) = with_root();
    with(&daemon, &root, &["namespaces", "create", "team"]).noted();
    let key = with(&daemon, &root, &["key", "create", "ci", "--for-namespace", "team"]).ok();
    let key = key.trim();
    daemon.node(
        "other",
        "exports.handler = async () => 1;",
        &json!({ "description": "secret plan" }),
    );
    daemon.publish("other");
    daemon.alias("other:live", &json!({ "version": "1" }));
    let layer = daemon.http.send(
        "POST",
        "/v1/namespaces/default/layers/l/versions",
        &[("content-type", "application/zip")],
        packages::zip(&[("a", "b")]).as_slice(),
    );
    assert_eq!(layer.status, 201, "{layer:?}");

    let listed = with(&daemon, key, &["namespaces", "list", "--output", "json"]).json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &json!("team")));
    for args in [
        &["list"][..],
        &["show", "other"],
        &["invoke", "other"],
        &["invoke", "other:live"],
        &["logs", "other"],
        &["versions", "other"],
        &["history", "other"],
        &["history", "--of-namespace"],
        &["alias", "list", "other"],
        &["alias", "set", "other:live", "--to", "1", "--env", "A=b"],
        &["alias", "resolve", "other:live"],
        &["layer", "list"],
        &["layer", "show", "l"],
        &["config", "set", "other", "memory_mb=129"],
        &["rollback", "other", "1"],
        &["delete", "other", "--yes"],
        &["namespaces", "show", "default"],
    ] {
        let refused = with(&daemon, key, args).refused();
        assert!(
            refused.contains("(not-found)") && !refused.contains("plan"),
            "{args:?}: {refused}"
        );
        // It is as for a namespace that never was.
        let never =
            with(&daemon, key, &args.iter().copied().chain(["-n", "nowhere"]).collect::<Vec<_>>());
        assert_eq!(never.code, 2);
        if args[0] != "namespaces" {
            assert_eq!(never.err.replace("nowhere", "default"), refused, "{args:?}");
        }
    }
    let scoped = daemon.http.with_key(key);
    for path in ["/fn/default/other/", "/fn/default/other:live/", "/fn/default/none/"] {
        assert_eq!(scoped.get(path).status, 404, "{path}");
    }
    for args in [
        &["key", "list"][..],
        &["key", "create", "mine"],
        &["namespaces", "create", "mine"],
        &["namespaces", "set", "team", "--functions", "none"],
        &["namespaces", "delete", "team", "--yes"],
    ] {
        let refused = with(&daemon, key, args).refused();
        assert!(refused.contains("(forbidden)"), "{args:?}: {refused}");
    }
}

#[test]
fn it_does_everything_in_its_own_until_it_is_deleted() {
    let (daemon, root) = with_root();
    with(&daemon, &root, &["namespaces", "create", "team"]).noted();
    let made = with(
        &daemon,
        &root,
        &["key", "create", "ci", "--for-namespace", "team", "--output", "json"],
    )
    .json();
    assert_eq!((&made["name"], &made["namespace"]), (&json!("ci"), &json!("team")));
    let key = made["key"].as_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("index.js", "exports.handler = async () => 1;")]);
    let run = |args: &[&str]| {
        with(&daemon, key, &args.iter().copied().chain(["-n", "team"]).collect::<Vec<_>>())
    };
    run(&["deploy", dir.path().to_str().unwrap(), "--name", "f", "--publish"]).ok();
    run(&["alias", "set", "f:live", "--to", "1"]).ok();
    assert_eq!(run(&["invoke", "f:live"]).ok(), "1");
    run(&["layer", "publish", "l", dir.path().to_str().unwrap()]).ok();
    run(&["namespaces", "show", "team"]).ok();
    let changes = run(&["history", "f", "--output", "json"]).json();
    assert!(changes.as_array().unwrap().iter().all(|c| c["who"] == "ci"), "{changes}");
    let scoped = daemon.http.with_key(key);
    assert_eq!(scoped.get("/fn/team/f:live/").json(), 1);

    let listed = with(&daemon, &root, &["key", "list"]).ok();
    assert!(listed.contains("ci") && listed.contains("team") && !listed.contains(key), "{listed}");
    with(&daemon, &root, &["key", "create", "ci"]).refused();
    with(&daemon, &root, &["key", "delete", "ci", "--yes"]).noted();
    let refused = run(&["list"]).refused();
    assert!(refused.contains("(unauthenticated)"), "{refused}");
    assert_eq!(scoped.get("/fn/team/f:live/").status, 401);
    let last = with(&daemon, &root, &["key", "delete", "root", "--yes"]).refused();
    assert!(last.contains("last") || last.contains("everything"), "{last}");
}
