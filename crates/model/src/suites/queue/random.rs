//! Random operations, each compared with what a simple model says.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{LONG, NOW, Subject, again, dead, depth, lane, message, succeeded};
use crate::error::Code;
use crate::ids::RequestId;
use crate::ports::{Ended, Enqueued, Lane, NewMessage, Queue, Standing, Token};
use crate::suites::Random;

const STEPS: usize = 400;
const LANES: [&str; 3] = ["default/a", "default/b", "other/a"];

/// What the queue should know of a message.
#[derive(Debug, Default)]
struct Known {
    lane: usize,
    /// While it is on lease.
    token: Option<Token>,
    deliveries: u32,
    ended: Option<Ended>,
}

impl Known {
    fn is_due(&self) -> bool {
        self.token.is_none() && self.ended.is_none()
    }
}

/// All messages that are kept, and all tokens that ever were.
#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<RequestId, Known>,
    tokens: Vec<Token>,
}

pub(super) async fn operations_agree_with_a_model(
    mut subject: Box<dyn Subject<dyn Queue>>,
    seed: u64,
) {
    let (mut random, mut model) = (Random(seed), Model::default());
    for _ in 0..STEPS {
        let queue = subject.port();
        match random.below(24) {
            0..5 => model.enqueue(&*queue, &mut random).await,
            5..10 => model.lease(&*queue, &mut random).await,
            10..19 => model.settle(&*queue, &mut random).await,
            19..23 => model.meddle(&*queue, &mut random).await,
            _ => {
                drop(queue);
                subject.reopen().await;
            }
        }
        model.check(&*subject.port()).await;
    }
}

impl Model {
    async fn check(&self, queue: &dyn Queue) {
        let active = self.messages.values().filter(|m| m.ended.is_none()).count();
        assert_eq!(depth(queue).await, active as u64);
        let Some((id, known)) = self.messages.iter().next_back() else { return };
        let record = queue.find(*id).await.unwrap().unwrap();
        assert_eq!(record.summary.deliveries, known.deliveries);
        match record.summary.standing {
            Standing::Waiting(_) => assert!(known.is_due()),
            Standing::Leased(_) => assert!(known.token.is_some()),
            Standing::Ended(ended, _) => assert_eq!(known.ended, Some(ended)),
        }
    }

    fn any(&self, random: &mut Random) -> Option<RequestId> {
        let n = self.messages.len();
        (n > 0).then(|| self.messages.keys().nth(random.below(n)).copied()).flatten()
    }

    async fn enqueue(&mut self, queue: &dyn Queue, random: &mut Random) {
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..random.below(4) {
            let at = random.below(LANES.len());
            let mut new = NewMessage { lane: lane(LANES[at]), ..message("payload") };
            match self.any(random) {
                Some(id) if random.below(4) == 0 => {
                    new.id = id;
                    expected.push(Enqueued::Duplicate(id));
                }
                _ => {
                    self.messages.insert(new.id, Known { lane: at, ..Known::default() });
                    expected.push(Enqueued::New);
                }
            }
            batch.push(new);
        }
        assert_eq!(queue.enqueue(batch).await.unwrap(), expected);
    }

    async fn lease(&mut self, queue: &dyn Queue, random: &mut Random) {
        let at = random.below(LANES.len());
        let name: Lane = lane(LANES[at]);
        let due = self.messages.values().filter(|m| m.lane == at && m.is_due()).count();
        let n = 1 + random.below(4);
        let leased = queue.lease(&name, n, LONG).await.unwrap().messages;
        assert_eq!(leased.len(), n.min(due), "{due} due, {n} asked for");
        for m in leased {
            let known = self.messages.get_mut(&m.id).expect("a leased message is known");
            assert!(known.is_due() && known.lane == at, "{}: {known:?}", m.id);
            known.deliveries += 1;
            assert_eq!(m.deliveries, known.deliveries);
            known.token = Some(m.token);
            self.tokens.push(m.token);
        }
    }

    /// Any message, with its own token or one that was ever given.
    async fn settle(&mut self, queue: &dyn Queue, random: &mut Random) {
        let (Some(id), false) = (self.any(random), self.tokens.is_empty()) else { return };
        let known = self.messages.get_mut(&id).expect("it is one of them");
        let token = match known.token {
            Some(token) if random.below(4) > 0 => token,
            _ => self.tokens[random.below(self.tokens.len())],
        };
        let good = known.token == Some(token);
        let (kind, counted) = (random.below(4), random.below(2) == 0);
        let result = match kind {
            0 => queue.end(id, token, succeeded()).await,
            1 => queue.again(id, token, again(NOW, counted)).await,
            2 => queue.extend(id, token, LONG).await,
            _ => queue.end(id, token, dead("model")).await,
        };
        match result {
            Ok(()) => assert!(good, "settled {id} under a stale token"),
            Err(e) => {
                assert_eq!(e.code(), Code::Conflict, "{e}");
                assert!(!good, "refused the good token of {id}");
                return;
            }
        }
        match kind {
            1 => {
                known.token = None;
                known.deliveries -= u32::from(!counted);
            }
            2 => {}
            _ => {
                known.token = None;
                known.ended = Some(if kind == 0 { Ended::Succeeded } else { Ended::Dead });
            }
        }
    }

    /// What needs no lease.
    async fn meddle(&mut self, queue: &dyn Queue, random: &mut Random) {
        let Some(id) = self.any(random) else { return };
        let known = self.messages.get_mut(&id).expect("it is one of them");
        let (allowed, result) = match random.below(3) {
            0 => {
                let allowed = known.ended.is_none();
                let result = queue.cancel(id, Bytes::new(), LONG).await.map(drop);
                if allowed {
                    (known.ended, known.token) = (Some(Ended::Cancelled), None);
                }
                (allowed, result)
            }
            1 => {
                let allowed = known.ended == Some(Ended::Dead);
                let result = queue.redrive(id).await;
                if allowed {
                    (known.ended, known.deliveries) = (None, 0);
                }
                (allowed, result)
            }
            _ => {
                let allowed = known.ended.is_some();
                let result = queue.forget(id).await.map(|found| assert!(found));
                if allowed {
                    self.messages.remove(&id);
                }
                (allowed, result)
            }
        };
        match result {
            Ok(()) => assert!(allowed, "{id}"),
            Err(e) => assert!(!allowed && e.code() == Code::Conflict, "{id}: {e}"),
        }
    }
}
