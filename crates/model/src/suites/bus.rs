//! Contract of [`Bus`]: what a single node can see of it.

#![expect(clippy::unwrap_used, reason = "a suite panics at a broken promise")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Subject;
use crate::clock::{Clock, SystemClock};
use crate::error::Code;
use crate::ports::{Address, Bus, NodeId};
use crate::tasks::Tasks;

/// Time in which a message within reach arrives.
const SOON: Duration = Duration::from_secs(5);
/// Messages that a subscription holds at least.
const BUFFER: usize = 256;

/// Runs the suite; `make` gives a bus without subscriptions each time.
pub async fn run(make: impl AsyncFn() -> Box<dyn Subject<dyn Bus>>) {
    requests_are_answered(make().await.port()).await;
    nobody_there_is_said(&*make().await.port()).await;
    silence_ends_at_the_deadline(make().await.port()).await;
    every_subscriber_hears_what_is_published(&*make().await.port()).await;
    a_slow_subscriber_loses_messages_and_delays_nobody(&*make().await.port()).await;
    an_ended_subscription_hears_nothing(&*make().await.port()).await;
    large_bodies_are_refused(&*make().await.port()).await;
}

fn soon() -> Instant {
    SystemClock.instant() + SOON
}

async fn requests_are_answered(bus: Arc<dyn Bus>) {
    let tasks = Tasks::new();
    for _ in 0..2 {
        let mut subscription = bus.subscribe("double").await.unwrap();
        tasks.spawn_until_cancelled("answer", async move {
            while let Some(message) = subscription.recv().await {
                assert_eq!(&*message.subject, "double");
                let reply = message.reply.unwrap();
                // The asker may have given up.
                drop(reply.send(Bytes::from([&*message.payload, &*message.payload].concat())));
            }
        });
    }
    for to in [Address::AnyOf, Address::Node(bus.node()), Address::AnyOf] {
        let answer = bus.request(to, "double", Bytes::from_static(b"ab"), soon()).await.unwrap();
        assert_eq!(&*answer, b"abab");
    }
    tasks.drain(SOON).await;
}

async fn nobody_there_is_said(bus: &dyn Bus) {
    let e = bus.request(Address::AnyOf, "void", Bytes::new(), soon()).await.unwrap_err();
    assert_eq!(e.code(), Code::NotFound, "no subscriber");
    let nobody = Address::Node(NodeId("no-such-node".into()));
    let e = bus.request(nobody, "void", Bytes::new(), soon()).await.unwrap_err();
    assert_eq!(e.code(), Code::NotFound, "no such node");
    bus.publish("void", Bytes::new()).await.unwrap();
}

async fn silence_ends_at_the_deadline(bus: Arc<dyn Bus>) {
    // One drops the request, one keeps it: the asker cannot tell them apart.
    for keep in [false, true] {
        let tasks = Tasks::new();
        let mut subscription = bus.subscribe("silence").await.unwrap();
        tasks.spawn_until_cancelled("silence", async move {
            let mut kept = Vec::new();
            while let Some(message) = subscription.recv().await {
                if keep {
                    kept.push(message);
                }
            }
        });
        let deadline = SystemClock.instant() + Duration::from_millis(50);
        let e = bus.request(Address::AnyOf, "silence", Bytes::new(), deadline).await.unwrap_err();
        assert_eq!(e.code(), Code::RequestTimeout);
        assert!(SystemClock.instant() >= deadline, "gave up before the deadline");
        tasks.drain(SOON).await;
    }
}

async fn every_subscriber_hears_what_is_published(bus: &dyn Bus) {
    let mut subscriptions = Vec::new();
    for _ in 0..3 {
        subscriptions.push(bus.subscribe("news").await.unwrap());
    }
    let mut other = bus.subscribe("other").await.unwrap();
    for n in 0..10_u8 {
        bus.publish("news", Bytes::from(vec![n])).await.unwrap();
    }
    bus.publish("other", Bytes::from_static(b"last")).await.unwrap();
    for subscription in &mut subscriptions {
        for n in 0..10_u8 {
            let message = subscription.recv().await.unwrap();
            assert_eq!(&*message.payload, [n]);
            assert!(message.reply.is_none(), "a publish is not answered");
        }
    }
    assert_eq!(&*other.recv().await.unwrap().payload, b"last", "a message of another subject");
}

async fn a_slow_subscriber_loses_messages_and_delays_nobody(bus: &dyn Bus) {
    let mut slow = bus.subscribe("flood").await.unwrap();
    for n in 0..BUFFER * 2 {
        bus.publish("flood", Bytes::from(n.to_string())).await.unwrap();
    }
    for n in 0..BUFFER {
        assert_eq!(&*slow.recv().await.unwrap().payload, n.to_string().as_bytes());
    }
}

async fn an_ended_subscription_hears_nothing(bus: &dyn Bus) {
    drop(bus.subscribe("ended").await.unwrap());
    let e = bus.request(Address::AnyOf, "ended", Bytes::new(), soon()).await.unwrap_err();
    assert_eq!(e.code(), Code::NotFound);
    let mut again = bus.subscribe("ended").await.unwrap();
    bus.publish("ended", Bytes::from_static(b"again")).await.unwrap();
    assert_eq!(&*again.recv().await.unwrap().payload, b"again");
}

async fn large_bodies_are_refused(bus: &dyn Bus) {
    let mut subscription = bus.subscribe("large").await.unwrap();
    bus.publish("large", Bytes::from(vec![0; 1 << 20])).await.unwrap();
    assert_eq!(subscription.recv().await.unwrap().payload.len(), 1 << 20);
    let over = Bytes::from(vec![0; (1 << 20) + 1]);
    let e = bus.publish("large", over.clone()).await.unwrap_err();
    assert_eq!(e.code(), Code::InvalidParameter);
    let e = bus.request(Address::AnyOf, "large", over, soon()).await.unwrap_err();
    assert_eq!(e.code(), Code::InvalidParameter);
}
