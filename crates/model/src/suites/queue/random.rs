//! Random operations, each compared with what a simple model says.

use std::collections::BTreeMap;

use super::{LONG, NOW, SOON, Subject, message};
use crate::error::Code;
use crate::ids::RequestId;
use crate::ports::{Enqueued, Queue, Token};
use crate::suites::Random;

const STEPS: usize = 300;

/// What the queue should know of a message.
#[derive(Debug, Default)]
struct Known {
    /// While it is on lease.
    token: Option<Token>,
    deliveries: u32,
}

/// Waiting and leased messages, and all ids that ever were.
#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<RequestId, Known>,
    ids: Vec<RequestId>,
    tokens: Vec<Token>,
    dead: usize,
}

pub(super) async fn operations_agree_with_a_model(
    mut subject: Box<dyn Subject<dyn Queue>>,
    seed: u64,
) {
    let (mut random, mut model) = (Random(seed), Model::default());
    for _ in 0..STEPS {
        let queue = subject.port();
        match random.below(20) {
            0..5 => model.enqueue(&*queue, &mut random).await,
            5..10 => model.lease(&*queue, &mut random).await,
            10..19 => model.settle(&*queue, &mut random).await,
            _ => {
                drop(queue);
                subject.reopen().await;
            }
        }
        assert_eq!(subject.port().depth().await.unwrap(), model.messages.len() as u64);
    }
    let dead = subject.port().dead_messages(None, STEPS).await.unwrap();
    assert_eq!(dead.len(), model.dead);
}

impl Model {
    async fn enqueue(&mut self, queue: &dyn Queue, random: &mut Random) {
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..random.below(4) {
            let mut new = message("payload");
            if !self.ids.is_empty() && random.below(4) == 0 {
                new.id = self.ids[random.below(self.ids.len())];
                expected.push(Enqueued::Duplicate);
            } else {
                self.ids.push(new.id);
                self.messages.insert(new.id, Known::default());
                expected.push(Enqueued::New);
            }
            batch.push(new);
        }
        assert_eq!(queue.enqueue(batch).await.unwrap(), expected);
    }

    async fn lease(&mut self, queue: &dyn Queue, random: &mut Random) {
        let due = self.messages.values().filter(|m| m.token.is_none()).count();
        let n = 1 + random.below(4);
        let leased = queue.lease(n, LONG, if due > 0 { SOON } else { NOW }).await.unwrap();
        assert!(leased.len() <= n.min(due), "{} of {due} due, {n} asked for", leased.len());
        assert_eq!(leased.is_empty(), due == 0, "{due} are due");
        for m in leased {
            let known = self.messages.get_mut(&m.id).expect("a leased message is known");
            assert_eq!(known.token, None, "{} was on lease", m.id);
            known.deliveries += 1;
            assert_eq!(m.deliveries, known.deliveries);
            known.token = Some(m.token);
            self.tokens.push(m.token);
        }
    }

    /// Any message, with its own token or one that was ever given.
    async fn settle(&mut self, queue: &dyn Queue, random: &mut Random) {
        if self.ids.is_empty() || self.tokens.is_empty() {
            return;
        }
        let id = self.ids[random.below(self.ids.len())];
        let token = match self.messages.get(&id).and_then(|m| m.token) {
            Some(token) if random.below(4) > 0 => token,
            _ => self.tokens[random.below(self.tokens.len())],
        };
        let good = self.messages.get(&id).is_some_and(|m| m.token == Some(token));
        let (kind, counted) = (random.below(4), random.below(2) == 0);
        let result = match kind {
            0 => queue.ack(id, token).await,
            1 => queue.nack(id, token, NOW, counted).await,
            2 => queue.extend(id, token, LONG).await,
            _ => queue.dead(id, token, "model").await,
        };
        match result {
            Ok(()) => assert!(good, "settled {id} under a stale token"),
            Err(e) => {
                assert_eq!(e.code(), Code::Conflict, "{e}");
                assert!(!good, "refused the good token of {id}");
                return;
            }
        }
        match (kind, self.messages.get_mut(&id)) {
            (1, Some(known)) => {
                known.token = None;
                known.deliveries -= u32::from(!counted);
            }
            (2, _) | (_, None) => {}
            (_, Some(_)) => {
                self.messages.remove(&id);
                self.dead += usize::from(kind == 3);
            }
        }
    }
}
