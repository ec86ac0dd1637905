//! Several calls at once in one instance.

use std::time::Duration;

use model::invocation::{FailureKind, Outcome};
use model::ports::{Instance, Logs as _};
use serde_json::{Value, json};

use super::{AMPLE, SHORT, fails, get, image, request};
use crate::support::{MemoryLogs, World, invocation, run};

async fn crowd(world: &World, at_once: u32) -> Box<dyn Instance> {
    let image = image(world, &[], |config| config.instance_concurrency = Some(at_once)).await;
    image.start().await.unwrap()
}

fn in_seat(
    instance: &dyn Instance,
    event: Value,
    time: Duration,
) -> impl Future<Output = Outcome> + Send + use<> {
    let mut seat = instance.seat().expect("there is place for many");
    async move { run(&mut *seat, &invocation(event.to_string(), time)).await }
}

fn meet(n: usize) -> Value {
    request("GET", "/meet", json!({}), json!({"rawQueryString": format!("n={n}")}))
}

pub(super) async fn many_are_served_at_once(world: &World) {
    // As many as there may be, and more than sockets come with one message.
    for n in [2, 33, 250] {
        let instance = crowd(world, u32::try_from(n).unwrap()).await;
        let calls = (0..n).map(|_| in_seat(&*instance, meet(n), AMPLE));
        for outcome in futures_util::future::join_all(calls).await {
            let reply: Value = serde_json::from_slice(&outcome.result.unwrap()).unwrap();
            assert_eq!(reply["body"], "all");
        }
        instance.stop().await;
    }
}

pub(super) async fn lines_belong_to_a_call_that_is_alone(world: &World) {
    let instance = crowd(world, 9).await;
    let marker = model::ids::RequestId::generate().to_string();
    let print = |text: &str| json!({"op": "print", "text": format!("{marker} {text}")});
    let mut seat = instance.seat().unwrap();
    let alone = invocation(print("alone").to_string(), AMPLE);
    run(&mut *seat, &alone).await.result.unwrap();
    let long = in_seat(&*instance, json!({"op": "never"}), SHORT);
    let crowded = async {
        tokio::time::sleep(SHORT / 4).await;
        run(&mut *seat, &invocation(print("crowded").to_string(), AMPLE)).await.result.unwrap();
    };
    let _ = tokio::join!(long, crowded);
    let of = |logs: &MemoryLogs, text: &str| {
        let text = format!("{marker} {text}");
        logs.find(&text).unwrap_or_else(|| panic!("no line {text}")).request
    };
    assert_eq!(of(&world.logs, "alone"), Some(alone.id));
    assert_eq!(of(&world.logs, "crowded"), None, "it may be of either");
    world.logs.flush().await.unwrap();
}

pub(super) async fn a_call_that_is_late_ends_nobody_elses(world: &World) {
    let instance = crowd(world, 9).await;
    // Longer than the other one may take.
    let slow = in_seat(&*instance, json!({"op": "sleep", "code": 1400}), AMPLE);
    let late = in_seat(&*instance, json!({"op": "never"}), SHORT);
    let mut slow = std::pin::pin!(slow);
    tokio::select! {
        outcome = &mut slow => panic!("too early: {outcome:?}"),
        outcome = late => fails(outcome, FailureKind::Timeout, "timed out after 0.70"),
    }
    assert!(!instance.alive(), "it takes no more");
    let mut seat = instance.seat().unwrap();
    assert!(!seat.hand(&invocation(get("/").to_string(), AMPLE)));
    assert_eq!(slow.await.result.unwrap(), "null");
    instance.stop().await;
    // Alone it ends at once, as any.
    let instance = crowd(world, 9).await;
    let marker = format!("crowd-{}", model::ids::RequestId::generate());
    let children = json!({"op": "children", "marker": marker, "then": "never"});
    fails(in_seat(&*instance, children, SHORT).await, FailureKind::Timeout, "timed out");
    assert_eq!(crate::support::processes_with(&marker), 0);
}

pub(super) async fn an_end_of_the_process_is_everybodys(world: &World) {
    for (event, kind, word) in [
        (json!({"op": "exit", "code": 9}), FailureKind::Exited, "exit status 9"),
        (json!({"op": "signal", "signal": 9}), FailureKind::Exited, "signal: killed"),
    ] {
        let instance = crowd(world, 9).await;
        let last = in_seat(&*instance, event, AMPLE);
        let ends = async {
            tokio::time::sleep(SHORT / 4).await;
            last.await
        };
        let others = [(); 3].map(|()| in_seat(&*instance, json!({"op": "never"}), AMPLE));
        let (first, others) = tokio::join!(ends, futures_util::future::join_all(others));
        for outcome in others.into_iter().chain([first]) {
            fails(outcome, kind, word);
        }
        assert!(!instance.alive());
    }
}

pub(super) async fn a_crowd_freezes_when_it_is_gone(world: &World) {
    let mut instance = crowd(world, 9).await;
    for _ in 0..3 {
        let calls = (0..5).map(|_| in_seat(&*instance, json!({"op": "tick"}), AMPLE));
        futures_util::future::join_all(calls).await;
        let mut seat = instance.seat().unwrap();
        let last = invocation(json!({"op": "echo", "value": 1}).to_string(), AMPLE);
        assert!(seat.hand(&last));
        assert!(instance.freeze().is_none(), "it has a call");
        let returned = &mut |_: &[_]| {};
        drop(seat.outcome(model::ports::Patience { limit: AMPLE, returned }).await);
        let later = instance.freeze().expect("it has none");
        assert!(later() && instance.is_frozen());
        let outcome = run(&mut *seat, &last).await;
        assert_eq!(outcome.result.unwrap(), "1");
        assert!(seat.thaw_us() > 0 && !instance.is_frozen());
    }
    instance.stop().await;
}
