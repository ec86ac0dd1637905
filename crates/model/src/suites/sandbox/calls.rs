//! Calls, errors, logs, packages.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{Kit, answer, assert_failure, call, fails, start};
use crate::error::Code;
use crate::invocation::{FailureKind, StartPath};
use crate::ports::{LogStream, StartFailed};

pub(super) async fn echoes(kit: &Kit) {
    let mut instance = kit.start().await;
    let timings = instance.start_timings();
    let executed = timings.path != StartPath::PreStarted;
    assert!(timings.sandbox_us > 0 && (timings.runtime_us > 0) == executed, "{timings:?}");
    for value in [json!({"a": [1, "ä\u{0}\u{1f600}"]}), json!("x".repeat(100_000)), json!(null)] {
        let event = json!({"op": "echo", "value": value.clone()});
        assert_eq!(answer(&mut instance, event).await, value);
    }
    instance.stop().await;
}

pub(super) async fn keeps_state_between_warm_calls(kit: &Kit) {
    let mut instance = kit.start().await;
    for n in 1..=3 {
        assert_eq!(answer(&mut instance, json!({"op": "count"})).await, n);
    }
    instance.stop().await;
}

pub(super) async fn fresh_instances_share_no_state(kit: &Kit) {
    let image = kit.image().await;
    let (mut a, mut b) = (start(&*image).await, start(&*image).await);
    assert_eq!(answer(&mut a, json!({"op": "count"})).await, 1);
    assert_eq!(answer(&mut b, json!({"op": "count"})).await, 1);
    a.stop().await;
    b.stop().await;
}

pub(super) async fn errors_are_the_functions_own(kit: &Kit) {
    let mut instance = kit.start().await;
    let event = json!({"op": "throw", "text": "no more biscuits"});
    fails(&mut instance, event, FailureKind::Handler, "no more biscuits").await;
    assert!(instance.alive(), "an error of the handler does not cost the instance");
    assert_eq!(answer(&mut instance, json!({"op": "echo", "value": 1})).await, 1);
    instance.stop().await;
}

pub(super) async fn what_cannot_be_loaded_is_an_init_failure(kit: &Kit) {
    assert!(!kit.broken.is_empty(), "the kit has broken packages");
    for (what, package, word) in &kit.broken {
        let version = kit.version_of(package).await;
        let function = version.key.clone();
        match kit.image_of(version).await.start().await {
            Ok(_) => panic!("{what}: it was loaded"),
            Err(StartFailed::Platform(e)) => panic!("{what}: taken for the platform's fault: {e}"),
            Err(StartFailed::Function(f)) => assert_failure(&f, FailureKind::Init, word),
        }
        kit.lines(&function, |lines| lines.iter().any(|l| l.stream == LogStream::Platform)).await;
    }
}

pub(super) async fn what_cannot_be_serialised_is_a_handler_failure(kit: &Kit) {
    let mut instance = kit.start().await;
    fails(&mut instance, json!({"op": "unserialisable"}), FailureKind::Handler, "").await;
    assert_eq!(answer(&mut instance, json!({"op": "echo", "value": 2})).await, 2);
    instance.stop().await;
}

pub(super) async fn lines_belong_to_their_call(kit: &Kit) {
    let version = kit.version_of(&kit.package).await;
    let function = version.key.clone();
    let mut instance = start(&*kit.image_of(version).await).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let event = json!({"op": "print", "text": format!("line {n}")});
        let invocation = super::invocation(&event, super::AMPLE);
        ids.push(invocation.id);
        super::run(&mut instance, &invocation).await.result.expect("print answers");
    }
    let is_ours = |l: &&crate::ports::LogLine| l.text.starts_with("line ");
    let lines = kit.lines(&function, |lines| lines.iter().filter(is_ours).count() >= 20).await;
    for (n, (line, id)) in lines.iter().filter(is_ours).zip(ids).enumerate() {
        assert_eq!(line.text, format!("line {n}"));
        assert_eq!(line.request, Some(id), "{line:?}");
        assert_eq!(line.stream, LogStream::Stdout);
    }
    instance.stop().await;
}

pub(super) async fn packages_are_checked_and_forgotten(kit: &Kit) {
    let e = kit.sandbox.check_package(Bytes::from_static(b"hello")).await.unwrap_err();
    assert_eq!(e.code(), Code::InvalidPackage);

    let version = kit.version_of(&kit.package).await;
    let image = kit.image_of(version).await;
    let first = kit.sandbox.check_package(kit.package.clone()).await.expect("checked twice");
    assert!(first.entries > 0 && first.unpacked_bytes > 0, "{first:?}");
    // Forgotten while it is used: what runs goes on, and it can be had again.
    kit.sandbox.forget_package(&first.digest).await;
    let mut instance = start(&*image).await;
    assert_eq!(answer(&mut instance, json!({"op": "echo", "value": 3})).await, 3);
    let again = kit.sandbox.check_package(kit.package.clone()).await.expect("checked again");
    assert_eq!(again, first);
    instance.stop().await;
}

pub(super) async fn unknown_runtimes_are_refused(kit: &Kit) {
    let e = kit.sandbox.resolve_runtime("cobol85").unwrap_err();
    assert_eq!(e.code(), Code::UnknownRuntime);
    let resolved = kit.sandbox.resolve_runtime(kit.runtime).expect("the kit's runtime");
    assert!(kit.sandbox.runtimes().contains(&resolved));
    assert!(e.message().contains(&resolved.name), "no {} in: {}", resolved.name, e.message());
}

/// Starts an instance with a marked process tree that goes on after the call.
async fn with_children(kit: &Kit, marker: &str) -> Box<dyn crate::ports::Instance> {
    let mut instance = kit.start().await;
    let event = json!({"op": "children", "marker": marker, "then": "return"});
    assert_eq!(call(&mut instance, event).await.expect("children start"), 2);
    instance
}

pub(super) async fn stop_ends_everything(kit: &Kit) {
    let marker = format!("stop-{}", crate::ids::RequestId::generate());
    let instance = with_children(kit, &marker).await;
    assert_eq!((kit.survivors)(&marker), 2, "the test sees processes by their marker");
    instance.stop().await;
    assert_eq!((kit.survivors)(&marker), 0, "processes outlived stop");
}

pub(super) async fn drop_ends_everything(kit: &Kit) {
    let marker = format!("drop-{}", crate::ids::RequestId::generate());
    drop(with_children(kit, &marker).await);
    for _ in 0..250 {
        if (kit.survivors)(&marker) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("processes outlived the instance that was dropped");
}
