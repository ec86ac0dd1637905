//! Programs with files, and instances that serve many calls: what they have, and what they leave.

use std::time::Duration;

use model::function::Version;
use model::invocation::{FailureKind, Outcome};
use model::ports::{Instance, Sandbox as _, StartFailed};
use model::{Code, Error};
use sandbox::Sandboxes;
use serde_json::{Value, json};

use super::guests::Guest;
use super::run::{AMPLE, command, sandboxes, start, told, version};
use crate::processes::children;
use crate::support::{self, World, invocation, zip_of};
use crate::{Place, Test};

pub(super) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("wasm-files::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        files_are_there_on_request,
        files_are_bounded_and_of_one_call,
        links_lead_nowhere,
        what_makes_folders_may_end,
        an_instance_serves_as_many_calls_as_it_is_told,
        an_instance_ends_with_a_trap_and_at_the_deadline,
        an_instance_that_does_not_answer_holds_nobody_up,
        what_no_program_can_have_is_refused,
    ]
}

async fn with_files(sandbox: &Sandboxes, guest: Guest) -> Version {
    let package = zip_of(&[("guest.wasm", guest.wasm()), ("data/words.txt", b"some words")]);
    let mut version = version(sandbox, package, 64).await;
    version.config.files = Some(true);
    version
}

async fn call(instance: &mut dyn Instance, event: &Value) -> Outcome {
    support::run(instance, &invocation(event.to_string(), AMPLE)).await
}

async fn answer(instance: &mut dyn Instance, event: Value) -> Value {
    let outcome = call(instance, &event).await;
    serde_json::from_slice(&outcome.result.expect("it answers")).unwrap()
}

async fn refused(instance: &mut dyn Instance, event: Value) -> String {
    let (kind, words) = told(call(instance, &event).await);
    assert_eq!(kind, FailureKind::Handler, "{words}");
    words
}

async fn files_are_there_on_request(world: &World) {
    let sandbox = sandboxes(world).await;
    for guest in [Guest::Command, Guest::Run, Guest::Component] {
        let version = with_files(&sandbox, guest).await;
        let mut instance = start(&sandbox, version).await.unwrap();
        let read = json!({"op": "read", "path": "/var/task/data/words.txt"});
        assert_eq!(answer(&mut *instance, read.clone()).await, "some words");
        assert_eq!(answer(&mut *instance, json!({"op": "list", "path": "/tmp"})).await, json!([]));
        for path in ["/var/task/data/words.txt", "/var/task/new"] {
            refused(&mut *instance, json!({"op": "write", "path": path, "text": "x"})).await;
        }
        for path in ["/", "/etc/hostname", "/var/task/../../etc/hostname", "/tmp/../etc/hostname"] {
            refused(&mut *instance, json!({"op": "read", "path": path})).await;
        }
        assert_eq!(answer(&mut *instance, read.clone()).await, "some words", "it is as it was");
        let mut without = with_files(&sandbox, guest).await;
        without.config.files = None;
        let mut instance = start(&sandbox, without).await.unwrap();
        refused(&mut *instance, read).await;
    }
}

async fn files_are_bounded_and_of_one_call(world: &World) {
    let sandbox = sandboxes(world).await;
    for guest in [Guest::Command, Guest::Component] {
        let mut version = with_files(&sandbox, guest).await;
        version.config.tmp_mb = 3;
        let mut instance = start(&sandbox, version).await.unwrap();
        for _ in 0..2 {
            // All of it, each time: nothing is left of the call before.
            let filled = answer(&mut *instance, json!({"op": "fill", "path": "/tmp/a"})).await;
            let bytes = filled.as_u64().unwrap();
            assert!((2 << 20..=3 << 20).contains(&bytes), "{bytes} bytes");
        }
        let made = answer(&mut *instance, json!({"op": "litter"})).await.as_u64().unwrap();
        assert!((1_000..=8_192).contains(&made), "{made} files");
        // As many as are open at once end at a limit, and then the call may end in any way but one that costs others.
        let outcome = call(&mut *instance, &json!({"op": "descriptors"})).await;
        if let Ok(opened) = outcome.result {
            let opened: u64 = serde_json::from_slice(&opened).unwrap();
            assert!((32..=128).contains(&opened), "{opened} files are open at once");
        }
        assert!(descriptors() < 400, "{} descriptors are left", descriptors());
    }
}

/// Descriptors that this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn links_lead_nowhere(world: &World) {
    let sandbox = sandboxes(world).await;
    let secret = world.folder.path().join("out-of-reach");
    std::fs::write(&secret, "the daemon's").unwrap();
    let up = format!("../../../../../..{}", secret.display());
    for guest in [Guest::Command, Guest::Component] {
        let version = with_files(&sandbox, guest).await;
        let mut instance = start(&sandbox, version).await.unwrap();
        for to in [secret.to_str().unwrap(), &up, "/proc/self/environ", "/etc/passwd"] {
            let link = json!({"op": "link", "to": to, "path": "/tmp/link"});
            let words = refused(&mut *instance, link).await;
            assert!(!words.contains("the daemon's"), "{words}");
        }
    }
}

async fn what_makes_folders_may_end(world: &World) {
    let sandbox = sandboxes(world).await;
    let version = with_files(&sandbox, Guest::Command).await;
    let mut instance = start(&sandbox, version).await.unwrap();
    let list = json!({"op": "list", "path": "/tmp"});
    assert_eq!(answer(&mut *instance, list.clone()).await, json!([]));
    let makers = makers();
    assert!(!makers.is_empty());
    for pid in makers {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert_eq!(answer(&mut *instance, list).await, json!([]));
    assert_eq!(self::makers().len(), 1, "those that ended are reaped");
}

/// The processes that make folders for this one.
fn makers() -> Vec<String> {
    let line = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
    let makes = |pid: &String| line(pid).is_ok_and(|line| line.contains("__sandbox-scratch"));
    children("self").into_iter().filter(makes).collect()
}

async fn serving(sandbox: &Sandboxes, calls: u32) -> Box<dyn Instance> {
    let mut version = with_files(sandbox, Guest::Component).await;
    version.config.instance_calls = Some(calls);
    start(sandbox, version).await.unwrap()
}

async fn an_instance_serves_as_many_calls_as_it_is_told(world: &World) {
    let sandbox = sandboxes(world).await;
    let mut instance = serving(&sandbox, 3).await;
    let mut served = Vec::new();
    for _ in 0..7 {
        served.push(answer(&mut *instance, json!({"op": "count"})).await);
    }
    assert_eq!(served, [1, 2, 3, 1, 2, 3, 1]);
    // Files are the instance's.
    let mut instance = serving(&sandbox, 100).await;
    answer(&mut *instance, json!({"op": "write", "path": "/tmp/a", "text": "kept"})).await;
    assert_eq!(answer(&mut *instance, json!({"op": "read", "path": "/tmp/a"})).await, "kept");
    // An error of the function's own ends nothing, nor does a long answer.
    refused(&mut *instance, json!({"op": "throw", "text": "no"})).await;
    let big = answer(&mut *instance, json!({"op": "big", "bytes": 3 << 20})).await;
    assert_eq!(big.as_str().unwrap().len(), 3 << 20);
    assert_eq!(answer(&mut *instance, json!({"op": "count"})).await, 1);
    // Nobody else has it.
    let mut other = serving(&sandbox, 100).await;
    assert_eq!(answer(&mut *other, json!({"op": "count"})).await, 1);
    assert_eq!(answer(&mut *other, json!({"op": "list", "path": "/tmp"})).await, json!([]));
    assert_eq!(answer(&mut *instance, json!({"op": "count"})).await, 2);
}

async fn an_instance_ends_with_a_trap_and_at_the_deadline(world: &World) {
    let sandbox = sandboxes(world).await;
    let mut instance = serving(&sandbox, 100).await;
    assert_eq!(answer(&mut *instance, json!({"op": "count"})).await, 1);
    let (kind, _) = told(call(&mut *instance, &json!({"op": "exit", "code": 1})).await);
    assert_eq!(kind, FailureKind::Exited);
    assert!(!instance.alive(), "it serves nobody any more");
    let mut instance = serving(&sandbox, 100).await;
    assert_eq!(answer(&mut *instance, json!({"op": "count"})).await, 1);
    let busy = invocation(json!({"op": "busy"}).to_string(), Duration::from_millis(200));
    let (kind, _) = told(support::run(&mut *instance, &busy).await);
    assert_eq!(kind, FailureKind::Timeout);
    assert!(!instance.alive());
    // What an instance holds it has until it ends.
    let mut instance = serving(&sandbox, 100).await;
    let (kind, words) = told(call(&mut *instance, &json!({"op": "memory"})).await);
    assert_eq!(kind, FailureKind::MemoryExceeded, "{words}");
    assert!(!instance.alive());
}

async fn an_instance_that_does_not_answer_holds_nobody_up(world: &World) {
    let sandbox = sandboxes(world).await;
    for path in ["/nothing", "/unfinished"] {
        let mut instance = serving(&sandbox, 100).await;
        let event = json!({
            "version": "2.0", "rawPath": path, "requestContext": {"http": {"method": "GET"}},
        });
        let (kind, words) = told(call(&mut *instance, &event).await);
        assert_eq!(kind, FailureKind::Protocol, "{words}");
    }
}

async fn what_no_program_can_have_is_refused(world: &World) {
    let sandbox = sandboxes(world).await;
    let refused = async |version: &Version| match sandbox.check_code(version).await {
        Err(StartFailed::Platform(e)) => {
            assert_eq!(Error::code(&e), Code::Unsupported);
            e.message().to_owned()
        }
        other => panic!("{other:?}"),
    };
    let mut module = version(&sandbox, command("nop"), 64).await;
    module.config.network = model::network::NetworkMode::Egress.into();
    assert!(refused(&module).await.contains("network egress"));
    let mut module = version(&sandbox, Guest::Run.package(), 64).await;
    module.config.instance_calls = Some(2);
    assert!(refused(&module).await.contains("instance_calls 2"));
    let mut component = version(&sandbox, Guest::Component.package(), 64).await;
    let policy = json!({"mode": "egress", "bandwidth": "1MB"});
    component.config.network = serde_json::from_value(policy).unwrap();
    assert!(refused(&component).await.contains("bandwidth"));
}
