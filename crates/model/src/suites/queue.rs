//! Contract of [`Queue`].

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a suite panics at a broken promise")]

mod ends;
mod keys;
mod looks;
mod model;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

pub use self::model::{Op, StepClock, agrees};
use super::Subject;
use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::error::Code;
use crate::ids::RequestId;
use crate::ports::{
    Again, Depth, End, Ended, Enqueued, Lane, Leased, MESSAGE_BYTES, NewMessage, Queue, Token,
};
use crate::tasks::Tasks;

/// Longer than the suite takes.
const LONG: Duration = Duration::from_secs(3600);
/// Time in which what is due is leased.
const SOON: Duration = Duration::from_secs(10);
/// A lease that shall run out, a delay that shall pass.
const SHORT: Duration = Duration::from_millis(150);
const NOW: Duration = Duration::ZERO;

/// Runs the suite; `make` gives an empty store each time. It needs the host's clock. Of an implementation [`agrees`] has to hold as well, for many random runs.
pub async fn run(make: impl AsyncFn() -> Box<dyn Subject<dyn Queue>>) {
    a_message_is_leased_and_ended(&*make().await.port()).await;
    an_id_counts_once(make().await).await;
    a_stale_token_changes_nothing(&*make().await.port()).await;
    messages_wait_for_their_time(&*make().await.port()).await;
    what_comes_again_waits_and_may_not_count(&*make().await.port()).await;
    an_extended_lease_holds(&*make().await.port()).await;
    a_lane_is_served_in_order_of_time(&*make().await.port()).await;
    fresh_and_retried_do_not_hold_each_other_up(&*make().await.port()).await;
    a_watch_tells_of_lanes(make().await).await;
    no_two_hold_a_message_at_once(make().await.port()).await;
    messages_and_leases_survive(make().await).await;
    leases_are_taken_back(&*make().await.port()).await;
    limits_are_kept(&*make().await.port()).await;
    what_is_left_of_large_messages_is_told(&*make().await.port()).await;
    ends::run(&make).await;
    keys::run(&make).await;
    looks::run(&make).await;
}

fn lane(name: &str) -> Lane {
    Lane::new(name).unwrap()
}

/// The lane of messages that name none.
fn usual() -> Lane {
    lane("default/usual")
}

fn message(payload: &str) -> NewMessage {
    NewMessage {
        id: RequestId::generate(),
        lane: usual(),
        run_at: SystemClock.now(),
        key: None,
        payload: Bytes::from(payload.to_owned()),
    }
}

async fn enqueue(queue: &dyn Queue, message: NewMessage) {
    assert_eq!(queue.enqueue(vec![message]).await.unwrap(), [Enqueued::New]);
}

/// Up to `n` messages of a lane, waiting for the first of them.
async fn lease_some(queue: &dyn Queue, lane: &Lane, n: usize, ttl: Duration) -> Vec<Leased> {
    let end = SystemClock.instant() + SOON;
    loop {
        let batch = queue.lease(lane, n, ttl).await.unwrap();
        if !batch.messages.is_empty() {
            return batch.messages;
        }
        assert!(SystemClock.instant() < end, "nothing is due in {lane}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The one message that is due.
async fn lease_one(queue: &dyn Queue, ttl: Duration) -> Leased {
    let mut leased = lease_some(queue, &usual(), 1, ttl).await;
    assert_eq!(leased.len(), 1, "one was asked for");
    leased.remove(0)
}

async fn nothing_is_due(queue: &dyn Queue) {
    let batch = queue.lease(&usual(), 10, LONG).await.unwrap();
    assert!(batch.messages.is_empty(), "leased although nothing is due: {batch:?}");
}

async fn depth(queue: &dyn Queue) -> u64 {
    let depths = queue.depths();
    for (lane, depth) in &depths {
        assert_eq!(queue.depth(lane), *depth, "{lane}");
        assert_ne!(depth.messages, 0, "{lane}");
        let group = depths.iter().filter(|(other, _)| other.group() == lane.group());
        let sum = group.fold(Depth::default(), |sum, (_, depth)| sum.and(*depth));
        assert_eq!(queue.group_depth(lane.group()), sum, "{lane}");
    }
    assert_eq!(queue.group_depth("nobody"), Depth::default());
    depths.iter().map(|(_, depth)| depth.messages).sum()
}

fn succeeded() -> End {
    End { as_what: Ended::Succeeded, note: None, result: None, keep: LONG, counted: true }
}

fn dead(note: &str) -> End {
    let note = Some(Bytes::from(note.to_owned()));
    End { as_what: Ended::Dead, note, result: None, keep: LONG, counted: true }
}

fn again(delay: Duration, counted: bool) -> Again {
    Again { delay, counted, note: None }
}

async fn conflicts<T: std::fmt::Debug>(result: impl Future<Output = crate::Result<T>>) {
    let e = result.await.unwrap_err();
    assert_eq!(e.code(), Code::Conflict, "{e}");
}

async fn sleep(d: Duration) {
    SystemClock.sleep_until(SystemClock.instant() + d).await;
}

async fn a_message_is_leased_and_ended(queue: &dyn Queue) {
    assert_eq!(depth(queue).await, 0);
    nothing_is_due(queue).await;
    let before = SystemClock.now();
    let new = message("hello");
    enqueue(queue, new.clone()).await;
    assert_eq!(queue.depth(&usual()), Depth { messages: 1, bytes: 5 });

    let leased = lease_one(queue, LONG).await;
    assert_eq!((leased.id, leased.deliveries, &*leased.payload), (new.id, 1, &b"hello"[..]));
    assert!(leased.enqueued_at >= before && leased.enqueued_at <= SystemClock.now());
    nothing_is_due(queue).await;
    assert_eq!(depth(queue).await, 1, "a message on lease is still there");

    queue.end(new.id, leased.token, succeeded()).await.unwrap();
    assert_eq!(depth(queue).await, 0);
    conflicts(queue.end(new.id, leased.token, succeeded())).await;
    nothing_is_due(queue).await;
}

async fn an_id_counts_once(mut subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    assert_eq!(queue.enqueue(Vec::new()).await.unwrap(), []);
    let (a, b) = (message("a"), message("b"));
    let answers = queue.enqueue(vec![a.clone(), a.clone(), b.clone()]).await.unwrap();
    assert_eq!(answers, [Enqueued::New, Enqueued::Duplicate(a.id), Enqueued::New]);
    let other = NewMessage { payload: Bytes::from_static(b"other"), ..a.clone() };
    assert_eq!(queue.enqueue(vec![other]).await.unwrap(), [Enqueued::Duplicate(a.id)]);
    assert_eq!(depth(&*queue).await, 2);

    // Kept for no time at all, and known all the same.
    let end = End { keep: NOW, ..succeeded() };
    for leased in [lease_one(&*queue, LONG).await, lease_one(&*queue, LONG).await] {
        let expected = if leased.id == a.id { "a" } else { "b" };
        assert_eq!(&*leased.payload, expected.as_bytes(), "a duplicate changed the payload");
        queue.end(leased.id, leased.token, end.clone()).await.unwrap();
    }
    drop(queue);
    for _ in 0..2 {
        let answers = subject.port().enqueue(vec![a.clone(), b.clone()]).await.unwrap();
        assert_eq!(answers, [Enqueued::Duplicate(a.id), Enqueued::Duplicate(b.id)]);
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

    conflicts(queue.end(new.id, stale.token, succeeded())).await;
    conflicts(queue.end(new.id, stale.token, dead("no"))).await;
    conflicts(queue.again(new.id, stale.token, again(NOW, true))).await;
    conflicts(queue.extend(new.id, stale.token, NOW)).await;
    conflicts(queue.end(RequestId::generate(), good.token, succeeded())).await;
    nothing_is_due(queue).await;
    queue.end(new.id, good.token, succeeded()).await.unwrap();
}

async fn messages_wait_for_their_time(queue: &dyn Queue) {
    let due = SystemClock.now().after(SHORT);
    enqueue(queue, NewMessage { run_at: due, ..message("later") }).await;
    let never = UnixMillis(u64::MAX);
    enqueue(queue, NewMessage { run_at: never, ..message("never") }).await;
    let batch = queue.lease(&usual(), 10, LONG).await.unwrap();
    assert!(batch.messages.is_empty());
    assert_eq!(batch.next_due, Some(due));
    let leased = lease_one(queue, LONG).await;
    assert!(SystemClock.now() >= due, "leased before its time");
    assert_eq!(&*leased.payload, b"later");
    assert_eq!(depth(queue).await, 2);
}

async fn what_comes_again_waits_and_may_not_count(queue: &dyn Queue) {
    let new = message("m");
    enqueue(queue, new.clone()).await;
    let first = lease_one(queue, LONG).await;
    let due = SystemClock.now().after(SHORT);
    queue.again(new.id, first.token, again(SHORT, true)).await.unwrap();
    nothing_is_due(queue).await;
    conflicts(queue.end(new.id, first.token, succeeded())).await;

    let second = lease_one(queue, LONG).await;
    assert!(SystemClock.now() >= due, "leased before the delay was over");
    assert_eq!(second.deliveries, 2);
    queue.again(new.id, second.token, again(NOW, false)).await.unwrap();
    let third = lease_one(queue, LONG).await;
    assert_eq!(third.deliveries, 2, "the delivery was taken back");
    assert_ne!(
        second.token, third.token,
        "the token of a delivery taken back is stale all the same"
    );
    conflicts(queue.end(new.id, second.token, succeeded())).await;
    assert_eq!(third.enqueued_at, first.enqueued_at);
    queue.end(new.id, third.token, succeeded()).await.unwrap();
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

async fn a_lane_is_served_in_order_of_time(queue: &dyn Queue) {
    let base = SystemClock.now().0 - 10_000;
    let names = ["default/a", "default/b", "other/a"];
    let mut messages = Vec::new();
    for name in names {
        for n in [4, 1, 3, 0, 2] {
            let run_at = UnixMillis(base + n);
            let new = NewMessage { lane: lane(name), run_at, ..message(&format!("{name}:{n}")) };
            messages.push(new);
        }
    }
    queue.enqueue(messages).await.unwrap();
    for name in names {
        let mut served = Vec::new();
        while served.len() < 5 {
            let leased = lease_some(queue, &lane(name), 2, LONG).await;
            served.extend(leased.iter().map(|m| String::from_utf8(m.payload.to_vec()).unwrap()));
        }
        let expected: Vec<_> = (0..5).map(|n| format!("{name}:{n}")).collect();
        assert_eq!(served, expected);
    }
}

/// Ten that were tried before, due long since; thirty new ones. The first sixteen leased hold four of the one and twelve of the other.
async fn fresh_and_retried_do_not_hold_each_other_up(queue: &dyn Queue) {
    let old = UnixMillis(SystemClock.now().0 - 10_000);
    for _ in 0..10 {
        enqueue(queue, NewMessage { run_at: old, ..message("retried") }).await;
    }
    for leased in lease_some(queue, &usual(), 10, LONG).await {
        queue.again(leased.id, leased.token, again(NOW, true)).await.unwrap();
    }
    for _ in 0..30 {
        enqueue(queue, message("fresh")).await;
    }
    let count =
        |leased: &[Leased], what: &[u8]| leased.iter().filter(|m| m.payload == what).count();
    let first = lease_some(queue, &usual(), 16, LONG).await;
    assert_eq!((count(&first, b"fresh"), count(&first, b"retried")), (12, 4));
    // What is short of one is made up for by the other.
    let second = lease_some(queue, &usual(), 24, LONG).await;
    assert_eq!((count(&second, b"fresh"), count(&second, b"retried")), (18, 6));
}

async fn a_watch_tells_of_lanes(subject: Box<dyn Subject<dyn Queue>>) {
    let queue = subject.port();
    let (a, b) = (lane("default/a"), lane("default/b"));
    enqueue(&*queue, NewMessage { lane: a.clone(), ..message("m") }).await;
    let mut watch = queue.watch();
    let mut other = queue.watch();
    let next = async |watch: &mut Box<dyn crate::ports::LaneWatch>, wanted: &Lane| {
        let heard = async { while !watch.changed().await.unwrap().contains(wanted) {} };
        tokio::time::timeout(SOON, heard).await.expect("a watch wakes");
    };
    next(&mut watch, &a).await;
    next(&mut other, &a).await;
    // Whatever makes something due: an enqueue, a lease given back, one cut short.
    let waker = Arc::clone(&queue);
    let lane_b = b.clone();
    let tasks = Tasks::new();
    let later = tasks.spawn("enqueue", async move {
        sleep(Duration::from_millis(20)).await;
        enqueue(&*waker, NewMessage { lane: lane_b, ..message("m") }).await;
    });
    next(&mut watch, &b).await;
    later.await.unwrap();
    next(&mut other, &b).await;
    let leased = lease_some(&*queue, &a, 1, LONG).await.remove(0);
    queue.extend(leased.id, leased.token, SHORT).await.unwrap();
    next(&mut watch, &a).await;
    let leased = lease_some(&*queue, &a, 1, LONG).await.remove(0);
    queue.again(leased.id, leased.token, again(NOW, true)).await.unwrap();
    next(&mut watch, &a).await;
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
            while locked(&done).len() < MESSAGES {
                let batch = queue.lease(&usual(), 5, LONG).await.unwrap();
                if batch.messages.is_empty() {
                    sleep(Duration::from_millis(2)).await;
                }
                for m in batch.messages {
                    assert!(locked(&held).insert(m.id), "{} is leased twice at once", m.id);
                    tokio::task::yield_now().await;
                    locked(&held).remove(&m.id);
                    if m.deliveries == 1 {
                        queue.again(m.id, m.token, again(NOW, true)).await.unwrap();
                    } else {
                        queue.end(m.id, m.token, succeeded()).await.unwrap();
                        assert!(locked(&done).insert(m.id), "{} is done twice", m.id);
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
    assert_eq!(depth(&*queue).await, 0);
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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
    assert_eq!(queue.depth(&usual()), Depth { messages: 2, bytes: 11 });
    let other = lease_one(&*queue, LONG).await;
    assert_eq!((other.id, &*other.payload), (second.id, &b"second"[..]));
    assert_ne!(other.token, Token(0));
    nothing_is_due(&*queue).await;
    // The lease of before the restart is still one.
    queue.end(first.id, leased.token, succeeded()).await.unwrap();
    queue.again(second.id, other.token, again(NOW, true)).await.unwrap();
    drop(queue);
    subject.reopen().await;
    let again = lease_one(&*subject.port(), LONG).await;
    assert_eq!((again.id, again.deliveries), (second.id, 2));
}

/// For one who comes after a kill: what was on lease is due at once, has its note, and those who had it are told off.
async fn leases_are_taken_back(queue: &dyn Queue) {
    let note = || {
        Arc::new(|lane: &Lane, delivery: u32| {
            (delivery != 3).then(|| Bytes::from(format!("cut {delivery} of {lane}")))
        })
    };
    assert_eq!(queue.reclaim(note()).await.unwrap(), 0);
    let later = NewMessage { run_at: UnixMillis(u64::MAX), ..message("later") };
    let (held, waits) = (message("held"), message("waits"));
    for new in [&held, &waits, &later] {
        enqueue(queue, new.clone()).await;
    }
    for delivery in [1, 2, 3] {
        let leased = lease_one(queue, LONG).await;
        assert_eq!((leased.id, leased.deliveries), (held.id, delivery));
        queue.extend(held.id, leased.token, LONG).await.unwrap();
        let mut watch = queue.watch();
        assert_eq!(watch.changed().await.unwrap(), [usual()]);
        assert_eq!(queue.reclaim(note()).await.unwrap(), 1);
        assert_eq!(watch.changed().await.unwrap(), [usual()]);
        conflicts(queue.extend(held.id, leased.token, LONG)).await;
        conflicts(queue.end(held.id, leased.token, succeeded())).await;
        drop(queue.cancel(waits.id, Bytes::new(), LONG).await);
    }
    let record = queue.find(held.id).await.unwrap().unwrap();
    assert_eq!(record.notes, [&b"cut 1 of default/usual"[..], b"cut 2 of default/usual"]);
    // What is ended uncounted was not begun.
    let leased = lease_one(queue, LONG).await;
    assert_eq!(leased.deliveries, 3);
    queue.end(held.id, leased.token, End { counted: false, ..dead("no") }).await.unwrap();
    let record = queue.find(held.id).await.unwrap().unwrap();
    assert_eq!((record.summary.deliveries, record.notes.len()), (2, 3));
    assert_eq!(queue.reclaim(note()).await.unwrap(), 0);
}

async fn limits_are_kept(queue: &dyn Queue) {
    assert_eq!(Lane::new("").unwrap_err().code(), Code::InvalidName);
    assert_eq!(Lane::new(&"x".repeat(Lane::MAX_BYTES + 1)).unwrap_err().code(), Code::InvalidName);
    let largest = Bytes::from(vec![7; MESSAGE_BYTES]);
    let large = NewMessage { payload: largest.clone(), ..message("") };
    enqueue(queue, large).await;
    let leased = lease_one(queue, LONG).await;
    assert!(leased.payload == largest, "the largest payload did not come back");
    queue.end(leased.id, leased.token, succeeded()).await.unwrap();

    let over = NewMessage { payload: Bytes::from([&*largest, b"x"].concat()), ..message("") };
    let e = queue.enqueue(vec![message("good"), over]).await.unwrap_err();
    assert_eq!(e.code(), Code::PayloadTooLarge, "{e}");
    assert_eq!(depth(queue).await, 0, "all or none");
}

/// A lease may stop short of what was asked for, and says so: nobody has to wait until he looks again by himself.
async fn what_is_left_of_large_messages_is_told(queue: &dyn Queue) {
    const MESSAGES: usize = 40;
    for _ in 0..MESSAGES {
        let payload = Bytes::from(vec![7; 1 << 20]);
        enqueue(queue, NewMessage { payload, ..message("") }).await;
    }
    let mut leased = 0;
    while leased < MESSAGES {
        let batch = queue.lease(&usual(), MESSAGES, LONG).await.unwrap();
        leased += batch.messages.len();
        let next_due = batch.next_due.unwrap();
        assert_eq!(next_due <= SystemClock.now(), leased < MESSAGES, "{leased} of {MESSAGES}");
        assert!(!batch.messages.is_empty());
    }
}
