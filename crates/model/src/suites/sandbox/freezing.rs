//! Instances that stand still while they are idle.

use std::time::Duration;

use serde_json::json;

use super::{Kit, answer, call, call_within, start, times_out};
use crate::ids::RequestId;
use crate::ports::Instance;

/// How long one is kept frozen here, in milliseconds.
const STILL_MS: u64 = 600;

/// Freezes it; whether that was done.
fn freeze(instance: &mut Box<dyn Instance>) -> bool {
    instance.freeze().is_some_and(|later| later())
}

pub(super) async fn nothing_goes_on_in_a_frozen_instance(kit: &Kit) {
    let mut instance = kit.start().await;
    answer(&mut instance, json!({"op": "tick"})).await;
    for _ in 0..2 {
        assert!(freeze(&mut instance) && instance.is_frozen() && instance.alive());
        assert!(instance.freeze().is_none(), "it stands still already");
        tokio::time::sleep(Duration::from_millis(STILL_MS)).await;
        let pause = answer(&mut instance, json!({"op": "pause"})).await;
        // It stands still a moment after it was frozen, and goes on a moment before the call.
        assert!(pause.as_u64() >= Some(STILL_MS - 100), "a pause of {pause} ms");
        assert!(!instance.is_frozen() && instance.thaw_us() > 0);
        answer(&mut instance, json!({"op": "tick"})).await;
        assert_eq!(instance.thaw_us(), 0, "that one found it awake");
    }
    instance.stop().await;
}

pub(super) async fn a_call_that_comes_while_it_is_being_frozen_is_served(kit: &Kit) {
    let mut instance = kit.start().await;
    for value in 0..20 {
        let later = instance.freeze().expect("it can be frozen");
        let doing = std::thread::spawn(later);
        assert_eq!(answer(&mut instance, json!({"op": "echo", "value": value})).await, value);
        doing.join().expect("it does not panic");
        assert!(!instance.is_frozen(), "it has been called since");
    }
    // Asked for, and never done.
    drop(instance.freeze());
    assert_eq!(answer(&mut instance, json!({"op": "echo", "value": 1})).await, 1);
    instance.stop().await;
}

pub(super) async fn a_frozen_instance_ends_like_any_other(kit: &Kit) {
    let image = kit.image().await;
    for stopped in [true, false] {
        let mut instance = start(&*image).await;
        let marker = format!("marker-{}", RequestId::generate());
        let event = json!({"op": "children", "marker": marker, "then": "return"});
        answer(&mut instance, event).await;
        assert!((kit.survivors)(&marker) > 0);
        assert!(freeze(&mut instance));
        if stopped {
            instance.stop().await;
            assert_eq!((kit.survivors)(&marker), 0, "at once");
        } else {
            drop(instance);
            let until = std::time::Instant::now() + super::KILL_GRACE;
            while (kit.survivors)(&marker) > 0 {
                assert!(std::time::Instant::now() < until, "it outlives its end");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

pub(super) async fn what_a_call_does_after_a_thaw_is_bounded_as_ever(kit: &Kit) {
    let mut instance = kit.start().await;
    assert!(freeze(&mut instance));
    let outcome = call_within(&mut instance, json!({"op": "echo", "value": 7}), super::AMPLE).await;
    assert!(outcome.result.is_ok());
    assert!(freeze(&mut instance));
    times_out(&mut instance, json!({"op": "busy"})).await;
    assert!(instance.freeze().is_none(), "what is gone is not frozen");
    let mut instance = kit.start().await;
    assert!(freeze(&mut instance));
    call(&mut instance, json!({"op": "exit", "code": 3})).await.expect_err("it ends itself");
    assert!(!instance.alive());
}
