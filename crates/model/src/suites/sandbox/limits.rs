//! Time, memory, size; and what happens to a process that ends by itself.

use std::time::Instant;

use serde_json::json;

use super::{AMPLE, Kit, answer, assert_failure, call, call_within, fails, start, times_out};
use crate::ids::RequestId;
use crate::invocation::FailureKind;
use crate::limits;
use crate::ports::LogStream;

pub(super) async fn a_busy_loop_ends_at_the_deadline(kit: &Kit) {
    let version = kit.version_of(&kit.package).await;
    let function = version.key.clone();
    let mut instance = start(&*kit.image_of(version).await).await;
    times_out(&mut instance, json!({"op": "busy"})).await;
    let said = |l: &crate::ports::LogLine| {
        l.stream == LogStream::Platform && l.request.is_some() && l.text.contains("timed out")
    };
    kit.lines(&function, |lines| lines.iter().any(said)).await;
}

pub(super) async fn a_silent_call_ends_at_the_deadline(kit: &Kit) {
    times_out(&mut kit.start().await, json!({"op": "never"})).await;
}

pub(super) async fn the_process_tree_ends_at_the_deadline(kit: &Kit) {
    let marker = format!("tree-{}", RequestId::generate());
    let mut instance = kit.start().await;
    times_out(&mut instance, json!({"op": "children", "marker": marker})).await;
    assert_eq!((kit.survivors)(&marker), 0, "processes outlived the deadline");
}

pub(super) async fn a_fork_bomb_is_bounded_and_ends_at_the_deadline(kit: &Kit) {
    let marker = format!("bomb-{}", RequestId::generate());
    let mut instance = kit.start().await;
    // It may break down under its own limits before its time is over; then it is gone as well.
    let outcome =
        call_within(&mut instance, json!({"op": "forks", "marker": marker}), super::SHORT).await;
    let failure = outcome.result.expect_err("a fork bomb has no answer");
    let ended = [FailureKind::Timeout, FailureKind::MemoryExceeded, FailureKind::Exited];
    if failure.kind == FailureKind::Handler {
        // Refused processes are an error to the handler; it still is the same instance.
        instance.stop().await;
    } else {
        assert!(ended.contains(&failure.kind), "{failure:?}");
    }
    assert_eq!((kit.survivors)(&marker), 0, "processes outlived the deadline");
    assert_eq!(answer(&mut kit.start().await, json!({"op": "echo", "value": 1})).await, 1);
}

pub(super) async fn an_exit_code_is_reported(kit: &Kit) {
    for (code, words) in
        [(0, "without providing a reason"), (1, "exit status 1"), (77, "exit status 77")]
    {
        let mut instance = kit.start().await;
        fails(&mut instance, json!({"op": "exit", "code": code}), FailureKind::Exited, words).await;
        assert!(!instance.alive());
    }
}

pub(super) async fn a_signal_is_reported(kit: &Kit) {
    let crash = format!("signal: {}", kit.crash);
    for (signal, words) in [(9, "signal: killed"), (15, "signal: terminated"), (11, &crash)] {
        let mut instance = kit.start().await;
        let event = json!({"op": "signal", "signal": signal});
        fails(&mut instance, event, FailureKind::Exited, words).await;
        assert!(!instance.alive());
    }
}

pub(super) async fn too_large_an_answer_is_refused(kit: &Kit) {
    let mut instance = kit.start().await;
    let event = json!({"op": "big", "bytes": limits::RESPONSE_BYTES + 1});
    fails(&mut instance, event, FailureKind::ResponseTooLarge, "").await;
    // Whether the instance survives is the sandbox's choice; if so, it works.
    if instance.alive() {
        assert_eq!(answer(&mut instance, json!({"op": "echo", "value": 1})).await, 1);
    }
}

pub(super) async fn large_payloads_pass(kit: &Kit) {
    let mut instance = kit.start().await;
    // Less the quotes.
    let most = limits::RESPONSE_BYTES - 2;
    let big = answer(&mut instance, json!({"op": "big", "bytes": most})).await;
    assert_eq!(big.as_str().map(str::len), Some(most));
    let value = "y".repeat(limits::SYNC_PAYLOAD_BYTES - 100);
    let back = answer(&mut instance, json!({"op": "echo", "value": value})).await;
    assert_eq!(back.as_str().map(str::len), Some(limits::SYNC_PAYLOAD_BYTES - 100));
    instance.stop().await;
}

pub(super) async fn memory_is_limited(kit: &Kit) {
    let mut instance = kit.start().await;
    let failure = call(&mut instance, json!({"op": "memory"})).await.expect_err("no end of memory");
    if kit.exact_memory {
        assert_failure(&failure, FailureKind::MemoryExceeded, "128 MB");
        assert!(!instance.alive());
    } else {
        let kinds = [FailureKind::MemoryExceeded, FailureKind::Handler, FailureKind::Exited];
        assert!(kinds.contains(&failure.kind), "{failure:?}");
    }
    assert_eq!(answer(&mut kit.start().await, json!({"op": "echo", "value": 1})).await, 1);
}

pub(super) async fn a_flood_of_output_blocks_nobody(kit: &Kit) {
    const FLOOD_BYTES: u64 = 100 * 1024 * 1024;
    let version = kit.version_of(&kit.package).await;
    let function = version.key.clone();
    let mut instance = start(&*kit.image_of(version).await).await;
    let begun = Instant::now();
    let flooded = answer(&mut instance, json!({"op": "flood", "bytes": FLOOD_BYTES})).await;
    assert_eq!(flooded, FLOOD_BYTES);
    assert!(begun.elapsed() < AMPLE);
    assert_eq!(answer(&mut instance, json!({"op": "echo", "value": 1})).await, 1);
    let said =
        |l: &crate::ports::LogLine| l.stream == LogStream::Platform && l.text.contains("dropped");
    let lines = kit.lines(&function, |lines| lines.iter().any(said)).await;
    assert!(lines.iter().all(|l| l.text.len() <= limits::LOG_LINE_BYTES));
    instance.stop().await;
}
