//! A full disk: what does not fit is refused whole, nothing is half written, and all is well once there is space.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::http::Reply;
use crate::harness::{Daemon, Start, packages};

const DISK_MIB: usize = 64;
const BALLAST_MIB: usize = 24;
/// Of each package that fills the disk.
const PACKAGE_BYTES: usize = 3 << 20;

/// A small disk in memory, with a file on it that can be removed to make space.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = std::ffi::CString::new(format!("size={DISK_MIB}m,mode=0755")).unwrap();
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(size.as_c_str()))
            .expect("mounting a tmpfs needs root: run the end-to-end tests as root");
        fs::write(dir.path().join("ballast"), vec![1; BALLAST_MIB << 20]).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon that is still ending holds files open.
        unmount(self.path(), UnmountFlags::DETACH).unwrap_or_default();
    }
}

fn deploy(daemon: &Daemon, n: usize) -> Reply {
    let zip = packages::incompressible(PACKAGE_BYTES, n as u64 + 1);
    let uploaded = daemon.http.upload(&zip);
    if uploaded.status != 201 {
        return uploaded;
    }
    let body = json!({
        "config": { "runtime": "nodejs20", "handler": "index.handler" },
        "code": uploaded.json()["digest"],
    });
    daemon.http.json("PUT", &format!("/v1/namespaces/default/functions/f{n}"), &body)
}

fn names(daemon: &Daemon) -> Vec<String> {
    let page = daemon.http.get("/v1/namespaces/default/functions").json();
    let name = |f: &Value| f["name"].as_str().unwrap().to_owned();
    page["items"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let disk = SmallDisk::mount();
    let data = disk.path().join("data");
    let mut daemon = Start::dev().on(&data).start();
    let mut acknowledged = Vec::new();
    let refused = (0..100).find_map(|n| {
        let reply = deploy(&daemon, n);
        if [200, 201].contains(&reply.status) {
            acknowledged.push(format!("f{n}"));
            return None;
        }
        Some(reply)
    });
    let refused = refused.expect("the disk never filled");
    let message = refused.refused(507, "storage-full");
    assert!(message.contains("full") || message.contains("space"), "{message}");
    assert!(!acknowledged.is_empty(), "not even one fitted");

    // It refuses again, serves what it has, and shows exactly what it acknowledged.
    deploy(&daemon, 200).refused(507, "storage-full");
    assert_eq!(daemon.http.get("/v1/health").status, 200);
    acknowledged.sort();
    assert_eq!(names(&daemon), acknowledged);
    let first = acknowledged.first().unwrap();
    assert_eq!(daemon.invoke(first, "{}").result(), json!(1));
    let unreadable = daemon.http.get(&format!("/v1/namespaces/default/functions/{first}/code"));
    assert_eq!(unreadable.status, 200, "{}", unreadable.text());

    // A restart on the full disk finds the same.
    daemon.kill();
    let daemon = Start::dev().on(&data).start();
    assert_eq!(names(&daemon), acknowledged);

    // With space again, so it goes on.
    fs::remove_file(disk.path().join("ballast")).unwrap();
    let reply = deploy(&daemon, 300);
    assert!([200, 201].contains(&reply.status), "{}", reply.text());
    assert_eq!(daemon.invoke("f300", "{}").result(), json!(1));
}

/// Calls come, and none runs, until the disk is full. Every one that was accepted runs, while new ones are refused; then there is room again.
#[test]
fn accepted_calls_end_on_a_full_disk() {
    const EVENT_BYTES: usize = 1_000_000;
    let disk = SmallDisk::mount();
    let daemon = Start::dev().on(&disk.path().join("data")).start();
    daemon.node("slow", "exports.handler = async (e) => e.length;", &json!({}));
    daemon.cli(&["config", "set", "slow", "max_instances=0"]).ok();
    // Takes three quarters of its size, compressed.
    let noise = packages::incompressible(EVENT_BYTES, 7);
    let text: String = noise.iter().take(EVENT_BYTES).map(|b| char::from(b'0' + b % 64)).collect();
    let event = serde_json::to_string(&text).unwrap();
    let enqueue =
        || daemon.http.invoke("slow", event.as_bytes(), &[("x-hanshu-invocation", "async")]);
    let mut accepted = Vec::new();
    let refused = (0..200).find_map(|_| {
        let reply = enqueue();
        if reply.status == 202 {
            accepted.push(reply.json()["request_id"].as_str().unwrap().to_owned());
            return None;
        }
        Some(reply)
    });
    let message = refused.expect("the disk never filled").refused(507, "storage-full");
    assert!(message.contains("accepted already"), "{message}");
    assert!(accepted.len() > 3, "{}", accepted.len());
    daemon.cli(&["config", "set", "slow", "max_instances=2"]).ok();
    for id in &accepted {
        let call = daemon.http.get(&format!("/v1/namespaces/default/calls/{id}?wait=60")).json();
        assert_eq!(call["state"], "succeeded", "{call}");
        assert_eq!(call["result"], json!(EVENT_BYTES), "{call}");
    }
    assert_eq!(enqueue().status, 202);
}
