//! SIGTERM: calls in flight end, new ones are not taken, the daemon ends well.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Daemon, Start};
use crate::wasm;

#[test]
fn sigterm_lets_a_running_call_end() {
    let mut daemon = Daemon::start();
    let code = "exports.handler = async () => { await new Promise(r => setTimeout(r, 3000)); return 'in time'; };";
    daemon.node("slow", code, &json!({}));
    let http = daemon.http.clone();
    let call = thread::spawn(move || http.invoke("slow", b"{}", &[]));
    thread::sleep(Duration::from_millis(1_000));
    daemon.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(300));
    let refused = daemon.http.try_send("GET", "/v1/namespaces", &[], ());
    assert!(refused.is_err() || refused.is_ok_and(|r| r.status == 503), "new work was taken");
    assert_eq!(call.join().unwrap().result(), json!("in time"));
    let status = daemon.ended();
    assert!(status.success(), "{status}");
}

/// A call that takes longer than the daemon waits is ended, and whoever waits for it learns why; nothing of the daemon stays on the host.
#[test]
fn a_call_that_outlasts_the_grace_is_ended_and_its_caller_is_told() {
    let mut daemon = Start::dev().set("HANSHU_SERVER_GRACE_SECONDS", "1").start();
    let code = "exports.handler = async () => { await new Promise(r => setTimeout(r, 600_000)); };";
    daemon.node("endless", code, &json!({"timeout_ms": 900_000}));
    wasm::deploy(&daemon, &wasm::component(), "computes", "900s");
    let pid = daemon.id();
    let calls = [("endless", "{}"), ("computes", r#"{"op":"busy"}"#)].map(|(name, event)| {
        let http = daemon.http.clone();
        thread::spawn(move || http.invoke(name, event.as_bytes(), &[]))
    });
    thread::sleep(Duration::from_millis(1_000));
    assert!(!groups_of(pid, Path::new("/sys/fs/cgroup")).is_empty(), "no control group is found");
    daemon.signal(Signal::TERM);
    for call in calls {
        let reply = call.join().unwrap();
        let told = (reply.status, reply.json()["error"]["code"].as_str().map(str::to_owned));
        assert_eq!(told, (503, Some("unavailable".into())), "{reply:?}");
    }
    assert!(daemon.ended().success());
    assert_eq!(groups_of(pid, Path::new("/sys/fs/cgroup")), Vec::<PathBuf>::new());
}

/// Control groups of a daemon, at any depth.
fn groups_of(pid: u32, folder: &Path) -> Vec<PathBuf> {
    let own = format!("hanshu-{pid}-");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink());
    let found = folders.flat_map(|path| {
        let is_own = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&own));
        if is_own { vec![path] } else { groups_of(pid, &path) }
    });
    found.collect()
}

#[test]
fn an_idle_daemon_ends_at_once_by_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start();
        daemon.node("idle", "exports.handler = async () => process.pid;", &json!({}));
        daemon.invoke("idle", "{}").result();
        let start = std::time::Instant::now();
        daemon.signal(signal);
        assert!(daemon.ended().success());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}
