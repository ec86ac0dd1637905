//! Shadows: copies of calls, and pairs of answers.
#![expect(clippy::disallowed_methods, reason = "callers of a test need no name and end with it")]

use engine::{EngineConfig, ShadowPair, Shadowed};
use model::clock::UnixMillis;
use model::invocation::Call;
use model::ports::{Usage, UsageQuery};
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use crate::scripted::{World, bare, call, key, sleep_ms};

const ALL: &str = r#"{"targets":[{"version":1,"weight":1}],"shadow":{"version":2,"share":"100%"}}"#;

/// What the engine hands out.
struct Pairs(Receiver<Shadowed>);

impl Pairs {
    async fn recv(&mut self) -> Option<ShadowPair> {
        match self.0.recv().await? {
            Shadowed::Pair(pair) => Some(*pair),
            Shadowed::Skipped(skips) => panic!("{skips:?}"),
        }
    }

    async fn skips(&mut self) -> u64 {
        match self.0.recv().await.unwrap() {
            Shadowed::Pair(pair) => panic!("{pair:?}"),
            Shadowed::Skipped(skips) => {
                assert_eq!((skips.function, skips.alias.as_str()), (key("f"), "live"));
                assert_eq!(skips.version.to_string(), "2");
                skips.skipped
            }
        }
    }

    fn try_recv(&mut self) -> Result<Shadowed, TryRecvError> {
        self.0.try_recv()
    }
}

async fn world(handlers: &[&str], alias: &str) -> (World, Pairs) {
    let config = EngineConfig { host_memory_mb: 100_000, ..EngineConfig::default() };
    let world = World::new(config).await;
    world.versions("f", handlers).await;
    world.alias("f", "live", alias).await;
    let pairs = world.engine.shadow_pairs().unwrap();
    assert!(world.engine.shadow_pairs().is_none(), "handed out once");
    (world, Pairs(pairs))
}

#[tokio::test(start_paused = true)]
async fn both_answers_come_as_a_pair_and_the_caller_gets_the_first() {
    let (world, mut pairs) = world(&["arn", "fail"], ALL).await;
    let first = call("f:live", "x");
    let id = first.id;
    let done = world.engine.invoke(first, &bare()).await.unwrap();
    assert_eq!(done.version.to_string(), "1");
    let pair = pairs.recv().await.unwrap();
    assert_eq!((pair.request, pair.function.clone(), pair.alias.as_str()), (id, key("f"), "live"));
    assert_ne!(pair.shadow_request, id);
    assert_eq!(pair.answer.version.to_string(), "1");
    assert_eq!(pair.answer.result, done.outcome.result);
    assert_eq!((pair.shadow.version.to_string(), pair.shadow.us), ("2".into(), 1_500));
    assert_eq!(pair.shadow.result.unwrap_err().kind.as_str(), "handler");
    assert_eq!(pair.skipped, 0);
    // Each version pays for its own.
    sleep_ms(1_100).await;
    let query =
        UsageQuery { function: key("f"), since: UnixMillis(0), until: UnixMillis(u64::MAX) };
    let rows = world.usage.query(query).await.unwrap();
    let mut requests: Vec<_> =
        rows.iter().map(|row| (row.version.to_string(), row.sums.requests)).collect();
    requests.sort();
    assert_eq!(requests, [("1".into(), 1), ("2".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_shadow_has_the_alias_s_environment() {
    let alias = r#"{"targets":[{"version":1,"weight":1}],"environment":{"STAGE":"live"},
        "shadow":{"version":2,"share":"100%"}}"#;
    let (world, mut pairs) = world(&["env:STAGE", "env:STAGE"], alias).await;
    assert_eq!(world.invoke("f:live").await.unwrap(), "live");
    let pair = pairs.recv().await.unwrap();
    assert_eq!(pair.shadow.result.unwrap(), "live");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_slow_shadow_and_its_faults_are_its_own() {
    let (world, mut pairs) = world(&["echo", "sleep:2000"], ALL).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(world.invoke("f:live").await.unwrap(), "hello");
    assert!(begin.elapsed().as_millis() < 100, "{:?}", begin.elapsed());
    let pair = pairs.recv().await.unwrap();
    assert_eq!(pair.answer.result.unwrap(), "hello");
    world.publish("f", 3).await;
    world.deploy("f", "no-sandbox").await;
    world.publish("f", 4).await;
    world.alias("f", "live", &ALL.replace("\"version\":2", "\"version\":4")).await;
    assert_eq!(world.invoke("f:live").await.unwrap(), "hello");
    sleep_ms(100).await;
    pairs.try_recv().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn copies_that_are_too_many_are_counted() {
    let (world, mut pairs) = world(&["echo", "sleep:500"], ALL).await;
    world.change("f", |f| f.settings.max_instances = Some(200)).await;
    // Room for 64 copies at once, and for 32 pairs that nobody takes.
    for _ in 0..70 {
        world.invoke("f:live").await.unwrap();
    }
    sleep_ms(2_000).await;
    let mut skipped = Vec::new();
    for _ in 0..32 {
        skipped.push(pairs.recv().await.unwrap().skipped);
    }
    assert_eq!(skipped, [&[6][..], &[0; 31]].concat());
    pairs.try_recv().unwrap_err();
    assert_eq!(pairs.skips().await, 32);
    world.invoke("f:live").await.unwrap();
    assert_eq!(pairs.recv().await.unwrap().skipped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pair_takes_room_until_it_is_compared() {
    let (world, mut pairs) = world(&["echo", "echo"], ALL).await;
    world.change("f", |f| f.settings.max_instances = Some(200)).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        world.invoke("f:live").await.unwrap();
        held.push(pairs.recv().await.unwrap());
    }
    // Nothing is copied any more, and that is told all the same.
    for _ in 0..3 {
        world.invoke("f:live").await.unwrap();
    }
    assert_eq!(pairs.skips().await, 3);
    world.invoke("f:live").await.unwrap();
    assert_eq!(pairs.skips().await, 1);
    held.pop();
    world.invoke("f:live").await.unwrap();
    assert_eq!(pairs.recv().await.unwrap().skipped, 0);
}

#[tokio::test(start_paused = true)]
async fn large_answers_are_cut() {
    let (world, mut pairs) = world(&["echo", "echo"], ALL).await;
    for (length, kept) in [(256 * 1024, 256 * 1024), (256 * 1024 + 1, 1_024)] {
        let large = Call { payload: "x".repeat(length).into(), ..call("f:live", "") };
        world.engine.invoke(large, &bare()).await.unwrap();
        let pair = pairs.recv().await.unwrap();
        assert!(pair.identical);
        for answer in [pair.answer, pair.shadow] {
            assert_eq!((answer.length, answer.bytes().len()), (length, kept));
            assert_eq!(answer.is_cut(), kept < length);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_takes_no_instance_that_a_call_may_need() {
    let (world, mut pairs) = world(&["echo", "sleep:500"], ALL).await;
    world.change("f", |f| f.settings.max_instances = Some(1)).await;
    for _ in 0..3 {
        assert_eq!(world.invoke("f:live").await.unwrap(), "hello");
    }
    sleep_ms(10).await;
    assert_eq!(world.started(), 1);
    world.change("f", |f| f.settings.max_instances = Some(9)).await;
    world.invoke("f:live").await.unwrap();
    assert_eq!(pairs.recv().await.unwrap().skipped, 3);
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_calls_is_copied() {
    let (world, mut pairs) = world(&["echo", "echo"], &ALL.replace("100%", "25%")).await;
    let mut copies = 0_u32;
    for _ in 0..400 {
        world.invoke("f:live").await.unwrap();
        sleep_ms(1).await;
        copies += u32::from(pairs.try_recv().is_ok());
    }
    assert!((60..140).contains(&copies), "{copies} of 400");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_attempt_of_a_queued_call_is_copied() {
    let (world, mut pairs) = world(&["fail", "echo"], ALL).await;
    world.engine.enqueue(call("f:live", "x"), &bare()).await.unwrap();
    sleep_ms(600_000).await;
    assert_eq!(world.queued().await, (0, 1));
    assert_eq!(world.finished(), 4, "three attempts and one copy");
    assert_eq!(pairs.recv().await.unwrap().shadow.result.unwrap(), "x");
    pairs.try_recv().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn copies_do_not_hold_up_the_end() {
    let (world, _pairs) = world(&["echo", "sleep:60000"], ALL).await;
    world.invoke("f:live").await.unwrap();
    sleep_ms(50).await;
    let begin = tokio::time::Instant::now();
    let engine = world.engine.clone();
    let drained =
        tokio::spawn(async move { engine.drain(std::time::Duration::from_secs(30)).await });
    assert_eq!(drained.await.unwrap(), 0);
    assert!(begin.elapsed().as_millis() < 100, "{:?}", begin.elapsed());
}
