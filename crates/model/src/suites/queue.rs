//! Contract of [`Queue`].

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a suite panics at a broken promise")]

mod random;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::Subject;
use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::error::Code;
use crate::ids::RequestId;
use crate::limits;
use crate::ports::{Enqueued, Leased, NewMessage, Queue, Token};
use crate::tasks::Tasks;

/// Longer than the suite takes.
const LONG: Duration = Duration::from_secs(3600);
/// Time in which what is due is leased.
const SOON: Duration = Duration::from_secs(10);
/// A lease that shall run out, a delay that shall pass.
const SHORT: Duration = Duration::from_millis(150);
const NOW: Duration = Duration::ZERO;

/// Runs the suite; `make` gives an empty store each time. It needs the host's clock.
pub async fn run(make: impl AsyncFn() -> Box<dyn Subject<dyn Queue>>) {
    a_message_is_leased_and_settled(&*make().await.port()).await;
    an_id_counts_once(make().await).await;
    a_stale_token_changes_nothing(&*make().await.port()).await;
    messages_wait_for_their_time(&*make().await.port()).await;
    a_nack_delays_and_may_take_the_delivery_back(&*make().await.port()).await;
    an_extended_lease_holds(&*make().await.port()).await;
    dead_messages_are_kept_in_order(make().await).await;
    a_partition_is_served_in_order_of_time(&*make().await.port()).await;
    a_waiting_lease_wakes(make().await.port()).await;
    no_two_hold_a_message_at_once(make().await.port()).await;
    messages_and_leases_survive(make().await).await;
    limits_are_kept(&*make().await.port()).await;
    for seed in 1..=4 {
        random::operations_agree_with_a_model(make().await, seed).await;
    }
}

fn message(payload: &str) -> NewMessage {
    NewMessage {
        id: RequestId::generate(),
        partition: 0,
        run_at: SystemClock.now(),
        payload: Bytes::from(payload.to_owned()),
    }
}

async fn enqueue(queue: &dyn Queue, message: NewMessage) {
    assert_eq!(queue.enqueue(vec![message]).await.unwrap(), [Enqueued::New]);
}

/// The one message that is due.
async fn lease_one(queue: &dyn Queue, ttl: Duration) -> Leased {
    let mut leased = queue.lease(1, ttl, SOON).await.unwrap();
    assert_eq!(leased.len(), 1, "a due message is leased");
    leased.remove(0)
}

async fn nothing_is_due(queue: &dyn Queue) {
    let leased = queue.lease(10, LONG, NOW).await.unwrap();
    assert!(leased.is_empty(), "leased although nothing is due: {leased:?}");
}

async fn conflicts(result: impl Future<Output = crate::Result<()>>) {
    let e = result.await.unwrap_err();
    assert_eq!(e.code(), Code::Conflict, "{e}");
}

async fn sleep(d: Duration) {
    SystemClock.sleep_until(SystemClock.instant() + d).await;
}

async fn a_message_is_leased_and_settled(queue: &dyn Queue) {
    assert_eq!(queue.depth().await.unwrap(), 0);
    nothing_is_due(queue).await;
    let before = SystemClock.now();
    let new = message("hello");
    enqueue(queue, new.clone()).await;
    assert_eq!(queue.depth().await.unwrap(), 1);

    let leased = lease_one(queue, LONG).await;
    assert_eq!((leased.id, leased.deliveries, &*leased.payload), (new.id, 1, &b"hello"[..]));
    assert!(leased.enqueued_at >= before && leased.enqueued_at <= SystemClock.now());
    nothing_is_due(queue).await;
    assert_eq!(queue.depth().await.unwrap(), 1, "a message on lease is still there");

    queue.ack(new.id, leased.token).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), 0);
    conflicts(queue.ack(new.id, leased.token)).await;
    nothing_is_due(queue).await;
}

async fn an_id_counts_once(mut subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    assert_eq!(queue.enqueue(Vec::new()).await.unwrap(), []);
    let (a, b) = (message("a"), message("b"));
    let answers = queue.enqueue(vec![a.clone(), a.clone(), b.clone()]).await.unwrap();
    assert_eq!(answers, [Enqueued::New, Enqueued::Duplicate, Enqueued::New]);
    let again = NewMessage { payload: Bytes::from_static(b"other"), ..a.clone() };
    assert_eq!(queue.enqueue(vec![again]).await.unwrap(), [Enqueued::Duplicate]);
    assert_eq!(queue.depth().await.unwrap(), 2);

    for leased in [lease_one(&*queue, LONG).await, lease_one(&*queue, LONG).await] {
        let expected = if leased.id == a.id { "a" } else { "b" };
        assert_eq!(&*leased.payload, expected.as_bytes(), "a duplicate changed the payload");
        queue.ack(leased.id, leased.token).await.unwrap();
    }
    // Settled, and after a restart.
    drop(queue);
    for _ in 0..2 {
        let answers = subject.port().enqueue(vec![a.clone(), b.clone()]).await.unwrap();
        assert_eq!(answers, [Enqueued::Duplicate; 2]);
        nothing_is_due(&*subject.port()).await;
        subject.reopen().await;
    }
}

async fn a_stale_token_changes_nothing(queue: &dyn Queue) {
    let new = message("m");
    enqueue(queue, new.clone()).await;
    let stale = lease_one(queue, SHORT).await;
    let good = lease_one(queue, LONG).await;
    assert_eq!((good.id, good.deliveries), (new.id, 2), "an expired lease ends");
    assert_ne!(stale.token, good.token);

    conflicts(queue.ack(new.id, stale.token)).await;
    conflicts(queue.nack(new.id, stale.token, NOW, true)).await;
    conflicts(queue.extend(new.id, stale.token, NOW)).await;
    conflicts(queue.dead(new.id, stale.token, "no")).await;
    conflicts(queue.ack(RequestId::generate(), good.token)).await;
    nothing_is_due(queue).await;
    assert!(queue.dead_messages(None, 10).await.unwrap().is_empty());
    queue.ack(new.id, good.token).await.unwrap();
}

async fn messages_wait_for_their_time(queue: &dyn Queue) {
    let due = SystemClock.now().after(SHORT);
    enqueue(queue, NewMessage { run_at: due, ..message("later") }).await;
    let never = UnixMillis(u64::MAX);
    enqueue(queue, NewMessage { run_at: never, ..message("never") }).await;
    nothing_is_due(queue).await;
    let leased = lease_one(queue, LONG).await;
    assert!(SystemClock.now() >= due, "leased before its time");
    assert_eq!(&*leased.payload, b"later");
    assert_eq!(queue.depth().await.unwrap(), 2);
}

async fn a_nack_delays_and_may_take_the_delivery_back(queue: &dyn Queue) {
    let new = message("m");
    enqueue(queue, new.clone()).await;
    let first = lease_one(queue, LONG).await;
    let due = SystemClock.now().after(SHORT);
    queue.nack(new.id, first.token, SHORT, true).await.unwrap();
    nothing_is_due(queue).await;
    conflicts(queue.ack(new.id, first.token)).await;

    let second = lease_one(queue, LONG).await;
    assert!(SystemClock.now() >= due, "leased before the delay was over");
    assert_eq!(second.deliveries, 2);
    queue.nack(new.id, second.token, NOW, false).await.unwrap();
    let third = lease_one(queue, LONG).await;
    assert_eq!(third.deliveries, 2, "the delivery was taken back");
    assert_ne!(
        second.token, third.token,
        "the token of a delivery taken back is stale all the same"
    );
    conflicts(queue.ack(new.id, second.token)).await;
    assert_eq!(third.enqueued_at, first.enqueued_at);
    queue.ack(new.id, third.token).await.unwrap();
}

async fn an_extended_lease_holds(queue: &dyn Queue) {
    let new = message("m");
    enqueue(queue, new.clone()).await;
    let leased = lease_one(queue, SHORT * 2).await;
    queue.extend(new.id, leased.token, LONG).await.unwrap();
    sleep(SHORT * 3).await;
    nothing_is_due(queue).await;
    // And it may be cut short.
    queue.extend(new.id, leased.token, NOW).await.unwrap();
    assert_eq!(lease_one(queue, LONG).await.id, new.id);
}

async fn dead_messages_are_kept_in_order(mut subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    let mut ids = Vec::new();
    for n in 0..5 {
        let new = message(&n.to_string());
        ids.push(new.id);
        enqueue(&*queue, new.clone()).await;
        let first = lease_one(&*queue, LONG).await;
        queue.nack(new.id, first.token, NOW, true).await.unwrap();
        let second = lease_one(&*queue, LONG).await;
        queue.dead(new.id, second.token, "too often").await.unwrap();
        conflicts(queue.dead(new.id, second.token, "twice")).await;
        assert_eq!(queue.enqueue(vec![new]).await.unwrap(), [Enqueued::Duplicate]);
    }
    assert_eq!(queue.depth().await.unwrap(), 0);
    nothing_is_due(&*queue).await;
    drop(queue);
    subject.reopen().await;
    let queue = subject.port();
    let all = queue.dead_messages(None, 100).await.unwrap();
    assert_eq!(all.iter().map(|m| m.id).collect::<Vec<_>>(), ids);
    for (n, m) in all.iter().enumerate() {
        assert_eq!((m.reason.as_str(), m.deliveries), ("too often", 2));
        assert_eq!(&*m.payload, n.to_string().as_bytes());
        assert!(m.dead_at <= SystemClock.now());
    }
    let mut paged = Vec::new();
    loop {
        let page = queue.dead_messages(paged.last().copied(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        paged.extend(page.iter().map(|m| m.id));
    }
    assert_eq!(paged, ids);
}

async fn a_partition_is_served_in_order_of_time(queue: &dyn Queue) {
    let base = SystemClock.now().0 - 10_000;
    let mut messages = Vec::new();
    for partition in [3, 0, limits::QUEUE_PARTITIONS - 1] {
        for n in [4, 1, 3, 0, 2] {
            let run_at = UnixMillis(base + n);
            messages.push(NewMessage { partition, run_at, ..message(&format!("{partition}:{n}")) });
        }
    }
    queue.enqueue(messages).await.unwrap();
    let mut served: Vec<(String, u8)> = Vec::new();
    while served.len() < 15 {
        for leased in queue.lease(4, LONG, SOON).await.unwrap() {
            let text = String::from_utf8(leased.payload.to_vec()).unwrap();
            let (partition, n) = text.split_once(':').unwrap();
            served.push((partition.to_owned(), n.parse().unwrap()));
        }
    }
    for partition in ["3", "0", &(limits::QUEUE_PARTITIONS - 1).to_string()] {
        let order: Vec<_> =
            served.iter().filter(|(p, _)| p == partition).map(|(_, n)| *n).collect();
        assert_eq!(order, [0, 1, 2, 3, 4], "partition {partition}");
    }
}

async fn a_waiting_lease_wakes(queue: Arc<dyn Queue>) {
    let start = SystemClock.instant();
    assert!(queue.lease(1, LONG, SHORT).await.unwrap().is_empty());
    assert!(SystemClock.instant() >= start + SHORT, "it did not wait");

    let tasks = Tasks::new();
    // Those who wait get one each, whatever makes it due: an enqueue, a nack.
    for nack in [false, true] {
        let held = if nack {
            enqueue(&*queue, message("n")).await;
            Some(lease_one(&*queue, LONG).await)
        } else {
            None
        };
        let waiting = Arc::clone(&queue);
        let waiter = tasks.spawn("wait", async move { waiting.lease(1, LONG, LONG).await });
        sleep(Duration::from_millis(20)).await;
        match held {
            Some(m) => queue.nack(m.id, m.token, NOW, true).await.unwrap(),
            None => enqueue(&*queue, message("e")).await,
        }
        let woken = tokio::time::timeout(SOON, waiter).await.expect("a waiting lease wakes");
        for leased in woken.unwrap().unwrap() {
            queue.ack(leased.id, leased.token).await.unwrap();
        }
    }
    assert_eq!(queue.depth().await.unwrap(), 0);
}

async fn no_two_hold_a_message_at_once(queue: Arc<dyn Queue>) {
    const MESSAGES: usize = 400;
    let held: Arc<Mutex<HashSet<RequestId>>> = Arc::default();
    let done: Arc<Mutex<HashSet<RequestId>>> = Arc::default();
    let tasks = Tasks::new();
    let mut all = Vec::new();
    for _ in 0..8 {
        let (queue, held, done) = (Arc::clone(&queue), Arc::clone(&held), Arc::clone(&done));
        all.push(tasks.spawn("lease", async move {
            while set(&done).len() < MESSAGES {
                for m in queue.lease(5, LONG, SHORT).await.unwrap() {
                    assert!(set(&held).insert(m.id), "{} is leased twice at once", m.id);
                    tokio::task::yield_now().await;
                    set(&held).remove(&m.id);
                    if m.deliveries == 1 {
                        queue.nack(m.id, m.token, NOW, true).await.unwrap();
                    } else {
                        queue.ack(m.id, m.token).await.unwrap();
                        assert!(set(&done).insert(m.id), "{} is done twice", m.id);
                    }
                }
            }
        }));
    }
    for _ in 0..4 {
        let queue = Arc::clone(&queue);
        all.push(tasks.spawn("enqueue", async move {
            for _ in 0..MESSAGES / 4 {
                enqueue(&*queue, message("m")).await;
            }
        }));
    }
    for task in all {
        task.await.unwrap();
    }
    assert_eq!(queue.depth().await.unwrap(), 0);
}

fn set<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn messages_and_leases_survive(mut subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    let (first, second) = (message("first"), message("second"));
    enqueue(&*queue, first.clone()).await;
    let leased = lease_one(&*queue, LONG).await;
    enqueue(&*queue, second.clone()).await;
    drop(queue);
    subject.reopen().await;

    let queue = subject.port();
    assert_eq!(queue.depth().await.unwrap(), 2);
    let other = lease_one(&*queue, LONG).await;
    assert_eq!((other.id, &*other.payload), (second.id, &b"second"[..]));
    assert_ne!(other.token, Token(0));
    nothing_is_due(&*queue).await;
    // The lease of before the restart is still one.
    queue.ack(first.id, leased.token).await.unwrap();
    queue.nack(second.id, other.token, NOW, true).await.unwrap();
    drop(queue);
    subject.reopen().await;
    let again = lease_one(&*subject.port(), LONG).await;
    assert_eq!((again.id, again.deliveries), (second.id, 2));
}

async fn limits_are_kept(queue: &dyn Queue) {
    let largest = Bytes::from(vec![7; limits::ASYNC_PAYLOAD_BYTES + 64 * 1024]);
    let large = NewMessage { payload: largest.clone(), ..message("") };
    enqueue(queue, large).await;
    let leased = lease_one(queue, LONG).await;
    assert!(leased.payload == largest, "the largest payload did not come back");
    queue.ack(leased.id, leased.token).await.unwrap();

    let over = NewMessage { payload: Bytes::from([&*largest, b"x"].concat()), ..message("") };
    let e = queue.enqueue(vec![message("good"), over]).await.unwrap_err();
    assert_eq!(e.code(), Code::PayloadTooLarge, "{e}");
    let nowhere = NewMessage { partition: limits::QUEUE_PARTITIONS, ..message("") };
    let e = queue.enqueue(vec![message("good"), nowhere]).await.unwrap_err();
    assert_eq!(e.code(), Code::InvalidParameter, "{e}");
    assert_eq!(queue.depth().await.unwrap(), 0, "all or none");
}
