//! Answers in pieces.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    AMPLE, KILL_GRACE, Kit, SHORT, answer, assert_failure, invocation, outcome, run, start,
};
use crate::invocation::{Failure, FailureKind, Outcome};
use crate::limits::{RESPONSE_BYTES, STREAM_PIECES};
use crate::ports::{Instance, Patience, Turn};
use crate::stream::{PIECE_BYTES, Part, StreamEnd, Taker};

async fn started(kit: &Kit) -> Box<dyn Instance> {
    start(&*kit.image_of(kit.version_of(&kit.streams).await).await).await
}

/// `pieces` pieces of `bytes` bytes, and what comes then.
fn event(pieces: usize, bytes: usize, then: &str) -> Value {
    json!({"pieces": pieces, "bytes": bytes, "then": then})
}

/// Hands a call over and waits for its answer to begin; answers with what the function said before.
async fn begin(instance: &mut Box<dyn Instance>, event: &Value, within: Duration) -> Value {
    assert!(instance.hand(&invocation(event, within)), "an instance that has no call takes one");
    let returned = &mut |_: &[_]| {};
    match instance.outcome(Patience { limit: AMPLE, returned }).await {
        Turn::Streams { prelude, run_us } => {
            assert!(run_us > 0, "it took no time at all");
            serde_json::from_slice(&prelude).expect("the prelude is JSON")
        }
        Turn::Over(outcome) => panic!("{event} did not stream: {outcome:?}"),
    }
}

/// Takes all pieces as they come.
async fn take(instance: &mut Box<dyn Instance>) -> (Vec<u8>, StreamEnd) {
    let (pieces, mut parts) = mpsc::channel(STREAM_PIECES);
    let taker = Taker::Caller { pieces: &pieces, keep_bytes: 3 };
    let mut taken = Vec::new();
    let end = {
        let mut stream = std::pin::pin!(instance.stream(taker));
        loop {
            tokio::select! {
                end = &mut stream => break end,
                part = parts.recv() => taken.extend(bytes_of(part)),
            }
        }
    };
    while let Ok(part) = parts.try_recv() {
        taken.extend(bytes_of(Some(part)));
    }
    (taken, end)
}

fn bytes_of(part: Option<Part>) -> Vec<u8> {
    match part {
        Some(Part::Piece(piece)) => {
            assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES, "{} bytes", piece.len());
            piece.to_vec()
        }
        other => panic!("{other:?} is no piece"),
    }
}

/// What the handler writes: piece by piece the letters of the alphabet.
fn written(pieces: usize, bytes: usize) -> Vec<u8> {
    (0_u8..26).cycle().take(pieces).flat_map(|n| vec![b'a' + n; bytes]).collect()
}

pub(super) async fn pieces_arrive_in_order_and_whole(kit: &Kit) {
    let mut instance = started(kit).await;
    for (pieces, bytes) in [(1, 1), (30, 3), (3, 200_000), (100, 65_536), (0, 0)] {
        let said = begin(&mut instance, &event(pieces, bytes, "return"), AMPLE).await;
        assert_eq!(said, json!({"statusCode": 201, "headers": {"x-said": "before"}}));
        let (taken, end) = take(&mut instance).await;
        let expected = written(pieces, bytes);
        assert!(taken == expected, "{} of {} bytes", taken.len(), expected.len());
        assert_eq!(end.bytes, expected.len() as u64);
        let kept = end.outcome.result.expect("the call goes well");
        assert_eq!(kept, expected[..expected.len().min(3)]);
    }
    assert!(instance.alive(), "it serves further calls");
    instance.stop().await;
}

pub(super) async fn pieces_are_collected_for_whoever_wants_them_together(kit: &Kit) {
    let mut instance = started(kit).await;
    let whole = run(&mut instance, &invocation(&event(10, 100_000, "return"), AMPLE)).await;
    assert!(whole.result.expect("the call goes well") == written(10, 100_000));
    let most = run(&mut instance, &invocation(&event(6, 1 << 20, "return"), AMPLE)).await;
    assert_eq!(most.result.expect("the call goes well").len(), RESPONSE_BYTES);
    let more = run(&mut instance, &invocation(&event(7, 1 << 20, "return"), AMPLE)).await;
    let failure = more.result.expect_err("it is too large");
    assert_failure(&failure, FailureKind::ResponseTooLarge, "6291456 bytes");
    assert!(!instance.alive(), "what is left of it is not read");
}

pub(super) async fn nothing_is_read_while_nobody_takes(kit: &Kit) {
    let version = kit.version_of(&kit.streams).await;
    let function = version.key.clone();
    let mut instance = start(&*kit.image_of(version).await).await;
    begin(&mut instance, &event(2_000, 65_000, "return"), AMPLE).await;
    let (pieces, mut parts) = mpsc::channel(STREAM_PIECES);
    let taker = Taker::Caller { pieces: &pieces, keep_bytes: 0 };
    let end = {
        let mut stream = std::pin::pin!(instance.stream(taker));
        // What the function prints is taken meanwhile: it says which pieces it has written.
        let lines = kit.lines(&function, |lines| lines.iter().any(|l| &*l.text == "wrote 3"));
        tokio::select! {
            end = &mut stream => panic!("it ended without a taker: {end:?}"),
            _ = lines => {}
        }
        let waits = tokio::time::timeout(Duration::from_secs(1), &mut stream).await;
        assert!(waits.is_err(), "it ended without a taker: {waits:?}");
        let wrote = kit.lines(&function, |_| true).await;
        assert!(wrote.len() < 100, "it wrote on: {} pieces", wrote.len());
        loop {
            tokio::select! {
                end = &mut stream => break end,
                part = parts.recv() => drop(bytes_of(part)),
            }
        }
    };
    assert_eq!(end.bytes, 2_000 * 65_000);
    instance.stop().await;
}

pub(super) async fn a_taker_that_leaves_does_not_end_the_function(kit: &Kit) {
    let mut instance = started(kit).await;
    begin(&mut instance, &event(500, 65_000, "return"), AMPLE).await;
    let (pieces, parts) = mpsc::channel(STREAM_PIECES);
    drop(parts);
    let end = instance.stream(Taker::Caller { pieces: &pieces, keep_bytes: 0 }).await;
    assert!(end.outcome.result.is_ok(), "{end:?}");
    assert_eq!(end.bytes, 500 * 65_000);
    let (taken, _) = {
        begin(&mut instance, &event(2, 2, "return"), AMPLE).await;
        take(&mut instance).await
    };
    assert_eq!(taken, b"aabb");
    instance.stop().await;
}

async fn breaks_off(kit: &Kit, then: &str) -> (Failure, bool) {
    let mut instance = started(kit).await;
    begin(&mut instance, &event(2, 2, then), AMPLE).await;
    let (taken, end) = take(&mut instance).await;
    assert_eq!((taken.as_slice(), end.bytes), (&b"aabb"[..], 4));
    let Outcome { result, .. } = end.outcome;
    (result.expect_err("it breaks off"), instance.alive())
}

pub(super) async fn an_error_behind_the_first_piece_is_the_outcome(kit: &Kit) {
    let (failure, alive) = breaks_off(kit, "throw").await;
    assert_failure(&failure, FailureKind::Handler, "half-way");
    assert!(alive, "an error of the handler does not cost the instance");
}

pub(super) async fn an_end_of_the_process_is_one_of_the_answer(kit: &Kit) {
    let (failure, alive) = breaks_off(kit, "exit").await;
    assert_failure(&failure, FailureKind::Exited, "exit status 7");
    assert!(!alive);
}

pub(super) async fn a_stream_ends_at_the_deadline(kit: &Kit) {
    // The function writes for ever, or nothing more; somebody takes it, or nobody.
    for (then, takes) in [("never", true), ("never", false), ("endless", true), ("endless", false)]
    {
        let mut instance = started(kit).await;
        let begun = Instant::now();
        begin(&mut instance, &event(2, 2, then), SHORT).await;
        let end = if takes {
            take(&mut instance).await.1
        } else {
            let (pieces, _parts) = mpsc::channel(STREAM_PIECES);
            instance.stream(Taker::Caller { pieces: &pieces, keep_bytes: 0 }).await
        };
        let took = begun.elapsed();
        let failure = end.outcome.result.expect_err("the deadline passes");
        assert_failure(&failure, FailureKind::Timeout, "timed out after 0.70");
        assert!(took >= SHORT && took < SHORT + KILL_GRACE, "{then}: {took:?}");
        assert!(!instance.alive());
    }
}

pub(super) async fn calls_come_back_from_behind_a_stream(kit: &Kit) {
    let mut instance = started(kit).await;
    // An instance may have to be known before it is trusted with several calls.
    run(&mut instance, &invocation(&event(1, 1, "return"), AMPLE)).await;
    // So much that the function cannot be through with it, and at the next call, before anything is read.
    let calls = [(); 3].map(|()| invocation(&event(40, 65_000, "return"), AMPLE));
    let taken = calls.iter().take_while(|call| instance.hand(call)).count();
    assert_eq!(taken > 1, kit.calls_ahead, "{taken} calls were taken");
    let (first, back) = outcome(&mut instance, AMPLE).await;
    assert!(first.result.expect("the call goes well") == written(40, 65_000));
    let behind: Vec<_> = calls[1..taken].iter().map(|call| call.id).collect();
    assert_eq!(back, behind, "nobody waits behind a stream");
    assert!(instance.hand(&calls[1]), "they may come again");
    assert!(outcome(&mut instance, AMPLE).await.0.result.is_ok());
    instance.stop().await;
}

pub(super) async fn who_does_not_stream_is_not_told_so(kit: &Kit) {
    let mut instance = kit.start().await;
    assert_eq!(answer(&mut instance, json!({"op": "echo", "value": 1})).await, 1);
    let end = instance.stream(Taker::Whole).await;
    let failure = end.outcome.result.expect_err("there is no stream");
    assert_eq!((failure.kind, end.bytes), (FailureKind::Protocol, 0));
    assert_eq!(answer(&mut instance, json!({"op": "echo", "value": 2})).await, 2);
    instance.stop().await;
}
