//! A daemon that is killed: what is left of it at once, and after the next one has started.
//!
//! The daemon is this program again ([`run_if_daemon`]): it starts an instance, says so, and waits.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use model::tasks::Tasks;

use crate::processes::{children, eventually, image_in, own_groups};
use crate::support::{World, open};
use crate::{Place, Test};

/// The first argument that makes this program a daemon; the second is its cache folder.
const ARGUMENT: &str = "__daemon";
/// What it says when its instance runs.
const UP: &str = "up";

/// Is the daemon of [`tests`], if the arguments say so; returns whether it was. A test that fails leaves it to end by itself.
pub(crate) fn run_if_daemon(arguments: &[String]) -> bool {
    let [first, cache] = arguments else { return false };
    if first != ARGUMENT {
        return false;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = open(Path::new(cache), Arc::default(), Tasks::new()).await;
        let _instance = image_in(&sandbox).await.start().await.unwrap();
        println!("{UP}");
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    true
}

pub(crate) fn tests() -> Vec<Test> {
    vec![Test {
        name: "daemon::a_killed_daemon_leaves_nothing_that_the_next_does_not_clear".into(),
        place: Place::Shared,
        run: Box::new(|world| Box::pin(killed_daemon(world))),
    }]
}

#[expect(clippy::disallowed_methods, reason = "a daemon to be killed")]
fn daemon(cache: &Path) -> Child {
    let mut daemon = Command::new("/proc/self/exe")
        .arg(ARGUMENT)
        .arg(cache)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), UP);
    daemon
}

/// All descendants of a process.
fn descendants(pid: &str) -> Vec<String> {
    let mut all = children(pid);
    for child in children(pid) {
        all.extend(descendants(&child));
    }
    all
}

/// Control groups that daemon `pid` made.
fn groups_of(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("hanshu-{pid}-");
    let entries = own_groups().into_iter().filter_map(|own| fs::read_dir(own).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    paths.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(&prefix)).collect()
}

async fn killed_daemon(world: Arc<World>) {
    let cache = world.folder.path().join("other");
    let mut daemon = daemon(&cache);
    let left = descendants(&daemon.id().to_string());
    // The spawner, pid 1 of the instance, the runtime; and what makes networks ahead, where there is such.
    let ahead = usize::from(rustix::process::geteuid().is_root());
    assert_eq!(left.len(), 3 + ahead, "{left:?}");
    let limited = world.sandbox.isolation().has("memory");
    assert_eq!(groups_of(daemon.id()).is_empty(), !limited);
    let half = cache.join("drafts/half");
    fs::create_dir(&half).unwrap();

    daemon.kill().unwrap();
    daemon.wait().unwrap();
    eventually("every process of the daemon is gone", || {
        left.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    })
    .await;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(cache.to_str().unwrap()), "{mounts}");

    // Empty control groups are all that stays, for nobody was there to remove them.
    let tasks = Tasks::new();
    let next = open(&cache, Arc::default(), tasks.clone()).await;
    assert_eq!(groups_of(daemon.id()), Vec::<PathBuf>::new());
    assert!(!half.exists());
    image_in(&next).await.start().await.unwrap().stop().await;
    drop(next);
    assert_eq!(tasks.drain(Duration::from_secs(10)).await, 0);
}
