//! `kill -9` of a daemon with everything alive that it starts of its own accord: instances that wait for a function, that are provisioned, that stand
//! still, busy ones, with networks and without. Nothing of them is left, and the next daemon is as good as new.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Daemon, Start, eventually};

/// How long something may take that happens in the background, on a machine that builds at the same time.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long what was killed may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// A timer and a child process, neither of which wants to end.
const RESTLESS: &str = "
const { spawn } = require('child_process');
spawn('/bin/sh', ['-c', 'while :; do :; done'], { detached: true, stdio: 'ignore' });
setInterval(() => {}, 1);
exports.handler = async (event) => event === 'stay' ? new Promise(() => {}) : 'here';
";
const PLAIN: &str = "def handler(event, context): return 'here'\n";

#[test]
fn a_killed_daemon_leaves_nothing_of_what_it_had_started() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for and_spawner in [false, true] {
        let mut daemon = Start::dev().on(&data).start();
        occupy(&daemon);
        let left = Left::of(&daemon);
        if and_spawner {
            // Both at once, as where the host's memory runs out: nobody is left to tell instances.
            daemon.signal(Signal::STOP);
            left.spawners.iter().for_each(|pid| kill(pid));
        }
        daemon.kill();
        left.assert_is_gone(&data);

        let mut next = Start::dev().on(&data).start();
        assert_eq!(left.groups(), Vec::<PathBuf>::new());
        for name in ["restless", "plain"] {
            assert_eq!(next.http.invoke(name, b"{}", &[]).result(), "here");
        }
        eventually("provisioned instances are there again", PATIENCE, || ready(&next, 2));
        next.stop();
    }
}

/// Has one of everything.
fn occupy(daemon: &Daemon) {
    daemon.node("restless", RESTLESS, &Value::Null);
    daemon.python("plain", PLAIN, &Value::Null);
    daemon.python("linked", PLAIN, &json!({"network": "egress"}));
    daemon.cli(&["provision", "plain", "2"]).ok();
    for name in ["restless", "plain", "linked"] {
        assert_eq!(daemon.http.invoke(name, b"{}", &[]).result(), "here");
    }
    eventually("provisioned instances are there", PATIENCE, || ready(daemon, 2));
    let health = |part: &str, of: &str| {
        daemon.http.get("/v1/health").json()[part][of].as_u64().unwrap_or_default()
    };
    eventually("all that is idle stands still", PATIENCE, || {
        let (idle, frozen) = (health("instances", "idle"), health("instances", "frozen"));
        (idle >= 4 && frozen == idle).then_some(())
    });
    eventually("some wait for a function", PATIENCE, || {
        (health("starts", "ready") >= 2).then_some(())
    });
    // One that is busy, and one that goes on after it stood still.
    let http = daemon.http.clone();
    std::thread::spawn(move || http.try_send("POST", "/fn/default/restless/", &[], "\"stay\""));
    assert_eq!(daemon.http.invoke("plain", b"{}", &[]).result(), "here");
}

fn ready(daemon: &Daemon, wanted: u64) -> Option<()> {
    let path = "/v1/namespaces/default/functions/plain/provisioned/$LATEST";
    (daemon.http.get(path).json()["ready"] == wanted).then_some(())
}

fn kill(pid: &str) {
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// What a daemon has on the host.
struct Left {
    daemon: u32,
    spawners: Vec<String>,
    processes: BTreeSet<String>,
}

impl Left {
    fn of(daemon: &Daemon) -> Self {
        let id = daemon.id();
        let processes: BTreeSet<String> = below(&id.to_string()).into_iter().collect();
        let left = Self { daemon: id, spawners: children(&id.to_string()), processes };
        // The spawner, its maker of networks, and of each of six instances at least its first process and its runtime; one has a child.
        assert!(left.processes.len() >= 15, "{:?}", left.processes);
        assert!(!left.groups().is_empty());
        assert!(left.members().len() >= 6 * 2, "{:?}", left.members());
        left
    }

    /// Processes in its control groups: whoever is in a namespace or a root of an instance is, also if it was started a moment ago.
    fn members(&self) -> Vec<String> {
        let group = format!("/hanshu-{}-", self.daemon);
        let all = fs::read_dir("/proc").unwrap().flatten();
        let all = all.map(|entry| entry.file_name().into_string().unwrap());
        all.filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
            .filter(|pid| {
                let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                groups.contains(&group)
            })
            .collect()
    }

    /// Control groups that the daemon made.
    fn groups(&self) -> Vec<PathBuf> {
        let prefix = format!("hanshu-{}-", self.daemon);
        let mut found = Vec::new();
        let mut folders = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    found.push(entry.path());
                } else if depth < 4 {
                    folders.push((entry.path(), depth + 1));
                }
            }
        }
        found
    }

    fn assert_is_gone(&self, data: &Path) {
        eventually("every process is gone", END_PATIENCE, || {
            self.processes.iter().all(|pid| !alive(pid)).then_some(())
        });
        eventually("no process of an instance is left", END_PATIENCE, || {
            self.members().is_empty().then_some(())
        });
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(data.to_str().unwrap()), "{mounts}");
    }
}

fn alive(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

fn children(pid: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn below(pid: &str) -> Vec<String> {
    let own = children(pid);
    let further: Vec<String> = own.iter().flat_map(|pid| below(pid)).collect();
    own.into_iter().chain(further).collect()
}
