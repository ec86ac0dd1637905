//! Keys that have to stand for the same message, and messages that are on lease from the beginning.

use bytes::Bytes;

use super::{
    LONG, NOW, SHORT, Subject, again, conflicts, dead, depth, lease_one, message, nothing_is_due,
    succeeded, usual,
};
use crate::clock::{Clock, SystemClock};
use crate::ids::Digest;
use crate::ports::{Begun, End, Enqueued, Leased, NewMessage, Queue, Standing, UniqueKey};

pub(super) async fn run(make: &impl AsyncFn() -> Box<dyn Subject<dyn Queue>>) {
    a_key_stands_for_one_message(&*make().await.port()).await;
    one_begun_is_on_lease(make().await).await;
    one_withdrawn_was_never_there(&*make().await.port()).await;
}

fn keyed(text: &str, print: Option<&str>) -> NewMessage {
    let (digest, until) = (Digest::of(text.as_bytes()), SystemClock.now().after(LONG));
    let print = print.map(|print| Digest::of(print.as_bytes()));
    NewMessage { key: Some(UniqueKey { digest, until, print }), ..message("m") }
}

async fn begin(queue: &dyn Queue, message: NewMessage) -> Result<Leased, Enqueued> {
    match queue.begin(message, LONG).await.unwrap() {
        Begun::Leased(leased) => Ok(leased),
        Begun::Known(known) => Err(known),
    }
}

async fn a_key_stands_for_one_message(queue: &dyn Queue) {
    let first = keyed("a", Some("x"));
    let messages =
        vec![first.clone(), keyed("a", Some("y")), keyed("a", Some("x")), keyed("a", None)];
    let answers = queue.enqueue(messages).await.unwrap();
    let known = Enqueued::Duplicate(first.id);
    assert_eq!(answers, [Enqueued::New, Enqueued::Different(first.id), known, known]);
    assert_eq!(depth(queue).await, 1);
    let leased = lease_one(queue, LONG).await;
    queue.end(leased.id, leased.token, dead("no")).await.unwrap();
    assert_eq!(begin(queue, keyed("a", Some("y"))).await.unwrap_err(), answers[1]);
    assert!(queue.forget(first.id).await.unwrap());
    begin(queue, keyed("a", Some("y"))).await.expect("who is forgotten has no key");
}

async fn one_begun_is_on_lease(mut subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    let before = SystemClock.now();
    let new = keyed("b", Some("x"));
    let leased = begin(&*queue, new.clone()).await.unwrap();
    assert_eq!((leased.id, leased.deliveries, &leased.payload), (new.id, 1, &new.payload));
    assert!(leased.enqueued_at >= before);
    nothing_is_due(&*queue).await;
    assert_eq!(depth(&*queue).await, 1);
    let joined = Err(Enqueued::Duplicate(new.id));
    assert_eq!(begin(&*queue, keyed("b", Some("x"))).await.map(|l| l.id), joined);
    assert_eq!(begin(&*queue, new.clone()).await.map(|l| l.id), joined);
    drop(queue);
    subject.reopen().await;
    let queue = subject.port();
    let standing = queue.find(new.id).await.unwrap().unwrap().summary.standing;
    assert!(matches!(standing, Standing::Leased(_)), "{standing:?}");
    queue.extend(new.id, leased.token, LONG).await.unwrap();
    queue.again(new.id, leased.token, again(NOW, true)).await.unwrap();
    let second = lease_one(&*queue, LONG).await;
    assert_eq!((second.id, second.deliveries), (new.id, 2));
    let result = Some(Bytes::from_static(b"1"));
    queue.end(new.id, second.token, End { result, ..succeeded() }).await.unwrap();
    assert_eq!(begin(&*queue, keyed("b", Some("x"))).await.map(|l| l.id), joined);

    let short = message("short");
    assert!(matches!(queue.begin(short.clone(), SHORT).await.unwrap(), Begun::Leased(_)));
    let late = lease_one(&*queue, LONG).await;
    assert_eq!((late.id, late.deliveries), (short.id, 2), "a lease that nobody keeps runs out");
}

async fn one_withdrawn_was_never_there(queue: &dyn Queue) {
    let large = NewMessage { payload: vec![7; 100_000].into(), ..keyed("c", Some("x")) };
    let leased = begin(queue, large.clone()).await.unwrap();
    queue.withdraw(large.id, leased.token).await.unwrap();
    assert_eq!(queue.find(large.id).await.unwrap(), None);
    assert_eq!((depth(queue).await, queue.depth(&usual()).bytes), (0, 0));
    conflicts(queue.withdraw(large.id, leased.token)).await;
    let next = begin(queue, keyed("c", Some("y"))).await.unwrap();
    queue.end(next.id, next.token, succeeded()).await.unwrap();
    conflicts(queue.withdraw(next.id, next.token)).await;
}
