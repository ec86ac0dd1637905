//! `hanshu doctor`, the same table in `/v1/health` and in the log, and a daemon that insists on it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Cli, Daemon, HANSHU, Start, hanshu};

/// A user without rights: a number that no account of the machine has.
const ORDINARY_USER: u32 = 59_872;
/// Where that user finds runtimes.
const ORDINARY_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A command of the binary as an ordinary user, in a folder of that user's own.
fn as_ordinary_user(home: &TempDir, args: &[&str]) -> Command {
    let copy = home.path().join("hanshu");
    fs::copy(HANSHU, &copy).unwrap();
    for path in [home.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        chown(path, Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
    }
    let id = ORDINARY_USER.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(&copy).args(args);
    command.current_dir(home.path()).env_clear();
    command.env("PATH", ORDINARY_PATH).env("TMPDIR", home.path());
    command
}

fn local(data: &Path) -> Command {
    let data = data.to_str().unwrap();
    hanshu(&["doctor", "--local", "--listen", "127.0.0.1:0", "--output", "json", "--data", data])
}

/// What a doctor printed, once its exit code and its list of what is missing are known to follow from its table.
#[track_caller]
fn findings(run: &Cli) -> Value {
    let found: Value = serde_json::from_str(&run.out).unwrap_or_else(|e| panic!("{e}: {run:?}"));
    let lacking = |needs: &[&str]| -> Vec<&Value> {
        let features = found["features"].as_array().unwrap().iter();
        let lacks =
            |f: &&Value| f["available"] == false && needs.contains(&f["need"].as_str().unwrap());
        features.filter(lacks).map(|f| &f["name"]).collect()
    };
    assert_eq!(found["missing"], json!(lacking(&["isolation", "service"])));
    assert_eq!(found["full"], lacking(&["isolation"]).is_empty());
    let complete = found["missing"] == json!([]);
    assert_eq!(run.code, if complete { 0 } else { 3 }, "{run:?}");
    found
}

#[track_caller]
fn feature<'a>(found: &'a Value, name: &str) -> &'a Value {
    let feature = found["features"].as_array().unwrap().iter().find(|f| f["name"] == name);
    feature.unwrap_or_else(|| panic!("no {name} in {found}"))
}

#[test]
fn every_feature_says_what_was_found_and_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let found = findings(&Cli::run(&mut local(&dir.path().join("data"))));
    assert_eq!(found["daemon"], Value::Null);
    for name in [
        "user-namespaces",
        "namespaces",
        "pidfd",
        "users",
        "seccomp",
        "landlock",
        "memory",
        "processes",
        "cpu",
        "clone-into-cgroup",
        "zygote",
        "runtimes",
        "network",
        "data-folder",
        "descriptors",
        "port",
    ] {
        let feature = feature(&found, name);
        for key in ["detail", "lost"] {
            assert!(!feature[key].as_str().unwrap().is_empty(), "{key}: {feature}");
        }
    }
    // What these tests could not run without.
    for name in
        ["user-namespaces", "namespaces", "pidfd", "users", "runtimes", "data-folder", "port"]
    {
        assert_eq!(feature(&found, name)["available"], true, "{found}");
    }
    let runtimes = feature(&found, "runtimes")["detail"].as_str().unwrap();
    assert!(
        runtimes.contains("nodejs20 (20.") && runtimes.contains("python3.11 (3.11."),
        "{runtimes}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the doctor leaves nothing behind");
}

#[test]
fn the_table_is_for_people_and_the_exit_code_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let args = ["doctor", "--local", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let run = Cli::run(hanshu(&args).env("HANSHU_SANDBOX_PATH", "/nonexistent"));
    assert_eq!(run.code, 3, "{run:?}");
    for part in ["FEATURE", "AVAILABLE", "LOST WITHOUT IT", "control group", "full isolation: "] {
        assert!(run.out.contains(part), "{part}: {run:?}");
    }
    let line = run.out.lines().find(|l| l.starts_with("runtimes")).unwrap();
    assert!(line.contains(" no ") && line.contains("/nonexistent"), "{line}");
    let last = run.out.lines().last().unwrap();
    assert!(last.contains("missing: ") && last.contains("runtimes"), "{last}");
    assert!(run.err.contains("examined here, as root"), "{run:?}");
}

#[test]
fn a_taken_port_and_a_bad_data_folder_are_found() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    // It is asked whether it is a daemon, and hangs up.
    let stranger = taken.try_clone().unwrap();
    drop(std::thread::spawn(move || drop(stranger.accept())));
    let data = file.join("data");
    let args = [
        "doctor",
        "--local",
        "--output",
        "json",
        "--listen",
        &listen,
        "--data",
        data.to_str().unwrap(),
    ];
    let found = findings(&Cli::run(&mut hanshu(&args)));
    for name in ["data-folder", "port"] {
        assert!(found["missing"].as_array().unwrap().contains(&json!(name)), "{name}: {found}");
    }
    drop(taken);
}

#[test]
fn an_ordinary_user_is_told_what_only_root_gets() {
    let home = tempfile::tempdir().unwrap();
    let args = ["doctor", "--local", "--listen", "127.0.0.1:0", "--output", "json"];
    let run = Cli::run(&mut as_ordinary_user(&home, &args));
    let found = findings(&run);
    assert_eq!(run.code, 3, "{run:?}");
    let users = feature(&found, "users");
    assert_eq!((&users["available"], &users["need"]), (&json!(false), &json!("isolation")));
    assert_eq!(feature(&found, "data-folder")["available"], true, "{found}");
}

#[test]
fn a_running_daemon_is_asked_when_it_is_named_or_found() {
    let daemon = Daemon::start();
    let health = daemon.http.get("/v1/health").json();
    let named = findings(&daemon.cli(&["doctor", "--output", "json"]));
    assert_eq!(named["daemon"], daemon.url());
    assert_eq!(named["features"], health["isolation"]["features"]);
    assert_eq!(named["full"], health["isolation"]["full"]);
    assert_eq!(feature(&named, "data-folder")["available"], true, "{named}");
    let told = health.to_string();
    assert!(!told.contains(daemon.data.to_str().unwrap()), "paths are nobody's business: {told}");

    let listen = daemon.url().strip_prefix("http://").unwrap();
    let args = ["doctor", "--output", "json", "--listen", listen];
    let found = findings(&Cli::run(&mut hanshu(&args)));
    assert_eq!(found["daemon"], daemon.url());
    let here = findings(&Cli::run(hanshu(&args).arg("--local")));
    assert_eq!(here["daemon"], Value::Null);
    assert!(feature(&here, "port")["detail"].as_str().unwrap().contains("daemon"), "{here}");

    let nobody = Cli::run(&mut hanshu(&["doctor", "--url", "http://127.0.0.1:1"]));
    assert_eq!(nobody.code, 2, "{nobody:?}");
}

#[test]
fn a_daemon_that_requires_full_isolation_starts_only_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let full = findings(&Cli::run(&mut local(&dir.path().join("probe"))))["full"] == true;
    if full {
        Start::dev().set("HANSHU_SANDBOX_REQUIRE_ISOLATION", "full").start().stop();
    } else {
        let mut serve = Start::dev().command(&dir.path().join("data"));
        let refused = Cli::run(serve.args(["--require-isolation", "full"]));
        assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{refused:?}");
    }
    // Without host users of their own it is never full, whatever the kernel has.
    let home = tempfile::tempdir().unwrap();
    let args = ["serve", "--dev", "--listen", "127.0.0.1:0", "--require-isolation", "full"];
    let refused = Cli::run(&mut as_ordinary_user(&home, &args));
    assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{refused:?}");
    let error = refused.err.lines().find(|l| l.starts_with("error: ")).unwrap();
    assert!(error.contains("full isolation") && error.contains("users (all instances"), "{error}");
    assert!(refused.err.contains("hint: `hanshu doctor --local`"), "{refused:?}");
    let line = refused.err.lines().find(|l| l.contains("WARN") && l.contains("feature=\"users\""));
    assert!(
        line.is_some_and(|l| l.contains("missing on this host") && l.contains("lost=")),
        "{refused:?}"
    );

    let bad = Cli::run(&mut hanshu(&["serve", "--require-isolation", "most"]));
    assert_eq!(bad.code, 2, "{bad:?}");
    assert!(bad.err.contains("--require-isolation") && bad.err.contains("any, full"), "{bad:?}");
}
