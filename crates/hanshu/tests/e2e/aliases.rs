//! Aliases over function URLs, with real functions: weights, rules, sticky keys, environments of their own, and what a function is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::needle::{backwards, holds_needle, nothing_on_disk, value};
use crate::harness::packages::private_file;
use crate::harness::{Daemon, Start, eventually};

const NODE: &str = "exports.handler = async (event, context) => ({
    version: process.env.AWS_LAMBDA_FUNCTION_VERSION, told: context.functionVersion, arn: context.invokedFunctionArn,
    release: process.env.RELEASE, stage: process.env.STAGE ?? null, pid: process.pid,
    secret: [...(process.env.TOKEN ?? '')].reverse().join(''),
});";

const PYTHON: &str = "
import os
def handler(event, context):
    return {'version': os.environ['AWS_LAMBDA_FUNCTION_VERSION'], 'told': context.function_version,
            'arn': context.invoked_function_arn, 'release': os.environ['RELEASE'],
            'stage': os.environ.get('STAGE'), 'pid': os.getpid(), 'secret': os.environ.get('TOKEN', '')[::-1]}
";

/// The functions `node` and `python` with so many versions each.
fn functions(daemon: &Daemon, versions: u64) -> [&'static str; 2] {
    for number in 1..=versions {
        let release = json!({ "environment": { "RELEASE": format!("r{number}") } });
        daemon.node("node", NODE, &release);
        daemon.python("python", PYTHON, &release);
        for name in ["node", "python"] {
            assert_eq!(daemon.publish(name), number);
        }
    }
    ["node", "python"]
}

/// Calls by URL; checks that everything the function is told fits together, and gives its version.
#[track_caller]
fn reach(daemon: &Daemon, at: &str, path: &str, headers: &[(&str, &str)]) -> u64 {
    let answer = told(daemon, at, path, headers);
    answer["version"].as_str().unwrap().parse().unwrap()
}

#[track_caller]
fn told(daemon: &Daemon, at: &str, path: &str, headers: &[(&str, &str)]) -> Value {
    let reply = daemon.http.send("GET", &format!("/fn/default/{at}{path}"), headers, ());
    let answer = reply.result();
    assert_eq!(answer["told"], answer["version"], "{answer}");
    let release = format!("r{}", answer["version"].as_str().unwrap());
    assert_eq!(answer["release"], release, "{answer}");
    let arn = answer["arn"].as_str().unwrap();
    assert!(arn.starts_with("arn:") && arn.ends_with(&format!(":{at}")), "{arn}");
    answer
}

#[test]
fn calls_are_divided_by_weight() {
    let daemon = Daemon::start();
    for name in functions(&daemon, 3) {
        let live = format!("{name}:live");
        daemon.cli(&["alias", "set", &live, "--to", "1=70", "--to", "2=30", "--to", "3=0"]).ok();
        let mut counts = BTreeMap::new();
        for _ in 0..300 {
            *counts.entry(reach(&daemon, &live, "/", &[])).or_insert(0) += 1;
        }
        // Six standard deviations: 6 · √(300 · 0.7 · 0.3) ≈ 48.
        assert!((162..=258).contains(&counts[&1]), "{counts:?}");
        assert_eq!(counts[&1] + counts[&2], 300, "{counts:?}");
        daemon.cli(&["alias", "set", &live, "--to", "3"]).ok();
        assert_eq!(reach(&daemon, &live, "/", &[]), 3);
        // A version itself is told its own name.
        assert_eq!(reach(&daemon, &format!("{name}:2"), "/", &[]), 2);
    }
}

#[test]
fn rules_come_before_weights() {
    let daemon = Daemon::start();
    for name in functions(&daemon, 3) {
        let live = format!("{name}:live");
        let mut args = vec!["alias", "set", &live, "--to", "1"];
        let rules = [
            "header.x-beta = yes and query.part range [1,10) -> 2",
            "path ^= /v3/ -> 3",
            "cookie.group one-of red, blue -> 2",
            "method = DELETE -> 3",
            "event.headers.x-deep present -> 3",
        ];
        for rule in &rules {
            args.extend(["--rule", rule]);
        }
        daemon.cli(&args).ok();
        for (path, headers, version) in [
            ("/", &[][..], 1),
            ("/?part=9.5", &[("x-beta", "yes")], 2),
            ("/?part=10", &[("x-beta", "yes")], 1),
            ("/?part=9", &[("x-beta", "no")], 1),
            ("/v3/x", &[], 3),
            ("/v3", &[], 1),
            ("/", &[("cookie", "a=b; group=blue")], 2),
            ("/", &[("cookie", "group=green")], 1),
            ("/", &[("x-deep", "")], 3),
            // The first rule that holds wins.
            ("/v3/x?part=1", &[("x-beta", "yes"), ("cookie", "group=red")], 2),
        ] {
            assert_eq!(reach(&daemon, &live, path, headers), version, "{path} {headers:?}");
        }
        let deleted = daemon.http.delete(&format!("/fn/default/{live}/")).result();
        assert_eq!(deleted["version"], "3");
        let why =
            daemon.cli(&["alias", "resolve", &live, "--path", "/v3/x", "--output", "json"]).json();
        assert_eq!((&why["version"], &why["rule"]), (&json!("3"), &json!(2)), "{why}");
        let text = daemon.cli(&["alias", "resolve", &live, "--path", "/v3/x"]).ok();
        assert!(text.starts_with("version 3: all conditions of rule 2 hold"), "{text}");
    }
}

#[test]
fn a_cookie_keeps_its_version() {
    let daemon = Daemon::start();
    functions(&daemon, 2);
    let set =
        ["alias", "set", "python:live", "--to", "1=1", "--to", "2=1", "--sticky", "cookie.session"];
    daemon.cli(&set).ok();
    let of = |user: usize| {
        reach(&daemon, "python:live", "/", &[("cookie", &format!("x=1; session=user-{user}"))])
    };
    let before: Vec<u64> = (0..60).map(of).collect();
    assert_eq!((0..60).map(of).collect::<Vec<_>>(), before, "same key, same version");
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 2, "{before:?}");
    // Version 2 grows: it takes some, and gives none.
    daemon.cli(&["alias", "set", "python:live", "--to", "1=1", "--to", "2=3"]).ok();
    let after: Vec<u64> = (0..60).map(of).collect();
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert!(before.iter().zip(&after).all(|(b, a)| a >= b), "{before:?} {after:?}");
    assert!((1..30).contains(&moved), "{moved} moved");
    let why = daemon.cli(&[
        "alias",
        "resolve",
        "python:live",
        "--cookie",
        "session=user-7",
        "--output",
        "json",
    ]);
    let why = why.json();
    assert_eq!((&why["sticky"], &why["version"]), (&json!("user-7"), &json!(after[7].to_string())));
}

#[test]
fn one_version_serves_two_stages() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::dev().on(&data).set("HANSHU_LOG_LEVEL", "trace").start();
    let file = dir.path().join("token");
    let mut said = Vec::new();
    for name in functions(&daemon, 1) {
        let (live, staging) = (format!("{name}:live"), format!("{name}:staging"));
        private_file(&file, &value("live"));
        let secret = format!("TOKEN=@{}", file.display());
        let set = ["alias", "set", &live, "--to", "1", "--env", "STAGE=live", "--secret", &secret];
        said.push(daemon.cli(&set).ok());
        let set = ["alias", "set", &staging, "--to", "1", "--env", "STAGE=staging"];
        said.push(daemon.cli(&set).ok());
        let [first, second] = [&live, &staging].map(|at| told(&daemon, at, "/", &[]));
        assert_eq!(
            (&first["stage"], &first["secret"]),
            (&json!("live"), &json!(backwards("live")))
        );
        assert_eq!((&second["stage"], &second["secret"]), (&json!("staging"), &json!("")));
        let plain = told(&daemon, &format!("{name}:1"), "/", &[]);
        assert_eq!((&plain["stage"], &plain["secret"]), (&json!(null), &json!("")));
        // What is not mentioned stays, the secret by its mark; a new value is there at once.
        said.push(daemon.cli(&["alias", "set", &live, "--env", "STAGE=live2"]).ok());
        let again = told(&daemon, &live, "/", &[]);
        assert_eq!(
            (&again["stage"], &again["secret"]),
            (&json!("live2"), &json!(backwards("live")))
        );
        private_file(&file, &value("newer"));
        said.push(daemon.cli(&["alias", "set", &live, "--secret", &secret]).ok());
        assert_eq!(told(&daemon, &live, "/", &[])["secret"], backwards("newer"));
        said.push(daemon.cli(&["alias", "rollback", &live]).ok());
        assert_eq!(told(&daemon, &live, "/", &[])["secret"], backwards("live"));
        said.extend(answers(&daemon, name));
    }
    for text in &said {
        assert!(!holds_needle(text.as_bytes()), "{text}");
    }
    nothing_on_disk(&data);
    daemon.stop();
    nothing_on_disk(&data);
    assert!(!holds_needle(daemon.log_text().as_bytes()));
}

/// Everything that tells of the aliases.
fn answers(daemon: &Daemon, name: &str) -> Vec<String> {
    let base = format!("/v1/namespaces/default/functions/{name}");
    let mut said = Vec::new();
    for path in ["/aliases", "/aliases/live", "/history", "/history?alias=live", "/logs", ""] {
        let reply = daemon.http.get(&format!("{base}{path}"));
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        said.push(reply.text());
    }
    let newest = daemon.http.get(&format!("{base}/history")).json()["items"][0]["revision"]
        .as_u64()
        .unwrap();
    for revision in 1..=newest {
        let change = daemon.http.get(&format!("{base}/history/{revision}"));
        assert_eq!(change.status, 200, "{change:?}");
        said.push(change.text());
    }
    let view = daemon.http.get(&format!("{base}/aliases/live")).json();
    assert_eq!(view["environment"]["TOKEN"], json!({ "secret": true }));
    let live = format!("{name}:live");
    for output in ["text", "json"] {
        for args in [
            vec!["alias", "list", name],
            vec!["alias", "show", &live, "--values"],
            vec!["alias", "resolve", &live],
            vec!["history", &live],
            vec!["show", name, "--values"],
            vec!["logs", name],
        ] {
            let args: Vec<_> = args.into_iter().chain(["--output", output]).collect();
            said.push(daemon.cli(&args).ok());
        }
    }
    said
}

#[test]
fn what_somebody_else_changed_meanwhile_is_not_overwritten() {
    let daemon = Daemon::start();
    functions(&daemon, 2);
    daemon.cli(&["alias", "set", "node:live", "--to", "1"]).ok();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("live.json");
    std::fs::write(&file, daemon.cli(&["alias", "show", "node:live", "--output", "json"]).ok())
        .unwrap();
    daemon.cli(&["alias", "set", "node:live", "--to", "2", "--reason", "faster"]).ok();
    let refused =
        daemon.cli(&["alias", "set", "node:live", "--file", file.to_str().unwrap()]).refused();
    for part in ["(precondition-failed)", "targets[0].version", "configure by dev", "hint: "] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert_eq!(reach(&daemon, "node:live", "/", &[]), 2);
    for (args, part) in [
        (&["alias", "set", "node:live", "--to", "9"][..], "9"),
        (&["alias", "set", "node:new", "--sticky", "path"], "--to VERSION"),
        (&["alias", "set", "node:live", "--rule", "colour = red -> 1"], "colour"),
        (&["alias", "show", "node:none"], "not-found"),
        (&["alias", "delete", "node:none", "--yes"], "not-found"),
        (&["alias", "set", "node:7", "--to", "1"], "node:7"),
    ] {
        let refused = daemon.cli(args).refused();
        assert!(refused.contains(part), "{args:?}: {refused}");
    }
    daemon.cli(&["alias", "delete", "node:live", "--yes"]).ok();
    assert_eq!(daemon.http.get("/fn/default/node:live/").status, 404);
    daemon.cli(&["rollback", "node:live"]).ok();
    assert_eq!(reach(&daemon, "node:live", "/", &[]), 2, "a deleted alias comes back");
}

#[test]
fn an_alias_of_latest_follows_it_and_calls_that_wait_use_it_too() {
    let daemon = Daemon::start();
    functions(&daemon, 1);
    daemon.cli(&["alias", "set", "node:dev", "--to", "$LATEST", "--env", "STAGE=dev"]).ok();
    let tell = "exports.handler = async (event, context) => {
      console.log('told', event.n, process.env.STAGE, context.invokedFunctionArn.split(':').pop());
      return [event.n ?? null, context.functionVersion];
    };";
    daemon.node("node", tell, &json!({}));
    let reply = daemon.http.get("/fn/default/node:dev/").result();
    assert_eq!(reply, json!([null, "$LATEST"]));
    let accepted = daemon.cli(&["invoke", "node:dev", "--async", "--payload", "{\"n\":7}"]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    eventually("the call was made", Duration::from_secs(20), || {
        let lines = daemon.logs("node", "&contains=told");
        lines.iter().any(|line| line["text"] == "told 7 dev dev").then_some(())
    });
    // A rule may read the event of a call that comes by no URL.
    let rule = ["alias", "set", "node:dev", "--rule", "event.plan = old -> 1"];
    daemon.cli(&rule).ok();
    let old = daemon.cli(&["invoke", "node:dev", "--payload", "{\"plan\":\"old\"}"]).json();
    assert_eq!((&old["release"], &old["stage"]), (&json!("r1"), &json!("dev")));
    let new = daemon.cli(&["invoke", "node:dev", "--payload", "{\"plan\":\"new\"}"]).json();
    assert_eq!(new, json!([null, "$LATEST"]));
}
