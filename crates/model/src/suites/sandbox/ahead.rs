//! Calls handed over behind another one.

use std::time::Duration;

use serde_json::{Value, json};

use super::{AMPLE, Kit, answer, invocation, outcome, start};
use crate::invocation::{FailureKind, Invocation};
use crate::ports::{Instance, LogStream};

/// How long a call may take before those behind it come back.
const PATIENCE: Duration = Duration::from_millis(50);

fn calls(events: &[Value]) -> Vec<Invocation> {
    events.iter().map(|event| invocation(event, AMPLE)).collect()
}

/// An instance may have to be known before it is trusted with several calls.
async fn warm(mut instance: Box<dyn Instance>) -> Box<dyn Instance> {
    answer(&mut instance, json!({"op": "echo", "value": 0})).await;
    instance
}

/// Hands the calls over until one is not taken; how many were.
fn hand(kit: &Kit, instance: &mut Box<dyn Instance>, calls: &[Invocation]) -> usize {
    let taken = calls.iter().take_while(|call| instance.hand(call)).count();
    assert_eq!(taken > 1, kit.calls_ahead, "{taken} of {} calls were taken", calls.len());
    taken
}

async fn value(instance: &mut Box<dyn Instance>) -> Value {
    let (outcome, back) = outcome(instance, AMPLE).await;
    assert!(back.is_empty(), "{back:?} came back");
    serde_json::from_slice(&outcome.result.expect("the call answers")).expect("JSON")
}

pub(super) async fn calls_run_in_the_order_in_which_they_are_handed_over(kit: &Kit) {
    let mut instance = warm(kit.start().await).await;
    for round in 0..50 {
        let events: Vec<_> = (0..3).map(|n| json!({"op": "echo", "value": [round, n]})).collect();
        let taken = hand(kit, &mut instance, &calls(&events));
        for n in 0..taken {
            assert_eq!(value(&mut instance).await, json!([round, n]));
        }
    }
    assert!(instance.alive());
    instance.stop().await;
}

pub(super) async fn lines_belong_to_their_call_also_when_calls_follow_at_once(kit: &Kit) {
    let version = kit.version_of(&kit.package).await;
    let function = version.key.clone();
    let mut instance = warm(start(&*kit.image_of(version).await).await).await;
    let mut expected = Vec::new();
    for round in 0..20 {
        // The second writes nothing, the third a line longer than a pipe.
        let texts =
            [format!("line {round}"), String::new(), format!("line {}", "x".repeat(70_000))];
        let events = texts.clone().map(|text| match text.as_str() {
            "" => json!({"op": "echo"}),
            text => json!({"op": "print", "text": text}),
        });
        let calls = calls(&events);
        let taken = hand(kit, &mut instance, &calls);
        for (call, text) in calls.iter().zip(texts).take(taken) {
            value(&mut instance).await;
            if !text.is_empty() {
                expected.push((text, call.id));
            }
        }
    }
    let ours = |line: &&crate::ports::LogLine| line.stream == LogStream::Stdout;
    let lines = kit.lines(&function, |l| l.iter().filter(ours).count() >= expected.len()).await;
    let seen: Vec<_> = lines.into_iter().filter(|line| ours(&line)).collect();
    assert_eq!(seen.len(), expected.len());
    for (line, (text, id)) in seen.iter().zip(expected) {
        assert!(line.text == text, "expected {:.20}, got {:.20}", text, line.text);
        assert_eq!(line.request, Some(id), "{:.20}", line.text);
    }
    instance.stop().await;
}

pub(super) async fn calls_come_back_from_behind_one_that_takes_long(kit: &Kit) {
    for op in ["never", "busy"] {
        let version = kit.version_of(&kit.package).await;
        let function = version.key.clone();
        let mut instance = warm(start(&*kit.image_of(version).await).await).await;
        let mut calls = calls(&[json!({"op": op}), json!({"op": "print", "text": "behind"})]);
        calls[0].timeout = super::SHORT;
        let taken = hand(kit, &mut instance, &calls);
        let (first, back) = outcome(&mut instance, PATIENCE).await;
        let failure = first.result.expect_err("it runs for ever");
        assert_eq!(failure.kind, FailureKind::Timeout);
        assert_eq!(back, calls[1..taken].iter().map(|call| call.id).collect::<Vec<_>>());
        assert!(instance.take_back().is_empty(), "nothing comes back twice");
        let lines = kit.lines(&function, |lines| !lines.is_empty()).await;
        assert!(lines.iter().all(|line| line.text != "behind"), "it came back and ran: {lines:?}");
    }
}

pub(super) async fn calls_come_back_from_behind_one_that_ends_the_process(kit: &Kit) {
    let mut instance = warm(kit.start().await).await;
    let events = [json!({"op": "exit", "code": 3}), json!({"op": "count"}), json!({"op": "count"})];
    let calls = calls(&events);
    let taken = hand(kit, &mut instance, &calls);
    let (first, back) = outcome(&mut instance, AMPLE).await;
    assert_eq!(first.result.expect_err("it ends").kind, FailureKind::Exited);
    assert!(back.is_empty() && !instance.alive());
    let mut back = instance.take_back();
    back.sort();
    let mut behind: Vec<_> = calls[1..taken].iter().map(|call| call.id).collect();
    behind.sort();
    assert_eq!(back, behind, "what it had not begun can run elsewhere");
    assert!(!instance.hand(&calls[1]), "the dead take no calls");
    instance.stop().await;
}

pub(super) async fn large_calls_wait_for_their_turn(kit: &Kit) {
    let mut instance = warm(kit.start().await).await;
    let large = "x".repeat(3 << 20);
    let events = [json!({"op": "echo", "value": 1}), json!({"op": "echo", "value": large})];
    let calls = calls(&events);
    assert!(instance.hand(&calls[0]) && !instance.hand(&calls[1]));
    assert_eq!(value(&mut instance).await, 1);
    // And nothing waits behind one, for it could not be taken back.
    assert!(instance.hand(&calls[1]) && !instance.hand(&calls[0]));
    assert_eq!(value(&mut instance).await, events[1]["value"]);
    instance.stop().await;
}
