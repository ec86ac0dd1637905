//! Secrets: the function sees them, and nothing and nobody else.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use model::clock::SystemClock;
use model::ports::Expect;
use model::tasks::Tasks;
use serde_json::{Value, json};
use store::StoreConfig;

use crate::harness::needle::{NEEDLE, backwards, holds_needle, nothing_on_disk, value};
use crate::harness::packages::private_file;
use crate::harness::{Cli, Daemon, Start, hanshu, packages};

/// Answers with its secrets in a form in which a search for them does not find them.
const BACKWARDS: &str = "exports.handler = async () => Object.fromEntries(
    ['TOKEN', 'SECOND', 'THIRD'].map((name) => [name, [...(process.env[name] ?? '')].reverse().join('')]));";
#[test]
fn the_search_finds_what_it_searches_for() {
    let hidden = [
        format!("x{NEEDLE}y"),
        "6e6565646c652d5a7138765832".to_owned(),
        "AbmVlZGxlLVpxOHZYMg==".to_owned(),
        "eG5lZWRsZS1acTh2WDI=".to_owned(),
        "eHhuZWVkbGUtWnE4dlgy".to_owned(),
    ];
    for text in &hidden {
        assert!(holds_needle(text.as_bytes()), "{text}");
    }
    assert!(!holds_needle(b"needle-Zq8vX3"));
}

/// Deploys `f` with the secret TOKEN, and publishes it.
fn with_token(daemon: &Daemon) {
    let token = json!({ "secret": value("one") });
    daemon.node("f", BACKWARDS, &json!({ "environment": { "PLAIN": "shown", "TOKEN": token } }));
    daemon.cli(&["versions", "f"]).ok();
    let path = "/v1/namespaces/default/functions/f/versions";
    assert_eq!(daemon.http.json("POST", path, &json!({})).status, 201);
}

#[test]
fn a_secret_is_seen_by_its_function_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::dev().on(&data).set("HANSHU_LOG_LEVEL", "trace").start();
    with_token(&daemon);
    let file = dir.path().join("second");
    private_file(&file, &format!("{}\n", value("two")));
    let at_file = format!("secret.SECOND=@{}", file.display());
    let mut said = vec![daemon.cli(&["config", "set", "f", &at_file]).ok()];
    let mut typing = daemon.command(&["config", "set", "f", "secret.THIRD=-"]);
    let mut typing = typing.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    typing.stdin.take().unwrap().write_all(value("three").as_bytes()).unwrap();
    said.push(Cli::from(typing.wait_with_output().unwrap()).ok());

    let seen = daemon.invoke("f", "{}").result();
    let all = json!({ "TOKEN": backwards("one"), "SECOND": backwards("two"), "THIRD": backwards("three") });
    assert_eq!(seen, all);
    let published = daemon.invoke("f?qualifier=1", "{}").result();
    assert_eq!(published["TOKEN"], backwards("one"));
    assert_eq!(published["SECOND"], "");

    said.extend(answers(&daemon));
    said.extend(refusals(&daemon));
    for text in &said {
        assert!(!holds_needle(text.as_bytes()), "{text}");
    }
    nothing_on_disk(&data);
    daemon.stop();
    nothing_on_disk(&data);
    let log = daemon.log_text();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is at its most talkative: {log}"
    );
    assert!(!holds_needle(log.as_bytes()), "{log}");
}

/// What the daemon and the command line tell of the function.
fn answers(daemon: &Daemon) -> Vec<String> {
    let base = "/v1/namespaces/default/functions";
    let mut said = Vec::new();
    for path in ["", "/f", "/f?qualifier=1", "/f:1", "/f/versions", "/f/logs", "/f/usage"] {
        let reply = daemon.http.get(&format!("{base}{path}"));
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        said.push(reply.text());
    }
    let view: Value = serde_json::from_str(&said[1]).unwrap();
    let environment = json!({
        "PLAIN": "shown",
        "TOKEN": { "secret": true }, "SECOND": { "secret": true }, "THIRD": { "secret": true }
    });
    assert_eq!(view["config"]["environment"], environment);
    for path in ["/v1/health", "/v1/namespaces", "/v1/openapi.json"] {
        said.push(daemon.http.get(path).text());
    }
    for output in ["text", "json"] {
        for args in [
            vec!["show", "f", "--values"],
            vec!["show", "f:1", "--values"],
            vec!["config", "show", "f"],
            vec!["list"],
            vec!["versions", "f"],
        ] {
            let args: Vec<_> = args.into_iter().chain(["--output", output]).collect();
            said.push(daemon.cli(&args).ok());
        }
    }
    said
}

/// What is said of requests that hold a secret and are wrong.
fn refusals(daemon: &Daemon) -> Vec<String> {
    let patch = "/v1/namespaces/default/functions/f/config";
    let wrong = value("wrong");
    let bodies = [
        json!({ "environment": { "TOKEN": { "secret": [wrong] } } }),
        json!({ "environment": { "TOKEN": { "secret": { "text": wrong } } } }),
        json!({ "environment": { "TOKEN": { "sealed": wrong } } }),
        json!({ "environment": { "TOKEN": { "secret": wrong, "more": wrong } } }),
        json!({ "environment": { "TOKEN": { "secret": format!("{wrong}\0") } } }),
        json!({ "environment": { "TOKEN": format!("{wrong}\0") } }),
        json!({ "environment": { "TOKEN": { "secret": wrong.repeat(3_000) } } }),
        json!({ "environment": { "A=B": { "secret": wrong } } }),
        json!({ "environment": { "_HANDLER": { "secret": wrong } } }),
        json!({ "environment": { "ABSENT": { "secret": true }, "TOKEN": { "secret": wrong } } }),
        json!({ "environment": wrong }),
        json!({ "environment": [wrong] }),
        json!({ "environment": { "TOKEN": { "secret": wrong } }, "memory_mb": wrong }),
        json!({ "environment": { "TOKEN": { "secret": wrong } }, "runtime": "cobol" }),
        json!(wrong),
    ];
    let mut said = Vec::new();
    for body in bodies {
        let reply = daemon.http.json("PATCH", patch, &body);
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        said.push(reply.text());
    }
    let cut = format!("{{\"environment\":{{\"TOKEN\":{{\"secret\":\"{wrong}");
    let headers = [("content-type", "application/json")];
    said.push(daemon.http.send("PATCH", patch, &headers, cut).text());
    for field in [format!("secret.TOKEN={wrong}"), format!("secret.={wrong}"), wrong.clone()] {
        let refused = daemon.cli(&["config", "set", "f", &field]);
        assert_eq!(refused.code, 2, "{refused:?}");
        said.extend([refused.out, refused.err]);
    }
    said
}

#[test]
fn other_processes_do_not_hold_it() {
    let daemon = Daemon::start();
    with_token(&daemon);
    let look = "
import os
def handler(event, context):
    found = []
    for pid in os.listdir('/proc'):
        if pid.isdigit():
            for name in ('environ', 'cmdline'):
                try:
                    found.append(open(f'/proc/{pid}/{name}', 'rb').read().decode('latin-1'))
                except OSError:
                    pass
    limits = open('/proc/self/limits').read()
    return {'found': found, 'core': [l.split() for l in limits.splitlines() if 'core' in l][0]}
";
    daemon.python("look", look, &json!({}));
    // An instance of `f` lives while the other one looks.
    daemon.invoke("f", "{}").result();
    let seen = daemon.invoke("look", "{}").result();
    assert!(seen["found"].as_array().unwrap().len() >= 2, "it sees itself: {seen}");
    assert!(!holds_needle(seen.to_string().as_bytes()));

    // A crash of whichever process writes no memory to the disk, also where a program takes the dumps.
    let core = |limits: &str| {
        let line = limits.lines().find(|l| l.contains("core file")).unwrap().to_owned();
        line.split_whitespace().skip(4).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let limits = |id: u32| fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let spawner = spawner_of(daemon.id());
    assert_eq!(core(&limits(daemon.id())), ["1", "1"]);
    assert_eq!(core(&limits(spawner)), ["1", "1"]);
    assert_eq!(seen["core"][4], "1", "{seen}");
    // The spawner's memory is the first thing in every instance: what it was told is wiped.
    assert!(memory_holds(spawner, b"__sandbox-spawner"), "its memory can be searched");
    assert!(!memory_holds(spawner, NEEDLE.as_bytes()));
}

fn spawner_of(daemon: u32) -> u32 {
    let children = fs::read_dir(format!("/proc/{daemon}/task")).unwrap().map(Result::unwrap);
    let children = children
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default())
        .collect::<String>();
    let is_spawner = |id: &&str| {
        let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.contains("__sandbox-spawner")
    };
    children.split_whitespace().find(is_spawner).unwrap().parse().unwrap()
}

/// Searches the writable memory of a process.
fn memory_holds(process: u32, text: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{process}/mem")).unwrap();
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|n| u64::from_str_radix(n, 16).unwrap());
        memory.seek(SeekFrom::Start(from)).unwrap();
        let mut bytes = Vec::new();
        // Some special areas cannot be read.
        (&mut memory).take(to - from).read_to_end(&mut bytes).unwrap_or_default();
        bytes.windows(text.len()).any(|w| w == text)
    })
}

#[test]
fn what_is_kept_stays_and_what_is_equal_changes_nothing() {
    let daemon = Daemon::start();
    with_token(&daemon);
    let path = "/v1/namespaces/default/functions/f";
    let before = daemon.http.get(path).json();
    // What was read can be sent back.
    let put = json!({ "config": before["config"] });
    assert_eq!(daemon.http.json("PUT", path, &put).json()["revision"], before["revision"]);
    let same = json!({ "environment": { "TOKEN": { "secret": value("one") } } });
    let patched = daemon.http.json("PATCH", &format!("{path}/config"), &same).json();
    assert_eq!(patched["revision"], before["revision"]);
    let again = daemon.http.json("POST", &format!("{path}/versions"), &json!({}));
    assert_eq!((again.status, again.json()["version"].clone()), (200, json!("1")));

    // A folder says which variables are secret, and deploying it keeps their values.
    let dir = tempfile::tempdir().unwrap();
    let toml = "[environment]\nTOKEN = { secret = true }\n";
    packages::write(dir.path(), &[("index.js", BACKWARDS), ("hanshu.toml", toml)]);
    let folder = dir.path().to_str().unwrap();
    daemon.cli(&["deploy", folder, "--name", "f"]).ok();
    assert_eq!(daemon.invoke("f", "{}").result()["TOKEN"], backwards("one"));
    let refused = daemon.cli(&["deploy", folder, "--name", "new"]);
    assert!(refused.code == 2 && refused.err.contains("--secret TOKEN=@FILE"), "{refused:?}");
    let file = dir.path().join("token");
    private_file(&file, &value("two"));
    let secret = format!("TOKEN=@{}", file.display());
    daemon.cli(&["deploy", folder, "--name", "new", "--secret", &secret]).ok();
    assert_eq!(daemon.invoke("new", "{}").result()["TOKEN"], backwards("two"));
    daemon.cli(&["config", "set", "new", "--unset", "secret.TOKEN"]).ok();
    assert_eq!(daemon.invoke("new", "{}").result()["TOKEN"], "");
    daemon.cli(&["config", "set", "f", "env.TOKEN=plain now"]).ok();
    assert_eq!(daemon.invoke("f", "{}").result()["TOKEN"], "won nialp");
}

#[test]
fn a_wrong_or_missing_key_stops_the_start_and_breaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let key = dir.path().join("own.key");
    let with =
        |file: &Path| Start::dev().on(&data).set("HANSHU_SECRETS_KEY_FILE", file.to_str().unwrap());
    let mut daemon = with(&key).start();
    with_token(&daemon);
    daemon.stop();
    assert!(!data.join("secrets.key").exists(), "the key is where it was wished");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    let other = dir.path().join("other.key");
    let digits = "0123456789abcdef".repeat(4);
    private_file(&other, &format!("hanshu secrets key 1 {digits}\n"));
    let nonsense = dir.path().join("nonsense");
    private_file(&nonsense, &digits);
    let missing = dir.path().join("missing");
    for (file, part) in
        [(&other, "does not open"), (&nonsense, "not a key file"), (&missing, "missing")]
    {
        let refused = Cli::run(&mut with(file).command(&data));
        assert_ne!(refused.code, 0, "{refused:?}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(refused.err.contains(part) && refused.err.contains(name), "{refused:?}");
        assert!(!refused.err.contains(&digits), "{refused:?}");
    }
    assert!(!missing.exists());
    let refused = Cli::run(&mut Start::dev().command(&data));
    assert!(refused.err.contains("missing") && !data.join("secrets.key").exists(), "{refused:?}");

    let daemon = with(&key).start();
    assert_eq!(daemon.invoke("f", "{}").result()["TOKEN"], backwards("one"));
    assert_eq!(daemon.invoke("f?qualifier=1", "{}").result()["TOKEN"], backwards("one"));
}

/// Changes the stored document of a function as somebody could who may write to the data folder.
fn tamper(data: &Path, key: &str, change: impl FnOnce(&mut Value)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tasks = Tasks::new();
        let store =
            store::open(StoreConfig::at(data), Arc::new(SystemClock), &tasks).await.unwrap();
        let entry = store.meta.get(key).await.unwrap().unwrap();
        let mut document: Value = serde_json::from_slice(&entry.value).unwrap();
        change(&mut document);
        let bytes = document.to_string().into_bytes().into();
        store.meta.put_if(key, Expect::Revision(entry.revision), bytes).await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn a_sealed_secret_opens_in_its_own_place_only() {
    let mut daemon = Daemon::start();
    with_token(&daemon);
    daemon.node("thief", BACKWARDS, &json!({ "environment": { "OTHER": { "secret": "x" } } }));
    daemon.stop();
    let data = daemon.data.clone();
    let mut stolen = Value::Null;
    tamper(&data, "function/default/f", |f| {
        stolen = f["latest"]["config"]["environment"]["TOKEN"].clone();
    });
    assert!(stolen["sealed"]["envelope"].is_string(), "{stolen}");
    tamper(&data, "function/default/thief", |f| {
        f["latest"]["config"]["environment"]["TOKEN"] = stolen.clone();
    });
    let mut daemon = Start::dev().on(&data).start();
    let message = daemon.invoke("thief", "{}").refused(500, "storage-unusable");
    assert!(message.contains("'TOKEN'") && message.contains("thief"), "{message}");
    assert_eq!(daemon.invoke("f", "{}").result()["TOKEN"], backwards("one"));
    // Setting it again heals it.
    let own = json!({ "environment": { "TOKEN": { "secret": value("own") } } });
    let path = "/v1/namespaces/default/functions/thief/config";
    assert_eq!(daemon.http.json("PATCH", path, &own).status, 200);
    assert_eq!(daemon.invoke("thief", "{}").result()["TOKEN"], backwards("own"));
    daemon.stop();
}

#[test]
fn a_passphrase_locks_and_keys_can_be_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let (data, phrase) = (dir.path().join("data"), dir.path().join("passphrase"));
    private_file(&phrase, "correct horse battery staple\n");
    let with =
        |setting: &str, file: &Path| Start::dev().on(&data).set(setting, file.to_str().unwrap());
    let by_phrase = || with("HANSHU_SECRETS_PASSPHRASE_FILE", &phrase);
    let mut daemon = by_phrase().start();
    with_token(&daemon);
    let rotate = |more: &[&str]| {
        let mut args = vec!["secrets", "rotate", "--data", data.to_str().unwrap()];
        args.extend(more);
        let mut command = hanshu(&args);
        command.env("HANSHU_SECRETS_PASSPHRASE_FILE", &phrase);
        Cli::run(&mut command)
    };
    let refused = rotate(&[]);
    assert!(refused.code == 2 && refused.err.contains("in use"), "{refused:?}");
    daemon.stop();

    private_file(&phrase, "wrong horse battery staple\n");
    let refused = Cli::run(&mut by_phrase().command(&data));
    assert!(refused.code != 0 && refused.err.contains("does not open"), "{refused:?}");
    assert!(!refused.err.contains("staple"), "{refused:?}");
    assert_eq!(rotate(&[]).code, 2);
    private_file(&phrase, "correct horse battery staple");
    // $LATEST and version 1; before and after publishing, as the newest change and in the history; and in the history after it was made.
    assert_eq!(rotate(&[]).ok(), "sealed 7 secrets anew\n");
    let mut daemon = by_phrase().start();
    assert_eq!(daemon.invoke("f", "{}").result()["TOKEN"], backwards("one"));
    daemon.stop();

    let key = dir.path().join("new.key");
    let rotated = rotate(&["--new-key-file", key.to_str().unwrap(), "--output", "json"]).json();
    assert_eq!(rotated["resealed"], 7);
    let refused = Cli::run(&mut by_phrase().command(&data));
    assert!(refused.err.contains("with a key file"), "{refused:?}");
    let daemon = with("HANSHU_SECRETS_KEY_FILE", &key).start();
    for target in ["f", "f?qualifier=1"] {
        assert_eq!(daemon.invoke(target, "{}").result()["TOKEN"], backwards("one"));
    }
    // New keys make no new versions.
    let path = "/v1/namespaces/default/functions/f/versions";
    let again = daemon.http.json("POST", path, &json!({}));
    assert_eq!((again.status, again.json()["version"].clone()), (200, json!("1")));
    nothing_on_disk(&data);
}

#[test]
fn rotating_needs_a_data_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("nothing");
    let refused = Cli::run(&mut hanshu(&["secrets", "rotate", "--data", data.to_str().unwrap()]));
    assert!(refused.code == 2 && refused.err.contains("not a data folder"), "{refused:?}");
    assert!(!data.exists());
}
