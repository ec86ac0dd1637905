//! Functions that run in the child itself and write down that they do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::ids::RequestId;
use model::invocation::{Failure, FailureKind, Invocation};
use model::suites::functions::Functions;

use crate::ledger::{Entry, Ledger};

/// The functions: what their calls do.
pub(crate) const ALL: [&str; 4] = ["good", "flaky", "bad", "slow"];
/// How long a call of `slow` takes, of the host's time.
const SLOW: Duration = Duration::from_millis(15);

/// The functions, and what they know of each other's calls.
#[derive(Debug)]
pub(crate) struct Known {
    ledger: Arc<Ledger>,
    /// Calls that have done what they are to do once.
    done: Mutex<HashSet<RequestId>>,
    slow: Duration,
}

impl Known {
    /// With calls of `slow` that take so many times as long.
    pub(crate) fn new(ledger: Arc<Ledger>, done: HashSet<RequestId>, times_as_slow: u32) -> Self {
        Self { ledger, done: Mutex::new(done), slow: SLOW * times_as_slow }
    }

    /// Does once what a call is to do once: a function looks whether it did it already.
    fn effect(&self, call: &Invocation) {
        let mut done = self.done.lock().unwrap();
        if done.insert(call.id) {
            self.ledger.write(call.id, Entry::Done);
            let event = std::str::from_utf8(&call.payload).unwrap();
            if let Some(key) = event.strip_prefix("key ") {
                self.ledger.write(call.id, Entry::Did(key.parse().unwrap()));
            }
        }
    }
}

#[async_trait]
impl Functions for Known {
    async fn run(&self, function: &str, call: &Invocation) -> Result<Bytes, Failure> {
        self.ledger.write(call.id, Entry::Began(call.attempt));
        let fails = || Err(Failure::new(FailureKind::Handler, "Error", "no"));
        match function {
            "bad" => return fails(),
            "flaky" if call.attempt == 1 => return fails(),
            "slow" => tokio::time::sleep(self.slow).await,
            _ => {}
        }
        self.effect(call);
        Ok(Bytes::from(call.id.to_string()))
    }
}
