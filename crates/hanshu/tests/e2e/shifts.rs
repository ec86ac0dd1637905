//! Shifts of an alias with real functions under load: worse versions are taken back by themselves, good ones take over.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cli, Daemon, Start, eventually, hanshu};

const CALLERS: usize = 4;
/// Counts its calls; version 2 is bad in the way that its environment says once an event tells it to be.
const CODE: &str = "let calls = 0;
exports.handler = async (event) => {
  const bad = event.headers?.['x-bad'] ?? event.bad;
  const nth = bad && ++calls % 20 === 0;
  if (nth && process.env.BAD === 'throw') throw new Error('one in twenty');
  if (nth && process.env.BAD === '503') return { statusCode: 503, body: 'one in twenty' };
  if (bad && process.env.BAD === 'slow') await new Promise((done) => setTimeout(done, 150));
  return { statusCode: 200, body: process.env.AWS_LAMBDA_FUNCTION_VERSION };
};";

/// A daemon with `f`: version 1 is good, version 2 can turn bad; `live` leads to 1.
fn prepared(bad: &str) -> Daemon {
    let daemon = Daemon::start();
    for (release, bad) in [("1", ""), ("2", bad)] {
        daemon.node("f", CODE, &json!({ "environment": { "BAD": bad, "RELEASE": release } }));
        daemon.publish("f");
    }
    daemon.alias("f:live", &json!({ "version": "1" }));
    // Starts are no part of what is compared.
    for version in [1, 2] {
        daemon.invoke(&format!("f?qualifier={version}"), "{}").result();
    }
    daemon
}

/// How the alias is called.
#[derive(Debug, Default)]
struct Load {
    over: AtomicBool,
    bad: AtomicBool,
    calls: AtomicU64,
}

impl Load {
    fn call(&self, daemon: &Daemon, by_url: bool) {
        while !self.over.load(Ordering::Relaxed) {
            let bad = self.bad.load(Ordering::Relaxed);
            if by_url {
                let headers = [("x-bad", "yes")];
                let headers = if bad { &headers[..] } else { &[] };
                daemon.http.send("GET", "/fn/default/f:live/", headers, ());
            } else {
                daemon.invoke("f?qualifier=live", &json!({ "bad": bad }).to_string());
            }
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs `test` while the alias is called.
    fn during<T>(daemon: &Daemon, by_url: bool, test: impl FnOnce(&Self) -> T) -> T {
        let load = Self::default();
        thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| load.call(daemon, by_url));
            }
            // Also when the test fails: the callers would go on for ever.
            let _end = Ender(&load);
            test(&load)
        })
    }
}

struct Ender<'a>(&'a Load);

impl Drop for Ender<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn shift(daemon: &Daemon) -> Option<Value> {
    let path = "/v1/namespaces/default/functions/f/aliases/live";
    daemon.http.get(path).json().get("shift").cloned()
}

fn newest(daemon: &Daemon) -> Value {
    daemon.cli(&["history", "f:live", "--limit", "1", "--output", "json"]).json()[0].clone()
}

fn started(daemon: &Daemon, more: &[&str]) {
    let args = ["alias", "shift", "f:live", "--to", "2", "--every", "2s"];
    daemon.cli(&args.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).ok();
}

/// Starts the shift, lets version 2 turn bad in its second step, and waits until it is taken back; gives how long that took.
fn turned_bad(daemon: &Daemon, load: &Load, more: &[&str]) -> Duration {
    started(daemon, more);
    eventually("the second step", Duration::from_secs(20), || {
        (shift(daemon)?["step"] == 2).then_some(())
    });
    load.bad.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    eventually("it is taken back", Duration::from_secs(20), || {
        shift(daemon).is_none().then_some(())
    });
    begun.elapsed()
}

/// One window, and what asking and looking take.
const WITHIN: Duration = Duration::from_millis(2_900);

#[track_caller]
fn taken_back(daemon: &Daemon, part: &str) {
    let end = newest(daemon);
    assert_eq!((&end["what"], &end["who"]), (&json!("shift-stop"), &json!("hanshu")), "{end}");
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.contains(part), "{reason}");
    let view = daemon.http.get("/v1/namespaces/default/functions/f/aliases/live").json();
    let targets = view["targets"].as_array().unwrap();
    assert_eq!((targets.len(), &targets[0]["version"]), (1, &json!("1")), "{view}");
    for _ in 0..20 {
        assert_eq!(daemon.http.get("/fn/default/f:live/").text(), "1");
    }
}

#[test]
fn a_version_that_fails_five_per_cent_is_taken_back_within_a_window() {
    let daemon = prepared("throw");
    let took = Load::during(&daemon, false, |load| {
        turned_bad(&daemon, load, &["--canary", "40%,60%,100%"])
    });
    assert!(took < WITHIN, "{took:?}");
    taken_back(&daemon, "errors of the new version");
    // A shift counts as one change: there is nothing before it but the alias's making.
    daemon.cli(&["rollback", "f:live"]).ok();
    assert_eq!(daemon.http.get("/fn/default/f:live/").text(), "1");
}

#[test]
fn http_statuses_from_500_count_as_errors() {
    let daemon = prepared("503");
    let took = Load::during(&daemon, true, |load| {
        turned_bad(&daemon, load, &["--canary", "40%,60%,100%", "--stop-if", "errors > 2%"])
    });
    assert!(took < WITHIN, "{took:?}");
    taken_back(&daemon, "errors of the new version");
}

#[test]
fn who_watches_learns_that_it_was_taken_back() {
    let daemon = prepared("slow");
    let watched = Load::during(&daemon, true, |load| {
        load.bad.store(true, Ordering::Relaxed);
        let args = [
            "alias",
            "shift",
            "f:live",
            "--to",
            "2",
            "--every",
            "2s",
            "--canary",
            "50%,100%",
            "--stop-if",
            "p99 > 2x",
            "--stop-if",
            "errors > 50%",
            "--min-calls",
            "10",
            "--watch",
        ];
        daemon.cli(&args)
    });
    assert_eq!(watched.code, 1, "{watched:?}");
    assert!(
        watched.out.starts_with("stopped: the calls of f:live go where they went before"),
        "{watched:?}"
    );
    assert!(watched.out.contains("p99 of the new version"), "{watched:?}");
    taken_back(&daemon, "p99 of the new version");
}

#[test]
fn a_good_version_takes_over() {
    let daemon = prepared("");
    let args = [
        "alias",
        "shift",
        "f:live",
        "--to",
        "2",
        "--every",
        "1s",
        "--canary",
        "10%,50%,100%",
        "--watch",
    ];
    let watched = Load::during(&daemon, true, |load| {
        load.bad.store(true, Ordering::Relaxed);
        daemon.cli(&args)
    });
    assert_eq!(watched.code, 0, "{watched:?}");
    assert_eq!(watched.out.trim(), "done: every call of f:live goes to 2");
    assert!(watched.err.contains("step 1 of 3"), "{watched:?}");
    assert_eq!(daemon.http.get("/fn/default/f:live/").text(), "2");
    let changes = daemon.cli(&["history", "f:live", "--output", "json"]).json();
    let what: Vec<_> =
        changes.as_array().unwrap().iter().map(|c| c["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["shift-done", "shift-step", "shift-step", "shift-start", "create"]);
    // Back to before all of it, by one command.
    daemon.cli(&["rollback", "f:live", "--reason", "not so good"]).ok();
    assert_eq!(daemon.http.get("/fn/default/f:live/").text(), "1");
}

#[test]
fn a_shift_is_shown_and_stopped_by_hand() {
    let daemon = prepared("");
    let none = daemon.cli(&["alias", "shift", "f:live"]).ok();
    assert_eq!(none.trim(), "no shift of f:live is under way; it leads to 1");
    let stop = daemon.cli(&["alias", "shift", "f:live", "--stop"]).refused();
    assert!(stop.contains("does not shift"), "{stop}");
    daemon.cli(&["alias", "shift", "f:live", "--watch"]).refused();
    started(&daemon, &[]);
    let second = daemon.cli(&["alias", "shift", "f:live", "--to", "2"]).refused();
    assert!(second.contains("already") && second.contains("hint: "), "{second}");
    let refused = daemon.cli(&["versions", "delete", "f:1", "--yes"]).refused();
    assert!(refused.contains("'live'"), "where it goes back to is in use: {refused}");
    let shown = daemon.cli(&["alias", "shift", "f:live"]).ok();
    for part in ["to 2: 5%, step 1 of 3", "stop if      errors > 1%", "new  ", "old  "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let stopped =
        daemon.cli(&["alias", "shift", "f:live", "--stop", "--reason", "changed my mind"]).ok();
    assert_eq!(stopped.trim(), "stopped; f:live: 1");
    let end = newest(&daemon);
    assert_eq!((&end["what"], &end["reason"]), (&json!("shift-stop"), &json!("changed my mind")));
}

#[test]
fn a_shift_and_who_watches_it_survive_a_kill() {
    let mut daemon = prepared("");
    let (data, address) = (daemon.data.clone(), daemon.url().replace("http://", ""));
    let args = [
        "alias", "shift", "f:live", "--to", "2", "--every", "2s", "--canary", "10%,100%", "--watch",
    ];
    let mut watching = daemon.command(&args);
    let watching = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the shift begins", Duration::from_secs(20), || shift(&daemon));
    // Whoever asked for it has the answer, and only watches.
    thread::sleep(Duration::from_millis(500));
    daemon.kill();
    let serve = ["serve", "--dev", "--listen", &address, "--data", data.to_str().unwrap()];
    let daemon = Start::by(hanshu(&serve), &data);
    let watched = Cli::from(watching.wait_with_output().unwrap());
    assert_eq!(watched.code, 0, "{watched:?}");
    assert_eq!(watched.out.trim(), "done: every call of f:live goes to 2");
    assert_eq!(newest(&daemon)["what"], "shift-done");
    assert_eq!(daemon.http.get("/fn/default/f:live/").text(), "2");
}
