//! SIGTERM: calls in flight end, new ones are not taken, the daemon ends well.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::Daemon;

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
