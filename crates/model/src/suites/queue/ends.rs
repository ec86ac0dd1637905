//! What becomes of messages that have ended: they are kept, found, brought back to life, forgotten; and keys.

use bytes::Bytes;

use super::{
    LONG, NOW, SHORT, Subject, again, conflicts, dead, depth, enqueue, lease_one, message,
    nothing_is_due, succeeded,
};
use crate::clock::{Clock, SystemClock};
use crate::error::Code;
use crate::ids::{Digest, RequestId};
use crate::ports::{
    Again, End, Ended, Enqueued, NOTE_BYTES, NOTES_MAX, NewMessage, Queue, RESULT_BYTES, Standing,
    UniqueKey,
};

pub(super) async fn run(make: &impl AsyncFn() -> Box<dyn Subject<dyn Queue>>) {
    what_has_ended_is_kept(make().await).await;
    a_dead_message_lives_again(make().await).await;
    a_cancelled_one_ends_at_once(&*make().await.port()).await;
    what_has_ended_may_be_forgotten(&*make().await.port()).await;
    notes_and_results_have_bounds(&*make().await.port()).await;
    a_key_is_given_once_in_its_window(make().await).await;
}

async fn what_has_ended_is_kept(mut subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    let (good, bad) = (message("good"), message("bad"));
    for new in [&good, &bad] {
        enqueue(&*queue, new.clone()).await;
        let first = lease_one(&*queue, LONG).await;
        let note = Some(Bytes::from_static(b"first"));
        queue.again(new.id, first.token, Again { delay: NOW, counted: true, note }).await.unwrap();
        let second = lease_one(&*queue, LONG).await;
        let end = if new.id == good.id {
            End { result: Some(Bytes::from_static(b"42")), ..succeeded() }
        } else {
            dead("too often")
        };
        queue.end(new.id, second.token, end).await.unwrap();
    }
    drop(queue);
    for _ in 0..2 {
        let queue = subject.port();
        let record = queue.find(good.id).await.unwrap().unwrap();
        let Standing::Ended(Ended::Succeeded, at) = record.summary.standing else {
            panic!("{record:?}")
        };
        assert!(at <= SystemClock.now() && at >= record.summary.enqueued_at);
        assert_eq!((record.summary.deliveries, &record.summary.lane), (2, &good.lane));
        assert_eq!(record.summary.bytes, 4, "what it came with, though that is gone");
        assert_eq!(record.notes, [&b"first"[..]]);
        assert_eq!(record.result.as_deref(), Some(&b"42"[..]));
        assert_eq!(record.payload, None);
        let record = queue.find(bad.id).await.unwrap().unwrap();
        assert!(matches!(record.summary.standing, Standing::Ended(Ended::Dead, _)), "{record:?}");
        assert_eq!(record.notes, [&b"first"[..], b"too often"]);
        assert_eq!((record.result, record.payload.as_deref()), (None, Some(&b"bad"[..])));
        assert_eq!(queue.find(RequestId::generate()).await.unwrap(), None);
        nothing_is_due(&*queue).await;
        drop(queue);
        subject.reopen().await;
    }
}

async fn a_dead_message_lives_again(mut subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    let payload = "p".repeat(100_000);
    let new = message(&payload);
    enqueue(&*queue, new.clone()).await;
    conflicts(queue.redrive(new.id)).await;
    let leased = lease_one(&*queue, LONG).await;
    conflicts(queue.redrive(new.id)).await;
    queue.end(new.id, leased.token, dead("no")).await.unwrap();
    drop(queue);
    subject.reopen().await;
    let queue = subject.port();
    queue.redrive(new.id).await.unwrap();
    conflicts(queue.redrive(new.id)).await;
    let before = leased.enqueued_at;
    let leased = lease_one(&*queue, LONG).await;
    assert_eq!((leased.id, leased.deliveries), (new.id, 1), "as if it were new");
    assert!(leased.payload == payload && leased.enqueued_at >= before);
    queue.end(new.id, leased.token, succeeded()).await.unwrap();
    conflicts(queue.redrive(new.id)).await;
    let record = queue.find(new.id).await.unwrap().unwrap();
    assert_eq!(record.notes, [&b"no"[..]], "what was noted stays");
    let e = queue.redrive(RequestId::generate()).await.unwrap_err();
    assert_eq!(e.code(), Code::NotFound);
}

async fn a_cancelled_one_ends_at_once(queue: &dyn Queue) {
    let why = || Bytes::from_static(b"not wanted");
    let (waits, runs) = (message("waits"), message("runs"));
    enqueue(queue, runs.clone()).await;
    let leased = lease_one(queue, LONG).await;
    enqueue(queue, waits.clone()).await;
    let stood = queue.cancel(waits.id, why(), LONG).await.unwrap();
    assert!(matches!(stood, Standing::Waiting(_)), "{stood:?}");
    let stood = queue.cancel(runs.id, why(), LONG).await.unwrap();
    assert!(matches!(stood, Standing::Leased(_)), "{stood:?}");
    assert_eq!(depth(queue).await, 0);
    nothing_is_due(queue).await;
    // Who has it finds out.
    conflicts(queue.extend(runs.id, leased.token, LONG)).await;
    conflicts(queue.end(runs.id, leased.token, succeeded())).await;
    conflicts(queue.again(runs.id, leased.token, again(NOW, true))).await;
    for id in [waits.id, runs.id] {
        let record = queue.find(id).await.unwrap().unwrap();
        assert!(matches!(record.summary.standing, Standing::Ended(Ended::Cancelled, _)));
        assert_eq!((record.notes.len(), record.payload), (1, None));
        conflicts(queue.cancel(id, why(), LONG)).await;
        conflicts(queue.redrive(id)).await;
    }
    let e = queue.cancel(RequestId::generate(), why(), LONG).await.unwrap_err();
    assert_eq!(e.code(), Code::NotFound);
}

async fn what_has_ended_may_be_forgotten(queue: &dyn Queue) {
    let new = message("m");
    assert!(!queue.forget(new.id).await.unwrap());
    enqueue(queue, new.clone()).await;
    conflicts(queue.forget(new.id)).await;
    let leased = lease_one(queue, LONG).await;
    conflicts(queue.forget(new.id)).await;
    queue.end(new.id, leased.token, dead("no")).await.unwrap();
    assert!(queue.forget(new.id).await.unwrap());
    assert!(!queue.forget(new.id).await.unwrap());
    assert_eq!(queue.find(new.id).await.unwrap(), None);
    enqueue(queue, new).await;
}

async fn notes_and_results_have_bounds(queue: &dyn Queue) {
    let new = message("m");
    enqueue(queue, new.clone()).await;
    let bytes = |n| Some(Bytes::from(vec![b'x'; n]));
    let mut leased = lease_one(queue, LONG).await;
    let long = Again { note: bytes(NOTE_BYTES + 1), ..again(NOW, true) };
    let large = End { result: bytes(RESULT_BYTES + 1), ..succeeded() };
    let noted = End { note: bytes(NOTE_BYTES + 1), ..succeeded() };
    for refused in [
        queue.again(new.id, leased.token, long).await,
        queue.end(new.id, leased.token, large).await,
        queue.end(new.id, leased.token, noted).await,
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::PayloadTooLarge);
    }
    for n in 0..NOTES_MAX + 2 {
        let note = Some(Bytes::from(n.to_string()));
        queue.again(new.id, leased.token, Again { note, ..again(NOW, false) }).await.unwrap();
        leased = lease_one(queue, LONG).await;
    }
    let end = End { note: bytes(NOTE_BYTES), result: bytes(RESULT_BYTES), ..succeeded() };
    queue.end(new.id, leased.token, end).await.unwrap();
    let record = queue.find(new.id).await.unwrap().unwrap();
    assert_eq!(record.notes.len(), NOTES_MAX);
    assert_eq!(record.notes[1], "1");
    assert_eq!(
        (record.notes.last().cloned(), record.result),
        (bytes(NOTE_BYTES), bytes(RESULT_BYTES))
    );
}

async fn a_key_is_given_once_in_its_window(mut subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    let digest = Digest::of(b"order 7");
    let keyed =
        |until| NewMessage { key: Some(UniqueKey { digest, until, print: None }), ..message("m") };
    let until = SystemClock.now().after(SHORT);
    let first = keyed(until);
    let twice = vec![first.clone(), keyed(until)];
    let answers = queue.enqueue(twice).await.unwrap();
    assert_eq!(answers, [Enqueued::New, Enqueued::Duplicate(first.id)]);
    let other = UniqueKey { digest: Digest::of(b"order 8"), until, print: None };
    enqueue(&*queue, NewMessage { key: Some(other), ..message("m") }).await;
    drop(queue);
    subject.reopen().await;
    let queue = subject.port();
    let is_held = async || {
        let answers = queue.enqueue(vec![keyed(until)]).await.unwrap();
        answers == [Enqueued::Duplicate(first.id)]
    };
    assert!(is_held().await);
    super::sleep(SHORT + SHORT / 3).await;
    assert!(is_held().await, "it has not ended");
    for leased in [lease_one(&*queue, LONG).await, lease_one(&*queue, LONG).await] {
        queue.end(leased.id, leased.token, succeeded()).await.unwrap();
    }
    let next = keyed(SystemClock.now().after(LONG));
    enqueue(&*queue, next.clone()).await;
    let leased = lease_one(&*queue, LONG).await;
    queue.end(leased.id, leased.token, End { keep: NOW, ..succeeded() }).await.unwrap();
    let answers = queue.enqueue(vec![keyed(until)]).await.unwrap();
    assert_eq!(answers, [Enqueued::Duplicate(next.id)], "ended, and within its window");
    assert!(queue.find(next.id).await.unwrap().is_some(), "who has a key is kept");
}
